//! WHERE: the conditions that rules join by AND, those that several rules have evaluated once.
//!
//! Conditions that read the same sources are evaluated together, over all rows of a group, so that a batch costs a
//! source once however many rules test it. Rules from the index look at their own rows only, and evaluate by themselves.

use arrow::buffer::BooleanBuffer;

use super::exprs::{Exprs, RowExpr, Shared};
use crate::ast::{Dialect, Expr};
use crate::eval::Failure;
use crate::lower::{Batch, TermSet, truth};
use crate::rule::Rule;
use crate::shred::{Group, Paths, SlotKind};

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
    /// Where each holds, in the group at hand; `None` if that has to be found row by row.
    truths: Vec<Option<BooleanBuffer>>,
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

    /// Evaluates all of them over a group.
    pub(super) fn evaluate(&mut self, batch: &Batch<'_>, group: &Group) {
        for set in &mut self.sets {
            let batch = Batch { dialect: set.dialect, ..*batch };
            set.truths = truths(&mut set.exprs.terms, &batch, &group.kinds, &group.rows);
        }
    }

    /// The rows of the group for which all of these conditions hold.
    pub(super) fn passing(
        &self,
        conditions: &[Condition],
        batch: &Batch<'_>,
        group: &Group,
    ) -> Result<Vec<u32>, Failure> {
        let found = conditions.iter().filter_map(|condition| {
            let set = self.sets.get(condition.set)?;
            Some((set.truths.get(condition.place)?.as_ref(), set.exprs.rows.get(condition.place)?))
        });
        choose(&group.rows, found, batch)
    }
}

/// The rows, of some of a group, for which conditions hold that no other rule is asked about.
pub(super) fn passing_alone(
    exprs: &mut Exprs,
    batch: &Batch<'_>,
    kinds: &[SlotKind],
    rows: &[u32],
) -> Result<Vec<u32>, Failure> {
    if exprs.rows.is_empty() {
        return Ok(rows.to_vec());
    }
    let truths = truths(&mut exprs.terms, batch, kinds, rows);
    choose(rows, truths.iter().map(Option::as_ref).zip(&exprs.rows), batch)
}

/// A plan that fails, which it should never, leaves its conditions to be evaluated row by row.
fn truths(terms: &mut TermSet, batch: &Batch<'_>, kinds: &[SlotKind], rows: &[u32]) -> Vec<Option<BooleanBuffer>> {
    match terms.evaluate(batch, kinds, rows) {
        Ok(columns) => columns.iter().map(|column| column.as_ref().and_then(truth)).collect(),
        Err(_) => vec![None; terms.terms.len()],
    }
}

/// What conditions on columns leave, and of that what conditions row by row do.
fn choose<'c>(
    rows: &[u32],
    conditions: impl Iterator<Item = (Option<&'c BooleanBuffer>, &'c RowExpr)>,
    batch: &Batch<'_>,
) -> Result<Vec<u32>, Failure> {
    let mut truth: Option<BooleanBuffer> = None;
    let mut row_wise = Vec::new();
    for (holds, expr) in conditions {
        truth = match (holds, truth) {
            (Some(holds), Some(truth)) => Some(&truth & holds),
            (Some(holds), None) => Some(holds.clone()),
            (None, truth) => {
                row_wise.push(expr);
                truth
            }
        };
    }
    let mut chosen = match truth {
        Some(truth) if truth.count_set_bits() < rows.len() => {
            truth.set_indices().filter_map(|place| rows.get(place).copied()).collect()
        }
        _ => rows.to_vec(),
    };
    for expr in row_wise {
        let mut passing = Vec::with_capacity(chosen.len());
        for row in chosen {
            if expr.evaluate(batch, row)?.to_bool() == Some(true) {
                passing.push(row);
            }
        }
        chosen = passing;
    }
    Ok(chosen)
}
