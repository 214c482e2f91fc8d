//! Sinks: what takes rows together with a mark.
//!
//! A sink has two marks. *Taken*: everything up to there is durable on this machine, so a replay is not needed for it;
//! checkpoints and log retention follow it. *Committed*: everything up to there has reached its destination.
//!
//! A sink skips rows at or below its own taken mark, since after a crash the dataflow replays from the last checkpoint.
//! None of its methods blocks; I/O is on the sink's own threads.

pub mod derived;
pub mod lake;
pub mod outbox;
pub(crate) mod outbox_row;
pub mod registry;
pub mod table;
mod table_row;
#[cfg(test)]
mod tests;

use hedgerow_storage::log::Epoch;

use crate::rows::RowBatch;

/// What one worker hands a sink: all rows with positions in (last `up_to`, `up_to`].
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Everything up to this epoch is in this or an earlier delivery.
    pub up_to: Epoch,
    /// The rows; may be none.
    pub batches: Vec<RowBatch>,
}

/// Whether a sink took a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did.
    Accepted,
    /// It has no room: hand the same delivery in again later.
    Full,
}

/// The two marks of a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Durable on this machine.
    pub taken: Epoch,
    /// At its destination.
    pub committed: Epoch,
}

/// How a sink is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkHealth {
    /// Rows accepted since the start.
    pub rows: u64,
    /// Bytes waiting on this machine for the destination.
    pub backlog_bytes: u64,
    /// What is wrong now, with sink, endpoint and setting; `None` when all is well.
    pub error: Option<String>,
}

/// A destination of rows.
pub trait Sink: Send {
    /// Takes a delivery, or has no room for it. Deliveries come in order of `up_to`; after [`Outcome::Full`] the same
    /// one comes again.
    fn deliver(&mut self, delivery: &Delivery) -> Outcome;

    /// Asks to make everything up to `up_to` durable soon: somebody waits for the taken mark.
    fn seal(&mut self, up_to: Epoch);

    /// The marks.
    fn marks(&self) -> Marks;

    /// How it is doing.
    fn health(&self) -> SinkHealth;

    /// Makes everything accepted durable, waiting at most `wait`.
    fn close(&mut self, wait: std::time::Duration);
}
