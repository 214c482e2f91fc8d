//! Call: the rows of rules that ask other systems, once the answers are there.
//!
//! A message that needs an answer is kept here, its request goes to a [`Caller`] or, for `get_dynamodb`, to the tables,
//! and nobody waits: when the answer comes, the rule is evaluated again, which may bring the next request or a row. The
//! operator holds one capability, at the oldest time that something still waits for, so no sink's mark passes a row that
//! is not there yet; after a crash the replay asks again. So is a message for which a call has failed, until that is
//! kept for the rule's error action ([`crate::failed_calls`]).
//!
//! These rows take a lane of their own to their sinks. Rows of other rules are delivered meanwhile, and have other marks.
//! Only where both kinds go into one sink, or one table, are they delivered together, in the one order of the system.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use hedgerow_sql::message::{Message, Properties};
use hedgerow_sql::program::{Answer, Answers, Reject, Request, RuleRows};
use hedgerow_sql::value::Value;
use hedgerow_storage::log::{Epoch, Record};
use hedgerow_storage::outbox::{Entry, FailedCall, Position};

use crate::call::{Caller, Reply};
use crate::error_action::has_error_action;
use crate::errors::{ErrorSample, Errors, excerpt};
use crate::failed_calls::FailedCalls;
use crate::lookup::Lookups;
use crate::metrics::EngineMetrics;
use crate::rows::{ActiveRule, Origins, RowBatch};
use crate::sink::registry::Registry;
use crate::source::InFlight;

/// Calls of one worker under way at once, at most. Further ones fail: somebody answers far too slowly.
const UNDER_WAY: usize = 65_536;
/// What a waiting message costs besides its bytes.
const MESSAGE_BYTES: usize = 256;

/// What the operator is sent.
pub enum Called {
    /// Rows of such a rule that needed no answer.
    Rows(RowBatch),
    /// A message that needs one.
    Ask(Ask),
}

/// A message, the rule that it is for, and what has to be asked first.
pub struct Ask {
    /// The rule.
    pub rule: Arc<ActiveRule>,
    /// The message.
    pub message: KeptMessage,
    /// What is asked first; none if the message was not evaluated yet.
    pub request: Option<Request>,
}

/// A message that outlives its step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptMessage {
    pub(super) epoch: u64,
    pub(super) offset: u64,
    pub(super) time_ms: i64,
    pub(super) hops: u8,
    pub(super) topic: Arc<str>,
    pub(super) client_id: Arc<str>,
    pub(super) principal: Box<str>,
    pub(super) address: Box<str>,
    pub(super) properties: Box<[u8]>,
    pub(super) payload: Box<[u8]>,
    /// Of a timer that went off: its deadline. The row stands there, and sees the tables as they were before.
    pub(super) deadline: Option<u64>,
}

impl KeptMessage {
    /// A copy of a record.
    pub fn new(epoch: u64, record: &Record<'_>) -> Self {
        Self {
            epoch,
            offset: record.offset.0,
            time_ms: record.time_ms,
            hops: record.hops,
            topic: record.topic.into(),
            client_id: record.client_id.into(),
            principal: record.principal.into(),
            address: record.address.into(),
            properties: record.properties.into(),
            payload: record.payload.into(),
            deadline: None,
        }
    }

    fn message(&self) -> Message<'_> {
        let present = |text: &'_ str| !text.is_empty();
        Message {
            client_id: Some(&*self.client_id).filter(|text| present(text)),
            principal: Some(&*self.principal).filter(|text| present(text)),
            source_ip: Some(&*self.address).filter(|text| present(text)),
            epoch: self.epoch,
            offset: self.offset,
            properties: Properties::new(&self.properties),
            ..Message::new(&self.topic, &self.payload, self.time_ms)
        }
    }

    /// The epoch of its row.
    fn at(&self) -> u64 {
        self.deadline.unwrap_or(self.epoch)
    }

    /// Where its row stands in the one order of the system.
    fn position(&self) -> Position {
        Position { epoch: self.at(), record: self.deadline.is_none(), offset: self.offset }
    }

    /// The message as what a rule failed for.
    fn entry(&self, rule: &str, has_error_action: bool) -> Entry {
        Entry {
            position: self.position(),
            rule: rule.to_owned(),
            time_ms: self.time_ms,
            topic: self.topic.to_string(),
            client_id: self.client_id.to_string(),
            body: self.payload.to_vec(),
            original: has_error_action.then(|| self.payload.to_vec()),
            ..Entry::default()
        }
    }

    fn bytes(&self) -> usize {
        self.payload.len() + self.properties.len() + self.topic.len() + MESSAGE_BYTES
    }
}

