//! One write and one sync a commit; answers go out only after it.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::commit::{Chain, Commit, CommitHeader};
use super::config::add;
use super::queue::{Pending, Work};
use super::segment::{self, SEGMENT_HEADER, Segment, SegmentHeader};
use super::shared::{Shared, Space, lock};
use super::tail::Recent;
use super::{AppendError, Batch, Class, Committed, Durability, Epoch, Position, RecordFields, RecordKind};
use crate::disk::{DiskFile, is_full};
use crate::fault;

/// The end of the log, where commits are added. There is one.
pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub file: Arc<dyn DiskFile>,
    /// Position of the file's first byte.
    pub base: Position,
    /// End of the last commit.
    pub end: Position,
    pub synced_to: Position,
    pub chain: Chain,
    /// Whether bytes of a commit that did not fit the disk may lie after the end.
    dirty_tail: bool,
    must_roll: bool,
    /// Batches in the last commit: how many the next one waits for.
    expected: usize,
    last_sync_us: u64,
    last_commit_us: u64,
    space_checked_us: Option<u64>,
    bytes_since_space_check: u64,
}

/// Ticks come at most this often.
const TICK_INTERVAL_US: u64 = 100_000;
/// Under `Durability::Write`, a sync comes this long after the one before.
const SYNC_INTERVAL_US: u64 = 1_000_000;
/// Free space is looked up this often, and after so many bytes.
const SPACE_INTERVAL_US: u64 = 100_000;
const SPACE_BYTES: u64 = 4 << 20;
/// The writer looks around this often when nothing else is due.
const IDLE: Duration = Duration::from_millis(500);

impl Writer {
    pub fn new(shared: Arc<Shared>, file: Arc<dyn DiskFile>, base: Position, end: Position, chain: Chain) -> Self {
        let now = shared.clock.monotonic_us();
        Self {
            shared,
            file,
            base,
            end,
            synced_to: end,
            chain,
            dirty_tail: false,
            must_roll: false,
            expected: 1,
            last_sync_us: now,
            last_commit_us: 0,
            space_checked_us: None,
            bytes_since_space_check: 0,
        }
    }

    /// Commits what comes, until the log is closed and nothing waits.
    pub fn run(mut self) {
        let _guard = FailOnPanic(Arc::clone(&self.shared));
        loop {
            self.idle_work();
            match self.shared.wait_for_work(self.idle_time(), self.expected) {
                Work::Commit(batches) => self.commit(batches),
                Work::Idle => {}
                Work::Closed => break,
            }
        }
        self.finish();
    }

    /// The last sync, and the end for readers.
    pub fn finish(&mut self) {
        if self.shared.failed.get().is_none() && self.shared.config.durability != Durability::None {
            let _ = self.sync();
        }
        lock(&self.shared.view).closed = true;
        self.shared.view_changed.notify_all();
        let _ = self.shared.sealed.0.try_send(());
    }

    /// What is due without anybody appending: looking for space, syncing, a tick.
    pub fn idle_work(&mut self) {
        let now = self.shared.clock.monotonic_us();
        self.check_space(now);
        if self.shared.failed.get().is_some() {
            return;
        }
        self.sync_if_due(now);
        let deadline = self.shared.tick_deadline.load(Ordering::Relaxed);
        let wanted = deadline > self.chain.epoch.0 && deadline != u64::MAX;
        if wanted && now.saturating_sub(self.last_commit_us) >= TICK_INTERVAL_US {
            let log_time_us = self.shared.log_time_us();
            if log_time_us >= deadline {
                self.tick(log_time_us);
            }
        }
    }

    fn tick(&mut self, log_time_us: u64) {
        let mut batch = Batch::new();
        let time_ms = (log_time_us / 1000) as i64;
        batch.push(&RecordFields { kind: RecordKind::Tick, time_ms, ..Default::default() });
        add(&self.shared.metrics.ticks, 1);
        self.commit(vec![Pending { batch, class: Class::System, done: Box::new(|_| {}) }]);
    }

    /// How long nothing will be due.
    fn idle_time(&self) -> Duration {
        let now = self.shared.clock.monotonic_us();
        let mut idle = IDLE;
        if self.shared.space() != Space::Enough {
            idle = idle.min(Duration::from_micros(SPACE_INTERVAL_US));
        }
        let deadline = self.shared.tick_deadline.load(Ordering::Relaxed);
        if deadline > self.chain.epoch.0 && deadline != u64::MAX {
            let until_deadline = deadline.saturating_sub(self.shared.log_time_us());
            let until_allowed = (self.last_commit_us + TICK_INTERVAL_US).saturating_sub(now);
            idle = idle.min(Duration::from_micros(until_deadline.max(until_allowed).max(50)));
        }
        idle
    }

