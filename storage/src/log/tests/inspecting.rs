//! Inspection sees what is there, beside a running log, and changes nothing.

use super::inspect::LogFiles;
use super::*;
use crate::disk::Disk;
use crate::sim::SimDisk;

#[test]
fn a_running_log_is_described_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(LogConfig { segment_bytes: 1_000, ..config(dir.path()) });
    let mut committed = Vec::new();
    for n in 0..50 {
        let payload = format!("{n:0>60}");
        committed.push(log.appender().append_and_wait(batch([payload.as_str()]), Class::Client).unwrap());
    }
    let files = LogFiles::open(dir.path(), Arc::new(SystemDisk)).unwrap();
    let reports = files.verify().unwrap();
    assert!(files.segments().len() > 3 && reports.iter().all(|r| r.damage.is_none()));
    assert_eq!(reports.iter().map(|r| r.records).sum::<u64>(), 50);
    assert_eq!(reports[0].epochs.unwrap().0, committed[0].epoch);
    assert_eq!(reports.last().unwrap().offsets.unwrap().1, Offset(50));
    let mut seen = Vec::new();
    for segment in files.segments() {
        files.read(segment, |_, commit| seen.extend(commit.records().map(|r| (commit.epoch, r.offset)))).unwrap();
    }
    assert_eq!(seen, committed.iter().map(|c| (c.epoch, c.first_offset)).collect::<Vec<_>>());
}

#[test]
fn damage_is_named_and_nothing_is_repaired() {
    let disk = SimDisk::new();
    let clock = Arc::new(crate::sim::SimClock::new(1_790_000_000_000_000));
    let config = LogConfig { segment_bytes: 1_000, ..config(Path::new("/log")) };
    let (log, mut stepper, _) = Log::open_stepped(config, Arc::new(disk.clone()), clock, Epoch(0)).unwrap();
    for n in 0..50 {
        let payload = format!("{n:0>60}");
        log.appender().append(batch([payload.as_str()]), Class::Client, |_| {}).unwrap();
        stepper.step();
    }
    drop((log, stepper));
    let files = LogFiles::open(Path::new("/log"), Arc::new(disk.clone())).unwrap();
    let (first, last) = (&files.segments()[0], files.segments().last().unwrap());
    disk.flip(&first.path, first.bytes as usize - 1).unwrap();
    disk.flip(&last.path, last.bytes as usize - 1).unwrap();
    let before = (disk.read(&first.path).unwrap(), disk.read(&last.path).unwrap());
    let damage: Vec<_> = files.verify().unwrap().into_iter().map(|r| r.damage).collect();
    assert!(damage.first().unwrap().as_ref().unwrap().corruption, "below a later segment");
    assert!(!damage.last().unwrap().as_ref().unwrap().corruption, "a torn tail");
    assert_eq!(damage.iter().flatten().count(), 2);
    assert_eq!((disk.read(&first.path).unwrap(), disk.read(&last.path).unwrap()), before);
}
