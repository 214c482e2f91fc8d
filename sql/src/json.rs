//! JSON text to values and back. Numbers keep their digits, objects their order; the last of duplicate members wins.
//!
//! This is the plain reader: [`crate::scan`] is the fast one and must agree with it.

mod read;
mod write;

pub use read::{JsonError, MAX_DEPTH, parse};
pub use write::{to_text, write_string};
