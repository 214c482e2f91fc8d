//! Analyst queries: DataFusion SQL over lakes, key-value tables, the ingest log and `system.*`, reading only.
//!
//! | part | is |
//! |---|---|
//! | `engine` | one query from text to rows, under limits of memory, time, rows and number |
//! | `names` | exact names for what the analyst typed |
//! | `catalog` | what there is to read, frozen per query |
//! | `system` | the running server as relations |
//! | `table` | key-value tables: key conditions become point gets and range scans |
//! | `log` | the ingest log as a relation |
//! | `error` | failures in the analyst's terms |
//!
//! Must not know: HTTP, or how the relations' rows came to be.

mod catalog;
mod engine;
mod error;
mod names;
pub mod system;

pub use catalog::{Relations, Sources};
pub use engine::{QueryEngine, QuerySetupError, Rows};
pub use error::{Position, QueryError, QueryErrorKind};
