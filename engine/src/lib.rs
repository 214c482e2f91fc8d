//! The dataflow of Hedgerow: steps of epochs through timely workers to sinks.
//!
//! In the order of a message's way: [`source`] reads committed epochs from the log and hands every worker the same
//! [`step::Step`]; [`operators::evaluate`] routes topics to rules and runs them over columns; [`operators::window`]
//! aggregates by key; [`operators::absence`] waits for what does not happen; [`operators::call`] waits for what rules ask
//! other systems, through a [`call::Caller`] or a [`lookup::Lookups`]; [`operators::deliver`] hands rows with their mark
//! to a [`sink::Sink`]; [`checkpoint`] writes
//! operator state once every sink has taken it. [`engine::Engine`] holds them together, [`catalog`] says which rules
//! are in force at a position.
//!
//! Synchronous and told the time: it knows no MQTT, no HTTP, no tokio and no wall clock. Everything that decides a
//! result comes out of the log, so that the same log always gives the same rows, on any number of workers and however
//! its epochs are cut into steps.

pub mod apply;
#[cfg(test)]
mod apply_tests;
pub mod call;
pub mod catalog;
pub mod checkpoint;
mod dataflow;
pub mod engine;
mod error_action;
pub mod errors;
mod failed_calls;
pub mod lookup;
pub mod metrics;
mod names;
mod notify;
pub mod operators;
pub mod rehearse;
mod resolve;
pub mod rows;
pub mod sink;
pub mod source;
pub mod step;

/// The number of the operators' semantics: a checkpoint written under another one is refused, since replay would not
/// give the same rows.
pub const SEMANTICS: u32 = 1;
