//! Sealed files on the local disk, and the manifest that says which of them count.
//!
//! The manifest is the sink's `taken` mark: rows up to it are in sealed files here or committed already. It is replaced
//! whole, by write, sync, rename and directory sync, and names a file only after that file is synced under its final
//! name, so what it says is true after any crash. Files it does not name are left over from a crash and are deleted at
//! start.
//!
//! # Format
//! `manifest` is one line `hedgerow-lake-manifest 1 <crc32c of the rest, hex>`, then a JSON object:
//! `taken` (epoch), `columns` ([{name, type}], all the lake's columns except the fixed ones), `raw` (whether `_raw`
//! exists), `pieces` (ranges not yet known to be committed, in order). A piece has `from` (exclusive) and `to`
//! (inclusive) epochs, `rows`, and `files`: `object` (its name below the table's root, fixed for good), `local` (its name
//! in this folder), `date`, `rows`, `bytes`, `crc32c`, `stats` (Delta statistics). A piece sealed before the table was
//! reached for the first time has `ends`: [epoch, last offset] pairs, to cut it by if the table has some of its epochs.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::schema::{LakeField, LakeSchema};

const MANIFEST: &str = "manifest";
const MAGIC: &str = "hedgerow-lake-manifest";
const VERSION: u32 = 1;

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The folder cannot be read or written.
    #[error("cannot use the spool folder {path}: {source}. Check that it exists, has room, and belongs to this user")]
    Io {
        /// File or folder.
        path: String,
        /// Cause.
        source: io::Error,
    },
    /// A newer Hedgerow wrote it.
    #[error(
        "the spool manifest {path} has format version {found}; this Hedgerow reads version 1. Use the version that wrote it"
    )]
    Version {
        /// The manifest.
        path: String,
        /// Its version.
        found: String,
    },
    /// The manifest is damaged.
    #[error(
        "the spool manifest {path} is damaged ({reason}). Sealed rows may be lost: restore the folder from a backup, or move it away to start from the checkpoint"
    )]
    Damaged {
        /// The manifest.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A sealed file is not what the manifest says.
    #[error(
        "the sealed file {path} is missing or damaged, although its rows count as taken. Restore it from a backup, or move the spool folder away to start from the checkpoint"
    )]
    MissingFile {
        /// The file.
        path: String,
    },
}

/// A sealed file: one day of one piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileInfo {
    pub object: String,
    pub local: String,
    pub date: String,
    pub rows: u64,
    pub bytes: u64,
    pub crc32c: u32,
    pub stats: String,
}

/// The rows of the epochs in `(from, to]`, sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PieceInfo {
    pub from: u64,
    pub to: u64,
    pub rows: u64,
    pub files: Vec<FileInfo>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<EpochEnd>,
}

/// An epoch and the last offset among its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EpochEnd(pub u64, pub i64);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Manifest {
    taken: u64,
    columns: Vec<LakeField>,
    raw: bool,
    pieces: Vec<PieceInfo>,
}

/// A sealed file as queries and the committer hold it. When it is committed and the last holder lets go, it is deleted.
#[derive(Debug)]
pub(super) struct SealedFile {
    pub info: FileInfo,
    pub path: PathBuf,
    committed: AtomicBool,
}

