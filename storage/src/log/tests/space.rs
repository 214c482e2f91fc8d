//! A disk that fills up and is freed again: clients are refused first, nothing is lost, and it goes on by itself.

use super::*;
use crate::sim::{SimClock, SimDisk};

fn open_on(disk: &SimDisk, clock: &SimClock, min_free: u64, reserve: u64) -> (Log, Stepper) {
    let config = LogConfig {
        segment_bytes: 20_000,
        min_free_bytes: min_free,
        reserve_bytes: reserve,
        compress: false,
        ..LogConfig::new("/log")
    };
    let (log, stepper, _) =
        Log::open_stepped(config, Arc::new(disk.clone()), Arc::new(clock.clone()), Epoch(0)).unwrap();
    (log, stepper)
}

/// Appends one record of 1 kB; says how it went, whether refused at once or by the writer.
fn append(log: &Log, stepper: &mut Stepper, clock: &SimClock, class: Class) -> Result<Committed, AppendError> {
    clock.advance_us(200_000);
    let (answer, answers) = std::sync::mpsc::channel();
    let payload = "x".repeat(1000);
    let appended = log.appender().append(batch([payload.as_str()]), class, move |r| answer.send(r).unwrap());
    stepper.step();
    appended.map_err(|(_, error)| error)?;
    answers.try_recv().expect("answered")
}

#[test]
fn clients_stop_first_then_the_system_and_both_go_on_when_there_is_space() {
    let (disk, clock) = (SimDisk::new(), SimClock::new(1_790_000_000_000_000));
    disk.set_capacity(Some(100_000));
    let (log, mut stepper) = open_on(&disk, &clock, 40_000, 20_000);
    let mut committed = 0;
    let mut until_refused = |class| {
        for n in 0..1000 {
            match append(&log, &mut stepper, &clock, class) {
                Ok(_) => committed += 1,
                Err(error) => {
                    assert_eq!(error, AppendError::LowSpace);
                    return n;
                }
            }
        }
        panic!("never refused");
    };
    assert!((50..62).contains(&until_refused(Class::Client)));
    assert!((15..25).contains(&until_refused(Class::System)), "the reserve");
    assert_eq!(until_refused(Class::Client), 0);
    assert!(log.health().low_space && log.health().reserve_used && log.health().failed.is_none());
    disk.set_capacity(Some(300_000));
    clock.advance_us(200_000);
    stepper.step();
    assert!(append(&log, &mut stepper, &clock, Class::Client).is_ok());
    assert!(!log.health().low_space);
    assert_eq!(payloads(&log).len(), committed + 1);
}

