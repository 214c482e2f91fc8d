//! The entries of one destination, in the order of the rows.
//!
//! Entries lie in the keyspace `outbox.entries`, attempts in `outbox.attempts`, under the keys of [`super::entry`]. The mark of a
//! destination is named `outbox/` and its name.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::confirmation::Confirmations;
use super::dead::{DeadLetter, DeadLetters, DeadLimits};
use super::entry::{Attempts, Entry, EntryKey, Position, destination, prefix};
use super::failures::{FailedCall, Failures, Note};
use crate::fault;
use crate::table::{Batch, Keyspace, Store, StoreError};

/// All destinations of an instance. Clones share them.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    queues: Mutex<BTreeMap<Arc<str>, Queue>>,
}

/// What all queues write to.
pub(super) struct Shared {
    pub(super) store: Store,
    entries: Keyspace,
    attempts: Keyspace,
    pub(super) dead: DeadLetters,
    pub(super) failures: Failures,
    confirmations: Confirmations,
}

/// What a destination does with rows that its queue has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The rules that feed it wait.
    Block,
    /// The rows become dead letters at once.
    DeadLetter,
}

/// How much may wait for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Bytes of all entries together.
    pub max_bytes: u64,
    /// What happens beyond.
    pub overflow: Overflow,
}

/// What became of entries handed in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Accepted {
    /// No room; nothing was written. Hand them in again.
    #[default]
    Full,
    /// Written with the mark: how many are in the queue, and how many were refused.
    Taken {
        /// In the queue.
        queued: u64,
        /// Dead letters, or with the error action.
        dead: u64,
    },
}

/// An entry as it waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its key.
    pub key: EntryKey,
    /// The entry.
    pub entry: Entry,
    /// Attempts so far.
    pub attempts: Attempts,
}

/// The queue of one destination. Clones share it.
#[derive(Clone)]
pub struct Queue(Arc<QueueInner>);

struct QueueInner {
    shared: Arc<Shared>,
    name: Arc<str>,
    mark: String,
    entries: AtomicU64,
    bytes: AtomicU64,
    /// Rows given up since the start.
    given_up: AtomicU64,
    /// No entry lies below this key.
    head: Mutex<Vec<u8>>,
    /// Entries were put below those that have been read: read from the beginning again.
    rewound: AtomicBool,
}

impl Outbox {
    /// Opens the outbox in a store. Reads the keys of all entries once, to count them.
    ///
    /// # Errors
    /// When the store cannot be read, or holds what another version wrote.
    pub fn open(store: &Store, limits: DeadLimits) -> Result<Self, StoreError> {
        let entries = store.keyspace("outbox.entries")?;
        let attempts = store.keyspace("outbox.attempts")?;
        let dead = DeadLetters::open(store, limits)?;
        let failures = Failures::open(store)?;
        let confirmations = Confirmations::open(store)?;
        let counted = entries.clone();
        let shared = Arc::new(Shared { store: store.clone(), entries, attempts, dead, failures, confirmations });
        let outbox = Self(Arc::new(Inner { shared, queues: Mutex::default() }));
        for item in store.snapshot().prefix(&counted, []) {
            let (key, value) = item?;
            let (name, _) =
                destination(&key).ok_or_else(|| StoreError::Unreadable { what: "a key of the outbox".into() })?;
            let queue = outbox.queue(name);
            queue.0.entries.fetch_add(1, Ordering::Relaxed);
            queue.0.bytes.fetch_add((key.len() + value.len()) as u64, Ordering::Relaxed);
        }
        Ok(outbox)
    }

    /// The queue of a destination, which may be empty.
    pub fn queue(&self, name: &str) -> Queue {
        let mut queues = lock(&self.0.queues);
        let new = || {
            Queue(Arc::new(QueueInner {
                shared: Arc::clone(&self.0.shared),
                name: name.into(),
                mark: format!("outbox/{name}"),
                entries: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                given_up: AtomicU64::new(0),
                head: Mutex::new(prefix(name)),
                rewound: AtomicBool::new(false),
            }))
        };
        queues.entry(name.into()).or_insert_with(new).clone()
    }

