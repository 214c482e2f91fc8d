//! What a record costs on its way into the ingest log and out of it: `cargo bench -p hedgerow-storage --bench log`.
//!
//! Compare with the same bytes written and synced without any log (`plain`): the difference is the price of framing,
//! checksums, group commit and acknowledgement. Times are CPU of the whole process, all threads, not wall time: a disk's
//! sync says nothing about this code. `ratio` is measured in one run, alternating, and printed with the wall time.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot go on may stop")]

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hedgerow_storage::clock::{Clock, SystemClock};
use hedgerow_storage::disk::{Disk, DiskFile, SystemDisk};
use hedgerow_storage::log::{Batch, Class, Epoch, Log, LogConfig, RecordFields};

/// A sensor's message of 115 bytes.
const PAYLOAD: &[u8] = br#"{"timestamp":1790000000000,"temperature":21.53,"humidity":48.7,"ph":6.84,"status":"online","battery":97,"rssi":-61}"#;
/// Batches waiting at once, as from so many connections.
const IN_FLIGHT: usize = 64;

fn record() -> RecordFields<'static> {
    RecordFields {
        time_ms: 1_790_000_000_000,
        topic: "macdonald/sensors/1234",
        client_id: "sensor-1234",
        session: 77,
        packet_id: 12,
        qos: 1,
        payload: PAYLOAD,
        ..RecordFields::default()
    }
}

fn batch(records: usize) -> Batch {
    let mut batch = Batch::with_capacity(records, records * PAYLOAD.len());
    (0..records).for_each(|_| batch.push(&record()));
    batch
}

/// CPU used by the process so far.
fn cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let nanoseconds = tasks.map(|task| {
        let path = task.unwrap().path().join("schedstat");
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        stat.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
    });
    Duration::from_nanos(nanoseconds.sum())
}

fn open(dir: &Path) -> Log {
    let limits = LogConfig { max_queued_bytes: 256 << 20, min_free_bytes: 0, reserve_bytes: 0, ..LogConfig::new(dir) };
    Log::open(limits, Arc::new(SystemDisk), Arc::new(SystemClock::new()), Epoch(0)).unwrap().0
}

/// Encodes and appends so many batches, never more than `IN_FLIGHT` unanswered.
fn append(log: &Log, batches: u64, records: usize) {
    let appender = log.appender();
    let (answer, answers) = sync_channel(IN_FLIGHT);
    let mut waiting = 0;
    for _ in 0..batches {
        if waiting == IN_FLIGHT {
            answers.recv().unwrap();
            waiting -= 1;
        }
        let answer = answer.clone();
        let taken = appender.append(batch(records), Class::Client, move |result| {
            result.unwrap();
            let _ = answer.send(());
        });
        taken.map_err(|(_, error)| error).unwrap();
        waiting += 1;
    }
    (0..waiting).for_each(|_| answers.recv().unwrap());
}

/// Writes the same payloads in the same portions, with one sync for `IN_FLIGHT` of them.
fn plain(file: &dyn DiskFile, at: &mut u64, batches: u64, records: usize) {
    let portion = PAYLOAD.repeat(records);
    for n in 0..batches {
        file.write_all_at(*at, &mut [IoSlice::new(&portion)]).unwrap();
        *at += portion.len() as u64;
        if n % IN_FLIGHT as u64 == IN_FLIGHT as u64 - 1 || n == batches - 1 {
            file.sync().unwrap();
        }
    }
}

fn benches(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("encode", |b| b.iter_batched(|| (), |()| batch(1000), BatchSize::SmallInput));
    let log = open(&dir.path().join("log"));
    append(&log, 100, 1000);
    group.throughput(Throughput::Elements(100_000));
    group.bench_function("read", |b| {
        b.iter(|| {
            let mut reader = log.reader(Epoch(0)).unwrap();
            let mut bytes = 0;
            while let Some(commit) = reader.next(Duration::ZERO).unwrap() {
                bytes += commit.records().map(|r| r.topic.len() + r.payload.len()).sum::<usize>();
            }
            bytes
        });
    });
    for records in [1, 100, 1000] {
        group.throughput(Throughput::Elements(records as u64));
        group.bench_function(format!("append/{records}"), |b| {
            b.iter_custom(|batches| {
                let before = cpu();
                append(&log, batches, records);
                cpu() - before
            });
        });
        let (file, mut at) = (SystemDisk.create(&dir.path().join("plain")).unwrap(), 0);
        group.bench_function(format!("plain/{records}"), |b| {
            b.iter_custom(|batches| {
                let before = cpu();
                plain(&*file, &mut at, batches, records);
                cpu() - before
            });
        });
    }
    group.finish();
    log.shutdown();
    ratio(dir.path());
}

/// Log and plain file in turns, the same records: CPU and wall time of each, and their ratio.
fn ratio(dir: &Path) {
    let clock = SystemClock::new();
    let log = open(&dir.join("ratio"));
    let (file, mut at) = (SystemDisk.create(&dir.join("ratio-plain")).unwrap(), 0);
    for records in [100_usize, 8192] {
        let batches = 819_200 / records as u64;
        let mut spent = [[0.0; 2]; 2];
        for _ in 0..3 {
            for (which, [cpu_s, wall_s]) in spent.iter_mut().enumerate() {
                let (cpu_before, wall_before) = (cpu(), clock.monotonic_us());
                match which {
                    0 => append(&log, batches, records),
                    _ => plain(&*file, &mut at, batches, records),
                }
                *cpu_s += (cpu() - cpu_before).as_secs_f64();
                *wall_s += (clock.monotonic_us() - wall_before) as f64 / 1e6;
            }
        }
        let [[log_cpu, log_wall], [plain_cpu, plain_wall]] = spent;
        let each = 1e6 / (3 * batches * records as u64) as f64;
        println!(
            "batches of {records}: CPU a record {:.3} µs in the log, {:.3} µs plain, ratio {:.2}; wall {:.3} and {:.3} µs, ratio {:.2}",
            log_cpu * each,
            plain_cpu * each,
            log_cpu / plain_cpu,
            log_wall * each,
            plain_wall * each,
            log_wall / plain_wall,
        );
    }
}

criterion_group!(log, benches);
criterion_main!(log);
