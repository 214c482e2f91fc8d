//! What the writer, the appenders and the readers of one log share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_channel::{Receiver, Sender};

use super::commit::Chain;
use super::config::add;
use super::queue::Queue;
use super::segment::{LogId, Segment};
use super::tail::Tail;
use super::time::LogTime;
use super::{LogConfig, LogMetrics, Position};
use crate::clock::Clock;
use crate::disk::Disk;

pub(super) struct Shared {
    pub config: LogConfig,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub id: LogId,
    pub queue: Mutex<Queue>,
    pub queue_changed: Condvar,
    pub view: Mutex<View>,
    pub view_changed: Condvar,
    /// Told when a segment was sealed, or the log closed.
    pub sealed: (Sender<()>, Receiver<()>),
    /// Held while files of segments are removed or replaced.
    pub removing: Mutex<()>,
    pub time: Mutex<LogTime>,
    pub metrics: LogMetrics,
    /// Set once: the log accepts nothing more.
    pub failed: OnceLock<Arc<str>>,
    pub free_bytes: AtomicU64,
    space: AtomicU8,
    /// The epoch for which a tick is wanted; `u64::MAX` for none.
    pub tick_deadline: AtomicU64,
}

/// What readers may see.
#[derive(Debug)]
pub(super) struct View {
    /// Oldest first; the last one takes commits.
    pub segments: VecDeque<Segment>,
    /// End of the last commit that is as durable as promised.
    pub visible: Position,
    /// That commit.
    pub chain: Chain,
    /// It and those before it, for readers that keep up.
    pub tail: Tail,
    pub closed: bool,
}

impl View {
    /// Bytes of the segments on the disk.
    pub fn stored_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.stored_bytes(self.visible)).sum()
    }
}

/// How much disk space is left, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Space {
    Enough = 0,
    /// Client appends are refused.
    Low = 1,
    /// All appends are refused.
    None = 2,
}

impl Shared {
    pub fn new(
        config: LogConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        id: LogId,
        view: View,
        time: LogTime,
    ) -> Self {
        Self {
            config,
            disk,
            clock,
            id,
            queue: Mutex::new(Queue::default()),
            queue_changed: Condvar::new(),
            view: Mutex::new(view),
            view_changed: Condvar::new(),
            sealed: crossbeam_channel::bounded(1),
            removing: Mutex::default(),
            time: Mutex::new(time),
            metrics: LogMetrics::default(),
            failed: OnceLock::new(),
            free_bytes: AtomicU64::new(u64::MAX),
            space: AtomicU8::new(0),
            tick_deadline: AtomicU64::new(u64::MAX),
        }
    }

    pub fn log_time_us(&self) -> u64 {
        let mut time = lock(&self.time);
        let jumps = time.jumps().0;
        let now = time.advance(self.clock.monotonic_us(), self.clock.wall_us());
        add(&self.metrics.clock_jumps, time.jumps().0 - jumps);
        now
    }

    pub fn space(&self) -> Space {
        match self.space.load(Ordering::Relaxed) {
            0 => Space::Enough,
            1 => Space::Low,
            _ => Space::None,
        }
    }

    pub fn set_space(&self, space: Space) {
        let before = self.space.swap(space as u8, Ordering::Relaxed);
        let dir = self.config.dir.display();
        if before == 0 && space != Space::Enough {
            tracing::warn!(%dir, "the log's disk is nearly full: client appends are refused until there is space");
        } else if before != 0 && space == Space::Enough {
            tracing::info!(%dir, "the log's disk has space again: client appends are accepted");
        }
    }

    /// From now on every append is refused.
    pub fn fail(&self, reason: String) -> Arc<str> {
        self.failed
            .get_or_init(|| {
                tracing::error!(reason, "the log has failed and accepts nothing until a restart");
                reason.into()
            })
            .clone()
    }
}

/// A lock whose holder panicked is still good: every critical section here leaves whole values.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
