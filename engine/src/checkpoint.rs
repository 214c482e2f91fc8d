//! Checkpoints: operator state at an epoch, valid once every sink has taken that epoch.
//!
//! The reader marks a step; each worker snapshots its state when it is through with that step; a thread of its own
//! collects the parts, waits for the sinks, writes the file and lets the log drop what lies below the older of the two
//! kept checkpoints.
//!
//! # Parts of a checkpoint file
//! `catalog` (see [`crate::catalog`]), `windows/<worker>` (see [`crate::operators::window`]) and `timers/<worker>` (see
//! [`crate::operators::absence`]). Groups and timers are found by their key's hash, so a checkpoint written by one number
//! of workers is read by any other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use hedgerow_storage::checkpoint::Checkpoints;
use hedgerow_storage::log::{Epoch, Log};
use hedgerow_storage::table::Tables;

use crate::SEMANTICS;
use crate::metrics::EngineMetrics;
use crate::sink::registry::Registry;

/// When steps are marked for a checkpoint: by log time, so that a replay marks none that the first run did not need.
#[derive(Debug)]
pub struct Schedule {
    interval_us: u64,
    last: AtomicU64,
    /// A marked checkpoint has not been written yet: no second one is begun.
    pending: AtomicBool,
    /// The next step is to be a checkpoint, whatever the time.
    demanded: AtomicBool,
}

impl Schedule {
    /// A checkpoint every `interval` of log time, the first one `interval` after `last`.
    pub fn new(interval: Duration, last: Epoch) -> Self {
        let interval_us = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
        Self {
            interval_us,
            last: AtomicU64::new(last.0),
            pending: AtomicBool::new(false),
            demanded: AtomicBool::new(false),
        }
    }

    /// Asks for a checkpoint at the end of the next step.
    pub fn demand(&self) {
        self.demanded.store(true, Ordering::Release);
    }

    /// Whether a checkpoint was asked for or marked, and is not written.
    pub fn is_under_way(&self) -> bool {
        self.demanded.load(Ordering::Acquire) || self.pending.load(Ordering::Acquire)
    }

    /// Whether the step that ends at `end` is to be a checkpoint. Asked once a step, by the reader.
    pub fn is_due(&self, end: Epoch) -> bool {
        let over = end.0.saturating_sub(self.last.load(Ordering::Acquire)) >= self.interval_us;
        let due = over || self.demanded.load(Ordering::Acquire);
        if !due || self.pending.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.demanded.store(false, Ordering::Release);
        self.last.store(end.0, Ordering::Release);
        true
    }

    fn written(&self) {
        self.pending.store(false, Ordering::Release);
    }
}

/// One worker's share of a checkpoint.
#[derive(Debug)]
pub struct Part {
    /// The step's end.
    pub epoch: Epoch,
    /// Its name in the file.
    pub name: String,
    /// Its bytes, in pieces that follow each other: large state is put together here, not on the worker's time.
    pub bytes: Vec<Vec<u8>>,
}

/// The thread that writes checkpoints.
pub struct Writer {
    /// Where they go.
    pub files: Checkpoints,
    /// Who has to have taken the epoch.
    pub registry: Arc<Registry>,
    /// Whose retention follows.
    pub log: Arc<Log>,
    /// Whose history is kept as far back.
    pub tables: Tables,
    /// When the next one is marked.
    pub schedule: Arc<Schedule>,
    /// Counters.
    pub metrics: Arc<EngineMetrics>,
    /// How many parts make a checkpoint: windows and timers from every worker, and the catalog from worker 0.
    pub parts: usize,
    /// Consumers other than the engine that still read the log, as the epoch each has finished with.
    pub other_readers: Arc<dyn Fn() -> Option<Epoch> + Send + Sync>,
}

impl Writer {
    /// Starts the thread; parts go into the returned channel.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn spawn(mut self) -> std::io::Result<(Sender<Part>, JoinHandle<()>)> {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let thread =
            std::thread::Builder::new().name("hedgerow-checkpoint".into()).spawn(move || self.run(&receiver))?;
        Ok((sender, thread))
    }

    fn run(&mut self, parts: &Receiver<Part>) {
        const POLL: Duration = Duration::from_millis(50);
        let mut collected: BTreeMap<Epoch, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
        let mut open = true;
        while open {
            match parts.recv_timeout(POLL) {
                Ok(part) => {
                    collected.entry(part.epoch).or_default().insert(part.name, part.bytes.concat());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
            self.write_ready(&mut collected);
        }
    }

    /// Writes the oldest checkpoint that is complete and taken by every sink.
    fn write_ready(&mut self, collected: &mut BTreeMap<Epoch, BTreeMap<String, Vec<u8>>>) {
        let Some(entry) = collected.first_entry() else { return };
        let epoch = *entry.key();
        if entry.get().len() < self.parts {
            return;
        }
        if self.registry.taken() < epoch {
            self.registry.seal(epoch);
            return;
        }
        let parts = entry.remove();
        let parts: Vec<(&str, &[u8])> = parts.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        match self.files.write(epoch.0, SEMANTICS, &parts) {
            Ok(()) => {
                self.metrics.checkpoints.add(1);
                self.metrics.checkpoint_us.set(epoch.0);
                self.retain();
            }
            Err(error) => tracing::error!(%error, "the checkpoint was not written; the previous one stays in force"),
        }
        self.schedule.written();
    }

    /// Lets the log drop what neither kept checkpoint nor any other reader needs.
    fn retain(&self) {
        let Some(oldest) = self.files.log_floor().map(Epoch) else { return };
        self.metrics.replay_floor_us.set(oldest.0);
        if let Err(error) = self.tables.forget_history(oldest.0) {
            tracing::warn!(%error, "old rows of tables that rules look up stay; they go with the next checkpoint");
        }
        let below = (self.other_readers)().map_or(oldest, |reader| reader.min(oldest));
        if let Err(error) = self.log.retain(below) {
            tracing::warn!(%error, "old log segments stay; they are dropped with the next checkpoint");
        }
    }
}
