//! A rule on columns: from the rows that pass and the columns of its expressions to its rows.

use std::sync::Arc;

use ahash::AHashSet;
use arrow::array::Array;

use super::conditions::{Condition, passing_alone};
use super::exprs::Exprs;
use super::members::{Members, Wholes};
use super::merge::overlay;
use super::outputs::{Output, Outputs};
use super::paths::{anywhere, exprs};
use super::payloads::Payloads;
use super::reference::{Reference, is_star, star_and_names, wants_columns};
use super::rows::Original;
use super::texts::Texts;
use super::{Body, Rows};
use crate::ast::{BinaryOp, Dialect, Expr, ExprKind, Items, Template, TemplatePart};
use crate::column::{Column, ColumnData};
use crate::eval::Failure;
use crate::functions::{self, Purity};
use crate::lower::Batch;
use crate::rule::Rule;
use crate::shred::Whole;
use crate::value::{MAX_TEXT, Value};

/// What `*` does in a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Star {
    /// There is none, or only as an argument.
    No,
    /// `SELECT *` alone: the payload goes on untouched.
    Alone,
    /// The payload's members first, then others.
    First,
}

/// A rule on columns before its expressions are compiled: its parts that look at a message.
pub(super) struct Draft<'r> {
    pub(super) rule: &'r Arc<Rule>,
    star: Star,
    names: Vec<Arc<str>>,
    templates: Vec<Vec<Piece>>,
    /// The members, then the expressions of the templates.
    pub(super) outputs: Vec<&'r Expr>,
}

/// A rule compiled for columns.
#[derive(Debug)]
pub(super) struct ColumnRule {
    reference: Reference,
    rule: Arc<Rule>,
    star: Star,
    wants_columns: bool,
    filter: Filter,
    names: Vec<Arc<str>>,
    templates: Vec<Vec<Piece>>,
    /// The expressions that no other rule has.
    own: Exprs,
}

/// WHERE: a row passes if all conditions hold.
#[derive(Debug)]
pub(super) enum Filter {
    /// They are evaluated with those of other rules, over every row.
    Shared(Vec<Condition>),
    /// The index says which rows to look at; these are the other conditions.
    Indexed(Exprs),
}

/// A part of a template.
#[derive(Debug)]
enum Piece {
    Text(Arc<str>),
    Output(usize),
}

/// What several rules have in common in a batch.
pub(super) struct Common<'p> {
    pub(super) outputs: &'p mut Outputs,
    pub(super) members: &'p mut Members,
    pub(super) wholes: &'p mut Wholes,
    pub(super) payloads: &'p Payloads,
}

impl<'r> Draft<'r> {
    /// Gives names that other rules have as well one place in memory.
    pub(super) fn share_names(&mut self, known: &mut AHashSet<Arc<str>>) {
        for name in &mut self.names {
            match known.get(name) {
                Some(known) => *name = Arc::clone(known),
                None => {
                    known.insert(Arc::clone(name));
                }
            }
        }
    }

    /// Takes a rule apart; `None` if it has to run message by message as a whole.
    pub(super) fn new(rule: &'r Arc<Rule>) -> Option<Self> {
        if exprs(rule).into_iter().any(|expr| anywhere(expr, &differs_by_call)) {
            return None;
        }
        let (star, items) = items(rule)?;
        let templates: Vec<&Template> = if rule.windowed.is_some() { Vec::new() } else { rule.templates() };
        let (names, mut outputs): (Vec<Arc<str>>, Vec<&Expr>) = items.into_iter().unzip();
        let mut pieces = Vec::new();
        for template in templates {
            let piece = template.parts.iter().map(|part| match part {
                TemplatePart::Text(text) => Piece::Text(Arc::clone(text)),
                TemplatePart::Expr(expr) => {
                    outputs.push(expr);
                    Piece::Output(outputs.len() - 1)
                }
            });
            pieces.push(piece.collect());
        }
        Some(Self { rule, star, names, templates: pieces, outputs })
    }
}

impl ColumnRule {
    /// Compiles the rest of a draft.
    pub(super) fn new(draft: Draft<'_>, filter: Filter, own: Exprs) -> Self {
        Self {
            reference: Reference::new(Arc::clone(draft.rule)),
            rule: Arc::clone(draft.rule),
            star: draft.star,
            wants_columns: wants_columns(draft.rule),
            filter,
            names: draft.names,
            templates: draft.templates,
            own,
        }
    }

