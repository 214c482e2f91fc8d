//! Runs files of examples: a statement, a message, and what must come out. The same files judge every evaluation path.
//!
//! One JSON object a line. `id`, `section`, `sqlVersion` (or `native`), `sql`, `topic`, and `payload` (JSON; what is
//! sent is its text) or `payload_base64`. Of the message: `clientid`, `principal`, `accountid`, `sourceip`, `mqtt5`,
//! `protocol: "http"`, `basic_ingest_rule`. For external functions `stubs`: name, arguments, result. What must come
//! out is exactly one of
//!
//! - `expect`: the outgoing payload as JSON; numbers compare by value, or within the relative tolerance `approx`
//! - `expect_undefined`: the rule fires and its object is empty
//! - `expect_no_match`: nothing goes out
//! - `expect_error`: the statement is refused, or the rule ends without a row
//! - `expect_regex`: for each member a pattern of its text
//! - `expect_raw`, `expect_base64`: the outgoing bytes
//! - `expect_template`, `expect_template_regex`: the text of `template`, an action's parameter
//!
//! The remaining members (`source`, `basis`, `note`, `contested`, `doc_says`) say where an example comes from.

mod case;
mod judge;
mod scalar;

use std::fmt;

pub use case::{Case, Expected, FormatError, Stub};
pub use judge::Outcome;
pub use scalar::Scalar;

/// An evaluation path under test.
pub trait Evaluate {
    /// What comes of a case: its statement is parsed, and run over its message.
    fn evaluate(&self, case: &Case) -> Outcome;
}

impl<F: Fn(&Case) -> Outcome> Evaluate for F {
    fn evaluate(&self, case: &Case) -> Outcome {
        self(case)
    }
}

/// A case that did not come out as it should.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The case.
    pub id: String,
    /// Its statement.
    pub sql: String,
    /// What should have come out.
    pub expected: String,
    /// What did.
    pub actual: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}\n  expected {}\n  got      {}", self.id, self.sql, self.expected, self.actual)
    }
}

/// How a file did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Cases that came out right.
    pub passed: usize,
    /// Those that did not.
    pub failed: Vec<Failure>,
    /// Those not selected.
    pub skipped: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failed {
            writeln!(out, "{failure}")?;
        }
        write!(out, "{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped)
    }
}

/// Runs the cases of a file for which `select` holds.
pub fn run_file(text: &str, path: &dyn Evaluate, select: impl Fn(&Case) -> bool) -> Result<Report, FormatError> {
    let mut report = Report::default();
    for case in case::read(text)? {
        if !select(&case) {
            report.skipped += 1;
            continue;
        }
        let outcome = path.evaluate(&case);
        if judge::accepts(&case, &outcome) {
            report.passed += 1;
        } else {
            let expected = case.expected.to_string();
            report.failed.push(Failure { id: case.id, sql: case.sql, expected, actual: outcome.to_string() });
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests;
