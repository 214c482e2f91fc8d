//! Named tables of rows on a store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use fjall::Slice;

use super::catalogue::{self, Entry, TableSpec};
use super::error::{ApplyError, CreateError, ReadError, StoreError, TableOpenError};
use super::history::{History, Replaced};
use super::key::{Key, MAX_KEY_BYTES};
use super::keyspace::{Batch, Keyspace, Snapshot};
use super::row::{self, Head, Row, RowError};
use super::scan::{KeyBounds, Scan};
use super::store::{Store, StoreConfig};
use super::sweep::Cursor;

/// Sizes of the tables' store, and limits of rows.
#[derive(Clone, Debug)]
pub struct TablesConfig {
    /// The store.
    pub store: StoreConfig,
    /// Larger rows are refused.
    pub max_row_bytes: usize,
}

impl Default for TablesConfig {
    fn default() -> Self {
        Self { store: StoreConfig::default(), max_row_bytes: 4 * 1024 * 1024 }
    }
}

/// What `create` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// There is a new table.
    New,
    /// The table was there, its definition or time to live is now the given one. Rows keep the deadline they have.
    Altered,
    /// It was like that already, or this is an old statement read again.
    Unchanged,
}

/// One write to a table.
#[derive(Clone, Debug)]
pub struct Write<'a> {
    /// The table.
    pub table: &'a str,
    /// The hash key.
    pub hash: Key,
    /// The range key, for a table that has one.
    pub range: Option<Key>,
    /// The row as the text of a JSON object, key columns included; None removes the row.
    pub value: Option<&'a [u8]>,
    /// Log time of the write, in ms.
    pub time_ms: i64,
    /// Its epoch: for tables with a history.
    pub epoch: u64,
}

/// What `apply` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Writes taken.
    pub taken: usize,
    /// Writes that do not fit, in order: for the error action. The mark covers them.
    pub rejected: Vec<Rejected>,
}

/// A write that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Which of the writes given, from 0.
    pub index: usize,
    /// Why.
    pub reason: RowError,
}

/// All key-value tables of an instance. Clones share them.
#[derive(Clone)]
pub struct Tables(Arc<Inner>);

struct Inner {
    store: Store,
    catalogue: Keyspace,
    max_row_bytes: usize,
    /// Read-locked while rows are written, so that no table goes away in between.
    tables: RwLock<Catalogue>,
    cursor: Cursor,
    history: History,
}

#[derive(Default)]
struct Catalogue {
    by_name: BTreeMap<Arc<str>, Table>,
    last_number: u64,
}

pub(super) struct Table {
    entry: Entry,
    keyspace: Keyspace,
    /// What rows were before a write is kept.
    pub(super) keeps_history: bool,
}

impl Table {
    fn new(entry: Entry, keyspace: Keyspace) -> Self {
        Self { entry, keyspace, keeps_history: false }
    }
}

/// One table at one moment. It keeps superseded data on disk while it lives: hold it for one query.
#[derive(Clone)]
pub struct TableView {
    snapshot: Snapshot,
    keyspace: Keyspace,
    name: Arc<str>,
    has_range: bool,
}

impl TableView {
    /// As [`Tables::scan`], as of the moment of this view.
    pub fn scan(&self, hash: Option<&Key>, bounds: &KeyBounds, now_ms: i64) -> Scan {
        Scan::new(&self.snapshot, &self.keyspace, &self.name, self.has_range, hash, bounds, now_ms)
    }
}

