//! What can go wrong with stores and tables, one enum for each thing a caller does.

use std::path::{Path, PathBuf};

use super::store::STORE_FORMAT;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// Another process has it.
    #[error("the key-value store in {} is in use by another process: stop that process, or choose another data folder", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// Written by another version.
    #[error("the key-value store in {} has format {found}, and this version reads format {STORE_FORMAT}: start it with the version that wrote it", path.display())]
    UnknownFormat {
        /// The folder.
        path: PathBuf,
        /// The format's number.
        found: String,
    },
    /// Something in it is not what was written.
    #[error("the key-value store in {} is damaged: {what}. Restore the folder from a copy, or remove it: rows are then rebuilt from as much of the log as is kept", path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The file system said no.
    #[error("could not open the key-value store in {}: {reason}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the file system said.
        reason: String,
    },
}

/// Why a store could not write or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The batch would move its mark backwards, or not at all: it has been applied already.
    #[error("the mark '{name}' is at {mark}, so a batch up to {up_to} has been applied already")]
    MarkNotAhead {
        /// The mark.
        name: String,
        /// Where it is.
        mark: u64,
        /// Where the batch would have put it.
        up_to: u64,
    },
    /// Nothing was written.
    #[error("a key of {bytes} bytes cannot be stored: keys have 1 to {most} bytes")]
    KeyLength {
        /// The key's length.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// Writing or syncing failed, now or earlier: what is on disk is unknown until the store is opened again. Sticky.
    #[error(
        "the key-value store stopped after a failed write ({reason}): see to the disk, then restart; what is missing is read from the log again"
    )]
    Failed {
        /// What failed first.
        reason: String,
    },
    /// Reading failed; writing may still work.
    #[error("the key-value store could not be read: {reason}")]
    Read {
        /// What the library or the file system said.
        reason: String,
    },
    /// A stored entry is not in a form this version wrote.
    #[error("{what} is stored in a form this version cannot read: start it with the version that wrote it")]
    Unreadable {
        /// Which entry.
        what: String,
    },
}

/// Why the tables could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum TableOpenError {
    /// The store beneath.
    #[error(transparent)]
    Store(#[from] StoreOpenError),
    /// Reading the catalogue failed.
    #[error("the catalogue of the tables in {} could not be read", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// A table this version cannot read.
    #[error("table '{table}' in {} cannot be read ({what}): start it with the version that wrote it", path.display())]
    UnknownFormat {
        /// The folder.
        path: PathBuf,
        /// The table.
        table: String,
        /// What is unknown about it.
        what: String,
    },
}

/// Why a table could not be created or dropped.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Rows lie by their key: another key is another table.
    #[error(
        "table '{table}' has the primary key ({was}), not ({wanted}): drop it first, its rows go with it, or give the new table another name"
    )]
    OtherKey {
        /// The table.
        table: String,
        /// Its key columns.
        was: String,
        /// Those asked for.
        wanted: String,
    },
    /// The name is empty or longer than 255 bytes.
    #[error("a table name has 1 to 255 bytes, not {0}")]
    Name(usize),
    /// The store beneath.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a step could not be applied. Nothing of it was.
pub type ApplyError = StoreError;

/// Why rows could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// No such table.
    #[error("there is no table '{0}'")]
    UnknownTable(String),
    /// The store beneath.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StoreError {
    pub(super) fn reading(error: &fjall::Error) -> Self {
        Self::Read { reason: reason(error) }
    }
}

pub(super) fn open_error(path: &Path, error: &fjall::Error) -> StoreOpenError {
    let path = path.to_owned();
    match error {
        fjall::Error::Locked => StoreOpenError::Locked { path },
        fjall::Error::InvalidVersion(_) => StoreOpenError::UnknownFormat { path, found: reason(error) },
        fjall::Error::Io(_) => StoreOpenError::Io { path, reason: reason(error) },
        _ => StoreOpenError::Damaged { path, what: reason(error) },
    }
}

/// What the library says, in words: its own `Display` shows the insides of the error.
pub(super) fn reason(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) => error.to_string(),
        fjall::Error::Storage(fjall::LsmError::Io(error)) => error.to_string(),
        fjall::Error::Storage(fjall::LsmError::ChecksumMismatch { .. }) => "a block has the wrong checksum".to_owned(),
        fjall::Error::Poisoned => "a background flush or compaction failed".to_owned(),
        fjall::Error::InvalidVersion(Some(version)) => format!("of another version of its library ({version:?})"),
        fjall::Error::InvalidVersion(None) => "that is not a store's".to_owned(),
        other => format!("{other:?}"),
    }
}
