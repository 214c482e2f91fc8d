//! The rule path from payloads in memory to rows with all their columns, on one thread.
//!
//! Every figure is CPU time a message (for machines that do other things too) with its ratio to simd-json's tape of the
//! same bytes, measured in the same run, round by round: a rule ought to cost less than parsing alone. DuckDB's scan of
//! the same messages as a file stands beside it, if `python3` (or `HEDGEROW_BENCH_PYTHON`) has the `duckdb` package.
//!
//! What bounds the arithmetic rule (`perf record` on one core of a busy EPYC, batches of 8,192): 55 to 60 % of its time
//! is reading payloads by their shape, some hundred instructions for each value (the end of a number, its digits, the
//! literal bytes before it, the bounds of every load); 15 % is turning cells into columns, 15 % the plan and the
//! output columns, 10 % making the messages. Batches of 100 add some 4 µs each for expressions and allocations.
//!
//! `cargo bench -p hedgerow-sql --bench rule_path` prints the table. `-- NAME` measures only the rules whose name
//! contains NAME. HEDGEROW_BENCH_BATCH=100 measures only batches of that size. Instructions can be counted on a busy
//! machine, too: `valgrind --tool=callgrind --toggle-collect='*Program*evaluate*' <the bench's binary> NAME`.

#![allow(missing_docs, reason = "a bench has no users")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a bench may fail loudly")]

mod fleet;
mod yardstick;

use std::hint::black_box;
use std::sync::Arc;

use fleet::{Fleet, Mixture};
use hedgerow_sql::ast::Dialect;
use hedgerow_sql::message::Message;
use hedgerow_sql::parse::parse_statement;
use hedgerow_sql::program::Program;
use hedgerow_sql::rule::Rule;

const MESSAGES: usize = 2_000_000;
const FEWER: usize = 500_000;
const ROUNDS: usize = 5;
const BATCHES: [usize; 2] = [8_192, 100];

const ARITHMETIC: &str = "SELECT temperature * 1.8 + 32 AS f, humidity, topic(3) AS device \
                          FROM 'macdonald/sensors/+' WHERE temperature > 50";
const TEXTS: &str = "SELECT concat(topic(3), '/', status) AS place, upper(status) AS state, battery \
                     FROM 'macdonald/sensors/+' WHERE startswith(topic(3), 'field-') AND status <> 'idle'";
const CHOICES: &str = "SELECT CASE WHEN temperature > 60 THEN 'hot' ELSE status END AS state, \
                       round(humidity / 3) AS h, nanvl(pressure, 0) AS p FROM 'macdonald/sensors/+'";
const ALL: &str = "SELECT * FROM 'macdonald/sensors/+'";
const EIGHT: &str = "SELECT reading0 * 1.8 + 32 AS a, reading1 + reading2 AS b, reading3, reading4, reading5, reading6, \
                     reading7, topic(3) AS device FROM 'macdonald/sensors/+' WHERE reading4 > 20";

fn rule(sql: &str) -> Arc<Rule> {
    let select = parse_statement(sql, Dialect::Aws2016).expect("the statement parses");
    Arc::new(Rule {
        name: "bench".into(),
        dialect: Dialect::Aws2016,
        text: sql.into(),
        enabled: true,
        select,
        filter: None,
        windowed: None,
        actions: Vec::new(),
        error_action: None,
    })
}

/// Memory comes from where the server gets it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The batch sizes to measure.
fn batches() -> Vec<usize> {
    let one = std::env::var("HEDGEROW_BENCH_BATCH").ok().and_then(|size| size.parse().ok());
    one.map_or(BATCHES.to_vec(), |size| vec![size])
}

/// How a program is made of a rule.
type Compile = fn(&[Arc<Rule>]) -> Program;

/// The rule over messages, in batches; the number of rows.
fn run(fleet: &Fleet, program: &mut Program, batch: usize, messages: std::ops::Range<usize>) -> usize {
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

/// What handing payloads on costs at the least: the messages are made, and each payload is copied.
fn copy(fleet: &Fleet, batch: usize) -> usize {
    let mut bytes = 0;
    let mut pending: Vec<Message<'_>> = Vec::with_capacity(batch);
    for start in (0..fleet.len()).step_by(batch) {
        pending.clear();
        pending.extend((start..(start + batch).min(fleet.len())).map(|number| fleet.message(number)));
        let mut copied = Vec::with_capacity(black_box(&pending).iter().map(|message| message.payload.len()).sum());
        pending.iter().for_each(|message| copied.extend_from_slice(message.payload));
        bytes += black_box(copied).len();
    }
    bytes
}

/// Nanoseconds this thread has been running.
fn cpu_ns() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}