impl Drop for SealedFile {
    fn drop(&mut self) {
        if self.committed.load(Ordering::Acquire) {
            // The manifest no longer names it: if this fails, the next start deletes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A sealed piece as queries and the committer hold it.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub to: u64,
    pub rows: u64,
    pub files: Vec<Arc<SealedFile>>,
}

impl Piece {
    fn new(dir: &Path, info: &PieceInfo) -> Self {
        let files = info.files.iter().map(|file| {
            let path = dir.join(&file.local);
            Arc::new(SealedFile { info: file.clone(), path, committed: AtomicBool::new(false) })
        });
        Self { to: info.to, rows: info.rows, files: files.collect() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.info.bytes).sum()
    }

    /// Lets the files go once nobody reads them.
    pub(super) fn release(&self) {
        self.files.iter().for_each(|file| file.committed.store(true, Ordering::Release));
    }
}

/// The spool folder of one sink.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    manifest: Manifest,
}

/// What a spool holds when it is opened.
pub(super) struct Found {
    pub spool: Spool,
    pub schema: LakeSchema,
    pub pieces: Vec<Piece>,
    pub taken: u64,
}

impl Spool {
    /// Opens the folder, deletes what no manifest names, and refuses it if something named is missing.
    pub(super) fn open(dir: &Path) -> Result<Found, SpoolError> {
        fs::create_dir_all(dir).map_err(|e| io_error(dir, e))?;
        let manifest = read_manifest(&dir.join(MANIFEST))?.unwrap_or_default();
        let mut named: HashSet<&str> = HashSet::from([MANIFEST]);
        for file in manifest.pieces.iter().flat_map(|piece| &piece.files) {
            let path = dir.join(&file.local);
            if fs::metadata(&path).map(|m| m.len()).ok() != Some(file.bytes) {
                return Err(SpoolError::MissingFile { path: path.display().to_string() });
            }
            named.insert(&file.local);
        }
        for entry in fs::read_dir(dir).map_err(|e| io_error(dir, e))? {
            let entry = entry.map_err(|e| io_error(dir, e))?;
            let is_ours = entry
                .file_name()
                .to_str()
                .is_some_and(|name| !named.contains(name) && (name.ends_with(".parquet") || name.ends_with(".tmp")));
            if is_ours {
                fs::remove_file(entry.path()).map_err(|e| io_error(&entry.path(), e))?;
            }
        }
        let schema = LakeSchema::new(manifest.columns.iter().cloned(), manifest.raw);
        let pieces = manifest.pieces.iter().map(|info| Piece::new(dir, info)).collect();
        let taken = manifest.taken;
        Ok(Found { spool: Self { dir: dir.to_owned(), manifest }, schema, pieces, taken })
    }

    /// Records a sealed piece, whose files are in place, and the columns as they stand. After this its rows are taken.
    pub(super) fn record(&mut self, piece: PieceInfo, schema: &LakeSchema) -> Result<Piece, SpoolError> {
        sync_dir(&self.dir)?;
        let held = Piece::new(&self.dir, &piece);
        let mut next = self.manifest.clone();
        next.taken = piece.to;
        next.columns = schema.fields().to_vec();
        next.raw = schema.has_raw();
        next.pieces.push(piece);
        self.replace(next)?;
        Ok(held)
    }

    /// Records that rows up to `taken` need no replay although no file was sealed.
    pub(super) fn advance(&mut self, taken: u64) -> Result<(), SpoolError> {
        self.replace(Manifest { taken, ..self.manifest.clone() })
    }

    /// Forgets the pieces up to `to`: they are committed.
    pub(super) fn forget(&mut self, to: u64) -> Result<(), SpoolError> {
        let mut next = self.manifest.clone();
        next.pieces.retain(|piece| piece.to > to);
        next.taken = next.taken.max(to);
        self.replace(next)
    }

    /// The record of the piece that covers epochs on both sides of `mark`.
    pub(super) fn across(&self, mark: u64) -> Option<PieceInfo> {
        self.manifest.pieces.iter().find(|piece| piece.from < mark && mark < piece.to).cloned()
    }

    /// Replaces the record of a piece by another of the same end, whose files are in place.
    pub(super) fn exchange(&mut self, piece: PieceInfo) -> Result<Piece, SpoolError> {
        sync_dir(&self.dir)?;
        let held = Piece::new(&self.dir, &piece);
        let mut next = self.manifest.clone();
        next.pieces.iter_mut().filter(|old| old.to == piece.to).for_each(|old| *old = piece.clone());
        self.replace(next)?;
        Ok(held)
    }

