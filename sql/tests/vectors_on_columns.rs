//! The vectors once more, through programs: shapes, columns and plans mean what the reference means.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod columns;

use columns::Columns;
use hedgerow_sql::vectors::run_file;

#[track_caller]
fn check(file: &str, at_least: usize) {
    for into_sink in [false, true] {
        let report = run_file(file, &Columns { into_sink }, Columns::can_run).unwrap();
        assert!(report.failed.is_empty(), "{report}");
        assert!(report.passed >= at_least, "{report}");
    }
}

#[test]
fn aws_documents() {
    check(include_str!("vectors/iot-sql.jsonl"), 1200);
}

#[test]
fn native_rules() {
    check(include_str!("vectors/native.jsonl"), 130);
}