    /// Writes one commit of all these batches, makes it durable, shows it to readers and answers.
    pub fn commit(&mut self, batches: Vec<Pending>) {
        let now = self.shared.clock.monotonic_us();
        self.check_space(now);
        let batches = self.refuse(batches);
        self.expected = batches.len();
        if batches.iter().all(|p| p.batch.is_empty()) {
            let at = Committed { epoch: self.chain.epoch, first_offset: self.chain.next_offset };
            batches.into_iter().for_each(|p| (p.done)(Ok(at)));
            return;
        }
        let before = self.end;
        let (end, chain) = match self.write(&batches) {
            Ok(written) => written,
            Err(error) => return batches.into_iter().for_each(|p| (p.done)(Err(error.clone()))),
        };
        fault::point("log.after_write_before_sync");
        let must_sync = self.shared.config.durability == Durability::Sync;
        if must_sync && fault::bug("ack_before_sync") {
            self.show(batches, before, end, chain);
            let _ = self.sync();
            return;
        }
        self.end = end;
        if must_sync && let Err(error) = self.sync() {
            return batches.into_iter().for_each(|p| (p.done)(Err(error.clone())));
        }
        fault::point("log.after_sync_before_ack");
        self.last_commit_us = now;
        self.show(batches, before, end, chain);
        self.sync_if_due(now);
    }

    /// Answers those that may not enter; gives back the rest.
    fn refuse(&self, batches: Vec<Pending>) -> Vec<Pending> {
        let (failed, space) = (self.shared.failed.get(), self.shared.space());
        if failed.is_none() && space == Space::Enough {
            return batches;
        }
        let mut rest = Vec::new();
        for pending in batches {
            let no_room = space == Space::None || (space == Space::Low && pending.class == Class::Client);
            match failed {
                Some(reason) => (pending.done)(Err(AppendError::Failed(reason.clone()))),
                None if no_room => {
                    add(&self.shared.metrics.refused_low_space, 1);
                    (pending.done)(Err(AppendError::LowSpace));
                }
                None => rest.push(pending),
            }
        }
        rest
    }

    /// Hands one commit to the operating system; gives the end of the log with it, and what must follow.
    fn write(&mut self, batches: &[Pending]) -> Result<(Position, Chain), AppendError> {
        let body_len: usize = batches.iter().map(|p| p.batch.bytes()).sum();
        let count: usize = batches.iter().map(|p| p.batch.len()).sum();
        let segment_bytes = self.end.0 - self.base.0;
        let is_full = segment_bytes + body_len as u64 > self.shared.config.segment_bytes;
        if self.must_roll || (is_full && segment_bytes > SEGMENT_HEADER as u64) {
            self.roll()?;
        }
        let epoch = Epoch(self.shared.log_time_us().max(self.chain.epoch.0 + 1));
        let frames_crc = batches.iter().fold(0, |crc, p| crc32c::crc32c_append(crc, p.batch.checksums()));
        let header = CommitHeader {
            body_len: body_len as u32,
            epoch,
            first_offset: self.chain.next_offset,
            synced_to: self.synced_to,
            count: count as u32,
            frames_crc,
            link: self.chain.link,
        };
        let (header_bytes, link) = header.encode(self.shared.id, self.end);
        let mut parts = Vec::with_capacity(batches.len() + 1);
        parts.push(IoSlice::new(&header_bytes));
        parts.extend(batches.iter().map(|p| IoSlice::new(p.batch.frames())));
        let written = self.file.write_all_at(self.end.0 - self.base.0, &mut parts);
        written.map_err(|e| self.write_failed("write to", &e))?;
        let chain = Chain { epoch, next_offset: super::Offset(header.first_offset.0 + count as u64), link };
        let total = header.total_len() as u64;
        add(&self.shared.metrics.commits, 1);
        add(&self.shared.metrics.records, count as u64);
        add(&self.shared.metrics.bytes, total);
        self.bytes_since_space_check += total;
        Ok((Position(self.end.0 + total), chain))
    }

