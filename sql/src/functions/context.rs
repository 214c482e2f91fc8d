//! What is known of the message beside its payload.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::Since::{Always, V2016};
use super::{Function, Purity};
use crate::ast::Dialect;
use crate::eval::Scope;
use crate::message::Property;
use crate::value::{Object, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    of_message("accountid", (0, 0), |_, scope| scope.message().account_id.into()),
    of_message("clientid", (0, 0), |_, scope| Value::from(scope.message().client_id.unwrap_or("n/a"))),
    Function::scoped("get_mqtt_property", (1, 1), V2016, Purity::Message, mqtt_property),
    Function::scoped("get_user_properties", (0, 1), V2016, Purity::Message, user_properties),
    of_message("principal", (0, 0), |_, scope| scope.message().principal.into()),
    Function::scoped("sourceip", (0, 0), V2016, Purity::Message, |_, scope| scope.message().source_ip.into()),
    of_message("sql_version", (0, 0), |_, scope| {
        Value::from(if scope.dialect() == Dialect::Aws2015 { "2015-10-08" } else { "2016-03-23" })
    }),
    of_message("timestamp", (0, 0), |_, scope| scope.message().time_ms.into()),
    of_message("topic", (0, 1), topic),
];

const fn of_message(name: &'static str, arity: (usize, usize), body: fn(&[Value], &Scope<'_>) -> Value) -> Function {
    Function::scoped(name, arity, Always, Purity::Message, body)
}

/// The whole topic, or one level counted from 1.
fn topic(args: &[Value], scope: &Scope<'_>) -> Value {
    let topic = scope.message().visible_topic();
    let Some(level) = args.first() else { return Value::from(topic) };
    let level = level.to_int().and_then(|level| usize::try_from(level).ok()).and_then(|level| level.checked_sub(1));
    level.and_then(|level| topic.split('/').nth(level)).into()
}

fn mqtt_property(args: &[Value], scope: &Scope<'_>) -> Value {
    let [Value::String(name)] = args else { return Value::Undefined };
    let found = scope.message().properties.iter().find_map(|property| match (&**name, property) {
        ("content_type", Property::ContentType(text)) | ("response_topic", Property::ResponseTopic(text)) => {
            Some(Value::from(text))
        }
        ("correlation_data", Property::CorrelationData(bytes)) => Some(Value::from(BASE64_STANDARD.encode(bytes))),
        ("format_indicator", Property::FormatIndicator(true)) => Some(Value::from("UTF8_DATA")),
        _ => None,
    });
    found.unwrap_or_else(|| match &**name {
        "format_indicator" => Value::from("UNSPECIFIED_BYTES"),
        _ => Value::Undefined,
    })
}

/// The values of one name, or all as objects of one member.
fn user_properties(args: &[Value], scope: &Scope<'_>) -> Value {
    let properties = scope.message().properties.user();
    match args {
        [] => Value::array(
            properties
                .map(|(name, value)| Value::object(Object::from_iter([(Arc::from(name), Value::from(value))])))
                .collect(),
        ),
        [Value::String(wanted)] => {
            let values: Vec<_> =
                properties.filter(|(name, _)| **wanted == **name).map(|(_, value)| Value::from(value)).collect();
            if values.is_empty() { Value::Undefined } else { Value::array(values) }
        }
        _ => Value::Undefined,
    }
}
