//! What an operator keeps from one catalog to the next changes nothing: it gives what a new one gives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hedgerow_storage::clock::SystemClock;
use hedgerow_storage::disk::SystemDisk;
use hedgerow_storage::log::{Batch, Class, Durability, Epoch, Log, LogConfig, RecordFields, RecordKind};
use proptest::prelude::*;

use super::evaluate::{Evaluate, Out, Resolve};
use crate::catalog::{Catalog, Change, ChangeSet, Form, Kind};
use crate::errors::Errors;
use crate::metrics::RuleStats;
use crate::rows::{ActiveRule, Destination};
use crate::step::Step;

/// Rules without sinks, with counters that outlive a change.
#[derive(Default)]
struct Nowhere(Mutex<BTreeMap<Arc<str>, Arc<RuleStats>>>);

impl Resolve for Arc<Nowhere> {
    fn resolve(&self, catalog: &Catalog, _: u64) -> Arc<Vec<Arc<ActiveRule>>> {
        let mut stats = self.0.lock().unwrap();
        let rules = catalog.active_rules().map(|rule| {
            let stats = Arc::clone(stats.entry(Arc::clone(&rule.name)).or_default());
            Arc::new(ActiveRule::new(Arc::clone(rule), vec![Destination::Derived], stats))
        });
        Arc::new(rules.collect())
    }

    fn refuse(&self, _: u64, reason: &str) {
        panic!("{reason}");
    }
}

/// Filters that overlap in many ways.
const FILTERS: [&str; 6] = ["a/#", "a/+", "+/b", "a/b", "#", "c/+/d"];
const TOPICS: [&str; 6] = ["a/b", "a/c", "x/b", "c/x/d", "a", "$aws/rules/r1/a/b"];

#[derive(Clone, Debug)]
enum Event {
    Put(usize, usize, u8),
    Drop(usize),
    Messages(Vec<(usize, u8)>),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0..6usize, 0..FILTERS.len(), 0..3u8).prop_map(|(rule, filter, k)| Event::Put(rule, filter, k)),
        1 => (0..6usize).prop_map(Event::Drop),
        3 => prop::collection::vec((0..TOPICS.len(), 0..4u8), 1..12).prop_map(Event::Messages),
    ]
}

fn changes(event: &Event) -> Option<ChangeSet> {
    let name = |rule: &usize| format!("r{rule}");
    let change = match event {
        Event::Put(rule, filter, k) => Change::Put {
            kind: Kind::Rule,
            name: name(rule),
            form: Form::Native,
            text: format!(
                "CREATE RULE r{rule} AS SELECT n + {k} AS n, '{rule}' AS rule FROM '{}' WHERE n >= {k} INTO TOPIC 'out'",
                FILTERS[*filter]
            ),
        },
        Event::Drop(rule) => Change::Drop { kind: Kind::Rule, name: name(rule) },
        Event::Messages(_) => return None,
    };
    Some(ChangeSet::new("test", vec![change]))
}

/// A log's commits of these events, one each.
fn steps(events: &[Event]) -> Vec<Step> {
    let folder = tempfile::tempdir().unwrap();
    let limits = LogConfig {
        durability: Durability::None,
        min_free_bytes: 0,
        reserve_bytes: 0,
        ..LogConfig::new(folder.path())
    };
    let log = Log::open(limits, Arc::new(SystemDisk), Arc::new(SystemClock::new()), Epoch(0)).unwrap().0;
    for event in events {
        let mut batch = Batch::new();
        match (event, changes(event)) {
            (Event::Messages(messages), _) => {
                for (topic, n) in messages {
                    let payload = format!("{{\"n\":{n}}}");
                    let payload = payload.as_bytes();
                    let (kind, topic) = (RecordKind::Message, TOPICS[*topic]);
                    batch.push(&RecordFields { kind, topic, client_id: "c", payload, ..RecordFields::default() });
                }
            }
            (_, Some(set)) => {
                let payload = &set.encode();
                batch.push(&RecordFields { kind: RecordKind::Control, payload, ..RecordFields::default() });
            }
            _ => {}
        }
        log.appender().append_and_wait(batch, Class::System).unwrap();
    }
    let mut reader = log.reader(Epoch(0)).unwrap();
    let commits = std::iter::from_fn(|| reader.next(Duration::from_secs(5)).unwrap()).take(events.len());
    let step = |commit: hedgerow_storage::log::Commit| {
        let (end, bytes) = (commit.epoch, commit.bytes());
        Step { commits: vec![commit], end, checkpoint: false, bytes }
    };
    commits.map(step).collect()
}

/// Rows by rule and place.
fn rows(evaluate: &mut Evaluate<Arc<Nowhere>>, step: &Step) -> Vec<(String, u64, String)> {
    let mut out = Vec::new();
    evaluate.step(step, &mut out);
    let mut rows = Vec::new();
    for batch in out.iter().filter_map(|out| if let Out::Rows(batch) = out { Some(batch) } else { None }) {
        for row in 0..batch.rows.len() {
            let message = batch.rows.messages[row];
            assert!(!batch.origins.topic.get(message as usize).is_empty());
            let text = String::from_utf8(batch.rows.json(row).into_owned()).unwrap();
            rows.push((batch.rule.rule.name.to_string(), batch.origins.position(message).1, text));
        }
    }
    rows.sort();
    rows
}

fn operator(catalog: Catalog, stats: &Arc<Nowhere>) -> Evaluate<Arc<Nowhere>> {
    Evaluate::new(0, 1, catalog, Arc::clone(stats), Arc::new(Errors::new(10)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn an_operator_that_has_seen_other_catalogs_gives_what_a_new_one_gives(
        events in prop::collection::vec(event(), 1..25),
    ) {
        let stats = Arc::new(Nowhere::default());
        let mut old = operator(Catalog::default(), &stats);
        let mut matched: BTreeMap<String, u64> = BTreeMap::new();
        for (event, step) in events.iter().zip(steps(&events)) {
            let of_new = Arc::new(Nowhere::default());
            let mut new = operator(old.catalog().clone(), &of_new);
            prop_assert_eq!(rows(&mut old, &step), rows(&mut new, &step), "{:?}", event);
            for (name, stats) in of_new.0.lock().unwrap().iter() {
                *matched.entry(name.to_string()).or_default() += stats.matched();
            }
        }
        for (name, stats) in stats.0.lock().unwrap().iter() {
            prop_assert_eq!(stats.matched(), matched.get(&**name).copied().unwrap_or(0), "{}", name);
            prop_assert!(stats.undefined().iter().all(|share| share.undefined == 0 && share.seen == stats.matched()));
        }
    }
}
