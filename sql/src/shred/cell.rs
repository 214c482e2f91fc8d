//! A cell: what stands at one path of one payload.

use std::borrow::Cow;

use crate::ast::Dialect;
use crate::decimal::Decimal;
use crate::json;
use crate::scan::{Node, NodeKind, Taken, take_number, unescape};
use crate::value::Value;

/// What a cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub(crate) enum Tag {
    #[default]
    Undefined,
    Null,
    False,
    True,
    /// A number that fits an `i64` mantissa; a whole one has scale 0.
    Number,
    /// The same, its last digit after the point being 0: it may be whole.
    NumberZeroEnd,
    /// Any other number, by its place in the payload.
    WideNumber,
    /// Text, array, object: by its place in the payload, texts without their quotes.
    String,
    EscapedString,
    Array,
    Object,
}

/// Sixteen bytes: a number itself, or a place in the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    /// The mantissa, or the first byte.
    pub(crate) value: i64,
    /// How many bytes.
    pub(crate) length: u32,
    pub(crate) scale: u8,
    pub(crate) tag: Tag,
}

impl Cell {
    #[inline(always)]
    pub(crate) fn number(mantissa: i64, scale: u8, zero_end: bool) -> Self {
        let tag = if zero_end { Tag::NumberZeroEnd } else { Tag::Number };
        Self { value: mantissa, length: 0, scale, tag }
    }

    #[inline(always)]
    pub(crate) fn span(tag: Tag, start: u32, end: u32) -> Self {
        Self { value: i64::from(start), length: end - start, scale: 0, tag }
    }

    /// The bytes it points to.
    #[inline]
    pub(crate) fn bytes<'a>(&self, payload: &'a [u8]) -> &'a [u8] {
        let start = self.value as usize;
        payload.get(start..start + self.length as usize).unwrap_or_default()
    }

    /// The same as text; the scan has seen that it is UTF-8.
    pub(crate) fn text<'a>(&self, payload: &'a [u8]) -> Cow<'a, str> {
        let text = std::str::from_utf8(self.bytes(payload)).unwrap_or_default();
        if self.tag == Tag::EscapedString { Cow::Owned(unescape(text)) } else { Cow::Borrowed(text) }
    }

    /// Mantissa and scale of a small number: since 2016 a whole one has scale 0 however it was spelt.
    #[inline(always)]
    pub(crate) fn small(&self, dialect: Dialect) -> (i64, u8) {
        if self.tag == Tag::NumberZeroEnd && dialect != Dialect::Aws2015 {
            return self.small_zero_end();
        }
        (self.value, self.scale)
    }

    #[inline(never)]
    fn small_zero_end(&self) -> (i64, u8) {
        let power = 10i64.pow(u32::from(self.scale));
        if self.value % power == 0 { (self.value / power, 0) } else { (self.value, self.scale) }
    }
}

/// The cell of a scanned node.
pub(crate) fn cell_of(payload: &[u8], node: &Node) -> Cell {
    let tag = match node.kind {
        NodeKind::Null => Tag::Null,
        NodeKind::False => Tag::False,
        NodeKind::True => Tag::True,
        NodeKind::Number => match take_number(payload, node.start as usize) {
            Some((Taken::Small { mantissa, scale, zero_end }, end)) if end == node.end as usize => {
                return Cell::number(mantissa, scale, zero_end);
            }
            _ => Tag::WideNumber,
        },
        NodeKind::String if node.escaped => Tag::EscapedString,
        NodeKind::String => Tag::String,
        NodeKind::Array => Tag::Array,
        NodeKind::Object => Tag::Object,
    };
    if matches!(tag, Tag::Null | Tag::False | Tag::True) {
        return Cell { tag, ..Cell::default() };
    }
    Cell::span(tag, node.start, node.end)
}

/// The value of a cell.
pub(crate) fn cell_value(cell: &Cell, payload: &[u8], dialect: Dialect) -> Value {
    match cell.tag {
        Tag::Undefined => Value::Undefined,
        Tag::Null => Value::Null,
        Tag::False => Value::Bool(false),
        Tag::True => Value::Bool(true),
        Tag::Number | Tag::NumberZeroEnd => {
            let (mantissa, scale) = cell.small(dialect);
            small_value(i128::from(mantissa), scale)
        }
        Tag::WideNumber | Tag::Array | Tag::Object => json::parse(cell.bytes(payload), dialect).unwrap_or_default(),
        Tag::String | Tag::EscapedString => Value::text(cell.text(payload)),
    }
}

/// A number of a column: scale 0 is Int.
pub(crate) fn small_value(mantissa: i128, scale: u8) -> Value {
    match scale {
        0 => Value::Int(mantissa),
        scale => Value::decimal(Decimal::new(mantissa, i32::from(scale))),
    }
}
