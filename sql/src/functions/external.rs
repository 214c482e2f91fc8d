//! Functions that ask another system, through [`crate::eval::Externals`]. A failure ends the rule for the message.

use std::sync::Arc;

use super::Since::{Always, V2016};
use super::{Function, Purity, Since};
use crate::eval::Scope;
use crate::value::{Object, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    external("aws_lambda", (2, 2), V2016, |args, scope| scope.external("aws_lambda", args)),
    external("get_dynamodb", (4, 6), V2016, |args, scope| {
        // Five arguments would be half a sort key.
        if args.len() == 5 { Value::Undefined } else { scope.external("get_dynamodb", args) }
    }),
    external("get_registry_data", (3, 3), V2016, |args, scope| scope.external("get_registry_data", args)),
    external("get_secret", (3, 4), Always, |args, scope| scope.external("get_secret", args)),
    external("get_thing_shadow", (2, 3), V2016, |args, scope| scope.external("get_thing_shadow", args)),
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
    scope.external("machinelearning_predict", &[model.clone(), role.clone(), Value::object(flat)])
}
