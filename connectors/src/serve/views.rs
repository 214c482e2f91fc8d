//! What the server tells of itself: `system.*`, table definitions, metrics.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hedgerow_engine::catalog::{Definition, Kind};
use hedgerow_engine::engine::Engine;
use hedgerow_engine::sink::registry::SinkKey;
use hedgerow_sql::ast::Dialect;
use hedgerow_sql::rule::TableDef;
use hedgerow_storage::log::Log;
use hedgerow_storage::table::Tables;

use super::sinks::OpenLakes;
use crate::calls::Calls;
use crate::gateway::GatewayView;
use crate::metrics::{Exposition, MetricsSource, Sample, collect_destinations, collect_lake, collect_queues};
use crate::outside::Destinations;
use crate::query::system::{
    ConnectionStatus, DestinationStatus, ErrorSample, QueueStatus, RuleStatus, SessionStatus, SinkStatus, SystemViews,
    TableStatus, TimerStatus,
};
use crate::query::{LakeCatalog, TableCatalog};
use crate::queues::QueueSinks;

/// The views of one server.
pub struct Views {
    log: Arc<Log>,
    tables: Tables,
    engine: Arc<Engine>,
    lakes: Arc<OpenLakes>,
    destinations: Arc<Destinations>,
    queues: Arc<QueueSinks>,
    calls: Arc<Calls>,
    gateway: OnceLock<GatewayView>,
    folder_problem: Mutex<Option<String>>,
}

impl Views {
    /// Of these parts.
    pub(super) fn new(
        log: Arc<Log>,
        tables: Tables,
        engine: Arc<Engine>,
        lakes: Arc<OpenLakes>,
        destinations: Arc<Destinations>,
        queues: Arc<QueueSinks>,
        calls: Arc<Calls>,
    ) -> Self {
        let (gateway, folder_problem) = (OnceLock::new(), Mutex::default());
        Self { log, tables, engine, lakes, destinations, queues, calls, gateway, folder_problem }
    }

    pub(super) fn set_gateway(&self, gateway: GatewayView) {
        let _ = self.gateway.set(gateway);
    }

