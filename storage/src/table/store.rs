//! A store: keyspaces in one folder, atomic batches with a mark, one sync for all.
//!
//! The folder is a `fjall` database. The keyspace `#store` is the store's own: under `format` the number of the format
//! as four bytes, least significant first, and the marks. Names of other keyspaces are the caller's.
//!
//! `fjall` writes each batch to its journal, framed and checksummed, and keeps it in memory until a flush. A journal is
//! replayed whole when the folder is opened, so its length is bounded here: past `JOURNAL_BYTES` all keyspaces are
//! flushed, which lets the journal be dropped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use fjall::{Database, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};

use super::error::{StoreError, StoreOpenError, open_error, reason};
use super::journal::{self, Repair};
use super::keyspace::{Batch, Keyspace, Snapshot};
use super::marks::{self, Marks};
use crate::fault;

pub(super) const STORE_FORMAT: u32 = 1;
const OWN_KEYSPACE: &str = "#store";
const FORMAT_KEY: &str = "format";

/// `fjall` begins a new journal when it flushes with more than this in the old one.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
/// How much is written between two looks at the journal's length.
const LOOK_EVERY_BYTES: u64 = 4 * 1024 * 1024;
/// A writer that has to wait for flushing looks again after this long, and goes on after this many looks.
const WAIT: Duration = Duration::from_millis(5);
const MOST_WAITS: usize = 2_000;

/// Sizes of a store. They bound memory, not data.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Blocks read from disk that are kept in memory.
    pub cache_bytes: u64,
    /// What one keyspace collects in memory before it is flushed to a file.
    pub memtable_bytes: u64,
    /// Threads that flush and compact.
    pub workers: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { cache_bytes: 32 * 1024 * 1024, memtable_bytes: 16 * 1024 * 1024, workers: 2 }
    }
}

/// What a store has written since it was opened, and what it occupies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Batches committed.
    pub commits: u64,
    /// Keys set.
    pub puts: u64,
    /// Keys removed.
    pub deletes: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Syncs that had something to sync.
    pub syncs: u64,
    /// Bytes of the journal, which is read whole at opening. An empty one has 64 MiB of nothing.
    pub journal_bytes: u64,
    /// Bytes on disk, the journal included.
    pub disk_bytes: u64,
}

/// A folder of keyspaces. Clones share it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    db: Database,
    own: Keyspace,
    path: PathBuf,
    config: StoreConfig,
    /// Held from checking the mark to having written it, so that batches are one after the other.
    writer: Mutex<Written>,
    marks: RwLock<Marks>,
    /// Something was committed since the last sync began.
    unsynced: AtomicBool,
    /// Held while syncing: who comes meanwhile waits until what it wrote is durable.
    syncing: Mutex<()>,
    failed: OnceLock<String>,
    repair: Option<Repair>,
    counts: Counts,
}

#[derive(Default)]
pub(super) struct Written {
    since_look: u64,
}

#[derive(Default)]
struct Counts {
    commits: AtomicU64,
    puts: AtomicU64,
    deletes: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
}

impl Store {
    /// Opens the store in `path`, creating it if there is none. After a crash, what the end of the journal lost is
    /// gone with its mark; all that is found is durable.
    pub fn open(path: &Path, config: StoreConfig) -> Result<Self, StoreOpenError> {
        let (db, repair) = open_repaired(path, &config)?;
        let failed = |error: fjall::Error| open_error(path, &error);
        let is_new = db.keyspace_count() == 0;
        let own = Keyspace(db.keyspace(OWN_KEYSPACE, || options(&config)).map_err(failed)?);
        check_format(path, &db, &own, is_new)?;
        db.persist(PersistMode::SyncAll).map_err(failed)?;
        let marks = load_marks(path, &own)?;
        Ok(Self(Arc::new(Inner {
            db,
            own,
            path: path.to_owned(),
            config,
            writer: Mutex::default(),
            marks: RwLock::new(marks),
            unsynced: AtomicBool::new(false),
            syncing: Mutex::default(),
            failed: OnceLock::new(),
            repair,
            counts: Counts::default(),
        })))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What was cut off the journal at opening: written before a power failure, but never synced.
    pub fn repair(&self) -> Option<&Repair> {
        self.0.repair.as_ref()
    }

    /// Opens the keyspace `name`, creating it if there is none. Names have 1 to 200 bytes and do not begin with `#`.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace, StoreError> {
        self.check()?;
        if name.is_empty() || name.len() > 200 || name.starts_with('#') {
            return Err(StoreError::Read { reason: format!("'{name}' cannot be the name of a keyspace") });
        }
        let keyspace = self.0.db.keyspace(name, || options(&self.0.config)).map_err(|error| self.fail(&error))?;
        Ok(Keyspace(keyspace))
    }

