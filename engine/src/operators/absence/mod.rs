//! Absence: rows that are emitted unless something happens in time (`AFTER … UNLESS … PARTITION BY`).
//!
//! Signals come in by key from all workers: which message disarms or arms which key. They are kept until the frontier
//! has passed their step, and are then taken in (epoch, offset) order; timers due at d go off before messages of epochs
//! ≥ d. So what is noticed depends neither on the number of workers nor on how epochs were cut into steps. A disarm in
//! an epoch at or after the deadline is too late. The operator holds one capability, at its input frontier: a pending
//! timer holds up no mark, and an idle one costs nothing until the log's time reaches its deadline.
//!
//! It may know rules, rows and positions; it reads no clock, and knows no JSON and no sink.
//!
//! | file | idea |
//! |---|---|
//! | `signals` | what a message means for its key; the bytes of a key and its row |
//! | `timers` | the keys of one rule: idle, armed, fired |
//! | `lanes` | timers in the order in which they are due |
//! | `index` | from a key to its slot |
//! | `snapshot`, `store` | timers in a checkpoint |
//! | `emit` | from timers that went off to rows |
//! | `asks` | from timers that went off to messages whose rows look up tables |

mod asks;
mod emit;
mod index;
mod lanes;
mod signals;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hedgerow_sql::rule::Rule;
use hedgerow_storage::fault;

use crate::errors::{ErrorSample, Errors};
use crate::metrics::TimerStatus;
use crate::operators::call::Ask;
use crate::rows::{ActiveRule, RowBatch};
use crate::step::stable_hash;

pub use signals::{Order, Signal, Signals, signals};

use signals::{Kept, key_of};
use store::{StoredKey, take_key};
use timers::{Taken, Timers};

/// What the operator is sent.
pub enum Watched {
    /// Messages that concern rules with AFTER.
    Signals(Signals),
    /// The rules in force from this position on: timers of rules that are gone or changed are discarded.
    Rules {
        /// The worker this copy is for.
        worker: u64,
        /// Epoch and offset.
        position: (u64, u64),
        /// The rules.
        rules: Arc<Vec<Arc<ActiveRule>>>,
    },
}

impl Watched {
    /// The number whose remainder is the worker.
    pub fn route(&self) -> u64 {
        match self {
            Watched::Signals(signals) => signals.worker,
            Watched::Rules { worker, .. } => *worker,
        }
    }
}

/// Keys saved for a checkpoint at once: some milliseconds.
const SAVED_AT_ONCE: usize = 16_384;

/// The operator's state on one worker.
pub struct AbsenceState {
    worker: usize,
    errors: Arc<Errors>,
    rules: BTreeMap<Arc<str>, RuleState>,
    checkpoint: Option<Saving>,
    /// What rules that look up tables ask for, since it was last taken.
    asks: Vec<Ask>,
}

/// One rule and its keys.
struct RuleState {
    rule: Arc<ActiveRule>,
    timers: Timers,
    /// What `system.timers` was told last.
    told: (u64, u64, Option<u64>),
}

/// A checkpoint that is being saved.
struct Saving {
    epoch: u64,
    names: VecDeque<Arc<str>>,
    pieces: Vec<Vec<u8>>,
}

/// The part of a checkpoint, in pieces, and its epoch.
pub type SavedPart = (u64, Vec<Vec<u8>>);

/// The signals of one rule that are still to be taken.
type Waiting = std::iter::Peekable<std::vec::IntoIter<Signal>>;

/// Before every position.
const END: (u64, u64) = (u64::MAX, u64::MAX);

impl AbsenceState {
    /// No timers, under these rules.
    pub fn new(worker: usize, rules: &[Arc<ActiveRule>], errors: Arc<Errors>) -> Self {
        let mut state = Self { worker, errors, rules: BTreeMap::new(), checkpoint: None, asks: Vec::new() };
        state.follow(rules);
        state
    }

    /// The next deadline, in microseconds of log time.
    pub fn next_deadline(&self) -> Option<u64> {
        self.rules.values().filter_map(|state| state.timers.next()).map(|(deadline, _)| deadline).min()
    }

