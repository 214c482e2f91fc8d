//! Numbers straight from their spelling to a base-ten mantissa and scale.

use super::words::{Words, before_first, digits, non_digits};

/// A number as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// `mantissa × 10^-scale`, as spelt.
    Small {
        /// Digits without the point.
        mantissa: i64,
        /// Digits after the point.
        scale: u8,
        /// There is a fraction, and its last digit is 0 (so the number may be whole).
        zero_end: bool,
    },
    /// Right, up to 34 digits, but more than an `i64` holds.
    Wide,
}

/// Digits that the rule language keeps.
const MAX_DIGITS: usize = 34;

/// The largest scale that a [`Taken::Small`] has.
pub(crate) const MAX_SMALL_SCALE: usize = 18;

/// What the first eight bytes of a number's digits tell.
struct Head {
    negative: bool,
    /// Where the digits start, and the bytes from there.
    start: usize,
    word: u64,
    /// Which of them are no digits.
    ends: u64,
    /// How many digits come first: 1 to 8.
    whole: u32,
}

impl Head {
    /// `None`: there are no digits, or a 0 too many.
    #[inline(always)]
    fn of(bytes: &(impl Words + ?Sized), at: usize) -> Option<Self> {
        let head = Self::of_digits(bytes.word(at), at, false);
        // Most numbers have no sign.
        let head = match head.whole {
            0 if head.word as u8 == b'-' => Self::of_digits(bytes.word(at + 1), at + 1, true),
            _ => head,
        };
        let is_number = head.whole > 0 && (head.word as u8 != b'0' || head.whole == 1);
        is_number.then_some(head)
    }

    #[inline(always)]
    fn of_digits(word: u64, start: usize, negative: bool) -> Self {
        let ends = non_digits(word);
        Self { negative, start, word, ends, whole: before_first(ends) }
    }

    /// Whether a point follows the first digits, which are fewer than 8.
    #[inline(always)]
    fn has_point(&self) -> bool {
        (self.word >> (8 * self.whole)) as u8 == b'.'
    }

    /// How many bytes the digits on both sides of the point take, with it; 8 if perhaps more.
    #[inline(always)]
    fn end(&self) -> u32 {
        before_first(self.ends & (self.ends - 1))
    }
}

/// Reads the number that starts at `at` and gives it with the position after it. `None`: it is no JSON number, or has
/// more than 34 digits. An exponent is not read: the position then is that of its `e`.
#[inline(always)]
pub(crate) fn take_number(bytes: &(impl Words + ?Sized), at: usize) -> Option<(Taken, usize)> {
    let head = Head::of(bytes, at)?;
    let Head { negative, start, word, whole, .. } = head;
    if whole == 8 {
        return take_long(bytes, start, negative);
    }
    let sign = |magnitude: u64| if negative { -(magnitude as i64) } else { magnitude as i64 };
    if !head.has_point() {
        let taken = Taken::Small { mantissa: sign(digits(word, whole)), scale: 0, zero_end: false };
        return Some((taken, start + whole as usize));
    }
    let end = head.end();
    if end == 8 {
        return take_long(bytes, start, negative);
    }
    let scale = end - whole - 1;
    if scale == 0 {
        return None;
    }
    // The point is cut out, so that one multiplication reads both sides.
    let left = (1u64 << (8 * whole)) - 1;
    let joined = (word & left) | ((word >> 8) & !left);
    let taken = Taken::Small {
        mantissa: sign(digits(joined, end - 1)),
        scale: scale as u8,
        zero_end: (word >> (8 * (end - 1))) as u8 == b'0',
    };
    Some((taken, start + end as usize))
}

