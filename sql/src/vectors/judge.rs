//! Whether what came out is what should have.

use std::fmt;

use fancy_regex::Regex;

use super::case::{Case, Expected};
use crate::ast::Dialect;
use crate::json;
use crate::value::{Object, Value};

/// What came of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The statement or the template was refused.
    Refused(String),
    /// The rule ended without a row.
    Failed(String),
    /// WHERE or FROM did not hold.
    NoMatch,
    /// A row went out.
    Row {
        /// Its bytes.
        payload: Vec<u8>,
        /// The template's text, if the case has one.
        template: Option<String>,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Refused(reason) => write!(out, "a refusal: {reason}"),
            Outcome::Failed(reason) => write!(out, "a failure: {reason}"),
            Outcome::NoMatch => write!(out, "no match"),
            Outcome::Row { payload, template } => {
                write!(out, "{}", String::from_utf8_lossy(payload))?;
                template.as_ref().map_or(Ok(()), |template| write!(out, " with the text {template:?}"))
            }
        }
    }
}

/// True if the outcome is the expected one.
pub(super) fn accepts(case: &Case, outcome: &Outcome) -> bool {
    let (payload, template) = match (&case.expected, outcome) {
        (Expected::Error, Outcome::Refused(_) | Outcome::Failed(_)) | (Expected::NoMatch, Outcome::NoMatch) => {
            return true;
        }
        (_, Outcome::Row { payload, template }) => (payload, template.as_deref()),
        _ => return false,
    };
    let value = || json::parse(payload, Dialect::Aws2016).ok();
    match &case.expected {
        Expected::Error | Expected::NoMatch => false,
        Expected::Payload(expected) => value().is_some_and(|actual| same(expected, &actual, case.approx)),
        Expected::Undefined => value() == Some(Value::object(Object::new())),
        Expected::Patterns(patterns) => value().is_some_and(|actual| {
            patterns
                .iter()
                .all(|(name, pattern)| actual.member(name).to_text().is_some_and(|text| is_like(pattern, &text)))
        }),
        Expected::Bytes(expected) => expected == payload,
        Expected::Template(expected) => template == Some(expected.as_str()),
        Expected::TemplatePattern(pattern) => template.is_some_and(|text| is_like(pattern, text)),
    }
}

fn is_like(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|regex| regex.is_match(text).unwrap_or(false))
}

/// Equality by the language, numbers within the tolerance.
fn same(expected: &Value, actual: &Value, approx: Option<f64>) -> bool {
    match (expected, actual) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(&**b).all(|(a, b)| same(a, b, approx)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b, approx)))
        }
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
