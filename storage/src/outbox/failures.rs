//! Actions that failed, message by message, until the rule's error action has run: once for each rule and message.
//!
//! # Format
//! The keyspace `outbox.failures`. The key is the length of the rule's name in bytes as u16, most significant byte first,
//! the name, and the message's position as in [`super::entry`]. The value, format 1: one byte 1, the length of the head as
//! u32, least significant byte first, the head, a JSON object with the members of `Head`, and the original payload to
//! the end.
//!
//! What is done stays as a note without payload, so that a replay of the message does not bring it up again, and goes
//! when the log can no longer be replayed from there.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::entry::{Entry, Position, destination, prefix};
use crate::table::{Batch, Keyspace, Store, StoreError};

const FORMAT: u8 = 1;
/// Notes removed with one batch.
const AT_ONCE: usize = 1_000;
/// How many times the messages that are wanted are looked at, at most, for those that are done.
const DONE_BETWEEN: usize = 8;

/// In place of an action's number: the rule itself failed, since a function that asks another system did.
const CALL: u32 = u32::MAX;

/// One action that failed, or the call of another system that the rule could not go on without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Number of the action in the rule.
    pub action: u32,
    /// Table, sink or topic; of a call, whom it asks.
    pub resource: String,
    /// Why.
    pub reason: String,
    /// Of a call, the function; it is missing where an action failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
}

/// A message for which a rule came to nothing, since a call of another system failed.
#[derive(Clone, Debug)]
pub struct FailedCall {
    /// The message. Its body is what a dead letter shows; with `original`, the rule has an error action.
    pub entry: Entry,
    /// The function.
    pub function: String,
    /// Whom it asks.
    pub resource: String,
    /// Why.
    pub reason: String,
}

impl FailedCall {
    /// Of a message at `position`, for a rule.
    pub fn new(mut entry: Entry, function: &str, resource: &str, reason: &str) -> Self {
        entry.action = CALL;
        entry.id = format!("{}-{}-{}-call", entry.position.epoch, entry.position.offset, entry.rule);
        Self { entry, function: function.into(), resource: resource.into(), reason: reason.into() }
    }

    pub(super) fn note(&self) -> Note<'_> {
        Note { entry: &self.entry, resource: &self.resource, reason: &self.reason, function: Some(&self.function) }
    }
}

/// A message for which actions of a rule failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedMessage {
    /// The rule.
    pub rule: String,
    /// Where the message stands.
    pub position: Position,
    /// Its time of receipt, milliseconds since 1970.
    pub time_ms: i64,
    /// Its topic.
    pub topic: String,
    /// Who sent it.
    pub client_id: String,
    /// Its payload.
    pub original: Vec<u8>,
    /// What failed, by the number of the action.
    pub failures: Vec<Failure>,
    /// When the first failure was noted, milliseconds since 1970.
    pub since_ms: i64,
    /// The turn it is being told in, and the log's end before that; for what was interrupted.
    pub told: Option<(u64, u64)>,
}

/// An action that failed for an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note<'a> {
    pub entry: &'a Entry,
    pub resource: &'a str,
    pub reason: &'a str,
    pub function: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Waiting,
    /// Handed to the log in this turn, when the log ended there.
    Told {
        turn: u64,
        after: u64,
    },
    Done,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    state: State,
    time_ms: i64,
    topic: String,
    client_id: String,
    failures: Vec<Failure>,
    since_ms: i64,
}

/// How far a reader of waiting messages has come; the beginning at first.
#[derive(Debug, Default)]
pub struct Place(Option<Vec<u8>>);

/// The failures of all rules. Clones share them.
#[derive(Clone)]
pub struct Failures(Arc<Inner>);

struct Inner {
    store: Store,
    keyspace: Keyspace,
    /// Held from reading a record to having written it.
    writing: Mutex<()>,
    waiting: AtomicU64,
}

impl Failures {
    pub(super) fn open(store: &Store) -> Result<Self, StoreError> {
        let keyspace = store.keyspace("outbox.failures")?;
        let mut waiting = 0;
        for item in store.snapshot().prefix(&keyspace, []) {
            let (_, value) = item?;
            waiting += u64::from(decode(&value)?.0.state != State::Done);
        }
        let inner = Inner { store: store.clone(), keyspace, writing: Mutex::new(()), waiting: AtomicU64::new(waiting) };
        Ok(Self(Arc::new(inner)))
    }