    /// Whether it needs all top-level members of payloads as columns.
    pub(super) fn wants_all_members(&self) -> bool {
        self.star != Star::No && self.wants_columns
    }

    /// Whether it hands on payloads.
    pub(super) fn wants_payloads(&self) -> bool {
        self.star != Star::No
    }

    /// WHERE.
    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The rows, of those that the index gives, for which the other conditions hold.
    pub(super) fn passing_alone(&mut self, batch: &Batch<'_>, rows: &[u32]) -> Result<Vec<u32>, Failure> {
        match &mut self.filter {
            Filter::Indexed(conditions) => passing_alone(conditions, batch, rows),
            Filter::Shared(_) => Ok(rows.to_vec()),
        }
    }

    /// What says what its rows are, message by message.
    pub(super) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The rule's dialect.
    pub(super) fn dialect(&self) -> Dialect {
        self.rule.dialect
    }

    /// The rows of the messages that pass, of the rule with this number; `None` if the reference has to say what they
    /// are.
    pub(super) fn rows(
        &mut self,
        batch: &Batch<'_>,
        messages: Vec<u32>,
        index: usize,
        common: &mut Common<'_>,
    ) -> Option<Vec<Rows>> {
        let own = if self.own.rows.is_empty() { Vec::new() } else { self.own.evaluate(batch, &messages).ok()? };
        let mut own: Vec<Option<Column>> = own.into_iter().map(Some).collect();
        let places = common.outputs.places(index).len();
        let mut columns = Vec::with_capacity(places);
        for number in 0..places {
            columns.push(match common.outputs.places(index).get(number).copied()? {
                Output::Own(place) => own.get_mut(place)?.take()?,
                Output::Whole => common.wholes.of(index, &messages)?,
                Output::Shared { set, place } => common.outputs.column(set, place, index, &messages)?,
            });
        }
        self.assemble(batch, messages, columns, index, common)
    }

    /// Output columns to rows: `*`, the text of rows, templates.
    fn assemble(
        &self,
        batch: &Batch<'_>,
        messages: Vec<u32>,
        mut columns: Vec<Column>,
        index: usize,
        common: &mut Common<'_>,
    ) -> Option<Vec<Rows>> {
        let outputs = columns.split_off(self.names.len().min(columns.len()));
        let all_outputs = |output: usize| match output.checked_sub(self.names.len()) {
            Some(number) => outputs.get(number),
            None => columns.get(output),
        };
        let templates = self.templates.iter().map(|pieces| self.texts(pieces, messages.len(), &all_outputs));
        let templates: Vec<Texts> = templates.collect::<Option<_>>()?;
        let dialect = self.rule.dialect;
        if self.star == Star::Alone {
            return Some(self.payload_rows(batch, messages, templates, index, common));
        }
        let named = self.names.iter().cloned().zip(columns);
        let (members, original) = match self.star {
            Star::First => {
                let kept = messages.iter().map(|row| !matches!(whole(batch, *row), Whole::Object | Whole::Empty));
                let original = Original::spliced(common.payloads.clone(), self.names.clone(), kept.collect());
                let mut members =
                    if self.wants_columns { common.members.of(dialect, index, &messages) } else { Vec::new() };
                for (name, column) in named {
                    match members.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, below)) => *below = overlay(below, column, dialect),
                        None => members.push((name, column)),
                    }
                }
                (members, original)
            }
            _ => (named.collect(), Original::None),
        };
        Some(vec![Rows::new(messages, Body::Members(members), dialect, original, templates)])
    }

    /// The texts of a template; `None` if one is too long.
    fn texts<'c>(
        &self,
        pieces: &[Piece],
        rows: usize,
        outputs: &impl Fn(usize) -> Option<&'c Column>,
    ) -> Option<Texts> {
        match pieces {
            [] => return Some(Texts::same("")),
            [Piece::Text(text)] => return Some(Texts::same(Arc::clone(text))),
            [Piece::Output(only)] => {
                if let Some(ColumnData::String(texts)) = outputs(*only).map(|column| &column.data)
                    && texts.null_count() == 0
                {
                    return Some(Texts::column(texts));
                }
            }
            _ => {}
        }
        let mut text = String::new();
        (0..rows)
            .map(|row| {
                text.clear();
                for piece in pieces {
                    match piece {
                        Piece::Text(literal) => text.push_str(literal),
                        Piece::Output(output) => push_text(&mut text, outputs(*output)?, row, self.rule.dialect),
                    }
                }
                (text.len() <= MAX_TEXT).then(|| Some(text.clone()))
            })
            .collect()
    }

    /// `SELECT *` alone.
    fn payload_rows(
        &self,
        batch: &Batch<'_>,
        messages: Vec<u32>,
        templates: Vec<Texts>,
        index: usize,
        common: &mut Common<'_>,
    ) -> Vec<Rows> {
        let dialect = self.rule.dialect;
        if !self.wants_columns {
            let original = Original::Payload(common.payloads.clone());
            return vec![Rows::new(messages, Body::Raw, dialect, original, templates)];
        }
        let is_object = |message: &u32| whole(batch, *message) == Whole::Object;
        let mut members = |rows: Vec<u32>, templates: Vec<Texts>| {
            let body = Body::Members(common.members.of(dialect, index, &rows));
            Rows::new(rows, body, dialect, Original::Payload(common.payloads.clone()), templates)
        };
        if messages.iter().all(is_object) {
            return vec![members(messages, templates)];
        }
        let (objects, others): (Vec<u32>, Vec<u32>) =
            (0..messages.len() as u32).partition(|place| messages.get(*place as usize).is_some_and(is_object));
        let of = |places: &[u32]| -> (Vec<u32>, Vec<Texts>) {
            let rows = places.iter().filter_map(|place| messages.get(*place as usize).copied());
            (rows.collect(), templates.iter().map(|texts| texts.take(places)).collect())
        };
        let mut all = Vec::with_capacity(2);
        if !objects.is_empty() {
            let (rows, templates) = of(&objects);
            all.push(members(rows, templates));
        }
        let (rows, templates) = of(&others);
        all.push(Rows::new(rows, Body::Raw, dialect, Original::Payload(common.payloads.clone()), templates));
        all
    }
}

