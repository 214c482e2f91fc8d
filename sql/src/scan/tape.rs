//! The general path: any payload to a tape of nodes in document order.

use std::borrow::Cow;

use thiserror::Error;

use super::number::number_end;
use super::text::{text_end, unescape};

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: usize = 128;

/// Digits from which a number is told as unusual.
const LONG_NUMBER: usize = 900;

/// Why a payload is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ScanError {
    /// Something else should stand there.
    #[error("expected {what} at byte {at}")]
    Expected {
        /// What should stand there.
        what: &'static str,
        /// Position from 0.
        at: usize,
    },
    /// Not UTF-8.
    #[error("not UTF-8 at byte {at}")]
    NotUtf8 {
        /// Position from 0.
        at: usize,
    },
    /// A number that the language does not know.
    #[error("number beyond 1E+1000 at byte {at}")]
    Range {
        /// Position from 0.
        at: usize,
    },
    /// Nested too deeply.
    #[error("nested more than 128 deep at byte {at}")]
    TooDeep {
        /// Position from 0.
        at: usize,
    },
    /// More top-level members than there can be columns.
    #[error("the payload has more than {limit} members; it is kept as a whole, not in columns")]
    Members {
        /// How many there may be.
        limit: usize,
    },
    /// More than 4 GiB.
    #[error("longer than 4 GiB")]
    TooLong,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is its own name")]
pub enum NodeKind {
    Null,
    False,
    True,
    Number,
    String,
    Array,
    Object,
}

/// A value or a member's name. The members of an object follow it as pairs of name and value.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// A text with escapes.
    pub escaped: bool,
    /// First byte; for texts, the one after the quote.
    pub start: u32,
    /// One past the last byte; for texts, the position of the closing quote.
    pub end: u32,
    /// The index of the node after this one and all it contains.
    pub after: u32,
}

/// The nodes of one payload in document order; the first is the payload itself.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    nodes: Vec<Node>,
    open: Vec<(u32, bool)>,
    unusual: Vec<u32>,
}

impl Tape {
    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The numbers that have an exponent or are very long, so that they may be beyond what the language knows.
    pub fn unusual_numbers(&self) -> impl Iterator<Item = &Node> {
        self.unusual.iter().filter_map(|index| self.node(*index))
    }

    /// A node by its index.
    #[inline]
    pub fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(index as usize)
    }

    /// The members of the object at `index` in order, as indices of name and value; nothing if it is none.
    pub fn members(&self, index: u32) -> impl Iterator<Item = (u32, u32)> {
        let (mut next, end) = match self.node(index) {
            Some(node) if node.kind == NodeKind::Object => (index + 1, node.after),
            _ => (0, 0),
        };
        std::iter::from_fn(move || {
            let value = next + 1;
            let pair = (next < end).then_some((next, value))?;
            next = self.node(value)?.after;
            Some(pair)
        })
    }

    /// What the text node at `index` stands for, in the payload that was scanned.
    pub fn text<'a>(&self, payload: &'a [u8], index: u32) -> Cow<'a, str> {
        let Some(node) = self.node(index) else { return Cow::Borrowed("") };
        let content = payload.get(node.start as usize..node.end as usize).unwrap_or_default();
        let content = std::str::from_utf8(content).unwrap_or_default();
        if node.escaped { Cow::Owned(unescape(content)) } else { Cow::Borrowed(content) }
    }

    fn push(&mut self, kind: NodeKind, escaped: bool, start: usize, end: usize) {
        let after = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { kind, escaped, start: start as u32, end: end as u32, after });
    }

    /// Closes the innermost array or object, `end` being one past its bracket.
    fn close(&mut self, end: usize) {
        let after = self.nodes.len() as u32;
        if let Some((index, _)) = self.open.pop()
            && let Some(node) = self.nodes.get_mut(index as usize)
        {
            node.end = end as u32;
            node.after = after;
        }
    }
}

/// What comes next.
enum Next {
    Name { may_close: bool },
    Value { may_close: bool },
    After,
}

