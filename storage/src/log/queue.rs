//! What waits for the writer, and the window in which a commit gathers it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::config::add;
use super::shared::{Shared, Space, lock};
use super::{AppendError, Batch, Durability, Epoch, Offset};

/// Who appends, which matters when space runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// What devices send: refused first.
    Client,
    /// Catalog, marks, derived records: may use the reserve.
    System,
}

/// Where a batch stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The commit that holds it.
    pub epoch: Epoch,
    /// Number of its first record.
    pub first_offset: Offset,
}

pub(super) type Done = Box<dyn FnOnce(Result<Committed, AppendError>) + Send>;

pub(super) struct Pending {
    pub batch: Batch,
    pub class: Class,
    pub done: Done,
}

pub(super) struct Queue {
    pub pending: VecDeque<Pending>,
    pub bytes: usize,
    /// The writer sleeps until so many batches wait.
    wake_at: usize,
    pub closing: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self { pending: VecDeque::new(), bytes: 0, wake_at: NOT_ASLEEP, closing: false }
    }
}

const NOT_ASLEEP: usize = usize::MAX;
/// A commit takes no further batch beyond this.
const COMMIT_BYTES: usize = 16 << 20;
/// No single batch may be larger: its length must fit a commit header, and readers take commits whole.
const MAX_BATCH_BYTES: usize = 256 << 20;

/// Puts batches into the log. Clones go to the same log; any thread may hold one.
#[derive(Clone)]
pub struct Appender {
    pub(super) shared: Arc<Shared>,
}

impl Appender {
    /// Hands a batch to the writer. `done` runs on the writer's thread, in the order of the log, once the commit is as
    /// durable as configured, or has failed; it must be quick, since nothing is committed meanwhile.
    ///
    /// If the batch is not taken it comes back with the reason, and `done` is dropped without being called.
    pub fn append(
        &self,
        batch: Batch,
        class: Class,
        done: impl FnOnce(Result<Committed, AppendError>) + Send + 'static,
    ) -> Result<(), (Batch, AppendError)> {
        if let Some(error) = self.refusal(&batch, class) {
            return Err((batch, error));
        }
        let shared = &*self.shared;
        let bytes = batch.bytes();
        let limit = match class {
            Class::Client => shared.config.max_queued_bytes,
            Class::System => shared.config.max_queued_bytes.saturating_mul(2),
        };
        let mut queue = lock(&shared.queue);
        if queue.closing {
            return Err((batch, AppendError::Closed));
        }
        if queue.bytes > 0 && queue.bytes.saturating_add(bytes) > limit {
            drop(queue);
            add(&shared.metrics.refused_full, 1);
            return Err((batch, AppendError::Full));
        }
        queue.bytes += bytes;
        queue.pending.push_back(Pending { batch, class, done: Box::new(done) });
        let wake = queue.pending.len() >= queue.wake_at || (queue.wake_at != NOT_ASLEEP && queue.bytes >= COMMIT_BYTES);
        shared.metrics.queued_bytes.store(queue.bytes as u64, Ordering::Relaxed);
        drop(queue);
        if wake {
            shared.queue_changed.notify_one();
        }
        Ok(())
    }

    /// [`Appender::append`], waiting until the batch is committed or has failed. For catalog changes and tests.
    pub fn append_and_wait(&self, batch: Batch, class: Class) -> Result<Committed, AppendError> {
        let (answer, committed) = std::sync::mpsc::sync_channel(1);
        self.append(batch, class, move |result| {
            let _ = answer.send(result);
        })
        .map_err(|(_, error)| error)?;
        committed.recv().unwrap_or(Err(AppendError::Closed))
    }

    fn refusal(&self, batch: &Batch, class: Class) -> Option<AppendError> {
        if let Some(reason) = self.shared.failed.get() {
            return Some(AppendError::Failed(reason.clone()));
        }
        if batch.bytes() > MAX_BATCH_BYTES {
            return Some(AppendError::TooLarge { bytes: batch.bytes(), limit: MAX_BATCH_BYTES });
        }
        let allowed = match class {
            Class::Client => Space::Enough,
            Class::System => Space::Low,
        };
        if self.shared.space() > allowed {
            add(&self.shared.metrics.refused_low_space, 1);
            return Some(AppendError::LowSpace);
        }
        None
    }
}

/// What the writer's thread is to do next.
pub(super) enum Work {
    Commit(Vec<Pending>),
    /// Nothing came in the time that idle work left.
    Idle,
    Closed,
}

impl Shared {
    /// Waits for batches, at most `idle` long; then, if the last commit had several, up to the commit window until as
    /// many wait again. In-order clients send their next message only after an acknowledgement, so right after a commit
    /// few wait and most are about to: committing at once would make one sync for each of the first.
    pub(super) fn wait_for_work(&self, idle: Duration, expected: usize) -> Work {
        let mut queue = lock(&self.queue);
        if queue.pending.is_empty() && !queue.closing {
            queue.wake_at = 1;
            queue = self.queue_changed.wait_timeout(queue, idle).unwrap_or_else(PoisonError::into_inner).0;
            queue.wake_at = NOT_ASLEEP;
        }
        if queue.pending.is_empty() {
            return if queue.closing { Work::Closed } else { Work::Idle };
        }
        let window = self.config.commit_window;
        if self.config.durability == Durability::Sync && queue.pending.len() < expected && !window.is_zero() {
            let too_few = |q: &mut Queue| q.pending.len() < expected && q.bytes < COMMIT_BYTES && !q.closing;
            queue.wake_at = expected;
            let waited = self.queue_changed.wait_timeout_while(queue, window, too_few);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            queue.wake_at = NOT_ASLEEP;
        }
        Work::Commit(self.take(&mut queue))
    }

    /// What waits, up to the size of one commit.
    pub(super) fn take(&self, queue: &mut Queue) -> Vec<Pending> {
        let mut bytes = 0;
        let fitting = queue.pending.iter().take_while(|p| {
            bytes += p.batch.bytes();
            bytes <= COMMIT_BYTES
        });
        let count = fitting.count().max(1).min(queue.pending.len());
        let taken: Vec<Pending> = queue.pending.drain(..count).collect();
        queue.bytes -= taken.iter().map(|p| p.batch.bytes()).sum::<usize>();
        self.metrics.queued_bytes.store(queue.bytes as u64, Ordering::Relaxed);
        taken
    }
}
