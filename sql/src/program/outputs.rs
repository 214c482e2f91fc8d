//! What rules have in common in their SELECT lists and templates, evaluated once for all of them.
//!
//! Expressions that the same rules name are evaluated together, over the rows that any of these rules lets pass; each
//! rule then takes its own rows, which costs nothing where they are all rows.

use ahash::AHashMap;
use arrow::array::UInt32Array;

use super::columns::{Draft, differs_by_call};
use super::exprs::{Exprs, Shared};
use super::paths::anywhere;
use crate::ast::{Dialect, Expr, ExprKind};
use crate::column::Column;
use crate::lower::Batch;
use crate::shred::Paths;

/// All expressions that more than one rule has.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    sets: Vec<Set>,
    /// The places of a rule's expressions, by rule.
    places: Vec<Vec<Output>>,
}

/// Expressions that the same rules have.
#[derive(Debug)]
struct Set {
    dialect: Dialect,
    exprs: Exprs,
    /// The rules, ascending.
    users: Vec<usize>,
    results: Results,
}

/// Columns for the rows that rules which have them in common let pass.
#[derive(Debug)]
pub(super) struct Results {
    rows: Vec<u32>,
    columns: Vec<Column>,
    /// For each message its place among the rows, once somebody has asked for some of them.
    places: Vec<u32>,
    /// The places of the rows of the rule that asked last.
    choice: (Option<usize>, Choice),
    dialect: Dialect,
    failed: bool,
}

/// Some of the rows, by their places.
#[derive(Debug)]
enum Choice {
    All,
    /// So many from a first one on.
    Range(usize, usize),
    Places(UInt32Array),
}

/// Where an expression of a rule is evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) enum Output {
    /// By the rule itself: the place among its own expressions.
    Own(usize),
    /// `*` as a value: the payload.
    Whole,
    Shared {
        set: usize,
        place: usize,
    },
}

impl Outputs {
    pub(super) fn new(drafts: &[Option<Draft<'_>>], paths: &mut Paths) -> Self {
        let mut users: AHashMap<Shared, Vec<usize>> = AHashMap::new();
        let mut keys: Vec<Vec<Option<Shared>>> = Vec::with_capacity(drafts.len());
        for (number, draft) in drafts.iter().enumerate() {
            let draft_keys = draft.iter().flat_map(|draft| draft.outputs.iter().map(|expr| draft.key(expr)));
            let draft_keys: Vec<Option<Shared>> = draft_keys.collect();
            for key in draft_keys.iter().flatten() {
                let users = users.entry(key.clone()).or_default();
                if users.last() != Some(&number) {
                    users.push(number);
                }
            }
            keys.push(draft_keys);
        }
        let mut outputs = Self::default();
        let mut sets: AHashMap<Vec<usize>, usize> = AHashMap::new();
        let mut known: AHashMap<Shared, Output> = AHashMap::new();
        for (draft, keys) in drafts.iter().zip(keys) {
            let mut own = 0;
            let exprs = draft.iter().flat_map(|draft| draft.outputs.iter().map(move |expr| (draft, *expr)));
            let places = exprs.zip(keys).map(|((draft, expr), key)| {
                if expr.kind == ExprKind::Star {
                    return Output::Whole;
                }
                let shared = key.filter(|key| users.get(key).is_some_and(|users| users.len() > 1));
                let place = shared.and_then(|key| {
                    if let Some(known) = known.get(&key) {
                        return Some(*known);
                    }
                    let place = outputs.add(draft, expr, users.get(&key)?, &mut sets, paths)?;
                    known.insert(key, place);
                    Some(place)
                });
                place.unwrap_or_else(|| {
                    own += 1;
                    Output::Own(own - 1)
                })
            });
            let places = places.collect();
            outputs.places.push(places);
        }
        outputs
    }

    fn add(
        &mut self,
        draft: &Draft<'_>,
        expr: &Expr,
        users: &[usize],
        sets: &mut AHashMap<Vec<usize>, usize>,
        paths: &mut Paths,
    ) -> Option<Output> {
        let set = *sets.entry(users.to_vec()).or_insert(self.sets.len());
        match self.sets.get_mut(set) {
            Some(set) => set.exprs.push(draft.rule, expr, paths)?,
            None => {
                let exprs = Exprs::new(draft.rule, &[expr], paths)?;
                let (dialect, users) = (draft.rule.dialect, users.to_vec());
                self.sets.push(Set { dialect, exprs, users, results: Results::failed(dialect) });
            }
        }
        Some(Output::Shared { set, place: self.sets.get(set)?.exprs.rows.len() - 1 })
    }

    /// Where a rule's expressions are evaluated, in their order.
    pub(super) fn places(&self, rule: usize) -> &[Output] {
        self.places.get(rule).map_or(&[], Vec::as_slice)
    }

    /// Evaluates them for the rows that pass, by rule.
    pub(super) fn evaluate(&mut self, batch: &Batch<'_>, passing: &[Vec<u32>]) {
        for set in &mut self.sets {
            let batch = Batch { dialect: set.dialect, ..*batch };
            let rows = union(&batch, passing, &set.users);
            set.results = match set.exprs.evaluate(&batch, &rows) {
                Ok(columns) => Results::new(rows, columns, set.dialect),
                Err(_) => Results::failed(set.dialect),
            };
        }
    }

    /// How many expressions are shared.
    #[cfg(test)]
    pub(super) fn shared(&self) -> usize {
        self.sets.iter().map(|set| set.exprs.rows.len()).sum()
    }

    /// A rule's column for its rows; `None` if the expression failed for a row of some rule.
    pub(super) fn column(&mut self, set: usize, place: usize, rule: usize, rows: &[u32]) -> Option<Column> {
        self.sets.get_mut(set)?.results.column(place, rule, rows)
    }
}

impl Results {
    /// Columns of rows, ascending.
    pub(super) fn new(rows: Vec<u32>, columns: Vec<Column>, dialect: Dialect) -> Self {
        Self { rows, columns, places: Vec::new(), choice: (None, Choice::All), dialect, failed: false }
    }