/// The number of what waits for it, and the answer.
type Answered = (u64, Answer);

/// A message that waits.
struct Waiting {
    time: u64,
    rule: Arc<ActiveRule>,
    message: KeptMessage,
    answers: Answers,
    request: Option<Request>,
}

/// The operator's state on one worker.
pub struct Calls {
    caller: Arc<dyn Caller>,
    lookups: Lookups,
    errors: Arc<Errors>,
    metrics: Arc<EngineMetrics>,
    in_flight: Arc<InFlight>,
    registry: Arc<Registry>,
    failed_calls: Option<FailedCalls>,
    replayed: Epoch,
    answers: (Sender<Answered>, Receiver<Answered>),
    wake: Arc<dyn Fn() + Send + Sync>,
    waiting: BTreeMap<u64, Waiting>,
    /// Of everything that waits: its time and number.
    times: BTreeSet<(u64, u64)>,
    /// Messages for which a call failed, until that is kept, and the numbers of those for which it is.
    failed: BTreeMap<u64, (u64, usize)>,
    kept: (Sender<u64>, Receiver<u64>),
    /// Of everything that waits for the tables: its epoch and number.
    lookups_at: BTreeSet<(u64, u64)>,
    /// Calls under way.
    asked: usize,
    next: u64,
}

/// What a worker's operator works with.
pub struct Means {
    /// Asks other systems.
    pub caller: Arc<dyn Caller>,
    /// Looks rows up.
    pub lookups: Lookups,
    /// Where failures are told.
    pub errors: Arc<Errors>,
    /// Counters.
    pub metrics: Arc<EngineMetrics>,
    /// What waits here is under way as well.
    pub in_flight: Arc<InFlight>,
    /// Knows which rows are at their sinks already.
    pub registry: Arc<Registry>,
    /// Keeps failed calls for error actions, if there is a place for them.
    pub failed_calls: Option<FailedCalls>,
    /// The end of the log at the start: what lies at or below it may have been there before.
    pub replayed: Epoch,
    /// Has the operator run again.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

impl Calls {
    /// Nothing waits.
    pub fn new(means: Means) -> Self {
        let Means { caller, lookups, errors, metrics, in_flight, registry, failed_calls, replayed, wake } = means;
        Self {
            caller,
            lookups,
            errors,
            metrics,
            in_flight,
            registry,
            failed_calls,
            replayed,
            failed: BTreeMap::new(),
            kept: crossbeam_channel::unbounded(),
            answers: crossbeam_channel::bounded(UNDER_WAY),
            wake,
            waiting: BTreeMap::new(),
            times: BTreeSet::new(),
            lookups_at: BTreeSet::new(),
            asked: 0,
            next: 0,
        }
    }

    /// Takes a message of the step at `time`. What a replay brings again is not asked again if its sinks have it.
    pub fn take(&mut self, time: u64, ask: Ask, out: &mut Vec<(u64, RowBatch)>) {
        let epoch = Epoch(ask.message.at());
        if epoch <= self.replayed && self.is_decided(&ask) {
            return;
        }
        self.in_flight.add(ask.message.bytes());
        let Ask { rule, message, request } = ask;
        // A deadline comes with the time of the operator that emits it, which may be long before. Where rows of this lane are
        // looked up, that would wait for itself; there the lane may stop between any two epochs.
        let time = if rule.epochs_apart { time.max(message.at()) } else { time };
        let is_new = request.is_none();
        let waiting = Waiting { time, rule, message, answers: Answers::default(), request };
        if is_new {
            self.evaluate(vec![waiting], out);
        } else if let Some(ready) = self.ask(waiting) {
            self.evaluate(vec![ready], out);
        }
    }

    /// Whether nothing is to be asked in a replay: the sinks have the rows, or a call has failed before.
    fn is_decided(&self, ask: &Ask) -> bool {
        let position = ask.message.position();
        self.registry.has_taken(&ask.rule, Epoch(position.epoch))
            || self.failed_calls.as_ref().is_some_and(|failed| failed.has(&ask.rule.rule.name, position))
    }

