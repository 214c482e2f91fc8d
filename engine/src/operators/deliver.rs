//! Deliver: from rows to sinks, each together with its mark.
//!
//! Every sink belongs to one worker. It is handed everything up to the frontier at once, in order, so that its mark says
//! exactly which positions it has seen. The operator's capability stays at the first delivery that a sink had no room
//! for: that is what the source's backpressure sees.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hedgerow_storage::log::Epoch;

use crate::rows::{Destination, RowBatch};
use crate::sink::registry::{Registry, SinkKey};
use crate::sink::{Delivery, Outcome};

/// The operator's state on one worker.
pub struct Deliver {
    worker: usize,
    workers: usize,
    registry: Arc<Registry>,
    /// Rows whose step the frontier has not passed, by timestamp.
    stash: BTreeMap<u64, Vec<RowBatch>>,
    /// Deliveries that wait for room, by sink.
    waiting: BTreeMap<SinkKey, VecDeque<Delivery>>,
    delivered: u64,
}

impl Deliver {
    /// The operator on worker `worker` of `workers`.
    pub fn new(worker: usize, workers: usize, registry: Arc<Registry>) -> Self {
        Self { worker, workers, registry, stash: BTreeMap::new(), waiting: BTreeMap::new(), delivered: 0 }
    }

    /// The number whose remainder is the worker that owns the batch's sink.
    pub fn route(batch: &RowBatch) -> u64 {
        batch.destination().map(SinkKey::of).map_or(0, |key| key.route())
    }

    /// Keeps rows of the step at `time`.
    pub fn stash(&mut self, time: u64, batches: impl IntoIterator<Item = RowBatch>) {
        self.stash.entry(time).or_default().extend(batches);
    }

    /// The frontier has passed `up_to`: hands out everything at or below it. Returns the time from which on something
    /// still waits for room.
    pub fn advance(&mut self, up_to: u64) -> Option<u64> {
        if up_to > self.delivered {
            let later = self.stash.split_off(&(up_to + 1));
            let ready = std::mem::replace(&mut self.stash, later);
            let mut by_sink: BTreeMap<SinkKey, Vec<RowBatch>> = BTreeMap::new();
            for batch in ready.into_values().flatten() {
                if let Some(destination) = batch.destination() {
                    by_sink.entry(SinkKey::of(destination)).or_default().push(batch);
                }
            }
            for key in self.registry.keys() {
                if key.route() % self.workers.max(1) as u64 == self.worker as u64 {
                    by_sink.entry(key).or_default();
                }
            }
            for (key, mut batches) in by_sink {
                batches.sort_by_key(order);
                self.waiting.entry(key).or_default().push_back(Delivery { up_to: Epoch(up_to), batches });
            }
            self.delivered = up_to;
        }
        self.flush()
    }

    /// Hands waiting deliveries to the sinks that have room.
    fn flush(&mut self) -> Option<u64> {
        let registry = &self.registry;
        self.waiting.retain(|key, queue| {
            while let Some(delivery) = queue.front() {
                if registry.deliver(key, delivery) == Outcome::Full {
                    return true;
                }
                queue.pop_front();
            }
            false
        });
        self.waiting.values().filter_map(|queue| queue.front()).map(|delivery| delivery.up_to.0).min()
    }
}

/// Batches in the order of their first rows; sinks that need the order of single rows sort these.
fn order(batch: &RowBatch) -> (u64, bool, u64, Arc<str>, usize) {
    let (epoch, offset) = batch.rows.messages.first().map_or((0, 0), |message| batch.origins.position(*message));
    (epoch, !batch.origins.timer, offset, Arc::clone(&batch.rule.rule.name), batch.action)
}

impl SinkKey {
    /// The sink of a destination.
    pub fn of(destination: &Destination) -> Self {
        match destination {
            Destination::Table(_) => SinkKey::Tables,
            Destination::Derived => SinkKey::Derived,
            Destination::Sink(name) => SinkKey::Named(Arc::clone(name)),
        }
    }
}
