//! What the workers share with the engine's outside, and how they follow the catalog: names to destinations, tables and
//! sinks opened and dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hedgerow_sql::notify::CONNECTOR;
use hedgerow_sql::rule::{Rule, SinkDef, TableDef, Target};
use hedgerow_storage::log::Epoch;
use hedgerow_storage::table::{TableSpec, Tables};

use crate::catalog::{Catalog, Definition, Kind};
use crate::error_action::error_rule;
use crate::errors::Errors;
use crate::metrics::{EngineMetrics, RuleStats};
use crate::notify::publishing;
use crate::operators::evaluate::Resolve;
use crate::rows::{ActiveRule, Destination, Lane};
use crate::sink::registry::Registry;

/// What the workers' resolvers and the outside share.
pub(crate) struct Inner {
    pub tables: Tables,
    pub registry: Arc<Registry>,
    pub errors: Arc<Errors>,
    pub metrics: Arc<EngineMetrics>,
    pub stats: Mutex<BTreeMap<Arc<str>, Arc<RuleStats>>>,
    pub catalog: Mutex<(u64, Arc<Catalog>)>,
    pub failed: Mutex<Option<String>>,
}

impl Inner {
    pub fn stats_of(&self, name: &Arc<str>) -> Arc<RuleStats> {
        self.stats.lock().map(|mut stats| Arc::clone(stats.entry(Arc::clone(name)).or_default())).unwrap_or_default()
    }

    pub fn fail(&self, reason: String) {
        tracing::error!(%reason, "the engine stops");
        if let Ok(mut failed) = self.failed.lock() {
            failed.get_or_insert(reason);
        }
    }
}

/// One worker's view: resolves names, and on worker 0 publishes the catalog.
pub(crate) struct Resolver {
    pub inner: Arc<Inner>,
    pub publishes: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, catalog: &Catalog, epoch: u64) -> Arc<Vec<Arc<ActiveRule>>> {
        let since = |table: &TableDef| catalog.get(Kind::Table, &table.name).map_or(0, |object| object.since);
        for table in catalog.tables() {
            if let Err(error) = self.inner.tables.create(&table_spec(table), since(table)) {
                self.inner.fail(format!("table {}: {error}", table.name));
            }
        }
        for gone in self.inner.tables.names() {
            // A table that was created again behind this position stays: the store knows where each was created.
            if catalog.get(Kind::Table, &gone).is_none()
                && let Err(error) = self.inner.tables.drop_table(&gone, epoch)
            {
                self.inner.fail(format!("table {gone}: {error}"));
            }
        }
        let sinks = opened(catalog);
        self.inner.registry.sync(&sinks, Epoch(epoch));
        if self.publishes
            && let Ok(mut published) = self.inner.catalog.lock()
        {
            *published = (epoch, Arc::new(catalog.clone()));
        }
        let error_rules = catalog.active_rules().filter_map(|rule| error_rule(rule)).map(Arc::new);
        let all = catalog.active_rules().map(Arc::clone).chain(error_rules);
        let all: Vec<Arc<Rule>> = all.map(|rule| publishing(catalog, &rule)).collect();
        let mut rules: Vec<ActiveRule> = all.iter().map(|rule| self.active(catalog, rule)).collect();
        let apart = rules.iter().any(|active| active.waits_for_called);
        rules.iter_mut().for_each(|active| active.epochs_apart = apart);
        let rules: Vec<_> = rules.into_iter().map(Arc::new).collect();
        for active in rules.iter().filter(|active| active.calling.is_some()) {
            for table in active.rule.lookups() {
                self.inner.tables.keep_history(&table);
            }
            self.inner.registry.shares(&active.destinations);
        }
        Arc::new(rules)
    }

    fn refuse(&self, epoch: u64, reason: &str) {
        self.inner.fail(format!("control record at epoch {epoch}: {reason}"));
    }
}

impl Resolver {
    fn active(&self, catalog: &Catalog, rule: &Arc<Rule>) -> ActiveRule {
        let destinations = rule.actions.iter().map(|action| destination(catalog, &action.target)).collect();
        let mut active = ActiveRule::new(Arc::clone(rule), destinations, self.inner.stats_of(&rule.name));
        let called = |name: &str| catalog.get(Kind::Table, name).is_some_and(|table| table.called);
        for (lane, destination) in active.lanes.iter_mut().zip(&active.destinations) {
            if matches!(destination, Destination::Table(table) if called(&table.name)) {
                *lane = Lane::Called;
            }
        }
        active.waits_for_called = rule.lookups().any(|table| called(&table));
        active
    }
}

/// The sinks of a catalog that rows are delivered to: all but topics, whose rows are derived records.
pub(crate) fn opened(catalog: &Catalog) -> Vec<Arc<SinkDef>> {
    catalog.sinks().filter(|sink| *sink.connector != *CONNECTOR).map(Arc::clone).collect()
}

fn destination(catalog: &Catalog, target: &Target) -> Destination {
    let named = |name: &Arc<str>| match catalog.get(Kind::Table, name).map(|object| &object.definition) {
        Some(Definition::Table(table)) => Destination::Table(Arc::clone(table)),
        _ => Destination::Sink(Arc::clone(name)),
    };
    match target {
        Target::Named(name) => named(name),
        Target::Item(item) => named(&item.table),
        Target::Outside(outside) => Destination::Sink(Arc::clone(&outside.sink)),
        Target::Topic { .. } => Destination::Derived,
    }
}

fn table_spec(table: &TableDef) -> TableSpec {
    TableSpec {
        name: table.name.to_string(),
        hash: table.hash.to_string(),
        range: table.range.as_ref().map(ToString::to_string),
        ttl_ms: table.ttl_ms,
        definition: table.text.to_string(),
    }
}
