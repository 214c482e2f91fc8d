//! Texts of action templates, row by row.

use std::sync::Arc;

use arrow::array::{Array, LargeStringArray, LargeStringBuilder, StringArray};

/// What one template gives for the rows of a rule.
#[derive(Clone, Debug)]
pub struct Texts(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// A template without expressions.
    Same(Arc<str>),
    /// A template that is one expression whose values are texts.
    Column(StringArray),
    Each(LargeStringArray),
}

impl Texts {
    /// The same text for every row.
    pub fn same(text: impl Into<Arc<str>>) -> Self {
        Self(Kind::Same(text.into()))
    }

    /// The texts of a column without missing ones.
    pub(super) fn column(texts: &StringArray) -> Self {
        Self(Kind::Column(texts.clone()))
    }

    /// The text of a row; `None`: the template failed, and the action has nothing to go by.
    pub fn get(&self, row: usize) -> Option<&str> {
        match &self.0 {
            Kind::Same(text) => Some(text),
            Kind::Column(texts) => (row < texts.len() && texts.is_valid(row)).then(|| texts.value(row)),
            Kind::Each(texts) => (row < texts.len() && texts.is_valid(row)).then(|| texts.value(row)),
        }
    }

    /// Those of some rows, by their places.
    pub(super) fn take(&self, places: &[u32]) -> Self {
        match &self.0 {
            Kind::Same(_) => self.clone(),
            _ => places.iter().map(|place| self.get(*place as usize)).collect(),
        }
    }
}

impl<T: AsRef<str>> FromIterator<Option<T>> for Texts {
    fn from_iter<I: IntoIterator<Item = Option<T>>>(texts: I) -> Self {
        let mut all = LargeStringBuilder::new();
        texts.into_iter().for_each(|text| all.append_option(text));
        Self(Kind::Each(all.finish()))
    }
}
