//! Corruption is refused with its position; a torn tail is cut; other versions are refused; a failed sync is final.

use std::io::IoSlice;
use std::path::PathBuf;

use super::*;
use crate::disk::Disk;
use crate::sim::{SimClock, SimDisk};

const DIR: &str = "/log";

struct Bench {
    disk: SimDisk,
    clock: SimClock,
}

impl Bench {
    fn new() -> Self {
        Self { disk: SimDisk::new(), clock: SimClock::new(1_790_000_000_000_000) }
    }

    fn open(&self) -> Result<(Log, Stepper, Recovery), OpenError> {
        let config = LogConfig { segment_bytes: 2_000, ..config(Path::new(DIR)) };
        Log::open_stepped(config, Arc::new(self.disk.clone()), Arc::new(self.clock.clone()), Epoch(0))
    }

    /// Commits one record each.
    fn commit(&self, payloads: &[String]) {
        let (log, mut stepper, _) = self.open().unwrap();
        for payload in payloads {
            log.appender().append(batch([payload.as_str()]), Class::Client, |r| assert!(r.is_ok())).unwrap();
            stepper.step();
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut names = self.disk.list(Path::new(DIR)).unwrap();
        names.sort();
        names.into_iter().map(|name| Path::new(DIR).join(name)).collect()
    }

    fn refusal(&self) -> OpenError {
        self.open().map(|_| ()).expect_err("must not open")
    }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{n:0>50}")).collect()
}

/// Where each commit of the only segment begins.
fn commits_in(file: &[u8]) -> Vec<usize> {
    file.windows(4).enumerate().filter(|(_, magic)| magic == b"HGCM").map(|(at, _)| at).collect()
}

#[test]
fn a_flipped_bit_below_synced_to_is_refused_with_its_position() {
    let bench = Bench::new();
    bench.commit(&numbered(5));
    let path = bench.segments().remove(0);
    let starts = commits_in(&bench.disk.read(&path).unwrap());
    // In the header, at the front and at the end of the body of the second commit; later ones say it had been synced.
    for byte in [starts[1] + 5, starts[1] + 60, starts[2] - 1] {
        bench.disk.flip(&path, byte).unwrap();
        match bench.refusal() {
            OpenError::Corrupt { position, byte, path: at, .. } => {
                assert_eq!((position, byte, at), (Position(starts[1] as u64), starts[1] as u64, path.clone()));
            }
            other => panic!("{other}"),
        }
        bench.disk.flip(&path, byte).unwrap();
    }
    assert_eq!(payloads(&bench.open().unwrap().0), numbered(5));
}

#[test]
fn damage_in_the_last_commit_is_a_torn_tail_and_counted() {
    let bench = Bench::new();
    bench.commit(&numbered(5));
    let path = bench.segments().remove(0);
    let file = bench.disk.read(&path).unwrap();
    let last = *commits_in(&file).last().unwrap();
    bench.disk.flip(&path, last + 60).unwrap();
    let (log, _stepper, recovery) = bench.open().unwrap();
    let torn = recovery.torn.expect("torn");
    assert_eq!((torn.position, torn.bytes), (Position(last as u64), (file.len() - last) as u64));
    assert_eq!(payloads(&log), numbered(4));
    assert_eq!(recovery.next_offset, Offset(5));
}

#[test]
fn older_segments_must_be_there_whole_and_of_this_log() {
    let bench = Bench::new();
    bench.commit(&numbered(100));
    let segments = bench.segments();
    assert!(segments.len() > 4);
    // A middle segment is missing.
    let moved = Path::new("/elsewhere/log");
    bench.disk.rename(&segments[1], moved).unwrap();
    assert!(matches!(bench.refusal(), OpenError::Corrupt { .. }));
    bench.disk.rename(moved, &segments[1]).unwrap();
    // It is cut short.
    let whole = bench.disk.read(&segments[1]).unwrap();
    let file = bench.disk.open(&segments[1], true).unwrap();
    file.set_len(whole.len() as u64 - 1).unwrap();
    assert!(matches!(bench.refusal(), OpenError::Corrupt { .. }));
    file.write_all_at(0, &mut [IoSlice::new(&whole)]).unwrap();
    assert!(bench.open().is_ok());
    // Damage in an older segment does not stop the start, which does not read it, but whoever reads it.
    bench.disk.flip(&segments[1], 200).unwrap();
    let (log, _stepper, _) = bench.open().unwrap();
    let mut reader = log.reader(Epoch(0)).unwrap();
    let error = std::iter::from_fn(|| reader.next(Duration::ZERO).transpose()).find_map(Result::err);
    assert!(matches!(error, Some(ReadError::Corrupt { path, .. }) if path == segments[1]));
    drop((log, _stepper));
    // The first segment of another log has been put in front.
    let other = Bench::new();
    other.clock.advance_us(1);
    other.commit(&numbered(100));
    let foreign = other.disk.read(&other.segments()[0]).unwrap();
    bench.disk.open(&segments[0], true).unwrap().write_all_at(0, &mut [IoSlice::new(&foreign)]).unwrap();
    let refusal = bench.refusal().to_string();
    assert!(refusal.contains("another log"), "{refusal}");
}

#[test]
fn another_version_is_refused_by_name() {
    let bench = Bench::new();
    bench.commit(&numbered(1));
    let path = bench.segments().remove(0);
    bench.disk.open(&path, true).unwrap().write_all_at(8, &mut [IoSlice::new(&[2])]).unwrap();
    assert!(matches!(bench.refusal(), OpenError::Version { found: 2, known: 1, .. }));
}

#[test]
fn what_an_earlier_life_left_behind_the_end_is_not_taken_for_commits() {
    let bench = Bench::new();
    bench.commit(&numbered(3));
    let path = bench.segments().remove(0);
    let old = bench.disk.read(&path).unwrap();
    let starts = commits_in(&old);
    // The second and third commits are lost, then others of the same size are written, and the disk brings the old third
    // one back: same log, same position, intact, but it does not follow.
    let file = bench.disk.open(&path, true).unwrap();
    file.set_len(starts[1] as u64).unwrap();
    // The clock stands still, so the new commit has the old second one's epoch, and only the link tells.
    bench.commit(&["x".repeat(50)]);
    file.write_all_at(starts[2] as u64, &mut [IoSlice::new(&old[starts[2]..])]).unwrap();
    assert_eq!(bench.disk.read(&path).unwrap().len(), old.len());
    // It says that everything before it had been synced, which is no evidence against a torn tail that begins with it.
    let (log, _stepper, recovery) = bench.open().unwrap();
    assert_eq!(recovery.torn.expect("torn").position, Position(starts[2] as u64));
    assert_eq!(payloads(&log), [numbered(1).remove(0), "x".repeat(50)]);
}

#[test]
fn a_failed_sync_is_final_and_nothing_of_it_is_acknowledged_or_seen() {
    let bench = Bench::new();
    bench.commit(&numbered(2));
    let (log, mut stepper, _) = bench.open().unwrap();
    bench.disk.fail_sync_at(bench.disk.syncs() + 1);
    let (answer, answers) = std::sync::mpsc::channel();
    for payload in ["lost", "too"] {
        let answer = answer.clone();
        log.appender().append(batch([payload]), Class::System, move |r| answer.send(r).unwrap()).unwrap();
    }
    stepper.step();
    assert!(answers.try_iter().all(|r| matches!(r, Err(AppendError::Failed(_)))));
    assert!(log.health().failed.expect("failed").contains("failed to sync"));
    assert_eq!(payloads(&log), numbered(2));
    let refused = log.appender().append(batch(["later"]), Class::System, |_| panic!("never called"));
    assert!(matches!(refused, Err((returned, AppendError::Failed(_))) if returned.len() == 1));
    stepper.step();
    drop((log, stepper));
    // A restart finds out what is really there.
    let (log, _stepper, _) = bench.open().unwrap();
    assert_eq!(log.health().failed, None);
    assert!(payloads(&log).starts_with(&numbered(2)));
}
