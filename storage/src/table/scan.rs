//! Ranges of keys, and walking over the rows in them.

use std::ops::Bound;

use super::error::StoreError;
use super::key::{Key, encode_text_prefix};
use super::keyspace::{Entries, Keyspace, Snapshot};
use super::row::{Head, Row};

/// Which keys: of the range key where a hash key is given, else of the hash key.
///
/// The order goes over all kinds: booleans, numbers, text. A lower bound that is a number thus lets all text through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyBounds {
    /// All of them.
    #[default]
    All,
    /// From one key to another.
    Between(Bound<Key>, Bound<Key>),
    /// Text that begins so.
    TextPrefix(String),
}

/// Rows in the order of their keys, as of one moment; `rev()` gives them backwards. Rows past their time are left out.
pub struct Scan {
    entries: Entries,
    table: String,
    has_range: bool,
    now_ms: i64,
}

impl Scan {
    pub(super) fn new(
        view: &Snapshot,
        keyspace: &Keyspace,
        table: &str,
        has_range: bool,
        hash: Option<&Key>,
        bounds: &KeyBounds,
        now_ms: i64,
    ) -> Self {
        let (from, to) = interval(hash, bounds);
        let entries = view.range(keyspace, as_slice(&from), as_slice(&to));
        Self { entries, table: table.to_owned(), has_range, now_ms }
    }

    fn row(&self, entry: Result<(fjall::Slice, fjall::Slice), StoreError>) -> Result<Option<Row>, StoreError> {
        let (key, stored) = entry?;
        let unreadable = || StoreError::Unreadable { what: format!("a row of table '{}'", self.table) };
        let head = Head::decode(&stored).ok_or_else(unreadable)?;
        if head.has_expired(self.now_ms) {
            return Ok(None);
        }
        let mut bytes = &*key;
        let hash = Key::decode(&mut bytes).ok_or_else(unreadable)?;
        let range = if self.has_range { Some(Key::decode(&mut bytes).ok_or_else(unreadable)?) } else { None };
        if !bytes.is_empty() {
            return Err(unreadable());
        }
        Ok(Some(Row::new(hash, range, head, stored)))
    }
}

impl Iterator for Scan {
    type Item = Result<Row, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = self.entries.next()?;
            if let Some(row) = self.row(entry).transpose() {
                return Some(row);
            }
        }
    }
}

impl DoubleEndedIterator for Scan {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            let entry = self.entries.next_back()?;
            if let Some(row) = self.row(entry).transpose() {
                return Some(row);
            }
        }
    }
}

/// The stored keys that a hash key and bounds stand for. Keys with a common beginning lie together, so every bound is
/// the first key of such a group or the first one behind it.
fn interval(hash: Option<&Key>, bounds: &KeyBounds) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let mut common = Vec::new();
    if let Some(hash) = hash {
        hash.encode(&mut common);
    }
    let with = |key: &Key| {
        let mut bytes = common.clone();
        key.encode(&mut bytes);
        bytes
    };
    match bounds {
        KeyBounds::All => (Bound::Included(common.clone()), behind(common)),
        KeyBounds::TextPrefix(prefix) => {
            encode_text_prefix(prefix, &mut common);
            (Bound::Included(common.clone()), behind(common))
        }
        KeyBounds::Between(from, to) => {
            let from = match from {
                Bound::Included(key) => Bound::Included(with(key)),
                Bound::Excluded(key) => match behind(with(key)) {
                    Bound::Excluded(next) => Bound::Included(next),
                    other => other,
                },
                Bound::Unbounded => Bound::Included(common.clone()),
            };
            let to = match to {
                Bound::Included(key) => behind(with(key)),
                Bound::Excluded(key) => Bound::Excluded(with(key)),
                Bound::Unbounded => behind(common),
            };
            (from, to)
        }
    }
}

/// The end of the group of keys that begin with `bytes`: the shortest key above all of them.
fn behind(mut bytes: Vec<u8>) -> Bound<Vec<u8>> {
    while let Some(last) = bytes.last_mut() {
        if *last < 0xff {
            *last += 1;
            return Bound::Excluded(bytes);
        }
        bytes.pop();
    }
    Bound::Unbounded
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(bytes) => Bound::Included(bytes),
        Bound::Excluded(bytes) => Bound::Excluded(bytes),
        Bound::Unbounded => Bound::Unbounded,
    }
}
