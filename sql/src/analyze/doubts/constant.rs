//! What does not depend on the message, or never has a value.

use super::literal;
use crate::ast::{BinaryOp, Dialect, Expr, ExprKind, UnaryOp};
use crate::diagnostic::Diagnostic;
use crate::eval::{Scope, evaluate};
use crate::functions::{self, Purity};
use crate::message::Message;
use crate::value::Value;

/// The value of an expression that depends on nothing; `None` if it depends on something.
pub(super) fn value(expr: &Expr, dialect: Dialect) -> Option<Value> {
    if !is_constant(expr) {
        return None;
    }
    let message = Message::new("", b"", 0);
    let scope = Scope::new(&message, dialect);
    let value = evaluate(expr, &scope);
    scope.take_failure().is_none().then_some(value)
}

fn is_constant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Literal(_) => true,
        ExprKind::Star | ExprKind::Name(_) | ExprKind::Variable(_) | ExprKind::Slot(_) => false,
        ExprKind::Subquery(_) | ExprKind::Exists(_) => false,
        ExprKind::Call { function, .. } => {
            let pure = functions::lookup(function).is_some_and(|function| function.purity == Purity::Pure);
            pure && all_constant(expr)
        }
        _ => all_constant(expr),
    }
}

fn all_constant(expr: &Expr) -> bool {
    let mut all = true;
    expr.for_each_child(|child| all &= is_constant(child));
    all
}

/// A condition of WHERE that is the same for every message. (`WHERE TRUE` says itself that it is meant.)
pub(super) fn condition(expr: &Expr, dialect: Dialect, out: &mut Vec<Diagnostic>) {
    if matches!(literal(expr), Some(Value::Bool(_))) {
        return;
    }
    let Some(value) = value(expr, dialect) else { return };
    let message = if value.to_bool() == Some(true) {
        "this is true for every message"
    } else {
        "this is true for no message: the rule never fires"
    };
    let quoted = match &expr.kind {
        ExprKind::Binary { left, right, .. } => {
            let text = |side: &Expr| matches!(literal(side), Some(Value::String(_)));
            text(left) && text(right)
        }
        _ => matches!(literal(expr), Some(Value::String(_))),
    };
    let help = match (quoted, dialect) {
        (true, Dialect::Native) => "'…' is text; a member of the message is written without quotes",
        (true, _) => "'…' and \"…\" are text; a member of the message is written without quotes",
        (false, _) => "compare with a member of the message, or leave it out",
    };
    out.push(Diagnostic::warning("constant-where", expr.span, message).help(help));
}

/// Divisions that lose their fraction, and those by zero.
pub(super) fn division(expr: &Expr, dialect: Dialect, out: &mut Vec<Diagnostic>) {
    let ExprKind::Binary { op: op @ (BinaryOp::Div | BinaryOp::Rem), left, right } = &expr.kind else { return };
    let divisor = number(right);
    if divisor.as_ref().is_some_and(|divisor| divisor.to_decimal().is_some_and(|divisor| divisor.is_zero())) {
        let message = "a division by zero is Undefined";
        out.push(Diagnostic::warning("division-by-zero", expr.span, message));
        return;
    }
    let (Some(Value::Int(a)), Some(Value::Int(b))) = (number(left), divisor) else { return };
    if dialect != Dialect::Native && *op == BinaryOp::Div && a.checked_rem(b).is_some_and(|rest| rest != 0) {
        let message = format!("whole numbers divide to a whole number in AWS rules: {a} / {b} is {}", a / b);
        out.push(Diagnostic::warning("whole-division", expr.span, message).help(format!("write {a}.0 / {b}")));
    }
}

/// A number as it is written, with its sign.
fn number(expr: &Expr) -> Option<Value> {
    match &expr.kind {
        ExprKind::Literal(value @ (Value::Int(_) | Value::Decimal(_))) => Some(value.clone()),
        ExprKind::Unary { op: UnaryOp::Neg, operand } => match literal(operand) {
            Some(Value::Int(number)) => Some(Value::Int(-number)),
            _ => None,
        },
        _ => None,
    }
}

/// Calls that are Undefined whatever the message is, because of an argument that is written out.
pub(super) fn call(expr: &Expr, dialect: Dialect, out: &mut Vec<Diagnostic>) {
    let ExprKind::Call { function: name, args } = &expr.kind else { return };
    let Some(function) = functions::lookup(name).filter(|function| function.takes(args.len())) else { return };
    let text = |index: usize| match args.get(index).and_then(literal) {
        Some(Value::String(text)) => Some(&**text),
        _ => None,
    };
    let message = Message::new("", b"", 0);
    let scope = Scope::new(&message, dialect);
    let is_undefined = |values: &[Value]| function.call(values, &scope).is_undefined();
    let (at, what, help) = match &**name {
        "regexp_matches" | "regexp_substr" | "regexp_replace" => {
            let Some(pattern) = text(1) else { return };
            let probe = functions::lookup("regexp_matches");
            let works = probe.map(|probe| probe.call(&[Value::from(""), Value::from(pattern)], &scope));
            if works.is_some_and(|works| !works.is_undefined()) {
                return;
            }
            (1, "this is no regular expression", "the patterns are those of Java: `\\d+`, `(a|b)`, `[a-z]*`")
        }
        "parse_time" => {
            let zone = args.get(2).map_or(Some("UTC"), |_| text(2));
            if zone.is_some_and(|zone| is_undefined(&["yyyy".into(), Value::Int(0), zone.into()])) {
                (2, "there is no such time zone", "a name as 'Europe/Berlin', or an offset as '+01:00'")
            } else if text(0).is_some_and(|pattern| is_undefined(&[pattern.into(), Value::Int(0), "UTC".into()])) {
                (0, "this is no pattern for a time", "letters are those of Joda-Time: yyyy-MM-dd HH:mm:ss.SSS")
            } else {
                return;
            }
        }
        "encode" | "decode" if text(1).is_some_and(|scheme| scheme != "base64") => {
            (1, "there is no such encoding", "write 'base64'")
        }
        "transform" if text(0).is_some_and(|mode| mode != "enrichArray") => {
            (0, "there is no such transformation", "write 'enrichArray'")
        }
        "get_mqtt_property" if text(0).is_some_and(|property| !PROPERTIES.contains(&property)) => (
            0,
            "a message has no such property",
            "properties are content_type, response_topic, correlation_data, format_indicator",
        ),
        _ => {
            let constant = !args.is_empty() && value(expr, dialect).is_some_and(|value| value.is_undefined());
            // A part that is said to have no value already is enough.
            let said = args.iter().any(|arg| value(arg, dialect).is_some_and(|value| value.is_undefined()));
            if constant && !said {
                let message = format!("{name} of these arguments is always Undefined");
                out.push(Diagnostic::warning("undefined", expr.span, message));
            }
            return;
        }
    };
    let span = args.get(at).map_or(expr.span, |arg| arg.span);
    let message = format!("{what}: {name} is always Undefined here");
    out.push(Diagnostic::warning("undefined", span, message).help(help));
}

/// What `get_mqtt_property` knows.
const PROPERTIES: [&str; 4] = ["content_type", "response_topic", "correlation_data", "format_indicator"];
