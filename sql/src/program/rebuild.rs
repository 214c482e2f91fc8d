//! Making an expression anew from changed parts.

use crate::ast::{Expr, ExprKind, Item, Items, Subquery};

impl Expr {
    /// The expression with each direct part replaced by what `change` makes of it; `None` as soon as that gives `None`.
    /// `change` is told whether the part stands inside a nested query, where names are those of its elements.
    pub(crate) fn rebuild(&self, change: &mut dyn FnMut(&Expr, bool) -> Option<Expr>) -> Option<Expr> {
        let kind = match &self.kind {
            ExprKind::Literal(_) | ExprKind::Star | ExprKind::Name(_) | ExprKind::Variable(_) | ExprKind::Slot(_) => {
                self.kind.clone()
            }
            ExprKind::Member { of, name } => ExprKind::Member { of: boxed(of, change)?, name: name.clone() },
            ExprKind::Index { of, index } => ExprKind::Index { of: boxed(of, change)?, index: boxed(index, change)? },
            ExprKind::Unary { op, operand } => ExprKind::Unary { op: *op, operand: boxed(operand, change)? },
            ExprKind::Binary { op, left, right } => {
                ExprKind::Binary { op: *op, left: boxed(left, change)?, right: boxed(right, change)? }
            }
            ExprKind::IsNull { operand, negated } => {
                ExprKind::IsNull { operand: boxed(operand, change)?, negated: *negated }
            }
            ExprKind::IsDistinct { left, right, negated } => {
                let (left, right) = (boxed(left, change)?, boxed(right, change)?);
                ExprKind::IsDistinct { left, right, negated: *negated }
            }
            ExprKind::Like { value, pattern, negated } => {
                let (value, pattern) = (boxed(value, change)?, boxed(pattern, change)?);
                ExprKind::Like { value, pattern, negated: *negated }
            }
            ExprKind::InList { value, list, negated } => {
                let (value, list) = (boxed(value, change)?, listed(list, change)?);
                ExprKind::InList { value, list, negated: *negated }
            }
            ExprKind::Between { value, low, high, negated } => {
                let (value, low, high) = (boxed(value, change)?, boxed(low, change)?, boxed(high, change)?);
                ExprKind::Between { value, low, high, negated: *negated }
            }
            ExprKind::Call { function, args } => {
                ExprKind::Call { function: function.clone(), args: listed(args, change)? }
            }
            ExprKind::Cast { operand, to } => ExprKind::Cast { operand: boxed(operand, change)?, to: *to },
            ExprKind::Case { operand, branches, otherwise } => ExprKind::Case {
                operand: optional(operand.as_deref(), change)?.map(Box::new),
                branches: branches
                    .iter()
                    .map(|(when, then)| Some((change(when, false)?, change(then, false)?)))
                    .collect::<Option<_>>()?,
                otherwise: optional(otherwise.as_deref(), change)?.map(Box::new),
            },
            ExprKind::Object(members) => {
                let member = |(name, member): &(_, Expr)| Some((std::sync::Arc::clone(name), change(member, false)?));
                ExprKind::Object(members.iter().map(member).collect::<Option<_>>()?)
            }
            ExprKind::Array(elements) => ExprKind::Array(listed(elements, change)?),
            ExprKind::Subquery(query) => ExprKind::Subquery(Box::new(subquery(query, change)?)),
            ExprKind::Exists(query) => ExprKind::Exists(Box::new(subquery(query, change)?)),
        };
        Some(Expr { kind, span: self.span })
    }
}

type Change<'c> = dyn FnMut(&Expr, bool) -> Option<Expr> + 'c;

fn boxed(part: &Expr, change: &mut Change<'_>) -> Option<Box<Expr>> {
    change(part, false).map(Box::new)
}

fn listed(parts: &[Expr], change: &mut Change<'_>) -> Option<Vec<Expr>> {
    parts.iter().map(|part| change(part, false)).collect()
}

fn optional(part: Option<&Expr>, change: &mut Change<'_>) -> Option<Option<Expr>> {
    part.map_or(Some(None), |part| change(part, false).map(Some))
}

fn subquery(query: &Subquery, change: &mut Change<'_>) -> Option<Subquery> {
    let source = change(&query.source, false)?;
    let items = match &query.items {
        Items::Value(expr) => Items::Value(change(expr, true)?),
        Items::List(items) => {
            let item = |item: &Item| Some(Item { expr: change(&item.expr, true)?, ..item.clone() });
            Items::List(items.iter().map(item).collect::<Option<_>>()?)
        }
    };
    let filter = match &query.filter {
        Some(filter) => Some(change(filter, true)?),
        None => None,
    };
    Some(Subquery { items, source, filter, ..query.clone() })
}
