//! Reading a text by the items of a pattern, strictly: case, digits and the end of the text must fit.

use super::pattern::{Field, Item, Need, OffsetForm};
use super::short;
use super::zone::Zone;

/// What a text says, field by field.
#[derive(Clone, Default)]
pub(super) struct Fields {
    values: Vec<(Field, i64)>,
    pub(super) offset_s: Option<i32>,
    pub(super) zone: Option<Zone>,
}

impl Fields {
    pub(super) fn get(&self, field: Field) -> Option<i64> {
        self.values.iter().find(|(known, _)| *known == field).map(|(_, value)| *value)
    }

    /// `None` if the text says two different things.
    pub(super) fn set(&mut self, field: Field, value: i64) -> Option<()> {
        match self.get(field) {
            Some(known) if known != value => None,
            Some(_) => Some(()),
            None => {
                self.values.push((field, value));
                Some(())
            }
        }
    }

    fn set_offset(&mut self, offset_s: i32) -> Option<()> {
        if self.offset_s.is_some_and(|known| known != offset_s) {
            return None;
        }
        self.offset_s = Some(offset_s);
        Some(())
    }
}

/// The fields of the whole text.
pub(super) fn read(items: &[Item], text: &str) -> Option<Fields> {
    let mut fields = Fields::default();
    let rest = sequence(items, text, &mut fields)?;
    rest.is_empty().then_some(fields)
}

/// Reads the items in order and returns what is left of the text.
fn sequence<'t>(items: &[Item], text: &'t str, fields: &mut Fields) -> Option<&'t str> {
    let mut rest = text;
    for (at, item) in items.iter().enumerate() {
        rest = match item {
            Item::Optional(inner) => {
                let mut tried = fields.clone();
                match sequence(inner, rest, &mut tried) {
                    Some(after) => {
                        *fields = tried;
                        after
                    }
                    None => rest,
                }
            }
            item => one(item, items.get(at + 1..).unwrap_or_default(), rest, fields)?,
        };
    }
    Some(rest)
}

fn one<'t>(item: &Item, following: &[Item], text: &'t str, fields: &mut Fields) -> Option<&'t str> {
    match item {
        Item::Literal(character) => text.strip_prefix(*character),
        Item::Number { field, min, max, signed } => {
            let reserved = if min == max { 0 } else { reserved(following) };
            let (value, rest) = number(text, *min, *max, *signed, reserved)?;
            fields.set(*field, value)?;
            Some(rest)
        }
        Item::ShortYear(field) => {
            let (value, rest) = digits(text, 2)?;
            fields.set(*field, 2000 + value)?;
            Some(rest)
        }
        Item::Name { field, names, short: is_short, first } => {
            let spelt = |name: &&'static str| if *is_short { short(name) } else { name };
            let at = names.iter().position(|name| text.starts_with(spelt(name)))?;
            fields.set(*field, *first + i64::try_from(at).ok()?)?;
            text.get(names.get(at).map(spelt)?.len()..)
        }
        Item::Fraction(width) => {
            let (value, rest) = digits(text, *width)?;
            fields.set(Field::Nano, value * 10_i64.pow(9_u32.checked_sub(u32::try_from(*width).ok()?)?))?;
            Some(rest)
        }
        Item::Offset(form) => {
            let (offset_s, rest) = offset(text, *form)?;
            fields.set_offset(offset_s)?;
            Some(rest)
        }
        Item::GmtOffset { full } => gmt_offset(text, *full, fields),
        Item::ZoneId | Item::ZoneName => {
            let end = text.find(|character: char| !is_zone(character)).unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            let zone = match item {
                Item::ZoneId => Zone::parse_id(name),
                _ => Zone::parse_name(name),
            };
            fields.zone = Some(zone?);
            Some(rest)
        }
        Item::Pad => Some(text.trim_start_matches(' ')),
        Item::Optional(_) => None,
    }
}

fn is_zone(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '/' | '_' | '+' | '-' | ':')
}

/// Digits that fixed-width numbers right behind need for themselves.
fn reserved(following: &[Item]) -> usize {
    following
        .iter()
        .map_while(|item| match item {
            Item::Number { min, max, .. } if min == max => Some(*min),
            Item::ShortYear(_) => Some(2),
            Item::Fraction(width) => Some(*width),
            _ => None,
        })
        .sum()
}

/// A number. More than `min` digits of a year of several letters need a plus, as they would be mistaken otherwise.
fn number(text: &str, min: usize, max: usize, signed: bool, reserved: usize) -> Option<(i64, &str)> {
    let (sign, unsigned) = match text.as_bytes().first() {
        Some(b'-') if signed => (Some('-'), text.get(1..)?),
        Some(b'+') if signed && min > 1 => (Some('+'), text.get(1..)?),
        _ => (None, text),
    };
    let found = unsigned.bytes().take(max + reserved).take_while(u8::is_ascii_digit).count();
    let taken = found.saturating_sub(reserved).max(min).min(max);
    if taken > found {
        return None;
    }
    if signed && min > 1 && (taken > min) != (sign == Some('+')) && sign != Some('-') {
        return None;
    }
    let (value, rest) = digits(unsigned, taken)?;
    Some((if sign == Some('-') { -value } else { value }, rest))
}

/// Exactly so many digits.
fn digits(text: &str, count: usize) -> Option<(i64, &str)> {
    let (digits, rest) = text.split_at_checked(count)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, rest))
}

/// `±HH`, `±HHmm`, `±HH:mm:ss` and so on, in seconds.
fn offset(text: &str, form: OffsetForm) -> Option<(i32, &str)> {
    if form.zulu
        && let Some(rest) = text.strip_prefix('Z')
    {
        return Some((0, rest));
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, mut rest) = digits(text.get(1..)?, 2)?;
    let mut size = hours * 3600;
    for (need, unit) in [(form.minutes, 60), (form.seconds, 1)] {
        let part = match need {
            Need::Never => None,
            _ if form.colon => rest.strip_prefix(':').and_then(|rest| digits(rest, 2)),
            _ => digits(rest, 2),
        };
        match part {
            Some((part, after)) if part < 60 => {
                size += part * unit;
                rest = after;
            }
            None if need != Need::Always => break,
            _ => return None,
        }
    }
    // `ZoneOffset` goes to 18 hours.
    if size > 18 * 3600 { None } else { Some((sign * i32::try_from(size).ok()?, rest)) }
}

fn gmt_offset<'t>(text: &'t str, full: bool, fields: &mut Fields) -> Option<&'t str> {
    let rest = text.strip_prefix("GMT")?;
    if !rest.starts_with(['+', '-']) {
        fields.set_offset(0)?;
        return Some(rest);
    }
    let padded;
    let two_digits = rest.as_bytes().get(2).is_some_and(u8::is_ascii_digit);
    let (spelt, skipped) = if full || two_digits {
        (rest, 0)
    } else {
        // One digit of hours is enough in the short form.
        padded = format!("{}0{}", rest.get(..1)?, rest.get(1..)?);
        (padded.as_str(), 1)
    };
    let minutes = if full { Need::Always } else { Need::Maybe };
    let form = OffsetForm { zulu: false, colon: true, minutes, seconds: Need::Maybe };
    let (offset_s, after) = offset(spelt, form)?;
    fields.set_offset(offset_s)?;
    rest.get(spelt.len() - after.len() - skipped..)
}
