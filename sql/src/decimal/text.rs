//! Numbers as text: reading JSON and SQL spellings, writing in the manner of `BigDecimal.toString`.

use std::fmt;

use super::wide::Wide;
use super::{Decimal, round};

/// Digits read before the rest only matters for rounding.
const READ_DIGITS: u32 = 36;

impl Decimal {
    /// Reads `-?digits[.digits][(e|E)[+|-]digits]`. `None` for any other text, and beyond 1E+1000.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (number, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, parse_exponent(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = match number.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (number, ""),
        };
        if whole.is_empty() {
            return None;
        }
        let mut reader = Reader { magnitude: 0, read: 0, dropped: 0, inexact: false };
        for digit in whole.bytes().chain(fraction.bytes()) {
            reader.push(digit)?;
        }
        let scale = i64::try_from(fraction.len()).ok()? - reader.dropped - exponent;
        round(negative, Wide::from(reader.magnitude), scale, reader.inexact)
    }

    /// The nearest binary fraction. For the trigonometric family only.
    pub fn to_f64(self) -> f64 {
        format!("{}e{}", self.mantissa, -i64::from(self.scale)).parse().unwrap_or(f64::NAN)
    }

    /// The shortest decimal that reads back as `value`, with at least one digit after the point. `None` unless finite.
    pub fn from_f64(value: f64) -> Option<Decimal> {
        if !value.is_finite() {
            return None;
        }
        Decimal::parse(&format!("{value:?}"))
    }
}

/// The significant digits of a spelling, leading zeros left out.
struct Reader {
    magnitude: u128,
    read: u32,
    dropped: i64,
    inexact: bool,
}

impl Reader {
    fn push(&mut self, byte: u8) -> Option<()> {
        let digit = match byte {
            b'0'..=b'9' => u128::from(byte - b'0'),
            _ => return None,
        };
        if self.read >= READ_DIGITS {
            self.dropped += 1;
            self.inexact |= digit != 0;
        } else if self.read > 0 || digit != 0 {
            self.read += 1;
            self.magnitude = self.magnitude * 10 + digit;
        }
        Some(())
    }
}

/// An exponent; absurdly large ones saturate, which is far outside of the range either way.
fn parse_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = digits.bytes().fold(0_i64, |sum, byte| (sum * 10 + i64::from(byte - b'0')).min(1_000_000_000_000));
    Some(if negative { -value } else { value })
}

impl fmt::Display for Decimal {
    /// Plain when the scale is not negative and the leading digit is at 10^-6 or above, otherwise scientific.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.mantissa.unsigned_abs().to_string();
        if self.mantissa < 0 {
            out.write_str("-")?;
        }
        let exponent = self.exponent();
        if self.scale < 0 || exponent < -6 {
            let (first, rest) = digits.split_at(1);
            out.write_str(first)?;
            if !rest.is_empty() {
                write!(out, ".{rest}")?;
            }
            return if exponent == 0 { Ok(()) } else { write!(out, "E{exponent:+}") };
        }
        let scale = usize::try_from(self.scale).unwrap_or(0);
        if scale == 0 {
            return out.write_str(&digits);
        }
        match digits.len().checked_sub(scale) {
            Some(point @ 1..) => {
                let (whole, fraction) = digits.split_at(point);
                write!(out, "{whole}.{fraction}")
            }
            _ => write!(out, "0.{digits:0>scale$}"),
        }
    }
}
