//! AWS rule statements mean what AWS says they mean, and what we decided where AWS is silent: the reference evaluator
//! against every vector.

use hedgerow_sql::vectors::{Scalar, run_file};

#[test]
fn the_reference_evaluator_passes_every_vector() {
    let report = run_file(include_str!("vectors/iot-sql.jsonl"), &Scalar, |_| true).unwrap();
    assert!(report.failed.is_empty(), "{report}");
    assert_eq!((report.passed, report.skipped), (1263, 0));
}
