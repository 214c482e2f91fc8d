//! Key-value data that survives: tables of rows, and the plain keyspaces beneath them.
//!
//! | part    | is |
//! |---------|----|
//! | `store` | keyspaces of bytes; a batch over several of them is written whole or not at all, together with a mark |
//! | `tables`| on a store: named tables of rows with hash key, range key and time to live |
//! | `key`   | key values and their order-preserving stored form |
//! | `history` | what rows were before, for those who look them up as of an epoch |
//!
//! A **mark** says how far its owner has come in the log. It is written in the batch of the rows it speaks of, so that
//! after a crash rows and mark agree, however much of the end was lost: what is lost is read from the log again. The
//! *applied* mark is what readers see; the *synced* mark is what a power failure leaves. `sync` makes them equal.
//!
//! This room keeps its files with `fjall`, and repairs what that library refuses. It must not know SQL, rules, or a
//! clock: whoever asks for a row tells the time by which it may have expired.

mod catalogue;
mod error;
mod history;
mod journal;
mod key;
mod keyspace;
mod marks;
mod row;
mod scan;
mod store;
mod sweep;
mod tables;

pub use catalogue::TableSpec;
pub use error::{ApplyError, CreateError, ReadError, StoreError, StoreOpenError, TableOpenError};
pub use fjall::Slice;
pub use journal::Repair;
pub use key::{Key, MAX_KEY_BYTES, Number};
pub use keyspace::{Batch, Entries, Keyspace, Snapshot};
pub use row::{Row, RowError};
pub use scan::{KeyBounds, Scan};
pub use store::{Store, StoreConfig, StoreStats};
pub use sweep::Swept;
pub use tables::{Applied, Created, Rejected, TableView, Tables, TablesConfig, Write};

#[cfg(test)]
mod crash_tests;