    /// How many messages wait for their error action.
    pub fn waiting(&self) -> u64 {
        self.0.waiting.load(Ordering::Acquire)
    }

    /// Commits a batch together with notes for the error action. What was told already is not told again.
    pub(super) fn commit(&self, mut batch: Batch, notes: &[Note<'_>], now_ms: i64) -> Result<(), StoreError> {
        if notes.is_empty() {
            return self.0.store.commit(batch);
        }
        let _writing = self.lock();
        let mut changed: BTreeMap<Vec<u8>, (Head, Vec<u8>)> = BTreeMap::new();
        let mut fresh = 0;
        for note in notes {
            let (head, _) = match changed.entry(key(&note.entry.rule, note.entry.position)) {
                Slot::Occupied(known) => known.into_mut(),
                Slot::Vacant(place) => {
                    let record = match self.0.store.get(&self.0.keyspace, place.key())? {
                        Some(stored) => decode(&stored)?,
                        None => {
                            fresh += 1;
                            new_record(note.entry, now_ms)
                        }
                    };
                    place.insert(record)
                }
            };
            let action = note.entry.action;
            if head.state == State::Waiting && !head.failures.iter().any(|failure| failure.action == action) {
                head.failures.push(Failure {
                    action,
                    resource: note.resource.into(),
                    reason: note.reason.into(),
                    function: note.function.map(str::to_owned),
                });
                head.failures.sort_by_key(|failure| failure.action);
            }
        }
        for (key, (head, original)) in changed {
            batch.put(&self.0.keyspace, key, encode(&head, &original));
        }
        self.0.store.commit(batch)?;
        self.0.waiting.fetch_add(fresh, Ordering::AcqRel);
        Ok(())
    }

    /// Commits a batch made by `batch` unless this was noted for the entry's action before: for dead letters of sinks
    /// whose rows and marks are not in this store's batches.
    pub(super) fn once(&self, entry: &Entry, reason: &str, batch: impl FnOnce() -> Batch) -> Result<bool, StoreError> {
        let _writing = self.lock();
        let key = key(&entry.rule, entry.position);
        let (mut head, _) = match self.0.store.get(&self.0.keyspace, &key)? {
            Some(stored) => decode(&stored)?,
            None => (Head { state: State::Done, ..new_record(entry, 0).0 }, Vec::new()),
        };
        if head.failures.iter().any(|failure| failure.action == entry.action) {
            return Ok(false);
        }
        let reason = reason.chars().take(80).collect();
        head.failures.push(Failure { action: entry.action, resource: String::new(), reason, function: None });
        let mut batch = batch();
        batch.put(&self.0.keyspace, key, encode(&head, &[]));
        self.0.store.commit(batch)?;
        Ok(true)
    }

    /// Whether a call of the rule failed for the message at this position, as far as a replay may bring it again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_failed_call(&self, rule: &str, position: Position) -> Result<bool, StoreError> {
        let Some(stored) = self.0.store.get(&self.0.keyspace, key(rule, position))? else { return Ok(false) };
        Ok(decode(&stored)?.0.failures.iter().any(|failure| failure.action == CALL))
    }

