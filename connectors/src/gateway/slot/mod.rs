//! One session as the delivery thread sees it: which of its messages are in memory, which on disk.
//!
//! A durable session is in one of two states. *In memory*: messages go to the outbox; those not acknowledged by the
//! time of a commit are written to disk with it. *On disk*: messages go to disk only, and pages of them are brought
//! over as the client makes room; sleeping sessions are always in this state. A session that is not durable is always
//! in memory, and loses its oldest messages when it is full. Retained messages for a new subscription, of which there may
//! be many at once, are fed to the memory as the client makes room.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use ahash::AHashSet;
use hedgerow_storage::table::{Batch, StoreError};

use super::message::Queued;
use super::metrics::GatewayMetrics;
use super::outbox::{Outbox, QueueLimits};
use super::retained::Retained;
use super::rows::{Rows, SessionRow};
use super::session::{Session, lock};
use super::subscriptions::Readiness;

/// Bounds of the queues.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub memory: QueueLimits,
    pub disk: QueueLimits,
    /// Messages brought over from disk at a time.
    pub page: usize,
}

/// What a slot needs to do its work.
pub(super) struct Desk<'a> {
    pub rows: &'a Rows,
    pub batch: &'a mut Batch,
    pub limits: Limits,
    pub metrics: &'a GatewayMetrics,
    pub retained: &'a Retained,
}

pub(super) struct Slot {
    pub session: Arc<Session>,
    pub durable: bool,
    /// Filters in the trie.
    pub filters: BTreeSet<Arc<str>>,
    /// QoS 2 packet ids received and not released, as of the log.
    pub received: AHashSet<u16>,
    pub received_changed: bool,
    /// Messages of the commit being worked on.
    pub staged: Vec<Queued>,
    /// Retained messages that are not kept on disk and that the outbox had no room for.
    backlog: VecDeque<Queued>,
    /// New messages go to disk only.
    on_disk: bool,
    /// A connection takes from the outbox.
    online: bool,
    /// Places and sizes of the queue on disk, ascending.
    stored: VecDeque<(u64, usize)>,
    stored_bytes: usize,
    /// Messages on disk up to this place are in memory too.
    loaded_to: u64,
}

impl Slot {
    pub(super) fn new(session: Arc<Session>, durable: bool) -> Self {
        // A session that is not durable is only known while it is connected.
        lock(&session.outbox).ready |= !durable;
        Self {
            session,
            durable,
            filters: BTreeSet::new(),
            received: AHashSet::new(),
            received_changed: false,
            staged: Vec::new(),
            backlog: VecDeque::new(),
            on_disk: durable,
            online: !durable,
            stored: VecDeque::new(),
            stored_bytes: 0,
            loaded_to: 0,
        }
    }

    /// Takes over what was found on disk at start.
    pub(super) fn restore(&mut self, queue: Vec<(u64, usize)>, received: Vec<u16>) {
        self.stored_bytes = queue.iter().map(|(_, size)| size).sum();
        self.stored = queue.into();
        self.received = received.into_iter().collect();
        self.show();
    }

    /// Moves the staged messages on, to memory or to disk.
    pub(super) fn deliver(&mut self, desk: &mut Desk<'_>) {
        let session = Arc::clone(&self.session);
        let mut staged = std::mem::take(&mut self.staged);
        let mut outbox = lock(&session.outbox);
        for queued in staged.drain(..) {
            if self.on_disk {
                self.store_or_drop(&queued, desk);
                continue;
            }
            if outbox.fits(queued.message.size(), desk.limits.memory) {
                outbox.push(queued);
            } else if !self.durable {
                while !outbox.fits(queued.message.size(), desk.limits.memory) && outbox.pop().is_some() {
                    self.count_drop(desk);
                }
                outbox.push(queued);
            } else if queued.qos == 0 {
                self.count_drop(desk);
            } else {
                self.store_unstored(&mut outbox, desk);
                self.on_disk = true;
                outbox.more = true;
                self.store_or_drop(&queued, desk);
            }
        }
        outbox.wake();
        self.staged = staged;
    }

