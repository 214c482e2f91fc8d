//! What a log is told at opening, and what it tells about itself.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What an acknowledgement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Synced: survives loss of power.
    #[default]
    Sync,
    /// Handed to the operating system, synced about once a second: survives a killed process.
    Write,
    /// Handed to the operating system, which writes when it likes: survives a killed process.
    None,
}

/// Settings of a log.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The folder that holds the segments, and nothing else.
    pub dir: PathBuf,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// A segment that has this size takes no more commits.
    pub segment_bytes: u64,
    /// How long a commit waits for more, while several appenders wait.
    pub commit_window: Duration,
    /// Bytes that may wait for the writer; system appends have as much again.
    pub max_queued_bytes: usize,
    /// Whether sealed segments are compressed, in the background.
    pub compress: bool,
    /// When the segments take more than this on the disk, the oldest are dropped, if nobody needs them.
    pub keep_bytes: u64,
    /// Segments older than this are dropped, if nobody needs them.
    pub keep_age: Duration,
    /// With less free disk space than this, client appends are refused.
    pub min_free_bytes: u64,
    /// The part of `min_free_bytes` that system appends may still use.
    pub reserve_bytes: u64,
    /// Log time follows at once when the wall clock is ahead by more than this.
    pub max_clock_jump: Duration,
}

impl LogConfig {
    /// The defaults, for a log in this folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            durability: Durability::Sync,
            segment_bytes: 64 << 20,
            commit_window: Duration::from_millis(1),
            max_queued_bytes: 64 << 20,
            compress: true,
            keep_bytes: 10 << 30,
            keep_age: Duration::from_secs(24 * 3600),
            min_free_bytes: 512 << 20,
            reserve_bytes: 256 << 20,
            max_clock_jump: Duration::from_secs(60),
        }
    }
}

/// How the log is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogHealth {
    /// Why the log refuses every append until a restart, if it does.
    pub failed: Option<String>,
    /// Whether client appends are refused for lack of disk space.
    pub low_space: bool,
    /// Whether system appends are refused as well: the reserve is used up.
    pub reserve_used: bool,
    /// Free space at the last look, in bytes.
    pub free_bytes: u64,
    /// How often the wall clock ran ahead by more than `max_clock_jump`.
    pub clock_jumps: u64,
    /// By how many µs, the last time.
    pub last_clock_jump_us: u64,
    /// Wall clock minus log time, in µs: what is still to be made up for.
    pub behind_wall_us: i64,
}

/// Counters since the log was opened; each may be read at any time.
#[derive(Debug, Default)]
pub struct LogMetrics {
    /// Commits written.
    pub commits: AtomicU64,
    /// Of these, idle ticks.
    pub ticks: AtomicU64,
    /// Records in them.
    pub records: AtomicU64,
    /// Bytes in them, headers included.
    pub bytes: AtomicU64,
    /// Syncs of segments.
    pub syncs: AtomicU64,
    /// µs spent in them.
    pub sync_us: AtomicU64,
    /// Bytes waiting for the writer.
    pub queued_bytes: AtomicU64,
    /// Appends refused because too much was waiting.
    pub refused_full: AtomicU64,
    /// Appends refused, or given up, for lack of disk space.
    pub refused_low_space: AtomicU64,
    /// Segments begun.
    pub segments_created: AtomicU64,
    /// Segments compressed.
    pub segments_packed: AtomicU64,
    /// Segments dropped by retention.
    pub segments_dropped: AtomicU64,
    /// Forward steps of the wall clock over `max_clock_jump`.
    pub clock_jumps: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