    /// The names of all destinations that have had entries since the start.
    pub fn names(&self) -> Vec<Arc<str>> {
        lock(&self.0.queues).keys().cloned().collect()
    }

    /// The dead letters.
    pub fn dead(&self) -> &DeadLetters {
        &self.0.shared.dead
    }

    /// Messages for which actions failed and error actions wait.
    pub fn failures(&self) -> &Failures {
        &self.0.shared.failures
    }

    /// Whether destinations have agreed to be sent to.
    pub fn confirmations(&self) -> &Confirmations {
        &self.0.shared.confirmations
    }

    /// What all queues write to.
    pub(super) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// Rules came to nothing for messages, since calls of other systems failed: they go where refused rows go, once,
    /// however often they are replayed, and are durable when this returns.
    ///
    /// # Errors
    /// When the store fails.
    pub fn calls_failed(&self, calls: &[FailedCall], now_ms: i64) -> Result<(), StoreError> {
        let (to_action, to_letters): (Vec<_>, Vec<_>) = calls.iter().partition(|call| call.entry.original.is_some());
        let notes: Vec<Note<'_>> = to_action.into_iter().map(FailedCall::note).collect();
        self.0.shared.failures.commit(Batch::new(), &notes, now_ms)?;
        for call in to_letters {
            // No sink has such a name, so nobody replays the message into one.
            let asked = format!("{}({})", call.function, call.resource);
            self.refuse(&call.entry, &asked, &call.reason, now_ms)?;
        }
        self.0.shared.store.sync()
    }

    /// The store beneath.
    pub fn store(&self) -> &Store {
        &self.0.shared.store
    }

    /// Puts a dead letter back into the queue of its destination, with no attempts behind it. False if there is no such
    /// letter.
    ///
    /// # Errors
    /// When the store fails.
    pub fn revive(&self, letter: &DeadLetter) -> Result<bool, StoreError> {
        let queue = self.queue(&letter.sink);
        let mut batch = Batch::new();
        if !self.0.shared.dead.remove_in(&mut batch, letter.number)? {
            return Ok(false);
        }
        let (key, size) = queue.put(&mut batch, &letter.entry);
        let fresh = self.0.shared.store.get(&self.0.shared.entries, &key.0)?.is_none();
        self.0.shared.store.commit(batch)?;
        self.0.shared.dead.removed(letter);
        if fresh {
            queue.count(1, size);
        }
        queue.rewind(&key);
        Ok(true)
    }
}

