//! Patterns of `java.time.format.DateTimeFormatter`, taken apart
//! (<https://docs.oracle.com/en/java/javase/11/docs/api/java.base/java/time/format/DateTimeFormatter.html>).

use std::iter::Peekable;
use std::str::Chars;

/// A field of a date or time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Era,
    /// Of the calendar; negative before 1 BC.
    Year,
    YearOfEra,
    Quarter,
    Month,
    WeekYear,
    Week,
    /// 1 to 7 from Monday.
    Weekday,
    Day,
    DayOfYear,
    /// 0 for AM.
    HalfDay,
    /// 0-23.
    Hour,
    /// 1-24.
    ClockHour,
    /// 0-11.
    HalfHour,
    /// 1-12.
    ClockHalfHour,
    Minute,
    Second,
    Nano,
    MilliOfDay,
    NanoOfDay,
}

/// How an offset is spelt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OffsetForm {
    /// `Z` stands for no offset.
    pub(super) zulu: bool,
    /// Colons between the parts.
    pub(super) colon: bool,
    pub(super) minutes: Need,
    pub(super) seconds: Need,
}

/// Whether a part must be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    Never,
    Maybe,
    Always,
}

/// A piece of a pattern.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Item {
    Literal(char),
    /// A number of `min` to `max` digits; `signed` allows a minus, and a plus in front of more than `min` digits.
    Number {
        field: Field,
        min: usize,
        max: usize,
        signed: bool,
    },
    /// Two digits from 2000 to 2099.
    ShortYear(Field),
    /// A name of `names`, numbered from `first`.
    Name {
        field: Field,
        names: &'static [&'static str],
        short: bool,
        first: i64,
    },
    /// Exactly so many digits of a second's fraction.
    Fraction(usize),
    Offset(OffsetForm),
    /// `GMT+8`, `GMT+08:00`.
    GmtOffset {
        full: bool,
    },
    /// `Europe/Paris`, or an offset.
    ZoneId,
    /// `CET`.
    ZoneName,
    /// Blanks, as many as needed, in front of the next item.
    Pad,
    /// What stands in brackets may be missing.
    Optional(Vec<Item>),
}

const ERAS: [&str; 2] = ["BC", "AD"];
const HALVES: [&str; 2] = ["AM", "PM"];
/// Deeper brackets are refused.
const MAX_NESTING: usize = 16;

/// The items of a pattern; `None` if it is none.
pub(super) fn compile(pattern: &str) -> Option<Vec<Item>> {
    let mut characters = pattern.chars().peekable();
    let items = items(&mut characters, 0)?;
    characters.next().is_none().then_some(items)
}

/// Items up to the end, or to the bracket that closes this level (which is read). An open bracket may stay open.
fn items(characters: &mut Peekable<Chars<'_>>, depth: usize) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    while let Some(character) = characters.next() {
        match character {
            '[' if depth < MAX_NESTING => items.push(Item::Optional(self::items(characters, depth + 1)?)),
            ']' if depth > 0 => return Some(items),
            '[' | ']' | '{' | '}' | '#' => return None,
            '\'' => quoted(characters, &mut items)?,
            letter if letter.is_ascii_alphabetic() => {
                let mut run = 1;
                while characters.next_if_eq(&letter).is_some() {
                    run += 1;
                }
                items.push(item(letter, run)?);
            }
            other => items.push(Item::Literal(other)),
        }
    }
    Some(items)
}

fn quoted(characters: &mut Peekable<Chars<'_>>, items: &mut Vec<Item>) -> Option<()> {
    if characters.next_if_eq(&'\'').is_some() {
        items.push(Item::Literal('\''));
        return Some(());
    }
    loop {
        match characters.next()? {
            '\'' if characters.next_if_eq(&'\'').is_some() => items.push(Item::Literal('\'')),
            '\'' => return Some(()),
            other => items.push(Item::Literal(other)),
        }
    }
}

fn item(letter: char, run: usize) -> Option<Item> {
    Some(match (letter, run) {
        ('G', 1..=3) => Item::Name { field: Field::Era, names: &ERAS, short: false, first: 0 },
        ('u', run) => year(Field::Year, run)?,
        ('y', run) => year(Field::YearOfEra, run)?,
        ('Y', run) => year(Field::WeekYear, run)?,
        ('D', 1..=3) => Item::Number { field: Field::DayOfYear, min: run, max: 3, signed: false },
        ('M' | 'L', 3 | 4) => Item::Name { field: Field::Month, names: &super::MONTHS, short: run == 3, first: 1 },
        ('M' | 'L', run) => small(Field::Month, run)?,
        ('Q' | 'q', run) => small(Field::Quarter, run)?,
        ('d', run) => small(Field::Day, run)?,
        ('w', run) => small(Field::Week, run)?,
        ('E', 1..=4) | ('e' | 'c', 3 | 4) => {
            Item::Name { field: Field::Weekday, names: &super::WEEKDAYS, short: run != 4, first: 1 }
        }
        ('a', 1) => Item::Name { field: Field::HalfDay, names: &HALVES, short: false, first: 0 },
        ('H', run) => small(Field::Hour, run)?,
        ('k', run) => small(Field::ClockHour, run)?,
        ('K', run) => small(Field::HalfHour, run)?,
        ('h', run) => small(Field::ClockHalfHour, run)?,
        ('m', run) => small(Field::Minute, run)?,
        ('s', run) => small(Field::Second, run)?,
        ('S', 1..=9) => Item::Fraction(run),
        ('A', 1..=18) => Item::Number { field: Field::MilliOfDay, min: run, max: 18, signed: false },
        ('n', 1..=18) => Item::Number { field: Field::Nano, min: run, max: 18, signed: false },
        ('N', 1..=18) => Item::Number { field: Field::NanoOfDay, min: run, max: 18, signed: false },
        ('V', 2) => Item::ZoneId,
        ('z', 1..=4) => Item::ZoneName,
        ('O', 1 | 4) | ('Z', 4) => Item::GmtOffset { full: run == 4 },
        ('X', 1..=5) => Item::Offset(offset(run, true)),
        ('x', 1..=5) => Item::Offset(offset(run, false)),
        ('Z', 1..=3) => Item::Offset(offset(2, false)),
        ('Z', 5) => Item::Offset(offset(5, true)),
        ('p', 1..) => Item::Pad,
        _ => return None,
    })
}

/// One letter: any number of digits. Two: that many.
fn small(field: Field, run: usize) -> Option<Item> {
    match run {
        1 => Some(Item::Number { field, min: 1, max: 18, signed: false }),
        2 => Some(Item::Number { field, min: 2, max: 2, signed: false }),
        _ => None,
    }
}

fn year(field: Field, run: usize) -> Option<Item> {
    match run {
        2 => Some(Item::ShortYear(field)),
        1 | 3..=18 => Some(Item::Number { field, min: run, max: 18, signed: true }),
        _ => None,
    }
}

fn offset(run: usize, zulu: bool) -> OffsetForm {
    OffsetForm {
        zulu,
        colon: run == 3 || run == 5,
        minutes: if run == 1 { Need::Maybe } else { Need::Always },
        seconds: if run >= 4 { Need::Maybe } else { Need::Never },
    }
}
