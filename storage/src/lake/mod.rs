//! The lake: rows as Parquet files in a Delta Lake table (or in plain folders), on a local disk or an S3-compatible
//! store, each row once.
//!
//! Rows pass through three places. The *buffer* is memory. *Sealed* files are synced local Parquet files, recorded in the
//! spool's manifest: their rows are **taken**, replay is not needed for them. Files in the table are **committed**.
//! Queries read all three as one snapshot. A sealed file is never made again, its name in the table is fixed, and the
//! table's log says up to which epoch it holds this sink's rows, so that an upload or commit may be repeated any number
//! of times. (`objects` puts single objects into places like those of lakes; they are no part of one.)
//!
//! May know: columns, files, object stores, Delta Lake. Must not know: rules, SQL text, the dataflow, the ingest log. It
//! is told epochs and times and reads no clock.

mod commit;
mod config;
mod delta;
mod fit;
mod handle;
mod number;
mod objects;
mod plain;
mod provider;
mod rows;
mod schema;
mod seal;
mod spool;
mod state;
mod store;
mod writer;

pub use config::{DeclaredColumn, Format, LakeConfig, Secret, StoreOptions};
pub use handle::{AppendError, Lake, LakeHealth, OpenError};
pub use objects::{KeyError, ObjectKey, Objects, PutError};
pub use rows::{JsonScalar, LakeColumn, LakeRows};
pub use schema::LakeType;
pub use spool::SpoolError;
pub use state::LakeStatus;
pub use store::{Place, PlaceError};

#[cfg(test)]
mod tests;