impl Queue {
    /// The destination's name.
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// Entries that wait.
    pub fn len(&self) -> u64 {
        self.0.entries.load(Ordering::Acquire)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Acquire)
    }

    /// Rows given up since the start: dead letters, or for the error action.
    pub fn given_up(&self) -> u64 {
        self.0.given_up.load(Ordering::Relaxed)
    }

    /// How far the destination has come in the log, as readers of the store see it.
    pub fn mark(&self) -> Option<u64> {
        self.0.shared.store.mark(&self.0.mark)
    }

    /// How far it has come durably.
    pub fn synced_mark(&self) -> Option<u64> {
        self.0.shared.store.synced_mark(&self.0.mark)
    }

    /// Makes everything of the store durable that was written before this call.
    ///
    /// # Errors
    /// When the store fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.0.shared.store.sync()
    }

    /// Takes entries together with the mark `up_to`: all of it is there after a crash, or nothing. A blocking queue
    /// takes them while it is not full, so it grows beyond its limit by one call at most. Those of `refused` are given up
    /// for the reason that stands with them.
    ///
    /// # Errors
    /// When the store fails.
    pub fn accept(
        &self,
        up_to: u64,
        entries: &[Entry],
        refused: Vec<(Entry, String)>,
        limits: QueueLimits,
        now_ms: i64,
    ) -> Result<Accepted, StoreError> {
        let inner = &self.0.shared;
        let before = self.bytes();
        if limits.overflow == Overflow::Block && before >= limits.max_bytes && !entries.is_empty() {
            return Ok(Accepted::Full);
        }
        let mut batch = Batch::new();
        let (mut queued, mut bytes) = (0, 0);
        let mut refused: Vec<(&Entry, String)> =
            refused.iter().map(|(entry, reason)| (entry, reason.clone())).collect();
        for entry in entries {
            let full = before + bytes >= limits.max_bytes;
            if full && limits.overflow == Overflow::DeadLetter {
                let reason = format!("{} bytes wait for this destination already (max_backlog)", before + bytes);
                refused.push((entry, reason));
                continue;
            }
            let (_, size) = self.put(&mut batch, entry);
            queued += 1;
            bytes += size;
        }
        let dead = refused.len() as u64;
        if fault::bug("outbox_without_mark") {
            inner.store.commit(batch)?;
            batch = Batch::new();
            fault::point("outbox.before_mark");
        }
        batch.mark(&self.0.mark, up_to);
        // Counted first: the sender may have confirmed a row before this call goes on.
        self.count(queued, bytes);
        if let Err(error) = inner.commit(batch, &refused, &self.0.name, now_ms) {
            self.uncount(queued, bytes);
            return Err(error);
        }
        self.0.given_up.fetch_add(dead, Ordering::Relaxed);
        fault::point("outbox.after_accept");
        Ok(Accepted::Taken { queued, dead })
    }

    /// Entries behind `after` in order, from the beginning if there is none: at most `limit`, and at most one beyond
    /// `max_bytes`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(&self, after: Option<&EntryKey>, limit: usize, max_bytes: usize) -> Result<Vec<Waiting>, StoreError> {
        let inner = &self.0.shared;
        let view = inner.store.snapshot();
        let head = lock(&self.0.head).clone();
        let from = after.map_or(Bound::Included(head.as_slice()), |key| Bound::Excluded(key.0.as_slice()));
        let own = prefix(&self.0.name);
        let mut found = Vec::new();
        let mut bytes = 0;
        for item in view.range(&inner.entries, from, Bound::Unbounded) {
            let (key, value) = item?;
            if !key.starts_with(&own) || found.len() >= limit || bytes >= max_bytes {
                break;
            }
            bytes += value.len();
            let attempts = view.get(&inner.attempts, &key)?.as_ref().map(Attempts::decode).transpose()?;
            let attempts = attempts.unwrap_or_default();
            found.push(Waiting { key: EntryKey(key.to_vec()), entry: Entry::decode(&value)?, attempts });
        }
        Ok(found)
    }

    /// One entry again, if it still waits.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn get(&self, key: &EntryKey) -> Result<Option<Waiting>, StoreError> {
        let inner = &self.0.shared;
        let view = inner.store.snapshot();
        let Some(value) = view.get(&inner.entries, &key.0)? else { return Ok(None) };
        let attempts = view.get(&inner.attempts, &key.0)?.as_ref().map(Attempts::decode).transpose()?;
        let attempts = attempts.unwrap_or_default();
        Ok(Some(Waiting { key: key.clone(), entry: Entry::decode(&value)?, attempts }))
    }

    /// The destination has these: they are removed.
    ///
    /// # Errors
    /// When the store fails.
    pub fn confirm(&self, keys: &[EntryKey]) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let mut gone = 0;
        for key in keys {
            gone += self.remove(&mut batch, key)?;
        }
        fault::point("outbox.before_confirm");
        self.0.shared.store.commit(batch)?;
        self.uncount(keys.len() as u64, gone);
        Ok(())
    }

    /// Notes a failed attempt.
    ///
    /// # Errors
    /// When the store fails.
    pub fn failed(&self, key: &EntryKey, attempts: &Attempts) -> Result<(), StoreError> {
        let inner = &self.0.shared;
        let mut batch = Batch::new();
        batch.put(&inner.attempts, key.0.clone(), attempts.encode());
        inner.store.commit(batch)
    }

    /// Gives an entry up: it becomes a dead letter, or goes to the rule's error action, in one batch.
    ///
    /// # Errors
    /// When the store fails.
    pub fn bury(&self, waiting: &Waiting, now_ms: i64) -> Result<(), StoreError> {
        let inner = &self.0.shared;
        let mut batch = Batch::new();
        let gone = self.remove(&mut batch, &waiting.key)?;
        let Attempts { count, reason, status, .. } = &waiting.attempts;
        // An error action that has run already does not run again: what fails after it is a dead letter.
        if waiting.entry.original.is_some() && inner.failures.takes(&waiting.entry)? {
            inner.failures.commit(batch, &[self.note(&waiting.entry, reason)], now_ms)?;
            self.uncount(1, gone);
            self.0.given_up.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let letter = self.letter(&waiting.entry, reason.clone(), *count, *status, now_ms);
        let buried = inner.dead.add_in(&mut batch, vec![letter]);
        inner.store.commit(batch)?;
        inner.dead.added(buried);
        self.uncount(1, gone);
        self.0.given_up.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The destination is gone for good: all entries become dead letters.
    ///
    /// # Errors
    /// When the store fails.
    pub fn bury_all(&self, reason: &str, now_ms: i64) -> Result<u64, StoreError> {
        const AT_ONCE: usize = 256;
        let mut buried = 0;
        loop {
            let some = self.read(None, AT_ONCE, 8 << 20)?;
            if some.is_empty() {
                return Ok(buried);
            }
            for mut waiting in some {
                waiting.attempts.reason = reason.to_owned();
                self.bury(&waiting, now_ms)?;
                buried += 1;
            }
        }
    }

    /// Whether an entry of this position waits.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has(&self, position: Position) -> Result<bool, StoreError> {
        let mut start = prefix(&self.0.name);
        position.encode(&mut start);
        let inner = &self.0.shared;
        Ok(inner.store.snapshot().prefix(&inner.entries, start).next().transpose()?.is_some())
    }

    /// The epoch of the oldest entry.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn oldest_epoch(&self) -> Result<Option<u64>, StoreError> {
        if self.is_empty() {
            return Ok(None);
        }
        let inner = &self.0.shared;
        let mut head = lock(&self.0.head);
        let view = inner.store.snapshot();
        let first = view.range(&inner.entries, Bound::Included(head.as_slice()), Bound::Unbounded).next();
        let Some((key, _)) = first.transpose()? else { return Ok(None) };
        if !key.starts_with(&prefix(&self.0.name)) {
            return Ok(None);
        }
        *head = key.to_vec();
        Ok(Some(EntryKey(key.to_vec()).position().epoch))
    }

    /// Whether entries were put below those that have been read; asking forgets it.
    pub fn take_rewound(&self) -> bool {
        self.0.rewound.swap(false, Ordering::AcqRel)
    }

    fn rewind(&self, key: &EntryKey) {
        let mut head = lock(&self.0.head);
        if key.0 < *head {
            *head = key.0.clone();
        }
        self.0.rewound.store(true, Ordering::Release);
    }

    fn put(&self, batch: &mut Batch, entry: &Entry) -> (EntryKey, u64) {
        let key = EntryKey::new(&self.0.name, entry);
        let value = entry.encode();
        let size = (key.0.len() + value.len()) as u64;
        batch.put(&self.0.shared.entries, key.0.clone(), value);
        (key, size)
    }

    /// Removes an entry with the batch; its size.
    fn remove(&self, batch: &mut Batch, key: &EntryKey) -> Result<u64, StoreError> {
        let inner = &self.0.shared;
        let view = inner.store.snapshot();
        let size = view.get(&inner.entries, &key.0)?.map_or(0, |value| key.0.len() + value.len());
        batch.delete(&inner.entries, key.0.clone());
        if view.get(&inner.attempts, &key.0)?.is_some() {
            batch.delete(&inner.attempts, key.0.clone());
        }
        Ok(size as u64)
    }

    fn note<'a>(&'a self, entry: &'a Entry, reason: &'a str) -> Note<'a> {
        Note { entry, resource: &self.0.name, reason, function: None }
    }

    fn letter(&self, entry: &Entry, reason: String, attempts: u32, status: Option<u16>, died_ms: i64) -> DeadLetter {
        let sink = self.0.name.to_string();
        DeadLetter { number: super::LetterId(0), sink, reason, attempts, status, died_ms, entry: entry.clone() }
    }

    fn count(&self, entries: u64, bytes: u64) {
        self.0.entries.fetch_add(entries, Ordering::AcqRel);
        self.0.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    fn uncount(&self, entries: u64, bytes: u64) {
        self.0.entries.fetch_sub(entries, Ordering::AcqRel);
        self.0.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
