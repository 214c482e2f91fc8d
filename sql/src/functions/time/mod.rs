//! Times as text. The two functions use two pattern languages that look alike and are not: `parse_time` writes by
//! Joda-Time's letters, `time_to_epoch` reads by those of `java.time`.

mod joda;
mod pattern;
mod read;
mod resolve;
mod zone;

use super::Function;
use super::Since::V2016;
use crate::value::Value;

/// Bytes of a pattern's text.
const MAX_PATTERN: usize = 1024;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::pure("parse_time", (2, 3), V2016, parse_time),
    Function::pure("time_to_epoch", (2, 2), V2016, time_to_epoch),
];

/// `parse_time(pattern, epoch milliseconds [, zone])`: the time as text.
fn parse_time(args: &[Value]) -> Value {
    let [pattern, time, rest @ ..] = args else { return Value::Undefined };
    let zone = match rest {
        [] => Some(zone::Zone::UTC),
        [zone] => zone.to_text().and_then(|id| zone::Zone::parse(&id)),
        _ => None,
    };
    let time_ms = time.to_int().and_then(|time| i64::try_from(time).ok());
    let (Some(pattern), Some(time_ms), Some(zone)) = (pattern.to_text(), time_ms, zone) else {
        return Value::Undefined;
    };
    if pattern.len() > MAX_PATTERN { Value::Undefined } else { joda::format(&pattern, time_ms, zone).into() }
}

/// `time_to_epoch(text, pattern)`: epoch milliseconds.
fn time_to_epoch(args: &[Value]) -> Value {
    let [text, pattern] = args else { return Value::Undefined };
    let (Some(text), Some(pattern)) = (text.to_text(), pattern.to_text()) else { return Value::Undefined };
    if pattern.len() > MAX_PATTERN {
        return Value::Undefined;
    }
    pattern::compile(&pattern)
        .and_then(|items| read::read(&items, &text))
        .and_then(|fields| resolve::epoch_ms(&fields))
        .into()
}

/// Month and weekday names in English, as both languages use them without a locale.
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// The first three letters of a name.
fn short(name: &str) -> &str {
    name.get(..3).unwrap_or(name)
}

#[cfg(test)]
mod tests;
