//! Sizes and durations as people write them. A bare number is refused: nobody remembers which unit a key is in.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes, written `"64MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// As a length in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A duration, written `"10s"` or `"1h 30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

const SPANS_US: [(&str, u64); 6] =
    [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not a size: write a number and a unit, for example \"64MiB\"");
        let (number, unit) = split(text.trim()).ok_or_else(wrong)?;
        if unit.is_empty() && number == 0 {
            return Ok(Self(0));
        }
        let factor = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        number.checked_mul(factor).map(Self).ok_or_else(|| format!("\"{text}\" is too large"))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("\"{text}\" is not a duration: write a number and a unit, for example \"10s\" or \"15m\"");
        let mut total_us = 0_u64;
        let mut any = false;
        for word in text.split_whitespace() {
            let (number, unit) = split(word).ok_or_else(wrong)?;
            let factor = match SPANS_US.iter().find(|(name, _)| *name == unit) {
                Some((_, factor)) => *factor,
                None if unit.is_empty() && number == 0 => 1,
                None => return Err(wrong()),
            };
            let us = number.checked_mul(factor).ok_or_else(|| format!("\"{text}\" is too long"))?;
            total_us = total_us.checked_add(us).ok_or_else(|| format!("\"{text}\" is too long"))?;
            any = true;
        }
        if any { Ok(Self(Duration::from_micros(total_us))) } else { Err(wrong()) }
    }
}

/// `"64MiB"` → (64, "MiB"). Underscores may group digits, spaces may part number and unit.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number = digits.replace('_', "").parse().ok()?;
    Some((number, unit.trim_start()))
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in SIZES.iter().rev().take(3) {
            if self.0 >= *factor && self.0.is_multiple_of(*factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0.as_micros();
        for (unit, factor) in SPANS_US.iter().rev() {
            let factor = u128::from(*factor);
            if us >= factor && us.is_multiple_of(factor) {
                return write!(f, "{}{unit}", us / factor);
            }
        }
        write!(f, "{us}us")
    }
}

macro_rules! as_text {
    ($type:ident) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("text with a unit, such as \"64MiB\" or \"10s\"")
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

as_text!(ByteSize);
as_text!(Span);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_as_written() {
        assert_eq!("64MiB".parse(), Ok(ByteSize(64 << 20)));
        assert_eq!("1_000 kB".parse(), Ok(ByteSize(1_000_000)));
        assert_eq!("0".parse(), Ok(ByteSize(0)));
        assert_eq!("1h 30m".parse(), Ok(Span(Duration::from_secs(5400))));
        assert_eq!("500us".parse(), Ok(Span(Duration::from_micros(500))));
        assert_eq!("0s".parse(), Ok(Span(Duration::ZERO)));
    }

    #[test]
    fn a_bare_number_an_unknown_unit_and_an_overflow_are_refused() {
        for text in ["64", "64 mib", "", "MiB", "-1MiB", "1.5GiB", "99999999999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        for text in ["10", "10 seconds", "", "s", "-1s", "9999999999999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn display_reads_back() {
        for bytes in [0, 1, 1000, 1024, 64 << 20, 10 << 30, (10 << 30) + 1] {
            assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }
        for us in [0, 1, 1_500, 10_000_000, 5_400_000_000, 86_400_000_000] {
            let span = Span(Duration::from_micros(us));
            assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
