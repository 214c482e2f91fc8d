//! Dead letters: rows that were given up, with the reason.
//!
//! The keyspace `outbox.dead` holds one entry each, under a number as u64, most significant byte first, which grows.
//! The value, format 1: one byte 1; the length of the head as u32, least significant byte first; the head, a JSON object
//! with the members of `Head`; the entry as in [`super::entry`]. The keyspace `outbox.numbers` has, under `dead`, the newest
//! number as such a u64, so that none is given twice when the newest letters are gone.
//!
//! They are bounded by bytes and by age: beyond it the oldest go, counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use crate::table::{Batch, Keyspace, Store, StoreError};

const FORMAT: u8 = 1;
const NEWEST: &[u8] = b"dead";
/// Letters removed with one batch when there are too many.
const AT_ONCE: usize = 1_000;

/// The number of a dead letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LetterId(pub u64);

/// A row that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number, given when it is written.
    pub number: LetterId,
    /// The table or destination that did not take it.
    pub sink: String,
    /// Why.
    pub reason: String,
    /// Attempts that were made.
    pub attempts: u32,
    /// The last answer, as a number of the destination's protocol.
    pub status: Option<u16>,
    /// When it was given up, milliseconds since 1970.
    pub died_ms: i64,
    /// The row.
    pub entry: Entry,
}

/// How many are kept.
#[derive(Clone, Copy, Debug)]
pub struct DeadLimits {
    /// Bytes of all together.
    pub max_bytes: u64,
    /// Older ones go.
    pub max_age: Duration,
}

impl Default for DeadLimits {
    fn default() -> Self {
        Self { max_bytes: 1 << 30, max_age: Duration::from_secs(30 * 24 * 3_600) }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    sink: String,
    reason: String,
    attempts: u32,
    status: Option<u16>,
    died_ms: i64,
}

/// All dead letters. Clones share them.
#[derive(Clone)]
pub struct DeadLetters(Arc<Inner>);

struct Inner {
    store: Store,
    letters: Keyspace,
    numbers: Keyspace,
    limits: DeadLimits,
    next: AtomicU64,
    count: AtomicU64,
    bytes: AtomicU64,
    added: AtomicU64,
    dropped: AtomicU64,
    /// Held while the oldest are removed.
    trimming: Mutex<()>,
}

/// Letters and bytes of a batch that is not committed yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buried {
    letters: u64,
    bytes: u64,
}

