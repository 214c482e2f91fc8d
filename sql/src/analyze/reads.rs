//! What a rule reads of a message's payload: for shredding, and for telling the user which members are never there.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ast::{Expr, ExprKind, Select};
use crate::rule::Rule;

/// Member names from the payload's top level down.
pub type Path = Vec<Arc<str>>;

/// What a rule reads of the payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The paths, sorted, each once. A path and a longer one below it may both be there.
    pub paths: Vec<Path>,
    /// Is the payload needed as a whole (`*`), not only its members?
    pub whole: bool,
}

/// The paths a rule reads, sorted.
pub fn paths(rule: &Rule) -> Vec<Path> {
    reads(rule).paths
}

/// What a rule reads for its rows: SET, WHERE, SELECT, group keys, aggregates, the templates of its actions. Not what
/// its error action reads.
pub fn reads(rule: &Rule) -> Reads {
    let mut reader = Reader { paths: BTreeSet::new(), whole: false };
    match &rule.windowed {
        Some(windowed) => {
            rule.select.set.iter().for_each(|(_, expr)| reader.expr(expr));
            rule.select.filter.iter().for_each(|expr| reader.expr(expr));
            windowed.keys.iter().for_each(|expr| reader.expr(expr));
            windowed.aggregates.iter().filter_map(|aggregate| aggregate.argument.as_ref()).for_each(|expr| {
                reader.expr(expr);
            });
        }
        None => reader.select(&rule.select),
    }
    for action in &rule.actions {
        for template in action.templates() {
            template.exprs().for_each(|expr| reader.expr(expr));
        }
    }
    Reads { paths: reader.paths.into_iter().collect(), whole: reader.whole }
}

struct Reader {
    paths: BTreeSet<Path>,
    whole: bool,
}

impl Reader {
    fn select(&mut self, select: &Select) {
        select.exprs().for_each(|expr| self.expr(expr));
    }

    /// Adds what the expression reads where names are members of the payload.
    fn expr(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Star => self.whole = true,
            ExprKind::Name(_) | ExprKind::Member { .. } => match path(expr) {
                Some(path) => {
                    self.paths.insert(path);
                }
                None => expr.for_each_child(|child| self.expr(child)),
            },
            // Inside a nested query names are members of its elements; only its source is the payload's.
            ExprKind::Subquery(query) | ExprKind::Exists(query) => self.expr(&query.source),
            _ => expr.for_each_child(|child| self.expr(child)),
        }
    }
}

/// The path that a chain of member accesses spells.
fn path(expr: &Expr) -> Option<Path> {
    let mut names = Vec::new();
    let mut at = expr;
    while let ExprKind::Member { of, name } = &at.kind {
        names.push(name.clone());
        at = of;
    }
    let ExprKind::Name(first) = &at.kind else { return None };
    names.push(first.clone());
    names.reverse();
    Some(names)
}