/// The position after the number that starts at `at`, where [`take_number`] would end; `None` where it gives none.
#[inline(always)]
pub(crate) fn skip_number(bytes: &(impl Words + ?Sized), at: usize) -> Option<usize> {
    let head = Head::of(bytes, at)?;
    let Head { start, whole, .. } = head;
    if whole == 8 {
        // Times in milliseconds, mostly.
        let next = bytes.word(start + 8);
        let more = before_first(non_digits(next));
        let ends = more < 8 && (next >> (8 * more)) as u8 != b'.';
        return if ends { Some(start + 8 + more as usize) } else { skip_long(bytes, start) };
    }
    if !head.has_point() {
        return Some(start + whole as usize);
    }
    match head.end() {
        8 => skip_long(bytes, start),
        end if end - whole == 1 => None,
        end => Some(start + end as usize),
    }
}

#[inline(never)]
fn skip_long(bytes: &(impl Words + ?Sized), start: usize) -> Option<usize> {
    let run = |mut at: usize| loop {
        match before_first(non_digits(bytes.word(at))) {
            8 => at += 8,
            count => break at + count as usize,
        }
    };
    let after_whole = run(start);
    if after_whole - start > 1 && bytes.word(start) as u8 == b'0' {
        return None;
    }
    if bytes.word(after_whole) as u8 != b'.' {
        return (after_whole - start <= MAX_DIGITS).then_some(after_whole);
    }
    let end = run(after_whole + 1);
    (end > after_whole + 1 && end - start - 1 <= MAX_DIGITS).then_some(end)
}

/// The same for numbers that do not end within eight bytes.
#[inline(never)]
fn take_long(bytes: &(impl Words + ?Sized), start: usize, negative: bool) -> Option<(Taken, usize)> {
    if let Some(taken) = take_sixteen(bytes, start, negative) {
        return Some(taken);
    }
    let (whole, after_whole) = digit_run(bytes, start, Some(0));
    let whole_digits = after_whole - start;
    if whole_digits > 1 && bytes.word(start) as u8 == b'0' {
        return None;
    }
    let (magnitude, end) = if bytes.word(after_whole) as u8 == b'.' {
        let (all, end) = digit_run(bytes, after_whole + 1, whole);
        if end == after_whole + 1 {
            return None;
        }
        (all, end)
    } else {
        (whole, after_whole)
    };
    let scale = end.saturating_sub(after_whole + 1);
    if whole_digits + scale > MAX_DIGITS {
        return None;
    }
    let taken = match magnitude.and_then(|m| i64::try_from(m).ok()) {
        Some(magnitude) if scale <= MAX_SMALL_SCALE => Taken::Small {
            mantissa: if negative { -magnitude } else { magnitude },
            scale: scale as u8,
            zero_end: scale > 0 && bytes.word(end - 1) as u8 == b'0',
        },
        _ => Taken::Wide,
    };
    Some((taken, end))
}

/// A whole number of 8 to 15 digits.
#[inline(always)]
fn take_sixteen(bytes: &(impl Words + ?Sized), start: usize, negative: bool) -> Option<(Taken, usize)> {
    let (word, next) = (bytes.word(start), bytes.word(start + 8));
    let more = before_first(non_digits(next));
    if non_digits(word) != 0 || word as u8 == b'0' || !(1..8).contains(&more) || (next >> (8 * more)) as u8 == b'.' {
        return None;
    }
    let magnitude = (digits(word, 8) * power(more) + digits(next, more)) as i64;
    let mantissa = if negative { -magnitude } else { magnitude };
    Some((Taken::Small { mantissa, scale: 0, zero_end: false }, start + 8 + more as usize))
}

/// Ten to the power of 1 to 8.
#[inline(always)]
fn power(count: u32) -> u64 {
    const POWERS: [u64; 16] =
        [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 0, 0, 0, 0, 0, 0, 0];
    POWERS.get(count as usize & 15).copied().unwrap_or(0)
}

/// Appends the digits from `at` to `number` and gives the position after them; `None` once it overflows.
fn digit_run(bytes: &(impl Words + ?Sized), mut at: usize, mut number: Option<u64>) -> (Option<u64>, usize) {
    loop {
        let word = bytes.word(at);
        let count = before_first(non_digits(word));
        if count == 0 {
            return (number, at);
        }
        number = number.and_then(|n| n.checked_mul(power(count))?.checked_add(digits(word, count)));
        at += count as usize;
        if count < 8 {
            return (number, at);
        }
    }
}

