//! The stored forms of queues.
//!
//! All keys begin with the queue's name as in [`crate::outbox`]: its length in bytes as u16, then the name; a message's
//! **place** in its queue is its position (epoch as u64, 0 or 1, offset as u64) and its id. Numbers in keys have the most
//! significant byte first, those in values the least significant one.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `queue.messages` | name, place | format 1: one byte 1, the first time it is visible as u64, an entry of the outbox |
//! | `queue.due` | name, the time it is visible as u64, place | one byte: 0 never handed out, 1 handed out |
//! | `queue.handed` | name, place | format 1: one byte 1, visible again as u64, handed out first as u64, how often as u32, the 16 bytes of the secret |
//!
//! Times are milliseconds since 1970. A message has exactly one key in `queue.due`: under its time in `queue.handed` if
//! it is there, and under its first time otherwise. Places sort by arrival: the epoch of the row, or the time it was sent.
//!
//! # Receipt
//! The secret, then the place. It is good until the message is handed out again, with another secret.

use crate::outbox::{Entry, Position, prefix};
use crate::table::StoreError;

const FORMAT: u8 = 1;
/// Bytes of the secret of a receipt.
pub(super) const SECRET: usize = 16;
/// Bytes of a position in a place.
const POSITION: usize = 17;
/// The longest id of a message.
pub(super) const MAX_ID: usize = 2_048;

/// Proof that a message was handed out, for who received it. Nobody else can guess it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt(pub Vec<u8>);

/// Where a message is in its queue: position and id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place(pub Vec<u8>);

/// What is known of a message that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HandedOut {
    pub visible_ms: u64,
    pub first_ms: u64,
    pub times: u32,
    pub secret: [u8; SECRET],
}

impl Place {
    pub fn of(position: Position, id: &str) -> Self {
        let mut place = Vec::with_capacity(POSITION + id.len());
        position.encode(&mut place);
        place.extend(id.as_bytes());
        Self(place)
    }

    /// When it came, rounded up: what is counted from here is never early.
    pub fn arrived_ms(&self) -> u64 {
        Position::decode(&self.0).unwrap_or_default().epoch.div_ceil(1_000)
    }

    pub fn message_key(&self, queue: &str) -> Vec<u8> {
        let mut key = prefix(queue);
        key.extend(&self.0);
        key
    }

    pub fn due_key(&self, queue: &str, visible_ms: u64) -> Vec<u8> {
        let mut key = due_from(queue, visible_ms);
        key.extend(&self.0);
        key
    }

    /// The place in a key of `queue.messages`.
    pub fn in_message_key(queue: &str, key: &[u8]) -> Option<Self> {
        let rest = key.strip_prefix(prefix(queue).as_slice())?;
        Some(Self(rest.to_vec()))
    }

    /// Time and place in a key of `queue.due`.
    pub fn in_due_key(queue: &str, key: &[u8]) -> Option<(u64, Self)> {
        let rest = key.strip_prefix(prefix(queue).as_slice())?;
        let (visible, place) = rest.split_first_chunk()?;
        Some((u64::from_be_bytes(*visible), Self(place.to_vec())))
    }
}

/// The first key of `queue.due` at this time.
pub(super) fn due_from(queue: &str, visible_ms: u64) -> Vec<u8> {
    let mut key = prefix(queue);
    key.extend(visible_ms.to_be_bytes());
    key
}

impl Receipt {
    pub(super) fn of(secret: &[u8; SECRET], place: &Place) -> Self {
        Self([secret.as_slice(), &place.0].concat())
    }

    pub(super) fn read(&self) -> Option<([u8; SECRET], Place)> {
        let (secret, place) = self.0.split_first_chunk()?;
        let id = place.get(POSITION..)?;
        (id.len() <= MAX_ID).then(|| (*secret, Place(place.to_vec())))
    }
}

impl HandedOut {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend(self.visible_ms.to_le_bytes());
        bytes.extend(self.first_ms.to_le_bytes());
        bytes.extend(self.times.to_le_bytes());
        bytes.extend(self.secret);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let read = || {
            let (&FORMAT, rest) = bytes.split_first()? else { return None };
            let (visible, rest) = rest.split_first_chunk()?;
            let (first, rest) = rest.split_first_chunk()?;
            let (times, rest) = rest.split_first_chunk()?;
            let secret = rest.try_into().ok()?;
            Some(Self {
                visible_ms: u64::from_le_bytes(*visible),
                first_ms: u64::from_le_bytes(*first),
                times: u32::from_le_bytes(*times),
                secret,
            })
        };
        read().ok_or_else(|| unreadable("what was handed out of a queue"))
    }

    /// Whether this is the secret, in a time that does not depend on where they differ.
    pub fn has(&self, secret: &[u8; SECRET]) -> bool {
        self.secret.iter().zip(secret).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

pub(super) fn encode_message(visible_ms: u64, entry: &Entry) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    bytes.extend(visible_ms.to_le_bytes());
    bytes.extend(entry.encode());
    bytes
}

/// A message, and the first time it is visible.
pub(super) fn decode_message(bytes: &[u8]) -> Result<(u64, Entry), StoreError> {
    let (visible_ms, entry) = first_visible(bytes)?;
    Ok((visible_ms, Entry::decode(entry)?))
}

/// The first time a message is visible, and what follows it.
pub(super) fn first_visible(bytes: &[u8]) -> Result<(u64, &[u8]), StoreError> {
    let read = || {
        let (&FORMAT, rest) = bytes.split_first()? else { return None };
        let (visible, entry) = rest.split_first_chunk()?;
        Some((u64::from_le_bytes(*visible), entry))
    };
    read().ok_or_else(|| unreadable("a message of a queue"))
}

pub(super) fn unreadable(what: &str) -> StoreError {
    StoreError::Unreadable { what: what.to_owned() }
}
