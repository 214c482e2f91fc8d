//! What can go wrong with a log, by operation.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Epoch, Position};

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the log in {dir} is in use by another process; stop that one first, or give this one a data folder of its own"
    )]
    Locked {
        /// The log's folder.
        dir: PathBuf,
    },
    /// Bytes that had been synced are not what was written.
    #[error(
        "the log is corrupt at position {position} ({path}, byte {byte}): {reason}. These bytes had been synced, so this is \
         not the trace of a crash but of the disk or of another program. Restore the file from a backup; to see what can \
         still be read, run `hedgerow log inspect --verify`"
    )]
    Corrupt {
        /// Position in the log.
        position: Position,
        /// The segment file.
        path: PathBuf,
        /// Position in that file.
        byte: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// A segment was written by another version of the program.
    #[error("{path} has format version {found}, this program knows {known}; start the version that wrote it")]
    Version {
        /// The segment file.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The version this program writes.
        known: u32,
    },
    /// A file operation failed.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why an append was not taken, or not committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too many bytes wait for the writer: try again when some have been committed.
    #[error("the log's queue is full")]
    Full,
    /// The disk is nearly full: try again when there is space; appends resume by themselves.
    #[error("the log's disk is nearly full; free some space, and it goes on by itself")]
    LowSpace,
    /// The batch alone is larger than a commit can be.
    #[error("the batch has {bytes} bytes, one commit takes {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The disk failed: nothing more is accepted until a restart.
    #[error("the log has failed and accepts nothing until the program is restarted: {0}")]
    Failed(Arc<str>),
    /// The log has been shut down.
    #[error("the log is closed")]
    Closed,
}

/// Why no commit could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What follows `asked` has been dropped, or was never in this log.
    #[error("the log begins after epoch {first}, what follows epoch {asked} is no longer in it")]
    Gone {
        /// Reading was to go on after this epoch.
        asked: Epoch,
        /// The log holds what follows this one.
        first: Epoch,
    },
    /// The bytes are not what was written.
    #[error("the log is corrupt at position {position} ({path}): {reason}")]
    Corrupt {
        /// Position in the log.
        position: Position,
        /// The segment file.
        path: PathBuf,
        /// What is wrong there.
        reason: &'static str,
    },
    /// A file operation failed.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The segment file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log has been shut down and everything in it has been read.
    #[error("the log is closed")]
    Closed,
}
