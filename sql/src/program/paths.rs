//! The paths that a rule reads.

use std::sync::Arc;

use crate::ast::{Expr, ExprKind, Items, Subquery};
use crate::rule::Rule;
use crate::value::{Value, numeric_text};

/// The path that an expression is: names joined by points, or given to `get` as texts that are no positions.
pub(crate) fn as_path(expr: &Expr) -> Option<Vec<Arc<str>>> {
    match &expr.kind {
        ExprKind::Name(name) => Some(vec![Arc::clone(name)]),
        ExprKind::Member { of, name } => {
            let mut path = as_path(of)?;
            path.push(Arc::clone(name));
            Some(path)
        }
        ExprKind::Index { of, index } => member_of(of, index),
        ExprKind::Call { function, args } if **function == *"get" => match args.as_slice() {
            [of, index] => member_of(of, index),
            _ => None,
        },
        _ => None,
    }
}

fn member_of(of: &Expr, index: &Expr) -> Option<Vec<Arc<str>>> {
    let ExprKind::Literal(Value::String(name)) = &index.kind else { return None };
    if numeric_text(name).is_some() {
        return None;
    }
    let mut path = if of.kind == ExprKind::Star { Vec::new() } else { as_path(of)? };
    path.push(Arc::clone(name));
    Some(path)
}

/// All expressions of a rule that look at a message.
pub(crate) fn exprs(rule: &Rule) -> Vec<&Expr> {
    let select = &rule.select;
    let mut all: Vec<&Expr> = select.set.iter().map(|(_, expr)| expr).collect();
    all.extend(&select.filter);
    match (&rule.windowed, &select.items) {
        (Some(windowed), _) => {
            all.extend(&windowed.keys);
            all.extend(windowed.aggregates.iter().filter_map(|aggregate| aggregate.argument.as_ref()));
            return all;
        }
        (None, Items::Value(expr)) => all.push(expr),
        (None, Items::List(items)) => all.extend(items.iter().map(|item| &item.expr)),
    }
    all.extend(select.absence.iter().flat_map(|absence| absence.exprs()));
    all.extend(rule.templates().into_iter().flat_map(|template| template.exprs()));
    all
}

/// The paths of an expression, each as long as it gets.
pub(crate) fn visit_paths(expr: &Expr, found: &mut dyn FnMut(Vec<Arc<str>>)) {
    if let Some(path) = as_path(expr) {
        found(path);
        return;
    }
    children(expr, &mut |child| visit_paths(child, found));
}

/// Whether an expression or a part of it outside of nested queries satisfies a condition.
pub(crate) fn any(expr: &Expr, condition: &dyn Fn(&Expr) -> bool) -> bool {
    let mut hit = condition(expr);
    children(expr, &mut |child| hit = hit || any(child, condition));
    hit
}

/// Whether an expression or any part of it satisfies a condition.
pub(crate) fn anywhere(expr: &Expr, condition: &dyn Fn(&Expr) -> bool) -> bool {
    let mut hit = condition(expr);
    children(expr, &mut |child| hit = hit || anywhere(child, condition));
    if let ExprKind::Subquery(query) | ExprKind::Exists(query) = &expr.kind {
        hit = hit || inside(query).into_iter().any(|part| anywhere(part, condition));
    }
    hit
}

/// The direct parts of an expression that see what it sees. Of a nested query that is its source only.
fn children<'e>(expr: &'e Expr, visit: &mut dyn FnMut(&'e Expr)) {
    match &expr.kind {
        ExprKind::Literal(_) | ExprKind::Star | ExprKind::Name(_) | ExprKind::Variable(_) | ExprKind::Slot(_) => {}
        ExprKind::Member { of, .. } => visit(of),
        ExprKind::Index { of, index } => [of, index].into_iter().for_each(|part| visit(part)),
        ExprKind::Unary { operand, .. } | ExprKind::IsNull { operand, .. } | ExprKind::Cast { operand, .. } => {
            visit(operand);
        }
        ExprKind::Binary { left, right, .. } | ExprKind::IsDistinct { left, right, .. } => {
            [left, right].into_iter().for_each(|part| visit(part));
        }
        ExprKind::Like { value, pattern, .. } => [value, pattern].into_iter().for_each(|part| visit(part)),
        ExprKind::InList { value, list, .. } => {
            visit(value);
            list.iter().for_each(visit);
        }
        ExprKind::Between { value, low, high, .. } => [value, low, high].into_iter().for_each(|part| visit(part)),
        ExprKind::Call { args, .. } => args.iter().for_each(visit),
        ExprKind::Case { operand, branches, otherwise } => {
            operand.iter().for_each(|operand| visit(operand));
            branches.iter().flat_map(|(when, then)| [when, then]).for_each(&mut *visit);
            otherwise.iter().for_each(|otherwise| visit(otherwise));
        }
        ExprKind::Object(members) => members.iter().for_each(|(_, member)| visit(member)),
        ExprKind::Array(elements) => elements.iter().for_each(visit),
        ExprKind::Subquery(query) | ExprKind::Exists(query) => visit(&query.source),
    }
}

/// Everything inside a nested query but its source.
fn inside(query: &Subquery) -> Vec<&Expr> {
    let mut all: Vec<&Expr> = query.filter.iter().collect();
    match &query.items {
        Items::Value(expr) => all.push(expr),
        Items::List(items) => all.extend(items.iter().map(|item| &item.expr)),
    }
    all
}
