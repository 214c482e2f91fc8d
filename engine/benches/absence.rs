//! Absence at a million devices: `cargo bench -p hedgerow-engine --bench absence` (some minutes, 2 GB of memory).
//!
//! Two million events of a million devices, a disconnect and a connect of each at random moments of an hour, and a
//! notice for every device that was away for fifteen minutes. From a log on disk through rules, timers and rows, on one
//! worker. Beside it, in the same run, DuckDB's batch self-join over the same NDJSON, which must find the same devices:
//! `pip install duckdb`, and name that Python with `HEDGEROW_BENCH_PYTHON` if it is not `python3`.
//!
//! Then what a million armed devices cost: memory, a checkpoint and the longest time it holds up the worker, recovery,
//! and the processor while nothing happens, against the same engine without timers.
//!
//! With `--quick`, and under `cargo test --benches`, everything is a hundred times smaller.
#![allow(missing_docs, reason = "a bench has no users")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench may fail"
)]
#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hedgerow_engine::call::NoCaller;
use hedgerow_engine::catalog::{Catalog, Change, ChangeSet, Form, Kind};
use hedgerow_engine::engine::{Engine, EngineConfig, Outside};
use hedgerow_engine::errors::Errors;
use hedgerow_engine::metrics::RuleStats;
use hedgerow_engine::operators::absence::AbsenceState;
use hedgerow_engine::operators::evaluate::{Evaluate, Out, Resolve};
use hedgerow_engine::rows::{ActiveRule, Destination, RowBatch};
use hedgerow_engine::sink::Sink;
use hedgerow_engine::sink::registry::OpenSink;
use hedgerow_engine::step::Step;
use hedgerow_sql::rule::SinkDef;
use hedgerow_storage::checkpoint::Checkpoints;
use hedgerow_storage::clock::SystemClock;
use hedgerow_storage::disk::SystemDisk;
use hedgerow_storage::log::{Batch, Class, Durability, Epoch, Log, LogConfig, RecordFields, RecordKind};
use hedgerow_storage::sim::SimClock;
use hedgerow_storage::table::{Tables, TablesConfig};

const RULE: &str = "CREATE RULE gone AS SELECT device, ts FROM 'lifecycle/all' WHERE status = 'disconnected'
    AFTER INTERVAL '15 minutes' UNLESS status = 'connected' PARTITION BY device INTO TOPIC 'gone'";
const START_US: u64 = 1_790_000_000_000_000;
const HOUR_US: u64 = 3_600_000_000;
const AWAY_US: u64 = 900_000_000;
const STEP_ROWS: usize = 16_384;

struct Event {
    at_us: u64,
    device: u64,
    connected: bool,
}

/// A disconnect and a connect of each device, in the order of time.
fn events(devices: u64) -> Vec<Event> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let mut events = Vec::with_capacity(2 * devices as usize);
    for device in 0..devices {
        for connected in [false, true] {
            let at_us = START_US + below(HOUR_US / 1_000) * 1_000;
            events.push(Event { at_us, device, connected });
        }
    }
    events.sort_by_key(|event| (event.at_us, event.connected, event.device));
    events
}

