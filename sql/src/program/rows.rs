//! Rows: values, JSON text, and rows made from values.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::json::splice;
use super::payloads::Payloads;
use super::texts::Texts;
use super::{Body, Rows};
use crate::ast::Dialect;
use crate::column::Column;
use crate::eval;
use crate::json::write_string;
use crate::value::{Object, Value};

/// What rows are made from besides the columns.
#[derive(Clone, Debug)]
pub(super) enum Original {
    /// Nothing else.
    None,
    /// The bytes of each row.
    Bytes(Vec<Bytes>),
    /// The payload, untouched.
    Payload(Payloads),
    /// The payload with the named columns added or replaced.
    Spliced {
        payloads: Payloads,
        names: Vec<Arc<str>>,
        /// The rows whose payloads are no objects: the members do not say what they are. Empty: there is none.
        kept: Vec<bool>,
    },
}

impl Original {
    pub(super) fn spliced(payloads: Payloads, names: Vec<Arc<str>>, kept: Vec<bool>) -> Self {
        let kept = if kept.contains(&true) { kept } else { Vec::new() };
        Self::Spliced { payloads, names, kept }
    }
}

impl Rows {
    pub(super) fn new(
        messages: Vec<u32>,
        body: Body,
        dialect: Dialect,
        original: Original,
        templates: Vec<Texts>,
    ) -> Self {
        Self { messages, body, templates, dialect, original }
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
        let templates = templates.into_iter().map(|texts| texts.into_iter().collect()).collect();
        Self { messages, body, templates, dialect, original: Original::None }
    }

    /// The messages of the batch got other numbers: `by` more.
    pub(super) fn shift(&mut self, by: u32) {
        self.messages.iter_mut().for_each(|message| *message += by);
        if let Original::Payload(payloads) | Original::Spliced { payloads, .. } = &mut self.original {
            payloads.shift(by);
        }
    }

    /// The batch that they came from is part of another, with its messages at these places.
    pub(super) fn renumber(&mut self, places: &[u32]) {
        if let Original::Payload(payloads) | Original::Spliced { payloads, .. } = &mut self.original {
            payloads.renumber(places);
        }
        let number = |message: &u32| places.get(*message as usize).copied().unwrap_or_default();
        self.messages = self.messages.iter().map(number).collect();
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
            Body::Raw => &[],
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
    pub fn json(&self, row: usize) -> Cow<'_, [u8]> {
        match (&self.original, &self.body) {
            (Original::Bytes(_) | Original::Payload(_), _) => Cow::Borrowed(self.original_bytes(row)),
            (Original::Spliced { names, .. }, Body::Members(columns)) => {
                let added = names.iter().filter_map(|name| columns.iter().find(|(column, _)| column == name));
                let added = added.map(|(name, column)| (name, column));
                Cow::Owned(splice(self.original_bytes(row), added, row).into_bytes())
            }
            _ => Cow::Owned(object_text(self.columns(), row).into_bytes()),
        }
    }

    /// The bytes of a row that is no object: a payload that is none, the result of SELECT VALUE. A row of
    /// `SELECT *, …` has them besides its members.
    pub fn raw(&self, row: usize) -> Option<&[u8]> {
        match (&self.body, &self.original) {
            (Body::Raw, _) => Some(self.original_bytes(row)),
            (_, Original::Spliced { kept, .. }) if kept.get(row) == Some(&true) => Some(self.original_bytes(row)),
            _ => None,
        }
    }

    /// Whether a row of these may have bytes of its own.
    pub fn has_raw(&self) -> bool {
        match (&self.body, &self.original) {
            (Body::Raw, _) => true,
            (_, Original::Spliced { kept, .. }) => !kept.is_empty(),
            _ => false,
        }
    }

    fn original_bytes(&self, row: usize) -> &[u8] {
        let message = || self.messages.get(row).copied().unwrap_or_default();
        match &self.original {
            Original::None => &[],
            Original::Bytes(rows) => rows.get(row).map(|bytes| &**bytes).unwrap_or_default(),
            Original::Payload(payloads) | Original::Spliced { payloads, .. } => payloads.get(message()),
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
