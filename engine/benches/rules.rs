//! What many rules cost beside one: messages of the log through the evaluate operator, on one thread, without sinks.
//!
//! What a user would compare a rule with is the rule before it, so every line is a ratio to one rule of its kind over
//! the same messages in the same run, round by round, in commits of 8,192 and of 100 messages. Passing a message on is
//! compared with routing alone: finding out which rules match. Times are the thread's CPU time, for machines that do
//! other things too. Run with `cargo bench -p hedgerow-engine --bench rules`; `-- WORDS` runs the lines that have them,
//! and HEDGEROW_BENCH_QUICK=1 fewer messages and rounds.

#![allow(missing_docs, reason = "a bench has no users")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench may fail loudly"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use hedgerow_engine::catalog::{Catalog, Change, ChangeSet, Form, Kind};
use hedgerow_engine::errors::Errors;
use hedgerow_engine::operators::evaluate::{Evaluate, Out, Resolve};
use hedgerow_engine::rows::{ActiveRule, Destination};
use hedgerow_engine::step::Step;
use hedgerow_sql::rule::Target;
use hedgerow_storage::clock::SystemClock;
use hedgerow_storage::disk::SystemDisk;
use hedgerow_storage::log::{Batch, Class, Durability, Epoch, Log, LogConfig, RecordFields, RecordKind};

const RULES: usize = 1_000;
const FROM: &str = "FROM 'farm/+/sensors/+'";
const ITEMS: &str = "temperature * 1.8 + 32 AS f, humidity, topic(4) AS device";

/// Memory comes from where the server gets it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The rules in force, without anything behind them.
struct Nowhere;

impl Resolve for Nowhere {
    fn resolve(&self, catalog: &Catalog, _: u64) -> Arc<Vec<Arc<ActiveRule>>> {
        let rules = catalog.active_rules().map(|rule| {
            let destinations = rule.actions.iter().map(|action| match &action.target {
                Target::Named(name) => Destination::Sink(Arc::clone(name)),
                _ => Destination::Derived,
            });
            let destinations = destinations.collect();
            Arc::new(ActiveRule::new(Arc::clone(rule), destinations, Arc::default()))
        });
        Arc::new(rules.collect())
    }

    fn refuse(&self, _: u64, reason: &str) {
        panic!("{reason}");
    }
}

/// Rules by their queries, all into a sink, or with their own INTO.
fn changes(queries: impl IntoIterator<Item = String>) -> ChangeSet {
    let changes = queries.into_iter().enumerate().map(|(number, query)| {
        let into = if query.contains(" INTO ") { "" } else { " INTO lake" };
        let name = format!("r{number}");
        let text = format!("CREATE RULE {name} AS {query}{into}");
        Change::Put { kind: Kind::Rule, name, form: Form::Native, text }
    });
    ChangeSet::new("bench", changes.collect())
}

fn evaluate(queries: impl IntoIterator<Item = String>) -> Evaluate<Nowhere> {
    let mut catalog = Catalog::default();
    catalog.apply(&changes(queries), 1).expect("the rules are accepted");
    Evaluate::new(0, 1, catalog, Nowhere, Arc::new(Errors::new(10)))
}

/// Steps of one commit each, read back from a log.
struct Load {
    steps: Vec<Step>,
    messages: usize,
    _log: Log,
    _folder: tempfile::TempDir,
}

impl Load {
    fn new(messages: usize, commit: usize) -> Self {
        Self::after(messages, commit, None)
    }