impl Tables {
    /// Opens the tables in the folder `path`, creating it if there is none.
    pub fn open(path: &Path, config: TablesConfig) -> Result<Self, TableOpenError> {
        let store = Store::open(path, config.store)?;
        let read = |source| TableOpenError::Read { path: path.to_owned(), source };
        let keyspace = store.keyspace(catalogue::KEYSPACE).map_err(read)?;
        let mut tables = Catalogue::default();
        for item in store.snapshot().prefix(&keyspace, []) {
            let (name, bytes) = item.map_err(read)?;
            let name = String::from_utf8_lossy(&name).into_owned();
            let entry = Entry::decode(&bytes).map_err(|what| TableOpenError::UnknownFormat {
                path: path.to_owned(),
                table: name.clone(),
                what,
            })?;
            let rows = store.keyspace(&entry.keyspace()).map_err(read)?;
            tables.last_number = tables.last_number.max(entry.number);
            tables.by_name.insert(name.into(), Table::new(entry, rows));
        }
        drop_orphans(&store, &mut tables).map_err(read)?;
        let history = History::open(&store).map_err(read)?;
        Ok(Self(Arc::new(Inner {
            store,
            catalogue: keyspace,
            max_row_bytes: config.max_row_bytes,
            tables: RwLock::new(tables),
            cursor: Cursor::default(),
            history,
        })))
    }

    /// Creates a table, or alters what may be altered, durably. `at` is the position of the statement in the log:
    /// statements are read again after a crash, and one from before the table's last change changes nothing.
    pub fn create(&self, spec: &TableSpec, at: u64) -> Result<Created, CreateError> {
        if spec.name.is_empty() || spec.name.len() > 255 {
            return Err(CreateError::Name(spec.name.len()));
        }
        let mut tables = self.write_catalogue();
        let Some(table) = tables.by_name.get_mut(&*spec.name) else {
            let number = tables.last_number + 1;
            let entry = Entry::new(number, at, spec.clone());
            let keyspace = self.store().keyspace(&entry.keyspace())?;
            tables.last_number = number;
            self.write_entry(&spec.name, Some(&entry))?;
            tables.by_name.insert(spec.name.as_str().into(), Table::new(entry, keyspace));
            return Ok(Created::New);
        };
        if table.entry.spec == *spec || at < table.entry.changed {
            return Ok(Created::Unchanged);
        }
        let was = &table.entry.spec;
        if (&was.hash, &was.range) != (&spec.hash, &spec.range) {
            let columns = |spec: &TableSpec| {
                spec.range.as_ref().map_or_else(|| spec.hash.clone(), |range| format!("{}, {range}", spec.hash))
            };
            return Err(CreateError::OtherKey { table: spec.name.clone(), was: columns(was), wanted: columns(spec) });
        }
        let mut entry = table.entry.clone();
        entry.changed = at;
        entry.expires |= spec.ttl_ms.is_some();
        entry.spec = spec.clone();
        self.write_entry(&spec.name, Some(&entry))?;
        table.entry = entry;
        Ok(Created::Altered)
    }

    /// Drops a table and its rows, durably. False if there is none, or if it was created behind `at`: then this is an
    /// old statement read again.
    pub fn drop_table(&self, name: &str, at: u64) -> Result<bool, StoreError> {
        let mut tables = self.write_catalogue();
        if tables.by_name.get(name).is_none_or(|table| table.entry.created > at) {
            return Ok(false);
        }
        self.write_entry(name, None)?;
        if let Some(table) = tables.by_name.remove(name) {
            self.store().drop_keyspace(table.keyspace)?;
        }
        Ok(true)
    }

