//! The log as its owner holds it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::pack;
use super::reader::first_epoch;
use super::recover::{Recovered, io_error, recover};
use super::shared::{Shared, Space, View, lock};
use super::tail::Tail;
use super::time::LogTime;
use super::writer::Writer;
use super::{Appender, Epoch, LogConfig, LogHealth, LogMetrics, Offset, OpenError, ReadError, Reader, Recovery};
use crate::clock::Clock;
use crate::disk::{Disk, DiskFile};

/// An open log. Dropping it shuts it down.
pub struct Log {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    packer: Mutex<Option<JoinHandle<()>>>,
    /// Held so that no other process opens the log.
    _lock: Arc<dyn DiskFile>,
}

impl Log {
    /// Opens the log in `config.dir`, or begins one, and starts its writer. Epochs will be above `floor`: give it the
    /// highest epoch that anything outside the log remembers (marks, checkpoints).
    pub fn open(
        config: LogConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        floor: Epoch,
    ) -> Result<(Self, Recovery), OpenError> {
        let dir = config.dir.clone();
        let (log, stepper, recovery) = Self::open_stepped(config, disk, clock, floor)?;
        let writer = std::thread::Builder::new().name("log-writer".into());
        let thread = writer.spawn(move || stepper.writer.run()).map_err(io_error("start the writer of", &dir))?;
        *lock(&log.writer) = Some(thread);
        let packer = std::thread::Builder::new().name("log-packer".into());
        let shared = Arc::clone(&log.shared);
        let thread = packer.spawn(move || pack::run(&shared)).map_err(io_error("start the compression of", &dir))?;
        *lock(&log.packer) = Some(thread);
        Ok((log, recovery))
    }

    /// [`Log::open`] without a thread: commits happen in [`Stepper::step`]. For simulation, where the caller decides what
    /// happens when.
    pub fn open_stepped(
        config: LogConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        floor: Epoch,
    ) -> Result<(Self, Stepper, Recovery), OpenError> {
        disk.create_dir_all(&config.dir).map_err(io_error("create", &config.dir))?;
        let lock_path = config.dir.join("LOCK");
        let held = disk.lock(&lock_path).map_err(|source| match source.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::Locked { dir: config.dir.clone() },
            _ => io_error("lock", &lock_path)(source),
        })?;
        let Recovered { id, segments, file, base, end, chain, recovery } = recover(&config, &*disk, &*clock, floor)?;
        let max_jump_us = u64::try_from(config.max_clock_jump.as_micros()).unwrap_or(u64::MAX);
        let time = LogTime::new(clock.monotonic_us(), clock.wall_us(), chain.epoch.max(floor).0, max_jump_us);
        let view = View { segments, visible: end, chain, tail: Tail::default(), closed: false };
        let shared = Arc::new(Shared::new(config, disk, clock, id, view, time));
        let mut writer = Writer::new(Arc::clone(&shared), file, base, end, chain);
        writer.idle_work();
        let log = Self { shared, writer: Mutex::default(), packer: Mutex::default(), _lock: held };
        Ok((log, Stepper { writer }, recovery))
    }

    /// Something to append with.
    pub fn appender(&self) -> Appender {
        Appender { shared: Arc::clone(&self.shared) }
    }

    /// Reads every commit after `from`, those to come included.
    pub fn reader(&self, from: Epoch) -> Result<Reader, ReadError> {
        Reader::new(Arc::clone(&self.shared), from)
    }

    /// The log holds every commit after this epoch: the lowest one that [`Log::reader`] accepts. 0 if nothing was ever
    /// dropped.
    pub fn first_epoch(&self) -> Epoch {
        first_epoch(&lock(&self.shared.view))
    }

    /// The last commit that readers see.
    pub fn last_epoch(&self) -> Epoch {
        lock(&self.shared.view).chain.epoch
    }

    /// The number of the last record that readers see.
    pub fn last_offset(&self) -> Offset {
        Offset(lock(&self.shared.view).chain.next_offset.0 - 1)
    }

    /// Log time in ms since 1970: the time of receipt of what comes now.
    pub fn now_ms(&self) -> i64 {
        (self.log_time_us() / 1000) as i64
    }

    /// Log time in µs since 1970.
    pub fn log_time_us(&self) -> u64 {
        self.shared.log_time_us()
    }

    /// Asks for a tick: when log time has passed this epoch and no commit has, one with a single
    /// [`super::RecordKind::Tick`] is made, at most ten a second. Replaces the last wish; `None` withdraws it.
    pub fn set_tick_deadline(&self, deadline: Option<Epoch>) {
        let new = deadline.map_or(u64::MAX, |epoch| epoch.0);
        let old = self.shared.tick_deadline.swap(new, Ordering::Relaxed);
        // A later wish needs no call: the writer wakes for the earlier one and looks again.
        if new < old || old <= self.last_epoch().0 {
            drop(lock(&self.shared.queue));
            self.shared.queue_changed.notify_one();
        }
    }

    /// Nobody needs what is at or below this epoch any more: segments of only such commits are dropped if they are also
    /// beyond `keep_bytes` or `keep_age`. Says how many went.
    pub fn retain(&self, below: Epoch) -> Result<usize, OpenError> {
        self.shared.retain(below)
    }

    /// How the log is.
    pub fn health(&self) -> LogHealth {
        let space = self.shared.space();
        let time = lock(&self.shared.time);
        let (clock_jumps, last_clock_jump_us) = time.jumps();
        LogHealth {
            failed: self.shared.failed.get().map(|reason| reason.to_string()),
            low_space: space >= Space::Low,
            reserve_used: space == Space::None,
            free_bytes: self.shared.free_bytes.load(Ordering::Relaxed),
            clock_jumps,
            last_clock_jump_us,
            behind_wall_us: time.behind_wall_us(),
        }
    }

    /// Counters.
    pub fn metrics(&self) -> &LogMetrics {
        &self.shared.metrics
    }

    /// Bytes of the log's segments on the disk.
    pub fn size_bytes(&self) -> u64 {
        lock(&self.shared.view).stored_bytes()
    }

    /// Commits what waits, refuses what comes, and returns when the writer has ended. Readers get what is there, then
    /// [`ReadError::Closed`].
    pub fn shutdown(&self) {
        lock(&self.shared.queue).closing = true;
        self.shared.queue_changed.notify_one();
        let writer = lock(&self.writer).take();
        // The last owner may be a `done` callback, which runs on the writer's thread.
        if let Some(writer) = writer.filter(|w| w.thread().id() != std::thread::current().id()) {
            let _ = writer.join();
            // A writer that panicked has told nobody.
            lock(&self.shared.view).closed = true;
            let _ = self.shared.sealed.0.try_send(());
            if let Some(packer) = lock(&self.packer).take() {
                let _ = packer.join();
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// The writer of a log that was opened without a thread.
pub struct Stepper {
    writer: Writer,
}

impl Stepper {
    /// Commits what waits, and does what is due without anybody appending. Says how many batches were answered.
    pub fn step(&mut self) -> usize {
        let shared = Arc::clone(&self.writer.shared);
        let mut answered = 0;
        loop {
            let batches = shared.take(&mut lock(&shared.queue));
            if batches.is_empty() {
                break;
            }
            answered += batches.len();
            self.writer.commit(batches);
        }
        self.writer.idle_work();
        for base in pack::unpacked(&shared) {
            let _ = pack::pack(&shared, base);
        }
        answered
    }

    /// Ends the log in an orderly way.
    pub fn finish(mut self) {
        self.step();
        self.writer.finish();
    }
}
