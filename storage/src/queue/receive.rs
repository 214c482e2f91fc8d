//! Handing messages out, and what their receivers say of them.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::atomic::Ordering;

use super::clear::Removed;
use super::counts::Before;
use super::form::{HandedOut, Place, Receipt, SECRET, decode_message, unreadable};
use super::queues::{Change, MessageQueue, before, millis};
use crate::fault;
use crate::outbox::Entry;
use crate::table::{Snapshot, StoreError};

/// Messages looked at by one call, also if they are not handed out.
const LOOK: usize = 1_000;

/// How much one call hands out.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Messages.
    pub messages: usize,
    /// Bytes of their bodies; one message may have more.
    pub bytes: usize,
}

/// A message that was handed out.
#[derive(Clone, Debug)]
pub struct Handed {
    /// For deleting it, or for keeping it longer.
    pub receipt: Receipt,
    /// The message.
    pub entry: Entry,
    /// When it came, milliseconds since 1970.
    pub arrived_ms: u64,
    /// When it comes back unless it is deleted.
    pub visible_ms: u64,
    /// When it was handed out first.
    pub first_ms: u64,
    /// How often it was handed out, this time included.
    pub times: u32,
}

/// Why nothing is handed out.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// There is no such queue any more.
    #[error("there is no queue {0}")]
    Gone(String),
    /// Too many messages are out.
    #[error("{0} messages are in flight, as many as max_in_flight allows")]
    InFlight(u64),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a receipt does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no receipt of this queue's messages.
    #[error("there is no message of this receipt: it is gone, or the receipt is another queue's")]
    Unknown,
    /// The message was handed out again since.
    #[error("the message has been handed out again since, with another receipt")]
    Stale,
    /// The time is over: the message is visible to others.
    #[error("the message is not in flight any more")]
    Back,
}

impl MessageQueue {
    /// Hands out what is due, oldest first. Each message is invisible for `visibility_ms` (the queue's own time if
    /// `None`). `secret` makes the secrets of receipts: they must not be guessed.
    ///
    /// # Errors
    /// When too many messages are out, or the store fails.
    pub fn receive(
        &self,
        limit: Limit,
        visibility_ms: Option<u64>,
        now_ms: i64,
        secret: &mut dyn FnMut() -> [u8; SECRET],
    ) -> Result<Vec<Handed>, ReceiveError> {
        let settings = self.settings().ok_or_else(|| ReceiveError::Gone(self.name().to_string()))?;
        let now = millis(now_ms);
        let visible_ms = now.saturating_add(visibility_ms.unwrap_or(settings.visibility_ms));
        let shared = &self.shared;
        let _turn = shared.turn();
        let (head, (_, in_flight, _)) = {
            let mut order = self.order();
            (order.due_head.clone(), order.counts.now(now))
        };
        let room = usize::try_from(settings.max_in_flight.saturating_sub(in_flight)).unwrap_or(usize::MAX);
        if room == 0 {
            return Err(ReceiveError::InFlight(in_flight));
        }
        let (messages, view) = (limit.messages.min(room), shared.store().snapshot());
        let (mut change, mut handed, mut bytes, mut last) = (Change::default(), Vec::new(), 0, head.clone());
        let mut removed = Removed::default();
        let end = self.due_end(now);
        for item in view.range(&shared.due, Bound::Included(&head), Bound::Excluded(&end)).take(LOOK) {
            let (key, value) = item?;
            let (due_ms, place) = Place::in_due_key(self.name(), &key).ok_or_else(|| unreadable("a key of a queue"))?;
            if handed.len() >= messages || bytes >= limit.bytes {
                break;
            }
            last = key.to_vec();
            let Some(stored) = view.get(&shared.messages, place.message_key(self.name()))? else {
                change.batch.delete(&shared.due, key);
                continue;
            };
            let known = self.handed_out(&view, &place)?;
            if place.arrived_ms().saturating_add(settings.retention_ms) <= now {
                change.remove(self, &place, &stored, known.as_ref())?;
                removed.expired += 1;
                continue;
            }
            let times = known.as_ref().map_or(0, |known| known.times);
            if settings.max_receives.is_some_and(|most| times >= most) {
                self.give_up(&mut change, &place, &stored, known.as_ref(), now, &mut removed)?;
                continue;
            }
            let (_, entry) = decode_message(&stored)?;
            let first_ms = known.map_or(now, |known| known.first_ms);
            let out = HandedOut { visible_ms, first_ms, times: times.saturating_add(1), secret: secret() };
            change.hand_out(self, &place, (due_ms, before(&value)), &out);
            bytes += entry.body.len();
            handed.push(Handed {
                receipt: Receipt::of(&out.secret, &place),
                entry,
                arrived_ms: place.arrived_ms(),
                visible_ms,
                first_ms,
                times: out.times,
            });
        }
        if !change.batch.is_empty() {
            // Everything up to here lies elsewhere now; what the change puts below lowers it again.
            self.order().due_head = last;
            removed.commit(self, change)?;
        }
        self.inner.totals.received.fetch_add(handed.len() as u64, Ordering::Relaxed);
        Ok(handed)
    }

