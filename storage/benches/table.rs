//! Upserts into a table: 1,000 rows with their mark in one batch, then a sync. The figure to look at is elements/s.
//!
//! `cargo bench -p hedgerow-storage --bench table`. To compare with: a `COPY` of the same rows into an indexed table of
//! PostgreSQL or SQLite with `synchronous` on. The sync of the disk itself is measured beside it, on an empty file of
//! the same folder, since it is what differs most between machines; `TMPDIR` chooses the disk.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot go on stops")]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hedgerow_storage::table::{Key, KeyBounds, TableSpec, Tables, TablesConfig, Write};
use tempfile::TempDir;

const ROWS: u64 = 1_000;
const DEVICES: u64 = 50_000;

fn tables(folder: &TempDir) -> Tables {
    let tables = Tables::open(folder.path(), TablesConfig::default()).unwrap();
    let spec = TableSpec {
        name: "sensor_data".into(),
        hash: "sensor_id".into(),
        range: Some("ts".into()),
        ttl_ms: Some(86_400_000),
        definition: String::new(),
    };
    tables.create(&spec, 0).unwrap();
    tables
}

/// One step: readings of devices in turn, ten timestamps each, so that later steps overwrite earlier ones.
fn step(tables: &Tables, epoch: u64) {
    let texts: Vec<_> = (0..ROWS)
        .map(|n| {
            let device = (epoch * ROWS + n) * 7_919 % DEVICES;
            let ts = 1_763_856_000_000 + (epoch % 10) as i64;
            (device, ts, format!(r#"{{"sensor_id":"s{device}","ts":{ts},"temperature":21.5,"humidity":48,"ph":6.8}}"#))
        })
        .collect();
    let writes = texts.iter().map(|(device, ts, text)| Write {
        table: "sensor_data",
        hash: Key::text(format!("s{device}")),
        range: Some(Key::from(*ts)),
        value: Some(text.as_bytes()),
        time_ms: *ts,
        epoch,
    });
    tables.apply("sink", epoch, writes).unwrap();
}

fn upserts(criterion: &mut Criterion) {
    let folder = TempDir::new().unwrap();
    let tables = tables(&folder);
    let mut epoch = 0;
    let mut group = criterion.benchmark_group("table");
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function("1000 upserts, synced", |bench| {
        bench.iter(|| {
            epoch += 1;
            step(&tables, epoch);
            tables.sync().unwrap();
        });
    });
    group.bench_function("1000 upserts, applied", |bench| {
        bench.iter(|| {
            epoch += 1;
            step(&tables, epoch);
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("sync of 100 kB alone", |bench| {
        let file = File::create(folder.path().join("yardstick")).unwrap();
        let bytes = vec![1; 100_000];
        let mut position = 0;
        bench.iter(|| {
            file.write_all_at(&bytes, position).unwrap();
            file.sync_data().unwrap();
            position = (position + 100_000) % 60_000_000;
        });
    });
    let stats = tables.store().stats();
    println!(
        "written: {} rows, {} bytes of keys and values; on disk now {}",
        stats.puts, stats.bytes, stats.disk_bytes
    );
    group.finish();
}

fn reads(criterion: &mut Criterion) {
    let folder = TempDir::new().unwrap();
    let tables = tables(&folder);
    for epoch in 1..=50 {
        step(&tables, epoch);
    }
    let mut device = 0;
    let mut group = criterion.benchmark_group("table");
    group.bench_function("get", |bench| {
        bench.iter(|| {
            device = (device + 7_919) % DEVICES;
            let hash = Key::text(format!("s{device}"));
            black_box(tables.get("sensor_data", &hash, Some(&Key::from(1_763_856_000_001)), 0).unwrap());
        });
    });
    group.throughput(Throughput::Elements(50 * ROWS));
    group.sample_size(10);
    group.bench_function("scan", |bench| {
        bench.iter(|| tables.scan("sensor_data", None, &KeyBounds::All, 0).unwrap().filter(Result::is_ok).count());
    });
    group.finish();
}

criterion_group!(benches, upserts, reads);
criterion_main!(benches);