    /// Takes the answers that have come, and gives the rows that they make.
    pub fn advance(&mut self, out: &mut Vec<(u64, RowBatch)>) {
        while let Ok(id) = self.kept.1.try_recv() {
            let Some((time, bytes)) = self.failed.remove(&id) else { continue };
            self.times.remove(&(time, id));
            self.in_flight.done(bytes);
        }
        loop {
            let mut ready: Vec<Waiting> = Vec::new();
            while let Ok((id, answer)) = self.answers.1.try_recv() {
                self.asked = self.asked.saturating_sub(1);
                ready.extend(self.answered(id, answer));
            }
            self.look_up(&mut ready);
            if ready.is_empty() {
                return;
            }
            self.evaluate(ready, out);
        }
    }

    /// Makes the lookups for which the tables have come far enough.
    fn look_up(&mut self, ready: &mut Vec<Waiting>) {
        while let Some((epoch, id)) = self.lookups_at.first().copied() {
            let called = self.waiting.get(&id).is_some_and(|waiting| waiting.rule.waits_for_called);
            if !self.lookups.is_ready(epoch, called) {
                break;
            }
            self.lookups_at.pop_first();
            let Some(waiting) = self.waiting.get(&id) else { continue };
            let args = waiting.request.as_ref().map(|request| request.args.as_slice()).unwrap_or_default();
            let answer = self.lookups.get(args, epoch);
            self.metrics.lookups.add(1);
            ready.extend(self.answered(id, answer));
        }
    }

    /// The oldest time that something waits for.
    pub fn oldest(&self) -> Option<u64> {
        self.times.first().map(|(time, _)| *time)
    }

    fn answered(&mut self, id: u64, answer: Answer) -> Option<Waiting> {
        let mut waiting = self.waiting.remove(&id)?;
        self.times.remove(&(waiting.time, id));
        self.metrics.calls_waiting.sub(1);
        self.metrics.calls_failed.add(u64::from(answer.is_err()));
        if let Some(request) = waiting.request.take() {
            waiting.answers.add(request, answer);
        }
        Some(waiting)
    }

    /// Asks what a message needs next; gives it back if that was decided at once.
    fn ask(&mut self, mut waiting: Waiting) -> Option<Waiting> {
        let id = self.next;
        self.next += 1;
        let Some(request) = waiting.request.clone() else { return Some(waiting) };
        let is_lookup = &*request.function == "get_dynamodb";
        if !is_lookup && self.asked >= UNDER_WAY {
            self.metrics.calls_failed.add(1);
            let reason = format!("{UNDER_WAY} calls are under way already");
            waiting.answers.add(request, Err(reason));
            return Some(waiting);
        }
        self.times.insert((waiting.time, id));
        self.metrics.calls_waiting.add(1);
        if is_lookup {
            self.lookups_at.insert((waiting.message.at(), id));
        } else {
            self.asked += 1;
            self.metrics.calls.add(1);
            let reply = Reply::new(id, self.answers.0.clone(), Arc::clone(&self.wake));
            self.caller.ask(&waiting.rule.rule.name, &request, reply);
        }
        self.waiting.insert(id, waiting);
        None
    }

    /// Evaluates messages with the answers that they have: to rows, or to the next request.
    fn evaluate(&mut self, mut ready: Vec<Waiting>, out: &mut Vec<(u64, RowBatch)>) {
        while !ready.is_empty() {
            ready.sort_by(|a, b| order(a).cmp(&order(b)));
            let mut again = Vec::new();
            for group in groups(ready) {
                again.extend(self.group(group, out));
            }
            ready = again;
        }
    }

    /// Messages of one rule and time.
    fn group(&mut self, group: Vec<Waiting>, out: &mut Vec<(u64, RowBatch)>) -> Vec<Waiting> {
        let Some(first) = group.first() else { return Vec::new() };
        let (time, active) = (first.time, Arc::clone(&first.rule));
        let Some(calling) = &active.calling else { return Vec::new() };
        let messages: Vec<Message<'_>> = group.iter().map(|waiting| waiting.message.message()).collect();
        let answers: Vec<Answers> = group.iter().map(|waiting| waiting.answers.clone()).collect();
        let evaluated = calling.evaluate(&messages, &answers);
        let mut origins = origins(group.iter().map(|waiting| &waiting.message));
        if has_error_action(&active.rule) {
            let payloads = group.iter().map(|waiting| Bytes::copy_from_slice(&waiting.message.payload));
            origins.payload = payloads.collect();
        }
        let origins = Arc::new(origins);
        let mut failed = failed_calls(&evaluated.rows);
        for result in evaluated.rows {
            self.emit(time, &active, result, &group, &origins, out);
        }
        let mut requests: BTreeMap<u32, Request> = evaluated.requests.into_iter().collect();
        let mut decided = Vec::new();
        for (place, mut waiting) in (0..).zip(group) {
            match requests.remove(&place) {
                Some(request) => {
                    waiting.request = Some(request);
                    decided.extend(self.ask(waiting));
                }
                None => match failed.remove(&place) {
                    Some(reject) => self.keep_failed(&waiting, &reject),
                    None => self.in_flight.done(waiting.message.bytes()),
                },
            }
        }
        decided
    }

