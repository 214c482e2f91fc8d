//! Comparisons of what is never equal, never ordered, or never an array.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{constant, literal};
use crate::ast::{BinaryOp, CastType, Dialect, Expr, ExprKind, UnaryOp};
use crate::diagnostic::Diagnostic;
use crate::parse::print_expr;
use crate::value::Value;

/// The kind an expression has whenever it has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Boolean,
    Array,
    Object,
    Null,
}

/// Functions whose values are numbers.
const NUMBERS: [&str; 35] = [
    "abs",
    "acos",
    "asin",
    "atan",
    "atan2",
    "bitand",
    "bitnot",
    "bitor",
    "bitxor",
    "ceil",
    "cos",
    "cosh",
    "exp",
    "floor",
    "indexof",
    "length",
    "ln",
    "log",
    "mod",
    "numbytes",
    "power",
    "rand",
    "remainder",
    "round",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "time_to_epoch",
    "timestamp",
    "trunc",
    "count",
    "sum",
];
/// Functions whose values are texts.
const TEXTS: [&str; 29] = [
    "accountid",
    "chr",
    "clientid",
    "encode",
    "lower",
    "lpad",
    "ltrim",
    "md2",
    "md5",
    "newuuid",
    "parse_time",
    "principal",
    "regexp_replace",
    "regexp_substr",
    "replace",
    "rpad",
    "rtrim",
    "sha1",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "sourceip",
    "sql_version",
    "substring",
    "topic",
    "traceid",
    "trim",
    "upper",
];
/// Functions whose values are booleans.
const BOOLEANS: [&str; 5] = ["endswith", "isnull", "isundefined", "regexp_matches", "startswith"];

fn kind(expr: &Expr) -> Option<Kind> {
    Some(match &expr.kind {
        ExprKind::Literal(Value::Int(_) | Value::Decimal(_)) => Kind::Number,
        ExprKind::Literal(Value::String(_)) => Kind::Text,
        ExprKind::Literal(Value::Bool(_)) => Kind::Boolean,
        ExprKind::Literal(Value::Null) => Kind::Null,
        ExprKind::Unary { op: UnaryOp::Neg, .. } => Kind::Number,
        ExprKind::Unary { op: UnaryOp::Not, .. } => Kind::Boolean,
        ExprKind::Binary { op, .. } => match op {
            BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => Kind::Number,
            BinaryOp::Concat => Kind::Text,
            BinaryOp::Add => return None,
            _ => Kind::Boolean,
        },
        ExprKind::IsNull { .. } | ExprKind::IsDistinct { .. } | ExprKind::Like { .. } | ExprKind::InList { .. } => {
            Kind::Boolean
        }
        ExprKind::Between { .. } | ExprKind::Exists(_) => Kind::Boolean,
        ExprKind::Cast { to, .. } => match to {
            CastType::String => Kind::Text,
            CastType::Boolean => Kind::Boolean,
            _ => Kind::Number,
        },
        ExprKind::Array(_) => Kind::Array,
        ExprKind::Object(_) => Kind::Object,
        ExprKind::Call { function, .. } if NUMBERS.contains(&&**function) => Kind::Number,
        ExprKind::Call { function, .. } if TEXTS.contains(&&**function) => Kind::Text,
        ExprKind::Call { function, .. } if BOOLEANS.contains(&&**function) => Kind::Boolean,
        _ => return None,
    })
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Kind::Number => "a number",
            Kind::Text => "a text",
            Kind::Boolean => "true or false",
            Kind::Array => "an array",
            Kind::Object => "an object",
            Kind::Null => "NULL",
        }
    }
}

pub(super) fn comparison(expr: &Expr, dialect: Dialect, out: &mut Vec<Diagnostic>) {
    let ExprKind::Binary { op, left, right } = &expr.kind else { return };
    // Constants are another doubt.
    if constant::value(expr, dialect).is_some() {
        return;
    }
    match op {
        BinaryOp::Eq | BinaryOp::Ne => equality(expr, *op, left, right, dialect, out),
        BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => order(expr, left, right, out),
        BinaryOp::In => {
            if let Some(kind) = kind(right).filter(|kind| *kind != Kind::Array) {
                let message = format!("IN looks into an array, and this is {}: always Undefined", kind.noun());
                out.push(Diagnostic::warning("in-array", right.span, message).help("write x IN [1, 2]"));
            }
        }
        _ => {}
    }
}

fn equality(expr: &Expr, op: BinaryOp, left: &Expr, right: &Expr, dialect: Dialect, out: &mut Vec<Diagnostic>) {
    let is_null = |side: &Expr| matches!(literal(side), Some(Value::Null));
    if is_null(left) || is_null(right) {
        let message = "where the member is missing, this is Undefined: only a `null` in the payload is equal to NULL";
        let help = match (dialect, op) {
            (Dialect::Native, BinaryOp::Eq) => "write x IS NULL, which is true for a missing member as well",
            (Dialect::Native, _) => "write x IS NOT NULL",
            (Dialect::Aws2015, _) => "write isNull(x) for a `null`",
            _ => "write isNull(x) for a `null`, isUndefined(x) for a missing member",
        };
        out.push(Diagnostic::warning("null-comparison", expr.span, message).help(help));
        return;
    }
    let (Some(a), Some(b)) = (kind(left), kind(right)) else { return };
    if a == b {
        return;
    }
    let (verb, outcome) = if op == BinaryOp::Eq { ("never", "false") } else { ("never", "true") };
    let message = format!("{} is {verb} equal to {}: this is always {outcome}", a.noun(), b.noun());
    out.push(Diagnostic::warning("never-equal", expr.span, message).maybe_help(fitting(left, a, right, b)));
}