    /// A retained message for a subscription just made. What a durable session is to get for certain goes the way of all
    /// its messages; the rest waits until there is room.
    pub(super) fn offer(&mut self, queued: Queued) {
        if self.durable && queued.qos > 0 {
            self.staged.push(queued);
        } else if self.online {
            self.backlog.push_back(queued);
        }
    }

    /// Moves what waits in the backlog to the outbox, as far as that is half empty, and leaves out what is not retained
    /// any more: who subscribed has got what came in its place.
    pub(super) fn feed(&mut self, desk: &mut Desk<'_>) {
        if self.backlog.is_empty() {
            return;
        }
        let session = Arc::clone(&self.session);
        let mut outbox = lock(&session.outbox);
        let half = QueueLimits { messages: desk.limits.memory.messages.div_ceil(2), ..desk.limits.memory };
        while let Some(next) = self.backlog.front() {
            if !outbox.fits(next.message.size(), half) {
                break;
            }
            let Some(next) = self.backlog.pop_front() else { break };
            let current = desk.retained.get(next.message.topic());
            if current.is_some_and(|kept| kept.message.offset == next.message.offset) {
                outbox.push(next);
            }
        }
        outbox.more = self.on_disk || !self.backlog.is_empty();
        outbox.wake();
    }

    /// How well it can take a message that somebody else could take instead.
    pub(super) fn readiness(&self, limits: &Limits) -> Readiness {
        if !self.online {
            return Readiness::Asleep;
        }
        let waiting = lock(&self.session.outbox).queue.len() + self.staged.len();
        let behind = self.on_disk || waiting >= limits.memory.messages.div_ceil(2);
        if behind { Readiness::Busy } else { Readiness::Ready }
    }

    /// The session ends: what it got for a shared subscription and has not acknowledged, for another member. Not what
    /// it may have taken already under QoS 2 (MQTT 5 §4.8.2).
    pub(super) fn unfinished_shared(&mut self, rows: &Rows) -> Result<Vec<Queued>, StoreError> {
        let mut all = lock(&self.session.outbox).drain();
        let mut after = 0;
        while self.durable && !self.stored.is_empty() {
            let (page, more) = rows.page(self.session.number, after, 256, 1 << 20)?;
            after = page.last().map_or(u64::MAX, |last| last.place);
            all.extend(page);
            if !more {
                break;
            }
        }
        all.retain(|queued| queued.share().is_some() && (queued.qos < 2 || queued.packet_id == 0));
        // What is in memory may be on disk as well.
        all.sort_by_key(|queued| queued.place);
        all.dedup_by_key(|queued| queued.place);
        Ok(all)
    }

    /// Before a commit of the mark: what is in memory and not acknowledged goes to disk as well.
    pub(super) fn settle(&mut self, desk: &mut Desk<'_>) {
        let session = Arc::clone(&self.session);
        if self.durable {
            let mut outbox = lock(&session.outbox);
            self.delete_acknowledged(&mut outbox, desk);
            self.store_unstored(&mut outbox, desk);
        }
        if std::mem::take(&mut self.received_changed) && self.durable {
            desk.rows.put_received(desk.batch, session.number, self.received.iter().copied());
        }
    }

    /// A connection took the session up. `page` has to follow once the batch is committed.
    pub(super) fn attach(&mut self) {
        self.online = true;
        self.loaded_to = 0;
    }

    /// Its connection ended: everything moves to disk; messages in flight keep their packet ids.
    pub(super) fn detach(&mut self, desk: &mut Desk<'_>) {
        let session = Arc::clone(&self.session);
        let mut outbox = lock(&session.outbox);
        self.delete_acknowledged(&mut outbox, desk);
        for queued in outbox.drain() {
            if queued.qos > 0 && (!queued.stored || queued.packet_id > 0) {
                self.store(&queued, desk);
            }
        }
        self.backlog.clear();
        outbox.more = false;
        outbox.asked = false;
        // A newer connection may be there already: it waits for `attach`, which comes after this.
        outbox.ready = false;
        self.online = false;
        self.on_disk = true;
        self.loaded_to = 0;
        self.enforce_bounds(desk);
    }