    /// The names of all tables, in order.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.read_catalogue().by_name.keys().cloned().collect()
    }

    /// What a table is.
    pub fn spec(&self, name: &str) -> Option<TableSpec> {
        self.read_catalogue().by_name.get(name).map(|table| table.entry.spec.clone())
    }

    /// Roughly how many rows a table has: overwritten and removed ones count until they are compacted away.
    pub fn approximate_rows(&self, name: &str) -> Option<u64> {
        self.read_catalogue().by_name.get(name).map(|table| table.keyspace.approximate_len())
    }

    /// Bytes of a table on disk.
    pub fn disk_bytes(&self, name: &str) -> Option<u64> {
        self.read_catalogue().by_name.get(name).map(|table| table.keyspace.disk_bytes())
    }

    /// Writes rows and moves the mark `sink` to `up_to`, all in one batch: after a crash all of it is there, or nothing.
    /// Of several writes to one key the last counts. A mark that would not move forward is refused, unless there is
    /// nothing to write. Readers see the rows at once; they are durable after the next `sync`.
    pub fn apply<'a>(
        &self,
        sink: &str,
        up_to: u64,
        writes: impl IntoIterator<Item = Write<'a>>,
    ) -> Result<Applied, ApplyError> {
        let tables = self.read_catalogue();
        let mut batch = Batch::new();
        let mut applied = Applied::default();
        let mut last: Option<(&str, &Table)> = None;
        let mut replaced = Replaced::default();
        for (index, write) in writes.into_iter().enumerate() {
            let table = match last {
                Some((name, table)) if name == write.table => Some(table),
                _ => tables.by_name.get(write.table),
            };
            let Some(table) = table else {
                let reason = RowError::UnknownTable(write.table.to_owned());
                applied.rejected.push(Rejected { index, reason });
                continue;
            };
            last = Some((write.table, table));
            match stored_row(table, &write, self.0.max_row_bytes) {
                Ok((key, row)) => {
                    if table.keeps_history {
                        let place = (table.entry.number, &table.keyspace);
                        let (history, new) = (&self.0.history, row.clone());
                        history.note(self.store(), &mut batch, &mut replaced, place, &key, write.epoch, new)?;
                    }
                    batch.write(&table.keyspace, key.into(), row);
                    applied.taken += 1;
                }
                Err(reason) => applied.rejected.push(Rejected { index, reason }),
            }
        }
        if batch.is_empty() && applied.rejected.is_empty() && self.mark(sink) == Some(up_to) {
            return Ok(applied);
        }
        batch.mark(sink, up_to);
        self.store().commit(batch)?;
        Ok(applied)
    }

    /// How far `sink` has come, as readers see it.
    pub fn mark(&self, sink: &str) -> Option<u64> {
        self.store().mark(sink)
    }

    /// How far `sink` has come durably: the log need not be read again below it.
    pub fn synced_mark(&self, sink: &str) -> Option<u64> {
        self.store().synced_mark(sink)
    }

    /// Makes everything applied before this call durable.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.store().sync()
    }

    /// One row, as of now; None if there is none, or if its time has passed at `now_ms`.
    pub fn get(&self, table: &str, hash: &Key, range: Option<&Key>, now_ms: i64) -> Result<Option<Row>, ReadError> {
        let tables = self.read_catalogue();
        let found = tables.by_name.get(table).ok_or_else(|| ReadError::UnknownTable(table.to_owned()))?;
        let Ok(key) = encode_key(&found.entry.spec, hash, range) else {
            return Ok(None);
        };
        let Some(stored) = self.store().get(&found.keyspace, key)? else {
            return Ok(None);
        };
        let head = Head::decode(&stored)
            .ok_or_else(|| StoreError::Unreadable { what: format!("a row of table '{table}'") })?;
        Ok((!head.has_expired(now_ms)).then(|| Row::new(hash.clone(), range.cloned(), head, stored)))
    }

    /// Rows in the order of their keys, as of now: of one hash key with `bounds` on the range key, or of the whole
    /// table with `bounds` on the hash key. Rows whose time has passed at `now_ms` are left out.
    pub fn scan(&self, table: &str, hash: Option<&Key>, bounds: &KeyBounds, now_ms: i64) -> Result<Scan, ReadError> {
        Ok(self.view(table)?.scan(hash, bounds, now_ms))
    }

    /// A table as it is now, for several looks at the same state.
    pub fn view(&self, table: &str) -> Result<TableView, ReadError> {
        let tables = self.read_catalogue();
        let found = tables.by_name.get(table).ok_or_else(|| ReadError::UnknownTable(table.to_owned()))?;
        Ok(TableView {
            snapshot: self.store().snapshot(),
            keyspace: found.keyspace.clone(),
            name: table.into(),
            has_range: found.entry.spec.range.is_some(),
        })
    }

    /// The store beneath: its statistics, its marks, what was repaired.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    pub(super) fn history(&self) -> &History {
        &self.0.history
    }

    pub(super) fn with_table<T>(&self, name: &str, change: impl FnOnce(&mut Table) -> T) -> Option<T> {
        self.write_catalogue().by_name.get_mut(name).map(change)
    }

    /// The table's number, its keyspace and the stored key; None if the key does not fit the table.
    pub(super) fn place(
        &self,
        table: &str,
        hash: &Key,
        range: Option<&Key>,
    ) -> Result<Option<(u64, Keyspace, Vec<u8>)>, ReadError> {
        let tables = self.read_catalogue();
        let found = tables.by_name.get(table).ok_or_else(|| ReadError::UnknownTable(table.to_owned()))?;
        let key = encode_key(&found.entry.spec, hash, range).ok();
        Ok(key.map(|key| (found.entry.number, found.keyspace.clone(), key)))
    }

    pub(super) fn cursor(&self) -> &Cursor {
        &self.0.cursor
    }

    /// The tables that may have rows to sweep, in order, and whether they keep a history.
    pub(super) fn expiring(&self) -> Vec<(Arc<str>, Keyspace, bool)> {
        let tables = self.read_catalogue();
        let expiring = tables.by_name.iter().filter(|(_, table)| table.entry.expires);
        expiring.map(|(name, table)| (name.clone(), table.keyspace.clone(), table.keeps_history)).collect()
    }

    fn write_entry(&self, name: &str, entry: Option<&Entry>) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        match entry {
            Some(entry) => batch.put(&self.0.catalogue, name, entry.encode()),
            None => batch.delete(&self.0.catalogue, name),
        }
        self.store().commit(batch)?;
        self.store().sync()
    }

    fn read_catalogue(&self) -> RwLockReadGuard<'_, Catalogue> {
        self.0.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_catalogue(&self) -> RwLockWriteGuard<'_, Catalogue> {
        self.0.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key and the stored row of a write; no row for a removal.
