//! The sinks of a running engine, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hedgerow_sql::rule::SinkDef;
use hedgerow_storage::log::Epoch;
use hedgerow_storage::outbox::Outbox;

use super::{Delivery, Marks, Outcome, Sink, SinkHealth};
use crate::rows::{ActiveRule, Destination};
use crate::step::stable_hash;

/// Names a sink.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SinkKey {
    /// All key-value tables: one store, and one mark for each lane. This is the straight one.
    Tables,
    /// The same store, for rows of the called lane. It comes after the straight one.
    CalledTables,
    /// Derived records.
    Derived,
    /// Derived records of rules that ask other systems.
    CalledDerived,
    /// A sink of CREATE SINK.
    Named(Arc<str>),
}

impl SinkKey {
    /// The number whose remainder is the worker that owns the sink.
    pub fn route(&self) -> u64 {
        match self {
            SinkKey::Tables | SinkKey::CalledTables => 0,
            SinkKey::Derived | SinkKey::CalledDerived => 1,
            SinkKey::Named(name) => stable_hash(name.as_bytes()) >> 1,
        }
    }
}

impl std::fmt::Display for SinkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SinkKey::Tables => "tables",
            SinkKey::CalledTables => "tables, after calls",
            SinkKey::Derived => "republish",
            SinkKey::CalledDerived => "republish, after calls",
            SinkKey::Named(name) => name,
        })
    }
}

/// Opens the sinks of CREATE SINK.
pub trait OpenSink: Send + Sync {
    /// Opens a sink.
    ///
    /// # Errors
    /// What is wrong and which setting mends it. Never because a destination is out of reach.
    fn open(&self, definition: &SinkDef) -> Result<Box<dyn Sink>, String>;

    /// Where rows go that no sink takes.
    fn outbox(&self) -> Option<Outbox> {
        None
    }

    /// A sink was closed. If it was only replaced, it is opened again.
    fn closed(&self, name: &str);

    /// A sink was dropped: it is closed, and its name stands for nothing any more.
    fn dropped(&self, _name: &str) {}
}

/// A row of `system.sinks`.
#[derive(Clone, Debug)]
pub struct SinkStatus {
    /// Name.
    pub name: String,
    /// False: it does not open, and takes nothing.
    pub is_open: bool,
    /// Its marks.
    pub marks: Marks,
    /// How it is doing.
    pub health: SinkHealth,
}

type Slot = Arc<Mutex<Box<dyn Sink>>>;

#[derive(Default)]
struct Open {
    by_key: BTreeMap<SinkKey, (Arc<SinkDef>, Slot)>,
    /// The position of the catalog that they follow.
    as_of: Epoch,
}

/// The open sinks.
pub struct Registry {
    opener: Box<dyn OpenSink>,
    sinks: Mutex<Open>,
    built_in: BTreeMap<SinkKey, Slot>,
    failed: Mutex<BTreeMap<Arc<str>, String>>,
    /// Sinks that a rule writes into that asks other systems, or once did since the start.
    shared: Mutex<BTreeSet<Arc<str>>>,
}

impl Registry {
    /// A registry of the built-in sinks, opening others with `opener`.
    pub fn new(opener: Box<dyn OpenSink>, built_in: impl IntoIterator<Item = (SinkKey, Box<dyn Sink>)>) -> Self {
        let built_in = built_in.into_iter().map(|(key, sink)| (key, Arc::new(Mutex::new(sink)))).collect();
        Self { opener, sinks: Mutex::default(), built_in, failed: Mutex::default(), shared: Mutex::default() }
    }

    /// Notes that rows come to these destinations on the called lane. Said before the first such row is on its way.
    pub fn shares(&self, destinations: &[Destination]) {
        let Ok(mut shared) = self.shared.lock() else { return };
        shared.extend(destinations.iter().filter_map(|destination| match destination {
            Destination::Sink(name) => Some(Arc::clone(name)),
            _ => None,
        }));
    }

    /// Whether a sink is to see nothing before the called lane has passed it.
    pub fn follows_calls(&self, key: &SinkKey) -> bool {
        match key {
            SinkKey::Tables | SinkKey::Derived => false,
            SinkKey::CalledTables | SinkKey::CalledDerived => true,
            SinkKey::Named(name) => self.shared.lock().is_ok_and(|shared| shared.contains(name)),
        }
    }

    /// Whether all sinks of a rule have taken `epoch`.
    pub fn has_taken(&self, rule: &ActiveRule, epoch: Epoch) -> bool {
        let mut keys = rule.destinations.iter().zip(&rule.lanes).map(|(to, lane)| SinkKey::to(to, *lane));
        keys.all(|key| {
            let slot = self.slot(&key);
            slot.is_some_and(|slot| slot.lock().is_ok_and(|sink| sink.marks().taken >= epoch))
        })
    }

