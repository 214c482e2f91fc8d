//! AWS rule statements mean what AWS says they mean, and what we decided where AWS is silent; native rules mean what
//! SQL users expect: every vector on the path of live messages and by the reference, alone and in shuffled batches.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use hedgerow_sql::diagnostic::Style;
use hedgerow_sql::vectors::{Alone, Report, mixed, read, run};

fn told(report: &Report) -> String {
    report.failed.iter().map(|failure| failure.render("vectors", Style::Plain)).collect()
}

#[track_caller]
fn check(text: &str, count: usize) {
    let (cases, problems) = read(text);
    assert!(problems.is_empty(), "{problems:?}");
    let report = run(&cases, &Alone, |_| true);
    assert!(report.failed.is_empty(), "{}", told(&report));
    assert_eq!(report.passed, count);
    for seed in 1..=3 {
        let report = mixed::run(&cases, &Alone, 1000, seed);
        assert!(report.failed.is_empty(), "seed {seed}: {}", told(&report));
        assert!(report.passed > count * 4 / 5, "only {} of {count} were mixed", report.passed);
    }
}

#[test]
fn aws_documents() {
    check(include_str!("vectors/iot-sql.jsonl"), 1263);
}

#[test]
fn native_rules() {
    check(include_str!("vectors/native.jsonl"), 134);
}

/// Every function and operator with every kind of value, numbers at the edge, statements that are refused.
#[test]
fn edges() {
    let text = include_str!("vectors/edges.jsonl");
    check(text, text.lines().count());
}

/// Functions line by line: patterns of every sort, times and zones, texts beyond ASCII, properties.
#[test]
fn functions_at_their_edges() {
    let text = include_str!("vectors/functions.jsonl");
    check(text, text.lines().count());
}
