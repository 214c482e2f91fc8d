//! One session as the delivery thread sees it: which of its messages are in memory, which on disk.
//!
//! A durable session is in one of two states. *In memory*: messages go to the outbox; those not acknowledged by the
//! time of a commit are written to disk with it. *On disk*: messages go to disk only, and pages of them are brought
//! over as the client makes room; sleeping sessions are always in this state. A session that is not durable is always
//! in memory, and loses its oldest messages when it is full.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use ahash::AHashSet;
use hedgerow_storage::table::{Batch, StoreError};

use super::message::Queued;
use super::metrics::GatewayMetrics;
use super::outbox::{Outbox, QueueLimits};
use super::rows::{Rows, SessionRow};
use super::session::{Session, lock};

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
    /// New messages go to disk only.
    on_disk: bool,
    /// A connection takes from the outbox.
    online: bool,
    /// Offsets and sizes of the queue on disk, ascending.
    stored: VecDeque<(u64, usize)>,
    stored_bytes: usize,
    /// Messages on disk up to this offset are in memory too.
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
                outbox.more_on_disk = true;
                self.store_or_drop(&queued, desk);
            }
        }
        outbox.wake();
        self.staged = staged;
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
        outbox.more_on_disk = false;
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
        self.stored.back().is_some_and(|(offset, _)| *offset > self.loaded_to)
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
            self.loaded_to = self.loaded_to.max(queued.message.offset);
            outbox.push(queued);
        }
        self.on_disk = more;
        outbox.more_on_disk = more;
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
        for (offset, _) in &self.stored {
            desk.rows.delete_queued(desk.batch, number, *offset);
        }
    }

    pub(super) fn row(&self, connected: bool) -> SessionRow {
        SessionRow {
            number: self.session.number,
            client_id: self.session.client_id.to_string(),
            expiry_s: self.session.expiry_s(),
            level: self.session.version().level(),
            connected,
            since_ms: self.session.since_ms(),
        }
    }

    fn delete_acknowledged(&mut self, outbox: &mut Outbox, desk: &mut Desk<'_>) {
        for offset in outbox.acknowledged.drain(..) {
            if let Ok(at) = self.stored.binary_search_by_key(&offset, |(offset, _)| *offset)
                && let Some((_, size)) = self.stored.remove(at)
            {
                self.stored_bytes -= size;
                desk.rows.delete_queued(desk.batch, self.session.number, offset);
            }
        }
        self.show();
    }

    fn store_unstored(&mut self, outbox: &mut Outbox, desk: &mut Desk<'_>) {
        for queued in outbox.unstored() {
            self.store(queued, desk);
            queued.stored = true;
            self.loaded_to = self.loaded_to.max(queued.message.offset);
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
        let offset = queued.message.offset;
        let size = desk.rows.put_queued(desk.batch, self.session.number, queued);
        if let Err(at) = self.stored.binary_search_by_key(&offset, |(offset, _)| *offset) {
            self.stored.insert(at, (offset, size));
            self.stored_bytes += size;
            desk.metrics.queued_on_disk.add(1);
        }
    }

    /// Drops the oldest messages that are on disk only, while there are too many.
    fn enforce_bounds(&mut self, desk: &mut Desk<'_>) {
        while self.stored.len() > desk.limits.disk.messages || self.stored_bytes > desk.limits.disk.bytes {
            let oldest = self.stored.partition_point(|(offset, _)| self.online && *offset <= self.loaded_to);
            let Some((offset, size)) = self.stored.remove(oldest) else { break };
            self.stored_bytes -= size;
            desk.rows.delete_queued(desk.batch, self.session.number, offset);
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
mod tests {
    use hedgerow_storage::table::{Store, StoreConfig};

    use super::super::frame::Version;
    use super::super::mailbox::Mailbox;
    use super::super::message::Message;
    use super::super::session::{Attach, Claim, Registry};
    use super::*;

    const LIMITS: Limits = Limits {
        memory: QueueLimits { messages: 4, bytes: 1 << 20 },
        disk: QueueLimits { messages: 8, bytes: 1 << 20 },
        page: 3,
    };

    struct Bench {
        _dir: tempfile::TempDir,
        rows: Rows,
        metrics: GatewayMetrics,
        slot: Slot,
    }

    impl Bench {
        fn new(expiry_s: u32) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let rows = Rows::open(Store::open(dir.path(), StoreConfig::default()).unwrap()).unwrap();
            let mailbox = Arc::new(Mailbox::new());
            let claim = Claim {
                client_id: "c",
                clean: true,
                expiry_s,
                version: Version::V5,
                address: None,
                mailbox: &mailbox,
                now_ms: 0,
            };
            let Attach::Attached { session, .. } = Registry::default().attach(&claim, 1, 9) else { panic!("attach") };
            Self { _dir: dir, rows, metrics: GatewayMetrics::default(), slot: Slot::new(session, expiry_s > 0) }
        }

        /// Does something with the slot, and commits what it wrote.
        fn act<T>(&mut self, act: impl FnOnce(&mut Slot, &mut Desk<'_>) -> T) -> T {
            let mut batch = Batch::new();
            let mut desk = Desk { rows: &self.rows, batch: &mut batch, limits: LIMITS, metrics: &self.metrics };
            let result = act(&mut self.slot, &mut desk);
            self.rows.commit(batch).unwrap();
            result
        }

        fn deliver(&mut self, offsets: impl Iterator<Item = u64>, qos: u8) {
            self.slot.staged.extend(offsets.map(|offset| Queued {
                message: Arc::new(Message::new(offset, 0, "t", &[], b"p")),
                qos,
                retain: false,
                stored: false,
                packet_id: 0,
            }));
            self.act(|slot, desk| slot.deliver(desk));
        }

        fn page(&mut self) {
            self.slot.page(&self.rows, LIMITS).unwrap();
        }

        /// Takes what is in memory as a connection would: sends and acknowledges all of it.
        fn take(&mut self) -> Vec<u64> {
            let mut outbox = lock(&self.slot.session.outbox);
            let mut taken = Vec::new();
            while let Some(queued) = outbox.pop() {
                taken.push(queued.message.offset);
                outbox.forget(&queued);
            }
            taken
        }

        fn on_disk(&self) -> Vec<u64> {
            let (page, _) = self.rows.page(self.slot.session.number, 0, 100, usize::MAX).unwrap();
            page.iter().map(|queued| queued.message.offset).collect()
        }
    }

    #[test]
    fn a_sleeping_session_keeps_the_newest_on_disk_and_gets_them_in_order() {
        let mut bench = Bench::new(60);
        bench.deliver(1..=12, 1);
        assert_eq!(bench.on_disk(), (5..=12).collect::<Vec<_>>());
        assert_eq!(bench.metrics.queue_drops.get(), 4);
        bench.slot.attach();
        let mut got = Vec::new();
        for _ in 0..3 {
            bench.page();
            got.extend(bench.take());
        }
        assert_eq!(got, (5..=12).collect::<Vec<_>>());
        bench.act(|slot, desk| slot.settle(desk));
        assert!(bench.on_disk().is_empty());
        bench.deliver(13..=13, 1);
        assert_eq!(bench.take(), [13], "in memory again");
        assert!(bench.on_disk().is_empty());
    }

    #[test]
    fn a_slow_one_overflows_to_disk_without_loss_or_disorder() {
        let mut bench = Bench::new(60);
        bench.slot.attach();
        bench.page();
        bench.deliver(1..=6, 1);
        bench.deliver(7..=7, 0);
        assert_eq!(bench.on_disk(), (1..=6).collect::<Vec<_>>(), "the switch writes what is in memory too");
        assert_eq!(bench.metrics.queue_drops.get(), 1, "QoS 0 is not kept on disk");
        assert_eq!(bench.take(), [1, 2, 3, 4]);
        bench.deliver(8..=8, 1);
        bench.page();
        assert_eq!(bench.take(), [5, 6, 8]);
    }

    #[test]
    fn leaving_keeps_packet_ids_and_what_was_acknowledged_is_gone() {
        let mut bench = Bench::new(60);
        bench.slot.attach();
        bench.page();
        bench.deliver(1..=3, 1);
        bench.act(|slot, desk| slot.settle(desk));
        {
            let mut outbox = lock(&bench.slot.session.outbox);
            for packet_id in [41, 42] {
                let mut sent = outbox.pop().unwrap();
                sent.packet_id = packet_id;
                outbox.in_flight.push_back(sent);
            }
            assert!(outbox.acknowledge(41));
        }
        bench.act(|slot, desk| slot.detach(desk));
        let (page, _) = bench.rows.page(bench.slot.session.number, 0, 9, usize::MAX).unwrap();
        let found: Vec<_> = page.iter().map(|queued| (queued.message.offset, queued.packet_id)).collect();
        assert_eq!(found, [(2, 42), (3, 0)]);
        bench.act(|slot, desk| slot.erase(desk));
        assert!(bench.on_disk().is_empty());
    }

    #[test]
    fn without_durability_the_oldest_make_room() {
        let mut bench = Bench::new(0);
        bench.deliver(1..=6, 1);
        assert_eq!(bench.take(), [3, 4, 5, 6]);
        assert_eq!((bench.metrics.queue_drops.get(), bench.slot.session.dropped.get()), (2, 2));
        assert!(bench.on_disk().is_empty());
    }
}