    /// Opens what is new in `definitions`, reopens what has changed, closes what is gone. Every worker comes here with
    /// every change of the catalog, at its own pace: one that is behind changes nothing.
    pub fn sync(&self, definitions: &[Arc<SinkDef>], as_of: Epoch) {
        let Ok(mut open) = self.sinks.lock() else { return };
        if as_of < open.as_of {
            return;
        }
        open.as_of = as_of;
        let sinks = &mut open.by_key;
        let gone: Vec<SinkKey> = sinks
            .iter()
            .filter(|(_, (open, _))| !definitions.iter().any(|definition| definition == open))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            if let Some((_, slot)) = sinks.remove(&key)
                && let Ok(mut sink) = slot.lock()
            {
                sink.close(Duration::from_secs(5));
                let name = key.to_string();
                self.opener.closed(&name);
                if !definitions.iter().any(|definition| *definition.name == *name) {
                    self.opener.dropped(&name);
                }
            }
        }
        for definition in definitions {
            let key = SinkKey::Named(Arc::clone(&definition.name));
            if sinks.contains_key(&key) {
                continue;
            }
            let Ok(mut failed) = self.failed.lock() else { return };
            match self.opener.open(definition) {
                Ok(sink) => {
                    failed.remove(&definition.name);
                    sinks.insert(key, (Arc::clone(definition), Arc::new(Mutex::new(sink))));
                }
                Err(reason) => {
                    tracing::error!(sink = %definition.name, %reason, "the sink does not open");
                    failed.insert(Arc::clone(&definition.name), reason);
                }
            }
        }
    }

    /// Why a sink does not open, if there is one that does not.
    pub fn not_open(&self) -> Option<String> {
        self.failed.lock().ok()?.values().next().cloned()
    }

    /// The names of all open sinks.
    pub fn keys(&self) -> Vec<SinkKey> {
        let named = self.sinks.lock().map(|open| open.by_key.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        self.built_in.keys().cloned().chain(named).collect()
    }

    fn slot(&self, key: &SinkKey) -> Option<Slot> {
        self.built_in
            .get(key)
            .map(Arc::clone)
            .or_else(|| self.sinks.lock().ok()?.by_key.get(key).map(|(_, slot)| Arc::clone(slot)))
    }

    fn slots(&self) -> Vec<(SinkKey, Slot)> {
        self.keys().into_iter().filter_map(|key| self.slot(&key).map(|slot| (key, slot))).collect()
    }

    /// Hands a delivery to its sink. Rows for a sink that is gone or does not open are counted as failed.
    pub fn deliver(&self, key: &SinkKey, delivery: &Delivery) -> Outcome {
        let Some(slot) = self.slot(key) else {
            for batch in &delivery.batches {
                batch.rule.stats.fail(batch.rows.messages.len() as u64, &format!("the sink {key} is not open"));
            }
            return Outcome::Accepted;
        };
        slot.lock().map_or(Outcome::Accepted, |mut sink| sink.deliver(delivery))
    }

    /// Asks all sinks to make everything up to `up_to` durable soon.
    pub fn seal(&self, up_to: Epoch) {
        for (_, slot) in self.slots() {
            if let Ok(mut sink) = slot.lock() {
                sink.seal(up_to);
            }
        }
    }

    /// The epoch that every sink has taken.
    pub fn taken(&self) -> Epoch {
        let marks = self.slots().into_iter().filter_map(|(_, slot)| slot.lock().ok().map(|sink| sink.marks().taken));
        marks.min().unwrap_or_default()
    }

    /// One line a sink.
    pub fn status(&self) -> Vec<SinkStatus> {
        let mut status: Vec<SinkStatus> = self
            .slots()
            .into_iter()
            .filter_map(|(key, slot)| {
                let sink = slot.lock().ok()?;
                Some(SinkStatus { name: key.to_string(), is_open: true, marks: sink.marks(), health: sink.health() })
            })
            .collect();
        if let Ok(failed) = self.failed.lock() {
            status.extend(failed.iter().map(|(name, reason)| SinkStatus {
                name: name.to_string(),
                is_open: false,
                marks: Marks::default(),
                health: SinkHealth { error: Some(reason.clone()), ..SinkHealth::default() },
            }));
        }
        status
    }

    /// Closes all sinks, each within `wait`.
    pub fn close(&self, wait: Duration) {
        for (_, slot) in self.slots() {
            if let Ok(mut sink) = slot.lock() {
                sink.close(wait);
            }
        }
    }
}
