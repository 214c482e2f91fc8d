//! Infix operators on two values.

use std::cmp::Ordering;

use crate::ast::{BinaryOp, Dialect};
use crate::decimal::Decimal;
use crate::value::{MAX_TEXT, Value};

/// `left op right`.
pub(crate) fn binary(op: BinaryOp, left: &Value, right: &Value, dialect: Dialect) -> Value {
    match op {
        BinaryOp::And | BinaryOp::Or => logic(op == BinaryOp::Or, left.to_bool(), right.to_bool(), dialect),
        BinaryOp::Eq => left.equals(right).into(),
        BinaryOp::Ne => left.equals(right).map(|equal| !equal).into(),
        BinaryOp::Lt => left.compare(right).map(Ordering::is_lt).into(),
        BinaryOp::Le => left.compare(right).map(Ordering::is_le).into(),
        BinaryOp::Gt => left.compare(right).map(Ordering::is_gt).into(),
        BinaryOp::Ge => left.compare(right).map(Ordering::is_ge).into(),
        BinaryOp::In => contains(left, right),
        BinaryOp::Add => add(left, right),
        BinaryOp::Concat => join(left, right),
        BinaryOp::Sub => arithmetic(left, right, i128::checked_sub, Decimal::checked_sub),
        BinaryOp::Mul => arithmetic(left, right, i128::checked_mul, Decimal::checked_mul),
        BinaryOp::Rem => arithmetic(left, right, i128::checked_rem, Decimal::checked_rem),
        BinaryOp::Div if dialect == Dialect::Native => Value::decimal(decimals(left, right, Decimal::checked_div)),
        BinaryOp::Div => arithmetic(left, right, i128::checked_div, Decimal::checked_div),
    }
}

/// The work of an operator, in the units of [`super::Scope`].
pub(super) fn cost(op: BinaryOp, left: &Value, right: &Value) -> u64 {
    match op {
        BinaryOp::Eq | BinaryOp::Ne if left.kind() != right.kind() => 0,
        BinaryOp::Eq | BinaryOp::Ne | BinaryOp::In | BinaryOp::Add | BinaryOp::Concat => left.weight() + right.weight(),
        _ => left.text_weight() + right.text_weight(),
    }
}

/// AND and OR. In AWS documents any side that is no boolean makes the result Undefined; native rules follow SQL's
/// three-valued logic, where the other side may decide alone.
fn logic(or: bool, left: Option<bool>, right: Option<bool>, dialect: Dialect) -> Value {
    match (left, right) {
        (Some(left), Some(right)) => Value::Bool(if or { left || right } else { left && right }),
        (Some(decided), None) | (None, Some(decided)) if dialect == Dialect::Native && decided == or => {
            Value::Bool(decided)
        }
        _ => Value::Undefined,
    }
}

/// `left IN right`, where the right side must be an array.
fn contains(left: &Value, right: &Value) -> Value {
    match (left, right) {
        (_, Value::Array(elements)) => left.is_in(elements).into(),
        _ => Value::Undefined,
    }
}

/// `+` joins texts as soon as one side is text.
fn add(left: &Value, right: &Value) -> Value {
    if matches!(left, Value::String(_)) || matches!(right, Value::String(_)) {
        join(left, right)
    } else {
        arithmetic(left, right, i128::checked_add, Decimal::checked_add)
    }
}

fn join(left: &Value, right: &Value) -> Value {
    let (Some(left), Some(right)) = (left.to_text(), right.to_text()) else { return Value::Undefined };
    if left.len() + right.len() > MAX_TEXT { Value::Undefined } else { Value::text(format!("{left}{right}")) }
}

/// Two Ints stay Int; whatever else converts to Decimal is calculated as Decimal. An Int result of more than 34 digits
/// becomes a rounded Decimal.
fn arithmetic(
    left: &Value,
    right: &Value,
    whole: fn(i128, i128) -> Option<i128>,
    decimal: fn(Decimal, Decimal) -> Option<Decimal>,
) -> Value {
    if let (Value::Int(a), Value::Int(b)) = (left, right)
        && let Some(result) = whole(*a, *b)
    {
        return Value::whole(result);
    }
    // Two Ints get here by zero, which Decimal refuses as well, or by a product beyond 128 bits.
    Value::decimal(decimals(left, right, decimal))
}

fn decimals(left: &Value, right: &Value, calculate: fn(Decimal, Decimal) -> Option<Decimal>) -> Option<Decimal> {
    calculate(left.to_decimal()?, right.to_decimal()?)
}

/// `-x`: numbers, and numeric text as Decimal.
pub(crate) fn negate(value: &Value) -> Value {
    match value {
        Value::Int(number) => Value::Int(-number),
        other => Value::decimal(other.to_decimal().map(Decimal::negate)),
    }
}
