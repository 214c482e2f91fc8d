//! Message queues: sinks that others fetch from, over HTTP.
//!
//! | part | is |
//! |---|---|
//! | `open` | a CREATE SINK to its queue; removing what is too old |
//! | `control` | the calls of `/queues` |
//!
//! What a message is, and when it is handed out again, is decided in `storage`; here are options, callers that wait, and
//! the random secrets of receipts. Must not know: operators, how messages are stored.

mod control;
mod open;
#[cfg(test)]
pub(crate) mod tests;

pub use open::{QUEUE, QueueSinks};
