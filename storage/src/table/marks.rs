//! Marks: how far each owner has come, applied and synced.
//!
//! A mark is stored in the keyspace `#store` under `mark/<name>`: one byte 1, the format, then the position as eight
//! bytes, least significant first.

use std::collections::BTreeMap;
use std::sync::Arc;

const FORMAT: u8 = 1;
const PREFIX: &[u8] = b"mark/";

/// The marks of one store, in memory.
#[derive(Debug, Default)]
pub(super) struct Marks {
    applied: BTreeMap<Arc<str>, u64>,
    synced: BTreeMap<Arc<str>, u64>,
}

impl Marks {
    /// Takes over a stored mark; what was found at opening is durable.
    pub(super) fn load(&mut self, name: &str, position: u64) {
        self.applied.insert(name.into(), position);
        self.synced.insert(name.into(), position);
    }

    pub(super) fn applied(&self, name: &str) -> Option<u64> {
        self.applied.get(name).copied()
    }

    pub(super) fn synced(&self, name: &str) -> Option<u64> {
        self.synced.get(name).copied()
    }

    pub(super) fn apply(&mut self, name: &str, position: u64) {
        match self.applied.get_mut(name) {
            Some(applied) => *applied = position,
            None => {
                self.applied.insert(name.into(), position);
            }
        }
    }

    /// All applied marks, to be given to `all_synced` once a sync that began after this call has ended.
    pub(super) fn to_sync(&self) -> BTreeMap<Arc<str>, u64> {
        self.applied.clone()
    }

    pub(super) fn all_synced(&mut self, marks: BTreeMap<Arc<str>, u64>) {
        self.synced = marks;
    }

    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.applied.keys().cloned().collect()
    }
}

pub(super) fn key(name: &str) -> Vec<u8> {
    [PREFIX, name.as_bytes()].concat()
}

pub(super) fn name_of(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(PREFIX)?).ok()
}

pub(super) fn prefix() -> &'static [u8] {
    PREFIX
}

pub(super) fn encode(position: u64) -> [u8; 9] {
    let mut bytes = [FORMAT; 9];
    for (to, from) in bytes.iter_mut().skip(1).zip(position.to_le_bytes()) {
        *to = from;
    }
    bytes
}

pub(super) fn decode(bytes: &[u8]) -> Option<u64> {
    match bytes.split_first()? {
        (&FORMAT, position) => Some(u64::from_le_bytes(position.try_into().ok()?)),
        _ => None,
    }
}