/// Validates a payload and fills the tape with its nodes. After an error the tape is of no use.
pub fn scan(payload: &[u8], tape: &mut Tape) -> Result<(), ScanError> {
    tape.nodes.clear();
    tape.open.clear();
    tape.unusual.clear();
    if u32::try_from(payload.len()).is_err() {
        return Err(ScanError::TooLong);
    }
    if simdutf8::basic::from_utf8(payload).is_err() {
        let at = simdutf8::compat::from_utf8(payload).err().map_or(0, |e| e.valid_up_to());
        return Err(ScanError::NotUtf8 { at });
    }
    let mut cursor = Cursor { bytes: payload, at: 0 };
    let mut next = Next::Value { may_close: false };
    loop {
        next = match next {
            Next::Name { may_close } => cursor.name(tape, may_close)?,
            Next::Value { may_close } => cursor.value(tape, may_close)?,
            Next::After => match tape.open.last() {
                Some(&(_, is_object)) => cursor.after_value(tape, is_object)?,
                None => break,
            },
        };
    }
    cursor.skip_space();
    if cursor.at < payload.len() {
        return Err(cursor.expected("the end of the payload"));
    }
    Ok(())
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    #[inline(always)]
    fn skip_space(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn expected(&self, what: &'static str) -> ScanError {
        ScanError::Expected { what, at: self.at }
    }

    /// A member's name and its colon, or the end of an empty object.
    fn name(&mut self, tape: &mut Tape, may_close: bool) -> Result<Next, ScanError> {
        match self.skip_space() {
            Some(b'"') => self.text(tape)?,
            Some(b'}') if may_close => {
                self.at += 1;
                tape.close(self.at);
                return Ok(Next::After);
            }
            _ if may_close => return Err(self.expected("a member's name in double quotes, or '}'")),
            _ => return Err(self.expected("a member's name in double quotes")),
        }
        match self.skip_space() {
            Some(b':') => self.at += 1,
            _ => return Err(self.expected("':'")),
        }
        Ok(Next::Value { may_close: false })
    }

    fn value(&mut self, tape: &mut Tape, may_close: bool) -> Result<Next, ScanError> {
        match self.skip_space() {
            Some(b'"') => self.text(tape)?,
            Some(b'-' | b'0'..=b'9') => {
                let (end, exponent) = number_end(self.bytes, self.at)
                    .map_err(|at| ScanError::Expected { what: "a number as JSON writes it", at })?;
                if exponent || end - self.at > LONG_NUMBER {
                    tape.unusual.push(tape.nodes.len() as u32);
                }
                tape.push(NodeKind::Number, false, self.at, end);
                self.at = end;
            }
            Some(b'{') => {
                self.open(tape, NodeKind::Object)?;
                return Ok(Next::Name { may_close: true });
            }
            Some(b'[') => {
                self.open(tape, NodeKind::Array)?;
                return Ok(Next::Value { may_close: true });
            }
            Some(b']') if may_close => {
                self.at += 1;
                tape.close(self.at);
            }
            Some(b't') => self.word(tape, b"true", NodeKind::True)?,
            Some(b'f') => self.word(tape, b"false", NodeKind::False)?,
            Some(b'n') => self.word(tape, b"null", NodeKind::Null)?,
            _ => return Err(self.expected("a value")),
        }
        Ok(Next::After)
    }

    /// What follows a value inside an array or object.
    fn after_value(&mut self, tape: &mut Tape, is_object: bool) -> Result<Next, ScanError> {
        let byte = self.skip_space();
        match (byte, is_object) {
            (Some(b','), true) => {
                self.at += 1;
                Ok(Next::Name { may_close: false })
            }
            (Some(b','), false) => {
                self.at += 1;
                Ok(Next::Value { may_close: false })
            }
            (Some(b'}'), true) | (Some(b']'), false) => {
                self.at += 1;
                tape.close(self.at);
                Ok(Next::After)
            }
            (_, true) => Err(self.expected("',' or '}'")),
            (_, false) => Err(self.expected("',' or ']'")),
        }
    }

    fn open(&mut self, tape: &mut Tape, kind: NodeKind) -> Result<(), ScanError> {
        if tape.open.len() == MAX_DEPTH {
            return Err(ScanError::TooDeep { at: self.at });
        }
        tape.open.push((tape.nodes.len() as u32, kind == NodeKind::Object));
        tape.push(kind, false, self.at, self.at);
        self.at += 1;
        Ok(())
    }

    fn text(&mut self, tape: &mut Tape) -> Result<(), ScanError> {
        let start = self.at + 1;
        let (end, escaped) = text_end(self.bytes, start).map_err(|(at, what)| ScanError::Expected { what, at })?;
        tape.push(NodeKind::String, escaped, start, end);
        self.at = end + 1;
        Ok(())
    }

    fn word(&mut self, tape: &mut Tape, word: &[u8], kind: NodeKind) -> Result<(), ScanError> {
        let end = self.at + word.len();
        if self.bytes.get(self.at..end) != Some(word) {
            return Err(self.expected("a value"));
        }
        tape.push(kind, false, self.at, end);
        self.at = end;
        Ok(())
    }
}
