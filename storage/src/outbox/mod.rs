//! The outbox: rows on their way to destinations outside of this machine, and those that did not get there.
//!
//! | part | is |
//! |---|---|
//! | `entry` | one row for one destination: its stored form, and its place in the one order of the system |
//! | `queue` | the entries of one destination: taken together with its mark, confirmed one by one |
//! | `dead` | dead letters: entries that were given up, with the reason, bounded by size and age |
//! | `confirmation` | whether a destination has agreed to be sent to |
//! | `failures` | messages for which actions failed, until the rule's error action has run |
//! | `refused` | rows that are given up while others are taken: both in one batch |
//!
//! All of it lies in the store of the key-value tables, so that rows and mark are one batch: after a crash the replay
//! brings every row above the mark and none below. What was confirmed is removed with a batch of its own; a kill
//! between the answer of a destination and that batch sends the entry again, which is why every entry has an id.
//!
//! Must not know: HTTP, what a destination is, when to try again, a clock.

mod confirmation;
mod dead;
mod entry;
mod failures;
mod queue;
mod refused;
#[cfg(test)]
mod tests;

pub use confirmation::{Confirmation, ConfirmationState, Confirmations};
pub use dead::{DeadLetter, DeadLetters, DeadLimits, LetterId};
pub use entry::{Attempts, Entry, EntryKey, Position};
pub(crate) use entry::{destination, prefix};
pub use failures::{FailedCall, FailedMessage, Failure, Failures, Place};
pub use queue::{Accepted, Outbox, Overflow, Queue, QueueLimits, Waiting};
