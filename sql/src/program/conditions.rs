//! WHERE: the conditions that rules join by AND, those that several rules have evaluated once.
//!
//! Conditions that read the same sources are evaluated together, over all rows of a batch, so that it costs a
//! source once however many rules test it. Rules from the index look at their own rows only, and evaluate by themselves.

use arrow::buffer::BooleanBuffer;

use super::exprs::{Exprs, RowExpr, Shared};
use crate::ast::{Dialect, Expr};
use crate::column::{Column, Place};
use crate::eval::Failure;
use crate::lower::{Batch, Found, TermSet, truth};
use crate::rule::Rule;
use crate::shred::Paths;

/// The conditions of all rules that look at every row.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    sets: Vec<Set>,
    /// Set and place in it, by what the expression says.
    known: ahash::AHashMap<Shared, Condition>,
}

/// Conditions of one dialect that read the same sources.
#[derive(Debug)]
struct Set {
    dialect: Dialect,
    exprs: Exprs,
    /// Where each holds, in the batch at hand.
    truths: Vec<Truth>,
}

/// Where a condition holds.
#[derive(Debug)]
enum Truth {
    Known(BooleanBuffer),
    /// That has to be found row by row.
    RowWise,
    /// That has to be found row by row for some.
    Partly {
        may_hold: BooleanBuffer,
        undecided: BooleanBuffer,
    },
}

/// A condition's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition {
    set: usize,
    place: usize,
}

impl Conditions {
    /// The place of a rule's condition, new or known; `None` if it is too large.
    pub(super) fn add(&mut self, rule: &Rule, expr: &Expr, paths: &mut Paths) -> Option<Condition> {
        let shared = Shared::of(rule, expr);
        if let Some(known) = self.known.get(&shared) {
            return Some(*known);
        }
        let one = Exprs::new(rule, &[expr], paths)?;
        let columnar = one.terms.terms.iter().all(Result::is_ok);
        let fits = |set: &Set| set.dialect == rule.dialect && set.exprs.terms.sources == one.terms.sources;
        let set = self.sets.iter().position(|set| columnar && fits(set)).unwrap_or(self.sets.len());
        match self.sets.get_mut(set) {
            Some(set) => set.exprs.append(one),
            None => self.sets.push(Set { dialect: rule.dialect, exprs: one, truths: Vec::new() }),
        }
        let place = self.sets.get(set)?.exprs.rows.len() - 1;
        self.known.insert(shared, Condition { set, place });
        Some(Condition { set, place })
    }

    /// Forgets what was only needed to add.
    pub(super) fn close(&mut self) {
        self.known = ahash::AHashMap::new();
    }

    /// Evaluates all of them over a batch.
    pub(super) fn evaluate(&mut self, batch: &Batch<'_>) {
        for set in &mut self.sets {
            let batch = Batch { dialect: set.dialect, ..*batch };
            set.truths = truths(&mut set.exprs.terms, &batch, batch.shredder.all_rows());
        }
    }

    /// The rows of the batch for which all of these conditions hold.
    pub(super) fn passing(&self, conditions: &[Condition], batch: &Batch<'_>) -> Result<Vec<u32>, Failure> {
        let found = conditions.iter().filter_map(|condition| {
            let set = self.sets.get(condition.set)?;
            Some((set.truths.get(condition.place)?, set.exprs.rows.get(condition.place)?))
        });
        choose(batch.shredder.all_rows(), found, batch)
    }
}

/// The rows, of some of the batch, for which conditions hold that no other rule is asked about.
pub(super) fn passing_alone(exprs: &mut Exprs, batch: &Batch<'_>, rows: &[u32]) -> Result<Vec<u32>, Failure> {
    if exprs.rows.is_empty() {
        return Ok(rows.to_vec());
    }
    let truths = truths(&mut exprs.terms, batch, rows);
    choose(rows, truths.iter().zip(&exprs.rows), batch)
}

/// A plan that fails, which it should never, leaves its conditions to be evaluated row by row.
fn truths(terms: &mut TermSet, batch: &Batch<'_>, rows: &[u32]) -> Vec<Truth> {
    let Ok(Found { columns, in_parts, parts, places }) = terms.evaluate(batch, rows) else {
        return terms.terms.iter().map(|_| Truth::RowWise).collect();
    };
    let truth_of = |(term, column): (usize, Option<Column>)| match column {
        Some(column) => truth(&column).map_or(Truth::RowWise, Truth::Known),
        None if in_parts.binary_search(&term).is_ok() => {
            let parts = parts.iter().map(|part| part.columns.get(term)?.as_ref().and_then(truth));
            Truth::of_parts(&parts.collect::<Vec<_>>(), &places)
        }
        None => Truth::RowWise,
    };
    columns.into_iter().enumerate().map(truth_of).collect()
}

impl Truth {
    /// By part, where the condition holds, if that is known.
    fn of_parts(parts: &[Option<BooleanBuffer>], places: &[Place]) -> Self {
        if parts.iter().all(Option::is_none) {
            return Self::RowWise;
        }
        let part = |row: usize| places.get(row).map(|place| (parts.get(place.part as usize), place.row as usize));
        let may_hold = |row| match part(row) {
            Some((Some(Some(holds)), row)) => holds.value(row),
            _ => true,
        };
        let may_hold = BooleanBuffer::collect_bool(places.len(), may_hold);
        if parts.iter().all(Option::is_some) {
            return Self::Known(may_hold);
        }
        let undecided = BooleanBuffer::collect_bool(places.len(), |row| matches!(part(row), Some((Some(None), _))));
        Self::Partly { may_hold, undecided }
    }
}

/// What conditions on columns leave, and of that what conditions row by row do.
fn choose<'c>(
    rows: &[u32],
    conditions: impl Iterator<Item = (&'c Truth, &'c RowExpr)>,
    batch: &Batch<'_>,
) -> Result<Vec<u32>, Failure> {
    let mut may_hold: Option<BooleanBuffer> = None;
    let mut row_wise = Vec::new();
    for (truth, expr) in conditions {
        let holds = match truth {
            Truth::Known(holds) => holds,
            Truth::RowWise => {
                row_wise.push((expr, None));
                continue;
            }
            Truth::Partly { may_hold, undecided } => {
                row_wise.push((expr, Some(undecided)));
                may_hold
            }
        };
        may_hold = Some(match may_hold {
            Some(others) => &others & holds,
            None => holds.clone(),
        });
    }
    let may_hold = may_hold.filter(|holds| holds.count_set_bits() < rows.len());
    if row_wise.is_empty() {
        return Ok(match may_hold {
            Some(holds) => holds.set_indices().filter_map(|place| rows.get(place).copied()).collect(),
            None => rows.to_vec(),
        });
    }
    let mut places: Vec<usize> = may_hold.map_or((0..rows.len()).collect(), |holds| holds.set_indices().collect());
    for (expr, undecided) in row_wise {
        let mut passing = Vec::with_capacity(places.len());
        for place in places {
            let Some(row) = rows.get(place) else { continue };
            let decided = undecided.is_some_and(|undecided| !undecided.value(place));
            if decided || expr.evaluate(batch, *row)?.to_bool() == Some(true) {
                passing.push(place);
            }
        }
        places = passing;
    }
    Ok(places.into_iter().filter_map(|place| rows.get(place).copied()).collect())
}
