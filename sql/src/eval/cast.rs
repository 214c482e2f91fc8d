//! CAST: the conversions a rule asks for.

use crate::ast::{CastType, Dialect};
use crate::decimal::Decimal;
use crate::value::Value;

/// `CAST(value AS to)`.
pub(crate) fn cast(value: &Value, to: CastType, dialect: Dialect) -> Value {
    match to {
        CastType::String => value.to_shared_text().map_or(Value::Undefined, Value::String),
        CastType::Int => match value {
            Value::Bool(truth) => Value::Int((*truth).into()),
            other => other.to_decimal().map_or(Value::Undefined, |number| Value::whole_or_decimal(number.floor())),
        },
        CastType::Double => Value::decimal(number(value)),
        // Since 2016 whole numbers are Int.
        CastType::Decimal if dialect == Dialect::Aws2015 => Value::decimal(number(value)),
        CastType::Decimal => number(value).map_or(Value::Undefined, Value::whole_or_decimal),
        CastType::Boolean => match value {
            Value::Int(number) => Value::Bool(*number != 0),
            Value::Decimal(number) => Value::Bool(!number.is_zero()),
            other => other.to_bool().into(),
        },
    }
}

/// Numbers and numeric text; true is 1.0, false 0.0.
fn number(value: &Value) -> Option<Decimal> {
    match value {
        Value::Bool(truth) => Decimal::new(if *truth { 10 } else { 0 }, 1),
        other => other.to_decimal(),
    }
}
