//! What leaves a queue other than by a receipt: too old, handed out too often, purged, or because the queue is gone.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::form::{HandedOut, Place, decode_message};
use super::queues::{Change, MessageQueue, Queues, millis};
use crate::outbox::{DeadLetter, Entry, LetterId};
use crate::table::StoreError;

/// Messages removed with one batch.
const AT_ONCE: usize = 1_000;
/// In the entry of a message that was handed out too often: the queue it was in.
const SOURCE: &str = "source_queue";

/// What one change removes, besides what it does to the keys.
#[derive(Default)]
pub(super) struct Removed {
    pub expired: u64,
    dead: u64,
    letters: Vec<DeadLetter>,
}

impl Removed {
    /// Commits a change of `queue` with the letters that it makes.
    pub fn commit(self, queue: &MessageQueue, change: Change) -> Result<(), StoreError> {
        let shared = &queue.shared;
        shared.commit_with_letters(change, self.letters)?;
        queue.inner.totals.expired.fetch_add(self.expired, Ordering::Relaxed);
        queue.inner.totals.dead.fetch_add(self.dead, Ordering::Relaxed);
        Ok(())
    }
}

impl super::queues::Shared {
    fn commit_with_letters(&self, mut change: Change, letters: Vec<DeadLetter>) -> Result<(), StoreError> {
        let buried = self.outbox.dead().add_in(&mut change.batch, letters);
        self.commit(change)?;
        self.outbox.dead().added(buried);
        Ok(())
    }
}

impl MessageQueue {
    /// A message was handed out too often: it goes to the queue for such messages, and to the dead letters if there is
    /// none or it is full.
    pub(super) fn give_up(
        &self,
        change: &mut Change,
        place: &Place,
        stored: &[u8],
        handed: Option<&HandedOut>,
        now: u64,
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        let (_, mut entry) = decode_message(stored)?;
        change.remove(self, place, stored, handed)?;
        removed.dead += 1;
        let times = handed.map_or(0, |handed| handed.times);
        let settings = self.settings();
        let target = settings.and_then(|own| own.dead_letter_queue.clone());
        let queues = Queues(Arc::clone(&self.shared));
        let open =
            target.as_deref().and_then(|name| queues.open_queue(name)).filter(|queue| queue.name() != self.name());
        let room =
            open.filter(|queue| queue.settings().is_some_and(|settings| queue.bytes() < settings.limits.max_bytes));
        match room {
            Some(queue) => {
                entry.parameters.retain(|(name, _)| name != SOURCE);
                entry.parameters.push((SOURCE.to_owned(), self.name().to_string()));
                change.put(&queue, self.shared.position(now), &entry, now);
                queue.inner.totals.sent.fetch_add(1, Ordering::Relaxed);
            }
            None => {
                let why = match target {
                    Some(name) => format!("; the queue {name} is not there or full"),
                    None => String::new(),
                };
                let reason = format!("received {times} times and not deleted (max_receives){why}");
                removed.letters.push(self.letter(entry, reason, times, now));
            }
        }
        Ok(())
    }

    fn letter(&self, entry: Entry, reason: String, attempts: u32, now: u64) -> DeadLetter {
        let died_ms = i64::try_from(now).unwrap_or(i64::MAX);
        let sink = self.name().to_string();
        DeadLetter { number: LetterId(0), sink, reason, attempts, status: None, died_ms, entry }
    }

    /// Removes messages that are too old, at most some thousand; how many.
    ///
    /// # Errors
    /// When the store fails.
    pub fn expire(&self, now_ms: i64) -> Result<u64, StoreError> {
        let Some(settings) = self.settings() else { return Ok(0) };
        let now = millis(now_ms);
        let too_old = |place: &Place| place.arrived_ms().saturating_add(settings.retention_ms) <= now;
        let (gone, _) = self.remove_while(None, too_old, now, None)?;
        self.inner.totals.expired.fetch_add(gone, Ordering::Relaxed);
        Ok(gone)
    }

    /// Removes all messages that are in the queue now, handed out or not; how many.
    ///
    /// # Errors
    /// When the store fails.
    pub fn purge(&self) -> Result<u64, StoreError> {
        self.remove_all(0, None)
    }

    /// The queue is gone for good: its messages become dead letters.
    ///
    /// # Errors
    /// When the store fails.
    pub fn bury_all(&self, reason: &str, now_ms: i64) -> Result<u64, StoreError> {
        self.remove_all(millis(now_ms), Some(reason))
    }

    fn remove_all(&self, now: u64, reason: Option<&str>) -> Result<u64, StoreError> {
        let shared = &self.shared;
        let view = shared.store().snapshot();
        let last = view.prefix(&shared.messages, crate::outbox::prefix(self.name())).next_back().transpose()?;
        let Some((last, _)) = last else { return Ok(0) };
        let mut all = 0;
        loop {
            let (gone, looked) = self.remove_while(Some(&last), |_| true, now, reason)?;
            all += gone;
            if reason.is_none() {
                self.inner.totals.purged.fetch_add(gone, Ordering::Relaxed);
            }
            if looked < AT_ONCE {
                return Ok(all);
            }
        }
    }

    /// Removes messages from the oldest on up to `last`, as long as `goes` says so, at most [`AT_ONCE`]. With a reason
    /// they become dead letters. How many, and how many were looked at.
    fn remove_while(
        &self,
        last: Option<&[u8]>,
        goes: impl Fn(&Place) -> bool,
        now: u64,
        reason: Option<&str>,
    ) -> Result<(u64, usize), StoreError> {
        let shared = &self.shared;
        let _turn = shared.turn();
        let head = self.order().message_head.clone();
        let view = shared.store().snapshot();
        let to = last.map_or(Bound::Unbounded, Bound::Included);
        let (mut change, mut letters, mut looked, mut end) = (Change::default(), Vec::new(), 0, head.clone());
        let mut gone = 0;
        for item in view.range(&shared.messages, Bound::Included(&head), to).take(AT_ONCE) {
            let (key, stored) = item?;
            let Some(place) = Place::in_message_key(self.name(), &key) else { break };
            end = key.to_vec();
            if !goes(&place) {
                break;
            }
            looked += 1;
            let handed = self.handed_out(&view, &place)?;
            if let Some(reason) = reason {
                let times = handed.as_ref().map_or(0, |handed| handed.times);
                letters.push(self.letter(decode_message(&stored)?.1, reason.to_owned(), times, now));
            }
            change.remove(self, &place, &stored, handed.as_ref())?;
            gone += 1;
        }
        if gone > 0 {
            shared.commit_with_letters(change, letters)?;
        }
        self.order().message_head = end;
        Ok((gone, looked))
    }
}

impl Queues {
    /// Puts a dead letter back into its queue, visible at once and as if never handed out. False if there is no such
    /// letter.
    ///
    /// # Errors
    /// When the store fails.
    pub fn revive(&self, letter: &DeadLetter, now_ms: i64) -> Result<bool, StoreError> {
        let queue = self.queue(&letter.sink);
        let now = millis(now_ms);
        let shared = &self.0;
        let _turn = shared.turn();
        let mut change = Change::default();
        if !shared.outbox.dead().remove_in(&mut change.batch, letter.number)? {
            return Ok(false);
        }
        let entry = Entry { original: None, ..letter.entry.clone() };
        change.put(&queue, shared.position(now), &entry, now);
        shared.commit(change)?;
        shared.outbox.dead().removed(letter);
        Ok(true)
    }
}

/// The queue that a message came from because it was handed out too often.
pub fn source_queue(entry: &Entry) -> Option<&str> {
    entry.parameter(SOURCE)
}
