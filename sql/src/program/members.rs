//! `*` as columns: the top-level members of payloads, or the payloads themselves, gathered once for all rules that take
//! them.

use std::sync::Arc;

use arrow::array::StringBuilder;

use super::outputs::{Results, union};
use crate::ast::Dialect;
use crate::column::{Column, ColumnData};
use crate::lower::Batch;
use crate::shred::Whole;

/// The members of the payloads of a batch, by dialect.
#[derive(Debug, Default)]
pub(super) struct Members {
    sets: Vec<Set>,
}

#[derive(Debug)]
struct Set {
    dialect: Dialect,
    /// The rules that want them.
    users: Vec<usize>,
    names: Vec<Arc<str>>,
    results: Option<Results>,
}

impl Members {
    /// A rule wants them.
    pub(super) fn add(&mut self, dialect: Dialect, rule: usize) {
        match self.sets.iter_mut().find(|set| set.dialect == dialect) {
            Some(set) => set.users.push(rule),
            None => self.sets.push(Set { dialect, users: vec![rule], names: Vec::new(), results: None }),
        }
    }

    /// Gathers them for the rows that pass, by rule.
    pub(super) fn gather(&mut self, batch: &Batch<'_>, passing: &[Vec<u32>]) {
        for set in &mut self.sets {
            let rows = union(batch, passing, &set.users);
            let members = batch.shredder.members(&rows).into_iter();
            let columns = members.map(|(name, cells)| (name, cells.column(cells.kind(), &batch.messages, set.dialect)));
            let (names, columns) = columns.unzip();
            set.names = names;
            set.results = Some(Results::new(rows, columns, set.dialect));
        }
    }

    /// Those of a rule's rows; a member that none of them has is not among them.
    pub(super) fn of(&mut self, dialect: Dialect, rule: usize, rows: &[u32]) -> Vec<(Arc<str>, Column)> {
        let Some(set) = self.sets.iter_mut().find(|set| set.dialect == dialect) else { return Vec::new() };
        let columns = set.results.iter_mut().flat_map(|results| results.present(rule, rows));
        set.names.iter().cloned().zip(columns).filter_map(|(name, column)| Some((name, column?))).collect()
    }
}

/// The payloads of a batch that are objects or arrays, as values.
#[derive(Debug, Default)]
pub(super) struct Wholes {
    /// The rules that want them.
    users: Vec<usize>,
    results: Option<Results>,
}

impl Wholes {
    /// A rule wants them.
    pub(super) fn add(&mut self, rule: usize) {
        self.users.push(rule);
    }

    /// Gathers them for the rows that pass, by rule.
    pub(super) fn gather(&mut self, batch: &Batch<'_>, passing: &[Vec<u32>]) {
        if self.users.is_empty() {
            return;
        }
        let rows = union(batch, passing, &self.users);
        let mut texts = StringBuilder::new();
        rows.iter().for_each(|row| texts.append_option(document(batch, *row)));
        let column = Column::of(ColumnData::Json(texts.finish()));
        self.results = Some(Results::new(rows, vec![column], batch.dialect));
    }

    /// Those of a rule's rows.
    pub(super) fn of(&mut self, rule: usize, rows: &[u32]) -> Option<Column> {
        self.results.as_mut()?.column(0, rule, rows)
    }
}

/// A payload that is an object or array, without what may stand around it.
fn document<'m>(batch: &Batch<'m>, row: u32) -> Option<&'m str> {
    let whole = batch.shredder.rows().get(row as usize)?.whole;
    let payload = batch.messages.get(row as usize)?.payload;
    let (open, close) = match whole {
        Whole::Object | Whole::WideObject => (b'{', b'}'),
        Whole::Array => (b'[', b']'),
        Whole::Scalar | Whole::Empty | Whole::NotJson => return None,
    };
    let (start, end) = (memchr::memchr(open, payload)?, memchr::memrchr(close, payload)?);
    std::str::from_utf8(payload.get(start..=end)?).ok()
}
