//! Appending, reading, reopening, rolling, dropping: on the machine's disk.

use super::*;

#[test]
fn what_was_appended_is_read_in_order_and_again_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (log, recovery) = open(config(dir.path()));
    assert!(recovery.created);
    let one = log.appender().append_and_wait(batch(["a", "b"]), Class::Client).unwrap();
    let two = log.appender().append_and_wait(batch(["c"]), Class::System).unwrap();
    assert_eq!((one.first_offset, two.first_offset), (Offset(1), Offset(3)));
    assert!(one.epoch < two.epoch && two.epoch == log.last_epoch());
    assert_eq!(payloads(&log), ["a", "b", "c"]);
    assert_eq!(read_all(&log, one.epoch), [(two.epoch, Offset(3), "c".to_owned())]);
    drop(log);
    let (log, recovery) = open(config(dir.path()));
    assert_eq!(
        (recovery.created, recovery.last_epoch, recovery.next_offset, recovery.torn),
        (false, two.epoch, Offset(4), None)
    );
    let three = log.appender().append_and_wait(batch(["d"]), Class::Client).unwrap();
    assert!(three.epoch > two.epoch && three.first_offset == Offset(4));
    assert_eq!(payloads(&log), ["a", "b", "c", "d"]);
}

#[test]
fn a_reader_wakes_when_a_commit_comes_and_ends_when_the_log_closes() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(config(dir.path()));
    let mut reader = log.reader(Epoch(0)).unwrap();
    let reading = std::thread::spawn(move || {
        let commit = reader.next(Duration::from_secs(30)).unwrap().expect("came");
        let closed = reader.next(Duration::from_secs(30));
        (commit.count, matches!(closed, Err(ReadError::Closed)))
    });
    log.appender().append_and_wait(batch(["a", "b"]), Class::Client).unwrap();
    log.shutdown();
    assert_eq!(reading.join().unwrap(), (2, true));
    assert_eq!(log.appender().append_and_wait(batch(["c"]), Class::Client), Err(AppendError::Closed));
}

#[test]
fn many_appenders_share_commits_and_each_keeps_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(LogConfig { segment_bytes: 20_000, ..config(dir.path()) });
    std::thread::scope(|scope| {
        for appender in 0..8 {
            let log = &log;
            scope.spawn(move || {
                for n in 0..50 {
                    let payload = format!("{appender}:{n}");
                    log.appender().append_and_wait(batch([payload.as_str()]), Class::Client).unwrap();
                }
            });
        }
    });
    let all = payloads(&log);
    assert_eq!(all.len(), 400);
    for appender in 0..8 {
        let prefix = format!("{appender}:");
        let own: Vec<_> = all.iter().filter_map(|p| p.strip_prefix(&prefix)).collect();
        assert!(own.iter().enumerate().all(|(i, n)| *n == i.to_string()));
    }
    let commits = log.metrics().commits.load(std::sync::atomic::Ordering::Relaxed);
    assert!(commits < 400, "{commits} commits: nothing was grouped");
}

#[test]
fn segments_roll_and_are_dropped_only_below_and_beyond() {
    let dir = tempfile::tempdir().unwrap();
    let small = LogConfig { segment_bytes: 1000, keep_bytes: 3000, ..config(dir.path()) };
    let (log, _) = open(small.clone());
    let mut epochs = Vec::new();
    for n in 0..100 {
        let payload = format!("{n:0>100}");
        epochs.push(log.appender().append_and_wait(batch([payload.as_str()]), Class::Client).unwrap().epoch);
    }
    assert_eq!(payloads(&log).len(), 100);
    assert_eq!(log.retain(Epoch(0)).unwrap(), 0, "still needed");
    // Opened anew, it has no commits in memory that a slow reader could still get.
    drop(log);
    let (log, _) = open(small.clone());
    let mut slow = log.reader(Epoch(0)).unwrap();
    assert!(slow.next(Duration::ZERO).unwrap().is_some());
    let dropped = log.retain(epochs[49]).unwrap();
    assert!(dropped > 1);
    assert!(log.first_epoch() <= epochs[49] && log.first_epoch() > Epoch(0));
    assert_eq!(read_all(&log, epochs[49]).len(), 50);
    assert!(matches!(log.reader(Epoch(0)), Err(ReadError::Gone { .. })));
    let rest = std::iter::from_fn(|| slow.next(Duration::ZERO).transpose()).find(Result::is_err);
    assert!(matches!(rest, Some(Err(ReadError::Gone { .. }))));
    assert!(log.retain(epochs[99]).unwrap() > 0);
    assert!(log.size_bytes() > 2000 && log.size_bytes() <= 4000, "keeps {}", log.size_bytes());
    let left = payloads(&log);
    drop(log);
    assert_eq!(payloads(&open(small).0), left);
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_log, _) = open(config(dir.path()));
    let second = Log::open(config(dir.path()), Arc::new(SystemDisk), Arc::new(SystemClock::new()), Epoch(0));
    assert!(matches!(second.map(|_| ()), Err(OpenError::Locked { .. })));
}

