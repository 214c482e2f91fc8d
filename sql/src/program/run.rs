//! Running a program over a batch: payloads are shredded once, each rule finds its rows, and what rules have in common
//! is evaluated before any of them puts its rows together.

use super::columns::{Common, Filter};
use super::outputs::union;
use super::payloads::Payloads;
use super::reference::Reference;
use super::rows::Original;
use super::{Body, Face, Program, Reject, Rows, RuleProgram, RuleRows};
use crate::ast::Dialect;
use crate::eval::Failure;
use crate::lower::{Batch, Cache};
use crate::message::Message;
use crate::scan::ScanError;
use crate::shred::Tag;

/// For what is the same in every dialect.
const ANY: Dialect = Dialect::Native;

impl Program {
    /// Runs all rules over a batch of messages that match them, and appends their rows. A rule may give several
    /// [`RuleRows`], or none; each has its rows in the order of the messages.
    pub fn evaluate(&mut self, messages: &[Message<'_>], out: &mut Vec<RuleRows>) {
        self.reads.undefined.fill(0);
        let first = out.len();
        let mut from = 0;
        while let Some(rest) = messages.get(from..).filter(|rest| !rest.is_empty()) {
            let count = if self.shreds {
                self.shredder.shred(rest.iter().map(|message| message.payload))
            } else {
                self.shredder.pass(rest.len());
                rest.len()
            };
            let before = out.len();
            self.evaluate_part(rest.get(..count).unwrap_or(rest), out);
            for rows in out.iter_mut().skip(before).filter(|_| from > 0) {
                rows.rows.shift(from as u32);
                rows.rejects.iter_mut().for_each(|reject| reject.message += from as u32);
            }
            from += count.max(1);
        }
        self.faces.name(out.get_mut(first..).unwrap_or_default());
    }

    fn evaluate_part(&mut self, messages: &[Message<'_>], out: &mut Vec<RuleRows>) {
        if self.shreds {
            self.tell(out);
            self.count();
        }
        let cache = Cache::default();
        let mut failed = self.pass(messages, &cache);
        let batch = Batch { shredder: &self.shredder, messages, dialect: ANY, cache: &cache };
        self.outputs.evaluate(&batch, &self.passing);
        self.members.gather(&batch, &self.passing);
        self.wholes.gather(&batch, &self.passing);
        let payloads = union(&batch, &self.passing, &self.passing_on);
        let payloads = Payloads::copy(messages, &payloads);
        let Self { outputs, members, wholes, .. } = self;
        let mut common = Common { outputs, members, wholes, payloads: &payloads };
        for index in self.active.drain(..) {
            let (Some(RuleProgram::Columns(rule)), Some(passing)) =
                (self.rules.get_mut(index), self.passing.get_mut(index))
            else {
                continue;
            };
            let batch = Batch { dialect: rule.dialect(), ..batch };
            match rule.rows(&batch, std::mem::take(passing), index, &mut common) {
                Some(all) => {
                    let of_rule = |rows| RuleRows { rule: index, face: Face::Rows, rows, rejects: Vec::new() };
                    out.extend(all.into_iter().map(of_rule));
                }
                None => failed.push(index),
            }
        }
        self.by_message(messages, &failed, out);
    }

    /// Tells one rule which payloads are not JSON.
    fn tell(&self, out: &mut Vec<RuleRows>) {
        let Some(rule) = self.told.filter(|_| !self.shredder.mistakes().is_empty()) else { return };
        let reason = |error: &ScanError| match error {
            ScanError::Members { .. } => error.to_string(),
            error => format!("payload is not JSON: {error}"),
        };
        let mistakes = self.shredder.mistakes().iter();
        let rejects =
            mistakes.map(|(row, error)| Reject { message: *row, reason: reason(error), function: None }).collect();
        let rows = Rows::new(Vec::new(), Body::Members(Vec::new()), ANY, Original::None, Vec::new());
        out.push(RuleRows { rule, face: Face::Rows, rows, rejects });
    }

    /// Counts in how many messages each path is Undefined.
    fn count(&mut self) {
        let shredder = &self.shredder;
        for (slot, undefined) in self.reads.slots.iter().zip(&mut self.reads.undefined) {
            let slot = usize::from(*slot);
            if shredder.groups().has_undefined(slot) {
                let cells = shredder.cells(slot, shredder.all_rows());
                *undefined += cells.iter().map(|(_, cell)| u64::from(cell.tag == Tag::Undefined)).sum::<u64>();
            }
        }
    }

    /// Finds the rows that pass, by rule; gives the rules for which that failed.
    fn pass(&mut self, messages: &[Message<'_>], cache: &Cache) -> Vec<usize> {
        let Self { rules, shredder, index: by_value, conditions, everywhere, passing, active, .. } = self;
        let mut failed = Vec::new();
        let batch = Batch { shredder, messages, dialect: ANY, cache };
        by_value.select(&batch);
        conditions.evaluate(&batch);
        let mut keep = |index: usize, rows: Result<Vec<u32>, Failure>| match rows {
            Ok(rows) if rows.is_empty() => {}
            Ok(rows) => {
                active.push(index);
                if let Some(passing) = passing.get_mut(index) {
                    *passing = rows;
                }
            }
            Err(_) => failed.push(index),
        };
        for index in everywhere.iter() {
            let Some(RuleProgram::Columns(rule)) = rules.get(*index) else { continue };
            if let Filter::Shared(of_rule) = rule.filter() {
                let batch = Batch { dialect: rule.dialect(), ..batch };
                keep(*index, conditions.passing(of_rule, &batch));
            }
        }
        for (index, rows) in by_value.touched() {
            match rules.get_mut(index) {
                Some(RuleProgram::Columns(rule)) => {
                    let batch = Batch { dialect: rule.dialect(), ..batch };
                    keep(index, rule.passing_alone(&batch, rows));
                }
                // The reference tests all conditions by itself.
                Some(RuleProgram::Reference(_)) => keep(index, Ok(rows.clone())),
                None => {}
            }
        }
        failed.sort_unstable();
        failed.dedup();
        for index in &failed {
            passing.get_mut(*index).into_iter().for_each(Vec::clear);
        }
        active.retain(|index| failed.binary_search(index).is_err());
        active.sort_unstable();
        failed
    }

    /// Runs what runs message by message, and the rules for which columns `failed`.
    fn by_message(&mut self, messages: &[Message<'_>], failed: &[usize], out: &mut Vec<RuleRows>) {
        // What is not JSON has been told where payloads are shredded, and paths have been counted.
        if self.references.is_empty() && failed.is_empty() {
            return;
        }
        let mut told = vec![self.shreds; messages.len()];
        for index in self.references.iter().chain(failed).copied() {
            let Some(reference) = self.rules.get(index).map(RuleProgram::reference) else { continue };
            let mut undefined = vec![0; reference.paths().len()];
            let rows = self.passing.get_mut(index).map(std::mem::take).unwrap_or_default();
            if self.index.condition(index).is_some() && !failed.contains(&index) {
                some(reference, index, messages, &rows, out);
                continue;
            }
            reference.evaluate(index, messages, &mut told, &mut undefined, out);
            if !self.shreds {
                for (place, count) in self.reads.of_rules.get(index).into_iter().flatten().zip(undefined) {
                    self.reads.undefined.get_mut(*place).into_iter().for_each(|undefined| *undefined = count);
                }
            }
        }
    }
}

/// A rule message by message, for some of the messages.
fn some(reference: &Reference, index: usize, messages: &[Message<'_>], rows: &[u32], out: &mut Vec<RuleRows>) {
    if rows.is_empty() {
        return;
    }
    let chosen: Vec<Message<'_>> = rows.iter().filter_map(|row| messages.get(*row as usize).copied()).collect();
    let (mut told, mut undefined) = (vec![true; chosen.len()], vec![0; reference.paths().len()]);
    let before = out.len();
    reference.evaluate(index, &chosen, &mut told, &mut undefined, out);
    for found in out.iter_mut().skip(before) {
        found.rows.renumber(rows);
        for reject in &mut found.rejects {
            reject.message = rows.get(reject.message as usize).copied().unwrap_or_default();
        }
    }
}