    /// Does the next page have to be read from disk?
    pub(super) fn wants_page(&self) -> bool {
        self.stored.back().is_some_and(|(place, _)| *place > self.loaded_to)
    }

    /// Brings the next page over. Everything stored has to be committed.
    pub(super) fn page(&mut self, rows: &Rows, limits: Limits) -> Result<(), StoreError> {
        if !self.online {
            return Ok(());
        }
        let (page, more) = if self.wants_page() {
            rows.page(self.session.number, self.loaded_to, limits.page, limits.memory.bytes)?
        } else {
            (Vec::new(), false)
        };
        let mut outbox = lock(&self.session.outbox);
        for queued in page {
            self.loaded_to = self.loaded_to.max(queued.place);
            outbox.push(queued);
        }
        self.on_disk = more;
        outbox.more = more || !self.backlog.is_empty();
        outbox.asked = false;
        outbox.ready = true;
        outbox.wake();
        Ok(())
    }

    /// Deletes everything about the session.
    pub(super) fn erase(&mut self, desk: &mut Desk<'_>) {
        if !self.durable {
            return;
        }
        let number = self.session.number;
        desk.rows.delete_session(desk.batch, number);
        for filter in &self.filters {
            desk.rows.delete_filter(desk.batch, number, filter);
        }
        for (place, _) in &self.stored {
            desk.rows.delete_queued(desk.batch, number, *place);
        }
    }

    pub(super) fn row(&self) -> SessionRow {
        SessionRow {
            number: self.session.number,
            client_id: self.session.client_id.to_string(),
            expiry_s: self.session.expiry_s(),
            level: self.session.version().level(),
            since_ms: self.session.since_ms(),
        }
    }

    fn delete_acknowledged(&mut self, outbox: &mut Outbox, desk: &mut Desk<'_>) {
        for place in outbox.acknowledged.drain(..) {
            if let Ok(at) = self.stored.binary_search_by_key(&place, |(place, _)| *place)
                && let Some((_, size)) = self.stored.remove(at)
            {
                self.stored_bytes -= size;
                desk.rows.delete_queued(desk.batch, self.session.number, place);
            }
        }
        self.show();
    }

    fn store_unstored(&mut self, outbox: &mut Outbox, desk: &mut Desk<'_>) {
        for queued in outbox.unstored() {
            self.store(queued, desk);
            queued.stored = true;
            queued.changed = false;
            self.loaded_to = self.loaded_to.max(queued.place);
        }
        self.show();
    }

    fn store_or_drop(&mut self, queued: &Queued, desk: &mut Desk<'_>) {
        if queued.qos > 0 {
            self.store(queued, desk);
            self.enforce_bounds(desk);
        } else if self.online {
            self.count_drop(desk);
        }
    }

    /// Writes the message, or writes it again.
    fn store(&mut self, queued: &Queued, desk: &mut Desk<'_>) {
        let size = desk.rows.put_queued(desk.batch, self.session.number, queued);
        if let Err(at) = self.stored.binary_search_by_key(&queued.place, |(place, _)| *place) {
            self.stored.insert(at, (queued.place, size));
            self.stored_bytes += size;
            desk.metrics.queued_on_disk.add(1);
        }
    }

    /// Drops the oldest messages that are on disk only, while there are too many.
    fn enforce_bounds(&mut self, desk: &mut Desk<'_>) {
        while self.stored.len() > desk.limits.disk.messages || self.stored_bytes > desk.limits.disk.bytes {
            let oldest = self.stored.partition_point(|(place, _)| self.online && *place <= self.loaded_to);
            let Some((place, size)) = self.stored.remove(oldest) else { break };
            self.stored_bytes -= size;
            desk.rows.delete_queued(desk.batch, self.session.number, place);
            self.count_drop(desk);
        }
        self.show();
    }

    fn count_drop(&self, desk: &Desk<'_>) {
        self.session.dropped.add(1);
        desk.metrics.queue_drops.add(1);
    }

    fn show(&self) {
        self.session.stored_messages.set(self.stored.len() as u64);
        self.session.stored_bytes.set(self.stored_bytes as u64);
    }
}

#[cfg(test)]
mod tests;
