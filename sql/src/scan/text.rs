//! Texts between quotes: where they end, and what their escapes stand for.

use super::words::{Window, Words, before_first, beyond_ascii, load8, text_ends};

/// Where the text that starts at `at` ends, if it has no escape: the position of its quote, and whether all is ASCII.
/// `None` on a backslash, a control character or a missing quote.
#[inline(always)]
pub(crate) fn plain_text_end(payload: &Window<'_>, mut at: usize) -> Option<(usize, bool)> {
    let mut beyond = 0;
    loop {
        let word = payload.word(at);
        let ends = text_ends(word);
        if ends == 0 {
            beyond |= beyond_ascii(word);
            at += 8;
            continue;
        }
        // The bits of the bytes before the first end.
        let before = (ends & ends.wrapping_neg()) - 1;
        beyond |= beyond_ascii(word) & before;
        let end = at + before_first(ends) as usize;
        return (payload.bytes.get(end) == Some(&b'"')).then_some((end, beyond == 0));
    }
}

/// A text's content: `Ok((position of its quote, has escapes))`, or the position of the mistake and what was expected.
pub(super) fn text_end(bytes: &[u8], mut at: usize) -> Result<(usize, bool), (usize, &'static str)> {
    let mut escaped = false;
    loop {
        let ends = text_ends(load8(bytes, at));
        if ends == 0 {
            at += 8;
            continue;
        }
        at += before_first(ends) as usize;
        match bytes.get(at) {
            Some(b'"') => return Ok((at, escaped)),
            Some(b'\\') => {
                escaped = true;
                at = escape_end(bytes, at)?;
            }
            Some(_) => return Err((at, "an escape such as \\n instead of the bare control character")),
            None => return Err((bytes.len(), "'\"' to close the text")),
        }
    }
}

/// The position after the escape whose backslash is at `at`.
fn escape_end(bytes: &[u8], at: usize) -> Result<usize, (usize, &'static str)> {
    match bytes.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            let first = hex4(bytes, at + 2).ok_or((at + 2, "four hex digits"))?;
            match first {
                0xd800..=0xdbff => {
                    let second = (bytes.get(at + 6..at + 8) == Some(b"\\u")).then(|| hex4(bytes, at + 8)).flatten();
                    match second {
                        Some(0xdc00..=0xdfff) => Ok(at + 12),
                        _ => Err((at + 6, "the second half of a surrogate pair")),
                    }
                }
                0xdc00..=0xdfff => Err((at, "the first half of a surrogate pair")),
                _ => Ok(at + 6),
            }
        }
        _ => Err((at + 1, "one of \" \\ / b f n r t u after a backslash")),
    }
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..)?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |number, &digit| Some(number * 16 + char::from(digit).to_digit(16)?))
}

/// What the content of a scanned text stands for. Content that [`scan`](super::scan) did not accept gives the part
/// before its first mistake.
pub fn unescape(content: &str) -> String {
    let mut text = String::with_capacity(content.len());
    let mut rest = content;
    while let Some((plain, after)) = rest.split_once('\\') {
        text.push_str(plain);
        let Some((stands_for, after)) = one_escape(after) else { return text };
        text.push(stands_for);
        rest = after;
    }
    text.push_str(rest);
    text
}

/// The character that an escape (without its backslash) stands for, and the text after it.
fn one_escape(text: &str) -> Option<(char, &str)> {
    let stands_for = match text.as_bytes().first()? {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = hex4(text.as_bytes(), 1)?;
            if let Some(alone) = char::from_u32(first) {
                return Some((alone, text.get(5..)?));
            }
            let second = hex4(text.as_bytes(), 7)?;
            let joined = 0x10000 + ((first.checked_sub(0xd800)?) << 10) + second.checked_sub(0xdc00)?;
            return Some((char::from_u32(joined)?, text.get(11..)?));
        }
        &itself => char::from(itself),
    };
    Some((stands_for, text.get(1..)?))
}