#[test]
fn epochs_are_above_the_floor_and_older_marks_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let clock = SystemClock::new();
    let floor = Epoch(clock.wall_us() + 3_600_000_000);
    let (log, recovery) = Log::open(config(dir.path()), Arc::new(SystemDisk), Arc::new(clock), floor).unwrap();
    assert!(recovery.floor_above_log);
    assert!(log.appender().append_and_wait(batch(["a"]), Class::Client).unwrap().epoch > floor);
    assert!(matches!(log.reader(Epoch(floor.0 - 1)).map(|_| ()), Err(ReadError::Gone { .. })));
    assert_eq!(read_all(&log, floor).len(), 1);
}

#[test]
fn a_tick_comes_when_log_time_passes_the_wish_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(config(dir.path()));
    let mut reader = log.reader(Epoch(0)).unwrap();
    let deadline = Epoch(log.log_time_us() + 50_000);
    log.set_tick_deadline(Some(deadline));
    let commit = reader.next(Duration::from_secs(30)).unwrap().expect("a tick");
    assert!(commit.epoch >= deadline);
    assert_eq!(commit.records().next().unwrap().kind, RecordKind::Tick);
    assert!(reader.next(Duration::from_millis(300)).unwrap().is_none(), "one wish, one tick");
}

#[test]
fn a_panicking_callback_fails_the_log_instead_of_hanging_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(config(dir.path()));
    log.appender().append(batch(["a"]), Class::Client, |_| panic!("as this test wants it")).unwrap();
    let mut later = log.appender().append_and_wait(batch(["b"]), Class::Client);
    while later == Err(AppendError::Closed) {
        later = log.appender().append_and_wait(batch(["b"]), Class::Client);
    }
    assert!(matches!(later, Err(AppendError::Failed(_))), "{later:?}");
    assert!(log.health().failed.is_some());
    drop(log);
    assert_eq!(payloads(&open(config(dir.path())).0).first().map(String::as_str), Some("a"));
}

#[test]
fn marks_and_all_fields_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(config(dir.path()));
    let fields = RecordFields {
        kind: RecordKind::Message,
        time_ms: log.now_ms(),
        topic: "macdonald/sensors/1",
        client_id: "c",
        principal: "p",
        address: "127.0.0.1:1",
        session: 7,
        packet_id: 8,
        qos: 2,
        retain: true,
        dup: true,
        properties: b"pp",
        origin: "1-2-r-0",
        hops: 3,
        payload: b"{}",
    };
    let mut batch = Batch::with_capacity(2, 200);
    batch.push(&fields);
    batch.push_mark("republish", Epoch(42));
    log.appender().append_and_wait(batch, Class::System).unwrap();
    let commit = log.reader(Epoch(0)).unwrap().next(Duration::ZERO).unwrap().unwrap();
    let records: Vec<_> = commit.records().collect();
    assert_eq!(records[0].fields, fields);
    assert_eq!(records[1].mark(), Some(("republish", Epoch(42))));
    let shared = commit.share(records[0].payload);
    assert_eq!((&shared[..], shared.as_ptr()), (&b"{}"[..], records[0].payload.as_ptr()));
}
