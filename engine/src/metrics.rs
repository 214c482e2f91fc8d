//! Counters that everyone may read and the owner of a thing increments.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A counter or gauge.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes `n` away, for gauges.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
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
    /// Messages whose topic matched, but for those that its classes count.
    matched: Counter,
    /// Rows that passed WHERE.
    pub passed: Counter,
    /// Rows taken by a sink, once for each action.
    pub delivered: Counter,
    /// Rows that an action refused.
    pub failed: Counter,
    /// The last failure.
    pub last_error: Mutex<Option<String>>,
    /// Timers that went off (rules with AFTER).
    pub notices: Counter,
    /// Presence events passed over, since a newer one of their client was known.
    pub stale: Counter,
    /// Timers, by worker.
    timers: Mutex<BTreeMap<usize, TimerStatus>>,
    /// For each path that the rule reads: how many messages it was looked for in, and how many had nothing there; but for
    /// what its classes count.
    undefined: Mutex<Vec<UndefinedShare>>,
    /// The classes that the rule is in, each with the places of the rule's paths.
    classes: Mutex<Vec<(Arc<ClassCounts>, Vec<usize>)>>,
}

/// What all rules that match the same topics count alike, so that a batch counts it once and not for each of them.
#[derive(Debug)]
pub struct ClassCounts {
    matched: Counter,
    /// Paths that the rules read, and in how many messages each was Undefined.
    paths: Vec<(Arc<str>, Counter)>,
    /// Nothing will be counted here any more.
    closed: AtomicBool,
}

impl ClassCounts {
    /// Counts for rules that read these paths.
    pub fn new(paths: &[Arc<str>]) -> Self {
        let paths = paths.iter().map(|path| (Arc::clone(path), Counter::default())).collect();
        Self { matched: Counter::default(), paths, closed: AtomicBool::new(false) }
    }

    /// Counts a batch of messages, and in how many of them each path was Undefined.
    pub fn add(&self, messages: u64, undefined: &[u64]) {
        self.matched.add(messages);
        for ((_, counter), undefined) in self.paths.iter().zip(undefined) {
            counter.add(*undefined);
        }
    }

    /// The rules are not evaluated together any more.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
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

/// The keys of a rule with AFTER.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimerStatus {
    /// Keys that wait for their deadline.
    pub armed: u64,
    /// Keys noticed, until UNLESS is true again.
    pub fired: u64,
    /// The next deadline, in microseconds of log time, and its key as JSON text.
    pub next: Option<(u64, String)>,
}

impl RuleStats {
    /// The rule's keys on all workers.
    pub fn timers(&self) -> TimerStatus {
        let timers = self.timers.lock().unwrap_or_else(PoisonError::into_inner);
        timers.values().fold(TimerStatus::default(), |all, one| TimerStatus {
            armed: all.armed + one.armed,
            fired: all.fired + one.fired,
            next: all.next.into_iter().chain(one.next.clone()).min(),
        })
    }

    /// The rule's keys on one worker.
    pub fn set_timers(&self, worker: usize, status: TimerStatus) {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner).insert(worker, status);
    }

    /// A worker has discarded the rule's keys.
    pub fn forget_timers(&self, worker: usize) {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner).remove(&worker);
    }

    /// Counts `rows` failed rows and keeps the reason.
    pub fn fail(&self, rows: u64, reason: &str) {
        self.failed.add(rows);
        if let Ok(mut last) = self.last_error.lock() {
            *last = Some(reason.to_owned());
        }
    }

    /// The rule is in a class from now on, which reads the rule's paths at these places.
    pub fn join(&self, class: &Arc<ClassCounts>, paths: &[usize]) {
        let Ok(mut classes) = self.classes.lock() else { return };
        for (closed, paths) in classes.extract_if(.., |(class, _)| class.closed.load(Ordering::Acquire)) {
            self.matched.add(closed.matched.get());
            if let Ok(mut shares) = self.undefined.lock() {
                add_shares(&mut shares, &closed, &paths);
            }
        }
        classes.push((Arc::clone(class), paths.to_vec()));
    }

    /// Counts messages whose topic matched, for a rule that is in no class.
    pub fn count_matched(&self, messages: u64) {
        self.matched.add(messages);
    }

    /// Messages whose topic matched.
    pub fn matched(&self) -> u64 {
        let classes = self.classes.lock();
        let of_classes = classes.map(|classes| classes.iter().map(|(class, _)| class.matched.get()).sum());
        self.matched.get() + of_classes.unwrap_or(0)
    }

    /// For each path that the rule reads: how many messages it was looked for in, and how many had nothing there.
    pub fn undefined(&self) -> Vec<UndefinedShare> {
        let Ok(classes) = self.classes.lock() else { return Vec::new() };
        let mut shares = self.undefined.lock().map(|shares| shares.clone()).unwrap_or_default();
        classes.iter().for_each(|(class, paths)| add_shares(&mut shares, class, paths));
        shares
    }
}

fn add_shares(shares: &mut Vec<UndefinedShare>, class: &ClassCounts, paths: &[usize]) {
    let seen = class.matched.get();
    for (path, undefined) in paths.iter().filter_map(|place| class.paths.get(*place)) {
        match shares.iter_mut().find(|share| *share.path == **path) {
            Some(share) => {
                share.seen += seen;
                share.undefined += undefined.get();
            }
            None => shares.push(UndefinedShare { path: path.to_string(), seen, undefined: undefined.get() }),
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
    /// Calls of other systems made for rules.
    pub calls: Counter,
    /// Those that gave no answer, and lookups that could not be made.
    pub calls_failed: Counter,
    /// Messages that wait for an answer, or for tables to look something up in (gauge).
    pub calls_waiting: Counter,
    /// Rows looked up.
    pub lookups: Counter,
    /// Checkpoints written.
    pub checkpoints: Counter,
    /// The epoch below which nothing is ever replayed (gauge).
    pub replay_floor_us: Counter,
    /// The epoch of the newest valid checkpoint (gauge).
    pub checkpoint_us: Counter,
}