fn line(event: &Event, out: &mut String) {
    let status = if event.connected { "connected" } else { "disconnected" };
    let (device, ms) = (event.device, event.at_us / 1_000);
    let _ = write!(out, r#"{{"device":"device-{device:07}","status":"{status}","ts":{ms}}}"#);
}

/// The events as a log, a commit for each moment; with `over`, a tick when the last device has been noticed.
fn write_log(dir: &Path, events: &[Event], over: bool) -> Log {
    let clock = SimClock::new(START_US - 1_000);
    let config = LogConfig { durability: Durability::None, min_free_bytes: 0, reserve_bytes: 0, ..LogConfig::new(dir) };
    let (log, mut stepper, _) =
        Log::open_stepped(config, Arc::new(SystemDisk), Arc::new(clock.clone()), Epoch(0)).unwrap();
    let appender = log.appender();
    let mut now = START_US - 1_000;
    let mut text = String::new();
    for group in events.chunk_by(|a, b| a.at_us == b.at_us) {
        clock.advance_us(group[0].at_us - now);
        now = group[0].at_us;
        let mut batch = Batch::new();
        for event in group {
            text.clear();
            line(event, &mut text);
            let time_ms = (event.at_us / 1_000).cast_signed();
            batch.push(&RecordFields {
                topic: "lifecycle/all",
                time_ms,
                payload: text.as_bytes(),
                ..Default::default()
            });
        }
        appender.append(batch, Class::System, |result| assert!(result.is_ok())).unwrap();
        stepper.step();
    }
    if over {
        clock.advance_us(AWAY_US + 1_000_000);
        let mut batch = Batch::new();
        batch.push(&RecordFields { kind: RecordKind::Tick, ..Default::default() });
        appender.append(batch, Class::System, |result| assert!(result.is_ok())).unwrap();
        stepper.step();
    }
    log
}

struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, catalog: &Catalog, _: u64) -> Arc<Vec<Arc<ActiveRule>>> {
        let active = |rule: &Arc<hedgerow_sql::rule::Rule>| {
            let stats = Arc::new(RuleStats::default());
            Arc::new(ActiveRule::new(Arc::clone(rule), vec![Destination::Derived], stats))
        };
        Arc::new(catalog.active_rules().map(active).collect())
    }

    fn refuse(&self, _: u64, reason: &str) {
        panic!("{reason}");
    }
}

fn change() -> ChangeSet {
    let put = Change::Put { kind: Kind::Rule, name: "gone".into(), form: Form::Native, text: RULE.into() };
    ChangeSet::new("bench", vec![put])
}

/// One worker's share of the dataflow.
struct Worker {
    evaluate: Evaluate<Resolver>,
    absence: AbsenceState,
}

impl Worker {
    fn new() -> Self {
        let mut catalog = Catalog::default();
        catalog.apply(&change(), 1).unwrap();
        let errors = Arc::new(Errors::new(10));
        let evaluate = Evaluate::new(0, 1, catalog, Resolver, Arc::clone(&errors));
        let absence = AbsenceState::new(0, evaluate.rules(), errors);
        Self { evaluate, absence }
    }

    fn step(&mut self, step: &Step, rows: &mut Vec<RowBatch>) {
        let mut out = Vec::new();
        self.evaluate.step(step, &mut out);
        let items = out.into_iter().filter_map(|item| match item {
            Out::Watched(item) => Some(item),
            _ => None,
        });
        self.absence.advance(items.collect(), step.end.0, rows);
    }
}

/// Everything in a log, in steps.
fn steps(log: &Log, mut see: impl FnMut(&Step)) {
    let mut reader = log.reader(Epoch(0)).unwrap();
    let (mut commits, mut rows) = (Vec::new(), 0);
    loop {
        let next = reader.next(Duration::ZERO).unwrap();
        let last = next.is_none();
        if let Some(commit) = next {
            rows += commit.count as usize;
            commits.push(commit);
        }
        if rows >= STEP_ROWS || (last && !commits.is_empty()) {
            let end = commits.last().unwrap().epoch;
            see(&Step { commits: std::mem::take(&mut commits), end, checkpoint: false, bytes: 0 });
            rows = 0;
        }
        if last {
            return;
        }
    }
}

/// CPU of this process so far, all threads, those that have ended as well.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    Duration::from_millis((fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10)
}