/// The position after the number at `at` by the full grammar and whether it has an exponent, or the position of the
/// mistake.
pub(super) fn number_end(bytes: &[u8], at: usize) -> Result<(usize, bool), usize> {
    let run = |from: usize| {
        let (_, end) = digit_run(bytes, from, None);
        if end == from { Err(from) } else { Ok(end) }
    };
    let start = at + usize::from(bytes.get(at) == Some(&b'-'));
    let mut end = run(start)?;
    if end - start > 1 && bytes.get(start) == Some(&b'0') {
        return Err(start + 1);
    }
    if bytes.get(end) == Some(&b'.') {
        end = run(end + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        return Ok((run(end + 1 + sign)?, true));
    }
    Ok((end, false))
}

#[cfg(test)]
mod tests {
    use super::super::words::Window;
    use super::*;

    fn small(text: &str) -> (i64, u8, bool) {
        for rest in ["", ",", "}", ",\"abcdefgh\":1"] {
            let bytes = format!("{text}{rest}");
            let (taken, end) = take_number(bytes.as_bytes(), 0).expect(&bytes);
            assert_eq!(end, text.len(), "{bytes}");
            assert_eq!(skip_number(bytes.as_bytes(), 0), Some(end), "{bytes}");
            assert_eq!(take_number(&Window::new(bytes.as_bytes()), 0), Some((taken, end)), "{bytes}");
            let Taken::Small { mantissa, scale, zero_end } = taken else { panic!("{bytes}: {taken:?}") };
            if rest.len() > 8 {
                return (mantissa, scale, zero_end);
            }
        }
        unreachable!()
    }

    #[test]
    fn small_numbers_keep_their_digits() {
        assert_eq!(small("0"), (0, 0, false));
        assert_eq!(small("-7"), (-7, 0, false));
        assert_eq!(small("51.3"), (513, 1, false));
        assert_eq!(small("21.50"), (2150, 2, true));
        assert_eq!(small("-0.005"), (-5, 3, false));
        assert_eq!(small("1234567"), (1_234_567, 0, false));
        assert_eq!(small("12345678"), (12_345_678, 0, false));
        assert_eq!(small("123456.7"), (1_234_567, 1, false));
        assert_eq!(small("1234567.8"), (12_345_678, 1, false));
        assert_eq!(small("1700000000000"), (1_700_000_000_000, 0, false));
        assert_eq!(small("1700000000000000000"), (1_700_000_000_000_000_000, 0, false));
        assert_eq!(small("51.300000000000004"), (51_300_000_000_000_004, 15, false));
        assert_eq!(small("9223372036854775807"), (i64::MAX, 0, false));
    }

    #[test]
    fn wide_numbers_are_told() {
        for text in ["9223372036854775808", "0.0000000000000000001", "1234567890123456789012345678901234"] {
            assert_eq!(take_number(text.as_bytes(), 0), Some((Taken::Wide, text.len())), "{text}");
            assert_eq!(skip_number(text.as_bytes(), 0), Some(text.len()), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            "-",
            ".5",
            "+1",
            "01",
            "-01",
            "1.",
            "12345678.",
            "00000000000",
            "x",
            "12345678901234567890123456789012345",
        ] {
            assert_eq!(take_number(text.as_bytes(), 0), None, "{text}");
            assert_eq!(skip_number(text.as_bytes(), 0), None, "{text}");
        }
    }

    #[test]
    fn the_full_grammar_takes_exponents() {
        for text in ["0", "-0", "1e5", "1E+5", "1.25e-300", "10"] {
            assert_eq!(number_end(text.as_bytes(), 0), Ok((text.len(), text.contains(['e', 'E']))), "{text}");
        }
        for (text, at) in [("-", 1), ("1.", 2), ("1e", 2), ("1e+", 3), ("01", 1), ("-x", 1)] {
            assert_eq!(number_end(text.as_bytes(), 0), Err(at), "{text}");
        }
    }
}
