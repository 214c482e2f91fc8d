use std::time::Duration;

use super::*;
use crate::table::{Store, StoreConfig};

const LIMITS: QueueLimits = QueueLimits { max_bytes: 1 << 20, overflow: Overflow::DeadLetter };

fn open(folder: &std::path::Path) -> Outbox {
    Outbox::open(&Store::open(folder, StoreConfig::default()).unwrap(), DeadLimits::default()).unwrap()
}

fn entry(epoch: u64) -> Entry {
    Entry {
        id: format!("{epoch}-{epoch}-r-0"),
        position: Position { epoch, record: true, offset: epoch },
        rule: "r".into(),
        action: 0,
        time_ms: 1_000,
        topic: "a/b".into(),
        client_id: "c".into(),
        parameters: vec![("url".into(), "https://example.com/ü".into())],
        body: format!("{{\"n\": {epoch}}}").into_bytes(),
        original: None,
    }
}

fn epochs(waiting: &[Waiting]) -> Vec<u64> {
    waiting.iter().map(|waiting| waiting.entry.position.epoch).collect()
}

#[test]
fn entries_come_back_in_order_after_a_restart_with_their_attempts() {
    let folder = tempfile::tempdir().unwrap();
    {
        let outbox = open(folder.path());
        // A name that is the beginning of another does not see the other's entries.
        let (queue, other) = (outbox.queue("hook"), outbox.queue("hook2"));
        other.accept(7, &[entry(7)], Vec::new(), LIMITS, 0).unwrap();
        queue.accept(300, &[entry(300), entry(2), entry(256)], Vec::new(), LIMITS, 0).unwrap();
        let waiting = queue.read(None, 10, 1 << 20).unwrap();
        assert_eq!(epochs(&waiting), [2, 256, 300]);
        assert_eq!(waiting[0].entry, entry(2));
        let attempts = Attempts { count: 2, first_ms: 5, reason: "no".into(), status: Some(500) };
        queue.failed(&waiting[1].key, &attempts).unwrap();
        queue.confirm(std::slice::from_ref(&waiting[0].key)).unwrap();
        assert_eq!((queue.len(), queue.oldest_epoch().unwrap()), (2, Some(256)));
    }
    let outbox = open(folder.path());
    let queue = outbox.queue("hook");
    assert_eq!((queue.len(), queue.mark(), outbox.queue("hook2").len()), (2, Some(300), 1));
    let waiting = queue.read(None, 10, 1 << 20).unwrap();
    assert_eq!(epochs(&waiting), [256, 300]);
    assert_eq!((waiting[0].attempts.count, waiting[0].attempts.status), (2, Some(500)));
    let after = queue.read(Some(&waiting[0].key), 10, 1 << 20).unwrap();
    assert_eq!(epochs(&after), [300]);
    queue.confirm(&waiting.iter().map(|waiting| waiting.key.clone()).collect::<Vec<_>>()).unwrap();
    assert_eq!((queue.len(), queue.bytes(), queue.oldest_epoch().unwrap()), (0, 0, None));
}

#[test]
fn what_does_not_fit_waits_or_becomes_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    let small = |overflow| QueueLimits { max_bytes: 1, overflow };
    let queue = outbox.queue("block");
    assert_eq!(
        queue.accept(1, &[entry(1)], Vec::new(), small(Overflow::Block), 0).unwrap(),
        Accepted::Taken { queued: 1, dead: 0 },
        "an empty queue takes what is larger than its limit, or it would never be taken"
    );
    assert_eq!(queue.accept(2, &[entry(2)], Vec::new(), small(Overflow::Block), 0).unwrap(), Accepted::Full);
    assert_eq!((queue.len(), queue.mark()), (1, Some(1)), "nothing of a refused delivery is written");
    // The mark moves all the same when there is nothing to take.
    assert_eq!(
        queue.accept(3, &[], Vec::new(), small(Overflow::Block), 0).unwrap(),
        Accepted::Taken { queued: 0, dead: 0 }
    );

    let queue = outbox.queue("drop");
    let taken = queue.accept(2, &[entry(1), entry(2)], Vec::new(), small(Overflow::DeadLetter), 77).unwrap();
    assert_eq!(taken, Accepted::Taken { queued: 1, dead: 1 });
    let letters = outbox.dead().read(LetterId(0), 10).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((&*letters[0].sink, letters[0].died_ms, &letters[0].entry), ("drop", 77, &entry(2)));
    assert!(letters[0].reason.contains("max_backlog"), "{}", letters[0].reason);
}