fn stored_row(table: &Table, write: &Write<'_>, most: usize) -> Result<(Vec<u8>, Option<Slice>), RowError> {
    let spec = &table.entry.spec;
    let key = encode_key(spec, &write.hash, write.range.as_ref())?;
    let Some(text) = write.value else { return Ok((key, None)) };
    if text.len() > most {
        return Err(RowError::RowTooLarge { bytes: text.len(), most });
    }
    Ok((key, Some(row::encode(write.time_ms, spec.ttl_ms, text).into())))
}

fn encode_key(spec: &TableSpec, hash: &Key, range: Option<&Key>) -> Result<Vec<u8>, RowError> {
    let mut key = Vec::with_capacity(48);
    hash.encode(&mut key);
    match (&spec.range, range) {
        (Some(_), Some(range)) => range.encode(&mut key),
        (None, None) => {}
        (Some(column), None) => {
            return Err(RowError::RangeMissing { table: spec.name.clone(), column: column.clone() });
        }
        (None, Some(_)) => return Err(RowError::RangeUnexpected { table: spec.name.clone() }),
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(RowError::KeyTooLong { bytes: key.len() });
    }
    Ok(key)
}

/// Removes keyspaces of rows that no catalogue entry names: a crash came between the two halves of a create or a drop.
fn drop_orphans(store: &Store, tables: &mut Catalogue) -> Result<(), StoreError> {
    for name in store.keyspaces() {
        let Some(number) = name.strip_prefix('t').and_then(|number| number.parse::<u64>().ok()) else {
            continue;
        };
        if tables.by_name.values().all(|table| table.entry.number != number) {
            store.drop_keyspace(store.keyspace(&name)?)?;
            tables.last_number = tables.last_number.max(number);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