    /// The names of all keyspaces, in order.
    pub fn keyspaces(&self) -> Vec<String> {
        let names = self.0.db.list_keyspace_names().into_iter().map(|name| name.to_string());
        let mut names: Vec<_> = names.filter(|name| name != OWN_KEYSPACE).collect();
        names.sort();
        names
    }

    /// Removes a keyspace with all its entries. Its files go when the last reader is done.
    pub fn drop_keyspace(&self, keyspace: Keyspace) -> Result<(), StoreError> {
        let _writer = self.lock();
        self.check()?;
        self.0.db.delete_keyspace(keyspace.0).map_err(|error| self.fail(&error))
    }

    /// Writes a batch, whole or not at all, and moves its mark with it. Readers see it at once; it is durable after the
    /// next `sync`. May wait while flushing has fallen behind.
    pub fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let mut writer = self.lock();
        self.commit_locked(&mut writer, batch)
    }

    /// Keeps other writers out, for reading and writing in one go with `commit_locked`.
    pub(super) fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn commit_locked(&self, writer: &mut Written, mut batch: Batch) -> Result<(), StoreError> {
        self.check()?;
        batch.check_keys()?;
        if batch.is_empty() {
            return Ok(());
        }
        let mark = batch.mark.take();
        if let Some((name, up_to)) = &mark {
            if let Some(applied) = self.mark(name)
                && *up_to <= applied
            {
                return Err(StoreError::MarkNotAhead { name: name.clone(), mark: applied, up_to: *up_to });
            }
            if fault::bug("mark_before_rows") {
                let mut alone = Batch::new();
                alone.put(&self.0.own, marks::key(name), marks::encode(*up_to));
                self.write(writer, alone)?;
                fault::point("table.after_mark_before_rows");
            } else {
                batch.put(&self.0.own, marks::key(name), marks::encode(*up_to));
            }
        }
        self.write(writer, batch)?;
        if let Some((name, up_to)) = mark {
            self.0.marks.write().unwrap_or_else(PoisonError::into_inner).apply(&name, up_to);
        }
        self.0.unsynced.store(true, Ordering::Release);
        Ok(())
    }

    fn write(&self, writer: &mut Written, batch: Batch) -> Result<(), StoreError> {
        let bytes = batch.bytes() as u64;
        let (mut puts, mut deletes) = (0, 0);
        let mut native = OwnedWriteBatch::with_capacity(self.0.db.clone(), batch.len());
        for (keyspace, key, value) in batch.writes {
            match value {
                Some(value) => {
                    native.insert(&keyspace.0, key, value);
                    puts += 1;
                }
                None => {
                    native.remove(&keyspace.0, key);
                    deletes += 1;
                }
            }
        }
        // Handed to the operating system at once: a killed process loses nothing, only a power failure can.
        native.durability(Some(PersistMode::Buffer)).commit().map_err(|error| self.fail(&error))?;
        let counts = &self.0.counts;
        counts.commits.fetch_add(1, Ordering::Relaxed);
        counts.puts.fetch_add(puts, Ordering::Relaxed);
        counts.deletes.fetch_add(deletes, Ordering::Relaxed);
        counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        writer.since_look += bytes;
        if writer.since_look >= LOOK_EVERY_BYTES {
            writer.since_look = 0;
            self.bound_journal()?;
        }
        Ok(())
    }

    /// Flushes every keyspace when the journal is long. Left to itself, a journal lives as long as one row in it has
    /// not been flushed, and with many small tables that is for long. When flushing falls behind by more than a
    /// journal, the writer waits for it.
    fn bound_journal(&self) -> Result<(), StoreError> {
        let db = &self.0.db;
        if self.journal_bytes()? > JOURNAL_BYTES && db.outstanding_flushes() == 0 {
            for name in db.list_keyspace_names() {
                let keyspace = db.keyspace(&name, || options(&self.0.config)).map_err(|error| self.fail(&error))?;
                keyspace.rotate_memtable().map_err(|error| self.fail(&error))?;
            }
        }
        for _ in 0..MOST_WAITS {
            if self.journal_bytes()? <= 2 * JOURNAL_BYTES {
                break;
            }
            std::thread::park_timeout(WAIT);
            // Fails if flushing does not just take long, but has failed.
            db.persist(PersistMode::Buffer).map_err(|error| self.fail(&error))?;
        }
        Ok(())
    }

    fn journal_bytes(&self) -> Result<u64, StoreError> {
        self.0.db.journal_disk_space().map_err(|error| self.fail(&error))
    }

    /// Makes everything committed before this call durable. Does nothing when nothing was.
    pub fn sync(&self) -> Result<(), StoreError> {
        let _syncing = self.0.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check()?;
        if !self.0.unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let applied = self.0.marks.read().unwrap_or_else(PoisonError::into_inner).to_sync();
        self.0.db.persist(PersistMode::SyncData).map_err(|error| self.fail(&error))?;
        self.0.marks.write().unwrap_or_else(PoisonError::into_inner).all_synced(applied);
        self.0.counts.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// How far `name` has come, as readers see it.
    pub fn mark(&self, name: &str) -> Option<u64> {
        self.0.marks.read().unwrap_or_else(PoisonError::into_inner).applied(name)
    }

    /// How far `name` has come durably.
    pub fn synced_mark(&self, name: &str) -> Option<u64> {
        self.0.marks.read().unwrap_or_else(PoisonError::into_inner).synced(name)
    }

    /// The names of all marks, in order.
    pub fn mark_names(&self) -> Vec<Arc<str>> {
        self.0.marks.read().unwrap_or_else(PoisonError::into_inner).names()
    }

    /// A view of all keyspaces at this moment.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { view: self.0.db.snapshot(), own: self.0.own.clone() }
    }

    /// The value of a key, as of now.
    pub fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<fjall::Slice>, StoreError> {
        self.snapshot().get(keyspace, key)
    }

    /// What was written since opening, and the size on disk.
    pub fn stats(&self) -> StoreStats {
        let counts = &self.0.counts;
        StoreStats {
            commits: counts.commits.load(Ordering::Relaxed),
            puts: counts.puts.load(Ordering::Relaxed),
            deletes: counts.deletes.load(Ordering::Relaxed),
            bytes: counts.bytes.load(Ordering::Relaxed),
            syncs: counts.syncs.load(Ordering::Relaxed),
            journal_bytes: self.journal_bytes().unwrap_or(0),
            disk_bytes: self.0.db.disk_space().unwrap_or(0),
        }
    }

    /// Why it stopped, if it did.
    pub fn failure(&self) -> Option<&str> {
        self.0.failed.get().map(String::as_str)
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.0.failed.get() {
            Some(reason) => Err(StoreError::Failed { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn fail(&self, error: &fjall::Error) -> StoreError {
        let reason = self.0.failed.get_or_init(|| reason(error)).clone();
        StoreError::Failed { reason }
    }
}

fn options(config: &StoreConfig) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(config.memtable_bytes)
}

/// Opens the database, after cutting off what a power failure left half written.
fn open_repaired(path: &Path, config: &StoreConfig) -> Result<(Database, Option<Repair>), StoreOpenError> {
    let repair = journal::prepare(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => StoreOpenError::Locked { path: path.to_owned() },
        _ => StoreOpenError::Io { path: path.to_owned(), reason: error.to_string() },
    })?;
    if let Some(repair) = &repair {
        tracing::warn!(path = %path.display(), %repair, "the key-value store ended in batches that were never synced");
    }
    let db = Database::builder(path)
        .cache_size(config.cache_bytes)
        .worker_threads(config.workers.max(1))
        .max_journaling_size(JOURNAL_BYTES)
        .open()
        .map_err(|error| open_error(path, &error))?;
    Ok((db, repair))
}

fn check_format(path: &Path, db: &Database, own: &Keyspace, is_new: bool) -> Result<(), StoreOpenError> {
    let failed = |error: fjall::Error| open_error(path, &error);
    let format = own.0.get(FORMAT_KEY).map_err(failed)?;
    match format.as_deref() {
        Some(bytes) if bytes == STORE_FORMAT.to_le_bytes() => Ok(()),
        Some(bytes) => {
            let found = <[u8; 4]>::try_from(bytes).map_or("unknown".to_owned(), |n| u32::from_le_bytes(n).to_string());
            Err(StoreOpenError::UnknownFormat { path: path.to_owned(), found })
        }
        // The own keyspace is made first, and the format is synced before any other.
        None if is_new || db.keyspace_count() == 1 => {
            own.0.insert(FORMAT_KEY, STORE_FORMAT.to_le_bytes()).map_err(failed)
        }
        None => Err(StoreOpenError::Damaged { path: path.to_owned(), what: "it does not say its format".to_owned() }),
    }
}

fn load_marks(path: &Path, own: &Keyspace) -> Result<Marks, StoreOpenError> {
    let mut loaded = Marks::default();
    for guard in own.0.prefix(marks::prefix()) {
        let (key, value) = guard.into_inner().map_err(|error| open_error(path, &error))?;
        let (Some(name), Some(position)) = (marks::name_of(&key), marks::decode(&value)) else {
            let found = format!("with a mark of format {}", value.first().unwrap_or(&0));
            return Err(StoreOpenError::UnknownFormat { path: path.to_owned(), found });
        };
        loaded.load(name, position);
    }
    Ok(loaded)
}
