//! A sink whose rows are kept one by one, with the mark: those for the outside in the outbox, those of a message queue in
//! the queue itself.
//!
//! One thread renders rows and writes them to an [`Intake`]; what drains it is behind [`Drain`] and cannot hold it up.
//! *Taken* follows the intake's sync, *committed* the oldest row that is not at its destination.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use hedgerow_sql::outside::Parameter;
use hedgerow_storage::log::Epoch;
use hedgerow_storage::outbox::{Accepted, Entry, Queue, QueueLimits};
use hedgerow_storage::queue::MessageQueue;
use hedgerow_storage::table::StoreError;

use super::outbox_row::entry;
use super::{Delivery, Marks, Outcome, Sink, SinkHealth};
use crate::rows::in_order;

/// Deliveries that wait for the thread, at most.
const QUEUE: usize = 8;
/// How often a full queue is asked again.
const ROOM: Duration = Duration::from_millis(20);

/// Keeps rows, together with a mark.
pub trait Intake: Send + Sync {
    /// The sink's name.
    fn name(&self) -> &str;
    /// How far it has come in the log, as readers of the store see it.
    fn mark(&self) -> Option<u64>;
    /// How far it has come durably.
    fn synced_mark(&self) -> Option<u64>;
    /// Makes everything durable that was taken before this call.
    ///
    /// # Errors
    /// When the store fails.
    fn sync(&self) -> Result<(), StoreError>;
    /// Bytes that are kept.
    fn bytes(&self) -> u64;
    /// The epoch of the oldest row that is not at its destination.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn oldest_epoch(&self) -> Result<Option<u64>, StoreError>;
    /// Takes rows in one batch with the mark `up_to`, or has no room for them. Those of `refused` are given up for the
    /// reason that stands with them.
    ///
    /// # Errors
    /// When the store fails.
    fn accept(
        &self,
        up_to: u64,
        entries: &[Entry],
        refused: &[(Entry, String)],
        now_ms: i64,
    ) -> Result<Accepted, StoreError>;
}

/// The outbox of one destination, with its limits.
pub struct Outgoing {
    /// The entries.
    pub queue: Queue,
    /// How much may wait.
    pub limits: QueueLimits,
}

impl Intake for Outgoing {
    fn name(&self) -> &str {
        self.queue.name()
    }
    fn mark(&self) -> Option<u64> {
        self.queue.mark()
    }
    fn synced_mark(&self) -> Option<u64> {
        self.queue.synced_mark()
    }
    fn sync(&self) -> Result<(), StoreError> {
        self.queue.sync()
    }
    fn bytes(&self) -> u64 {
        self.queue.bytes()
    }
    fn oldest_epoch(&self) -> Result<Option<u64>, StoreError> {
        self.queue.oldest_epoch()
    }
    fn accept(
        &self,
        up_to: u64,
        entries: &[Entry],
        refused: &[(Entry, String)],
        now_ms: i64,
    ) -> Result<Accepted, StoreError> {
        self.queue.accept(up_to, entries, refused.to_vec(), self.limits, now_ms)
    }
}

/// A message queue is the destination itself: nothing is on its way.
impl Intake for MessageQueue {
    fn name(&self) -> &str {
        MessageQueue::name(self)
    }
    fn mark(&self) -> Option<u64> {
        MessageQueue::mark(self)
    }
    fn synced_mark(&self) -> Option<u64> {
        MessageQueue::synced_mark(self)
    }
    fn sync(&self) -> Result<(), StoreError> {
        MessageQueue::sync(self)
    }
    fn bytes(&self) -> u64 {
        MessageQueue::bytes(self)
    }
    fn oldest_epoch(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }
    fn accept(
        &self,
        up_to: u64,
        entries: &[Entry],
        refused: &[(Entry, String)],
        now_ms: i64,
    ) -> Result<Accepted, StoreError> {
        MessageQueue::accept(self, up_to, entries, refused, now_ms)
    }
}

/// Who takes out what the intake keeps.
pub trait Drain: Send + Sync {
    /// There is something new.
    fn wake(&self);
    /// What keeps entries from leaving, with endpoint and setting; `None` when all is well.
    fn problem(&self) -> Option<String>;
    /// Ends sending, waiting at most `wait` for what is under way.
    fn stop(&self, wait: Duration);
}

/// Settings of one such sink.
pub struct OutboxConfig {
    /// Where its rows are kept.
    pub intake: Arc<dyn Intake>,
    /// What is rendered for every row besides the row itself.
    pub parameters: Vec<Parameter>,
    /// What the sink's protocol is called in notifications that have texts by protocol.
    pub protocols: &'static [&'static str],
    /// How often the intake is synced.
    pub sync_interval: Duration,
    /// Log time, milliseconds since 1970.
    pub now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
}

/// The sink.
pub struct OutboxSink {
    deliveries: Option<Sender<Delivery>>,
    state: Arc<State>,
    drain: Arc<dyn Drain>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    config: OutboxConfig,
    rows: AtomicU64,
    /// Everything up to here is in the queue, whether or not there was anything.
    applied: AtomicU64,
    /// Everything up to here is synced.
    taken: AtomicU64,
    closing: AtomicBool,
    error: Mutex<Option<String>>,
}

