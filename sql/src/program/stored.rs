//! Rows as bytes: those of rules with AFTER wait for their deadline, in memory and in checkpoints.
//!
//! # Format of a stored row ([`ROW_FORMAT`] 1)
//! Numbers are LEB128 varints; a text is its length and its UTF-8 bytes.
//!
//! | part | |
//! |---|---|
//! | templates | their number, then of each 0 if it failed, or its length + 1 and its bytes |
//! | kind | one byte: 0 raw, 1 members, 2 members with a text of their own, 3 members besides raw bytes |
//! | raw | of kind 0: the bytes, to the end; of kind 3: their length and they |
//! | text | of kind 2: the row's JSON text |
//! | members | to the end, each a name (text), a tag and what the tag says |
//!
//! Tags: 0 null, 1 false, 2 true, 3 number (its text; a Decimal has a point or an exponent), 4 text, 5 array or object
//! (its JSON text). Undefined members are left out. The text of kind 1 is made from the members, spelt as they are here.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::payloads::Payloads;
use super::rows::{Original, columns_of};
use super::{Body, Rows, Texts};
use crate::ast::Dialect;
use crate::column::{Column, ColumnData};
use crate::json::{self, write_string};
use crate::value::{MAX_TEXT, Object, Value};
use arrow::array::Array;

/// The version of the format of stored rows.
pub const ROW_FORMAT: u8 = 1;

const RAW: u8 = 0;
const MEMBERS: u8 = 1;
const WITH_TEXT: u8 = 2;
const BESIDES_RAW: u8 = 3;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const NUMBER: u8 = 3;
const TEXT: u8 = 4;
const JSON: u8 = 5;

/// Bytes that are no stored row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored row cannot be read")]
pub struct StoredRowError;

impl Rows {
    /// Appends a row as bytes.
    pub fn store(&self, row: usize, out: &mut Vec<u8>) {
        push_number(out, self.templates.len() as u64);
        for template in &self.templates {
            match template.get(row) {
                None => push_number(out, 0),
                Some(text) => {
                    push_number(out, text.len() as u64 + 1);
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
        let columns = match (&self.body, self.raw(row)) {
            (Body::Raw, raw) => {
                out.push(RAW);
                out.extend_from_slice(raw.unwrap_or_default());
                return;
            }
            (Body::Members(columns), Some(raw)) => {
                out.push(BESIDES_RAW);
                push_bytes(out, raw);
                columns
            }
            (Body::Members(columns), None) => {
                if let Original::None = self.original {
                    out.push(MEMBERS);
                } else {
                    out.push(WITH_TEXT);
                    push_bytes(out, &self.json(row));
                }
                columns
            }
        };
        for (name, column) in columns {
            let before = out.len();
            push_bytes(out, name.as_bytes());
            if !push_cell(out, column, row, self.dialect) {
                out.truncate(before);
            }
        }
    }

    /// Stored rows of one rule as rows again; `messages` are their places in `stored`. Rows with members, raw ones and
    /// those that are both come apart.
    ///
    /// # Errors
    /// When one of them is not what [`Rows::store`] writes.
    pub fn restore(stored: &[&[u8]], dialect: Dialect) -> Result<Vec<Rows>, StoredRowError> {
        let mut parts = vec![Part::default(), Part::default()];
        for (place, bytes) in stored.iter().enumerate() {
            let row = read_row(bytes, dialect).ok_or(StoredRowError)?;
            // The text of one that is both is made anew, from its own members: each is a part by itself.
            let number = match (&row.content.object, row.content.raw) {
                (Some(_), None) => 0,
                (None, _) => 1,
                (Some(_), Some(_)) => {
                    parts.push(Part::default());
                    parts.len() - 1
                }
            };
            if let Some(part) = parts.get_mut(number) {
                part.messages.push(place as u32);
                part.templates.push(row.templates);
                part.contents.push(row.content);
            }
        }
        Ok(parts.into_iter().filter(|part| !part.messages.is_empty()).map(|part| part.rows(dialect)).collect())
    }
}

/// Rows of one kind.
#[derive(Default)]
struct Part<'a> {
    messages: Vec<u32>,
    templates: Vec<Vec<Option<&'a str>>>,
    contents: Vec<Content<'a>>,
}

impl Part<'_> {
    fn rows(self, dialect: Dialect) -> Rows {
        let bytes = |content: &Content<'_>| match (&content.text, content.raw) {
            (Some(text), _) => Bytes::copy_from_slice(text.as_bytes()),
            (None, raw) => Bytes::copy_from_slice(raw.unwrap_or_default()),
        };
        let all_raw = self.contents.iter().all(|content| content.object.is_none());
        let any_raw = self.contents.iter().any(|content| content.raw.is_some());
        let original = if any_raw && !all_raw {
            let raw = self.messages.iter().zip(&self.contents);
            let raw = raw.map(|(message, content)| (*message, content.raw.unwrap_or_default()));
            let objects = self.contents.iter().filter_map(|content| content.object.as_ref());
            let names = objects.flat_map(|object| object.iter().map(|(name, _)| Arc::clone(name))).collect();
            Original::spliced(Payloads::of(raw), names, vec![true; self.contents.len()])
        } else {
            Original::Bytes(self.contents.iter().map(bytes).collect())
        };
        let objects: Vec<Object> = self.contents.into_iter().filter_map(|content| content.object).collect();
        let body = if all_raw { Body::Raw } else { Body::Members(columns_of(&objects)) };
        Rows::new(self.messages, body, dialect, original, by_template(&self.templates))
    }
}

