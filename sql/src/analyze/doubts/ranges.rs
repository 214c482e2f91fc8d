//! Conditions that exclude one another.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::literal;
use crate::ast::{BinaryOp, Dialect, Expr, ExprKind, Span};
use crate::diagnostic::Diagnostic;
use crate::parse::print_expr;
use crate::value::Value;

/// BETWEEN whose bounds stand the wrong way round.
pub(super) fn between(expr: &Expr, out: &mut Vec<Diagnostic>) {
    let ExprKind::Between { low, high, .. } = &expr.kind else { return };
    let (Some(a), Some(b)) = (literal(low), literal(high)) else { return };
    if a.compare(b) == Some(Ordering::Greater) {
        let message = "nothing lies between these bounds: the lower one comes first";
        let span = Span { start: low.span.start, end: high.span.end };
        out.push(Diagnostic::warning("never-true", span, message));
    }
}

/// What a conjunct says of a member: `member op literal`.
struct Bound<'e> {
    member: &'e Expr,
    op: BinaryOp,
    value: &'e Value,
    span: Span,
}

fn bound(expr: &Expr) -> Option<Bound<'_>> {
    let ExprKind::Binary { op, left, right } = &expr.kind else { return None };
    let is_member = |side: &Expr| matches!(side.kind, ExprKind::Name(_) | ExprKind::Member { .. });
    let (member, op, value) = match (literal(left), literal(right)) {
        (None, Some(value)) if is_member(left) => (left, *op, value),
        (Some(value), None) if is_member(right) => (right, mirrored(*op), value),
        _ => return None,
    };
    let is_bound = matches!(op, BinaryOp::Eq | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge);
    (is_bound && !matches!(value, Value::Null)).then_some(Bound { member, op, value, span: expr.span })
}

fn mirrored(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Lt => BinaryOp::Gt,
        BinaryOp::Le => BinaryOp::Ge,
        BinaryOp::Gt => BinaryOp::Lt,
        BinaryOp::Ge => BinaryOp::Le,
        other => other,
    }
}

/// Two conditions on one member that are never both true.
pub(super) fn contradiction(conjuncts: &[&Expr], out: &mut Vec<Diagnostic>) {
    /// Of one member, so many earlier ones are looked at.
    const FEW: usize = 64;
    let mut of_members: HashMap<String, Vec<Bound<'_>>> = HashMap::new();
    for later in conjuncts.iter().filter_map(|conjunct| bound(conjunct)) {
        let of_member = of_members.entry(print_expr(later.member, Dialect::Native)).or_default();
        if let Some(earlier) = of_member.iter().take(FEW).find(|earlier| excludes(earlier, &later)) {
            let message = "this is never true together with an earlier condition: the rule never fires";
            let both_equal = earlier.op == BinaryOp::Eq && later.op == BinaryOp::Eq;
            let help =
                if both_equal { "for one of several values write x IN […]" } else { "for either of them write OR" };
            let warning = Diagnostic::warning("never-true", later.span, message).help(help);
            out.push(warning.label(earlier.span, "the earlier one"));
            return;
        }
        of_member.push(later);
    }
}

fn excludes(a: &Bound<'_>, b: &Bound<'_>) -> bool {
    use BinaryOp::{Eq, Ge, Gt, Le, Lt};
    if let (Eq, Eq) = (a.op, b.op) {
        return a.value.equals(b.value) == Some(false);
    }
    let Some(order) = a.value.compare(b.value) else { return false };
    match (a.op, b.op) {
        (Eq, Lt) | (Ge, Lt) | (Gt, Lt) | (Gt, Le) => order.is_ge(),
        (Eq, Le) | (Ge, Le) => order.is_gt(),
        (Eq, Gt) | (Le, Gt) | (Lt, Gt) | (Lt, Ge) => order.is_le(),
        (Eq, Ge) | (Le, Ge) => order.is_lt(),
        (_, Eq) => excludes(b, a),
        _ => false,
    }
}
