//! The rule language of Hedgerow: text to rules to expressions. Pure: no I/O, no clock, no threads.
//!
//! The layers, each knowing only those above it: values and numbers; the tree and its parser; the checked rule; the
//! scalar evaluator, which is the reference; shredding and columns; plans, which must agree with the reference.

pub mod aggregate;
pub mod analyze;
pub mod ast;
pub mod column;
pub mod decimal;
pub mod diagnostic;
pub mod eval;
pub mod functions;
pub mod headers;
pub mod json;
pub mod lower;
pub mod message;
pub mod notify;
pub mod outside;
pub mod parse;
pub mod program;
pub mod rule;
pub mod scan;
pub mod shape;
pub mod shred;
pub mod suggest;
pub mod template;
pub mod topic;
pub mod value;
pub mod vectors;