    /// The messages whose timers went off and whose rows look up tables.
    pub fn take_asks(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.asks)
    }

    /// Takes signals in order, letting timers go off in between; then lets go off everything due up to `up_to`. Rows that look
    /// up tables are not there yet: see [`AbsenceState::take_asks`].
    pub fn advance(&mut self, input: Vec<Watched>, up_to: u64, out: &mut Vec<RowBatch>) {
        let mut changes = Vec::new();
        let mut by_rule: BTreeMap<Arc<str>, Vec<Signal>> = BTreeMap::new();
        for item in input {
            match item {
                Watched::Signals(signals) => {
                    let of_rule = by_rule.entry(Arc::clone(&signals.rule.rule.name)).or_default();
                    of_rule.extend(signals.signals);
                }
                Watched::Rules { position, rules, .. } => changes.push((position, rules)),
            }
        }
        let mut waiting: BTreeMap<Arc<str>, Waiting> = BTreeMap::new();
        for (name, mut signals) in by_rule {
            signals.sort_by_key(|signal| signal.position);
            waiting.insert(name, signals.into_iter().peekable());
        }
        changes.sort_by_key(|(position, _)| *position);
        for (position, rules) in changes {
            self.run(&mut waiting, position, position.0, out);
            self.follow(&rules);
        }
        self.run(&mut waiting, END, up_to, out);
        self.rules.values_mut().for_each(|state| state.tell(self.worker));
    }

    /// Takes all signals before `until`, then lets go off what is due up to `up_to`.
    fn run(
        &mut self,
        waiting: &mut BTreeMap<Arc<str>, Waiting>,
        until: (u64, u64),
        up_to: u64,
        out: &mut Vec<RowBatch>,
    ) {
        let mut fired = Vec::new();
        for (name, state) in &mut self.rules {
            if let Some(signals) = waiting.get_mut(name) {
                while let Some(signal) = signals.next_if(|signal| signal.position < until) {
                    let due = signal.position.0.saturating_sub(u64::from(fault::bug("late_disarm")));
                    state.timers.fire(due, &mut fired);
                    let position = signal.position;
                    match state.timers.take(signal) {
                        Taken::Done => {}
                        Taken::Stale => state.rule.stats.stale.add(1),
                        Taken::NoDuration(record) => no_duration(&state.rule, position, &record, &self.errors),
                    }
                }
            }
            state.timers.fire(up_to, &mut fired);
            match state.rule.calling {
                Some(_) => asks::asks(&state.rule, &fired, &mut self.asks),
                None => emit::emit(&state.rule, &fired, out),
            }
            fired.clear();
        }
    }

    /// Keeps the timers of rules that watch as they did; discards the rest.
    fn follow(&mut self, rules: &[Arc<ActiveRule>]) {
        let kept = |name: &str, state: &RuleState| {
            let successor = rules.iter().find(|active| &*active.rule.name == name);
            successor.is_some_and(|active| same_watch(&active.rule, &state.rule.rule))
        };
        if self.checkpoint.is_some() && self.rules.iter().any(|(name, state)| !kept(name, state)) {
            self.save_all();
        }
        let worker = self.worker;
        self.rules.retain(|name, state| {
            let keep = kept(name, state);
            if !keep {
                state.rule.stats.forget_timers(worker);
            }
            keep
        });
        for active in rules.iter().filter(|active| active.rule.select.absence.is_some()) {
            match self.rules.get_mut(&active.rule.name) {
                Some(state) => state.rule = Arc::clone(active),
                None => {
                    let state = RuleState { rule: Arc::clone(active), timers: Timers::default(), told: (0, 0, None) };
                    self.rules.insert(Arc::clone(&active.rule.name), state);
                }
            }
        }
    }

    /// Begins the part of a checkpoint: the state as it is now. [`AbsenceState::saved`] goes on with it.
    pub fn begin_checkpoint(&mut self, epoch: u64) {
        self.rules.values_mut().for_each(|state| state.timers.begin_snapshot());
        let names = self.rules.keys().cloned().collect();
        self.checkpoint = Some(Saving { epoch, names, pieces: vec![store::begin()] });
    }

    /// Whether a checkpoint is being saved.
    pub fn is_saving(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// Goes on with saving, for some milliseconds; the part, once it is complete.
    pub fn saved(&mut self) -> Option<SavedPart> {
        self.save(SAVED_AT_ONCE)
    }

    fn save(&mut self, mut budget: usize) -> Option<SavedPart> {
        let saving = self.checkpoint.as_mut()?;
        while let Some(name) = saving.names.front() {
            if let Some(state) = self.rules.get_mut(name) {
                let keys = state.timers.snapshot(&mut budget)?;
                saving.pieces.push(store::rule_head(name, &keys));
                saving.pieces.extend(keys);
            }
            saving.names.pop_front();
        }
        self.checkpoint.take().map(|saving| (saving.epoch, saving.pieces))
    }

    /// Saves the rest now, since a rule is about to go; the part is handed out by the next call of
    /// [`AbsenceState::saved`].
    fn save_all(&mut self) {
        if let Some((epoch, pieces)) = self.save(usize::MAX) {
            self.checkpoint = Some(Saving { epoch, names: VecDeque::new(), pieces });
        }
    }

    /// Takes over the keys in the parts of a checkpoint that belong to this worker.
    ///
    /// # Errors
    /// When the bytes are not such parts.
    pub fn restore(&mut self, parts: &[&[u8]], mine: impl Fn(u64) -> bool) -> Result<(), String> {
        let mut by_rule: BTreeMap<&str, Vec<StoredKey<'_>>> = BTreeMap::new();
        for part in parts {
            for (name, mut rest) in store::rules(part)? {
                let keys = by_rule.entry(name).or_default();
                while !rest.is_empty() {
                    let unreadable = || format!("timers of the checkpoint: rule {name}: a key cannot be read");
                    let key = take_key(&mut rest).ok_or_else(unreadable)?;
                    if mine(stable_hash(key_of(key.record))) {
                        keys.push(key);
                    }
                }
            }
        }
        for (name, mut keys) in by_rule {
            let Some(state) = self.rules.get_mut(name) else { continue };
            keys.sort_unstable_by_key(|key| (key.after_us, key.due));
            for key in keys {
                state.timers.restore(key.state, key.due, key.after_us, key.order, key.record.into());
            }
            state.tell(self.worker);
        }
        Ok(())
    }

    /// Bytes of memory beside keys and rows.
    pub fn overhead_bytes(&self) -> usize {
        self.rules.values().map(|state| state.timers.overhead_bytes()).sum()
    }
}

