//! Functions that ask another system, through [`crate::eval::Externals`]. A failure ends the rule for the message; an
//! argument that is Undefined makes the call Undefined, and nobody is asked.

use std::sync::Arc;

use super::Since::{Always, V2016};
use super::{Function, Purity, Since};
use crate::eval::Scope;
use crate::value::{Object, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    external("aws_lambda", (2, 2), V2016, |args, scope| ask("aws_lambda", args, scope)),
    external("get_dynamodb", (4, 6), V2016, |args, scope| {
        // Five arguments would be half a sort key.
        if args.len() == 5 { Value::Undefined } else { ask("get_dynamodb", args, scope) }
    }),
    external("get_registry_data", (3, 3), V2016, |args, scope| ask("get_registry_data", args, scope)),
    external("get_secret", (3, 4), Always, |args, scope| ask("get_secret", args, scope)),
    external("get_thing_shadow", (2, 3), V2016, |args, scope| ask("get_thing_shadow", args, scope)),
    external("machinelearning_predict", (3, 3), Always, predict),
];

const fn external(
    name: &'static str,
    arity: (usize, usize),
    since: Since,
    body: fn(&[Value], &Scope<'_>) -> Value,
) -> Function {
    Function::scoped(name, arity, since, Purity::External, body)
}

fn ask(function: &str, args: &[Value], scope: &Scope<'_>) -> Value {
    if args.iter().any(Value::is_undefined) { Value::Undefined } else { scope.external(function, args) }
}

/// The record goes out flat: nested values as their JSON text.
fn predict(args: &[Value], scope: &Scope<'_>) -> Value {
    let [model, role, Value::Object(record)] = args else { return Value::Undefined };
    let flat: Object = record
        .iter()
        .map(|(name, value)| match value {
            Value::Array(_) | Value::Object(_) => (Arc::clone(name), Value::from(value.to_text().map(String::from))),
            scalar => (Arc::clone(name), scalar.clone()),
        })
        .collect();
    ask("machinelearning_predict", &[model.clone(), role.clone(), Value::object(flat)], scope)
}
