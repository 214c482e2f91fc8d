//! Numbers. Text that spells a number is taken as Decimal; what is not real is Undefined.

use super::Function;
use super::Since::Always;
use crate::ast::{BinaryOp, Dialect};
use crate::decimal::{Decimal, MAX_DIGITS};
use crate::eval::binary;
use crate::value::Value;

const ONE: (usize, usize) = (1, 1);
const TWO: (usize, usize) = (2, 2);

pub(super) const FUNCTIONS: &[Function] = &[
    Function::pure("abs", ONE, Always, abs),
    Function::pure("acos", ONE, Always, |args| real(args, f64::acos)),
    Function::pure("asin", ONE, Always, |args| real(args, f64::asin)),
    Function::pure("atan", ONE, Always, |args| real(args, f64::atan)),
    Function::pure("atan2", TWO, Always, |args| real2(args, f64::atan2)),
    Function::pure("ceil", ONE, Always, |args| whole(args, Decimal::ceil)),
    Function::pure("cos", ONE, Always, |args| real(args, f64::cos)),
    Function::pure("cosh", ONE, Always, |args| real(args, f64::cosh)),
    Function::pure("exp", ONE, Always, |args| real(args, f64::exp)),
    Function::pure("floor", ONE, Always, |args| whole(args, Decimal::floor)),
    Function::pure("ln", ONE, Always, |args| real(args, f64::ln)),
    Function::pure("log", ONE, Always, |args| real(args, f64::log10)),
    Function::pure("mod", TWO, Always, remainder),
    Function::pure("nanvl", TWO, Always, nanvl),
    Function::pure("power", TWO, Always, |args| real2(args, f64::powf)),
    Function::pure("remainder", TWO, Always, remainder),
    Function::pure("round", ONE, Always, |args| whole(args, Decimal::round)),
    Function::pure("sign", ONE, Always, sign),
    Function::pure("sin", ONE, Always, |args| real(args, f64::sin)),
    Function::pure("sinh", ONE, Always, |args| real(args, f64::sinh)),
    Function::pure("sqrt", ONE, Always, |args| real(args, f64::sqrt)),
    Function::pure("tan", ONE, Always, |args| real(args, f64::tan)),
    Function::pure("tanh", ONE, Always, |args| real(args, f64::tanh)),
    Function::pure("trunc", TWO, Always, trunc),
];

/// A function of binary fractions; infinite results and those that are no number are Undefined.
fn real(args: &[Value], function: fn(f64) -> f64) -> Value {
    let [x] = args else { return Value::Undefined };
    Value::decimal(x.to_decimal().and_then(|x| Decimal::from_f64(function(x.to_f64()))))
}

fn real2(args: &[Value], function: fn(f64, f64) -> f64) -> Value {
    let [a, b] = args else { return Value::Undefined };
    let (Some(a), Some(b)) = (a.to_decimal(), b.to_decimal()) else { return Value::Undefined };
    Value::decimal(Decimal::from_f64(function(a.to_f64(), b.to_f64())))
}

/// A function to whole numbers.
fn whole(args: &[Value], function: fn(Decimal) -> Decimal) -> Value {
    match args {
        [Value::Int(number)] => Value::Int(*number),
        [x] => x.to_decimal().map_or(Value::Undefined, |x| Value::whole_or_decimal(function(x))),
        _ => Value::Undefined,
    }
}

fn abs(args: &[Value]) -> Value {
    match args {
        [Value::Int(number)] => Value::Int(number.abs()),
        [x] => Value::decimal(x.to_decimal().map(Decimal::abs)),
        _ => Value::Undefined,
    }
}

fn sign(args: &[Value]) -> Value {
    match args {
        [x] => x.to_decimal().map_or(Value::Undefined, |x| Value::Int(x.mantissa().signum())),
        _ => Value::Undefined,
    }
}

fn remainder(args: &[Value]) -> Value {
    match args {
        [a, b] => binary(BinaryOp::Rem, a, b, Dialect::Aws2016),
        _ => Value::Undefined,
    }
}

/// The second argument where there is no first. NaN does not exist among values: it is Undefined already.
fn nanvl(args: &[Value]) -> Value {
    match args {
        [a, b] if a.is_missing() => b.clone(),
        [a, _] => a.clone(),
        _ => Value::Undefined,
    }
}

/// Drops digits beyond so many places; the number of places is no text.
fn trunc(args: &[Value]) -> Value {
    match args {
        [_, Value::String(_)] => Value::Undefined,
        [x, places] => {
            let Some(places) = places.to_position() else { return Value::Undefined };
            let places = u32::try_from(places.clamp(0, MAX_DIGITS.into())).unwrap_or(MAX_DIGITS);
            match x {
                Value::Int(_) => x.clone(),
                other => Value::decimal(other.to_decimal().map(|x| x.truncate(places).strip_zeros())),
            }
        }
        _ => Value::Undefined,
    }
}
