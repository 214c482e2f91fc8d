//! Bits of whole numbers, in two's complement. Arguments are floored.

use super::Function;
use super::Since::Always;
use crate::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::pure("bitand", (2, 2), Always, |args| both(args, |a, b| a & b)),
    Function::pure("bitnot", (1, 1), Always, bitnot),
    Function::pure("bitor", (2, 2), Always, |args| both(args, |a, b| a | b)),
    Function::pure("bitxor", (2, 2), Always, |args| both(args, |a, b| a ^ b)),
];

fn both(args: &[Value], function: fn(i128, i128) -> i128) -> Value {
    let [a, b] = args else { return Value::Undefined };
    let (Some(a), Some(b)) = (a.to_int(), b.to_int()) else { return Value::Undefined };
    Value::whole(function(a, b))
}

fn bitnot(args: &[Value]) -> Value {
    match args {
        [x] => x.to_int().map_or(Value::Undefined, |x| Value::whole(!x)),
        _ => Value::Undefined,
    }
}
