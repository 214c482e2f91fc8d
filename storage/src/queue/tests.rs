use std::time::Duration;

use super::*;
use crate::outbox::{Accepted, DeadLimits, Entry, LetterId, Outbox, Overflow, Position, QueueLimits};
use crate::table::{Store, StoreConfig};

const SECOND: i64 = 1_000;

fn settings() -> QueueSettings {
    QueueSettings {
        delay_ms: 0,
        visibility_ms: 30_000,
        max_receives: None,
        dead_letter_queue: None,
        retention_ms: 1_000_000_000,
        max_in_flight: 100,
        limits: QueueLimits { max_bytes: 1 << 20, overflow: Overflow::DeadLetter },
    }
}

fn outbox(folder: &std::path::Path) -> Outbox {
    Outbox::open(&Store::open(folder, StoreConfig::default()).unwrap(), DeadLimits::default()).unwrap()
}

fn open(folder: &std::path::Path) -> Queues {
    Queues::open(&outbox(folder)).unwrap()
}

/// A row of the epoch `ms`, in ms.
fn row(ms: u64) -> Entry {
    Entry {
        id: format!("{ms}-r"),
        position: Position { epoch: ms * 1_000, record: true, offset: 1 },
        body: format!("{{\"n\": {ms}}}").into_bytes(),
        original: Some(b"payload".to_vec()),
        ..Entry::default()
    }
}

fn take(queue: &MessageQueue, messages: usize, now_ms: i64) -> Vec<Handed> {
    let mut next = 0_u8;
    let mut secret = || {
        next += 1;
        [next ^ now_ms.to_le_bytes()[0]; 16]
    };
    queue.receive(Limit { messages, bytes: 1 << 20 }, None, now_ms, &mut secret).unwrap()
}

fn ids(handed: &[Handed]) -> Vec<&str> {
    handed.iter().map(|one| one.entry.id.as_str()).collect()
}

fn numbers(queue: &MessageQueue, now_ms: i64) -> (u64, u64, u64) {
    let status = queue.status(now_ms).unwrap();
    (status.visible, status.in_flight, status.delayed)
}

#[test]
fn a_message_comes_back_after_its_time_and_a_deleted_one_never_also_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let receipts = {
        let queues = open(folder.path());
        let (queue, other) = (queues.queue("jobs"), queues.queue("jobs2"));
        queue.set(Some(settings()));
        other.set(Some(settings()));
        assert_eq!(
            queue.accept(9_000, &[row(1), row(2), row(3)], &[], 0).unwrap(),
            Accepted::Taken { queued: 3, dead: 0 }
        );
        other.accept(9_000, &[row(1)], &[], 0).unwrap();
        assert_eq!(numbers(&queue, SECOND), (3, 0, 0));
        let handed = take(&queue, 2, SECOND);
        assert_eq!(ids(&handed), ["1-r", "2-r"]);
        assert_eq!(handed[0].entry, Entry { original: None, ..row(1) });
        assert_eq!((handed[0].times, handed[0].visible_ms, handed[0].arrived_ms), (1, 31_000, 1));
        assert_eq!(queue.delete(&[handed[0].receipt.clone()]).unwrap(), [Ok(())]);
        assert_eq!(queue.delete(&[handed[0].receipt.clone()]).unwrap(), [Err(Refusal::Unknown)]);
        assert_eq!(other.delete(&[handed[1].receipt.clone()]).unwrap(), [Err(Refusal::Unknown)]);
        assert_eq!(ids(&take(&queue, 10, SECOND)), ["3-r"]);
        assert_eq!(numbers(&queue, SECOND), (0, 2, 0));
        handed[1].receipt.clone()
    };
    let queues = open(folder.path());
    let queue = queues.queue("jobs");
    queue.set(Some(settings()));
    assert_eq!((queue.mark(), numbers(&queue, 2 * SECOND)), (Some(9_000), (0, 2, 0)));
    assert!(take(&queue, 10, 30_999).is_empty());
    assert_eq!(queue.next_due_ms().unwrap(), Some(31_000));
    let again = take(&queue, 1, 31_000);
    assert_eq!((ids(&again), again[0].times, again[0].first_ms), (vec!["2-r"], 2, 1_000));
    assert_eq!(queue.delete(std::slice::from_ref(&receipts)).unwrap(), [Err(Refusal::Stale)], "handed out again since");
    let both = [again[0].receipt.clone(), again[0].receipt.clone()];
    assert_eq!(queue.delete(&both).unwrap(), [Ok(()), Ok(())], "twice in one call is once");
    let status = queue.status(31_000).unwrap();
    assert_eq!((status.visible, status.received, status.deleted, status.oldest_ms), (1, 1, 1, Some(3)));
    let last = take(&queue, 10, 40_000);
    assert_eq!(ids(&last), ["3-r"]);
    // Nobody else had it: whoever is late may still say that it is done.
    assert_eq!(queue.delete(&[last[0].receipt.clone()]).unwrap(), [Ok(())]);
    let status = queue.status(90_000).unwrap();
    assert_eq!((status.visible, status.in_flight, status.bytes, status.oldest_ms), (0, 0, 0, None));
    assert_eq!(queue.next_due_ms().unwrap(), None);
    assert_eq!(numbers(&queues.queue("jobs2"), 90_000), (1, 0, 0));
}