    fn replace(&mut self, next: Manifest) -> Result<(), SpoolError> {
        let body = serde_json::to_string(&next).map_err(|e| io_error(&self.dir, e.into()))?;
        let text = format!("{MAGIC} {VERSION} {:08x}\n{body}", crc32c::crc32c(body.as_bytes()));
        write_synced(&self.dir.join(MANIFEST), text.as_bytes())?;
        sync_dir(&self.dir)?;
        self.manifest = next;
        Ok(())
    }
}

/// Writes a file under a temporary name, syncs it, and gives it its name.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), SpoolError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        io_error(path, e)
    })
}

fn sync_dir(dir: &Path) -> Result<(), SpoolError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| io_error(dir, e))
}

pub(super) fn io_error(path: &Path, source: io::Error) -> SpoolError {
    SpoolError::Io { path: path.display().to_string(), source }
}

fn read_manifest(path: &Path) -> Result<Option<Manifest>, SpoolError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error(path, e)),
    };
    let shown = path.display().to_string();
    let damaged = |reason: &str| SpoolError::Damaged { path: shown.clone(), reason: reason.into() };
    let (head, body) = text.split_once('\n').ok_or_else(|| damaged("no first line"))?;
    let words: Vec<&str> = head.split(' ').collect();
    let [MAGIC, version, crc] = words.as_slice() else { return Err(damaged("unknown first line")) };
    if *version != VERSION.to_string() {
        return Err(SpoolError::Version { path: shown, found: (*version).to_owned() });
    }
    if *crc != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
        return Err(damaged("checksum differs"));
    }
    serde_json::from_str(body).map(Some).map_err(|e| damaged(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(dir: &Path, to: u64) -> PieceInfo {
        let local = format!("{to}.parquet");
        write_synced(&dir.join(&local), b"rows").unwrap();
        let file = FileInfo {
            object: format!("_date=2026-01-01/{to}.parquet"),
            local,
            date: "2026-01-01".into(),
            rows: 1,
            bytes: 4,
            crc32c: 0,
            stats: "{}".into(),
        };
        PieceInfo { from: 0, to, rows: 1, files: vec![file], ends: Vec::new() }
    }

    #[test]
    fn what_was_recorded_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap().spool;
        spool.record(piece(dir.path(), 5), &LakeSchema::default()).unwrap();
        spool.record(piece(dir.path(), 9), &LakeSchema::default()).unwrap();
        spool.forget(5).unwrap();
        spool.advance(12).unwrap();
        fs::write(dir.path().join("7.parquet"), b"left over").unwrap();
        let found = Spool::open(dir.path()).unwrap();
        assert_eq!((found.taken, found.pieces.len(), found.pieces[0].to), (12, 1, 9));
        assert!(!dir.path().join("7.parquet").exists() && dir.path().join("9.parquet").exists());
    }

    #[test]
    fn damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap().spool;
        spool.record(piece(dir.path(), 5), &LakeSchema::default()).unwrap();
        let path = dir.path().join(MANIFEST);
        let text = fs::read_to_string(&path).unwrap();

        fs::write(&path, text.replace("\"taken\":5", "\"taken\":6")).unwrap();
        assert!(matches!(Spool::open(dir.path()), Err(SpoolError::Damaged { .. })));
        fs::write(&path, text.replace("manifest 1 ", "manifest 2 ")).unwrap();
        assert!(matches!(Spool::open(dir.path()), Err(SpoolError::Version { .. })));
        fs::write(&path, text).unwrap();
        fs::remove_file(dir.path().join("5.parquet")).unwrap();
        assert!(matches!(Spool::open(dir.path()), Err(SpoolError::MissingFile { .. })));
    }

    #[test]
    fn a_committed_file_goes_when_its_last_reader_does() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(dir.path()).unwrap().spool;
        let held = spool.record(piece(dir.path(), 5), &LakeSchema::default()).unwrap();
        let reader = held.files[0].clone();
        spool.forget(5).unwrap();
        held.release();
        drop(held);
        assert!(reader.path.exists());
        let path = reader.path.clone();
        drop(reader);
        assert!(!path.exists());
    }
}
