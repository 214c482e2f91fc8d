//! Expressions that run row by row, over the cells of a shredded batch instead of a payload read into values.

use std::collections::HashMap;
use std::sync::Arc;

use super::paths::as_path;
use crate::ast::{Expr, ExprKind};
use crate::column::Column;
use crate::eval::{self, Failure, Scope};
use crate::lower::Batch;
use crate::shred::{Paths, cell_value};
use crate::value::Value;

/// Nodes of an expression with its SET variables put in.
const MAX_NODES: usize = 4096;

/// An expression whose paths are slots.
#[derive(Debug)]
pub(super) struct RowExpr {
    expr: Expr,
    /// The path of each slot.
    slots: Vec<u16>,
}

impl RowExpr {
    /// Puts in SET variables and replaces paths; `None` if it gets too large.
    pub(super) fn new(expr: &Expr, variables: &HashMap<Arc<str>, &Expr>, paths: &mut Paths) -> Option<Self> {
        let mut slots = Vec::new();
        let mut nodes = 0;
        let mut rewrite = Rewrite { variables, paths, slots: &mut slots, nodes: &mut nodes, top: true };
        let expr = rewrite.expr(expr)?;
        Some(Self { expr, slots })
    }

    /// Its values for some rows of the batch.
    pub(super) fn column(&self, batch: &Batch<'_>, rows: &[u32]) -> Result<Column, Failure> {
        let values = rows.iter().map(|row| self.evaluate(batch, *row));
        values.collect::<Result<Vec<Value>, Failure>>().map(Column::dynamic)
    }

    /// Its value for a row of the batch.
    pub(super) fn evaluate(&self, batch: &Batch<'_>, row: u32) -> Result<Value, Failure> {
        let Some(message) = batch.messages.get(row as usize) else { return Ok(Value::Undefined) };
        let cell = |slot: &u16| {
            let cell = batch.shredder.cell(usize::from(*slot), row);
            cell_value(&cell, message.payload, batch.dialect)
        };
        let slots: Vec<Value> = self.slots.iter().map(cell).collect();
        let scope = Scope::new(message, batch.dialect).with_slots(&slots);
        let value = eval::evaluate(&self.expr, &scope);
        scope.take_failure().map_or(Ok(value), Err)
    }
}

struct Rewrite<'r, 'v> {
    variables: &'r HashMap<Arc<str>, &'v Expr>,
    paths: &'r mut Paths,
    slots: &'r mut Vec<u16>,
    nodes: &'r mut usize,
    /// Not inside a nested query, where names are those of its elements.
    top: bool,
}

impl Rewrite<'_, '_> {
    fn expr(&mut self, expr: &Expr) -> Option<Expr> {
        *self.nodes += 1;
        if *self.nodes > MAX_NODES {
            return None;
        }
        if let Some(path) = as_path(expr).filter(|_| self.top) {
            let slot = self.paths.add(&path)?;
            let place = self.slots.iter().position(|known| *known == slot).unwrap_or_else(|| {
                self.slots.push(slot);
                self.slots.len() - 1
            });
            return Some(Expr { kind: ExprKind::Slot(place), span: expr.span });
        }
        if let ExprKind::Variable(name) = &expr.kind {
            // A variable's expression is evaluated outside of any nested query.
            let outside = self.top;
            self.top = true;
            let value = match self.variables.get(name) {
                Some(value) => self.expr(value),
                None => Some(Expr { kind: ExprKind::Literal(Value::Undefined), span: expr.span }),
            };
            self.top = outside;
            return value;
        }
        expr.rebuild(&mut |part, inside| {
            let outside = self.top;
            self.top = outside && !inside;
            let part = self.expr(part);
            self.top = outside;
            part
        })
    }
}
