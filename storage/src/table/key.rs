//! Keys of table rows and their stored form, whose byte order is the order of the keys.
//!
//! A row's key is its hash key, followed by its range key if the table has one. Each element is written so that no
//! encoding is the beginning of another: elements can be put one after the other, and all keys that begin with some
//! elements lie together. Between kinds the order is booleans, numbers, text.
//!
//! | kind    | bytes |
//! |---------|-------|
//! | false, true | `10`, `11` |
//! | number < 0 | `21`, then the bytes of its absolute value, every bit flipped |
//! | number = 0 | `22` |
//! | number > 0 | `23`, exponent, digits, `00` |
//! | text    | `30`, UTF-8 with every `00` written as `00 ff`, then `00` |
//!
//! A number is `0.d₁d₂… × 10^e` with d₁ and the last digit not zero, so that 1, 1.0 and 10e-1 are one key. The exponent
//! is one byte, `80 + e`, for |e| ≤ 124; outside of that `01` (below) or `fe` (above) and `e + 2³⁹` in five bytes, most
//! significant first. Digits go in pairs, `01` for 00 to `64` for 99, the last padded with a zero.
//!
//! This is format 1 of keys; it is named by the row format in the table's catalogue entry.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Keys are refused when hash and range key together are longer than this in their stored form.
pub const MAX_KEY_BYTES: usize = 8 * 1024;

const FALSE: u8 = 0x10;
const TRUE: u8 = 0x11;
const NEGATIVE: u8 = 0x21;
const ZERO: u8 = 0x22;
const POSITIVE: u8 = 0x23;
const TEXT: u8 = 0x30;

const BELOW: u8 = 0x01;
const ABOVE: u8 = 0xfe;
const SHORT: i64 = 124;
const BIAS: i64 = 1 << 39;

/// One key value: of a hash key or of a range key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A boolean.
    Bool(bool),
    /// An exact number.
    Number(Number),
    /// Text.
    Text(String),
}

impl Key {
    /// A text key.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The number `mantissa × 10^-scale`.
    pub fn number(mantissa: i128, scale: i32) -> Self {
        Self::Number(Number { mantissa, scale })
    }

    /// Appends the stored form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
            Self::Number(number) => number.encode(out),
            Self::Text(text) => {
                encode_text_prefix(text, out);
                out.push(0);
            }
        }
    }

    /// Reads one key from the front of `bytes`; None if these are not bytes that `encode` wrote.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        match take(bytes)? {
            FALSE => Some(Self::Bool(false)),
            TRUE => Some(Self::Bool(true)),
            ZERO => Some(Self::number(0, 0)),
            POSITIVE => Number::decode(bytes, 0).map(Self::Number),
            NEGATIVE => Number::decode(bytes, 0xff).map(Self::Number),
            TEXT => decode_text(bytes).map(Self::Text),
            _ => None,
        }
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Key {
    fn from(value: i64) -> Self {
        Self::number(value.into(), 0)
    }
}

impl From<bool> for Key {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// As a person would write it; text is bare, as in a URL.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// `mantissa × 10^-scale`, compared by value.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    /// The digits as a whole number.
    pub mantissa: i128,
    /// How many of them stand behind the decimal point; may be negative.
    pub scale: i32,
}

impl Number {
    /// Without trailing zeros: (negative, digits as a number, exponent of ten of its last digit). None for zero.
    fn normal(self) -> Option<(bool, u128, i64)> {
        let mut digits = self.mantissa.unsigned_abs();
        if digits == 0 {
            return None;
        }
        let mut power = -i64::from(self.scale);
        while digits.is_multiple_of(10) {
            digits /= 10;
            power += 1;
        }
        Some((self.mantissa < 0, digits, power))
    }

    fn encode(self, out: &mut Vec<u8>) {
        let Some((negative, mut digits, power)) = self.normal() else {
            out.push(ZERO);
            return;
        };
        out.push(if negative { NEGATIVE } else { POSITIVE });
        let start = out.len();
        let count = digits.ilog10() + 1;
        encode_exponent(power + i64::from(count), out);
        if !count.is_multiple_of(2) {
            // A 39-digit number may not fit once it is padded: its last digit is split off instead.
            let last = digits % 10;
            encode_pairs(digits / 10, out);
            digits = last * 10;
        }
        encode_pairs(digits, out);
        out.push(0);
        if negative {
            for byte in out.iter_mut().skip(start) {
                *byte = !*byte;
            }
        }
    }

