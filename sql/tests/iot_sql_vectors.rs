//! AWS rule statements mean what AWS says they mean, and what we decided where AWS is silent; native rules mean what
//! SQL users expect: the reference evaluator against every vector.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use hedgerow_sql::vectors::{Scalar, run_file};

#[track_caller]
fn check(file: &str, count: usize) {
    let report = run_file(file, &Scalar, |_| true).unwrap();
    assert!(report.failed.is_empty(), "{report}");
    assert_eq!((report.passed, report.skipped), (count, 0));
}

#[test]
fn aws_documents() {
    check(include_str!("vectors/iot-sql.jsonl"), 1263);
}

#[test]
fn native_rules() {
    check(include_str!("vectors/native.jsonl"), 134);
}