/// Expressions by the member they give.
type Named<'r> = Vec<(Arc<str>, &'r Expr)>;

/// What `*` does, and the named items besides it. `None`: only the reference can do this SELECT.
fn items(rule: &Rule) -> Option<(Star, Named<'_>)> {
    if let Some(windowed) = &rule.windowed {
        static EVERY: Expr =
            Expr { kind: ExprKind::Literal(Value::Bool(true)), span: crate::ast::Span { start: 0, end: 0 } };
        let keys = windowed.keys.iter().enumerate().map(|(number, key)| (format!("k{number}").into(), key));
        let arguments =
            windowed.aggregates.iter().enumerate().map(|(number, aggregate)| {
                (format!("a{number}").into(), aggregate.argument.as_ref().unwrap_or(&EVERY))
            });
        return Some((Star::No, keys.chain(arguments).collect()));
    }
    if is_star(&rule.select.items) {
        return Some((Star::Alone, Vec::new()));
    }
    let Items::List(list) = &rule.select.items else { return None };
    let star = if list.iter().any(|item| item.alias.is_none()) { Star::First } else { Star::No };
    if star == Star::First {
        star_and_names(&rule.select.items)?;
    }
    let named = list.iter().filter_map(|item| Some((item.alias.as_deref()?, &item.expr)));
    let mut simple: Named<'_> = Vec::new();
    for (alias, expr) in named {
        let [name] = alias else { return None };
        if simple.iter().any(|(known, _)| known == name) {
            return None;
        }
        simple.push((Arc::clone(name), expr));
    }
    Some((star, simple))
}

/// The sides of an AND, if it is one: WHERE holds if all are true, in every dialect.
pub(super) fn split<'e>(filter: &'e Expr, conjuncts: &mut Vec<&'e Expr>) {
    match &filter.kind {
        ExprKind::Binary { op: BinaryOp::And, left, right } => {
            split(left, conjuncts);
            split(right, conjuncts);
        }
        _ => conjuncts.push(filter),
    }
}

/// Whether an expression itself is a call whose result depends on how often or in which order calls are made.
pub(super) fn differs_by_call(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Call { function, .. } => functions::lookup(function)
            .is_some_and(|function| matches!(function.purity, Purity::PerCall | Purity::External)),
        _ => false,
    }
}

fn whole(batch: &Batch<'_>, row: u32) -> Whole {
    batch.shredder.rows().get(row as usize).map_or(Whole::Empty, |row| row.whole)
}

/// Appends the text that a row's value converts to; Undefined and Null have none.
fn push_text(text: &mut String, column: &Column, row: usize, dialect: Dialect) {
    match &column.data {
        ColumnData::String(texts) if row < texts.len() && texts.is_valid(row) => text.push_str(texts.value(row)),
        _ => text.push_str(&column.value(row, dialect).to_text().unwrap_or_default()),
    }
}