impl DeadLetters {
    pub(super) fn open(store: &Store, limits: DeadLimits) -> Result<Self, StoreError> {
        let letters = store.keyspace("outbox.dead")?;
        let numbers = store.keyspace("outbox.numbers")?;
        let newest = store.get(&numbers, NEWEST)?.map_or(0, |stored| number_of(&stored).0);
        let (mut next, mut count, mut bytes) = (newest + 1, 0, 0);
        for item in store.snapshot().prefix(&letters, []) {
            let (key, value) = item?;
            next = next.max(number_of(&key).0 + 1);
            count += 1;
            bytes += value.len() as u64;
        }
        Ok(Self(Arc::new(Inner {
            store: store.clone(),
            letters,
            numbers,
            limits,
            next: AtomicU64::new(next),
            count: AtomicU64::new(count),
            bytes: AtomicU64::new(bytes),
            added: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            trimming: Mutex::new(()),
        })))
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.0.count.load(Ordering::Acquire)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Acquire)
    }

    /// How many were written since the start.
    pub fn total(&self) -> u64 {
        self.0.added.load(Ordering::Relaxed)
    }

    /// How many were dropped since the start because there were too many, or too old ones.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// The newest number that was given.
    pub fn last_number(&self) -> LetterId {
        LetterId(self.0.next.load(Ordering::Acquire).saturating_sub(1))
    }

    /// Writes a letter that comes from no queue.
    ///
    /// # Errors
    /// When the store fails.
    pub fn add(&self, letter: DeadLetter) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let buried = self.add_in(&mut batch, vec![letter]);
        self.0.store.commit(batch)?;
        self.added(buried);
        Ok(())
    }

    /// Letters with numbers above `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(&self, after: LetterId, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        use std::ops::Bound;
        let view = self.0.store.snapshot();
        let from = after.0.to_be_bytes();
        let items = view.range(&self.0.letters, Bound::Excluded(&from), Bound::Unbounded).take(limit);
        items.map(|item| item.and_then(|(key, value)| decode(number_of(&key), &value))).collect()
    }

    /// Removes a letter. False if there is none of that number.
    ///
    /// # Errors
    /// When the store fails.
    pub fn remove(&self, letter: &DeadLetter) -> Result<bool, StoreError> {
        let mut batch = Batch::new();
        if !self.remove_in(&mut batch, letter.number)? {
            return Ok(false);
        }
        self.0.store.commit(batch)?;
        self.removed(letter);
        Ok(true)
    }

    /// Removes what is beyond the limits.
    ///
    /// # Errors
    /// When the store fails.
    pub fn trim(&self, now_ms: i64) -> Result<(), StoreError> {
        let _one_at_a_time = self.0.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let max_age = i64::try_from(self.0.limits.max_age.as_millis()).unwrap_or(i64::MAX);
        let oldest_ms = now_ms.saturating_sub(max_age);
        loop {
            let view = self.0.store.snapshot();
            let (mut batch, mut letters, mut bytes) = (Batch::new(), 0, 0);
            for item in view.prefix(&self.0.letters, []).take(AT_ONCE) {
                let (key, value) = item?;
                let too_many = self.bytes().saturating_sub(bytes) > self.0.limits.max_bytes;
                if !too_many && decode(number_of(&key), &value)?.died_ms > oldest_ms {
                    break;
                }
                batch.delete(&self.0.letters, key);
                letters += 1;
                bytes += value.len() as u64;
            }
            if letters == 0 {
                return Ok(());
            }
            self.0.store.commit(batch)?;
            self.uncount(letters, bytes);
            self.0.dropped.fetch_add(letters, Ordering::Relaxed);
        }
    }

    pub(crate) fn add_in(&self, batch: &mut Batch, letters: Vec<DeadLetter>) -> Buried {
        let mut buried = Buried { letters: 0, bytes: 0 };
        for mut letter in letters {
            letter.number = LetterId(self.0.next.fetch_add(1, Ordering::AcqRel));
            let value = encode(&letter);
            buried.letters += 1;
            buried.bytes += value.len() as u64;
            let number = letter.number.0.to_be_bytes();
            batch.put(&self.0.letters, number.to_vec(), value);
            batch.put(&self.0.numbers, NEWEST.to_vec(), number.to_vec());
        }
        buried
    }

    pub(crate) fn added(&self, buried: Buried) {
        self.0.count.fetch_add(buried.letters, Ordering::AcqRel);
        self.0.bytes.fetch_add(buried.bytes, Ordering::AcqRel);
        self.0.added.fetch_add(buried.letters, Ordering::Relaxed);
    }

    pub(crate) fn remove_in(&self, batch: &mut Batch, number: LetterId) -> Result<bool, StoreError> {
        let key = number.0.to_be_bytes();
        let found = self.0.store.get(&self.0.letters, key)?.is_some();
        if found {
            batch.delete(&self.0.letters, key.to_vec());
        }
        Ok(found)
    }

    pub(crate) fn removed(&self, letter: &DeadLetter) {
        self.uncount(1, encode(letter).len() as u64);
    }

    fn uncount(&self, letters: u64, bytes: u64) {
        self.0.count.fetch_sub(letters, Ordering::AcqRel);
        self.0.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

fn number_of(key: &[u8]) -> LetterId {
    LetterId(key.try_into().map(u64::from_be_bytes).unwrap_or_default())
}

fn encode(letter: &DeadLetter) -> Vec<u8> {
    let head = Head {
        sink: letter.sink.clone(),
        reason: letter.reason.clone(),
        attempts: letter.attempts,
        status: letter.status,
        died_ms: letter.died_ms,
    };
    let head = serde_json::to_vec(&head).unwrap_or_default();
    let mut bytes = vec![FORMAT];
    bytes.extend((head.len() as u32).to_le_bytes());
    bytes.extend(&head);
    bytes.extend(letter.entry.encode());
    bytes
}

fn decode(number: LetterId, bytes: &[u8]) -> Result<DeadLetter, StoreError> {
    let read = || {
        let (&FORMAT, rest) = bytes.split_first()? else { return None };
        let (length, rest) = rest.split_first_chunk()?;
        let (head, entry) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let head: Head = serde_json::from_slice(head).ok()?;
        Some((head, entry))
    };
    let (head, entry) = read().ok_or_else(|| StoreError::Unreadable { what: format!("dead letter {}", number.0) })?;
    Ok(DeadLetter {
        number,
        sink: head.sink,
        reason: head.reason,
        attempts: head.attempts,
        status: head.status,
        died_ms: head.died_ms,
        entry: Entry::decode(entry)?,
    })
}