#[test]
fn receipts_cannot_be_made_up() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path()).queue("jobs");
    queue.set(Some(settings()));
    queue.accept(9_000, &[row(1)], &[], 0).unwrap();
    let handed = take(&queue, 1, SECOND);
    for index in 0..16 {
        let mut forged = handed[0].receipt.clone();
        forged.0[index] ^= 1;
        assert_eq!(queue.delete(&[forged.clone()]).unwrap(), [Err(Refusal::Stale)]);
        assert_eq!(queue.change_visibility(&[forged], 0, SECOND).unwrap(), [Err(Refusal::Stale)]);
    }
    for bytes in [Vec::new(), vec![1; 15], vec![1; 33], vec![1; 60], vec![1; 10_000]] {
        assert_eq!(queue.delete(&[Receipt(bytes)]).unwrap(), [Err(Refusal::Unknown)]);
    }
    assert_eq!(numbers(&queue, SECOND), (0, 1, 0));
}

#[test]
fn no_delay_is_early_and_it_is_counted_from_the_row() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path()).queue("jobs");
    queue.set(Some(QueueSettings { delay_ms: 900_000, ..settings() }));
    // An epoch in the middle of a millisecond; written much later than it happened.
    let mut late = row(5);
    late.position.epoch = 5_001;
    queue.accept(9_000, &[late], &[], 800_000).unwrap();
    assert_eq!((numbers(&queue, 800_000), queue.next_due_ms().unwrap()), ((0, 0, 1), Some(900_006)));
    assert!(take(&queue, 1, 900_005).is_empty());
    assert_eq!(take(&queue, 1, 900_006).len(), 1);
    let own = |id: &str, delay_ms| NewMessage { id: id.into(), body: b"x".to_vec(), delay_ms };
    queue.send(&[own("a", Some(10)), own("b", Some(0)), own("c", None)], 1_000_000).unwrap();
    assert_eq!(ids(&take(&queue, 10, 1_000_009)), ["5-r", "b"], "the first is back by now");
    assert_eq!(ids(&take(&queue, 10, 1_000_010)), ["a"]);
}

#[test]
fn a_receiver_may_keep_a_message_longer_or_give_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path()).queue("jobs");
    queue.set(Some(settings()));
    queue.accept(9_000, &[row(1), row(2)], &[], 0).unwrap();
    let handed = take(&queue, 2, SECOND);
    let receipt = |index: usize| std::slice::from_ref(&handed[index].receipt);
    assert_eq!(queue.change_visibility(receipt(0), 100_000, SECOND).unwrap(), [Ok(())]);
    assert_eq!(queue.change_visibility(receipt(1), 0, SECOND).unwrap(), [Ok(())]);
    assert_eq!(queue.change_visibility(receipt(1), 5_000, SECOND).unwrap(), [Err(Refusal::Back)]);
    assert_eq!(numbers(&queue, SECOND), (1, 1, 0));
    assert_eq!(ids(&take(&queue, 2, SECOND)), ["2-r"], "at once");
    assert_eq!(queue.delete(receipt(1)).unwrap(), [Err(Refusal::Stale)]);
    assert!(take(&queue, 2, 30_999).is_empty());
    assert_eq!(ids(&take(&queue, 2, 100_999)), ["2-r"]);
    assert_eq!(queue.delete(receipt(0)).unwrap(), [Ok(())], "the receipt stays good");
    // Nothing is hidden for no time.
    queue.set(Some(QueueSettings { visibility_ms: 0, ..settings() }));
    queue.accept(300_000_000, &[row(200_000), row(200_001)], &[], 0).unwrap();
    for _ in 0..3 {
        assert_eq!(ids(&take(&queue, 3, 300_000)), ["2-r", "200000-r", "200001-r"]);
    }
}

#[test]
fn what_is_received_too_often_goes_to_its_queue_or_to_the_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(folder.path());
    let queues = Queues::open(&outbox).unwrap();
    let (queue, dead) = (queues.queue("jobs"), queues.queue("dead"));
    let poison = QueueSettings { max_receives: Some(2), dead_letter_queue: Some("dead".into()), ..settings() };
    queue.set(Some(poison));
    dead.set(Some(settings()));
    queue.accept(9_000, &[row(1)], &[], 0).unwrap();
    for now in [1_000, 31_000] {
        assert_eq!(take(&queue, 1, now).len(), 1);
    }
    let handed = take(&queue, 1, 60_999);
    assert!(handed.is_empty() && dead.is_empty());
    assert!(take(&queue, 1, 61_000).is_empty());
    assert!(queue.is_empty());
    let handed = take(&dead, 1, 61_000);
    assert_eq!((ids(&handed), handed[0].times, handed[0].arrived_ms), (vec!["1-r"], 1, 61_000));
    assert_eq!(source_queue(&handed[0].entry), Some("jobs"));
    assert_eq!((queue.status(0).unwrap().dead, outbox.dead().len()), (1, 0));

    // The same without room there; it can be replayed.
    dead.set(None);
    queue.accept(90_000_000, &[row(70_000)], &[], 0).unwrap();
    for now in [80_000, 110_000, 140_000] {
        take(&queue, 1, now);
    }
    let letters = outbox.dead().read(LetterId(0), 10).unwrap();
    assert_eq!((letters.len(), letters[0].attempts, &*letters[0].sink), (1, 2, "jobs"));
    assert!(letters[0].reason.contains("max_receives") && letters[0].reason.contains("dead"), "{}", letters[0].reason);
    assert!(queues.revive(&letters[0], 150_000).unwrap());
    assert!(!queues.revive(&letters[0], 150_000).unwrap(), "once");
    assert_eq!(take(&queue, 1, 150_000)[0].times, 1);
}