    /// Holds a message for which a call has failed until that is kept.
    fn keep_failed(&mut self, waiting: &Waiting, reject: &Reject) {
        let Waiting { time, rule, message, answers, .. } = waiting;
        let Some(failed_calls) = &self.failed_calls else {
            self.in_flight.done(message.bytes());
            return;
        };
        let id = self.next;
        self.next += 1;
        self.times.insert((*time, id));
        self.failed.insert(id, (*time, message.bytes()));
        let function = reject.function.as_deref().unwrap_or_default();
        let asked = answers.failed().filter(|request| *request.function == *function).last();
        let resource = match asked.and_then(|request| request.args.first()) {
            Some(Value::String(name)) => name,
            _ => "",
        };
        let entry = message.entry(&rule.rule.name, has_error_action(&rule.rule));
        let (sender, wake) = (self.kept.0.clone(), Arc::clone(&self.wake));
        failed_calls.keep(FailedCall::new(entry, function, resource, &reject.reason), move || {
            // Fails only if the worker has ended: then a replay finds the note.
            if sender.send(id).is_ok() {
                wake();
            }
        });
    }

    fn emit(
        &self,
        time: u64,
        active: &Arc<ActiveRule>,
        result: RuleRows,
        group: &[Waiting],
        origins: &Arc<Origins>,
        out: &mut Vec<(u64, RowBatch)>,
    ) {
        for reject in &result.rejects {
            active.stats.fail(1, &reject.reason);
            if let Some(waiting) = group.get(reject.message as usize) {
                self.errors.push(sample(&waiting.message, &active.rule.name, &reject.reason));
            }
        }
        if result.rows.messages.is_empty() {
            return;
        }
        active.stats.passed.add(result.rows.messages.len() as u64);
        out.extend(RowBatch::of_all_actions(active, result.rows, origins).map(|batch| (time, batch)));
    }
}

/// The messages for which there is no row since a call failed, by their place. Where the call of a template failed, there
/// is a row, and its action fails.
fn failed_calls(results: &[RuleRows]) -> BTreeMap<u32, Reject> {
    let failed = results.iter().flat_map(|result| &result.rejects).filter(|reject| reject.function.is_some());
    let has_row = |message| results.iter().any(|result| result.rows.messages.binary_search(&message).is_ok());
    failed.filter(|reject| !has_row(reject.message)).map(|reject| (reject.message, reject.clone())).collect()
}

/// Messages of one rule and time together, in the order of their positions.
fn order(waiting: &Waiting) -> (u64, &str, usize, u64, u64) {
    let rule = &waiting.rule.rule.name;
    let version = Arc::as_ptr(&waiting.rule).addr();
    (waiting.time, rule, version, waiting.message.at(), waiting.message.offset)
}

fn groups(sorted: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let mut groups: Vec<Vec<Waiting>> = Vec::new();
    for waiting in sorted {
        let fits = |group: &&mut Vec<Waiting>| {
            group.last().is_some_and(|last| last.time == waiting.time && Arc::ptr_eq(&last.rule, &waiting.rule))
        };
        match groups.last_mut().filter(fits) {
            Some(group) => group.push(waiting),
            None => groups.push(vec![waiting]),
        }
    }
    groups
}

fn origins<'a>(messages: impl Iterator<Item = &'a KeptMessage>) -> Origins {
    let mut origins = Origins::default();
    for message in messages {
        origins.timer |= message.deadline.is_some();
        origins.epoch.push(message.at());
        origins.offset.push(message.offset);
        origins.time_ms.push(message.deadline.map_or(message.time_ms, |deadline| (deadline / 1_000).cast_signed()));
        origins.topic.push(&message.topic);
        origins.client_id.push(&message.client_id);
        origins.hops.push(message.hops);
    }
    origins
}

fn sample(message: &KeptMessage, rule: &str, reason: &str) -> ErrorSample {
    ErrorSample {
        epoch: message.at(),
        offset: message.offset,
        time_ms: message.time_ms,
        rule: rule.to_owned(),
        target: String::new(),
        topic: message.topic.to_string(),
        client_id: message.client_id.to_string(),
        reason: reason.to_owned(),
        sample: excerpt(&message.payload),
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
