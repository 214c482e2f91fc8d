//! Analyst queries: DataFusion SQL over lakes, key-value tables, the ingest log and `system.*`, reading only.
//!
//! | part | is |
//! |---|---|
//! | `engine` | one query from text to rows, under limits of memory, time, rows and number |
//! | `size` | what is too large to be planned |
//! | `functions` | bounds for functions that build much from little |
//! | `names` | exact names for what the analyst typed |
//! | `catalog` | what there is to read, frozen per query |
//! | `system` | the running server as relations |
//! | `table`, `table_rows`, `keys` | key-value tables: key conditions become point gets and range scans |
//! | `log` | the ingest log |
//! | `lakes` | lake sinks |
//! | `dead_letters` | rows that were given up |
//! | `scan` | a blocking source of batches as a plan |
//! | `error` | failures in the analyst's terms |
//!
//! Must not know: HTTP, or how the relations' rows came to be.

mod catalog;
mod dead_letters;
mod engine;
mod error;
mod functions;
mod keys;
mod lakes;
mod log;
mod names;
mod scan;
mod size;
pub mod system;
mod table;
mod table_rows;
#[cfg(test)]
mod tests;

pub use catalog::{Relations, Sources};
pub use dead_letters::{DEAD_LETTERS, DeadLetterTable};
pub use engine::{QueryEngine, QuerySetupError, Rows};
pub use error::{Position, QueryError, QueryErrorKind};
pub use lakes::{LakeCatalog, Lakes};
pub use log::{INGEST_LOG, IngestLog};
pub use table::{KeyValueTables, NoRow, TableCatalog};