    /// With a change of the catalog behind the first commit.
    fn after(messages: usize, commit: usize, change: Option<&ChangeSet>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let limits = LogConfig {
            durability: Durability::None,
            min_free_bytes: 0,
            reserve_bytes: 0,
            max_queued_bytes: 1 << 30,
            ..LogConfig::new(folder.path())
        };
        let log = Log::open(limits, Arc::new(SystemDisk), Arc::new(SystemClock::new()), Epoch(0)).expect("a log").0;
        let appender = log.appender();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for start in (0..messages).step_by(commit) {
            let mut batch = Batch::new();
            for number in start..(start + commit).min(messages) {
                push(&mut batch, number, &mut state);
            }
            appender.append_and_wait(batch, Class::Client).expect("the log takes it");
            if let Some(change) = change.filter(|_| start == 0) {
                let mut batch = Batch::new();
                let payload = &change.encode();
                batch.push(&RecordFields { kind: RecordKind::Control, payload, ..RecordFields::default() });
                appender.append_and_wait(batch, Class::System).expect("the log takes it");
            }
        }
        let records = messages + usize::from(change.is_some());
        let mut reader = log.reader(Epoch(0)).expect("a reader");
        let (mut steps, mut read) = (Vec::new(), 0);
        while read < records {
            let Some(commit) = reader.next(Duration::from_secs(5)).expect("readable") else { continue };
            read += commit.count as usize;
            let (end, bytes) = (commit.epoch, commit.bytes());
            steps.push(Step { commits: vec![commit], end, checkpoint: false, bytes });
        }
        Self { steps, messages, _log: log, _folder: folder }
    }
}

/// A sensor's message; its type, number and zone are each one of a thousand.
fn push(batch: &mut Batch, number: usize, state: &mut u64) {
    let mut below = |limit: u64| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % limit
    };
    let payload = format!(
        r#"{{"timestamp":{},"temperature":{}.{},"humidity":{}.{:02},"type":"x{}","number":{},"status":"{}"}}"#,
        1_700_000_000_000 + number,
        20 + below(60),
        1 + below(9),
        below(100),
        1 + below(99),
        below(RULES as u64),
        below(RULES as u64),
        ["ok", "idle", "warning"][below(3) as usize],
    );
    let device = below(2_000);
    batch.push(&RecordFields {
        kind: RecordKind::Message,
        time_ms: 1_700_000_000_000,
        topic: &format!("farm/z{}/sensors/{device}", device % RULES as u64),
        client_id: &format!("sensor-{device}"),
        payload: payload.as_bytes(),
        ..RecordFields::default()
    });
}

/// Nanoseconds this thread has been running.
fn cpu_ns() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}

/// Nanoseconds a message, once rules, shapes and plans are known.
fn cost(queries: &[String], load: &Load, at_most: usize) -> f64 {
    let mut evaluate = evaluate(queries.iter().cloned());
    let mut out: Vec<Out> = Vec::new();
    let per_step = load.messages / load.steps.len();
    let steps = (at_most / per_step).clamp(2, load.steps.len());
    let (warm, measured) = load.steps[..steps].split_at((steps / 8).max(1));
    for step in warm {
        evaluate.step(step, &mut out);
        out.clear();
    }
    let start = cpu_ns();
    for step in measured {
        evaluate.step(step, &mut out);
        black_box(&out);
        out.clear();
    }
    (cpu_ns() - start) as f64 / (measured.len() * per_step) as f64
}

fn many(query: impl Fn(usize) -> String) -> Vec<String> {
    (0..RULES).map(query).collect()
}

/// A line of the table: rules, beside what they are compared with.
struct Line {
    name: &'static str,
    one: Vec<String>,
    many: Vec<String>,
    /// The ratio is divided by it: 1, or the number of rules.
    by: f64,
    /// What the project holds itself to.
    limit: f64,
}

