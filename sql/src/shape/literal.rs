//! Comparing literal bytes, sixteen at a time.

use crate::scan::{Window, load16};

/// Bytes that must stand at a place.
#[derive(Debug)]
pub(super) struct Literal {
    /// The first sixteen bytes, or fewer under the mask.
    head: u128,
    mask: u128,
    /// The last sixteen bytes of a literal longer than that.
    last: u128,
    bytes: Box<[u8]>,
}

impl Literal {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let head: Vec<u8> = bytes.iter().copied().chain([0; 16]).take(16).collect();
        let head = load16(&head, 0).unwrap_or(0);
        let mask = if bytes.len() >= 16 { u128::MAX } else { (1 << (8 * bytes.len())) - 1 };
        let last = bytes.len().checked_sub(16).and_then(|at| load16(bytes, at)).unwrap_or(0);
        Self { head, mask, last, bytes: bytes.into() }
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it stands at `at`.
    #[inline(always)]
    pub(super) fn stands_at(&self, payload: &Window<'_>, at: usize) -> bool {
        // Behind the end of the payload zeros are compared, which no JSON has.
        if (payload.load16(at) ^ self.head) & self.mask != 0 {
            return false;
        }
        let length = self.bytes.len();
        length <= 16 || self.goes_on_at(payload, at)
    }

    /// Whether the bytes behind the first sixteen stand there.
    #[inline(always)]
    fn goes_on_at(&self, payload: &Window<'_>, at: usize) -> bool {
        let length = self.bytes.len();
        payload.load16(at + length - 16) == self.last
            && (length <= 32 || payload.bytes.get(at..at + length) == Some(&*self.bytes))
    }

    /// Whether it has the same bytes.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        for length in 0..70 {
            let text: Vec<u8> = (0..length as u8).map(|i| b'!' + i).collect();
            let literal = Literal::new(&text);
            for slack in [0, 1, 15, 16, 40] {
                let mut payload = [b"ab".as_slice(), &text, &vec![b'z'; slack]].concat();
                assert!(literal.stands_at(&Window::new(&payload), 2), "{length} {slack}");
                for at in 2..2 + length {
                    payload[at] ^= 1;
                    assert!(!literal.stands_at(&Window::new(&payload), 2), "{length} {slack} {at}");
                    payload[at] ^= 1;
                }
                if length > 0 {
                    payload.truncate(1 + length);
                    assert!(!literal.stands_at(&Window::new(&payload), 2));
                }
            }
        }
    }
}
