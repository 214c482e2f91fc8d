//! Literals: quoted texts to the text they mean, intervals to microseconds.

use std::sync::Arc;

use crate::ast::{Dialect, Span};
use crate::value::Value;

/// A text taken out of a larger one, with the way back: which byte of the larger text each of its bytes came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extract {
    pub text: String,
    /// (byte of `text`, byte of the source): from here on both advance together, until the next entry.
    anchors: Vec<(usize, usize)>,
}

impl Extract {
    /// The next character of the text is the one at `source`.
    pub fn push(&mut self, c: char, source: usize) {
        let here = self.text.len();
        let expected = self.anchors.last().map(|&(text, from)| from + (here - text));
        if expected != Some(source) {
            self.anchors.push((here, source));
        }
        self.text.push(c);
    }

    /// The source ends here.
    pub fn close(&mut self, source: usize) {
        self.anchors.push((self.text.len(), source));
    }

    /// The byte of the source that a byte of the text came from.
    pub fn source(&self, at: usize) -> usize {
        let index = self.anchors.partition_point(|&(text, _)| text <= at);
        match index.checked_sub(1).and_then(|index| self.anchors.get(index)) {
            Some(&(text, source)) => source + (at - text),
            None => at,
        }
    }

    /// A span of the text as a span of the source.
    pub fn span(&self, span: Span) -> Span {
        let start = self.source(span.start);
        Span { start, end: self.source(span.end).max(start) }
    }
}

/// The text that a string token means. Outside native files `\\`, `\'` and `\"` lose their backslash, any other pair
/// keeps it, so that patterns like `'\d+'` work; in native files only the doubled quote is special.
pub(crate) fn unquote(token: &str, start: usize, dialect: Dialect) -> Extract {
    let mut out = Extract::default();
    let quote = token.chars().next().unwrap_or('\'');
    let inner = token.get(1..token.len().saturating_sub(1)).unwrap_or_default();
    let mut chars = inner.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let source = start + 1 + at;
        let next = chars.peek().map(|&(_, next)| next);
        match (c, next) {
            (c, Some(next)) if c == quote && next == quote => {
                chars.next();
                out.push(quote, source);
            }
            ('\\', Some(next @ ('\\' | '\'' | '"'))) if dialect != Dialect::Native => {
                chars.next();
                out.push(next, source);
            }
            _ => out.push(c, source),
        }
    }
    out.close(start + 1 + inner.len());
    out
}

/// A literal text value.
pub(crate) fn string(text: &str) -> Value {
    Value::String(Arc::from(text))
}

/// Microseconds of an interval such as `15 minutes` or `1 day 2 hours`; the error is what to tell the user.
pub(crate) fn interval(text: &str) -> Result<u64, String> {
    const FORM: &str = "write a number and a unit, as in '15 minutes' or '1 day 2 hours'";
    let mut total: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(FORM.into());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let amount: u64 = rest.get(..digits).unwrap_or_default().parse().map_err(|_| FORM.to_owned())?;
        rest = rest.get(digits..).unwrap_or_default().trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit = rest.get(..letters).unwrap_or_default();
        rest = rest.get(letters..).unwrap_or_default().trim_start_matches([' ', '\t', ',']);
        let micros = unit_us(unit)?;
        total = amount
            .checked_mul(micros)
            .and_then(|part| total.checked_add(part))
            .filter(|&total| total <= i64::MAX as u64)
            .ok_or_else(|| "the interval is too long".to_owned())?;
    }
    Ok(total)
}

fn unit_us(unit: &str) -> Result<u64, String> {
    const SECOND: u64 = 1_000_000;
    let unit = unit.to_ascii_lowercase();
    Ok(match unit.as_str() {
        "us" | "microsecond" | "microseconds" => 1,
        "ms" | "millisecond" | "milliseconds" => 1_000,
        "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * SECOND,
        "h" | "hour" | "hours" => 3_600 * SECOND,
        "d" | "day" | "days" => 86_400 * SECOND,
        "w" | "week" | "weeks" => 7 * 86_400 * SECOND,
        "month" | "months" | "year" | "years" => {
            return Err(format!("a {} has no fixed length: give days", unit.trim_end_matches('s')));
        }
        "" => return Err("the unit is missing: write '15 minutes', not '15'".into()),
        other => {
            return Err(format!("`{other}` is no unit: use milliseconds, seconds, minutes, hours, days or weeks"));
        }
    })
}

/// The interval as text, in the largest units that fit: the canonical form.
pub(crate) fn interval_text(mut us: u64) -> String {
    if us == 0 {
        return "0 seconds".into();
    }
    let mut parts = Vec::new();
    for (name, size) in [
        ("day", 86_400_000_000),
        ("hour", 3_600_000_000),
        ("minute", 60_000_000),
        ("second", 1_000_000),
        ("millisecond", 1_000),
        ("microsecond", 1),
    ] {
        let amount = us / size;
        us %= size;
        if amount > 0 {
            parts.push(format!("{amount} {name}{}", if amount == 1 { "" } else { "s" }));
        }
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        assert_eq!(interval("15 minutes"), Ok(900_000_000));
        assert_eq!(interval("1 day 2 hours"), Ok(93_600_000_000));
        assert_eq!(interval("10s"), Ok(10_000_000));
        assert!(interval("1 month").unwrap_err().contains("no fixed length"));
        assert!(interval("15").unwrap_err().contains("unit is missing"));
        assert!(interval("minutes").is_err());
        assert!(interval("99999999999999999999 days").is_err());
        assert!(interval("999999999999999 days").unwrap_err().contains("too long"));
        for us in [0, 1, 1_001, 90_000_000, 93_600_000_000] {
            assert_eq!(interval(&interval_text(us)), Ok(us));
        }
    }

    #[test]
    fn a_text_knows_where_its_characters_came_from() {
        let extract = unquote(r"'a''b\'c\d'", 10, Dialect::Aws2016);
        assert_eq!(extract.text, r"a'b'c\d");
        assert_eq!(extract.source(0), 11);
        assert_eq!(extract.source(2), 14);
        assert_eq!(extract.source(4), 17);
        let native = unquote(r"'a''b\'", 0, Dialect::Native);
        assert_eq!(native.text, r"a'b\");
    }
}
