//! Sealed segments are compressed: the same records from a fraction of the disk, through damage and crashes (for those
//! see also `crash`, where some worlds pack).

use super::*;
use crate::disk::Disk;
use crate::sim::{SimClock, SimDisk};

const DIR: &str = "/log";

fn simulated(disk: &SimDisk, compress: bool) -> (Log, Stepper) {
    let clock = SimClock::new(1_790_000_000_000_000);
    let config = LogConfig { segment_bytes: 600_000, compress, ..config(Path::new(DIR)) };
    let (log, stepper, _) =
        Log::open_stepped(config, Arc::new(disk.clone()), Arc::new(clock), Epoch(0)).expect("opens");
    (log, stepper)
}

fn readings(count: usize) -> Vec<String> {
    let tail = "humidity".repeat(100);
    (0..count).map(|n| format!("{{\"temperature\":{}.{},\"note\":\"{tail}\"}}", n % 90, n % 10)).collect()
}

fn fill(log: &Log, stepper: &mut Stepper, payloads: &[String]) {
    for payloads in payloads.chunks(50) {
        let batch = batch(payloads.iter().map(String::as_str));
        log.appender().append(batch, Class::Client, |r| assert!(r.is_ok())).expect("room");
        stepper.step();
    }
}

fn names(disk: &SimDisk, suffix: &str) -> Vec<String> {
    let mut names = disk.list(Path::new(DIR)).unwrap();
    names.retain(|name| name.ends_with(suffix));
    names.sort();
    names
}

#[test]
fn sealed_segments_shrink_and_read_the_same() {
    let (disk, all) = (SimDisk::new(), readings(4_000));
    let (log, mut stepper) = simulated(&disk, true);
    fill(&log, &mut stepper, &all);
    assert_eq!(payloads(&log), all);
    assert!(names(&disk, ".logz").len() >= 4, "{:?}", disk.list(Path::new(DIR)));
    assert_eq!(names(&disk, ".log").len(), 1, "only the one that takes commits is plain");
    let bytes: u64 = all.iter().map(|payload| payload.len() as u64).sum();
    assert!(log.size_bytes() < bytes / 4, "{} of {bytes} bytes", log.size_bytes());
    drop((log, stepper));
    let (log, _stepper) = simulated(&disk, true);
    assert_eq!(payloads(&log), all);
    // From the middle, too: a reader starts inside a block.
    let middle = read_all(&log, Epoch(0))[1_775].0;
    assert!(read_all(&log, middle).iter().all(|(epoch, ..)| *epoch > middle));
    let files = inspect::LogFiles::open(Path::new(DIR), Arc::new(disk)).unwrap();
    let reports = files.verify().unwrap();
    assert!(reports.iter().all(|report| report.damage.is_none()));
    assert_eq!(reports.iter().map(|report| report.records).sum::<u64>(), 4_000);
}

#[test]
fn segments_of_a_log_without_compression_are_packed_when_it_is_switched_on() {
    let (disk, all) = (SimDisk::new(), readings(2_000));
    let (log, mut stepper) = simulated(&disk, false);
    fill(&log, &mut stepper, &all);
    assert!(names(&disk, ".logz").is_empty());
    drop((log, stepper));
    let (log, mut stepper) = simulated(&disk, true);
    stepper.step();
    assert_eq!(names(&disk, ".log").len(), 1);
    assert_eq!(payloads(&log), all);
}

#[test]
fn a_reader_of_a_segment_that_is_being_packed_goes_on() {
    let (disk, all) = (SimDisk::new(), readings(3_000));
    let (log, mut stepper) = simulated(&disk, true);
    fill(&log, &mut stepper, &all[..100]);
    let mut reader = log.reader(Epoch(0)).unwrap();
    let first = reader.next(Duration::ZERO).unwrap().unwrap();
    fill(&log, &mut stepper, &all[100..]);
    let mut records = first.records().count();
    while let Some(commit) = reader.next(Duration::ZERO).unwrap() {
        records += commit.records().count();
    }
    assert_eq!(records, 3_000);
}

#[test]
fn a_damaged_block_is_named_and_not_read() {
    let (disk, all) = (SimDisk::new(), readings(2_000));
    let (log, mut stepper) = simulated(&disk, true);
    fill(&log, &mut stepper, &all);
    let path = Path::new(DIR).join(&names(&disk, ".logz")[0]);
    disk.flip(&path, 100).unwrap();
    drop((log, stepper));
    let error = match simulated_reader(&disk) {
        Err(error) => error,
        Ok(_) => panic!("damaged bytes were read"),
    };
    assert!(error.contains("damaged"), "{error}");
    disk.flip(&path, 100).unwrap();
    assert_eq!(simulated_reader(&disk).unwrap(), 2_000);
}

/// How many records can be read, or why they cannot.
fn simulated_reader(disk: &SimDisk) -> Result<usize, String> {
    let clock = SimClock::new(1_790_000_000_000_000);
    let config = LogConfig { segment_bytes: 600_000, compress: true, ..config(Path::new(DIR)) };
    let opened = Log::open_stepped(config, Arc::new(disk.clone()), Arc::new(clock), Epoch(0));
    let (log, _stepper, _) = opened.map_err(|error| error.to_string())?;
    let mut reader = log.reader(Epoch(0)).map_err(|error| error.to_string())?;
    let mut records = 0;
    while let Some(commit) = reader.next(Duration::ZERO).map_err(|error| error.to_string())? {
        records += commit.records().count();
    }
    Ok(records)
}

#[test]
fn retention_drops_packed_segments_by_their_bytes_on_the_disk() {
    let (disk, all) = (SimDisk::new(), readings(4_000));
    let clock = SimClock::new(1_790_000_000_000_000);
    let config = LogConfig { segment_bytes: 600_000, keep_bytes: 100_000, compress: true, ..config(Path::new(DIR)) };
    let (log, mut stepper, _) =
        Log::open_stepped(config, Arc::new(disk.clone()), Arc::new(clock), Epoch(0)).expect("opens");
    fill(&log, &mut stepper, &all);
    let before = log.size_bytes();
    let dropped = log.retain(log.last_epoch()).unwrap();
    assert!(dropped > 0 && log.size_bytes() < before, "{dropped} dropped, {before} bytes before");
    let kept = payloads(&log);
    assert!(all.ends_with(&kept) && !kept.is_empty());
    assert_eq!(names(&disk, "").iter().filter(|name| name.contains("unfinished")).count(), 0);
}

#[test]
fn the_thread_packs_what_is_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(LogConfig { segment_bytes: 100_000, compress: true, ..config(dir.path()) });
    let all = readings(1_000);
    for payload in &all {
        let (done, answered) = std::sync::mpsc::channel();
        log.appender()
            .append(batch([payload.as_str()]), Class::Client, move |r| done.send(r.is_ok()).unwrap())
            .unwrap();
        assert!(answered.recv().unwrap());
    }
    let end = log.log_time_us() + 30_000_000;
    while log.metrics().segments_packed.load(std::sync::atomic::Ordering::Relaxed) < 5 {
        assert!(log.log_time_us() < end, "nothing is packed");
        std::thread::yield_now();
    }
    assert_eq!(payloads(&log), all);
}