    /// Messages that wait, behind `place` in the order of rules and positions, at most `limit`, and fewer where many are
    /// done; `place` goes on behind the last one, and to the beginning at the end.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(&self, place: &mut Place, limit: usize) -> Result<Vec<FailedMessage>, StoreError> {
        let mut found = Vec::new();
        let from = place.0.take().map_or(Bound::Unbounded, Bound::Excluded);
        let view = self.0.store.snapshot();
        let from = from.as_ref().map(Vec::as_slice);
        for (looked_at, item) in view.range(&self.0.keyspace, from, Bound::Unbounded).enumerate() {
            let (key, value) = item?;
            found.extend(message(&key, &value)?);
            if found.len() >= limit || looked_at >= limit.saturating_mul(DONE_BETWEEN) {
                place.0 = Some(key.to_vec());
                break;
            }
        }
        Ok(found)
    }

    /// Whether the error action of this message is still to come, so that a further failure is told with it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn takes(&self, entry: &Entry) -> Result<bool, StoreError> {
        let stored = self.0.store.get(&self.0.keyspace, key(&entry.rule, entry.position))?;
        stored.map_or(Ok(true), |stored| Ok(decode(&stored)?.0.state == State::Waiting))
    }

    /// These are about to be told to the log, which ends at `after`, as turn `turn`. Gives them back with all that is
    /// known of them now: actions may have failed since they were read.
    ///
    /// # Errors
    /// When the store fails.
    pub fn tell(&self, messages: &[FailedMessage], turn: u64, after: u64) -> Result<Vec<FailedMessage>, StoreError> {
        self.set(messages, State::Told { turn, after })
    }

    /// These were not told after all.
    ///
    /// # Errors
    /// When the store fails.
    pub fn take_back(&self, messages: &[FailedMessage]) -> Result<(), StoreError> {
        self.set(messages, State::Waiting).map(drop)
    }

    /// These were told.
    ///
    /// # Errors
    /// When the store fails.
    pub fn done(&self, messages: &[FailedMessage]) -> Result<(), StoreError> {
        self.set(messages, State::Done)?;
        self.0.waiting.fetch_sub(messages.len() as u64, Ordering::AcqRel);
        Ok(())
    }

    fn set(&self, messages: &[FailedMessage], state: State) -> Result<Vec<FailedMessage>, StoreError> {
        let _writing = self.lock();
        let mut batch = Batch::new();
        let mut set = Vec::with_capacity(messages.len());
        for message in messages {
            let key = key(&message.rule, message.position);
            let Some(stored) = self.0.store.get(&self.0.keyspace, &key)? else { continue };
            set.extend(self::message(&key, &stored)?);
            let (mut head, original) = decode(&stored)?;
            head.state = state;
            let original: &[u8] = if state == State::Done { &[] } else { original.as_slice() };
            batch.put(&self.0.keyspace, key, encode(&head, original));
        }
        self.0.store.commit(batch)?;
        self.0.store.sync()?;
        Ok(set)
    }

    /// Removes the notes of what is done below an epoch that no replay reaches.
    ///
    /// # Errors
    /// When the store fails.
    pub fn forget(&self, below: u64) -> Result<(), StoreError> {
        let _writing = self.lock();
        let mut batch = Batch::new();
        for item in self.0.store.snapshot().prefix(&self.0.keyspace, []) {
            let (key, value) = item?;
            let epoch = destination(&key).and_then(|(_, rest)| Position::decode(rest)).unwrap_or_default().epoch;
            if epoch < below && decode(&value)?.0.state == State::Done {
                batch.delete(&self.0.keyspace, key);
            }
            if batch.len() >= AT_ONCE {
                self.0.store.commit(std::mem::take(&mut batch))?;
            }
        }
        self.0.store.commit(batch)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ()> {
        self.0.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(rule: &str, position: Position) -> Vec<u8> {
    let mut key = prefix(rule);
    position.encode(&mut key);
    key
}

/// A record as a message; none if it is done.
fn message(key: &[u8], value: &[u8]) -> Result<Option<FailedMessage>, StoreError> {
    let (head, original) = decode(value)?;
    let told = match head.state {
        State::Done => return Ok(None),
        State::Waiting => None,
        State::Told { turn, after } => Some((turn, after)),
    };
    let (rule, position) = destination(key)
        .and_then(|(rule, rest)| Some((rule.to_owned(), Position::decode(rest)?)))
        .ok_or_else(|| StoreError::Unreadable { what: "a key of the failures".into() })?;
    let Head { time_ms, topic, client_id, failures, since_ms, .. } = head;
    Ok(Some(FailedMessage { rule, position, time_ms, topic, client_id, original, failures, since_ms, told }))
}

fn new_record(entry: &Entry, now_ms: i64) -> (Head, Vec<u8>) {
    let head = Head {
        state: State::Waiting,
        time_ms: entry.time_ms,
        topic: entry.topic.clone(),
        client_id: entry.client_id.clone(),
        failures: Vec::new(),
        since_ms: now_ms,
    };
    (head, entry.original.clone().unwrap_or_default())
}

fn encode(head: &Head, original: &[u8]) -> Vec<u8> {
    let head = serde_json::to_vec(head).unwrap_or_default();
    let mut bytes = vec![FORMAT];
    bytes.extend((head.len() as u32).to_le_bytes());
    bytes.extend(&head);
    bytes.extend(original);
    bytes
}

fn decode(bytes: &[u8]) -> Result<(Head, Vec<u8>), StoreError> {
    let read = || {
        let (&FORMAT, rest) = bytes.split_first()? else { return None };
        let (length, rest) = rest.split_first_chunk()?;
        let (head, original) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        Some((serde_json::from_slice(head).ok()?, original.to_vec()))
    };
    read().ok_or_else(|| StoreError::Unreadable { what: "a failure in the outbox".into() })
}
