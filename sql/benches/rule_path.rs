//! The rule path from payloads in memory: 2 million messages of about 115 bytes through
//! `SELECT temperature * 1.8 + 32 AS f, humidity, topic(3) AS device FROM 'macdonald/sensors/+' WHERE temperature > 50`,
//! all output columns materialised, on one thread.
//!
//! What a user would compare it with is a fast JSON parser alone, so the yardstick is simd-json's tape of the same
//! bytes, in the same run, round by round. Times are the thread's CPU time, for machines that do other things too.
//! Run with `cargo bench -p hedgerow-sql --bench rule_path`; the table comes first, then criterion's figures.

#![allow(missing_docs, reason = "a bench has no users")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a bench may fail loudly")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use hedgerow_sql::ast::Dialect;
use hedgerow_sql::message::Message;
use hedgerow_sql::parse::parse_statement;
use hedgerow_sql::program::Program;
use hedgerow_sql::rule::Rule;

const MESSAGES: usize = 2_000_000;
const DEVICES: usize = 1_000;
const ROUNDS: usize = 5;
const SQL: &str = "SELECT temperature * 1.8 + 32 AS f, humidity, topic(3) AS device FROM 'macdonald/sensors/+' \
                   WHERE temperature > 50";

/// Payloads one after the other.
struct Fleet {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    topics: Vec<String>,
}

impl Fleet {
    fn new(messages: usize) -> Self {
        let topics: Vec<String> = (0..DEVICES).map(|device| format!("macdonald/sensors/field-{device}")).collect();
        let mut fleet = Self { bytes: Vec::new(), ends: Vec::with_capacity(messages), topics };
        // A small generator of its own: the same payloads on every machine.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        for number in 0..messages as u64 {
            let (temperature, humidity, ph) = (below(600) + 200, below(10_000), below(140));
            // As most encoders write them: without zeros at the end, whole numbers without a point.
            let tenths = if temperature % 10 == 0 {
                format!("{}", temperature / 10)
            } else {
                format!("{}.{}", temperature / 10, temperature % 10)
            };
            let payload = format!(
                r#"{{"timestamp":{},"temperature":{tenths},"humidity":{}.{:02},"ph":{}.{},"status":"{}","battery":{}}}"#,
                1_700_000_000_000 + number,
                humidity / 100,
                humidity % 100,
                ph / 10,
                ph % 10,
                ["ok", "idle", "warning"][below(3) as usize],
                below(101),
            );
            fleet.bytes.extend_from_slice(payload.as_bytes());
            fleet.ends.push(fleet.bytes.len());
        }
        fleet
    }

    fn payload(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start..self.ends[number]]
    }

    fn message(&self, number: usize) -> Message<'_> {
        Message {
            client_id: Some("sensor"),
            epoch: number as u64,
            offset: number as u64,
            ..Message::new(&self.topics[number % DEVICES], self.payload(number), 1_700_000_000_000)
        }
    }
}

fn program() -> Program {
    let select = parse_statement(SQL, Dialect::Aws2016).expect("the statement parses");
    Program::new(&[Arc::new(Rule {
        name: "bench".into(),
        dialect: Dialect::Aws2016,
        text: SQL.into(),
        enabled: true,
        select,
        filter: None,
        windowed: None,
        actions: Vec::new(),
        error_action: None,
    })])
}

/// The rule over messages, in batches; the number of rows.
fn rule_path(fleet: &Fleet, program: &mut Program, batch: usize, messages: std::ops::Range<usize>) -> usize {
    let mut rows = 0;
    let mut out = Vec::new();
    let mut pending: Vec<Message<'_>> = Vec::with_capacity(batch);
    for start in messages.clone().step_by(batch) {
        let end = (start + batch).min(messages.end);
        pending.clear();
        pending.extend((start..end).map(|number| fleet.message(number)));
        program.evaluate(&pending, &mut out);
        rows += out.drain(..).map(|rule| black_box(rule).rows.len()).sum::<usize>();
    }
    rows
}

/// simd-json's tape of each payload. It needs bytes that it may change.
fn tape(bytes: &mut [u8], ends: &[usize]) -> usize {
    let mut buffers = simd_json::Buffers::new(256);
    let mut tape = simd_json::Tape::null();
    let mut nodes = 0;
    let (mut rest, mut start) = (bytes, 0);
    for end in ends {
        let (payload, after) = rest.split_at_mut(end - start);
        simd_json::fill_tape(payload, &mut buffers, &mut tape).expect("JSON");
        nodes += black_box(&tape).0.len();
        (rest, start) = (after, *end);
    }
    nodes
}

/// Nanoseconds this thread has been running.
fn cpu_ns() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}

fn timed(work: impl FnOnce() -> usize) -> f64 {
    let start = cpu_ns();
    black_box(work());
    (cpu_ns() - start) as f64
}

fn table(fleet: &Fleet) {
    println!(
        "{} messages, {:.1} bytes on average",
        fleet.ends.len(),
        fleet.bytes.len() as f64 / fleet.ends.len() as f64
    );
    let mut ratios: [Vec<f64>; 2] = Default::default();
    let mut spent: [Vec<f64>; 3] = Default::default();
    let per_message = |ns: f64| ns / fleet.ends.len() as f64;
    for _ in 0..ROUNDS {
        let mut bytes = fleet.bytes.clone();
        let yardstick = timed(|| tape(&mut bytes, &fleet.ends));
        drop(bytes);
        spent[0].push(per_message(yardstick));
        for (which, batch) in [8_192, 100].into_iter().enumerate() {
            let mut program = program();
            let ns = timed(|| rule_path(fleet, &mut program, batch, 0..fleet.ends.len()));
            spent[which + 1].push(per_message(ns));
            ratios[which].push(ns / yardstick);
        }
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("CPU a message, median of {ROUNDS} rounds:");
    println!("  simd-json tape          {:6.1} ns", median(&mut spent[0]));
    println!("  rule, batches of 8192   {:6.1} ns   {:.2} x the tape", median(&mut spent[1]), median(&mut ratios[0]));
    println!("  rule, batches of 100    {:6.1} ns   {:.2} x the tape", median(&mut spent[2]), median(&mut ratios[1]));
}

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let measuring = std::env::args().any(|arg| arg == "--bench");
    let fleet = Fleet::new(if measuring { MESSAGES } else { 20_000 });
    table(&fleet);
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    let mut group = criterion.benchmark_group("rule_path");
    for batch in [8_192, 100] {
        let mut program = program();
        let mut start = 0;
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("batch_{batch}"), |bencher| {
            bencher.iter(|| {
                start = if start + 2 * batch > fleet.ends.len() { 0 } else { start + batch };
                rule_path(&fleet, &mut program, batch, start..start + batch)
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
