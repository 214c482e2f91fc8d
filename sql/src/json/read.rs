//! Reading JSON as RFC 8259 defines it, strictly.

use std::sync::Arc;

use crate::ast::Dialect;
use crate::value::{Object, Value};

/// How deeply arrays and objects may nest.
pub const MAX_DEPTH: usize = 128;

/// Why a text is not JSON, and at which byte (counted from 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each says it")]
pub enum JsonError {
    #[error("invalid UTF-8 at byte {at}")]
    Utf8 { at: usize },
    #[error("expected {what} at byte {at}")]
    Expected { what: &'static str, at: usize },
    #[error("unexpected text after the value at byte {at}")]
    Trailing { at: usize },
    #[error("number beyond 1E+1000 at byte {at}")]
    Range { at: usize },
    #[error("nested deeper than 128 levels at byte {at}")]
    Depth { at: usize },
}

/// Reads one JSON value; the dialect decides whether `10.0` is an Int.
pub fn parse(bytes: &[u8], dialect: Dialect) -> Result<Value, JsonError> {
    let text = simdutf8::compat::from_utf8(bytes).map_err(|error| JsonError::Utf8 { at: error.valid_up_to() })?;
    let mut reader = Reader { text, bytes, at: 0, depth: 0, dialect };
    let value = reader.value()?;
    reader.blanks();
    if reader.at < bytes.len() {
        return Err(JsonError::Trailing { at: reader.at });
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    dialect: Dialect,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn expected<T>(&self, what: &'static str) -> Result<T, JsonError> {
        Err(JsonError::Expected { what, at: self.at })
    }

    fn value(&mut self) -> Result<Value, JsonError> {
        self.blanks();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => self.expected("a value"),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value, JsonError>) -> Result<Value, JsonError> {
        if self.depth == MAX_DEPTH {
            return Err(JsonError::Depth { at: self.at });
        }
        self.depth += 1;
        self.at += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Value, JsonError> {
        let mut members = Object::new();
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::object(members));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return self.expected("a member name");
            }
            let name = self.string()?;
            self.blanks();
            if self.peek() != Some(b':') {
                return self.expected("':'");
            }
            self.at += 1;
            members.insert(name, self.value()?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return self.expected("',' or '}'"),
            }
        }
        self.at += 1;
        Ok(Value::object(members))
    }

    fn array(&mut self) -> Result<Value, JsonError> {
        let mut elements = Vec::new();
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(Arc::new(elements)));
        }
        loop {
            elements.push(self.value()?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return self.expected("',' or ']'"),
            }
        }
        self.at += 1;
        Ok(Value::Array(Arc::new(elements)))
    }

    fn word(&mut self, word: &'static str, value: Value) -> Result<Value, JsonError> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            return self.expected("a value");
        }
        self.at += word.len();
        Ok(value)
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { self.expected("a digit") } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if let Some(b'0'..=b'9') = self.peek() {
                return self.expected("no digit after a leading 0");
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        Value::number(text, self.dialect).ok_or(JsonError::Range { at: start })
    }

    /// A string; the opening quote is at the current byte.
    fn string(&mut self) -> Result<Arc<str>, JsonError> {
        self.at += 1;
        let start = self.at;
        let plain_end = self.plain();
        let plain = self.text.get(start..plain_end).unwrap_or_default();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(plain.into());
        }
        let mut text = plain.to_owned();
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape(&mut text)?,
                Some(_) => return self.expected("no control character in a string"),
                None => return self.expected("'\"'"),
            }
            let from = self.at;
            let to = self.plain();
            text.push_str(self.text.get(from..to).unwrap_or_default());
        }
        self.at += 1;
        Ok(text.into())
    }

    /// Moves to the next quote, backslash or control character.
    fn plain(&mut self) -> usize {
        while let Some(byte) = self.peek() {
            if byte == b'"' || byte == b'\\' || byte < 0x20 {
                break;
            }
            self.at += 1;
        }
        self.at
    }

    fn escape(&mut self, text: &mut String) -> Result<(), JsonError> {
        self.at += 1;
        let plain = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(text),
            _ => return self.expected("an escape"),
        };
        self.at += 1;
        text.push(plain);
        Ok(())
    }

    /// `uXXXX`, a surrogate pair as two of them. A lone surrogate has no character: it is refused.
    fn unicode(&mut self, text: &mut String) -> Result<(), JsonError> {
        let first = self.hex()?;
        let code = match first {
            0xd800..=0xdbff => {
                if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                    return self.expected("the second half of a surrogate pair");
                }
                self.at += 1;
                let second = self.hex()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return self.expected("the second half of a surrogate pair");
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            code => code,
        };
        let Some(character) = char::from_u32(code) else { return self.expected("the first half of a surrogate pair") };
        text.push(character);
        Ok(())
    }

    /// Four hexadecimal digits; the `u` before them is at the current byte.
    fn hex(&mut self) -> Result<u32, JsonError> {
        self.at += 1;
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else { return self.expected("four hexadecimal digits") };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests;
