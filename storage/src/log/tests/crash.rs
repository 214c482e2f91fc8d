//! Loss of power at every operation that changes the disk, with any subset of unsynced pages surviving, by seeds: what
//! was acknowledged is there, whole and in order; what was not is there whole or not at all. Under an injected bug the
//! same check fails.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::fault;
use crate::sim::{Seeded, SimClock, SimDisk};

const START_US: u64 = 1_790_000_000_000_000;

/// What one life of a simulated server promised, and what it was asked for.
#[derive(Default)]
struct Journal {
    /// Records of every batch handed to the log, by batch number.
    asked: BTreeMap<usize, Vec<String>>,
    /// Batches whose `done` said yes, where they are said to be.
    acked: BTreeMap<usize, Committed>,
}

/// Runs a server on a simulated disk until the power goes at a given change (or the script is over), and boots it
/// again, several times over; then says what is wrong, if anything.
struct World {
    disk: SimDisk,
    clock: SimClock,
    random: Seeded,
    journal: Arc<Mutex<Journal>>,
    next_batch: usize,
    durability: Durability,
    /// Whether sealed segments are packed.
    compress: bool,
}

impl World {
    fn new(seed: u64, durability: Durability) -> Self {
        let clock = SimClock::new(START_US);
        Self {
            disk: SimDisk::new(),
            clock,
            random: Seeded::new(seed),
            journal: Arc::default(),
            next_batch: 0,
            durability,
            compress: seed.is_multiple_of(4),
        }
    }

    fn config(&self) -> LogConfig {
        let compress = self.compress;
        LogConfig { segment_bytes: 24_000, durability: self.durability, compress, ..config(Path::new("/log")) }
    }

    fn open(&self) -> Result<(Log, Stepper, Recovery), OpenError> {
        Log::open_stepped(self.config(), Arc::new(self.disk.clone()), Arc::new(self.clock.clone()), Epoch(0))
    }

    fn journal(&self) -> std::sync::MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One life: some rounds of appends from several connections, until the power goes.
    fn live(&mut self, rounds: usize) {
        let Ok((log, mut stepper, _)) = self.open() else { return };
        for _ in 0..rounds {
            for _ in 0..1 + self.random.below(4) {
                self.append(&log);
            }
            self.clock.advance_us(self.random.below(3_000) as u64);
            if self.random.below(40) == 0 {
                self.clock.step_wall_us(if self.random.below(2) == 0 { 3_600_000_000 } else { -3_600_000_000 });
            }
            stepper.step();
        }
        // No orderly end: the power goes now, if it has not gone before.
    }

    fn append(&mut self, log: &Log) {
        let number = self.next_batch;
        self.next_batch += 1;
        let size = [10, 100, 3_000, 9_000][self.random.below(4)];
        let records: Vec<String> = (0..1 + self.random.below(3))
            .map(|i| format!("{number}/{i} {:x<1$}", "", self.random.below(size)))
            .collect();
        let batch = batch(records.iter().map(String::as_str));
        self.journal().asked.insert(number, records);
        let journal = Arc::clone(&self.journal);
        let _ = log.appender().append(batch, Class::Client, move |result| {
            if let Ok(committed) = result {
                journal.lock().unwrap().acked.insert(number, committed);
            }
        });
    }

    /// The machine starts again; what is in the log must agree with the journal.
    fn crash_and_check(&mut self) -> Result<(), String> {
        self.disk = self.disk.crash(self.random.next_u64());
        let (log, stepper, _) = self.open().map_err(|e| format!("does not open: {e}"))?;
        let (all, last_epoch) = (read_all(&log, Epoch(0)), log.last_epoch());
        drop((stepper, log));
        self.check(&all)?;
        // Opened once more, nothing may have changed: recovery is itself crash-proof.
        self.disk = self.disk.crash(self.random.next_u64());
        let (log, mut stepper, recovery) = self.open().map_err(|e| format!("does not open again: {e}"))?;
        if recovery.torn.is_some() || read_all(&log, Epoch(0)) != all {
            return Err("what recovery showed was not durable".into());
        }
        log.appender().append(batch([]), Class::System, |_| {}).map_err(|(_, e)| e.to_string())?;
        stepper.step();
        if log.log_time_us() <= last_epoch.0 {
            return Err("log time begins below the last epoch".into());
        }
        Ok(())
    }