impl OutboxSink {
    /// Starts the thread. What lies at or below the intake's mark is skipped.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn open(config: OutboxConfig, drain: Arc<dyn Drain>) -> std::io::Result<Self> {
        let applied = config.intake.mark().unwrap_or_default();
        let synced = config.intake.synced_mark().unwrap_or_default();
        let name = format!("hedgerow-outbox-{}", config.intake.name());
        let state = Arc::new(State {
            config,
            rows: AtomicU64::new(0),
            applied: AtomicU64::new(applied),
            taken: AtomicU64::new(synced),
            closing: AtomicBool::new(false),
            error: Mutex::new(None),
        });
        let (deliveries, queue) = crossbeam_channel::bounded(QUEUE);
        let (shared, waker) = (Arc::clone(&state), Arc::clone(&drain));
        let thread = std::thread::Builder::new().name(name).spawn(move || shared.run(&queue, &*waker))?;
        Ok(Self { deliveries: Some(deliveries), state, drain, thread: Some(thread) })
    }
}

impl State {
    fn run(&self, deliveries: &Receiver<Delivery>, drain: &dyn Drain) {
        let skip = Epoch(self.applied.load(Ordering::Acquire));
        let interval = self.config.sync_interval;
        let timer = crossbeam_channel::tick(interval);
        loop {
            match deliveries.recv_timeout(interval) {
                // What was not written is replayed; nothing behind it may move the mark.
                Ok(delivery) if !self.apply(&delivery, skip, drain) => break,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if timer.try_recv().is_ok() {
                self.sync();
            }
        }
        self.sync();
    }

    /// False if the delivery was not written, and nothing more is to be.
    fn apply(&self, delivery: &Delivery, skip: Epoch, drain: &dyn Drain) -> bool {
        let rows = in_order(&delivery.batches, skip);
        let (mut entries, mut refused) = (Vec::with_capacity(rows.len()), Vec::new());
        for (batch, row) in &rows {
            match entry(batch, *row, &self.config.parameters, self.config.protocols) {
                Ok(entry) => entries.push(entry),
                Err(refusal) => {
                    batch.rule.stats.fail(1, &refusal.1);
                    refused.push(*refusal);
                }
            }
        }
        let up_to = delivery.up_to.0;
        while !rows.is_empty() {
            let now_ms = (self.config.now_ms)();
            match self.config.intake.accept(up_to, &entries, &refused, now_ms) {
                Ok(Accepted::Taken { .. }) => {
                    self.rows.fetch_add(entries.len() as u64, Ordering::Relaxed);
                    drain.wake();
                    break;
                }
                // Whoever closes the sink is not kept waiting.
                Ok(Accepted::Full) if self.closing.load(Ordering::Acquire) => return false,
                Ok(Accepted::Full) => std::thread::park_timeout(ROOM),
                Err(error) => {
                    self.fail(format!("rows cannot be written to the store: {error}"));
                    return false;
                }
            }
        }
        for (batch, _) in &rows {
            batch.rule.stats.delivered.add(1);
        }
        self.applied.fetch_max(up_to, Ordering::AcqRel);
        true
    }

    /// Nothing below the applied mark waits for a replay once the store is synced: deliveries without rows wrote no
    /// mark of their own, and replaying them writes none either. Confirmations are synced with it.
    fn sync(&self) {
        let applied = self.applied.load(Ordering::Acquire);
        let failed = self.error.lock().is_ok_and(|error| error.is_some());
        if failed {
            return;
        }
        match self.config.intake.sync() {
            Ok(()) => {
                self.taken.fetch_max(applied, Ordering::AcqRel);
            }
            Err(error) => self.fail(format!("the store cannot be synced: {error}")),
        }
    }

    /// Sticky: a write that failed half way is healed by the replay after a restart, not by going on.
    fn fail(&self, reason: String) {
        tracing::error!(%reason, sink = %self.config.intake.name(), "the sink stops taking rows; restart to replay what is missing");
        if let Ok(mut error) = self.error.lock() {
            error.get_or_insert(reason);
        }
    }
}

impl Sink for OutboxSink {
    fn deliver(&mut self, delivery: &Delivery) -> Outcome {
        let failed = self.state.error.lock().is_ok_and(|error| error.is_some());
        match &self.deliveries {
            Some(deliveries) if !failed => match deliveries.try_send(delivery.clone()) {
                Ok(()) => Outcome::Accepted,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Outcome::Full,
            },
            _ => Outcome::Full,
        }
    }

    fn seal(&mut self, _: Epoch) {}

    fn marks(&self) -> Marks {
        // In this order: an entry that comes in between counts as waiting, never as delivered.
        let applied = self.state.applied.load(Ordering::Acquire);
        let committed = match self.state.config.intake.oldest_epoch() {
            Ok(Some(oldest)) => applied.min(oldest.saturating_sub(1)),
            Ok(None) => applied,
            Err(_) => 0,
        };
        Marks { taken: Epoch(self.state.taken.load(Ordering::Acquire)), committed: Epoch(committed) }
    }

    fn health(&self) -> SinkHealth {
        let own = self.state.error.lock().ok().and_then(|error| error.clone());
        SinkHealth {
            rows: self.state.rows.load(Ordering::Relaxed),
            backlog_bytes: self.state.config.intake.bytes(),
            error: own.or_else(|| self.drain.problem()),
        }
    }

    fn close(&mut self, wait: Duration) {
        self.deliveries = None;
        self.state.closing.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.drain.stop(wait);
    }
}
