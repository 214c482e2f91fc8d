//! What rows were before: for tables whose past is asked for.
//!
//! After a crash the log is read again from a checkpoint, while the tables are already further on. Who looks a row up as
//! of an epoch must see then what it saw the first time. So a table with a history keeps, for each write, the row that
//! was there before it, in the same batch as the row and the mark: the row as of epoch E is what the first write at or
//! after E found, or, if there was none, the row as it is now. What no replay can ask for any more is forgotten.
//!
//! # Format
//! One keyspace, `history`, for all tables. Key: the number of the table (u64) and the epoch of the write (u64), most
//! significant byte first, with the row's key between them. Value: one byte, 0 if there was no row and 1 if there was;
//! then the stored row. This is format 1 of the history; its entries are as old as the older checkpoint at most.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use fjall::Slice;

use super::error::{ReadError, StoreError};
use super::key::Key;
use super::keyspace::{Batch, Keyspace, Snapshot};
use super::row::{Head, Row};
use super::store::Store;
use super::tables::Tables;
use crate::fault;

pub(super) const KEYSPACE: &str = "history";
/// Entries looked at between two commits while forgetting.
const CHUNK: usize = 4096;
const ABSENT: &[u8] = &[0];
const PRESENT: u8 = 1;

/// The history of all tables.
pub(super) struct History {
    keyspace: Keyspace,
    /// Nobody asks for a row as of this epoch or an earlier one.
    floor: AtomicU64,
}

/// What the writes of one batch have replaced so far: reads do not see what is not committed.
#[derive(Default)]
pub(super) struct Replaced {
    last: HashMap<Vec<u8>, (u64, Option<Slice>), RandomState>,
}

impl History {
    pub(super) fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { keyspace: store.keyspace(KEYSPACE)?, floor: AtomicU64::new(0) })
    }

    /// The time, in ms, before which rows of tables with a history may be swept.
    pub(super) fn floor_ms(&self) -> i64 {
        i64::try_from(self.floor.load(Ordering::Acquire) / 1_000).unwrap_or(i64::MAX)
    }

    /// Notes in `batch` what the write of `key` at `epoch` replaces. `new` is the stored row, `None` for a removal.
    ///
    /// The writes of a table come in the order of their epochs, and those of one epoch in one batch.
    #[expect(clippy::too_many_arguments, reason = "they are one write")]
    pub(super) fn note(
        &self,
        store: &Store,
        batch: &mut Batch,
        replaced: &mut Replaced,
        table: (u64, &Keyspace),
        key: &[u8],
        epoch: u64,
        new: Option<Slice>,
    ) -> Result<(), StoreError> {
        let prefix = prefix(table.0, key);
        let before = match replaced.last.get_mut(&prefix) {
            // The second write of an epoch replaces nothing that another epoch could see.
            Some((at, row)) if *at == epoch => {
                *row = new;
                return Ok(());
            }
            Some((_, row)) => row.take(),
            None => store.get(table.1, key)?,
        };
        let value: Slice = match before {
            None => ABSENT.into(),
            Some(row) => [&[PRESENT], &*row].concat().into(),
        };
        batch.put(&self.keyspace, at(&prefix, epoch), value);
        replaced.last.insert(prefix, (epoch, new));
        Ok(())
    }

    /// The stored row as of `epoch`: with all writes of earlier epochs, and none of this or later ones.
    fn as_of(
        &self,
        view: &Snapshot,
        table: (u64, &Keyspace),
        key: &[u8],
        epoch: u64,
    ) -> Result<Option<Slice>, StoreError> {
        let prefix = prefix(table.0, key);
        let (from, to) = (at(&prefix, epoch), at(&prefix, u64::MAX));
        let later = if fault::bug("lookup_reads_newest") {
            None
        } else {
            view.range(&self.keyspace, Bound::Included(&*from), Bound::Included(&*to)).next().transpose()?
        };
        let Some((_, before)) = later else { return view.get(table.1, key) };
        match before.split_first() {
            Some((&PRESENT, row)) => Ok(Some(row.into())),
            Some((0, [])) => Ok(None),
            _ => Err(StoreError::Unreadable { what: "the history of a table".to_owned() }),
        }
    }
}

impl Tables {
    /// Keeps the history of a table from now on, for as long as this store is open. Asked for again after each start,
    /// before rows are written. False if there is no such table.
    pub fn keep_history(&self, table: &str) -> bool {
        self.with_table(table, |table| table.keeps_history = true).is_some()
    }

    /// One row as of `epoch`: with all writes of earlier epochs, and none of this or later ones, however far the table
    /// has come. All writes of earlier epochs must have been applied, and the history kept since `epoch`.
    pub fn get_as_of(
        &self,
        table: &str,
        hash: &Key,
        range: Option<&Key>,
        epoch: u64,
    ) -> Result<Option<Row>, ReadError> {
        let Some((number, keyspace, key)) = self.place(table, hash, range)? else { return Ok(None) };
        let view = self.store().snapshot();
        let Some(stored) = self.history().as_of(&view, (number, &keyspace), &key, epoch)? else { return Ok(None) };
        let head = Head::decode(&stored)
            .ok_or_else(|| StoreError::Unreadable { what: format!("a row of table '{table}'") })?;
        let now_ms = i64::try_from(epoch / 1_000).unwrap_or(i64::MAX);
        Ok((!head.has_expired(now_ms)).then(|| Row::new(hash.clone(), range.cloned(), head, stored)))
    }

    /// Nobody will ask for a row as of `floor` or an earlier epoch any more: forgets what was kept for them. Returns how
    /// many entries went. Other writers get their turn in between.
    pub fn forget_history(&self, floor: u64) -> Result<usize, StoreError> {
        let history = self.history();
        history.floor.fetch_max(floor, Ordering::AcqRel);
        let (mut forgotten, mut batch) = (0, Batch::new());
        for entry in self.store().snapshot().prefix(&history.keyspace, []) {
            let (key, _) = entry?;
            let epoch = key.last_chunk().map_or(0, |epoch| u64::from_be_bytes(*epoch));
            if epoch <= floor {
                batch.delete(&history.keyspace, key);
                forgotten += 1;
            }
            if batch.len() == CHUNK {
                self.store().commit(std::mem::take(&mut batch))?;
            }
        }
        self.store().commit(batch)?;
        Ok(forgotten)
    }
}

/// The beginning of all entries of a row. No key is the beginning of another, so the epoch can follow it.
fn prefix(table: u64, key: &[u8]) -> Vec<u8> {
    [&table.to_be_bytes(), key].concat()
}

fn at(prefix: &[u8], epoch: u64) -> Vec<u8> {
    [prefix, &epoch.to_be_bytes()].concat()
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
