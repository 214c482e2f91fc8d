//! The log's promises, tried on the machine's disk and on simulated ones.

mod basics;
mod clocks;
mod crash;
mod damage;
mod inspecting;
mod packing;
mod space;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::disk::SystemDisk;

/// A log on the machine's disk.
fn open(config: LogConfig) -> (Log, Recovery) {
    Log::open(config, Arc::new(SystemDisk), Arc::new(SystemClock::new()), Epoch(0)).expect("opens")
}

fn config(dir: &Path) -> LogConfig {
    LogConfig { min_free_bytes: 0, reserve_bytes: 0, compress: false, ..LogConfig::new(dir) }
}

/// Records whose payloads are these texts.
fn batch<'a>(payloads: impl IntoIterator<Item = &'a str>) -> Batch {
    let mut batch = Batch::new();
    for payload in payloads {
        batch.push(&RecordFields { topic: "t", payload: payload.as_bytes(), ..Default::default() });
    }
    batch
}

/// Everything in the log after an epoch: epoch, offset, payload. Checks the order that readers rely on.
fn read_all(log: &Log, from: Epoch) -> Vec<(Epoch, Offset, String)> {
    let mut reader = log.reader(from).expect("reads");
    let mut all: Vec<(Epoch, Offset, String)> = Vec::new();
    while let Some(commit) = reader.next(Duration::ZERO).expect("reads") {
        assert!(
            all.last().is_none_or(|(epoch, offset, _)| *epoch < commit.epoch && offset.0 + 1 == commit.first_offset.0)
        );
        assert_eq!(commit.records().count(), commit.count as usize);
        for record in commit.records() {
            all.push((commit.epoch, record.offset, String::from_utf8_lossy(record.payload).into_owned()));
        }
    }
    all
}

fn payloads(log: &Log) -> Vec<String> {
    read_all(log, log.first_epoch()).into_iter().map(|(_, _, payload)| payload).collect()
}
