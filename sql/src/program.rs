//! Programs: all rules that match the same topics, compiled together and run over batches of messages.
//!
//! The rows of a rule come out as columns, so that a lake or a table takes them as they are, and as JSON text on
//! demand. [`mod@reference`] says what the rows must be, message by message; everything faster must agree with it. A
//! program knows no sinks and keeps nothing of a message once its rows are out.

mod absence;
mod calling;
mod columns;
mod conditions;
mod explain;
mod exprs;
mod index;
mod json;
mod members;
mod merge;
mod outputs;
mod paths;
mod payloads;
mod rebuild;
pub mod reference;
mod row_expr;
mod rows;
mod run;
mod stored;
mod texts;

#[cfg(test)]
mod many_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ahash::AHashSet;

use crate::ast::Dialect;
use crate::column::Column;
use crate::rule::Rule;
use crate::shred::{Paths, Shredder};

use absence::Faces;
use columns::{ColumnRule, Draft, Filter};
use conditions::Conditions;
use exprs::Exprs;
use index::Index;
use members::{Members, Wholes};
use outputs::{Output, Outputs};
use reference::Reference;
use rows::Original;

pub use absence::Face;
pub use calling::{Answer, Answers, Call, Calling, Evaluated, Request};
pub use explain::{Explained, Explanation, explain};
pub(crate) use paths::as_path;
pub use stored::{ROW_FORMAT, StoredRowError};
pub use texts::Texts;

/// The rows that one rule gives for a batch.
#[derive(Debug)]
pub struct RuleRows {
    /// The rule, by its place in the slice given to [`Program::new`].
    pub rule: usize,
    /// Which part of it, if the rule has AFTER.
    pub face: Face,
    /// Its rows.
    pub rows: Rows,
    /// Messages for which something went wrong.
    pub rejects: Vec<Reject>,
}

/// Something went wrong for a message: its payload is not JSON, or a function failed. There may be a row all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The message, by its place in the batch.
    pub message: u32,
    /// What, for the user.
    pub reason: String,
    /// The function that asks another system, if it was one that failed.
    pub function: Option<Arc<str>>,
}

/// Rows of one rule.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The message of each row, by its place in the batch, ascending.
    pub messages: Vec<u32>,
    /// What the rows are.
    pub body: Body,
    /// The texts of each action template, in the order of [`Rule::templates`].
    pub templates: Vec<Texts>,
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
    /// Bytes ([`Rows::raw`]): payloads passed on untouched, or the results of SELECT VALUE. A rule with `SELECT *` alone
    /// whose rows go to a table or sink gives the payloads that are objects as members and the others like this, in rows
    /// of their own.
    Raw,
}

/// All rules that match the same topics.
#[derive(Debug)]
pub struct Program {
    /// The rules; of one with AFTER, its faces.
    rules: Vec<RuleProgram>,
    faces: Faces,
    shredder: Shredder,
    /// Whether payloads are shredded: a rule looks at them.
    shreds: bool,
    /// The first rule that looks at payloads is told which are not JSON, once for all.
    told: Option<usize>,
    index: Index,
    /// The rules on columns that look at every row.
    everywhere: Vec<usize>,
    conditions: Conditions,
    outputs: Outputs,
    members: Members,
    wholes: Wholes,
    /// The rules that hand on payloads.
    passing_on: Vec<usize>,
    /// What the rules read.
    reads: Reads,
    /// The rules that run message by message.
    references: Vec<usize>,
    /// The rows that pass, by rule; kept for its memory.
    passing: Vec<Vec<u32>>,
    /// The rules that have some.
    active: Vec<usize>,
}

