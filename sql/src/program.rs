//! Programs: all rules that match the same topics, compiled together and run over batches of messages.
//!
//! The rows of a rule come out as columns, so that a lake or a table takes them as they are, and as JSON text on
//! demand. [`mod@reference`] says what the rows must be, message by message; everything faster must agree with it. A
//! program knows no sinks and keeps nothing of a message once its rows are out.

mod columns;
mod json;
mod merge;
mod paths;
mod rebuild;
pub mod reference;
mod row_expr;
mod rows;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

use crate::ast::Dialect;
use crate::column::Column;
use crate::message::Message;
use crate::rule::Rule;

use crate::lower::Batch;
use crate::shred::{Paths, Shredder};
use columns::ColumnRule;
use reference::Reference;
use rows::Original;

pub(crate) use paths::{anywhere, as_path, exprs};

/// The rows that one rule gives for a batch.
#[derive(Debug)]
pub struct RuleRows {
    /// The rule, by its place in the slice given to [`Program::new`].
    pub rule: usize,
    /// Its rows.
    pub rows: Rows,
    /// Messages for which something went wrong.
    pub rejects: Vec<Reject>,
    /// For each path that the rule reads: its name, how many messages were looked at, and in how many it is Undefined.
    pub undefined: Vec<(String, u64, u64)>,
}

/// Something went wrong for a message: its payload is not JSON, or a function failed. There may be a row all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The message, by its place in the batch.
    pub message: u32,
    /// What, for the user.
    pub reason: String,
}

/// Rows of one rule.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The message of each row, by its place in the batch, ascending.
    pub messages: Vec<u32>,
    /// What the rows are.
    pub body: Body,
    /// The text of each action template, template by template in the order of [`Rule::templates`], row by row. `None`:
    /// it failed, and the action has nothing to go by for this row.
    pub templates: Vec<Vec<Option<String>>>,
    /// Which numbers inside arrays and objects are Int.
    dialect: Dialect,
    /// What the JSON text of a row is made from besides the columns.
    original: Original,
}

/// What rows are.
#[derive(Clone, Debug)]
pub enum Body {
    /// Objects: their members as columns. A row in which a member is Undefined does not have it. For a windowed rule the
    /// members are its group keys `k0`, `k1` … and aggregate arguments `a0`, `a1` … (`count(*)` has `true`).
    Members(Vec<(Arc<str>, Column)>),
    /// Bytes: payloads passed on untouched, or the results of SELECT VALUE. A rule with `SELECT *` alone whose rows go
    /// to a table or sink gives the payloads that are objects as members and the others like this, in rows of their own.
    Raw(Vec<Bytes>),
}

/// All rules that match the same topics.
#[derive(Debug)]
pub struct Program {
    rules: Vec<RuleProgram>,
    shredder: Shredder,
    /// Whether a rule on columns looks at payloads.
    shreds: bool,
}

/// How a rule runs.
#[derive(Debug)]
enum RuleProgram {
    Columns(Box<ColumnRule>),
    /// Message by message: what has results that depend on the order of calls, or builds nested objects.
    Reference(Reference),
}

impl Program {
    /// Compiles rules.
    pub fn new(rules: &[Arc<Rule>]) -> Self {
        let mut paths = Paths::new();
        let compile = |rule: &Arc<Rule>| match ColumnRule::new(rule, &mut paths) {
            Some(columns) => RuleProgram::Columns(Box::new(columns)),
            None => RuleProgram::Reference(Reference::new(Arc::clone(rule))),
        };
        let rules: Vec<RuleProgram> = rules.iter().map(compile).collect();
        let any = |holds: &dyn Fn(&ColumnRule) -> bool| {
            rules.iter().any(|rule| matches!(rule, RuleProgram::Columns(columns) if holds(columns)))
        };
        let all_members = any(&ColumnRule::wants_all_members);
        let shreds = any(&ColumnRule::needs_payload);
        Self { rules, shredder: Shredder::new(paths, all_members), shreds }
    }

    /// A program that does everything message by message, by the reference.
    pub fn by_reference(rules: &[Arc<Rule>]) -> Self {
        let rules = rules.iter().map(|rule| RuleProgram::Reference(Reference::new(Arc::clone(rule)))).collect();
        Self { rules, shredder: Shredder::new(Paths::new(), false), shreds: false }
    }

    /// Runs all rules over a batch of messages that match them, and appends their rows. A rule may give several
    /// [`RuleRows`]; each has its rows in the order of the messages.
    pub fn evaluate(&mut self, messages: &[Message<'_>], out: &mut Vec<RuleRows>) {
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
                rows.rows.messages.iter_mut().for_each(|message| *message += from as u32);
                rows.rejects.iter_mut().for_each(|reject| reject.message += from as u32);
            }
            from += count.max(1);
        }
    }

    fn evaluate_part(&mut self, messages: &[Message<'_>], out: &mut Vec<RuleRows>) {
        let mut told = vec![false; messages.len()];
        for (index, rule) in self.rules.iter_mut().enumerate() {
            match rule {
                RuleProgram::Columns(columns) => {
                    let dialect = columns.dialect();
                    let batch = Batch { shredder: &self.shredder, messages, dialect };
                    columns.evaluate(index, &batch, &mut told, out);
                }
                RuleProgram::Reference(rule) => rule.evaluate(index, messages, &mut told, out),
            }
        }
    }
}
