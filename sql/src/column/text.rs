//! Columns of texts in the making: short texts are what most of them are.

use arrow::array::{BooleanBufferBuilder, StringArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::error::ArrowError;

/// Bytes that a column of texts may have. Its offsets end at 2 GiB.
const MAX_COLUMN: usize = 1 << 30;

/// Bytes that are copied at once, without a call.
const AT_ONCE: usize = 16;

/// Texts one after the other.
pub(crate) struct TextBuilder {
    bytes: Vec<u8>,
    ends: Vec<i32>,
    /// The places without a text: none, mostly.
    missing: Vec<usize>,
}

impl TextBuilder {
    /// For so many texts of so many bytes together.
    pub(crate) fn with_capacity(texts: usize, bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(texts + 1);
        ends.push(0);
        Self { bytes: Vec::with_capacity(bytes + AT_ONCE), ends, missing: Vec::new() }
    }

    /// Ends the text whose bytes are there.
    #[inline(always)]
    fn end(&mut self) {
        // What is longer than an offset can say is refused in the end.
        self.ends.push(self.bytes.len() as i32);
    }

    /// Appends a text.
    #[inline(always)]
    pub(crate) fn push(&mut self, text: &str) {
        append(&mut self.bytes, text.as_bytes());
        self.end();
    }

    /// Appends a text, or none.
    #[inline(always)]
    pub(crate) fn push_option(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.push(text),
            None => self.push_null(),
        }
    }

    /// Appends the text that stands at a place in a payload.
    #[inline(always)]
    pub(crate) fn push_part(&mut self, payload: &[u8], start: usize, length: usize) {
        match payload.get(start..).and_then(|rest| rest.first_chunk::<AT_ONCE>()) {
            Some(chunk) if length <= AT_ONCE => {
                let end = self.bytes.len() + length;
                self.bytes.extend_from_slice(chunk);
                self.bytes.truncate(end);
            }
            _ => append(&mut self.bytes, payload.get(start..start + length).unwrap_or_default()),
        }
        self.end();
    }

    /// Appends no text.
    pub(crate) fn push_null(&mut self) {
        self.missing.push(self.ends.len() - 1);
        self.end();
    }

    /// Appends what `write` appends, and no text if it gives none.
    #[inline(always)]
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Option<()>) {
        let start = self.bytes.len();
        match write(&mut self.bytes) {
            Some(()) => self.end(),
            None => {
                self.bytes.truncate(start);
                self.push_null();
            }
        }
    }

    /// Bytes so far.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has got too long to be a column.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() > MAX_COLUMN
    }

    /// The column. That it is UTF-8 is looked at once for all, not text by text.
    ///
    /// # Errors
    /// When the texts are longer than a column can hold, or what was appended was no text.
    pub(crate) fn finish(self) -> Result<StringArray, ArrowError> {
        if self.is_full() {
            return Err(ArrowError::OffsetOverflowError(self.bytes.len()));
        }
        let nulls = (!self.missing.is_empty()).then(|| {
            let mut present = BooleanBufferBuilder::new(self.ends.len() - 1);
            present.append_n(self.ends.len() - 1, true);
            self.missing.iter().for_each(|place| present.set_bit(*place, false));
            NullBuffer::new(present.finish())
        });
        StringArray::try_new(OffsetBuffer::new(self.ends.into()), self.bytes.into(), nulls)
    }
}

/// Appends bytes, few of them without a call.
#[inline(always)]
pub(crate) fn append(to: &mut Vec<u8>, bytes: &[u8]) {
    match word(bytes) {
        Some(word) => {
            let end = to.len() + bytes.len();
            to.extend_from_slice(&word.to_le_bytes());
            to.truncate(end);
        }
        None => to.extend_from_slice(bytes),
    }
}

/// Up to sixteen bytes, the first in the lowest position.
#[inline(always)]
fn word(bytes: &[u8]) -> Option<u128> {
    let length = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        return (length <= AT_ONCE).then(|| u128::from(first) | u128::from(last) << (8 * (length - 8)));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return Some(u128::from(u64::from(first) | u64::from(last) << (8 * (length - 4))));
    }
    Some(u128::from(bytes.iter().rev().fold(0_u32, |word, byte| word << 8 | u32::from(*byte))))
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;

    #[test]
    fn texts_of_any_length_are_kept() {
        let all: String = ('!'..='~').collect();
        let mut texts = TextBuilder::with_capacity(0, 0);
        let mut expected = Vec::new();
        for length in 0..40 {
            let text = &all[3..3 + length];
            texts.push(text);
            texts.push_part(all.as_bytes(), 3, length);
            texts.push_part(&all.as_bytes()[..3 + length], 3, length);
            texts.write(|out| {
                append(out, text.as_bytes());
                (length % 2 == 0).then_some(())
            });
            expected.extend([Some(text), Some(text), Some(text), (length % 2 == 0).then_some(text)]);
        }
        texts.push_option(None);
        texts.push_option(Some("é"));
        expected.extend([None, Some("é")]);
        let texts = texts.finish().unwrap();
        assert_eq!(texts.iter().collect::<Vec<_>>(), expected);
        assert_eq!(texts.null_count(), 21);
    }

    #[test]
    fn what_is_no_text_is_an_error() {
        let mut texts = TextBuilder::with_capacity(1, 1);
        texts.write(|out| {
            out.push(0xff);
            Some(())
        });
        assert!(texts.finish().is_err());
    }
}