/// The paths that the rules of a program read, each once.
#[derive(Debug, Default)]
struct Reads {
    names: Vec<Arc<str>>,
    slots: Vec<u16>,
    /// By face, the places of its paths.
    of_rules: Vec<Vec<usize>>,
    /// By rule, the places of the paths of all its faces.
    of_all_faces: Vec<Vec<usize>>,
    /// In how many of the messages of the last batch each was Undefined.
    undefined: Vec<u64>,
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
        let (faces, rules) = Faces::of(rules);
        let rules = rules.as_slice();
        let mut paths = Paths::new();
        let index = Index::new(rules, &mut paths);
        let mut drafts: Vec<Option<Draft<'_>>> = rules.iter().map(Draft::new).collect();
        let mut names = AHashSet::new();
        drafts.iter_mut().flatten().for_each(|draft| draft.share_names(&mut names));
        let outputs = Outputs::new(&drafts, &mut paths);
        let mut conditions = Conditions::default();
        let mut compiled = Vec::with_capacity(rules.len());
        for (number, (rule, draft)) in rules.iter().zip(drafts).enumerate() {
            let columns = draft.and_then(|draft| {
                let own = own(&draft, outputs.places(number));
                let own = Exprs::new(rule, &own, &mut paths)?;
                Some(ColumnRule::new(draft, filter(rule, index.condition(number), &mut conditions, &mut paths)?, own))
            });
            compiled.push(match columns {
                Some(columns) => RuleProgram::Columns(Box::new(columns)),
                None => RuleProgram::Reference(Reference::new(Arc::clone(rule))),
            });
        }
        conditions.close();
        let mut reads = Reads::default();
        compiled.iter().for_each(|rule| reads.add(rule.reference(), &mut paths));
        reads.gather(&faces);
        let needs_payload = |rule: &RuleProgram| rule.reference().needs_payload();
        let told = compiled.iter().position(needs_payload);
        let (mut members, mut wholes) = (Members::default(), Wholes::default());
        let mut passing_on = Vec::new();
        let (mut everywhere, mut references) = (Vec::new(), Vec::new());
        let mut all_members = false;
        for (number, rule) in compiled.iter().enumerate() {
            let RuleProgram::Columns(rule) = rule else {
                references.push(number);
                continue;
            };
            if index.condition(number).is_none() {
                everywhere.push(number);
            }
            if rule.wants_all_members() {
                all_members = true;
                members.add(rule.dialect(), number);
            }
            if outputs.places(number).iter().any(|place| matches!(place, Output::Whole)) {
                wholes.add(number);
            }
            if rule.wants_payloads() {
                passing_on.push(number);
            }
        }
        let shreds = told.is_some() || !index.is_empty();
        let passing = compiled.iter().map(|_| Vec::new()).collect();
        Self {
            rules: compiled,
            faces,
            shredder: Shredder::new(paths, all_members),
            shreds,
            told,
            index,
            everywhere,
            conditions,
            outputs,
            members,
            wholes,
            passing_on,
            reads,
            references,
            passing,
            active: Vec::new(),
        }
    }

    /// A program that does everything message by message, by the reference.
    pub fn by_reference(rules: &[Arc<Rule>]) -> Self {
        let mut program = Self::new(&[]);
        let mut paths = Paths::new();
        let (faces, rules) = Faces::of(rules);
        for rule in rules {
            let reference = Reference::new(rule);
            program.reads.add(&reference, &mut paths);
            program.rules.push(RuleProgram::Reference(reference));
            program.passing.push(Vec::new());
            program.references.push(program.rules.len() - 1);
        }
        program.reads.gather(&faces);
        program.faces = faces;
        program
    }

    /// The paths that the rules read, as written, each once.
    pub fn paths(&self) -> &[Arc<str>] {
        &self.reads.names
    }

    /// The paths that one rule reads, by their places.
    pub fn paths_of(&self, rule: usize) -> &[usize] {
        self.reads.of_all_faces.get(rule).map_or(&[], Vec::as_slice)
    }

    /// In how many messages of the last batch each path was Undefined.
    pub fn undefined(&self) -> &[u64] {
        &self.reads.undefined
    }
}

/// The expressions that only this rule has.
fn own<'r>(draft: &Draft<'r>, places: &[Output]) -> Vec<&'r crate::ast::Expr> {
    let own = draft.outputs.iter().zip(places).filter(|(_, place)| matches!(place, Output::Own(_)));
    own.map(|(expr, _)| *expr).collect()
}

/// WHERE without the condition that the index stands for.
fn filter(rule: &Rule, indexed: Option<usize>, conditions: &mut Conditions, paths: &mut Paths) -> Option<Filter> {
    let mut all = Vec::new();
    rule.select.filter.iter().for_each(|filter| columns::split(filter, &mut all));
    match indexed {
        None => {
            let places = all.into_iter().map(|expr| conditions.add(rule, expr, paths));
            Some(Filter::Shared(places.collect::<Option<_>>()?))
        }
        Some(indexed) => {
            let rest = all.into_iter().enumerate().filter(|(place, _)| *place != indexed);
            let rest: Vec<_> = rest.map(|(_, expr)| expr).collect();
            Some(Filter::Indexed(Exprs::new(rule, &rest, paths)?))
        }
    }
}

impl RuleProgram {
    fn reference(&self) -> &Reference {
        match self {
            Self::Columns(columns) => columns.reference(),
            Self::Reference(reference) => reference,
        }
    }
}

impl Reads {
    fn add(&mut self, reference: &Reference, paths: &mut Paths) {
        let places = reference.paths().iter().filter_map(|path| {
            let slot = paths.add(path)?;
            Some(self.slots.iter().position(|known| *known == slot).unwrap_or_else(|| {
                self.slots.push(slot);
                self.names.push(path.join(".").into());
                self.slots.len() - 1
            }))
        });
        let places = places.collect();
        self.of_rules.push(places);
        self.undefined.resize(self.slots.len(), 0);
    }

    fn gather(&mut self, faces: &Faces) {
        for (number, places) in self.of_rules.iter().enumerate() {
            let rule = faces.rule(number);
            self.of_all_faces.resize(self.of_all_faces.len().max(rule + 1), Vec::new());
            if let Some(all) = self.of_all_faces.get_mut(rule) {
                let new: Vec<usize> = places.iter().filter(|place| !all.contains(place)).copied().collect();
                all.extend(new);
            }
        }
    }
}