impl RuleState {
    /// Tells `system.timers`, if there is news.
    fn tell(&mut self, worker: usize) {
        let next = self.timers.next();
        let now = (self.timers.armed(), self.timers.fired(), next.map(|(deadline, _)| deadline));
        if now != self.told {
            self.told = now;
            let next = next.map(|(deadline, key)| (deadline, String::from_utf8_lossy(key).into_owned()));
            self.rule.stats.set_timers(worker, TimerStatus { armed: now.0, fired: now.1, next });
        }
    }
}

/// Counts a message that would have armed its key.
fn no_duration(rule: &ActiveRule, (epoch, offset): (u64, u64), record: &[u8], errors: &Errors) {
    let reason = "AFTER is no number of seconds above 0 and up to 366 days: the timer is not armed";
    rule.stats.fail(1, reason);
    let kept = Kept::read(record);
    let text = |of: Option<&str>| of.unwrap_or_default().to_owned();
    errors.push(ErrorSample {
        epoch,
        offset,
        time_ms: (epoch / 1_000).cast_signed(),
        rule: rule.rule.name.to_string(),
        target: String::new(),
        topic: text(kept.as_ref().map(|kept| kept.topic)),
        client_id: text(kept.as_ref().map(|kept| kept.client_id)),
        reason: reason.to_owned(),
        sample: String::from_utf8_lossy(key_of(record)).into_owned(),
    });
}

/// Whether timers armed under one text may go on under another: the same messages mean the same for the same keys, and
/// the texts kept with the rows are those that the actions need. What is armed keeps the row it was armed with; or, if the
/// rule looks up tables, the message, and its row is made by the rule in force at the deadline.
pub fn same_watch(new: &Rule, old: &Rule) -> bool {
    let filter = |rule: &Rule| rule.select.from.as_ref().map(|(filter, _)| Arc::clone(filter));
    new.select.absence.is_some()
        && new.select.absence == old.select.absence
        && new.select.set == old.select.set
        && filter(new) == filter(old)
        && new.select.presence == old.select.presence
        && new.asks() == old.asks()
        && new.templates() == old.templates()
}
