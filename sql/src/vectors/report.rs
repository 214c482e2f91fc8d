//! What is said of cases that did not come out as they should.

use std::fmt::Write as _;

use super::case::{Case, Expected, Step};
use super::diff::{Line, Side, diff};
use super::outcome::Outcome;
use crate::ast::Dialect;
use crate::diagnostic::{Diagnostic, Style};
use crate::json;

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

/// A case that did not come out as it should.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The case.
    pub id: String,
    /// The line of its file, from 1.
    pub line: usize,
    /// What it tests.
    pub subject: String,
    /// The message, or the time that passed.
    pub given: String,
    /// What should have come out, alternative by alternative or row by row.
    pub expected: Vec<String>,
    /// What did.
    pub actual: String,
    /// What the reference says, where it disagrees: a defect of Hedgerow.
    pub reference: Option<String>,
    /// The difference, where two JSON values can be compared.
    pub diff: Vec<Line>,
}

impl Failure {
    pub(super) fn of(case: &Case, step: &Step, outcome: &Outcome, reference: Option<&Outcome>) -> Box<Self> {
        Box::new(Self {
            id: case.id.clone(),
            line: step.line,
            subject: case.subject.to_string(),
            given: step.event.to_string(),
            expected: step.expected.iter().map(ToString::to_string).collect(),
            actual: outcome.to_string(),
            reference: reference.map(ToString::to_string),
            diff: difference(case, step, outcome),
        })
    }

    /// The failure for people, with the name of its file.
    pub fn render(&self, file: &str, style: Style) -> String {
        let paint = Paint(style);
        let mut out = format!("{} {file}:{}: {}\n", paint.bold("FAILED"), self.line, self.id);
        let _ = writeln!(out, "  {}", self.subject.replace('\n', "\n  "));
        let _ = writeln!(out, "  > {}", self.given);
        if let Some(reference) = &self.reference {
            let _ = writeln!(out, "  This is a defect of Hedgerow, please report it: two ways to evaluate differ.");
            let _ = writeln!(out, "  on columns:    {}\n  message by message: {reference}", self.actual);
        }
        if self.diff.is_empty() {
            for (number, expected) in self.expected.iter().enumerate() {
                let head = if number == 0 { "expected" } else { "     and" };
                let _ = writeln!(out, "  {}", paint.expected(&format!("- {head} {expected}")));
            }
            let _ = writeln!(out, "  {}", paint.actual(&format!("+      got {}", self.actual)));
        } else {
            let _ = writeln!(out, "  {} {}", paint.expected("- expected"), paint.actual("+ got"));
            for line in &self.diff {
                let _ = match line.side {
                    Side::Both => writeln!(out, "    {}", line.text),
                    Side::Expected => writeln!(out, "  {}", paint.expected(&format!("- {}", line.text))),
                    Side::Actual => writeln!(out, "  {}", paint.actual(&format!("+ {}", line.text))),
                };
            }
        }
        out
    }
}

/// Colours, if there are any.
struct Paint(Style);

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        match self.0 {
            Style::Plain => text.to_owned(),
            Style::Coloured => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }

    fn bold(&self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn expected(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn actual(&self, text: &str) -> String {
        self.with("31", text)
    }
}

/// Mistakes of a statement in one line.
pub(super) fn mistakes(mistakes: &[Diagnostic]) -> String {
    let said = mistakes.iter().filter(|mistake| mistake.is_error()).map(|mistake| {
        let help = mistake.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{}{help}", mistake.message)
    });
    said.collect::<Vec<_>>().join("; ")
}

/// Line by line, if one JSON value is expected and one row came.
fn difference(case: &Case, step: &Step, outcome: &Outcome) -> Vec<Line> {
    let ([expected], Outcome::Rows(rows)) = (step.expected.as_slice(), outcome) else { return Vec::new() };
    let ([row], true) = (rows.as_slice(), expected.target.as_ref().is_none_or(|target| goes_to(rows, target))) else {
        return Vec::new();
    };
    let Ok(actual) = json::parse(&row.payload, Dialect::Aws2016) else { return Vec::new() };
    match &expected.what {
        Expected::Payload(expected) => diff(expected, &actual, case.approx, false),
        Expected::Members(expected) => diff(expected, &actual, case.approx, true),
        _ => Vec::new(),
    }
}

fn goes_to(rows: &[super::Row], target: &String) -> bool {
    rows.iter().any(|row| row.targets.contains(target))
}
