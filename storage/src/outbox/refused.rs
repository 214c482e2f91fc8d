//! Rows that are given up while others are taken: dead letters, or notes for the rule's error action, in one batch with
//! what the taker writes.

use super::dead::DeadLetter;
use super::entry::Entry;
use super::failures::Note;
use super::queue::{Outbox, Shared};
use crate::table::{Batch, StoreError};

impl Outbox {
    /// A sink whose rows are not in this store's batches refused a row: it goes to the error action if there is one, and
    /// to the dead letters otherwise, once, however often it is replayed.
    ///
    /// # Errors
    /// When the store fails.
    pub fn refuse(&self, entry: &Entry, sink: &str, reason: &str, now_ms: i64) -> Result<(), StoreError> {
        let shared = self.shared();
        if entry.original.is_some() {
            let note = Note { entry, resource: sink, reason, function: None };
            return shared.failures.commit(Batch::new(), &[note], now_ms);
        }
        let letter = refusal(entry, sink, reason, now_ms);
        let mut buried = None;
        let is_new = shared.failures.once(entry, reason, || {
            let mut batch = Batch::new();
            buried = Some(shared.dead.add_in(&mut batch, vec![letter]));
            batch
        })?;
        if let Some(buried) = buried.filter(|_| is_new) {
            shared.dead.added(buried);
        }
        Ok(())
    }

    /// Commits a batch of some taker together with the rows that it refuses.
    pub(crate) fn commit(
        &self,
        batch: Batch,
        refused: &[(&Entry, String)],
        sink: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        self.shared().commit(batch, refused, sink, now_ms)
    }
}

impl Shared {
    /// Commits a batch together with the rows that it refuses, each with its reason.
    pub(super) fn commit(
        &self,
        mut batch: Batch,
        refused: &[(&Entry, String)],
        sink: &str,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let (to_action, to_letters): (Vec<_>, Vec<_>) = refused.iter().partition(|(entry, _)| entry.original.is_some());
        let letter = |(entry, reason): &(&Entry, String)| refusal(entry, sink, reason, now_ms);
        let buried = self.dead.add_in(&mut batch, to_letters.into_iter().map(letter).collect());
        let notes: Vec<Note<'_>> =
            to_action.iter().map(|(entry, reason)| Note { entry, resource: sink, reason, function: None }).collect();
        self.failures.commit(batch, &notes, now_ms)?;
        self.dead.added(buried);
        Ok(())
    }
}

/// The dead letter of a row that was not tried.
fn refusal(entry: &Entry, sink: &str, reason: &str, died_ms: i64) -> DeadLetter {
    DeadLetter {
        number: super::LetterId(0),
        sink: sink.to_owned(),
        reason: reason.to_owned(),
        attempts: 0,
        status: None,
        died_ms,
        entry: entry.clone(),
    }
}