#[test]
fn a_disk_that_is_full_without_warning_loses_nothing_and_breaks_nothing() {
    for capacity in (30_000..50_000).step_by(97) {
        let (disk, clock) = (SimDisk::new(), SimClock::new(1_790_000_000_000_000));
        disk.set_capacity(Some(capacity));
        let (log, mut stepper) = open_on(&disk, &clock, 0, 0);
        let mut committed = 0;
        let refused = loop {
            match append(&log, &mut stepper, &clock, Class::Client) {
                Ok(_) => committed += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused, AppendError::LowSpace, "capacity {capacity}");
        // Half of a commit, or of a segment, may be on the disk now: it stays invisible, also after a crash.
        let crashed = disk.crash(capacity);
        crashed.set_capacity(None);
        let (after, _stepper) = open_on(&crashed, &clock, 0, 0);
        assert_eq!(payloads(&after).len(), committed);
        drop((log, stepper));
    }
}

#[test]
fn the_log_goes_on_after_a_full_disk_where_it_was() {
    for capacity in (30_000..50_000).step_by(97) {
        let (disk, clock) = (SimDisk::new(), SimClock::new(1_790_000_000_000_000));
        disk.set_capacity(Some(capacity));
        let (log, mut stepper) = open_on(&disk, &clock, 0, 0);
        let mut committed = 0;
        let mut refused = 0;
        while refused < 3 {
            match append(&log, &mut stepper, &clock, Class::Client) {
                Ok(_) => committed += 1,
                Err(_) => refused += 1,
            }
        }
        disk.set_capacity(None);
        clock.advance_us(200_000);
        stepper.step();
        for _ in 0..30 {
            append(&log, &mut stepper, &clock, Class::Client).unwrap();
        }
        assert_eq!(payloads(&log).len(), committed + 30, "capacity {capacity}");
        drop((log, stepper));
        let (after, _stepper) = open_on(&disk.crash(capacity), &clock, 0, 0);
        assert_eq!(payloads(&after).len(), committed + 30, "capacity {capacity}");
    }
}

#[test]
fn what_a_full_disk_left_of_a_commit_is_cut_before_the_segment_ends() {
    for capacity in (10_000..12_500).step_by(97) {
        let (disk, clock) = (SimDisk::new(), SimClock::new(1_790_000_000_000_000));
        disk.set_capacity(Some(capacity));
        let (log, mut stepper) = open_on(&disk, &clock, 0, 0);
        let large = (0..).take_while(|_| append(&log, &mut stepper, &clock, Class::Client).is_ok()).count();
        disk.set_capacity(None);
        clock.advance_us(200_000);
        stepper.step();
        // A short one is written over what is left of the long one; then comes one for which a new segment is begun.
        for size in [1, 19_000] {
            log.appender().append(batch(["y".repeat(size).as_str()]), Class::Client, |r| assert!(r.is_ok())).unwrap();
            stepper.step();
        }
        drop((log, stepper));
        let (after, _stepper) = open_on(&disk.crash(capacity), &clock, 0, 0);
        assert_eq!(payloads(&after).len(), large + 2, "capacity {capacity}");
    }
}

#[test]
fn a_segment_that_could_not_be_begun_ends_the_one_before_it_all_the_same() {
    for seed in 0..20 {
        let (disk, clock) = (SimDisk::new(), SimClock::new(1_790_000_000_000_000));
        let (log, mut stepper) = open_on(&disk, &clock, 0, 0);
        let segments = || log.metrics().segments_created.load(std::sync::atomic::Ordering::Relaxed);
        for _ in 0..18 {
            append(&log, &mut stepper, &clock, Class::Client).unwrap();
        }
        assert_eq!(segments(), 0);
        disk.fail_sync_as(disk.syncs() + 1, std::io::ErrorKind::StorageFull);
        assert_eq!(append(&log, &mut stepper, &clock, Class::Client), Err(AppendError::LowSpace));
        clock.advance_us(200_000);
        stepper.step();
        // It would fit the old segment; but a new one is on the disk already, and may survive.
        log.appender().append(batch(["y"]), Class::Client, |r| assert!(r.is_ok())).unwrap();
        stepper.step();
        assert_eq!((segments(), log.health().failed), (1, None));
        drop((log, stepper));
        let (after, _stepper) = open_on(&disk.crash(seed), &clock, 0, 0);
        assert_eq!(payloads(&after).len(), 19);
    }
}

#[test]
fn the_queue_is_bounded_and_the_batch_comes_back() {
    let (disk, clock) = (SimDisk::new(), SimClock::new(1_790_000_000_000_000));
    let config = LogConfig { max_queued_bytes: 1000, min_free_bytes: 0, ..LogConfig::new("/log") };
    let (log, mut stepper, _) = Log::open_stepped(config, Arc::new(disk), Arc::new(clock), Epoch(0)).unwrap();
    let payload = "x".repeat(300);
    let append = |class| log.appender().append(batch([payload.as_str()]), class, |r| assert!(r.is_ok()));
    let taken = std::iter::repeat_with(|| append(Class::Client)).take_while(Result::is_ok).count();
    assert_eq!(taken, 3);
    assert!(matches!(append(Class::Client), Err((returned, AppendError::Full)) if returned.len() == 1));
    assert!(append(Class::System).is_ok());
    assert_eq!(stepper.step(), 4);
    assert!(append(Class::Client).is_ok());
}