    /// A full disk passes; any other failure to write does not.
    fn write_failed(&mut self, what: &str, error: &io::Error) -> AppendError {
        self.dirty_tail = true;
        if is_full(error) {
            self.shared.set_space(Space::None);
            add(&self.shared.metrics.refused_low_space, 1);
            return AppendError::LowSpace;
        }
        let path = segment::path(&self.shared.config.dir, self.base);
        AppendError::Failed(self.shared.fail(format!("cannot {what} {}: {error}", path.display())))
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        if self.synced_to == self.end {
            return Ok(());
        }
        let started = self.shared.clock.monotonic_us();
        if let Err(error) = self.file.sync() {
            let path = segment::path(&self.shared.config.dir, self.base);
            let reason = format!("cannot sync {}: {error}; check the disk, then restart", path.display());
            return Err(AppendError::Failed(self.shared.fail(reason)));
        }
        let now = self.shared.clock.monotonic_us();
        self.last_sync_us = now;
        self.synced_to = self.end;
        add(&self.shared.metrics.syncs, 1);
        add(&self.shared.metrics.sync_us, now.saturating_sub(started));
        Ok(())
    }

    fn sync_if_due(&mut self, now: u64) {
        let due = now.saturating_sub(self.last_sync_us) >= SYNC_INTERVAL_US;
        if due && self.shared.config.durability == Durability::Write {
            let _ = self.sync();
        }
    }

    /// The commit is as durable as promised: readers may see it, and those who wait are answered.
    fn show(&mut self, batches: Vec<Pending>, after: Position, end: Position, chain: Chain) {
        let first_offset = self.chain.next_offset;
        let (mut parts, mut answers) = (Vec::with_capacity(batches.len()), Vec::with_capacity(batches.len()));
        for Pending { batch, done, .. } in batches {
            answers.push((batch.len() as u64, done));
            parts.push(batch.into_frames());
        }
        let count = (chain.next_offset.0 - first_offset.0) as u32;
        let commit = Commit::new(chain.epoch, first_offset, count, parts.into());
        self.end = end;
        self.chain = chain;
        let mut view = lock(&self.shared.view);
        view.visible = end;
        view.chain = chain;
        view.tail.push(Recent { after, end, chain, commit });
        drop(view);
        self.shared.view_changed.notify_all();
        let mut first_offset = first_offset;
        for (records, done) in answers {
            done(Ok(Committed { epoch: chain.epoch, first_offset }));
            first_offset.0 += records;
        }
    }

    /// Ends this segment and begins the next one, in the order that recovery relies on (see `segment`).
    ///
    /// After a failure this segment takes no more commits: part of the next one may be on the disk already, and says
    /// where this one ends.
    fn roll(&mut self) -> Result<(), AppendError> {
        self.must_roll = true;
        if self.dirty_tail {
            self.file.set_len(self.end.0 - self.base.0).map_err(|e| self.write_failed("cut", &e))?;
            self.dirty_tail = false;
            self.synced_to = self.base;
        }
        self.sync()?;
        let shared = Arc::clone(&self.shared);
        let (disk, dir) = (&*shared.disk, &shared.config.dir);
        let created_us = shared.clock.wall_us();
        let header = SegmentHeader { log: shared.id, base: self.end, before: self.chain, created_us };
        let begun = segment::create(disk, dir, &header);
        self.file = begun.map_err(|e| self.write_failed("begin a segment after", &e))?;
        self.must_roll = false;
        self.base = header.base;
        self.end = Position(header.base.0 + SEGMENT_HEADER as u64);
        self.synced_to = self.end;
        let mut view = lock(&shared.view);
        if let Some(last) = view.segments.back_mut() {
            last.end = Some(header.base);
        }
        view.segments.push_back(Segment { base: header.base, end: None, before: self.chain, packed_bytes: None });
        drop(view);
        let _ = shared.sealed.0.try_send(());
        add(&shared.metrics.segments_created, 1);
        Ok(())
    }

    fn check_space(&mut self, now: u64) {
        let recent = self.space_checked_us.is_some_and(|at| now.saturating_sub(at) < SPACE_INTERVAL_US);
        if recent && self.bytes_since_space_check < SPACE_BYTES {
            return;
        }
        self.space_checked_us = Some(now);
        self.bytes_since_space_check = 0;
        let config = &self.shared.config;
        // A disk that cannot say how full it is will say so when it is full.
        let Ok(free) = self.shared.disk.free_space(&config.dir) else { return };
        self.shared.free_bytes.store(free, Ordering::Relaxed);
        self.shared.set_space(if free >= config.min_free_bytes {
            Space::Enough
        } else if free >= config.min_free_bytes.saturating_sub(config.reserve_bytes) {
            Space::Low
        } else {
            Space::None
        });
    }
}

/// A `done` that panics takes the writer with it; then the log has failed, and nobody waits for it in vain.
struct FailOnPanic(Arc<Shared>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("the log's writer has panicked; this is a bug, please report it".into());
            let mut queue = lock(&self.0.queue);
            queue.closing = true;
            queue.pending.clear();
        }
    }
}