/// Events a second, beside DuckDB's.
fn throughput(folder: &Path, devices: u64) {
    let events = events(devices);
    let ndjson = folder.join("events.ndjson");
    let mut text = String::new();
    for event in &events {
        line(event, &mut text);
        text.push('\n');
    }
    std::fs::write(&ndjson, &text).unwrap();
    println!("{} events of {devices} devices, {} bytes each", events.len(), text.len() / events.len());
    drop(text);
    let log = write_log(&folder.join("log"), &events, true);
    let (wall, before) = (Instant::now(), cpu());
    let mut worker = Worker::new();
    let mut notices = 0;
    steps(&log, |step| {
        let mut rows = Vec::new();
        worker.step(step, &mut rows);
        notices += rows.iter().map(|batch| batch.rows.len()).sum::<usize>();
    });
    let (wall, used) = (wall.elapsed(), cpu() - before);
    let rate = |time: Duration| events.len() as f64 / time.as_secs_f64() / 1e3;
    println!(
        "Hedgerow, one worker, from the log:  {:6.2} s, {:6.2} s CPU, {:8.0} k events/s, {notices} notices",
        wall.as_secs_f64(),
        used.as_secs_f64(),
        rate(wall)
    );
    match duckdb(&ndjson) {
        Ok((found, seconds, spent)) => {
            println!(
                "DuckDB, self-join over the NDJSON:   {seconds:6.2} s, {spent:6.2} s CPU, {:8.0} k events/s, {found} notices",
                rate(Duration::from_secs_f64(seconds))
            );
            println!("ratio of CPU: {:.2}", used.as_secs_f64() / spent);
            assert_eq!(found, notices, "they do not notice the same");
        }
        Err(reason) => println!("DuckDB was not asked ({reason}): pip install duckdb, HEDGEROW_BENCH_PYTHON=…/python3"),
    }
}

/// How many are gone, seconds and CPU seconds.
fn duckdb(ndjson: &Path) -> Result<(usize, f64, f64), String> {
    let script = format!(
        "import duckdb, time, resource\n\
         t = time.time(); c = resource.getrusage(resource.RUSAGE_SELF)\n\
         n = duckdb.sql(\"\"\"with e as (select * from read_json('{}', format = 'newline_delimited', columns = {{device: \
         'VARCHAR', status: 'VARCHAR', ts: 'BIGINT'}})) select count(*) from e d where d.status = 'disconnected' and not \
         exists (select 1 from e c where c.device = d.device and c.status = 'connected' and c.ts >= d.ts and c.ts < d.ts + \
         {})\"\"\").fetchall()[0][0]\n\
         e = resource.getrusage(resource.RUSAGE_SELF)\n\
         print(n, time.time() - t, e.ru_utime + e.ru_stime - c.ru_utime - c.ru_stime)\n",
        ndjson.display(),
        AWAY_US / 1_000
    );
    let python = std::env::var("HEDGEROW_BENCH_PYTHON").unwrap_or_else(|_| "python3".into());
    let run = std::process::Command::new(python).arg("-c").arg(script).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let mut numbers = text.split_whitespace();
    let parsed =
        (|| Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?)))();
    parsed.ok_or_else(|| String::from_utf8_lossy(&run.stderr).lines().last().unwrap_or("no answer").to_owned())
}

/// What armed devices cost.
fn state(folder: &Path, devices: u64) {
    let gone: Vec<Event> =
        (0..devices).map(|device| Event { at_us: START_US + device / 10, device, connected: false }).collect();
    let log = write_log(&folder.join("armed"), &gone, false);
    let mut worker = Worker::new();
    let mut rows = Vec::new();
    steps(&log, |step| worker.step(step, &mut rows));
    assert!(rows.is_empty());
    let overhead = worker.absence.overhead_bytes() as f64 / devices as f64;
    let mut text = String::new();
    line(&gone[0], &mut text);

    let wall = Instant::now();
    worker.absence.begin_checkpoint(1);
    let mut longest = Duration::ZERO;
    let pieces = loop {
        let call = Instant::now();
        let saved = worker.absence.saved();
        longest = longest.max(call.elapsed());
        if let Some((_, pieces)) = saved {
            break pieces;
        }
    };
    let saving = wall.elapsed();
    let part = pieces.concat();
    let wall = Instant::now();
    let mut files = Checkpoints::open(&folder.join("checkpoints"), Arc::new(SystemDisk)).unwrap();
    files.write(1, hedgerow_engine::SEMANTICS, &[("timers/0", &part)]).unwrap();
    let written = wall.elapsed();
    println!(
        "\n{devices} armed devices (a message is {} bytes, its key and row {} in a checkpoint)",
        text.len(),
        part.len() as u64 / devices
    );
    println!("memory: {overhead:.0} bytes a device beside its key and row, and what the allocator rounds up for these");
    println!(
        "checkpoint: {:.1} MB, {:.0} ms of the worker in pieces of at most {:.1} ms, {:.0} ms to write and sync",
        part.len() as f64 / 1e6,
        saving.as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e3,
        written.as_secs_f64() * 1e3
    );
    drop(worker);
    let wall = Instant::now();
    let mut again = Worker::new();
    again.absence.restore(&[&part], |_| true).unwrap();
    println!("recovery: {:.0} ms", wall.elapsed().as_secs_f64() * 1e3);
    assert_eq!(again.absence.next_deadline(), Some(START_US + AWAY_US));
}

