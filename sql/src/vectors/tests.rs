use super::*;

/// Answers every case with the same bytes.
struct Parrot(&'static str);

impl Evaluate for Parrot {
    fn evaluate(&self, _: &Case) -> Outcome {
        Outcome::Row { payload: self.0.as_bytes().to_vec(), template: Some(self.0.to_owned()) }
    }
}

fn line(rest: &str) -> String {
    format!(r#"{{"id":"x","section":"s","sqlVersion":"2016-03-23","sql":"SELECT 1 AS r FROM 'a'","topic":"a",{rest}}}"#)
}

fn passes(rest: &str, answer: &'static str) -> bool {
    let report = run_file(&line(rest), &Parrot(answer), |_| true).unwrap();
    report.passed == 1
}

#[test]
fn a_wrong_answer_fails() {
    assert!(passes(r#""payload":{},"expect":{"r":1.0}"#, r#"{"r":1}"#));
    assert!(!passes(r#""payload":{},"expect":{"r":1}"#, r#"{"r":"1"}"#));
    assert!(!passes(r#""payload":{},"expect":{"r":1}"#, r#"{"r":1,"q":2}"#));
    assert!(passes(r#""payload":{},"expect":{"r":1},"approx":0.01"#, r#"{"r":1.005}"#));
    assert!(!passes(r#""payload":{},"expect":{"r":1},"approx":0.01"#, r#"{"r":1.02}"#));
    assert!(!passes(r#""payload":{},"expect_undefined":true"#, r#"{"r":1}"#));
    assert!(!passes(r#""payload":{},"expect_no_match":true"#, "{}"));
    assert!(!passes(r#""payload":{},"expect_error":true"#, "{}"));
    assert!(!passes(r#""payload":{},"expect_regex":{"r":"^a$"}"#, r#"{"r":"b"}"#));
    assert!(!passes(r#""payload":{},"expect_raw":"""#, "{}"));
    assert!(!passes(r#""payload":{},"template":"t","expect_template":"a""#, "b"));
}

#[test]
fn a_malformed_line_is_an_error() {
    for rest in [
        r#""payload":{}"#,
        r#""payload":{},"expect":1,"expect_error":true"#,
        r#""payload":{},"expects":1"#,
        r#""expect":1"#,
    ] {
        assert_eq!(run_file(&line(rest), &Parrot(""), |_| true).map_err(|error| error.line), Err(1), "{rest}");
    }
}

#[test]
fn cases_can_be_selected() {
    let report = run_file(&line(r#""payload":{},"expect":1"#), &Parrot("1"), |case| case.section == "other").unwrap();
    assert_eq!((report.passed, report.skipped), (0, 1));
}
