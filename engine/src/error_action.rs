//! Error actions: once for each rule and message for which an action failed, after the last action has settled; or for
//! which a call of another system failed, so that no action ran ([`crate::failed_calls`]).
//!
//! What failed is kept in the store of the outbox (see [`hedgerow_storage::outbox::Failures`]). When the other actions of
//! the rule are through with the message, its error payload is appended to the log as a derived record under a topic of its
//! own; the error action is a rule on that topic, which runs like any other. So its rows are exactly once, too, and any
//! destination of rules can be one of errors.
//!
//! How long an action may take is its destination's business, which gives a row up in its own time. Messages are looked at
//! in turns, so that those which wait for a slow destination do not hold up the rest.
//!
//! Records and the turn in which they were told are one batch of the log. After a crash between that and the note in
//! the store, the newest turn in the log says what was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hedgerow_sql::ast::Dialect;
use hedgerow_sql::rule::{Rule, Statement, Target};
use hedgerow_storage::fault;
use hedgerow_storage::log::{AppendError, Appender, Batch, Class, Epoch, Log, ReadError, RecordFields, RecordKind};
use hedgerow_storage::outbox::{FailedMessage, Outbox, Place};
use hedgerow_storage::table::StoreError;
use serde_json::json;

use crate::catalog::{Catalog, Definition, Kind};
use crate::dataflow::Progress;
use crate::metrics::EngineMetrics;
use crate::resolve::Inner;
use crate::rows::{Destination, Lane};
use crate::sink::registry::{SinkKey, SinkStatus};

/// The name of the turns in the log.
const PRODUCER: &str = "errors";
/// Error payloads are told under this and the rule's name. Clients may not publish there.
const TOPIC: &str = "$hedgerow/errors/";
/// Messages looked at and told at once, at most.
const AT_ONCE: usize = 2_000;
const POLL: Duration = Duration::from_millis(100);
/// How often notes that no replay needs are removed, in polls.
const FORGET_EVERY: u64 = 600;

/// The topic that the errors of a rule are told under.
fn topic(rule: &str) -> String {
    let plain = |c: char| match c {
        c if c.is_alphanumeric() || c == '_' || c == '-' => c.to_string(),
        other => format!("%{:x}.", u32::from(other)),
    };
    TOPIC.chars().map(String::from).chain(rule.chars().map(plain)).collect()
}

/// The rule that an error action is; none for a rule without one, and for `dead_letters`, where failures go anyway.
pub(crate) fn error_rule(rule: &Rule) -> Option<Rule> {
    let action = rule.error_action.as_ref().filter(|_| has_error_action(rule))?;
    let topic = topic(&rule.name);
    let text = format!("CREATE RULE told AS SELECT * FROM '{topic}' INTO {}", hedgerow_sql::analyze::DEAD_LETTERS);
    let statement = hedgerow_sql::parse::parse_file(&text).ok()?.into_iter().next();
    let Some(Statement::Rule(mut error)) = statement else { return None };
    error.name = format!("{}.error", rule.name).into();
    error.actions = vec![action.clone()];
    Some(error)
}

/// Whether failures of the rule's actions go to an error action, and not to the dead letters.
pub(crate) fn has_error_action(rule: &Rule) -> bool {
    let to_letters =
        |target: &Target| matches!(target, Target::Named(name) if **name == *hedgerow_sql::analyze::DEAD_LETTERS);
    rule.error_action.as_ref().is_some_and(|action| !to_letters(&action.target))
}

/// Whether a rule was made by [`error_rule`]: no client may reach it.
pub(crate) fn is_error_rule(rule: &Rule) -> bool {
    rule.filter.as_ref().is_some_and(|filter| filter.as_str().starts_with(TOPIC))
}

/// Tells errors to the log.
pub(crate) struct ErrorActions {
    pub outbox: Outbox,
    pub log: Arc<Log>,
    pub inner: Arc<Inner>,
    pub progress: Arc<Progress>,
    pub metrics: Arc<EngineMetrics>,
    pub stop: Arc<AtomicBool>,
}

