//! Rows: values, JSON text, and rows made from values.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::json::splice;
use super::{Body, Rows};
use crate::ast::Dialect;
use crate::column::Column;
use crate::eval;
use crate::json::write_string;
use crate::message::Message;
use crate::value::{Object, Value};

/// What the JSON text of rows is made from besides the columns.
#[derive(Clone, Debug)]
pub(super) enum Original {
    /// Nothing else.
    None,
    /// The text is the payload, untouched.
    Payload(Vec<Bytes>),
    /// The text is the payload with the named columns added or replaced.
    Spliced(Vec<Bytes>, Vec<Arc<str>>),
}

impl Rows {
    pub(super) fn new(messages: Vec<u32>, body: Body, dialect: Dialect, original: Original) -> Self {
        Self { messages, body, templates: Vec::new(), dialect, original }
    }

    /// Rows of a windowed rule, made from the values of its SELECT items by dotted name, with the texts of its action
    /// templates. The rows are their own messages, numbered from 0.
    pub fn from_members(
        rows: Vec<Vec<(Vec<Arc<str>>, Value)>>,
        templates: Vec<Vec<Option<String>>>,
        dialect: Dialect,
    ) -> Self {
        let objects: Vec<Object> = rows
            .into_iter()
            .map(|members| eval::assemble(members.iter().map(|(path, value)| (path.as_slice(), value.clone()))))
            .collect();
        let messages = (0..objects.len() as u32).collect();
        let body = Body::Members(columns_of(&objects));
        Self { messages, body, templates, dialect, original: Original::None }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Which numbers inside arrays and objects of the columns are Int; for [`Column::value`].
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The columns; none for raw rows.
    pub fn columns(&self) -> &[(Arc<str>, Column)] {
        match &self.body {
            Body::Members(columns) => columns,
            Body::Raw(_) => &[],
        }
    }

    /// The values of a row's members in order, Undefined ones included.
    pub fn values(&self, row: usize) -> Vec<Value> {
        self.columns().iter().map(|(_, column)| column.value(row, self.dialect)).collect()
    }

    /// The value of a row's member; Undefined if there is none.
    pub fn value(&self, row: usize, name: &str) -> Value {
        let column = self.columns().iter().find(|(column, _)| **column == *name);
        column.map(|(_, column)| column.value(row, self.dialect)).unwrap_or_default()
    }

    /// A row's bytes as they are published: JSON text, or the raw bytes. What came in the payload is as it was spelt
    /// there.
    pub fn json(&self, row: usize) -> Vec<u8> {
        let columns = match &self.body {
            Body::Raw(rows) => return rows.get(row).map(|bytes| bytes.to_vec()).unwrap_or_default(),
            Body::Members(columns) => columns,
        };
        match &self.original {
            Original::None => object_text(columns, row).into_bytes(),
            Original::Payload(payloads) => payloads.get(row).map(|bytes| bytes.to_vec()).unwrap_or_default(),
            Original::Spliced(payloads, added) => {
                let payload = payloads.get(row).map(|bytes| &**bytes).unwrap_or_default();
                let added = added.iter().filter_map(|name| columns.iter().find(|(column, _)| column == name));
                splice(payload, added.map(|(name, column)| (name, column)), row).into_bytes()
            }
        }
    }
}

/// The members of a row as an object's text.
fn object_text(columns: &[(Arc<str>, Column)], row: usize) -> String {
    let mut text = String::with_capacity(32 * columns.len());
    text.push('{');
    for (name, column) in columns {
        push_member(&mut text, name, column, row);
    }
    text.push('}');
    text
}

/// Appends a member to the text of an object, unless it is Undefined.
pub(super) fn push_member(text: &mut String, name: &str, column: &Column, row: usize) {
    let before = text.len();
    if !text.ends_with('{') {
        text.push(',');
    }
    write_string(name, text);
    text.push(':');
    if !column.write_json(row, text) {
        text.truncate(before);
    }
}

/// Objects as columns, in the order in which their members first appear.
pub(super) fn columns_of(objects: &[Object]) -> Vec<(Arc<str>, Column)> {
    let mut columns: Vec<(Arc<str>, Vec<Value>)> = Vec::new();
    let mut places: ahash::AHashMap<Arc<str>, usize> = ahash::AHashMap::new();
    for (row, object) in objects.iter().enumerate() {
        for (name, value) in object.iter() {
            let place = *places.entry(Arc::clone(name)).or_insert_with(|| {
                columns.push((Arc::clone(name), vec![Value::Undefined; objects.len()]));
                columns.len() - 1
            });
            if let Some(cell) = columns.get_mut(place).and_then(|(_, values)| values.get_mut(row)) {
                *cell = value.clone();
            }
        }
    }
    columns.into_iter().map(|(name, values)| (name, Column::dynamic(values))).collect()
}

/// Copies of the payloads of some messages, in one piece of memory.
pub(super) fn payloads(messages: &[Message<'_>], chosen: &[u32]) -> Vec<Bytes> {
    let payload = |message: &u32| messages.get(*message as usize).map(|message| message.payload).unwrap_or_default();
    let mut all = BytesMut::with_capacity(chosen.iter().map(|message| payload(message).len()).sum());
    let copies = chosen.iter().map(|message| {
        all.extend_from_slice(payload(message));
        all.split().freeze()
    });
    copies.collect()
}
