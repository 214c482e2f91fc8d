//! Writing a time by a Joda-Time pattern
//! (<https://www.joda.org/joda-time/apidocs/org/joda/time/format/DateTimeFormat.html>).

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use chrono::{Datelike, Timelike};

use super::zone::{Local, Zone, format_offset};
use super::{MONTHS, WEEKDAYS, short};

/// The most letters of one kind in a row.
const MAX_RUN: usize = 64;

/// The text, or `None` for a pattern or a time that makes no sense.
pub(super) fn format(pattern: &str, epoch_ms: i64, zone: Zone) -> Option<String> {
    let local = zone.local(epoch_ms)?;
    let mut out = String::new();
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\'' => quoted(&mut characters, &mut out)?,
            letter if letter.is_ascii_alphabetic() => {
                let mut run = 1;
                while characters.next_if_eq(&letter).is_some() {
                    run += 1;
                }
                if run > MAX_RUN {
                    return None;
                }
                field(letter, run, &local, zone, &mut out)?;
            }
            other => out.push(other),
        }
    }
    Some(out)
}

/// Text up to the closing quote; two quotes are one. The opening one is read.
fn quoted(characters: &mut Peekable<Chars<'_>>, out: &mut String) -> Option<()> {
    if characters.next_if_eq(&'\'').is_some() {
        out.push('\'');
        return Some(());
    }
    loop {
        match characters.next()? {
            '\'' if characters.next_if_eq(&'\'').is_some() => out.push('\''),
            '\'' => return Some(()),
            other => out.push(other),
        }
    }
}

fn field(letter: char, run: usize, local: &Local, zone: Zone, out: &mut String) -> Option<()> {
    let time = &local.time;
    let (of_era, hour) = (era_year(time.year()), i64::from(time.hour()));
    let half_hour = hour % 12;
    match letter {
        'G' => out.push_str(if time.year() > 0 { "AD" } else { "BC" }),
        'C' => number(i64::from(of_era / 100), run, out),
        'Y' => year(of_era, run, out),
        'y' => year(time.year(), run, out),
        'x' => year(time.iso_week().year(), run, out),
        'w' => number(time.iso_week().week().into(), run, out),
        'e' => number(time.weekday().number_from_monday().into(), run, out),
        'E' => out.push_str(name(&WEEKDAYS, time.weekday().num_days_from_monday(), run >= 4)?),
        'D' => number(time.ordinal().into(), run, out),
        'M' if run >= 3 => out.push_str(name(&MONTHS, time.month0(), run >= 4)?),
        'M' => number(time.month().into(), run, out),
        'd' => number(time.day().into(), run, out),
        'a' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
        'K' => number(half_hour, run, out),
        'h' => number(if half_hour == 0 { 12 } else { half_hour }, run, out),
        'H' => number(hour, run, out),
        'k' => number(if hour == 0 { 24 } else { hour }, run, out),
        'm' => number(time.minute().into(), run, out),
        's' => number(time.second().into(), run, out),
        'S' => fraction(time.nanosecond(), run, out),
        'z' if run >= 4 => out.push_str(local.long_name()),
        'z' => out.push_str(&local.abbreviation),
        'Z' if run == 1 => out.push_str(&format_offset(local.offset_s, false)),
        'Z' if run == 2 => out.push_str(&format_offset(local.offset_s, true)),
        'Z' => out.push_str(&zone.id()),
        _ => return None,
    }
    Some(())
}

/// 1 BC is the year 0.
fn era_year(year: i32) -> i32 {
    if year > 0 { year } else { 1_i32.saturating_sub(year) }
}

fn name<'n>(names: &[&'n str], at: u32, long: bool) -> Option<&'n str> {
    let name = names.get(at as usize)?;
    Some(if long { name } else { short(name) })
}

/// At least `width` digits.
fn number(value: i64, width: usize, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = if value < 0 { write!(out, "-{:0width$}", value.unsigned_abs()) } else { write!(out, "{value:0width$}") };
}

/// Two letters are the last two digits.
fn year(value: i32, run: usize, out: &mut String) {
    number(if run == 2 { i64::from(value.unsigned_abs() % 100) } else { value.into() }, run, out);
}

/// So many digits of the fraction, cut off and not rounded.
fn fraction(nanoseconds: u32, width: usize, out: &mut String) {
    let digits = format!("{:0<width$}", format!("{:09}", nanoseconds % 1_000_000_000));
    out.push_str(digits.get(..width).unwrap_or(&digits));
}