    fn check(&self, all: &[(Epoch, Offset, String)]) -> Result<(), String> {
        let mut found: BTreeMap<usize, Vec<&(Epoch, Offset, String)>> = BTreeMap::new();
        for record in all {
            let number = record.2.split('/').next().and_then(|n| n.parse().ok()).ok_or("a record that nobody wrote")?;
            found.entry(number).or_default().push(record);
        }
        let journal = self.journal();
        for (number, records) in &found {
            let asked = journal.asked.get(number).ok_or(format!("batch {number} was never appended"))?;
            let same = records.iter().map(|(_, _, payload)| payload).eq(asked);
            let together = records.windows(2).all(|w| w[0].0 == w[1].0 && w[0].1.0 + 1 == w[1].1.0);
            if !same || !together {
                return Err(format!("batch {number} is not whole, in order, once, in one commit"));
            }
        }
        for (number, committed) in &journal.acked {
            let records = found.get(number).ok_or(format!("acknowledged batch {number} is lost"))?;
            if (records[0].0, records[0].1) != (committed.epoch, committed.first_offset) {
                return Err(format!("batch {number} is not where it was said to be"));
            }
        }
        // Batches of one life are in the order of their appends, and so are lives.
        if !found.values().map(|records| records[0].1).is_sorted() {
            return Err("batches are out of order".into());
        }
        Ok(())
    }
}

/// One world: three lives; in the first, the power goes at `change`.
fn world(seed: u64, change: Option<u64>, durability: Durability) -> Result<(), String> {
    let mut world = World::new(seed, durability);
    if let Some(change) = change {
        world.disk.freeze_at(change);
    }
    world.live(12);
    world.crash_and_check()?;
    let change = world.random.below(60) as u64;
    world.disk.freeze_at(change);
    world.live(8);
    world.crash_and_check()?;
    world.live(4);
    world.crash_and_check()
}

fn changes_of_first_life(seed: u64) -> u64 {
    let mut world = World::new(seed, Durability::Sync);
    world.live(12);
    world.disk.changes()
}

#[test]
fn a_crash_at_any_operation_loses_nothing_acknowledged() {
    let mut worlds = 0;
    for seed in 0..12 {
        for change in 0..=changes_of_first_life(seed) {
            for variant in 0..4 {
                let seed = seed + 1000 * variant;
                world(seed, Some(change), Durability::Sync)
                    .unwrap_or_else(|e| panic!("seed {seed}, change {change}: {e}"));
                worlds += 1;
            }
        }
    }
    assert!(worlds > 1000, "{worlds} worlds are too few to mean anything");
}

#[test]
fn the_same_check_fails_when_acknowledging_before_the_sync() {
    let failed = fault::with_bug("ack_before_sync", || {
        let runs = (0..6).flat_map(|seed| (0..=changes_of_first_life(seed)).map(move |change| (seed, change)));
        runs.filter_map(|(seed, change)| world(seed, Some(change), Durability::Sync).err()).collect::<Vec<_>>()
    });
    assert!(failed.iter().any(|e| e.contains("is lost")), "{failed:?}");
}

#[test]
fn without_sync_a_crash_may_lose_the_end_but_nothing_in_between() {
    for seed in 0..40 {
        for durability in [Durability::Write, Durability::None] {
            let mut world = World::new(seed, durability);
            world.live(30);
            // Acknowledgements do not promise anything here after loss of power.
            world.journal().acked.clear();
            world.crash_and_check().unwrap_or_else(|e| panic!("seed {seed}, {durability:?}: {e}"));
        }
    }
}

#[test]
fn the_simulation_is_the_same_for_the_same_seed() {
    let run = |seed| {
        let mut world = World::new(seed, Durability::Sync);
        world.live(12);
        world.disk = world.disk.crash(seed);
        let (log, _stepper, recovery) = world.open().unwrap();
        (recovery, read_all(&log, Epoch(0)))
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}