    pub(super) fn set_folder_problem(&self, problem: Option<String>) {
        *self.folder_problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    pub(super) fn folder_problem(&self) -> Option<String> {
        self.folder_problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl SystemViews for Views {
    fn rules(&self) -> Vec<RuleStatus> {
        let catalog = self.engine.catalog();
        let rules = self.engine.rules().into_iter();
        rules
            .map(|rule| {
                let definition = catalog.get(Kind::Rule, &rule.name).and_then(|object| object.rule());
                let shares = rule.stats.undefined().into_iter();
                let shares: serde_json::Map<String, serde_json::Value> = shares
                    .filter(|share| share.seen > 0)
                    .map(|share| (share.path, (share.undefined as f64 / share.seen as f64).into()))
                    .collect();
                let dialect = definition.map(|rule| rule.dialect);
                RuleStatus {
                    name: rule.name,
                    enabled: rule.enabled,
                    owner: rule.owner,
                    dialect: if dialect == Some(Dialect::Native) { "native" } else { "aws" }.into(),
                    topic_filter: definition
                        .and_then(|rule| rule.filter.as_ref())
                        .map(|filter| filter.as_str().to_owned())
                        .unwrap_or_default(),
                    matched: rule.stats.matched(),
                    passed: rule.stats.passed.get(),
                    delivered: rule.stats.delivered.get(),
                    failed: rule.stats.failed.get(),
                    last_error: rule.stats.last_error.lock().ok().and_then(|error| error.clone()),
                    undefined: serde_json::Value::Object(shares).to_string(),
                    text: rule.text,
                }
            })
            .collect()
    }

    fn sinks(&self) -> Vec<SinkStatus> {
        let catalog = self.engine.catalog();
        let connector = |name: &str| match catalog.get(Kind::Sink, name).map(|object| &object.definition) {
            Some(Definition::Sink(sink)) => sink.connector.to_string(),
            _ if [SinkKey::Tables, SinkKey::CalledTables].iter().any(|key| key.to_string() == name) => {
                "table".to_owned()
            }
            _ => SinkKey::Derived.to_string(),
        };
        let sinks = self.engine.sinks().into_iter();
        sinks
            .map(|sink| SinkStatus {
                kind: connector(&sink.name),
                name: sink.name,
                rows: sink.health.rows,
                taken: sink.marks.taken.0,
                committed: sink.marks.committed.0,
                backlog_bytes: sink.health.backlog_bytes,
                healthy: sink.health.error.is_none(),
                last_error: sink.health.error,
            })
            .collect()
    }

    fn tables(&self) -> Vec<TableStatus> {
        self.definitions()
            .into_iter()
            .map(|table| TableStatus {
                name: table.name.to_string(),
                hash_key: table.hash.to_string(),
                range_key: table.range.as_ref().map(ToString::to_string),
                ttl_ms: table.ttl_ms,
                rows: self.tables.approximate_rows(&table.name).unwrap_or_default(),
                bytes: self.tables.disk_bytes(&table.name).unwrap_or_default(),
            })
            .collect()
    }

    fn connections(&self) -> Vec<ConnectionStatus> {
        let sessions = self.gateway.get().map(GatewayView::sessions).unwrap_or_default();
        let connected = sessions.into_iter().filter(|session| session.connected);
        connected
            .map(|session| ConnectionStatus {
                client_id: session.client_id,
                session_identifier: session.session_identifier,
                version_number: session.connection,
                principal: Some(session.principal).filter(|principal| !principal.is_empty()),
                address: session.address.map(|address| address.to_string()),
                protocol: if session.protocol_level == 5 { "5" } else { "3.1.1" }.to_owned(),
                will_topic: session.will_topic,
                since_ms: Some(session.since_ms),
            })
            .collect()
    }

    fn sessions(&self) -> Vec<SessionStatus> {
        let sessions = self.gateway.get().map(GatewayView::sessions).unwrap_or_default();
        sessions
            .into_iter()
            .map(|session| SessionStatus {
                client_id: session.client_id,
                connected: session.connected,
                principal: Some(session.principal).filter(|principal| !principal.is_empty()),
                address: session.address.map(|address| address.to_string()),
                protocol: if session.protocol_level == 5 { "5" } else { "3.1.1" }.to_owned(),
                persistent: session.expiry_s > 0,
                subscriptions: session.subscriptions.len() as u64,
                queued: session.queued_messages + session.stored_messages,
                since_ms: Some(session.since_ms),
            })
            .collect()
    }

    fn destinations(&self) -> Vec<DestinationStatus> {
        let line = |one: crate::outside::SenderStatus| DestinationStatus {
            name: one.name,
            connector: one.connector,
            confirmation: one.confirmation.map(|state| state.word().to_owned()),
            breaker: if one.open { "open" } else { "closed" }.to_owned(),
            waiting: one.waiting,
            waiting_bytes: one.waiting_bytes,
            oldest_ms: one.oldest_epoch.map(|epoch| (epoch / 1_000).cast_signed()),
            in_flight: one.in_flight,
            delivered: one.delivered,
            // Attempts after which a row was given up were not repeated.
            retried: one.failed_attempts.saturating_sub(one.given_up),
            dead: one.dead,
            last_status: one.last_status,
            last_error: one.last_error,
        };
        self.destinations.status().into_iter().map(line).collect()
    }

    fn queues(&self) -> Vec<QueueStatus> {
        self.queues.status()
    }

    fn timers(&self) -> Vec<TimerStatus> {
        let rules = self.watching().into_iter();
        rules
            .map(|rule| {
                let timers = rule.stats.timers();
                let (next_deadline_ms, next_key) =
                    timers.next.map(|(deadline, key)| ((deadline / 1_000).cast_signed(), key)).unzip();
                TimerStatus {
                    rule: rule.name,
                    armed: timers.armed,
                    fired: timers.fired,
                    next_deadline_ms,
                    next_key,
                    notices: rule.stats.notices.get(),
                    stale: rule.stats.stale.get(),
                }
            })
            .collect()
    }

    fn errors(&self) -> Vec<ErrorSample> {
        let samples = self.engine.errors().samples().into_iter();
        samples
            .map(|error| ErrorSample {
                time_ms: error.time_ms,
                epoch: error.epoch,
                offset: error.offset,
                rule: some(error.rule),
                sink: some(error.target),
                topic: some(error.topic),
                client_id: some(error.client_id),
                message: error.reason,
                count: 1,
            })
            .collect()
    }

    fn metrics(&self) -> Vec<Sample> {
        let mut all = Exposition::default();
        self.collect(&mut all);
        all.samples()
    }
}

impl TableCatalog for Views {
    fn definitions(&self) -> Vec<Arc<TableDef>> {
        self.engine.catalog().tables().map(Arc::clone).collect()
    }

    fn now_ms(&self) -> i64 {
        self.log.now_ms()
    }
}

impl MetricsSource for Views {
    fn collect(&self, into: &mut Exposition) {
        self.log.collect(into);
        if let Some(gateway) = self.gateway.get() {
            gateway.metrics().collect(into);
        }
        self.engine_metrics(into);
        self.calls.collect(into);
        for (name, lake) in self.lakes.lakes() {
            collect_lake(&name, &lake.health(), into);
        }
        collect_destinations(&self.destinations, into);
        collect_queues(&self.queues.status(), into);
    }
}

impl Views {
    /// The rules with AFTER.
    fn watching(&self) -> Vec<hedgerow_engine::engine::RuleStatus> {
        let catalog = self.engine.catalog();
        let watches = |name: &str| {
            let rule = catalog.get(Kind::Rule, name).and_then(|object| object.rule());
            rule.is_some_and(|rule| rule.select.absence.is_some())
        };
        self.engine.rules().into_iter().filter(|rule| watches(&rule.name)).collect()
    }

    fn engine_metrics(&self, into: &mut Exposition) {
        let engine = self.engine.metrics();
        into.counter("hedgerow_engine_steps_total", "Steps given to the dataflow", &[], engine.steps.get());
        into.counter("hedgerow_engine_records_total", "Records in them", &[], engine.records.get());
        into.counter("hedgerow_engine_derived_total", "Records republished into the log", &[], engine.derived.get());
        into.counter(
            "hedgerow_engine_hop_limited_total",
            "Rows not republished for engine.max_hops",
            &[],
            engine.hop_limited.get(),
        );
        into.counter("hedgerow_engine_window_rows_total", "Rows of closed windows", &[], engine.window_rows.get());
        into.counter("hedgerow_engine_checkpoints_total", "Checkpoints written", &[], engine.checkpoints.get());
        into.counter("hedgerow_engine_errors_total", "Payloads and rows refused", &[], self.engine.errors().total());
        into.counter("hedgerow_engine_lookups_total", "Rows looked up by rules", &[], engine.lookups.get());
        into.counter("hedgerow_engine_calls_total", "Calls made by rules", &[], engine.calls.get());
        into.counter(
            "hedgerow_engine_calls_failed_total",
            "Calls and lookups that failed",
            &[],
            engine.calls_failed.get(),
        );
        into.gauge(
            "hedgerow_engine_calls_waiting",
            "Messages that wait for an answer or a lookup",
            &[],
            engine.calls_waiting.get() as f64,
        );
        let behind = self.log.last_epoch().0.saturating_sub(self.engine.frontier().0);
        into.gauge("hedgerow_engine_behind_us", "Log time between the log's end and the sinks", &[], behind as f64);
        into.gauge(
            "hedgerow_engine_in_flight_bytes",
            "Bytes between the log reader and the slowest sink",
            &[],
            engine.in_flight_bytes.get() as f64,
        );
        for rule in self.engine.rules() {
            let labels = [("rule", rule.name.as_str())];
            into.counter("hedgerow_rule_matched_total", "Messages matched", &labels, rule.stats.matched());
            into.counter("hedgerow_rule_passed_total", "Rows after WHERE", &labels, rule.stats.passed.get());
            into.counter("hedgerow_rule_delivered_total", "Rows taken by sinks", &labels, rule.stats.delivered.get());
            into.counter("hedgerow_rule_failed_total", "Rows refused", &labels, rule.stats.failed.get());
        }
        for rule in self.watching() {
            let labels = [("rule", rule.name.as_str())];
            let timers = rule.stats.timers();
            into.gauge("hedgerow_rule_timers_armed", "Keys waiting for their deadline", &labels, timers.armed as f64);
            into.gauge("hedgerow_rule_timers_fired", "Keys noticed, until they are back", &labels, timers.fired as f64);
            into.counter("hedgerow_rule_notices_total", "Timers that went off", &labels, rule.stats.notices.get());
            into.counter("hedgerow_rule_stale_total", "Presence events passed over", &labels, rule.stats.stale.get());
        }
        for sink in self.engine.sinks() {
            let labels = [("sink", sink.name.as_str())];
            into.counter("hedgerow_sink_rows_total", "Rows accepted", &labels, sink.health.rows);
            into.gauge(
                "hedgerow_sink_taken_us",
                "Log time up to which rows are durable",
                &labels,
                sink.marks.taken.0 as f64,
            );
            into.gauge(
                "hedgerow_sink_committed_us",
                "Log time up to which rows are at their destination",
                &labels,
                sink.marks.committed.0 as f64,
            );
            into.gauge("hedgerow_sink_backlog_bytes", "Bytes waiting here", &labels, sink.health.backlog_bytes as f64);
        }
    }
}
