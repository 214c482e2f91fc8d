//! `AFTER … UNLESS … PARTITION BY`: what may stand in it, and what is probably not meant.

use crate::ast::{Absence, After, Dialect, Expr, ExprKind, Items, Select, Span};
use crate::decimal::Decimal;
use crate::diagnostic::Diagnostic;
use crate::functions::{self, Purity};
use crate::rule::{MAX_AFTER_US, Rule};
use crate::value::Value;

use super::calls::{self, Place};

/// Checks the clause of a statement, if it has one.
pub(super) fn check(select: &Select, place: Place<'_>, out: &mut Vec<Diagnostic>) {
    let Some(absence) = &select.absence else { return };
    if select.window.is_some() || !select.group_by.is_empty() {
        let message = "AFTER watches single messages, GROUP BY gathers them: a rule has one of them";
        let help = "write the rows of the window INTO TOPIC 'sums', and watch them with a second rule: \
                    SELECT … FROM 'sums' AFTER … UNLESS …";
        out.push(Diagnostic::error("absence", absence.span, message).help(help));
    }
    let per_message = |reason| Place { no_aggregates: Some(reason), ..place };
    if let After::Seconds(seconds) = &absence.after {
        calls::check(seconds, per_message("AFTER is read from the message that arms"), out);
        check_seconds(seconds, out);
    }
    calls::check(&absence.unless, per_message("UNLESS judges each message"), out);
    for key in &absence.keys {
        calls::check(key, per_message("PARTITION BY names what a message belongs to"), out);
        check_key(key, out);
    }
    check_aliases(select, absence, out);
    if select.presence && !absence.keys.iter().any(is_client_id) {
        let message = "the order of presence events is known per client only (versionNumber)";
        let help = "name the client among the keys: PARTITION BY clientId";
        out.push(Diagnostic::error("absence", absence.span, message).help(help));
    }
}

/// Refuses what asks other systems: a deadline that is replayed has to find what it found. Only tables know what they were,
/// so `get_dynamodb` may stand where the row is made, which is at the deadline; whether a message arms or disarms is known
/// when it comes.
pub(super) fn check_pure(rule: &Rule, out: &mut Vec<Diagnostic>) {
    let Some(absence) = &rule.select.absence else { return };
    let set = &rule.select.set;
    let made_late = rule.select.items.exprs().chain(set.iter().map(|(_, expr)| expr));
    let in_templates = rule.templates().into_iter().flat_map(|template| template.exprs());
    for expr in made_late.chain(in_templates) {
        refuse_calls(expr, true, out);
    }
    let variables: Vec<&str> = set.iter().filter(|(_, expr)| has_call(expr)).map(|(name, _)| &**name).collect();
    for expr in rule.select.filter.iter().chain(absence.exprs()) {
        refuse_calls(expr, false, out);
        visit(expr, &mut |part| {
            let ExprKind::Variable(name) = &part.kind else { return };
            if !variables.is_empty() {
                let message =
                    format!("@{name} stands where a message arms or disarms, and SET looks up a table at the deadline");
                let help = format!("write the expression of @{name} here, or look up the table in the SELECT list");
                out.push(Diagnostic::error("absence", part.span, message).help(help));
            }
        });
    }
}

fn refuse_calls(expr: &Expr, late: bool, out: &mut Vec<Diagnostic>) {
    visit(expr, &mut |part| {
        let Some(function) = call_of(part) else { return };
        if (late && function == "get_dynamodb")
            || out.iter().any(|earlier| earlier.is_error() && within(earlier.span, part.span))
        {
            return;
        }
        let (message, help) = if function == "get_dynamodb" {
            let message =
                "tables are looked up at the deadline, and whether a message arms or disarms is known when it comes";
            (message.to_owned(), "look the table up in the SELECT list")
        } else {
            let message = format!("{function}() asks another system, and may not stand in a rule with AFTER");
            (message, "write the notice INTO TOPIC 'notices/x', and ask in a second rule that reads it")
        };
        out.push(Diagnostic::error("absence", part.span, message).help(help));
    });
}

/// The function that asks another system, if this is a call of one.
fn call_of(expr: &Expr) -> Option<&str> {
    let ExprKind::Call { function, .. } = &expr.kind else { return None };
    let external = functions::lookup(function).is_some_and(|known| known.purity == Purity::External);
    external.then_some(&**function)
}

