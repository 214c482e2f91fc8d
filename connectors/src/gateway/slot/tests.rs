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
    retained: Retained,
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
            principal: "",
            will: None,
            mailbox: &mailbox,
            now_ms: 0,
        };
        let Attach::Attached { session, .. } = Registry::default().attach(&claim, 1, 9) else { panic!("attach") };
        let slot = Slot::new(session, expiry_s > 0);
        Self { _dir: dir, rows, metrics: GatewayMetrics::default(), retained: Retained::new(), slot }
    }

    /// Does something with the slot, and commits what it wrote.
    fn act<T>(&mut self, act: impl FnOnce(&mut Slot, &mut Desk<'_>) -> T) -> T {
        let mut batch = Batch::new();
        let retained = &self.retained;
        let mut desk = Desk { rows: &self.rows, batch: &mut batch, limits: LIMITS, metrics: &self.metrics, retained };
        let result = act(&mut self.slot, &mut desk);
        self.rows.commit(batch).unwrap();
        result
    }

    fn deliver(&mut self, offsets: impl Iterator<Item = u64>, qos: u8) {
        self.slot.staged.extend(offsets.map(|offset| {
            let message = Arc::new(Message::new(offset, 0, "t", &[], b"p"));
            Queued::new(message, offset, qos, false, None)
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
