//! Doubts: what is legal, and almost never meant. Each is a warning that says what happens and what to write instead.
//!
//! Only what is certain is said: a warning that is wrong now and then teaches people to ignore warnings. Constants are
//! evaluated by the reference; nothing is known of messages.

mod constant;
mod kinds;
mod ranges;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::ast::{BinaryOp, Dialect, Expr, ExprKind, Item, Items, Select};
use crate::diagnostic::Diagnostic;
use crate::rule::{Action, Rule};
use crate::value::Value;

/// Parts of an expression that are looked at for each of its ORs.
const MOST_PARTS: usize = 1_000;

/// The doubts about a statement.
pub(super) fn statement(select: &Select, dialect: Dialect, out: &mut Vec<Diagnostic>) {
    select.exprs().for_each(|expr| self::expr(expr, dialect, out));
    if let Some(filter) = &select.filter {
        condition(filter, dialect, out);
        aliases_in_where(select, filter, out);
    }
}

/// The doubts about an expression and its parts.
pub(super) fn expr(expr: &Expr, dialect: Dialect, out: &mut Vec<Diagnostic>) {
    expr.for_each_child(|child| self::expr(child, dialect, out));
    kinds::comparison(expr, dialect, out);
    kinds::cases(expr, dialect, out);
    constant::division(expr, dialect, out);
    constant::call(expr, dialect, out);
    ranges::between(expr, out);
    strict_logic(expr, dialect, out);
}

/// Doubts about WHERE as a whole.
fn condition(filter: &Expr, dialect: Dialect, out: &mut Vec<Diagnostic>) {
    let mut conjuncts = Vec::new();
    split(filter, &mut conjuncts);
    for conjunct in &conjuncts {
        constant::condition(conjunct, dialect, out);
    }
    ranges::contradiction(&conjuncts, out);
}

/// The sides of ANDs.
fn split<'e>(filter: &'e Expr, conjuncts: &mut Vec<&'e Expr>) {
    match &filter.kind {
        ExprKind::Binary { op: BinaryOp::And, left, right } => {
            split(left, conjuncts);
            split(right, conjuncts);
        }
        _ => conjuncts.push(filter),
    }
}

/// WHERE sees the message; the names of SELECT are made after it.
fn aliases_in_where(select: &Select, filter: &Expr, out: &mut Vec<Diagnostic>) {
    let Items::List(items) = &select.items else { return };
    let mut read = BTreeSet::new();
    for item in items {
        roots(&item.expr, &mut |name, _| {
            read.insert(Arc::clone(name));
        });
    }
    let mut aliases: HashMap<&Arc<str>, &Item> = HashMap::new();
    for item in items {
        if let Some([alias]) = item.alias.as_deref() {
            aliases.entry(alias).or_insert(item);
        }
    }
    let mut said = BTreeSet::new();
    roots(filter, &mut |name, expr| {
        let Some(item) = aliases.get(name) else { return };
        let is_own_name = matches!(&item.expr.kind, ExprKind::Member { name: last, .. } if last == name);
        if !is_own_name && !read.contains(name) && said.insert(Arc::clone(name)) {
            let message = format!("WHERE sees the message, not the names given with AS: `{name}` here is its member");
            let help = format!("repeat the expression in WHERE, or name it before: SET @{name} = … SELECT @{name} …");
            let warning = Diagnostic::warning("alias-in-where", expr.span, message).help(help);
            out.push(warning.label(item.expr.span, format!("`{name}` in SELECT")));
        }
    });
}

/// Members of the payload's top level that an expression names; not those inside nested queries.
fn roots<'e>(expr: &'e Expr, found: &mut dyn FnMut(&'e Arc<str>, &'e Expr)) {
    match &expr.kind {
        ExprKind::Name(name) => found(name, expr),
        ExprKind::Subquery(query) | ExprKind::Exists(query) => roots(&query.source, found),
        _ => expr.for_each_child(|child| roots(child, found)),
    }
}

/// AWS documents: where a side of OR is Undefined, so is the whole.
fn strict_logic(expr: &Expr, dialect: Dialect, out: &mut Vec<Diagnostic>) {
    let ExprKind::Binary { op: BinaryOp::Or, left, right } = &expr.kind else { return };
    if dialect == Dialect::Native {
        return;
    }
    for (test, other) in [(left, right), (right, left)] {
        let ExprKind::Call { function, args } = &test.kind else { continue };
        let ([arg], "isundefined" | "isnull") = (args.as_slice(), &**function) else { continue };
        // In a long chain of OR each one is a side of the next.
        let mut looked_at = 0;
        let mut reads = false;
        visit_some(other, &mut |part| {
            reads |= part == arg && !matches!(part.kind, ExprKind::Literal(_));
            looked_at += 1;
            !reads && looked_at < MOST_PARTS
        });
        let tests_too = matches!(&other.kind, ExprKind::Call { function, .. } if function.starts_with("is"));
        if reads && !tests_too {
            let message = "where this member is missing, the other side of OR is Undefined, and so is the whole";
            let help =
                "write CASE isUndefined(x) WHEN true THEN true ELSE … END; in .sql rule files OR is three-valued";
            out.push(Diagnostic::warning("strict-logic", expr.span, message).help(help));
            return;
        }
    }
}

/// Visits an expression and its parts until one of them is enough.
fn visit_some(expr: &Expr, goes_on: &mut dyn FnMut(&Expr) -> bool) -> bool {
    let mut on = goes_on(expr);
    if on {
        expr.for_each_child(|child| on = on && visit_some(child, goes_on));
    }
    on
}

fn visit<'e>(expr: &'e Expr, found: &mut dyn FnMut(&'e Expr)) {
    found(expr);
    expr.for_each_child(|child| visit(child, found));
}

/// Variables that nothing uses.
pub(super) fn unused_variables(rule: &Rule, out: &mut Vec<Diagnostic>) {
    if rule.select.set.is_empty() {
        return;
    }
    let mut used = BTreeSet::new();
    let mut note = |expr: &Expr| {
        visit(expr, &mut |part| {
            if let ExprKind::Variable(name) = &part.kind {
                used.insert(Arc::clone(name));
            }
        });
    };
    rule.select.exprs().for_each(&mut note);
    let actions = rule.actions.iter().chain(&rule.error_action);
    actions.flat_map(Action::templates).flat_map(|template| template.exprs()).for_each(&mut note);
    for (name, expr) in rule.select.set.iter().filter(|(name, _)| !used.contains(name)) {
        let message = format!("@{name} is set, and used nowhere");
        out.push(Diagnostic::warning("unused-variable", expr.span, message));
    }
}

/// A literal's value.
fn literal(expr: &Expr) -> Option<&Value> {
    match &expr.kind {
        ExprKind::Literal(value) => Some(value),
        _ => None,
    }
}