    fn failed(dialect: Dialect) -> Self {
        Self { failed: true, ..Self::new(Vec::new(), Vec::new(), dialect) }
    }

    /// All columns for a rule's rows, but those without a value in any of them.
    pub(super) fn present(&mut self, rule: usize, rows: &[u32]) -> Vec<Option<Column>> {
        self.choose(rule, rows);
        let (columns, choice, dialect) = (&self.columns, &self.choice.1, self.dialect);
        let chosen = columns.iter().map(|column| choice.of(column, dialect));
        let has_values = |column: &Column| (0..column.len()).any(|row| !column.is_undefined(row));
        let all = matches!(choice, Choice::All);
        chosen.map(|column| (all || has_values(&column)).then_some(column)).collect()
    }

    /// A column for a rule's rows.
    pub(super) fn column(&mut self, place: usize, rule: usize, rows: &[u32]) -> Option<Column> {
        if self.failed {
            return None;
        }
        self.choose(rule, rows);
        Some(self.choice.1.of(self.columns.get(place)?, self.dialect))
    }

    /// Finds the places of a rule's rows.
    fn choose(&mut self, rule: usize, rows: &[u32]) {
        if self.choice.0 == Some(rule) {
            return;
        }
        self.choice = (Some(rule), self.choice_of(rows));
    }

    fn choice_of(&mut self, rows: &[u32]) -> Choice {
        if rows.len() == self.rows.len() {
            return Choice::All;
        }
        if self.places.is_empty() {
            self.places = vec![0; self.rows.last().map_or(0, |last| *last as usize + 1)];
            for (place, row) in self.rows.iter().enumerate() {
                if let Some(of_row) = self.places.get_mut(*row as usize) {
                    *of_row = place as u32;
                }
            }
        }
        let place = |row: &u32| self.places.get(*row as usize).copied().unwrap_or_default();
        let (first, last) = (rows.first().map_or(0, place), rows.last().map_or(0, place));
        // Rows and places ascend alike.
        if (last - first) as usize + 1 == rows.len() {
            return Choice::Range(first as usize, rows.len());
        }
        Choice::Places(rows.iter().map(place).collect())
    }
}

impl Choice {
    fn of(&self, column: &Column, dialect: Dialect) -> Column {
        match self {
            Self::All => column.clone(),
            Self::Range(first, len) => column.slice(*first, *len),
            Self::Places(places) => column.take(places, dialect),
        }
    }
}

/// The rows that pass in any of these rules, by rule.
pub(super) fn union(batch: &Batch<'_>, passing: &[Vec<u32>], users: &[usize]) -> Vec<u32> {
    let all = batch.shredder.all_rows();
    let mut some = users.iter().filter_map(|user| passing.get(*user)).filter(|rows| !rows.is_empty());
    let Some(first) = some.next() else { return Vec::new() };
    let mut is_in: Vec<bool> = Vec::new();
    for rows in some {
        if rows.len() == all.len() {
            return all.to_vec();
        }
        let more = if is_in.is_empty() { first.as_slice() } else { &[] };
        is_in.resize(all.len(), false);
        more.iter()
            .chain(rows)
            .for_each(|row| is_in.get_mut(*row as usize).into_iter().for_each(|is_in| *is_in = true));
    }
    if is_in.is_empty() {
        return first.clone();
    }
    all.iter().zip(is_in).filter(|(_, is_in)| *is_in).map(|(row, _)| *row).collect()
}

impl<'r> Draft<'r> {
    /// What an expression is known by among several rules, if they can have it in common.
    fn key(&self, expr: &Expr) -> Option<Shared> {
        (expr.kind != ExprKind::Star && !anywhere(expr, &differs_by_call)).then(|| Shared::of(self.rule, expr))
    }
}
