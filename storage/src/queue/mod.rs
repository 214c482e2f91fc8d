//! Message queues: rows that are kept until somebody has fetched them and said so.
//!
//! | part | is |
//! |---|---|
//! | `form` | the stored form of messages, of when they are due, and of what was handed out |
//! | `counts` | how many messages are visible, in flight and delayed |
//! | `queues` | all queues; taking rows with the mark of their sink, and messages from elsewhere |
//! | `receive` | handing messages out, and the receipts that delete them or change when they come back |
//! | `clear` | what leaves a queue otherwise: too old, purged, or because the queue is gone |
//!
//! Rows and the mark of their sink are one batch, in the store of the key-value tables: each row is in its queue exactly
//! once, however often it is replayed. A message that was handed out is invisible for a while and comes back unless its
//! receipt deletes it; what comes back too often goes to the queue for such messages, or to the dead letters.
//!
//! One call after the other changes queues, so that a message moves from one to another in one batch. Times are
//! milliseconds since 1970 of the log, and are told by the caller, as are the secrets of receipts. Must not know: HTTP,
//! who waits for messages, a clock, randomness.

mod clear;
mod counts;
mod form;
mod queues;
mod receive;
#[cfg(test)]
mod tests;

pub use clear::source_queue;
pub use form::Receipt;
pub use queues::{MessageQueue, NewMessage, QueueSettings, QueueStatus, Queues, SendError};
pub use receive::{Handed, Limit, ReceiveError, Refusal};
