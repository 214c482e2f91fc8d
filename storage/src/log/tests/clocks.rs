//! Clocks that step, a simulated minute at 20,000 commits a second, restarts with an earlier clock: nothing lost,
//! skipped or repeated, epochs only rise, and no tick comes early.

use super::*;
use crate::sim::{Seeded, SimClock, SimDisk};

const START_US: u64 = 1_790_000_000_000_000;
const HOUR_US: i64 = 3_600_000_000;

fn open_at(disk: &SimDisk, clock: &SimClock, floor: Epoch) -> (Log, Stepper, Recovery) {
    let config = LogConfig { segment_bytes: 256 << 10, keep_bytes: 1 << 20, ..config(Path::new("/log")) };
    Log::open_stepped(config, Arc::new(disk.clone()), Arc::new(clock.clone()), floor).unwrap()
}

fn commit(log: &Log, stepper: &mut Stepper, payload: &str) {
    log.appender().append(batch([payload]), Class::Client, |r| assert!(r.is_ok())).unwrap();
    stepper.step();
}

#[test]
fn a_minute_of_20_000_commits_a_second_with_a_reader_and_retention() {
    let (disk, clock) = (SimDisk::new(), SimClock::new(START_US));
    let (log, mut stepper, _) = open_at(&disk, &clock, Epoch(0));
    let mut reader = log.reader(Epoch(0)).unwrap();
    let (mut last_epoch, mut next) = (0, 1);
    for n in 1..=1_200_000_u64 {
        clock.advance_us(50);
        commit(&log, &mut stepper, "x");
        if n % 1000 == 0 {
            while let Some(commit) = reader.next(Duration::ZERO).unwrap() {
                assert!(commit.epoch.0 > last_epoch && commit.first_offset.0 == next);
                (last_epoch, next) = (commit.epoch.0, next + u64::from(commit.count));
            }
            assert!(last_epoch.abs_diff(START_US + n * 50) < 1000, "epochs are not log time");
            log.retain(reader.position()).unwrap();
        }
    }
    assert_eq!(next, 1_200_001);
    assert!(log.size_bytes() < 3 << 20);
    assert_eq!(log.health().clock_jumps, 0);
}

#[test]
fn epochs_rise_and_receipt_times_never_fall_while_the_wall_clock_steps_by_an_hour() {
    for seed in 0..20 {
        let mut random = Seeded::new(seed);
        let (mut disk, clock) = (SimDisk::new(), SimClock::new(START_US));
        let mut expected = 0;
        let mut last_time = 0;
        for _ in 0..10 {
            let (log, mut stepper, recovery) = open_at(&disk, &clock, Epoch(0));
            assert_eq!(recovery.next_offset, Offset(expected + 1));
            for _ in 0..20 {
                clock.advance_us(random.below(2_000_000) as u64);
                if random.below(5) == 0 {
                    clock.step_wall_us(if random.below(2) == 0 { HOUR_US } else { -HOUR_US });
                }
                let now = log.log_time_us();
                assert!(now >= last_time, "seed {seed}: log time went back");
                last_time = now;
                commit(&log, &mut stepper, "x");
                expected += 1;
            }
            // Ends and starts while the wall clock is wherever it is; read_all checks that epochs rise without gaps.
            assert_eq!(read_all(&log, Epoch(0)).len() as u64, expected);
            last_time = last_time.max(log.last_epoch().0);
            drop((log, stepper));
            disk = disk.crash(seed);
        }
    }
}

#[test]
fn a_restart_with_an_earlier_clock_goes_on_above_everything_remembered() {
    let (disk, clock) = (SimDisk::new(), SimClock::new(START_US));
    let (log, mut stepper, _) = open_at(&disk, &clock, Epoch(0));
    commit(&log, &mut stepper, "a");
    let last = log.last_epoch();
    drop((log, stepper));
    let earlier = SimClock::new(START_US - HOUR_US as u64);
    let floor = Epoch(last.0 + 5_000_000);
    let (log, mut stepper, recovery) = open_at(&disk, &earlier, floor);
    assert!(recovery.floor_above_log);
    commit(&log, &mut stepper, "b");
    assert!(log.last_epoch() > floor);
    let at_start = log.log_time_us();
    earlier.advance_us(10_000_000);
    let passed = log.log_time_us() - at_start;
    assert!((5_000_000..10_000_000).contains(&passed), "neither frozen nor at full speed: {passed}");
    assert_eq!(read_all(&log, last).len(), 1);
    assert_eq!(payloads(&log), ["a", "b"]);
}

#[test]
fn a_forward_step_over_the_limit_is_followed_and_shown() {
    let (disk, clock) = (SimDisk::new(), SimClock::new(START_US));
    let (log, mut stepper, _) = open_at(&disk, &clock, Epoch(0));
    clock.step_wall_us(HOUR_US);
    commit(&log, &mut stepper, "a");
    assert_eq!(log.last_epoch(), Epoch(START_US + HOUR_US as u64));
    let health = log.health();
    assert_eq!((health.clock_jumps, health.last_clock_jump_us), (1, HOUR_US as u64));
}

#[test]
fn ticks_are_never_early_at_most_ten_a_second_and_stop_when_nobody_asks() {
    let (disk, clock) = (SimDisk::new(), SimClock::new(START_US));
    let (log, mut stepper, _) = open_at(&disk, &clock, Epoch(0));
    let mut ticks: Vec<Epoch> = Vec::new();
    for n in 0..20_000_u64 {
        clock.advance_us(1_000);
        if n == 10_000 {
            clock.step_wall_us(-HOUR_US);
        }
        // A timer every 20 ms of log time, as a busy operator would ask.
        let deadline = log.last_epoch().0.max(START_US) + 20_000;
        log.set_tick_deadline(Some(Epoch(deadline)));
        let before = log.last_epoch();
        stepper.step();
        if log.last_epoch() != before {
            assert!(log.last_epoch().0 >= deadline, "early");
            assert!(log.log_time_us() >= log.last_epoch().0, "ahead of log time");
            ticks.push(log.last_epoch());
        }
    }
    assert!(ticks.len() > 100 && ticks.len() <= 201, "{} ticks in 20 s", ticks.len());
    log.set_tick_deadline(None);
    clock.advance_us(1_000_000);
    stepper.step();
    assert_eq!(log.last_epoch(), *ticks.last().unwrap());
}