/// From row by row to template by template.
fn by_template(rows: &[Vec<Option<&str>>]) -> Vec<Texts> {
    let width = rows.iter().map(Vec::len).max().unwrap_or_default();
    let column = |number: usize| -> Texts { rows.iter().map(|row| row.get(number).copied().flatten()).collect() };
    (0..width).map(column).collect()
}

fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A member's tag and value; false for Undefined.
fn push_cell(out: &mut Vec<u8>, column: &Column, row: usize, dialect: Dialect) -> bool {
    let mut tagged = |tag: u8, text: &str| {
        out.push(tag);
        push_bytes(out, text.as_bytes());
    };
    match &column.data {
        ColumnData::String(texts) if row < texts.len() && texts.is_valid(row) => tagged(TEXT, texts.value(row)),
        ColumnData::Json(texts) if row < texts.len() && texts.is_valid(row) => tagged(JSON, texts.value(row)),
        ColumnData::Mixed(mixed) => {
            return mixed.get(row).is_some_and(|(part, row)| push_cell(out, part, row, dialect));
        }
        _ => match column.value(row, dialect) {
            Value::Undefined => return false,
            Value::Null => out.push(NULL),
            Value::Bool(false) => out.push(FALSE),
            Value::Bool(true) => out.push(TRUE),
            Value::String(text) => tagged(TEXT, &text),
            value => match json::to_text(&value, MAX_TEXT) {
                Some(text) if matches!(value, Value::Int(_) | Value::Decimal(_)) => tagged(NUMBER, &text),
                Some(text) => tagged(JSON, &text),
                None => return false,
            },
        },
    }
    true
}

struct Row<'a> {
    templates: Vec<Option<&'a str>>,
    content: Content<'a>,
}

/// What a row is.
#[derive(Default)]
struct Content<'a> {
    object: Option<Object>,
    text: Option<Cow<'a, str>>,
    raw: Option<&'a [u8]>,
}

fn read_row(bytes: &[u8], dialect: Dialect) -> Option<Row<'_>> {
    let mut rest = Reader(bytes);
    let count = usize::try_from(rest.number()?).ok().filter(|count| *count <= bytes.len())?;
    let mut templates = Vec::with_capacity(count);
    for _ in 0..count {
        templates.push(match rest.number()?.checked_sub(1) {
            None => None,
            Some(length) => Some(std::str::from_utf8(rest.take(length)?).ok()?),
        });
    }
    let content = match rest.byte()? {
        RAW => Content { raw: Some(rest.0), ..Content::default() },
        MEMBERS => {
            let (object, text) = members(rest, dialect)?;
            Content { object: Some(object), text: Some(text.into()), raw: None }
        }
        WITH_TEXT => {
            let text = rest.text()?;
            Content { object: Some(members(rest, dialect)?.0), text: Some(text.into()), raw: None }
        }
        BESIDES_RAW => {
            let length = rest.number()?;
            let raw = rest.take(length)?;
            Content { object: Some(members(rest, dialect)?.0), text: None, raw: Some(raw) }
        }
        _ => return None,
    };
    Some(Row { templates, content })
}