/// CPU nanoseconds a message.
fn timed(fleet: &Fleet, work: impl FnOnce() -> usize) -> f64 {
    let start = cpu_ns();
    black_box(work());
    (cpu_ns() - start) as f64 / fleet.len() as f64
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures rules over a fleet and prints a line for each and batch size; the figures at the first batch size.
fn table(fleet: &Fleet, rules: &[(&str, &str, Compile)]) -> Vec<f64> {
    let length = fleet.bytes.len() as f64 / fleet.len() as f64;
    let mut tapes = Vec::new();
    let batches = batches();
    let mut spent = vec![vec![Vec::new(); batches.len()]; rules.len()];
    for _ in 0..ROUNDS {
        let mut bytes = fleet.bytes.clone();
        tapes.push(timed(fleet, || yardstick::tape(&mut bytes, &fleet.ends)));
        drop(bytes);
        for ((_, sql, compile), spent) in rules.iter().zip(&mut spent) {
            let rules = [rule(sql)];
            for (batch, spent) in batches.iter().zip(spent) {
                let mut program = compile(&rules);
                spent.push(timed(fleet, || run(fleet, &mut program, *batch, 0..fleet.len())));
            }
        }
    }
    println!("{} messages of {length:.1} bytes; simd-json's tape {:.1} ns", fleet.len(), median(&tapes));
    for ((name, ..), spent) in rules.iter().zip(&spent) {
        print!("  {name:44}");
        for (batch, spent) in batches.iter().zip(spent) {
            let ratios: Vec<f64> = spent.iter().zip(&tapes).map(|(ns, tape)| ns / tape).collect();
            print!("  {:7.1} ns {:5.2} x tape (batches of {batch})", median(spent), median(&ratios));
        }
        println!();
    }
    spent.iter().map(|spent| median(&spent[0])).collect()
}

/// Measures one rule over fleets of several mixtures, round by round, and prints each beside the first.
fn beside_uniform(mixtures: &[(&str, Mixture)], messages: usize) {
    let fleets: Vec<Fleet> = mixtures.iter().map(|(_, mixture)| Fleet::eight_fields(messages, *mixture)).collect();
    let rules = [rule(EIGHT)];
    for batch in batches() {
        let mut spent = vec![Vec::new(); fleets.len()];
        for _ in 0..ROUNDS {
            for (fleet, spent) in fleets.iter().zip(&mut spent) {
                let mut program = Program::new(&rules);
                spent.push(timed(fleet, || run(fleet, &mut program, batch, 0..fleet.len())));
            }
        }
        println!("{messages} messages of eight fields in batches of {batch}");
        let uniform = spent.first().cloned().unwrap_or_default();
        for ((name, _), spent) in mixtures.iter().zip(&spent) {
            let ratios: Vec<f64> = spent.iter().zip(&uniform).map(|(ns, uniform)| ns / uniform).collect();
            println!("  {name:44}  {:7.1} ns {:5.2} of the first", median(spent), median(&ratios));
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` only wants to see that it runs.
    let measuring = arguments.iter().any(|argument| argument == "--bench");
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    let is_wanted = |name: &str| name.contains(wanted);
    let scaled = |messages: usize| if measuring { messages } else { 20_000 };

    let rules: [(&str, &str, Compile); 4] = [
        ("arithmetic and comparison", ARITHMETIC, Program::new),
        ("texts and topic()", TEXTS, Program::new),
        ("CASE, division, nanvl", CHOICES, Program::new),
        ("SELECT * handed on", ALL, Program::new),
    ];
    let rules: Vec<_> = rules.into_iter().filter(|(name, ..)| is_wanted(name)).collect();
    let fleet = Fleet::farm(scaled(MESSAGES));
    let figures = table(&fleet, &rules);
    if is_wanted("SELECT * handed on") {
        for batch in batches() {
            println!("  (copying the payloads: {:.1} ns in batches of {batch})", timed(&fleet, || copy(&fleet, batch)));
        }
    }
    if is_wanted(rules.first().map_or("duckdb", |(name, ..)| name)) && is_wanted("arithmetic and comparison") {
        match yardstick::duckdb(&fleet) {
            Ok((ns, version)) => println!(
                "  DuckDB {version}, the same as NDJSON, one thread: {ns:.1} ns; the rule takes {:.2} of it",
                figures.first().copied().unwrap_or(f64::NAN) / ns
            ),
            Err(hint) => println!("  DuckDB is not measured: {hint}"),
        }
    }
    drop(fleet);

    if is_wanted("row by row") {
        let fleet = Fleet::farm(scaled(FEWER));
        let row_wise = [("arithmetic and comparison", ARITHMETIC), ("texts and topic()", TEXTS)];
        table(&fleet, &row_wise.map(|(_, sql)| ("row by row", sql, Program::by_reference as Compile)));
    }

    let mixtures = [
        ("eight decimal fields, uniform", Mixture::default()),
        ("10 % whole numbers in each", Mixture { whole: 10, ..Mixture::default() }),
        ("10 % missing in each of three", Mixture { missing: 10, ..Mixture::default() }),
        ("1 % with a text in one", Mixture { other: 1, ..Mixture::default() }),
        ("all of these", Mixture { whole: 10, missing: 10, other: 1 }),
    ];
    let mixtures: Vec<_> = mixtures.into_iter().filter(|(name, _)| is_wanted(name) || is_wanted("mixtures")).collect();
    if !mixtures.is_empty() {
        beside_uniform(&mixtures, scaled(FEWER));
    }
}
