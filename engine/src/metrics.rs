//! Counters that everyone may read and the owner of a thing increments.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter or gauge.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Sets it, for gauges.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one rule did since the process started.
#[derive(Debug, Default)]
pub struct RuleStats {
    /// Messages whose topic matched.
    pub matched: Counter,
    /// Rows that passed WHERE.
    pub passed: Counter,
    /// Rows taken by a sink, once for each action.
    pub delivered: Counter,
    /// Rows that an action refused.
    pub failed: Counter,
    /// The last failure.
    pub last_error: Mutex<Option<String>>,
    /// For each path that the rule reads: how many messages it was looked for in, and how many had nothing there.
    pub undefined: Mutex<Vec<UndefinedShare>>,
}

/// How often a path was Undefined.
#[derive(Clone, Debug)]
pub struct UndefinedShare {
    /// The path as written.
    pub path: String,
    /// Messages it was looked for in.
    pub seen: u64,
    /// Of those, without a value there.
    pub undefined: u64,
}

impl RuleStats {
    /// Counts `rows` failed rows and keeps the reason.
    pub fn fail(&self, rows: u64, reason: &str) {
        self.failed.add(rows);
        if let Ok(mut last) = self.last_error.lock() {
            *last = Some(reason.to_owned());
        }
    }

    /// Adds the counts of one evaluated batch.
    pub fn count_undefined(&self, counts: impl IntoIterator<Item = (String, u64, u64)>) {
        let Ok(mut shares) = self.undefined.lock() else { return };
        for (path, seen, undefined) in counts {
            match shares.iter_mut().find(|share| share.path == path) {
                Some(share) => {
                    share.seen += seen;
                    share.undefined += undefined;
                }
                None => shares.push(UndefinedShare { path, seen, undefined }),
            }
        }
    }
}

/// What the engine did since the process started.
#[derive(Debug, Default)]
pub struct EngineMetrics {
    /// Steps handed to the workers.
    pub steps: Counter,
    /// Records in them, of every kind.
    pub records: Counter,
    /// Bytes in them.
    pub bytes: Counter,
    /// Bytes handed out and not yet accepted by every sink (gauge).
    pub in_flight_bytes: Counter,
    /// The epoch up to which every sink has accepted everything (gauge).
    pub frontier_us: Counter,
    /// Derived records appended to the log.
    pub derived: Counter,
    /// Derived records refused for too many hops.
    pub hop_limited: Counter,
    /// Window rows emitted.
    pub window_rows: Counter,
    /// Windows open (gauge, over all workers).
    pub windows_open: Counter,
    /// Checkpoints written.
    pub checkpoints: Counter,
    /// The epoch of the newest valid checkpoint (gauge).
    pub checkpoint_us: Counter,
}