/// How to write the literal so that the sides can be equal.
fn fitting(left: &Expr, a: Kind, right: &Expr, b: Kind) -> Option<String> {
    let (value, wanted) = match (literal(left), literal(right)) {
        (None, Some(value)) => (value, a),
        (Some(value), None) => (value, b),
        _ => return Some("convert one of them with CAST(x AS …)".to_owned()),
    };
    match (value, wanted) {
        (Value::Int(_) | Value::Decimal(_) | Value::Bool(_), Kind::Text) => {
            value.to_text().map(|text| format!("write '{text}'"))
        }
        (Value::String(text), Kind::Number) if Value::literal_number(text).is_some() => Some(format!("write {text}")),
        (Value::String(text), Kind::Boolean) if value.to_bool().is_some() => Some(format!("write {text}")),
        _ => None,
    }
}

/// `<` and its kin compare numbers, and texts that spell numbers.
fn order(expr: &Expr, left: &Expr, right: &Expr, out: &mut Vec<Diagnostic>) {
    for side in [left, right] {
        let why = match (kind(side), literal(side)) {
            (Some(Kind::Text), Some(text)) if text.to_decimal().is_none() => "texts have no order",
            (Some(Kind::Boolean), _) => "true and false have no order",
            (Some(Kind::Array | Kind::Object), _) => "arrays and objects have no order",
            (Some(Kind::Null), _) => "NULL has no order",
            _ => continue,
        };
        let message = format!("{why}, only numbers have: this is always Undefined");
        let is_chain = matches!(side.kind, ExprKind::Binary { op, .. } if is_order(op));
        let help = is_chain.then(|| "write a < x AND x < b".to_owned());
        out.push(Diagnostic::warning("no-order", expr.span, message).maybe_help(help));
        return;
    }
}

fn is_order(op: BinaryOp) -> bool {
    matches!(op, BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge)
}

/// Branches of CASE that are never taken.
pub(super) fn cases(expr: &Expr, dialect: Dialect, out: &mut Vec<Diagnostic>) {
    let ExprKind::Case { operand, branches, otherwise } = &expr.kind else { return };
    let operand = operand.as_deref();
    let mut certain = None;
    let mut seen = Earlier::new(dialect, branches.len());
    for (when, _) in branches {
        if let Some(certain) = certain {
            let message = "this branch is never taken: an earlier one always is";
            out.push(Diagnostic::warning("unreachable", when.span, message).label(certain, "always taken"));
            return;
        }
        if let Some(earlier) = seen.same_as(when) {
            let message = "this branch is never taken: an earlier one is the same";
            out.push(Diagnostic::warning("unreachable", when.span, message).label(earlier.span, "the earlier one"));
            continue;
        }
        match operand {
            Some(operand) => {
                if let (Some(a), Some(b)) = (kind(operand), kind(when))
                    && a != b
                {
                    let message = format!("this branch is never taken: {} is never equal to {}", a.noun(), b.noun());
                    let help = fitting(operand, a, when, b);
                    out.push(Diagnostic::warning("unreachable", when.span, message).maybe_help(help));
                }
            }
            None => match constant::value(when, dialect).map(|value| value.to_bool()) {
                Some(Some(true)) => certain = Some(when.span),
                Some(_) => {
                    let message = "this branch is never taken: its condition is never true";
                    out.push(Diagnostic::warning("unreachable", when.span, message));
                }
                None => {}
            },
        }
    }
    if let (Some(certain), Some(otherwise)) = (certain, otherwise) {
        let message = "ELSE is never taken: an earlier branch always is";
        out.push(Diagnostic::warning("unreachable", otherwise.span, message).label(certain, "always taken"));
    }
}

/// Expressions that came before, to find one that is the same.
struct Earlier<'e> {
    dialect: Dialect,
    all: Vec<&'e Expr>,
    /// By their text, where there are many.
    by_text: Option<HashMap<String, &'e Expr>>,
}

impl<'e> Earlier<'e> {
    fn new(dialect: Dialect, expected: usize) -> Self {
        /// So many are compared one with the other.
        const FEW: usize = 256;
        Self { dialect, all: Vec::new(), by_text: (expected > FEW).then(HashMap::new) }
    }

    /// An earlier one that is the same, if it calls nothing; without one, this is an earlier one from now on.
    fn same_as(&mut self, expr: &'e Expr) -> Option<&'e Expr> {
        if calls(expr) {
            return None;
        }
        let found = match &mut self.by_text {
            None => self.all.iter().find(|earlier| **earlier == expr).copied(),
            Some(by_text) => match by_text.entry(print_expr(expr, self.dialect)) {
                Entry::Occupied(earlier) => Some(*earlier.get()),
                Entry::Vacant(place) => {
                    place.insert(expr);
                    None
                }
            },
        };
        if found.is_none() && self.by_text.is_none() {
            self.all.push(expr);
        }
        found
    }
}

/// Does the expression call anything? Two equal calls may give two values.
fn calls(expr: &Expr) -> bool {
    let mut found = matches!(expr.kind, ExprKind::Call { .. });
    expr.for_each_child(|child| found |= calls(child));
    found
}