#[test]
fn a_dead_letter_can_be_revived_and_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    let queue = outbox.queue("hook");
    queue.accept(9, &[entry(3), entry(9)], Vec::new(), LIMITS, 0).unwrap();
    let mut waiting = queue.read(None, 10, 1 << 20).unwrap();
    waiting[0].attempts = Attempts { count: 4, first_ms: 1, reason: "status 404".into(), status: Some(404) };
    queue.bury(&waiting[0], 50).unwrap();
    assert_eq!((queue.len(), outbox.dead().len(), queue.oldest_epoch().unwrap()), (1, 1, Some(9)));
    assert!(!queue.take_rewound());

    let letter = outbox.dead().read(LetterId(0), 10).unwrap().remove(0);
    assert_eq!((letter.attempts, letter.status, &*letter.reason), (4, Some(404), "status 404"));
    assert!(outbox.revive(&letter).unwrap());
    assert!(!outbox.revive(&letter).unwrap(), "once");
    assert!(queue.take_rewound() && !queue.take_rewound());
    let waiting = queue.read(None, 10, 1 << 20).unwrap();
    assert_eq!((epochs(&waiting), waiting[0].attempts.count), (vec![3, 9], 0));
    assert_eq!((outbox.dead().len(), outbox.dead().bytes(), queue.len()), (0, 0, 2));
    assert_eq!(queue.bury_all("the sink was dropped", 60).unwrap(), 2);
    assert_eq!((queue.len(), queue.bytes(), outbox.dead().len()), (0, 0, 2));
}

#[test]
fn dead_letters_are_bounded_by_bytes_and_age_and_numbers_are_not_given_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), StoreConfig::default()).unwrap();
    let limits = DeadLimits { max_bytes: 2_000, max_age: Duration::from_millis(100) };
    let outbox = Outbox::open(&store, limits).unwrap();
    let letter = |died_ms: u64| DeadLetter {
        number: LetterId(0),
        sink: "s".into(),
        reason: "why".into(),
        attempts: 1,
        status: None,
        died_ms: died_ms as i64,
        entry: entry(died_ms),
    };
    for died_ms in 1..=50 {
        outbox.dead().add(letter(died_ms)).unwrap();
    }
    outbox.dead().trim(60).unwrap();
    let left = outbox.dead().read(LetterId(0), 100).unwrap();
    assert!(outbox.dead().bytes() <= 2_000 && !left.is_empty(), "{}", outbox.dead().bytes());
    assert_eq!(left.last().unwrap().died_ms, 50, "the newest stay");
    assert_eq!((left.len() as u64 + outbox.dead().dropped(), outbox.dead().total()), (50, 50));
    outbox.dead().trim(149).unwrap();
    assert_eq!(outbox.dead().read(LetterId(0), 100).unwrap().len(), 1);
    drop(outbox);
    let outbox = Outbox::open(&store, limits).unwrap();
    outbox.dead().add(letter(140)).unwrap();
    let numbers: Vec<u64> = outbox.dead().read(LetterId(0), 9).unwrap().iter().map(|letter| letter.number.0).collect();
    assert_eq!(numbers, [50, 51]);
    outbox.dead().trim(1_000).unwrap();
    assert!(outbox.dead().is_empty());
    drop(outbox);
    let outbox = Outbox::open(&store, limits).unwrap();
    outbox.dead().add(letter(1_000)).unwrap();
    assert_eq!(outbox.dead().read(LetterId(0), 9).unwrap()[0].number, LetterId(52), "though none was left");
}

fn with_payload(epoch: u64, action: u32) -> Entry {
    Entry { original: Some(vec![0, 255]), action, id: format!("{epoch}-{epoch}-r-{action}"), ..entry(epoch) }
}

