//! The stored form of an entry.
//!
//! # Key
//! The length of the destination's name in bytes as u16, the name, then the entry's [`Position`]: epoch as u64, 0 for
//! rows of a deadline and 1 for those of records, offset as u64; then the row id. All numbers have the most significant
//! byte first, so that keys of one destination sort in the one order of the system.
//!
//! # Value, format 1
//! One byte 1, the length of the head as u32 and the length of the body as u32, least significant byte first; the head, a
//! JSON object with the members of `Head`; the body; the original payload, if it is kept, to the end.
//!
//! # Attempts, format 1
//! Under the same key in a keyspace of their own, so that a failed attempt does not write the body again: one byte 1, then
//! a JSON object with the members of [`Attempts`].

use serde::{Deserialize, Serialize};

use crate::table::{Slice, StoreError};

const FORMAT: u8 = 1;

/// Where a row stands in the one order of the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Epoch of the record, or the deadline.
    pub epoch: u64,
    /// False for rows of a deadline.
    pub record: bool,
    /// Offset of the record.
    pub offset: u64,
}

/// A row for one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The row's stable id.
    pub id: String,
    /// Where it stands.
    pub position: Position,
    /// The rule that made it.
    pub rule: String,
    /// Number of the action in the rule.
    pub action: u32,
    /// Time of receipt of the message behind it, milliseconds since 1970.
    pub time_ms: i64,
    /// Topic of that message, empty if there is none.
    pub topic: String,
    /// Client that sent it, empty if there is none.
    pub client_id: String,
    /// What the action's templates said, by name.
    pub parameters: Vec<(String, String)>,
    /// The row.
    pub body: Vec<u8>,
    /// The payload of the message, if the rule has an error action: it runs when this fails. Without, failing makes a
    /// dead letter.
    pub original: Option<Vec<u8>>,
}

/// What is known of the attempts to deliver an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// How many failed.
    pub count: u32,
    /// When the first one was made, milliseconds since 1970.
    pub first_ms: i64,
    /// Why the last one failed.
    pub reason: String,
    /// What the destination answered, as a number of its protocol.
    pub status: Option<u16>,
}

/// The key of an entry in the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey(pub(super) Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    id: String,
    position: Position,
    rule: String,
    action: u32,
    time_ms: i64,
    topic: String,
    client_id: String,
    parameters: Vec<(String, String)>,
    original: bool,
}

/// What all keys of a destination begin with.
pub(crate) fn prefix(destination: &str) -> Vec<u8> {
    let length = u16::try_from(destination.len()).unwrap_or(u16::MAX);
    let mut key = length.to_be_bytes().to_vec();
    key.extend(destination.as_bytes().iter().take(usize::from(length)));
    key
}

/// The destination that a key belongs to, and what follows its name.
pub(crate) fn destination(key: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = key.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

impl Position {
    pub(crate) fn encode(self, key: &mut Vec<u8>) {
        key.extend(self.epoch.to_be_bytes());
        key.push(u8::from(self.record));
        key.extend(self.offset.to_be_bytes());
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (epoch, rest) = bytes.split_first_chunk()?;
        let (record, rest) = rest.split_first()?;
        let (offset, _) = rest.split_first_chunk()?;
        Some(Self { epoch: u64::from_be_bytes(*epoch), record: *record != 0, offset: u64::from_be_bytes(*offset) })
    }
}

impl EntryKey {
    pub(super) fn new(destination: &str, entry: &Entry) -> Self {
        let mut key = prefix(destination);
        entry.position.encode(&mut key);
        key.extend(entry.id.as_bytes());
        Self(key)
    }

    /// Where the entry stands.
    pub fn position(&self) -> Position {
        destination(&self.0).and_then(|(_, rest)| Position::decode(rest)).unwrap_or_default()
    }
}

impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let head = Head {
            id: self.id.clone(),
            position: self.position,
            rule: self.rule.clone(),
            action: self.action,
            time_ms: self.time_ms,
            topic: self.topic.clone(),
            client_id: self.client_id.clone(),
            parameters: self.parameters.clone(),
            original: self.original.is_some(),
        };
        let head = serde_json::to_vec(&head).unwrap_or_default();
        let original = self.original.as_deref().unwrap_or_default();
        let mut bytes = Vec::with_capacity(9 + head.len() + self.body.len() + original.len());
        bytes.push(FORMAT);
        bytes.extend((head.len() as u32).to_le_bytes());
        bytes.extend((self.body.len() as u32).to_le_bytes());
        bytes.extend(&head);
        bytes.extend(&self.body);
        bytes.extend(original);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        Self::read(bytes).ok_or_else(|| StoreError::Unreadable { what: "an entry of the outbox".into() })
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (&FORMAT, rest) = bytes.split_first()? else { return None };
        let (head_bytes, rest) = rest.split_first_chunk()?;
        let (body_bytes, rest) = rest.split_first_chunk()?;
        let (head, rest) = rest.split_at_checked(u32::from_le_bytes(*head_bytes) as usize)?;
        let (body, original) = rest.split_at_checked(u32::from_le_bytes(*body_bytes) as usize)?;
        let head: Head = serde_json::from_slice(head).ok()?;
        Some(Self {
            id: head.id,
            position: head.position,
            rule: head.rule,
            action: head.action,
            time_ms: head.time_ms,
            topic: head.topic,
            client_id: head.client_id,
            parameters: head.parameters,
            body: body.to_vec(),
            original: head.original.then(|| original.to_vec()),
        })
    }

    /// What a template said.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str())
    }
}

impl Attempts {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend(serde_json::to_vec(self).unwrap_or_default());
        bytes
    }

    pub(super) fn decode(bytes: &Slice) -> Result<Self, StoreError> {
        let text = bytes.strip_prefix(&[FORMAT]);
        text.and_then(|text| serde_json::from_slice(text).ok())
            .ok_or_else(|| StoreError::Unreadable { what: "the attempts of an entry of the outbox".into() })
    }
}