fn lines() -> Vec<Line> {
    let one = || vec![format!("SELECT {ITEMS} {FROM} WHERE temperature > 10")];
    let equal = |one: &str, value: &dyn Fn(usize) -> String| {
        let query = |number: usize| format!("SELECT {ITEMS} {FROM} WHERE {one} = {}", value(number));
        (vec![query(17)], many(query))
    };
    let (text, texts) = equal("type", &|number| format!("'x{number}'"));
    let (number, numbers) = equal("number", &|number| number.to_string());
    let (level, levels) = equal("topic(2)", &|number| format!("'z{number}'"));
    let (star, stars) = (|number: usize| format!("SELECT * {FROM} WHERE type = 'x{number}'"), RULES as f64);
    vec![
        Line {
            name: "1,000 topic filters, one matches",
            one: one(),
            many: many(|number| match number {
                17 => one().concat(),
                _ => format!("SELECT {ITEMS} FROM 'plant/{number}/+/sensors/+' WHERE temperature > 10"),
            }),
            by: 1.0,
            limit: 1.5,
        },
        Line {
            name: "1,000 rules match, per rule: other limits",
            one: one(),
            many: many(|number| format!("SELECT {ITEMS} {FROM} WHERE temperature > {}", number as f64 / 100.0 + 10.0)),
            by: stars,
            limit: 0.1,
        },
        Line {
            name: "1,000 rules match, per rule: other limits and items",
            one: one(),
            many: many(|number| {
                let limit = number as f64 / 100.0 + 10.0;
                format!(
                    "SELECT temperature * 1.8 + {number} AS f, humidity, topic(4) AS device {FROM} \
                     WHERE temperature > {limit}"
                )
            }),
            by: stars,
            limit: 0.1,
        },
        Line { name: "1,000 rules, type = 'x17'", one: text, many: texts, by: 1.0, limit: 10.0 },
        Line { name: "1,000 rules, number = 17", one: number, many: numbers, by: 1.0, limit: 10.0 },
        Line { name: "1,000 rules, topic(2) = 'z17'", one: level, many: levels, by: 1.0, limit: 10.0 },
        Line {
            name: "1,000 rules, SELECT * … type = 'x17'",
            one: vec![star(17)],
            many: many(star),
            by: 1.0,
            limit: 10.0,
        },
        Line {
            name: "SELECT * to a topic, beside routing alone",
            one: vec![format!("SELECT {ITEMS} FROM 'plant/#'")],
            many: vec![format!("SELECT * {FROM} INTO TOPIC 'copy'")],
            by: 1.0,
            limit: f64::NAN,
        },
    ]
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn table(messages: usize, rounds: usize) {
    println!("CPU a message on one thread, median of {rounds} rounds; the ratio is measured round by round");
    println!("{:54} {:>8} {:>11} {:>12} {:>8} {:>6}", "", "commit", "one", "many", "ratio", "limit");
    let loads = [8_192, 100].map(|commit| (commit, Load::new(messages, commit.min(messages / 2))));
    let words = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    for line in lines().into_iter().filter(|line| line.name.contains(&words)) {
        for (commit, load) in &loads {
            // Every rule matches every message: a part of them says enough.
            let at_most = if line.by > 1.0 { 4 * 8_192 } else { messages };
            let (mut one, mut many, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rounds {
                one.push(cost(&line.one, load, messages));
                many.push(cost(&line.many, load, at_most) / line.by);
                ratios.push(many[many.len() - 1] / one[one.len() - 1]);
            }
            let (one, many, ratio) = (median(&mut one), median(&mut many), median(&mut ratios));
            let limit = if line.limit.is_nan() { String::new() } else { line.limit.to_string() };
            println!("{:54} {commit:>8} {one:>8.1} ns {many:>9.1} ns {ratio:>8.3} {limit:>6}", line.name);
        }
    }
}

/// How long a change of one rule among a thousand holds up the messages behind it: from the control record to the
/// first batch evaluated.
fn change() {
    let query = |number: usize| format!("SELECT {ITEMS} {FROM} WHERE type = 'x{number}' AND temperature > 10");
    let one = Change::Put {
        kind: Kind::Rule,
        name: "another".into(),
        form: Form::Native,
        text: format!("CREATE RULE another AS {} INTO lake", query(RULES)),
    };
    let load = Load::after(200, 100, Some(&ChangeSet::new("bench", vec![one])));
    let mut spent = Vec::new();
    for _ in 0..5 {
        let mut evaluate = evaluate((0..RULES).map(query));
        let mut out = Vec::new();
        evaluate.step(&load.steps[0], &mut out);
        let start = cpu_ns();
        load.steps[1..].iter().for_each(|step| evaluate.step(step, &mut out));
        spent.push((cpu_ns() - start) as f64 / 1e6);
        black_box(&out);
    }
    println!(
        "a change of one rule among 1,000, with the batch of 100 messages behind it: {:.1} ms",
        median(&mut spent)
    );
}

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let measuring = std::env::args().any(|arg| arg == "--bench");
    let quick = std::env::var_os("HEDGEROW_BENCH_QUICK").is_some();
    match (measuring, quick) {
        (true, false) => table(32 * 8_192, 5),
        (true, true) => table(8 * 8_192, 3),
        (false, _) => table(2_048, 1),
    }
    change();
}