    /// Reads what follows the kind byte; `flip` is ff for negative numbers.
    fn decode(bytes: &mut &[u8], flip: u8) -> Option<Self> {
        let exponent = match take(bytes)? ^ flip {
            BELOW | ABOVE => {
                let mut wide = 0;
                for _ in 0..5 {
                    wide = (wide << 8) | i64::from(take(bytes)? ^ flip);
                }
                wide - BIAS
            }
            short => i64::from(short) - 0x80,
        };
        let (mut digits, mut count) = (0_u128, 0_i64);
        loop {
            match take(bytes)? ^ flip {
                0 => break,
                pair @ 1..=100 => {
                    let pair = u128::from(pair - 1);
                    // The padding of a 39-digit number would not fit: a last pair `d0` can be taken as `d` alone.
                    let padded = bytes.first()? ^ flip == 0 && pair.is_multiple_of(10);
                    let (factor, value, width) = if padded { (10, pair / 10, 1) } else { (100, pair, 2) };
                    digits = digits.checked_mul(factor)?.checked_add(value)?;
                    count += width;
                }
                _ => return None,
            }
        }
        // The scale of the shortest spelling can be out of range where the original's was not.
        let mut scale = count - exponent;
        while scale < i64::from(i32::MIN) {
            digits = digits.checked_mul(10)?;
            scale += 1;
        }
        let mantissa = if flip == 0 { i128::try_from(digits).ok()? } else { 0_i128.checked_sub_unsigned(digits)? };
        Some(Self { mantissa, scale: scale.try_into().ok()? })
    }
}

/// Base-100 digits of a number with an even count of digits, most significant first. A leading zero digit of an
/// even-sized number cannot occur: the caller splits odd ones.
fn encode_pairs(digits: u128, out: &mut Vec<u8>) {
    let start = out.len();
    let mut rest = digits;
    while rest > 0 {
        out.push(u8::try_from(rest % 100).unwrap_or(0) + 1);
        rest /= 100;
    }
    if let Some(pairs) = out.get_mut(start..) {
        pairs.reverse();
    }
}

fn encode_exponent(exponent: i64, out: &mut Vec<u8>) {
    if exponent.abs() <= SHORT {
        out.push(u8::try_from(exponent + 0x80).unwrap_or(ABOVE));
        return;
    }
    out.push(if exponent < 0 { BELOW } else { ABOVE });
    out.extend((exponent + BIAS).to_be_bytes().into_iter().skip(3));
}

/// The beginning that all texts starting with `prefix` have in common.
pub(super) fn encode_text_prefix(prefix: &str, out: &mut Vec<u8>) {
    out.push(TEXT);
    for &byte in prefix.as_bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
}

fn decode_text(bytes: &mut &[u8]) -> Option<String> {
    let mut text = Vec::new();
    loop {
        match take(bytes)? {
            0 if bytes.first() == Some(&0xff) => {
                take(bytes)?;
                text.push(0);
            }
            0 => return String::from_utf8(text).ok(),
            byte => text.push(byte),
        }
    }
}

fn take(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.normal() == other.normal()
    }
}

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.normal().hash(state);
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut a, mut b) = (Vec::with_capacity(24), Vec::with_capacity(24));
        self.encode(&mut a);
        other.encode(&mut b);
        a.cmp(&b)
    }
}

/// In plain digits where that is short, else with an exponent.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((negative, digits, power)) = self.normal() else {
            return f.write_str("0");
        };
        if negative {
            f.write_str("-")?;
        }
        let digits = digits.to_string();
        let point = power + i64::try_from(digits.len()).unwrap_or(0);
        if power >= 0 && point <= 39 {
            return write!(f, "{digits}{:0<zeros$}", "", zeros = usize::try_from(power).unwrap_or(0));
        }
        if power < 0 && point > 0 {
            let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
            return write!(f, "{whole}.{fraction}");
        }
        if power < 0 && point > -6 {
            return write!(f, "0.{:0<zeros$}{digits}", "", zeros = usize::try_from(-point).unwrap_or(0));
        }
        write!(f, "{digits}e{power}")
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
