//! Bytes that survive: the ingest log, key-value tables, the outbox, message queues, checkpoints and the lake.
//!
//! Knows files and object stores; does not know rules, SQL text or network protocols. Time and disk are injected.

pub mod checkpoint;
pub mod clock;
pub mod disk;
pub mod fault;
pub mod lake;
pub mod log;
pub mod outbox;
pub mod queue;
pub mod sim;
pub mod table;
