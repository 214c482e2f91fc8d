//! Deliver: from rows to sinks, each together with its mark.
//!
//! Every sink belongs to one worker. It is handed everything up to the frontier at once, in order, so that its mark says
//! exactly which positions it has seen. The operator's capability stays at the first delivery that a sink had no room
//! for: that is what the source's backpressure sees.
//!
//! Rows come on two lanes, each with a frontier: the called one is behind while rules wait for other systems. Tables and
//! derived records have a sink for each lane. A sink of CREATE SINK has one mark for both: once a rule that asks others
//! writes into it, it follows the lane that is behind.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hedgerow_storage::log::Epoch;

use crate::rows::{Destination, Lane, RowBatch};
use crate::sink::registry::{Registry, SinkKey};
use crate::sink::{Delivery, Outcome};

/// The operator's state on one worker.
pub struct Deliver {
    worker: usize,
    workers: usize,
    registry: Arc<Registry>,
    /// Rows whose step the frontier has not passed, by sink and timestamp.
    stash: BTreeMap<SinkKey, BTreeMap<(u64, Lane), Vec<RowBatch>>>,
    /// Deliveries that wait for room, by sink.
    waiting: BTreeMap<SinkKey, VecDeque<Delivery>>,
    /// What was handed out, or waits for room, by sink.
    delivered: BTreeMap<SinkKey, u64>,
    /// What each lane's frontier has passed.
    passed: BTreeMap<Lane, u64>,
}

impl Deliver {
    /// The operator on worker `worker` of `workers`, of a dataflow that runs from `start` on.
    pub fn new(worker: usize, workers: usize, registry: Arc<Registry>, start: u64) -> Self {
        let passed = [(Lane::Straight, start), (Lane::Called, start)].into();
        Self {
            worker,
            workers,
            registry,
            stash: BTreeMap::new(),
            waiting: BTreeMap::new(),
            delivered: BTreeMap::new(),
            passed,
        }
    }

    /// The number whose remainder is the worker that owns the batch's sink.
    pub fn route(batch: &RowBatch) -> u64 {
        SinkKey::of(batch).map_or(0, |key| key.route())
    }

    /// Keeps rows that came with the timestamp `time` on a lane.
    pub fn stash(&mut self, lane: Lane, time: u64, batches: impl IntoIterator<Item = RowBatch>) {
        for batch in batches {
            let Some(key) = SinkKey::of(&batch) else { continue };
            // Rows of a deadline come with the timestamp of the operator that emits them, which may be long before.
            let deadline = batch.epochs().filter(|_| batch.origins.timer).map_or(time, |(first, _)| first);
            let time = time.max(deadline);
            self.stash.entry(key).or_default().entry((time, lane)).or_default().push(batch);
        }
    }

    /// The frontier of a lane has passed `up_to`: hands out everything that no sink has to wait for any longer.
    pub fn advance(&mut self, lane: Lane, up_to: u64) {
        if let Some(passed) = self.passed.get_mut(&lane) {
            *passed = up_to.max(*passed);
        }
        for key in self.registry.keys() {
            if key.route() % self.workers.max(1) as u64 == self.worker as u64 {
                self.stash.entry(key).or_default();
            }
        }
        let straight = self.passed(Lane::Straight);
        let called = self.passed(Lane::Called).min(straight);
        for (key, stash) in &mut self.stash {
            let up_to = if self.registry.follows_calls(key) { not_within(stash, called) } else { straight };
            let delivered = self.delivered.entry(key.clone()).or_default();
            if up_to <= *delivered {
                continue;
            }
            *delivered = up_to;
            let later = stash.split_off(&(up_to + 1, Lane::Straight));
            let ready = std::mem::replace(stash, later);
            let mut batches: Vec<RowBatch> = ready.into_values().flatten().collect();
            batches.sort_by_key(order);
            self.waiting.entry(key.clone()).or_default().push_back(Delivery { up_to: Epoch(up_to), batches });
        }
        self.stash.retain(|_, stash| !stash.is_empty());
        self.flush();
    }

    fn passed(&self, lane: Lane) -> u64 {
        self.passed.get(&lane).copied().unwrap_or_default()
    }

    /// Hands waiting deliveries to the sinks that have room.
    fn flush(&mut self) {
        let registry = &self.registry;
        let mut tables_wait = false;
        self.waiting.retain(|key, queue| {
            // Rows of one table may come on one lane at first and on the other later: the straight ones are first.
            if *key == SinkKey::CalledTables && tables_wait {
                return true;
            }
            while let Some(delivery) = queue.front() {
                if registry.deliver(key, delivery) == Outcome::Full {
                    tables_wait |= *key == SinkKey::Tables;
                    return true;
                }
                queue.pop_front();
            }
            false
        });
    }

    /// Whether a sink has no room.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The oldest time of something that came on this lane, or on the straight one, and is not at its sink.
    pub fn oldest(&self, lane: Lane) -> Option<u64> {
        let waiting = self.waiting.values().filter_map(|queue| queue.front()).map(|delivery| delivery.up_to.0);
        let stashed = self.stash.values().flat_map(BTreeMap::keys).filter(|(_, of)| *of <= lane).map(|(time, _)| *time);
        waiting.chain(stashed).min()
    }
}

/// The last position up to `up_to` at which no batch has rows on both sides. A batch of deadlines may span several steps,
/// and the called lane stops between any two.
fn not_within(stash: &BTreeMap<(u64, Lane), Vec<RowBatch>>, mut up_to: u64) -> u64 {
    loop {
        let timers = stash.range(..=(up_to, Lane::Called)).flat_map(|(_, batches)| batches);
        let spans = timers.filter(|batch| batch.origins.timer).filter_map(RowBatch::epochs);
        let across = spans.filter(|(first, last)| *first <= up_to && up_to < *last);
        let before = across.filter_map(|(first, _)| first.checked_sub(1)).min();
        match before {
            Some(before) => up_to = before,
            None => return up_to,
        }
    }
}

/// Batches in the order of their first rows; sinks that need the order of single rows sort these.
fn order(batch: &RowBatch) -> (u64, bool, u64, Arc<str>, usize) {
    let (epoch, offset) = batch.rows.messages.first().map_or((0, 0), |message| batch.origins.position(*message));
    (epoch, !batch.origins.timer, offset, Arc::clone(&batch.rule.rule.name), batch.action)
}

impl SinkKey {
    /// The sink that a batch goes to.
    pub fn of(batch: &RowBatch) -> Option<Self> {
        batch.destination().map(|destination| Self::to(destination, batch.lane()))
    }

    /// The sink of a destination, for rows of a lane.
    pub fn to(destination: &Destination, lane: Lane) -> Self {
        match (destination, lane) {
            (Destination::Table(_), Lane::Straight) => SinkKey::Tables,
            (Destination::Table(_), Lane::Called) => SinkKey::CalledTables,
            (Destination::Derived, Lane::Straight) => SinkKey::Derived,
            (Destination::Derived, Lane::Called) => SinkKey::CalledDerived,
            (Destination::Sink(name), _) => SinkKey::Named(Arc::clone(name)),
        }
    }
}