#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl ErrorActions {
    /// Follows up what a crash interrupted.
    ///
    /// # Errors
    /// When the log or the store cannot be read.
    pub fn recover(&self) -> Result<(), RecoverError> {
        let failures = self.outbox.failures();
        let interrupted: Vec<FailedMessage> = failures
            .read(&mut Place::default(), usize::MAX)?
            .into_iter()
            .filter(|message| message.told.is_some())
            .collect();
        let Some(after) = interrupted.iter().filter_map(|message| message.told).map(|(_, after)| after).min() else {
            return Ok(());
        };
        let newest = self.newest_turn(Epoch(after).max(self.log.first_epoch()))?;
        let (told, not): (Vec<_>, Vec<_>) =
            interrupted.into_iter().partition(|message| message.told.is_some_and(|(turn, _)| turn <= newest));
        failures.done(&told)?;
        failures.take_back(&not)?;
        Ok(())
    }

    fn newest_turn(&self, after: Epoch) -> Result<u64, ReadError> {
        let mut reader = self.log.reader(after)?;
        let mut newest = 0;
        while reader.position() < self.log.last_epoch() {
            let Some(commit) = reader.next(Duration::from_secs(1))? else { continue };
            for record in commit.records() {
                if let Some((PRODUCER, turn)) = record.mark() {
                    newest = newest.max(turn.0);
                }
            }
        }
        Ok(newest)
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn spawn(self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("hedgerow-errors".into()).spawn(move || self.run())
    }

    fn run(&self) {
        let appender = self.log.appender();
        let mut last_turn = 0;
        let mut place = Place::default();
        for poll in 0_u64.. {
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            std::thread::park_timeout(POLL);
            if let Err(error) = self.tell(&appender, &mut last_turn, &mut place) {
                tracing::warn!(%error, "error actions wait");
            }
            if poll % FORGET_EVERY == FORGET_EVERY - 1
                && let Err(error) = self.outbox.failures().forget(self.metrics.replay_floor_us.get())
            {
                tracing::warn!(%error, "old notes of failures stay");
            }
        }
    }

    fn tell(&self, appender: &Appender, last_turn: &mut u64, place: &mut Place) -> Result<(), TellError> {
        let failures = self.outbox.failures();
        if failures.waiting() == 0 {
            return Ok(());
        }
        let Some((_, catalog)) = self.inner.catalog.lock().ok().map(|catalog| catalog.clone()) else { return Ok(()) };
        let sinks = self.inner.registry.status();
        // Those that wait for a slow destination are passed by, and looked at again in the next round.
        let mut ready = failures.read(place, AT_ONCE)?;
        let stale = fault::bug("errors_told_as_read");
        if stale {
            std::thread::park_timeout(3 * POLL);
        }
        ready.retain(|message| self.is_settled(message, &catalog, &sinks));
        if ready.is_empty() {
            return Ok(());
        }
        let after = self.log.last_epoch().0;
        let turn = after.max(*last_turn) + 1;
        *last_turn = turn;
        let now = failures.tell(&ready, turn, after)?;
        let ready = if stale { ready } else { now };
        let mut batch = Batch::new();
        for message in &ready {
            let kind = |action: u32| kind_of(&catalog, &message.rule, action);
            batch.push(&RecordFields {
                kind: RecordKind::Message,
                time_ms: self.log.now_ms(),
                topic: &topic(&message.rule),
                origin: &format!("{}-{}-{}-error", message.position.epoch, message.position.offset, message.rule),
                hops: 1,
                payload: &payload(message, kind),
                ..RecordFields::default()
            });
        }
        batch.push_mark(PRODUCER, Epoch(turn));
        let (done, committed) = crossbeam_channel::bounded(1);
        let appended = appender.append(batch, Class::System, move |result| drop(done.send(result.map(|_| ()))));
        let result = match appended {
            Ok(()) => committed.recv().unwrap_or(Err(AppendError::Closed)),
            Err((_, error @ (AppendError::Full | AppendError::LowSpace))) => {
                failures.take_back(&ready)?;
                return Err(error.into());
            }
            Err((_, error)) => Err(error),
        };
        // Whether a record is in the log after a failed sync, the next start will see.
        result?;
        fault::point("errors.after_append");
        Ok(failures.done(&ready)?)
    }

    /// Whether nothing more can be heard of the message from the rule's actions.
    fn is_settled(&self, message: &FailedMessage, catalog: &Catalog, sinks: &[SinkStatus]) -> bool {
        // After a failed call no action runs at all.
        if message.failures.iter().any(|failure| failure.function.is_some()) {
            return true;
        }
        let epoch = Epoch(message.position.epoch);
        if self.progress.frontier.get() < epoch {
            return false;
        }
        // A sink that does not open has refused its rows already.
        let has_taken = |sink: &SinkStatus| !sink.is_open || sink.marks.taken >= epoch;
        let taken = |name: &str| sinks.iter().find(|sink| sink.name == name).is_none_or(has_taken);
        let Some(rule) = catalog.get(Kind::Rule, &message.rule).and_then(|object| object.rule()) else { return true };
        rule.actions.iter().all(|action| {
            let lane = if rule.asks() { Lane::Called } else { Lane::Straight };
            let Some(name) = action.destination() else {
                return taken(&SinkKey::to(&Destination::Derived, lane).to_string());
            };
            match catalog.get(Kind::Sink, name).map(|object| &object.definition) {
                Some(Definition::Sink(sink)) if &*sink.connector != "lake" => {
                    taken(name) && !self.outbox.queue(name).has(message.position).unwrap_or(true)
                }
                // What a lake has accepted cannot fail any more; it may be long before it is committed.
                Some(_) => true,
                None if catalog.get(Kind::Table, name).is_some_and(|table| table.called) => {
                    taken(&SinkKey::CalledTables.to_string())
                }
                None => taken(&SinkKey::Tables.to_string()),
            }
        })
    }
}

