//! Expressions that are evaluated together: as terms, and row by row where that cannot be.

use std::collections::HashMap;
use std::sync::Arc;

use super::merge::together;
pub(super) use super::row_expr::RowExpr;
use crate::ast::{Dialect, Expr};
use crate::column::Column;
use crate::eval::Failure;
use crate::lower::{Batch, Found, Resolver, TermSet};
use crate::parse::print_expr;
use crate::rule::Rule;
use crate::shred::Paths;

/// Expressions over the same rows.
#[derive(Debug)]
pub(super) struct Exprs {
    pub(super) terms: TermSet,
    pub(super) rows: Vec<RowExpr>,
}

/// What an expression says, whichever rule it stands in: equal ones have equal values for a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shared {
    dialect: Dialect,
    /// The SET variables that it may name.
    set: String,
    text: String,
}

impl Shared {
    pub(super) fn of(rule: &Rule, expr: &Expr) -> Self {
        let mut set = String::new();
        for (name, value) in &rule.select.set {
            set.push_str(&format!("@{name} = {},", print_expr(value, rule.dialect)));
        }
        Self { dialect: rule.dialect, set, text: print_expr(expr, rule.dialect) }
    }
}

impl Exprs {
    /// `None` if one gets too large with its SET variables put in.
    pub(super) fn new(rule: &Rule, all: &[&Expr], paths: &mut Paths) -> Option<Self> {
        let variables = variables(rule);
        let rows = all.iter().map(|expr| RowExpr::new(expr, &variables, paths));
        let rows = rows.collect::<Option<Vec<_>>>()?;
        let mut resolver = Resolver::new(rule.dialect, variables, paths);
        let mut sources = Vec::new();
        let terms = all.iter().map(|expr| resolver.resolve(expr, &mut sources)).collect();
        Some(Self { terms: TermSet::new(terms, sources), rows })
    }

    /// Adds an expression, before any is evaluated; `None` if it is too large.
    pub(super) fn push(&mut self, rule: &Rule, expr: &Expr, paths: &mut Paths) -> Option<()> {
        let variables = variables(rule);
        self.rows.push(RowExpr::new(expr, &variables, paths)?);
        let (mut terms, mut sources) = std::mem::take(&mut self.terms).into_parts();
        terms.push(Resolver::new(rule.dialect, variables, paths).resolve(expr, &mut sources));
        self.terms = TermSet::new(terms, sources);
        Some(())
    }

    /// Adds expressions that have the same sources, before any is evaluated.
    pub(super) fn append(&mut self, other: Self) {
        self.terms.append(other.terms);
        self.rows.extend(other.rows);
    }

    /// A column for each, over the chosen rows. A plan that fails, which it should never, leaves them to be evaluated row
    /// by row.
    pub(super) fn evaluate(&mut self, batch: &Batch<'_>, chosen: &[u32]) -> Result<Vec<Column>, Failure> {
        let Ok(Found { columns, in_parts, mut parts, places }) = self.terms.evaluate(batch, chosen) else {
            return self.rows.iter().map(|expr| expr.column(batch, chosen)).collect();
        };
        let mut all = Vec::with_capacity(columns.len());
        for (number, (column, expr)) in columns.into_iter().zip(&self.rows).enumerate() {
            all.push(match column {
                Some(column) => column,
                None if in_parts.binary_search(&number).is_ok() => {
                    let columns =
                        parts.iter_mut().map(|part| match part.columns.get_mut(number).and_then(Option::take) {
                            Some(column) => Ok(column),
                            None => expr.column(batch, &part.rows),
                        });
                    together(columns.collect::<Result<_, Failure>>()?, &places)
                }
                None => expr.column(batch, chosen)?,
            });
        }
        Ok(all)
    }
}

fn variables(rule: &Rule) -> HashMap<Arc<str>, &Expr> {
    rule.select.set.iter().map(|(name, expr)| (Arc::clone(name), expr)).collect()
}
