//! A rule on columns: filter and projection as plans over shredded batches, and row by row only what no plan computes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::Array;
use datafusion_common::DataFusionError;

use super::merge::{merge, overlay};
use super::paths::{anywhere, exprs, visit_paths};
use super::reference::{Reference, is_star, star_and_names, wants_columns};
use super::row_expr::RowExpr;
use super::rows::{Original, payloads};
use super::{Body, Reject, Rows, RuleRows};
use crate::ast::{BinaryOp, Dialect, Expr, ExprKind, Items, Template, TemplatePart};
use crate::column::{Column, ColumnData};
use crate::eval::Failure;
use crate::functions::{self, Purity};
use crate::lower::{Batch, Resolver, TermSet, true_rows};
use crate::rule::Rule;
use crate::scan::ScanError;
use crate::shred::{Group, Paths, SlotKind, Tag, Whole};
use crate::value::Value;

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

/// A rule compiled for columns.
#[derive(Debug)]
pub(super) struct ColumnRule {
    reference: Reference,
    rule: Arc<Rule>,
    star: Star,
    wants_columns: bool,
    /// WHERE: a row passes if all of these are true.
    filter: Exprs,
    /// The members, then the expressions of the templates.
    outputs: Exprs,
    names: Vec<Arc<str>>,
    templates: Vec<Vec<Piece>>,
    /// The paths it reads.
    paths: Vec<(u16, String)>,
}

/// A part of a template.
#[derive(Debug)]
enum Piece {
    Text(Arc<str>),
    Output(usize),
}

/// Expressions that are evaluated together: as terms, and row by row where that cannot be.
#[derive(Debug)]
struct Exprs {
    terms: TermSet,
    rows: Vec<RowExpr>,
}

/// Why a batch goes through the reference instead.
enum Fallback {
    /// An expression ended the rule for a message.
    Failed,
    /// A plan failed, which it should never.
    Plan,
}

impl From<DataFusionError> for Fallback {
    fn from(_: DataFusionError) -> Self {
        Self::Plan
    }
}

impl From<Failure> for Fallback {
    fn from(_: Failure) -> Self {
        Self::Failed
    }
}

impl ColumnRule {
    /// Compiles a rule and adds its paths; `None` if it has to run message by message as a whole.
    pub(super) fn new(rule: &Arc<Rule>, paths: &mut Paths) -> Option<Self> {
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
        let mut conjuncts = Vec::new();
        rule.select.filter.iter().for_each(|filter| split(filter, &mut conjuncts));
        let filter = Exprs::new(rule, &conjuncts, paths)?;
        let outputs = Exprs::new(rule, &outputs, paths)?;
        let mut read: Vec<(u16, String)> = Vec::new();
        for expr in exprs(rule) {
            visit_paths(expr, &mut |path| {
                if let Some(slot) = paths.add(&path)
                    && read.iter().all(|(known, _)| *known != slot)
                {
                    read.push((slot, path.join(".")));
                }
            });
        }
        Some(Self {
            reference: Reference::new(Arc::clone(rule)),
            rule: Arc::clone(rule),
            star,
            wants_columns: wants_columns(rule),
            filter,
            outputs,
            names,
            templates: pieces,
            paths: read,
        })
    }

    /// Whether it needs all top-level members of payloads as columns.
    pub(super) fn wants_all_members(&self) -> bool {
        self.star != Star::No && self.wants_columns
    }

    /// The rule's dialect.
    pub(super) fn dialect(&self) -> Dialect {
        self.rule.dialect
    }

    /// Whether it looks at payloads.
    pub(super) fn needs_payload(&self) -> bool {
        self.reference.needs_payload()
    }

    /// The rule's rows for a batch.
    pub(super) fn evaluate(&mut self, index: usize, batch: &Batch<'_>, told: &mut [bool], out: &mut Vec<RuleRows>) {
        match self.rows(batch) {
            Ok(rows) => {
                let mut rejects = self.mistakes(batch, told);
                let mut undefined = self.count_undefined(batch);
                for rows in rows {
                    let (rejects, undefined) = (std::mem::take(&mut rejects), std::mem::take(&mut undefined));
                    out.push(RuleRows { rule: index, rows, rejects, undefined });
                }
            }
            Err(Fallback::Failed | Fallback::Plan) => self.reference.evaluate(index, batch.messages, told, out),
        }
    }