struct NoSinks;

impl OpenSink for NoSinks {
    fn open(&self, _: &SinkDef) -> Result<Box<dyn Sink>, String> {
        Err("the bench has no sinks".into())
    }

    fn closed(&self, _: &str) {}
}

/// CPU of an idle engine with and without armed timers.
fn idle(folder: &Path, devices: u64, for_how_long: Duration) {
    let mut used = Vec::new();
    for (name, armed) in [("none", 0), ("armed", devices)] {
        let place = folder.join(format!("idle-{name}"));
        let config = LogConfig { min_free_bytes: 0, reserve_bytes: 0, ..LogConfig::new(place.join("log")) };
        let (log, _) = Log::open(config, Arc::new(SystemDisk), Arc::new(SystemClock::new()), Epoch(0)).unwrap();
        let log = Arc::new(log);
        let tables = Tables::open(&place.join("tables"), TablesConfig::default()).unwrap();
        let config = EngineConfig { workers: 2, ..EngineConfig::default() };
        let engine = Engine::start(
            &config,
            Arc::clone(&log),
            tables,
            Outside { opener: Box::new(NoSinks), caller: Arc::new(NoCaller) },
            &place.join("checkpoints"),
            Arc::new(SystemDisk),
            Arc::new(|| None),
        )
        .unwrap();
        engine.change::<hedgerow_engine::engine::ApplyError>(Duration::from_secs(60), |_| Ok(Some(change()))).unwrap();
        let mut last = log.last_epoch();
        for chunk in (0..armed).collect::<Vec<_>>().chunks(10_000) {
            let mut batch = Batch::new();
            let mut text = String::new();
            for device in chunk {
                text.clear();
                line(&Event { at_us: START_US, device: *device, connected: false }, &mut text);
                batch.push(&RecordFields { topic: "lifecycle/all", payload: text.as_bytes(), ..Default::default() });
            }
            last = log.appender().append_and_wait(batch, Class::System).unwrap().epoch;
        }
        assert!(engine.wait_for(last, Duration::from_secs(300)));
        let timers = engine.rules()[0].stats.timers();
        assert_eq!(timers.armed, armed);
        // What follows the last message, such as a sync of tables, is soon over.
        std::thread::sleep(Duration::from_secs(2));
        let before = cpu();
        std::thread::sleep(for_how_long);
        used.push((cpu() - before).as_secs_f64() / for_how_long.as_secs_f64() * 100.0);
        engine.stop(Duration::from_secs(10));
    }
    println!(
        "\nidle for {for_how_long:?}: {:.2} % of a core without timers, {:.2} % with {devices} armed",
        used[0], used[1]
    );
}

fn main() {
    let arguments: BTreeSet<String> = std::env::args().collect();
    let measuring = arguments.contains("--bench") && !arguments.contains("--quick");
    let devices = if measuring { 1_000_000 } else { 10_000 };
    let folder = tempfile::tempdir().unwrap();
    throughput(folder.path(), devices);
    state(folder.path(), devices);
    idle(folder.path(), devices, Duration::from_secs(if measuring { 20 } else { 1 }));
}
