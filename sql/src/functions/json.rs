//! Objects, arrays, what is missing, and values packed into text.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;

use super::Since::{Always, Native, V2016};
use super::{ANY, Function, Purity, string};
use crate::ast::{Expr, ExprKind};
use crate::eval::{Frame, Scope};
use crate::json;
use crate::value::{MAX_ELEMENTS, MAX_TEXT, Object, Value};

/// `transform` takes no more than this, in bytes of JSON.
const MAX_TRANSFORM: usize = 128 << 10;

/// Padding may be there or not.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) const FUNCTIONS: &[Function] = &[
    Function::lazy_body("coalesce", (1, ANY), Native, coalesce),
    Function::scoped("decode", (2, 2), V2016, Purity::Pure, decode),
    Function::lazy_body("encode", (2, 2), V2016, encode),
    Function::pure("get", (2, 2), Always, |args| match args {
        [of, key] => get(of, key),
        _ => Value::Undefined,
    }),
    Function::lazy_body("get_or_default", (1, 2), V2016, get_or_default),
    Function::pure("isnull", (1, 1), Always, |args| Value::Bool(matches!(args, [Value::Null]))),
    Function::pure("isundefined", (1, 1), V2016, |args| Value::Bool(matches!(args, [Value::Undefined]))),
    Function::pure("transform", (3, 3), V2016, transform),
];

/// An element by position from 0, a character likewise, or a member by name.
pub(crate) fn get(of: &Value, key: &Value) -> Value {
    let position = || key.to_position().and_then(|position| usize::try_from(position).ok());
    match (of, key) {
        (Value::Array(elements), _) => position().and_then(|at| elements.get(at)).cloned().unwrap_or_default(),
        (Value::String(text), _) => {
            let rest = |at| text.get(string::offset(text, at)..);
            position().and_then(rest).and_then(|rest| rest.chars().next()).map(|character| character.to_string()).into()
        }
        (Value::Object(object), Value::String(name)) => object.get(name).cloned().unwrap_or_default(),
        _ => Value::Undefined,
    }
}

/// The first argument that is neither Null nor Undefined; Null if one was, as SQL would have it.
fn coalesce(args: &[Expr], frame: &Frame<'_, '_>) -> Value {
    let mut last = Value::Undefined;
    for arg in args {
        let value = frame.evaluate(arg);
        if !value.is_missing() {
            return value;
        }
        if last.is_undefined() {
            last = value;
        }
    }
    last
}

/// The second argument where the first is Null, Undefined or fails.
fn get_or_default(args: &[Expr], frame: &Frame<'_, '_>) -> Value {
    let Some((wanted, default)) = args.split_first() else { return Value::Undefined };
    let earlier = frame.scope.take_failure();
    let value = frame.evaluate(wanted);
    let failed = frame.scope.take_failure().is_some();
    if let Some(failure) = earlier {
        frame.scope.fail(failure);
    }
    if failed || value.is_missing() {
        return default.first().map_or(Value::Undefined, |default| frame.evaluate(default));
    }
    value
}

/// Base64 of the message's bytes (`*`) or of a value's text.
fn encode(args: &[Expr], frame: &Frame<'_, '_>) -> Value {
    let [what, scheme] = args else { return Value::Undefined };
    if !is_base64(&frame.evaluate(scheme)) {
        return Value::Undefined;
    }
    if matches!(what.kind, ExprKind::Star) && frame.is_top() {
        return encode_bytes(frame.scope.message().payload, frame.scope);
    }
    match frame.evaluate(what).to_text() {
        Some(text) => encode_bytes(text.as_bytes(), frame.scope),
        None => Value::Undefined,
    }
}

fn encode_bytes(bytes: &[u8], scope: &Scope<'_>) -> Value {
    if bytes.len() > MAX_TEXT / 4 * 3 || !scope.charge(bytes.len() as u64 / 64) {
        return Value::Undefined;
    }
    Value::from(BASE64_STANDARD.encode(bytes))
}

/// The JSON value or the text that base64 text stands for; Null for what is no base64 or no text.
fn decode(args: &[Value], scope: &Scope<'_>) -> Value {
    let [packed, scheme] = args else { return Value::Undefined };
    let (Some(packed), true) = (packed.to_text(), is_base64(scheme)) else { return Value::Undefined };
    let Ok(bytes) = LENIENT.decode(packed.as_bytes()) else { return Value::Null };
    // A byte may become a value.
    if !scope.charge(bytes.len() as u64) {
        return Value::Undefined;
    }
    if let Ok(value) = json::parse(&bytes, scope.dialect()) {
        return value;
    }
    String::from_utf8(bytes).map_or(Value::Null, Value::from)
}

fn is_base64(scheme: &Value) -> bool {
    matches!(scheme, Value::String(name) if &**name == "base64")
}

/// `transform('enrichArray', object, array)`: each element with the object's members, which win.
fn transform(args: &[Value]) -> Value {
    let [Value::String(mode), Value::Object(attributes), Value::Array(elements)] = args else {
        return Value::Undefined;
    };
    let fits = |value: Option<&Value>| value.is_some_and(|value| json::to_text(value, MAX_TRANSFORM).is_some());
    let members = elements.len().saturating_mul(attributes.len());
    if &**mode != "enrichArray" || !fits(args.get(1)) || !fits(args.get(2)) || members > MAX_ELEMENTS {
        return Value::Undefined;
    }
    let enriched: Option<Vec<Value>> = elements.iter().map(|element| enrich(element, attributes)).collect();
    enriched.map_or(Value::Undefined, Value::array)
}

fn enrich(element: &Value, attributes: &Object) -> Option<Value> {
    let Value::Object(element) = element else { return None };
    let mut result = Object::clone(element);
    for (name, value) in attributes.iter() {
        result.insert(Arc::clone(name), value.clone());
    }
    Some(Value::object(result))
}