/// The members to the end, and their text.
fn members(mut rest: Reader<'_>, dialect: Dialect) -> Option<(Object, String)> {
    let mut object = Object::new();
    let mut made = String::from("{");
    while !rest.0.is_empty() {
        let name = rest.text()?;
        if made.len() > 1 {
            made.push(',');
        }
        write_string(name, &mut made);
        made.push(':');
        let value = match rest.byte()? {
            NULL => literal("null", Value::Null, &mut made),
            FALSE => literal("false", Value::Bool(false), &mut made),
            TRUE => literal("true", Value::Bool(true), &mut made),
            NUMBER => {
                let text = rest.text()?;
                // The oldest dialect tells Int and Decimal apart by their spelling, as they were written.
                literal(text, json::parse(text.as_bytes(), Dialect::Aws2015).ok()?, &mut made)
            }
            TEXT => {
                let text = rest.text()?;
                write_string(text, &mut made);
                Value::text(text)
            }
            JSON => {
                let text = rest.text()?;
                literal(text, json::parse(text.as_bytes(), dialect).ok()?, &mut made)
            }
            _ => return None,
        };
        object.insert(Arc::from(name), value);
    }
    made.push('}');
    Some((object, made))
}

fn literal(text: &str, value: Value, made: &mut String) -> Value {
    made.push_str(text);
    value
}

/// The bytes not yet read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(front)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.number()?;
        std::str::from_utf8(self.take(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Program, RuleRows, tests::rule};
    use super::*;
    use crate::message::Message;

    const PAYLOADS: [&str; 7] = [
        r#"{"a": 21.0, "b": "x\"y", "c": [1, 2.50], "d": null, "e": true}"#,
        r#"{"b": "second", "a": 1e3}"#,
        r#"{"e": false, "c": {"k": 1.0}, "a": 0.10}"#,
        r"[1, 2]",
        r#""text""#,
        "no JSON",
        "{}",
    ];

    fn rows(sql: &str, templates: &[&str], into_sink: bool) -> Vec<RuleRows> {
        let messages: Vec<Message<'_>> =
            PAYLOADS.iter().map(|payload| Message::new("x/1", payload.as_bytes(), 5)).collect();
        let mut out = Vec::new();
        Program::new(&[rule(sql, Dialect::Native, templates, into_sink)]).evaluate(&messages, &mut out);
        out
    }

    #[test]
    fn what_is_stored_comes_back() {
        let rules = [
            ("SELECT a, b, c, a * 2 AS d, e FROM 'x/+'", &["t/${b}", "${a}"][..], true),
            ("SELECT * FROM 'x/+'", &["${b}"][..], true),
            ("SELECT * FROM 'x/+'", &[][..], false),
            ("SELECT *, a + 0.5 AS a, topic(2) AS n FROM 'x/+'", &[][..], true),
            ("SELECT VALUE a FROM 'x/+'", &[][..], false),
            ("SELECT a AS p.q, b AS p.r FROM 'x/+'", &[][..], true),
        ];
        for (sql, templates, into_sink) in rules {
            for part in rows(sql, templates, into_sink) {
                for row in 0..part.rows.len() {
                    let mut bytes = Vec::new();
                    part.rows.store(row, &mut bytes);
                    let back = Rows::restore(&[&bytes], Dialect::Native).unwrap();
                    let [back] = back.as_slice() else { panic!("{sql}: {} parts", back.len()) };
                    assert_eq!(back.json(0), part.rows.json(row), "{sql}, row {row}");
                    for (name, column) in part.rows.columns() {
                        let value = column.value(row, Dialect::Native);
                        assert_eq!(format!("{:?}", back.value(0, name)), format!("{value:?}"), "{sql}: {name}");
                    }
                    let texts = |rows: &Rows, row: usize| -> Vec<Option<String>> {
                        rows.templates.iter().map(|texts| texts.get(row).map(str::to_owned)).collect()
                    };
                    assert_eq!(back.raw(0), part.rows.raw(row), "{sql}, row {row}");
                    assert_eq!(texts(back, 0), texts(&part.rows, row), "{sql}");
                    for length in 0..bytes.len() {
                        let _ = Rows::restore(&[&bytes[..length]], Dialect::Native);
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_those_beside_it() {
        let part = rows("SELECT * FROM 'x/+'", &[], true).remove(0).rows;
        let stored: Vec<Vec<u8>> = (0..part.len())
            .map(|row| {
                let mut bytes = Vec::new();
                part.store(row, &mut bytes);
                bytes
            })
            .collect();
        let together = Rows::restore(&stored.iter().map(Vec::as_slice).collect::<Vec<_>>(), Dialect::Native).unwrap();
        for (row, bytes) in stored.iter().enumerate() {
            let alone = Rows::restore(&[bytes], Dialect::Native).unwrap();
            assert_eq!(alone[0].json(0), together[0].json(row));
        }
    }
}
