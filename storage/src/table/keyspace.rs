//! Keyspaces of bytes: what a caller of a store holds, reads and writes.

use std::collections::hash_map::Entry;
use std::ops::Bound;

use ahash::RandomState;
use fjall::{Readable, Slice};

use super::error::StoreError;
use super::marks;

/// The longest key a keyspace takes.
const MAX_RAW_KEY_BYTES: usize = u16::MAX as usize;

/// A handle to one keyspace of a store: an ordered map of bytes to bytes. Cheap to clone.
#[derive(Clone)]
pub struct Keyspace(pub(super) fjall::Keyspace);

impl Keyspace {
    /// Roughly how many entries there are: overwritten and deleted ones count until they are compacted away.
    pub fn approximate_len(&self) -> u64 {
        self.0.approximate_len() as u64
    }

    /// Bytes on disk, without what is still in the journal alone.
    pub fn disk_bytes(&self) -> u64 {
        self.0.disk_space()
    }
}

/// Writes over any keyspaces of one store that become visible, and durable, together.
///
/// The last write to a key wins; only that one is stored.
#[derive(Default)]
pub struct Batch {
    pub(super) writes: Vec<(Keyspace, Slice, Option<Slice>)>,
    /// Where in `writes` a key is, per keyspace.
    seen: std::collections::HashMap<(u64, Slice), usize, RandomState>,
    pub(super) mark: Option<(String, u64)>,
    bytes: usize,
    longest_key: usize,
    shortest_key: Option<usize>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value of a key. Keys are 1 to 65,535 bytes long.
    pub fn put(&mut self, keyspace: &Keyspace, key: impl Into<Slice>, value: impl Into<Slice>) {
        self.write(keyspace, key.into(), Some(value.into()));
    }

    /// Removes a key, if it is there.
    pub fn delete(&mut self, keyspace: &Keyspace, key: impl Into<Slice>) {
        self.write(keyspace, key.into(), None);
    }

    /// Moves the mark `name` to `up_to` with this batch. A batch has one mark at most; the last call counts.
    pub fn mark(&mut self, name: &str, up_to: u64) {
        self.mark = Some((name.to_owned(), up_to));
    }

    /// Number of keys written.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// True if there is neither a write nor a mark.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.mark.is_none()
    }

    /// Bytes of all keys and values given, also of those overwritten within the batch: for limits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn write(&mut self, keyspace: &Keyspace, key: Slice, value: Option<Slice>) {
        self.bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
        self.longest_key = self.longest_key.max(key.len());
        self.shortest_key = Some(self.shortest_key.unwrap_or(usize::MAX).min(key.len()));
        match self.seen.entry((keyspace.0.id(), key.clone())) {
            Entry::Occupied(at) => {
                if let Some(write) = self.writes.get_mut(*at.get()) {
                    write.2 = value;
                }
            }
            Entry::Vacant(at) => {
                at.insert(self.writes.len());
                self.writes.push((keyspace.clone(), key, value));
            }
        }
    }

    pub(super) fn check_keys(&self) -> Result<(), StoreError> {
        if self.longest_key > MAX_RAW_KEY_BYTES || self.shortest_key == Some(0) {
            let bytes = if self.shortest_key == Some(0) { 0 } else { self.longest_key };
            return Err(StoreError::KeyLength { bytes, most: MAX_RAW_KEY_BYTES });
        }
        Ok(())
    }
}

/// A view of the whole store at one moment: all of a batch or nothing of it, whatever is written meanwhile.
///
/// It keeps superseded data on disk while it lives: hold it for one query, not for a session.
#[derive(Clone)]
pub struct Snapshot {
    pub(super) view: fjall::Snapshot,
    pub(super) own: Keyspace,
}

impl Snapshot {
    /// The value of a key.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Slice>, StoreError> {
        self.view.get(&keyspace.0, key).map_err(|error| StoreError::reading(&error))
    }

    /// All entries whose key begins with `prefix`, in the order of keys.
    pub fn prefix(&self, keyspace: &Keyspace, prefix: impl AsRef<[u8]>) -> Entries {
        Entries(Some(self.view.prefix(&keyspace.0, prefix)))
    }

    /// All entries between two keys, in the order of keys. Bounds that enclose nothing give nothing.
    pub fn range(&self, keyspace: &Keyspace, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Entries {
        let empty = match (from, to) {
            (Bound::Included(from), Bound::Included(to)) => from > to,
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
            _ => false,
        };
        Entries((!empty).then(|| self.view.range::<&[u8], _>(&keyspace.0, (from, to))))
    }

    /// The applied mark as of this view.
    pub fn mark(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let Some(bytes) = self.get(&self.own, marks::key(name))? else {
            return Ok(None);
        };
        marks::decode(&bytes).map(Some).ok_or_else(|| StoreError::Unreadable { what: format!("the mark '{name}'") })
    }
}

/// Entries of a keyspace in the order of keys; `rev()` gives them backwards.
pub struct Entries(Option<fjall::Iter>);

impl Iterator for Entries {
    type Item = Result<(Slice, Slice), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(entry(self.0.as_mut()?.next()?))
    }
}

impl DoubleEndedIterator for Entries {
    fn next_back(&mut self) -> Option<Self::Item> {
        Some(entry(self.0.as_mut()?.next_back()?))
    }
}

fn entry(guard: fjall::Guard) -> Result<(Slice, Slice), StoreError> {
    guard.into_inner().map_err(|error| StoreError::reading(&error))
}