    /// The payloads that are not JSON and have not been told of.
    fn mistakes(&self, batch: &Batch<'_>, told: &mut [bool]) -> Vec<Reject> {
        if !self.needs_payload() {
            return Vec::new();
        }
        let untold = batch
            .shredder
            .mistakes()
            .iter()
            .filter(|(row, _)| told.get_mut(*row as usize).is_some_and(|told| !std::mem::replace(told, true)));
        let reason = |error: &ScanError| match error {
            ScanError::Members { .. } => error.to_string(),
            error => format!("payload is not JSON: {error}"),
        };
        untold.map(|(row, error)| Reject { message: *row, reason: reason(error) }).collect()
    }

    fn count_undefined(&self, batch: &Batch<'_>) -> Vec<(String, u64, u64)> {
        let seen = batch.messages.len() as u64;
        let counts = self.paths.iter().map(|(slot, name)| {
            let undefined: u64 = batch.shredder.groups().iter().map(|group| undefined(batch, group, *slot)).sum();
            (name.clone(), seen, undefined)
        });
        counts.collect()
    }

    fn rows(&mut self, batch: &Batch<'_>) -> Result<Vec<Rows>, Fallback> {
        let mut parts: Vec<(Vec<u32>, Vec<Column>)> = Vec::new();
        for group in batch.shredder.groups() {
            let chosen = self.passing(batch, group)?;
            if !chosen.is_empty() {
                let columns = self.outputs.evaluate(batch, &group.kinds, &chosen)?;
                parts.push((chosen, columns));
            }
        }
        let (messages, columns) = merge(parts, self.outputs.rows.len(), self.rule.dialect);
        Ok(self.assemble(batch, messages, columns))
    }

