//! The ingest log: every message, catalog change and mark, in the one order that the system has.
//!
//! Appenders encode frames in their own threads ([`Batch`]); one writer thread gathers what waits, writes it, syncs
//! once, and only then answers: one *commit*, named by its [`Epoch`]. Readers take whole commits from the file, in
//! order, as soon as they are durable. A log is a folder of segment files; the stored format is described above the
//! code that writes it, in `segment` (files), `commit` (commits) and `record` (frames).
//!
//! May know: the disk and the clocks it is given. Must not know: rules, JSON, MQTT sessions, who reads it and why.
//!
//! | file | idea |
//! |---|---|
//! | `record` | one record, its frame, and a batch of frames |
//! | `commit` | the header that makes a commit whole or void |
//! | `segment` | one file of the log |
//! | `time` | log time, and so epochs |
//! | `queue` | what waits for the writer; the group-commit window |
//! | `writer` | one write and one sync a commit |
//! | `recover` | after a crash: a torn tail is cut, corruption is refused |
//! | `reader` | following the log |
//! | `tail` | the newest commits, in memory |
//! | `retain` | dropping whole segments |
//! | `pack` | compressing sealed segments |
//! | `inspect` | looking at a log without touching it |

mod commit;
mod config;
mod error;
mod fields;
mod handle;
pub mod inspect;
mod pack;
mod queue;
mod reader;
mod record;
mod recover;
mod retain;
mod segment;
mod shared;
mod tail;
#[cfg(test)]
mod tests;
mod time;
mod writer;

pub use commit::{Commit, Frames};
pub use config::{Durability, LogConfig, LogHealth, LogMetrics};
pub use error::{AppendError, OpenError, ReadError};
pub use handle::{Log, Stepper};
pub use queue::{Appender, Class, Committed};
pub use reader::Reader;
pub use record::{Batch, Frame, Record, RecordFields, RecordKind};
pub use recover::{Recovery, TornTail};

/// The name of one commit: its log time in microseconds since 1970, above every earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// The number of a record, counted from 1 over the life of the log, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub u64);

/// A place in the log in bytes, counted over all segments since its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for Offset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