#[test]
fn failures_of_a_message_are_gathered_and_told_once() {
    let folder = tempfile::tempdir().unwrap();
    {
        let outbox = open(folder.path());
        let queue = outbox.queue("hook");
        let refused = vec![(with_payload(5, 1), "no URL".to_owned()), (with_payload(6, 1), "no URL".to_owned())];
        queue.accept(6, &[with_payload(5, 0)], refused, LIMITS, 10).unwrap();
        let mut waiting = queue.read(None, 1, 1 << 20).unwrap().remove(0);
        assert_eq!(waiting.entry.original.as_deref(), Some(&[0, 255][..]));
        assert!(queue.has(waiting.key.position()).unwrap() && !queue.has(entry(6).position).unwrap());
        waiting.attempts.reason = "status 404".into();
        queue.bury(&waiting, 20).unwrap();
        // The same again, as by a replay.
        outbox.refuse(&with_payload(6, 1), "place", "no key", 30).unwrap();
        outbox.refuse(&with_payload(6, 2), "place", "no key", 30).unwrap();
        assert_eq!((outbox.failures().waiting(), outbox.dead().len(), queue.len()), (2, 0, 0));
    }
    let outbox = open(folder.path());
    let failures = outbox.failures();
    let found = failures.read(&mut Place::default(), 10).unwrap();
    let told = |index: usize| found[index].failures.iter().map(|f| (f.action, f.reason.as_str())).collect::<Vec<_>>();
    assert_eq!(told(0), [(0, "status 404"), (1, "no URL")]);
    assert_eq!(told(1), [(1, "no URL"), (2, "no key")]);
    assert_eq!((found[0].original.as_slice(), found[0].since_ms, found[0].told), (&[0, 255][..], 10, None));
    // What fails after they were read is told with the rest.
    outbox.refuse(&with_payload(6, 3), "place", "late", 35).unwrap();
    let told = failures.tell(&found, 77, 70).unwrap();
    assert_eq!(told[1].failures.iter().map(|failure| failure.action).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(failures.read(&mut Place::default(), 10).unwrap()[1].told, Some((77, 70)));
    failures.take_back(&found[1..]).unwrap();
    failures.done(&found[..1]).unwrap();
    let mut place = Place::default();
    assert_eq!((failures.waiting(), failures.read(&mut place, 1).unwrap().len()), (1, 1));
    assert_eq!(failures.read(&mut place, 1).unwrap().len(), 0, "behind the last one");
    assert_eq!(failures.read(&mut place, 1).unwrap().len(), 1, "from the beginning again");
    // What is done is not brought up again by a replay, until no replay can.
    outbox.refuse(&with_payload(5, 3), "place", "late", 40).unwrap();
    assert_eq!(failures.waiting(), 1);
    failures.forget(6).unwrap();
    outbox.refuse(&with_payload(5, 3), "place", "late", 40).unwrap();
    assert_eq!(failures.waiting(), 2);
}

#[test]
fn a_row_that_fails_after_its_error_action_is_a_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    let (queue, failures) = (outbox.queue("hook"), outbox.failures());
    queue.accept(5, &[with_payload(5, 0)], vec![(with_payload(5, 1), "no URL".to_owned())], LIMITS, 10).unwrap();
    let seen = failures.read(&mut Place::default(), 10).unwrap();
    assert!(failures.takes(&with_payload(5, 0)).unwrap());
    failures.done(&seen).unwrap();
    let waiting = queue.read(None, 1, 1 << 20).unwrap().remove(0);
    queue.bury(&waiting, 20).unwrap();
    assert_eq!((failures.waiting(), outbox.dead().len(), queue.len(), queue.given_up()), (0, 1, 0, 2));
}

#[test]
fn a_failed_call_goes_where_refused_rows_go_and_is_known_to_a_replay() {
    let folder = tempfile::tempdir().unwrap();
    let calls =
        [with_payload(5, 0), entry(6)].map(|entry| FailedCall::new(entry, "aws_lambda", "double", "status 500"));
    {
        let outbox = open(folder.path());
        outbox.calls_failed(&calls, 9).unwrap();
        outbox.calls_failed(&calls, 10).unwrap();
    }
    let outbox = open(folder.path());
    let told = outbox.failures().read(&mut Place::default(), 10).unwrap();
    let failure = &told[0].failures[0];
    assert_eq!((told.len(), told[0].failures.len(), told[0].position), (1, 1, entry(5).position));
    assert_eq!((failure.function.as_deref(), &*failure.resource), (Some("aws_lambda"), "double"));
    let letters = outbox.dead().read(LetterId(0), 9).unwrap();
    let shown: Vec<_> = letters.iter().map(|one| (&*one.sink, &*one.entry.id, &*one.entry.body)).collect();
    assert_eq!(shown, [("aws_lambda(double)", "6-6-r-call", &entry(6).body[..])]);
    let known = |epoch| outbox.failures().has_failed_call("r", entry(epoch).position).unwrap();
    assert_eq!([4, 5, 6].map(known), [false, true, true]);
    // A row that a sink refused says nothing of calls.
    outbox.refuse(&entry(7), "place", "no key", 9).unwrap();
    assert!(!known(7));
}

#[test]
fn a_refused_row_without_error_action_is_one_dead_letter_however_often_it_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(folder.path());
    for _ in 0..3 {
        outbox.refuse(&entry(4), "place", "no key", 9).unwrap();
        outbox.refuse(&Entry { action: 1, ..entry(4) }, "other", "no key", 9).unwrap();
    }
    let sinks: Vec<String> = outbox.dead().read(LetterId(0), 9).unwrap().into_iter().map(|one| one.sink).collect();
    assert_eq!((sinks, outbox.failures().waiting()), (vec!["place".to_owned(), "other".to_owned()], 0));
}