fn has_call(expr: &Expr) -> bool {
    let mut found = false;
    visit(expr, &mut |part| found |= call_of(part).is_some());
    found
}

fn within(inner: Span, outer: Span) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn check_seconds(seconds: &Expr, out: &mut Vec<Diagnostic>) {
    let negative = matches!(&seconds.kind, ExprKind::Unary { op: crate::ast::UnaryOp::Neg, operand }
        if matches!(operand.kind, ExprKind::Literal(_)));
    let wrong = match &seconds.kind {
        ExprKind::Literal(value) => after_us(value).is_none(),
        _ => negative,
    };
    if wrong {
        let message = "AFTER is an interval, or a number of seconds above 0 and up to 366 days";
        out.push(Diagnostic::error("absence", seconds.span, message).help("write AFTER INTERVAL '15 minutes'"));
    }
}

fn check_key(key: &Expr, out: &mut Vec<Diagnostic>) {
    match &key.kind {
        ExprKind::Literal(_) => {
            let message = "this is the same for every message: there is one timer for all of them";
            let help = "for one timer per device write PARTITION BY topic(2), or clientid()";
            out.push(Diagnostic::warning("absence", key.span, message).help(help));
        }
        _ => visit(key, &mut |part| {
            let ExprKind::Call { function, .. } = &part.kind else { return };
            if functions::lookup(function).is_some_and(|known| known.purity == Purity::PerCall) {
                let message = format!("{function}() is another value for each message: no timer would be disarmed");
                out.push(Diagnostic::warning("absence", part.span, message));
            }
        }),
    }
}

/// The clause reads the message; a name that SELECT gives something else is probably meant to be that.
fn check_aliases(select: &Select, absence: &Absence, out: &mut Vec<Diagnostic>) {
    let Items::List(items) = &select.items else { return };
    for expr in absence.exprs() {
        visit(expr, &mut |part| {
            let ExprKind::Name(name) = &part.kind else { return };
            let item = items.iter().find(|item| matches!(item.alias.as_deref(), Some([alias]) if alias == name));
            let Some(item) = item.filter(|item| item.expr != *part) else { return };
            let message = format!("`{name}` is read from the message here, not from the SELECT list");
            let meant = crate::parse::print_expr(&item.expr, Dialect::Native);
            let help = format!("if the SELECT item is meant, write {meant}");
            let diagnostic = Diagnostic::warning("absence", part.span, message).help(help);
            out.push(diagnostic.label(item.expr.span, "this item is not meant"));
        });
    }
}

fn is_client_id(key: &Expr) -> bool {
    matches!(&key.kind, ExprKind::Name(name) if &**name == "clientId")
}

/// Visits an expression and its parts; names inside nested queries are those of their elements, and left out.
fn visit(expr: &Expr, see: &mut dyn FnMut(&Expr)) {
    see(expr);
    match &expr.kind {
        ExprKind::Subquery(query) | ExprKind::Exists(query) => visit(&query.source, see),
        _ => expr.for_each_child(|child| visit(child, see)),
    }
}

/// A number of seconds as microseconds: above 0, at most [`MAX_AFTER_US`]. Text that is a number converts.
pub fn after_us(seconds: &Value) -> Option<u64> {
    let number = match seconds {
        Value::Null | Value::Bool(_) => return None,
        other => other.to_decimal()?,
    };
    let us = Decimal::new(number.mantissa(), number.scale() - 6)?.floor().to_whole()?;
    u64::try_from(us).ok().filter(|us| (1..=MAX_AFTER_US).contains(us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_microseconds() {
        let of = |text: &str| after_us(&Value::literal_number(text).unwrap());
        assert_eq!(of("900"), Some(900_000_000));
        assert_eq!(of("0.25"), Some(250_000));
        assert_eq!(of("1.23456789"), Some(1_234_567));
        assert_eq!(of("1e3"), Some(1_000_000_000));
        assert_eq!(of("0"), None);
        assert_eq!(of("0.0000001"), None);
        assert_eq!(of("-1"), None);
        assert_eq!(of("1e30"), None);
        assert_eq!(of("31622400"), Some(MAX_AFTER_US));
        assert_eq!(of("31622401"), None);
        assert_eq!(after_us(&Value::from("30")), Some(30_000_000));
        assert_eq!(after_us(&Value::from("soon")), None);
        assert_eq!(after_us(&Value::Null), None);
        assert_eq!(after_us(&Value::Undefined), None);
    }
}