/// Why the errors of the last run cannot be followed up.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The store.
    #[error("failures cannot be read: {0}")]
    Store(#[from] StoreError),
    /// The log.
    #[error("the log cannot be read: {0}")]
    Log(#[from] ReadError),
}

/// `S3Action` for an `s3` action, and so on; actions of native rules by what they write to.
fn kind_of(catalog: &Catalog, rule: &str, action: u32) -> String {
    let rule = catalog.get(Kind::Rule, rule).and_then(|object| object.rule());
    let Some(action) = rule.and_then(|rule| rule.actions.get(action as usize)) else { return "Action".to_owned() };
    let kind = match (&*action.kind, action.destination()) {
        ("into", None) => "republish",
        ("into", Some(name)) if catalog.get(Kind::Table, name).is_some() => "table",
        ("into", Some(_)) => "sink",
        (kind, _) => kind,
    };
    let mut letters = kind.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).chain("Action".chars()).collect()
}

/// What the error action is given.
fn payload(message: &FailedMessage, kind: impl Fn(u32) -> String) -> Vec<u8> {
    let failures: Vec<_> = message
        .failures
        .iter()
        .map(|failure| {
            json!({
                "failedAction": failure.function.clone().unwrap_or_else(|| kind(failure.action)),
                "failedResource": failure.resource,
                "errorMessage": failure.reason,
            })
        })
        .collect();
    let trace = trace_id(message);
    let payload = json!({
        "ruleName": message.rule,
        "topic": message.topic,
        "cloudwatchTraceId": trace,
        "clientId": message.client_id,
        "base64OriginalPayload": STANDARD.encode(&message.original),
        "failures": failures,
    });
    payload.to_string().into_bytes()
}

/// What `traceid()` is for the message.
fn trace_id(message: &FailedMessage) -> String {
    use hedgerow_sql::eval::{self, Scope};
    use hedgerow_sql::message::Message;
    let Ok(template) = hedgerow_sql::parse::parse_template("${traceid()}", Dialect::Native) else {
        return String::new();
    };
    let original = Message {
        client_id: (!message.client_id.is_empty()).then_some(&*message.client_id),
        epoch: message.position.epoch,
        offset: message.position.offset,
        ..Message::new(&message.topic, &[], message.time_ms)
    };
    eval::template(&template, &Scope::new(&original, Dialect::Native)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        match hedgerow_sql::parse::parse_file(text).unwrap().into_iter().next() {
            Some(Statement::Rule(rule)) => rule,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_error_action_is_a_rule_on_a_topic_of_its_own() {
        let with =
            rule("CREATE RULE \"farm.a\" AS SELECT * FROM 'x/#' INTO t ON ERROR INTO TOPIC 'failed/${ruleName}'");
        let error = error_rule(&with).unwrap();
        let filter = error.filter.as_ref().unwrap();
        assert_eq!(filter.as_str(), "$hedgerow/errors/farm%2e.a");
        assert!(filter.matches(&topic("farm.a")) && error.error_action.is_none());
        assert_eq!((error.actions.len(), &*error.name), (1, "farm.a.error"));
        assert!(error_rule(&rule("CREATE RULE r AS SELECT * FROM 'x/#' INTO t ON ERROR INTO dead_letters")).is_none());
        assert!(error_rule(&rule("CREATE RULE r AS SELECT * FROM 'x/#' INTO t")).is_none());
    }

    #[test]
    fn the_payload_has_the_members_that_aws_gives_it() {
        let message = FailedMessage {
            rule: "r".into(),
            position: hedgerow_storage::outbox::Position { epoch: 3, record: true, offset: 4 },
            time_ms: 5,
            topic: "a/b".into(),
            client_id: "c".into(),
            original: vec![0, 255],
            failures: vec![hedgerow_storage::outbox::Failure {
                action: 1,
                resource: "pager".into(),
                reason: "status 404".into(),
                function: None,
            }],
            since_ms: 6,
            told: None,
        };
        let told: serde_json::Value =
            serde_json::from_slice(&payload(&message, |action| format!("Kind{action}Action"))).unwrap();
        assert_eq!(told["base64OriginalPayload"], "AP8=");
        assert_eq!(
            told["failures"],
            json!([{"failedAction": "Kind1Action", "failedResource": "pager", "errorMessage": "status 404"}])
        );
        assert_eq!((&told["ruleName"], &told["topic"], &told["clientId"]), (&json!("r"), &json!("a/b"), &json!("c")));
        assert_eq!(told["cloudwatchTraceId"].as_str().map(str::len), Some(36));
    }
}
