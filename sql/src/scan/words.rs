//! Eight bytes at a time, in a general register: which of them are digits, and what number they spell.

/// A byte repeated eight times.
const fn repeat(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

const HIGH: u64 = repeat(0x80);

/// The eight bytes from `at`, the first in the lowest position; beyond the end they are zero.
#[inline(always)]
pub(crate) fn load8(bytes: &[u8], at: usize) -> u64 {
    if let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        return u64::from_le_bytes(*word);
    }
    load8_tail(bytes, at)
}

#[inline(never)]
fn load8_tail(bytes: &[u8], at: usize) -> u64 {
    let Some(rest) = bytes.get(at..) else { return 0 };
    if let Some(last) = bytes.last_chunk::<8>() {
        // All eight exist, only some of them lie before `at`. `rest` is empty at the very end.
        let before = 8 - rest.len();
        return if before == 8 { 0 } else { u64::from_le_bytes(*last) >> (8 * before) };
    }
    rest.iter().rev().fold(0, |word, &byte| (word << 8) | u64::from(byte))
}

/// The sixteen bytes from `at`, if there are as many.
#[inline(always)]
pub(crate) fn load16(bytes: &[u8], at: usize) -> Option<u128> {
    bytes.get(at..)?.first_chunk::<16>().map(|word| u128::from_le_bytes(*word))
}

/// Bytes that can be loaded eight at a time, zeros behind their end.
pub(crate) trait Words {
    /// The eight bytes from `at`, the first in the lowest position.
    fn word(&self, at: usize) -> u64;
}

impl Words for [u8] {
    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        load8(self, at)
    }
}

/// A payload with its last sixteen bytes at hand, so that loads near its end cost no more than others.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    pub(crate) bytes: &'a [u8],
    /// The last sixteen bytes, the very last one in the highest position; of shorter payloads, zeros before them.
    last: u128,
}

impl<'a> Window<'a> {
    #[inline(always)]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let last = match bytes.last_chunk::<16>() {
            Some(last) => u128::from_le_bytes(*last),
            None => bytes.iter().fold(0, |word, byte| (word >> 8) | (u128::from(*byte) << 120)),
        };
        Self { bytes, last }
    }

    /// The sixteen bytes from `at`; beyond the end they are zero.
    #[inline(always)]
    pub(crate) fn load16(&self, at: usize) -> u128 {
        match load16(self.bytes, at) {
            Some(word) => word,
            None => self.tail(at),
        }
    }

    /// What is left from `at`, of which there are fewer than sixteen bytes.
    #[inline(always)]
    fn tail(&self, at: usize) -> u128 {
        let left = self.bytes.len().saturating_sub(at);
        if left == 0 { 0 } else { self.last >> (8 * (16 - left.min(16))) }
    }
}

impl Words for Window<'_> {
    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        match self.bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(word) => u64::from_le_bytes(*word),
            None => self.tail(at) as u64,
        }
    }
}

/// The high bit of every byte that is not `0`..=`9`.
#[inline(always)]
pub(super) fn non_digits(word: u64) -> u64 {
    let low = word ^ repeat(b'0');
    (((low & !HIGH) + repeat(0x76)) | low) & HIGH
}

/// The high bit of every byte that is a slash, of the eight bytes from `at`.
#[inline]
pub(crate) fn slashes(bytes: &[u8], at: usize) -> u64 {
    let other = load8(bytes, at) ^ repeat(b'/');
    !(((other & !HIGH) + !HIGH) | other) & HIGH
}

/// How many bytes lie before the first marked one.
#[inline(always)]
pub(super) fn before_first(marks: u64) -> u32 {
    marks.trailing_zeros() / 8
}

/// The number that the first `count` (1 to 8) digits spell.
#[inline(always)]
pub(super) fn digits(word: u64, count: u32) -> u64 {
    let d = (word ^ repeat(b'0')) << (64 - 8 * count);
    let d = d.wrapping_mul(10).wrapping_add(d >> 8);
    let pairs = 0x0000_00ff_0000_00ff;
    let high = (d & pairs).wrapping_mul(0x000f_4240_0000_0064);
    let low = ((d >> 16) & pairs).wrapping_mul(0x0000_2710_0000_0001);
    high.wrapping_add(low) >> 32
}

/// The high bit of every byte that ends plain text: a quote, a backslash, a control character. Bytes above a marked one
/// may be marked wrongly; the first mark is exact.
#[inline(always)]
pub(super) fn text_ends(word: u64) -> u64 {
    let quote = word ^ repeat(b'"');
    let backslash = word ^ repeat(b'\\');
    let zero = |w: u64| w.wrapping_sub(repeat(1)) & !w;
    let control = word.wrapping_sub(repeat(0x20)) & !word;
    (zero(quote) | zero(backslash) | control) & HIGH
}

/// Whether a byte of the word is not ASCII.
#[inline(always)]
pub(super) fn beyond_ascii(word: u64) -> u64 {
    word & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_never_read_past_the_end() {
        let bytes = b"0123456789";
        assert_eq!(load8(bytes, 0).to_le_bytes(), *b"01234567");
        assert_eq!(load8(bytes, 5).to_le_bytes(), *b"56789\0\0\0");
        assert_eq!(load8(bytes, 10), 0);
        assert_eq!(load8(bytes, 11), 0);
        assert_eq!(load8(b"abc", 1).to_le_bytes(), *b"bc\0\0\0\0\0\0");
    }

    #[test]
    fn windows_load_what_is_there() {
        let all: Vec<u8> = (1..60).collect();
        for length in 0..all.len() {
            let bytes = &all[..length];
            let window = Window::new(bytes);
            for at in 0..length + 20 {
                let mut expected = [0; 16];
                let rest = bytes.get(at..).unwrap_or_default();
                let count = rest.len().min(16);
                expected[..count].copy_from_slice(&rest[..count]);
                assert_eq!(window.load16(at).to_le_bytes(), expected, "{length} {at}");
                assert_eq!(window.word(at).to_le_bytes(), expected[..8], "{length} {at}");
                assert_eq!(load8(bytes, at).to_le_bytes(), expected[..8], "{length} {at}");
            }
        }
    }

    #[test]
    fn digits_are_found_and_read() {
        let word = load8(b"1234,\"ab", 0);
        assert_eq!(before_first(non_digits(word)), 4);
        assert_eq!(digits(word, 4), 1234);
        assert_eq!(non_digits(load8(b"01928374", 0)), 0);
        assert_eq!(digits(load8(b"01928374", 0), 8), 1_928_374);
        assert_eq!(before_first(non_digits(load8(b"\xb01928374", 0))), 0);
        for byte in 0..=255u8 {
            let marked = non_digits(u64::from_le_bytes([byte; 8])) != 0;
            assert_eq!(marked, !byte.is_ascii_digit(), "{byte}");
        }
    }

    #[test]
    fn text_ends_where_it_should() {
        for byte in 0..=255u8 {
            let word = u64::from_le_bytes([b'a', byte, b'a', b'a', b'a', b'a', b'a', b'a']);
            let ends = byte < 0x20 || byte == b'"' || byte == b'\\';
            assert_eq!(text_ends(word) != 0, ends, "{byte}");
            if ends {
                assert_eq!(before_first(text_ends(word)), 1);
            }
        }
    }
}
