//! Whether what came out is what should have.

use fancy_regex::Regex;

use super::case::{Expectation, Expected, Step};
use super::outcome::{Outcome, Row};
use crate::ast::Dialect;
use crate::json;
use crate::value::{Object, Value};

/// True if the outcome of a step is the expected one: every expectation finds a row, and every row is expected.
pub(super) fn accepts(step: &Step, approx: Option<f64>, outcome: &Outcome) -> bool {
    let wants = |what: &Expected| step.expected.iter().any(|expected| expected.what == *what);
    let rows = match outcome {
        _ if step.expected.is_empty() => return true,
        Outcome::Refused(_) | Outcome::Failed(_) => return wants(&Expected::Error),
        Outcome::Rows(rows) => rows,
    };
    let fits = |expected: &Expectation, row: &Row| {
        let goes_there = |target: &String| row.targets.contains(target);
        expected.target.as_ref().is_none_or(goes_there) && holds(&expected.what, row, approx)
    };
    let nothing = |expected: &&Expectation| expected.what == Expected::NoMatch;
    step.expected
        .iter()
        .filter(|expected| !nothing(expected))
        .all(|expected| rows.iter().any(|row| fits(expected, row)))
        && rows.iter().all(|row| step.expected.iter().any(|expected| fits(expected, row)))
}

/// Is the row what is expected of it, wherever it goes?
fn holds(expected: &Expected, row: &Row, approx: Option<f64>) -> bool {
    let value = || json::parse(&row.payload, Dialect::Aws2016).ok();
    match expected {
        Expected::Error | Expected::NoMatch => false,
        Expected::Anything => true,
        Expected::Payload(expected) => value().is_some_and(|actual| same(expected, &actual, approx)),
        Expected::Members(expected) => value().is_some_and(|actual| has_members(expected, &actual, approx)),
        Expected::Undefined => value() == Some(Value::object(Object::new())),
        Expected::Patterns(patterns) => value().is_some_and(|actual| {
            patterns
                .iter()
                .all(|(name, pattern)| actual.member(name).to_text().is_some_and(|text| is_like(pattern, &text)))
        }),
        Expected::Like(pattern) => is_like(pattern, &String::from_utf8_lossy(&row.payload)),
        Expected::Bytes(expected) => *expected == row.payload,
        Expected::Template(expected) => row.texts.contains(expected),
        Expected::TemplatePattern(pattern) => row.texts.iter().any(|text| is_like(pattern, text)),
    }
}

fn is_like(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|regex| regex.is_match(text).unwrap_or(false))
}

fn has_members(expected: &Value, actual: &Value, approx: Option<f64>) -> bool {
    match (expected, actual) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b, approx)))
        }
        _ => false,
    }
}

/// Equality by the language, numbers within the tolerance.
pub(super) fn same(expected: &Value, actual: &Value, approx: Option<f64>) -> bool {
    match (expected, actual) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(&**b).all(|(a, b)| same(a, b, approx)),
        (Value::Object(a), Value::Object(b)) => a.len() == b.len() && has_members(expected, actual, approx),
        (Value::Int(_) | Value::Decimal(_), Value::Int(_) | Value::Decimal(_)) => match approx {
            None => expected.equals(actual) == Some(true),
            Some(tolerance) => {
                let number = |value: &Value| value.to_decimal().map_or(f64::NAN, |number| number.to_f64());
                let (expected, actual) = (number(expected), number(actual));
                (expected - actual).abs() <= tolerance * expected.abs().max(1.0)
            }
        },
        _ => expected.equals(actual) == Some(true),
    }
}
