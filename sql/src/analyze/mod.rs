//! Tree to checked rule: which functions exist and what they take, what may stand in a windowed rule, what a rule reads,
//! AWS documents and native files as a whole, and whether the destinations of a rule exist.
//!
//! It knows the function registry and the tree; it evaluates constants only, and the catalog is a trait to it.

mod absence;
mod action_table;
mod actions;
mod calls;
mod catalog;
mod document;
mod doubts;
mod file;
mod messages;
mod outside;
mod parameters;
mod reads;
mod rule;
mod statement;
mod window;

use crate::ast::{Dialect, Select};
use crate::diagnostic::Diagnostic;

pub use absence::after_us;
pub use catalog::{CatalogView, DEAD_LETTERS, Objects, check};
pub use document::{parse_document, read_document};
pub use file::{Reading, parse_file, read, read_file};
pub use reads::{Path, Reads, paths, reads};
pub use statement::parse_rule;

/// What is wrong with a statement beyond its grammar: unknown functions, numbers of arguments, versions, aggregates out
/// of place, filters that match nothing. (Rules read from files and documents are checked already.)
pub fn check_select(select: &Select, dialect: Dialect) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    rule::check_select(select, dialect, &mut diagnostics);
    diagnostics
}