    /// The rows of a group for which WHERE holds.
    fn passing(&mut self, batch: &Batch<'_>, group: &Group) -> Result<Vec<u32>, Fallback> {
        let mut chosen = group.rows.clone();
        if self.filter.rows.is_empty() {
            return Ok(chosen);
        }
        let columns = self.filter.terms.evaluate(batch, &group.kinds, &chosen)?;
        let mut row_wise = Vec::new();
        let mut truth: Option<Vec<bool>> = None;
        let last = columns.len() - 1;
        for (number, (column, row_expr)) in columns.into_iter().zip(&self.filter.rows).enumerate() {
            let Some(true_rows) = column.as_ref().and_then(true_rows) else {
                row_wise.push(row_expr);
                continue;
            };
            if number == last && truth.is_none() {
                // The usual case: one condition.
                let passing = true_rows.into_iter().filter_map(|place| group.rows.get(place).copied());
                chosen = passing.collect();
                continue;
            }
            let truth = truth.get_or_insert_with(|| vec![true; group.rows.len()]);
            let mut here = vec![false; group.rows.len()];
            true_rows.into_iter().for_each(|place| here.get_mut(place).into_iter().for_each(|here| *here = true));
            truth.iter_mut().zip(here).for_each(|(truth, here)| *truth &= here);
        }
        if let Some(truth) = truth {
            let passing = group.rows.iter().zip(truth).filter(|(_, truth)| *truth);
            chosen = passing.map(|(row, _)| *row).collect();
        }
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

    /// Output columns to rows: `*`, the text of rows, templates.
    fn assemble(&self, batch: &Batch<'_>, messages: Vec<u32>, mut columns: Vec<Column>) -> Vec<Rows> {
        let outputs = columns.split_off(self.names.len().min(columns.len()));
        let all_outputs = |output: usize| match output.checked_sub(self.names.len()) {
            Some(number) => outputs.get(number),
            None => columns.get(output),
        };
        let templates: Vec<Vec<Option<String>>> =
            self.templates.iter().map(|pieces| self.texts(pieces, &messages, &all_outputs)).collect();
        let dialect = self.rule.dialect;
        if self.star == Star::Alone {
            return self.payload_rows(batch, messages, templates);
        }
        let named = self.names.iter().cloned().zip(columns);
        let (members, original) = match self.star {
            Star::First => {
                let original = Original::Spliced(payloads(batch.messages, &messages), self.names.clone());
                let mut members = if self.wants_columns { star_columns(batch, &messages) } else { Vec::new() };
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
        let mut rows = Rows::new(messages, Body::Members(members), dialect, original);
        rows.templates = templates;
        vec![rows]
    }

    fn texts<'c>(
        &self,
        pieces: &[Piece],
        messages: &[u32],
        outputs: &impl Fn(usize) -> Option<&'c Column>,
    ) -> Vec<Option<String>> {
        let text = |row: usize| {
            let mut text = String::new();
            for piece in pieces {
                match piece {
                    Piece::Text(literal) => text.push_str(literal),
                    Piece::Output(output) => {
                        if let Some(column) = outputs(*output) {
                            push_text(&mut text, column, row, self.rule.dialect);
                        }
                    }
                }
            }
            Some(text)
        };
        (0..messages.len()).map(text).collect()
    }

    /// `SELECT *` alone.
    fn payload_rows(&self, batch: &Batch<'_>, messages: Vec<u32>, templates: Vec<Vec<Option<String>>>) -> Vec<Rows> {
        let dialect = self.rule.dialect;
        let raw = |messages: Vec<u32>| {
            let body = Body::Raw(payloads(batch.messages, &messages));
            Rows::new(messages, body, dialect, Original::None)
        };
        if !self.wants_columns {
            let mut rows = raw(messages);
            rows.templates = templates;
            return vec![rows];
        }
        let is_object =
            |message: &u32| batch.shredder.rows().get(*message as usize).is_some_and(|row| row.whole == Whole::Object);
        let (objects, others): (Vec<u32>, Vec<u32>) = messages.iter().partition(|message| is_object(message));
        let part = |wanted: bool| {
            let of = |texts: &Vec<Option<String>>| {
                let texts = texts.iter().zip(&messages).filter(|(_, message)| is_object(message) == wanted);
                texts.map(|(text, _)| text.clone()).collect()
            };
            templates.iter().map(of).collect::<Vec<_>>()
        };
        let mut all = Vec::new();
        if !objects.is_empty() || others.is_empty() {
            let original = Original::Payload(payloads(batch.messages, &objects));
            let body = Body::Members(star_columns(batch, &objects));
            let mut rows = Rows::new(objects, body, dialect, original);
            rows.templates = if others.is_empty() { templates.clone() } else { part(true) };
            all.push(rows);
        }
        if !others.is_empty() {
            let mut rows = raw(others);
            rows.templates = part(false);
            all.push(rows);
        }
        all
    }
}

impl Exprs {
    fn new(rule: &Rule, all: &[&Expr], paths: &mut Paths) -> Option<Self> {
        let variables: HashMap<Arc<str>, &Expr> =
            rule.select.set.iter().map(|(name, expr)| (Arc::clone(name), expr)).collect();
        let rows = all.iter().map(|expr| RowExpr::new(expr, &variables, paths));
        let rows = rows.collect::<Option<Vec<_>>>()?;
        let mut resolver = Resolver::new(rule.dialect, variables, paths);
        let mut sources = Vec::new();
        let terms = all.iter().map(|expr| resolver.resolve(expr, &mut sources)).collect();
        Some(Self { terms: TermSet::new(terms, sources), rows })
    }

    fn evaluate(&mut self, batch: &Batch<'_>, kinds: &[SlotKind], chosen: &[u32]) -> Result<Vec<Column>, Fallback> {
        let columns = self.terms.evaluate(batch, kinds, chosen)?;
        let mut all = Vec::with_capacity(columns.len());
        for (column, expr) in columns.into_iter().zip(&self.rows) {
            all.push(match column {
                Some(column) => column,
                None => {
                    let values: Result<Vec<Value>, Failure> =
                        chosen.iter().map(|row| expr.evaluate(batch, *row)).collect();
                    Column::dynamic(values?)
                }
            });
        }
        Ok(all)
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
fn split<'e>(filter: &'e Expr, conjuncts: &mut Vec<&'e Expr>) {
    match &filter.kind {
        ExprKind::Binary { op: BinaryOp::And, left, right } => {
            split(left, conjuncts);
            split(right, conjuncts);
        }
        _ => conjuncts.push(filter),
    }
}

/// Whether an expression itself is a call whose result depends on how often or in which order calls are made.
fn differs_by_call(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Call { function, .. } => functions::lookup(function)
            .is_some_and(|function| matches!(function.purity, Purity::PerCall | Purity::External)),
        _ => false,
    }
}

fn undefined(batch: &Batch<'_>, group: &Group, slot: u16) -> u64 {
    if group.kinds.get(usize::from(slot)).is_none() {
        return 0;
    }
    let cells = batch.shredder.cells(usize::from(slot), &group.rows);
    cells.iter().map(|(_, cell)| u64::from(cell.tag == Tag::Undefined)).sum()
}

/// The top-level members of the payloads of some rows.
fn star_columns(batch: &Batch<'_>, chosen: &[u32]) -> Vec<(Arc<str>, Column)> {
    let members = batch.shredder.members(chosen).into_iter();
    let columns = members.map(|(name, cells)| (name, cells.column(cells.kind(), &batch.messages, batch.dialect)));
    columns.collect()
}

/// Appends the text that a row's value converts to; Undefined and Null have none.
fn push_text(text: &mut String, column: &Column, row: usize, dialect: Dialect) {
    match &column.data {
        ColumnData::String(texts) if row < texts.len() && texts.is_valid(row) => text.push_str(texts.value(row)),
        _ => text.push_str(&column.value(row, dialect).to_text().unwrap_or_default()),
    }
}