#[test]
fn a_queue_has_limits_of_bytes_of_messages_in_flight_and_of_age() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(folder.path());
    let queues = Queues::open(&outbox).unwrap();
    let (queue, strict) = (queues.queue("jobs"), queues.queue("strict"));
    let limits = |overflow| QueueLimits { max_bytes: 1, overflow };
    strict.set(Some(QueueSettings { limits: limits(Overflow::Block), ..settings() }));
    assert_eq!(strict.accept(1, &[row(1)], &[], 0).unwrap(), Accepted::Taken { queued: 1, dead: 0 });
    assert_eq!(strict.accept(2, &[row(2)], &[], 0).unwrap(), Accepted::Full);
    assert_eq!(strict.mark(), Some(1), "nothing of a refused delivery is written");
    let small =
        QueueSettings { limits: limits(Overflow::DeadLetter), max_in_flight: 2, retention_ms: 100_000, ..settings() };
    queue.set(Some(small.clone()));
    let plain = |ms| Entry { original: None, ..row(ms) };
    let taken = queue.accept(1, &[plain(1), plain(2)], &[(plain(3), "no".into())], 77).unwrap();
    assert_eq!(taken, Accepted::Taken { queued: 1, dead: 2 });
    let reasons: Vec<String> =
        outbox.dead().read(LetterId(0), 10).unwrap().into_iter().map(|letter| letter.reason).collect();
    assert!(reasons[0] == "no" && reasons[1].contains("max_backlog"), "{reasons:?}");
    let one = NewMessage { id: "a".into(), body: b"x".to_vec(), delay_ms: None };
    assert!(matches!(queue.send(std::slice::from_ref(&one), 1_000), Err(SendError::Full { .. })));

    queue.set(Some(QueueSettings { limits: settings().limits, ..small }));
    queue.accept(2, &[plain(50), plain(60_000)], &[], 0).unwrap();
    assert_eq!(take(&queue, 10, 60_000).len(), 2, "not more than may be in flight");
    let none = queue.receive(Limit { messages: 1, bytes: 1 }, None, 60_000, &mut || [0; 16]);
    assert!(matches!(none, Err(ReceiveError::InFlight(2))));
    assert_eq!(queue.expire(100_049).unwrap(), 1);
    assert_eq!(ids(&take(&queue, 10, 100_049)), ["60000-r", "50-r"], "each has its whole time");
    assert_eq!(queue.expire(100_050).unwrap(), 1);
    assert!(take(&queue, 10, 160_000).is_empty(), "nor is what is too old handed out");
    let status = queue.status(160_000).unwrap();
    assert_eq!((status.expired, status.bytes, status.oldest_ms), (3, 0, None));
}

#[test]
fn purging_takes_all_and_dropping_makes_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(folder.path());
    let queues = Queues::open(&outbox).unwrap();
    let (queue, other) = (queues.queue("jobs"), queues.queue("jobs2"));
    for queue in [&queue, &other] {
        queue.set(Some(QueueSettings { max_in_flight: 5_000, ..settings() }));
        let rows: Vec<Entry> = (1..=2_500).map(row).collect();
        queue.accept(9_000_000, &rows, &[], 0).unwrap();
    }
    let handed = take(&queue, 3, 3_000);
    assert_eq!(queue.purge().unwrap(), 2_500);
    assert_eq!(queue.delete(&[handed[0].receipt.clone()]).unwrap(), [Err(Refusal::Unknown)]);
    assert_eq!((queue.bytes(), numbers(&queue, 90_000), queue.purge().unwrap()), (0, (0, 0, 0), 0));
    assert_eq!(numbers(&other, 3_000), (2_500, 0, 0));
    assert_eq!(other.bury_all("the sink was dropped", 4_000).unwrap(), 2_500);
    assert_eq!((other.bytes(), outbox.dead().len()), (0, 2_500));
    assert_eq!(take(&other, 1, Duration::from_secs(90).as_millis() as i64).len(), 0);
    queue.accept(9_000_001, &[row(3_000)], &[], 0).unwrap();
    assert_eq!(ids(&take(&queue, 10, 3_000)), ["3000-r"]);
}