    /// Deletes messages: they are done. One answer for each receipt.
    ///
    /// # Errors
    /// When the store fails.
    pub fn delete(&self, receipts: &[Receipt]) -> Result<Vec<Result<(), Refusal>>, StoreError> {
        let shared = &self.shared;
        let _turn = shared.turn();
        let view = shared.store().snapshot();
        let (mut change, mut seen, mut deleted) = (Change::default(), HashSet::new(), 0);
        let mut answers = Vec::with_capacity(receipts.len());
        for receipt in receipts {
            answers.push(match self.find(&view, receipt)? {
                // Twice in one call is as good as once.
                Ok((place, _)) if !seen.insert(place.clone()) => Ok(()),
                Ok((place, known)) => {
                    if let Some(stored) = view.get(&shared.messages, place.message_key(self.name()))? {
                        change.remove(self, &place, &stored, Some(&known))?;
                        deleted += 1;
                    }
                    Ok(())
                }
                Err(refusal) => Err(refusal),
            });
        }
        if fault::bug("delete_forgotten") {
            return Ok(answers);
        }
        shared.commit(change)?;
        self.inner.totals.deleted.fetch_add(deleted, Ordering::Relaxed);
        Ok(answers)
    }

    /// Messages in flight come back at another time; 0 makes them visible at once. One answer for each receipt.
    ///
    /// # Errors
    /// When the store fails.
    pub fn change_visibility(
        &self,
        receipts: &[Receipt],
        visibility_ms: u64,
        now_ms: i64,
    ) -> Result<Vec<Result<(), Refusal>>, StoreError> {
        let shared = &self.shared;
        let _turn = shared.turn();
        let view = shared.store().snapshot();
        let now = millis(now_ms);
        let (mut change, mut seen) = (Change::default(), HashSet::new());
        let mut answers = Vec::with_capacity(receipts.len());
        for receipt in receipts {
            answers.push(match self.find(&view, receipt)? {
                Ok((_, known)) if known.visible_ms <= now => Err(Refusal::Back),
                Ok((place, mut known)) => {
                    let from = (known.visible_ms, Before::HandedOut);
                    known.visible_ms = now.saturating_add(visibility_ms);
                    if from.0 != known.visible_ms && seen.insert(place.clone()) {
                        change.hand_out(self, &place, from, &known);
                    }
                    Ok(())
                }
                Err(refusal) => Err(refusal),
            });
        }
        shared.commit(change)?;
        Ok(answers)
    }

    fn find(&self, view: &Snapshot, receipt: &Receipt) -> Result<Result<(Place, HandedOut), Refusal>, StoreError> {
        let Some((secret, place)) = receipt.read() else { return Ok(Err(Refusal::Unknown)) };
        let Some(known) = self.handed_out(view, &place)? else { return Ok(Err(Refusal::Unknown)) };
        Ok(if known.has(&secret) { Ok((place, known)) } else { Err(Refusal::Stale) })
    }
}
