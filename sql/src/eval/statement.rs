//! Statements: SET, WHERE, the SELECT list, and templates.

use std::sync::Arc;

use super::expression::Frame;
use super::scope::{Failure, Scope};
use crate::ast::{Expr, ExprKind, Item, Items, Select, Template, TemplatePart};
use crate::json;
use crate::message::Message;
use crate::value::{MAX_TEXT, Object, Value};

/// The longest row, in bytes of JSON.
const MAX_ROW: usize = 8 << 20;

/// What a rule gives for a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// An object: the SELECT list.
    Members(Object),
    /// SELECT VALUE.
    Value(Value),
    /// `SELECT *` alone: the payload, untouched.
    Payload,
}

impl Body {
    /// The outgoing bytes. SELECT VALUE of Undefined is the empty text.
    pub fn to_bytes(&self, message: &Message<'_>) -> Result<Vec<u8>, Failure> {
        let text = match self {
            Body::Payload => return Ok(message.payload.to_vec()),
            Body::Value(value) => json::to_text(value, MAX_ROW),
            Body::Members(object) => json::to_text(&Value::object(object.clone()), MAX_ROW),
        };
        text.map(String::into_bytes).ok_or(Failure::Length { limit: MAX_ROW })
    }
}

/// Runs a statement: `None` if WHERE does not hold. The scope then has the SET variables, for the templates.
pub fn run(select: &Select, scope: &mut Scope<'_>) -> Result<Option<Body>, Failure> {
    bind(&select.set, scope)?;
    if !matches(select.filter.as_ref(), scope)? {
        return Ok(None);
    }
    project(&select.items, scope).map(Some)
}

/// Evaluates SET variables in order.
pub fn bind(set: &[(Arc<str>, Expr)], scope: &mut Scope<'_>) -> Result<(), Failure> {
    for (name, expr) in set {
        let value = Frame::top(scope).evaluate(expr);
        scope.set_variable(Arc::clone(name), value);
    }
    finish((), scope)
}

/// WHERE: true, or the text `true`.
pub fn matches(filter: Option<&Expr>, scope: &Scope<'_>) -> Result<bool, Failure> {
    let holds = filter.is_none_or(|filter| truth(&Frame::top(scope).evaluate(filter)));
    finish(holds, scope)
}

/// The SELECT list.
pub fn project(items: &Items, scope: &Scope<'_>) -> Result<Body, Failure> {
    let frame = Frame::top(scope);
    let body = match items {
        Items::Value(Expr { kind: ExprKind::Star, .. }) => Body::Payload,
        Items::Value(expr) => Body::Value(frame.evaluate(expr)),
        Items::List(items) => match items.as_slice() {
            [only] if only.alias.is_none() => Body::Payload,
            items => Body::Members(select_list(items, &frame)),
        },
    };
    finish(body, scope)
}

/// A template's text. Undefined and Null are the empty text.
pub fn template(template: &Template, scope: &Scope<'_>) -> Result<String, Failure> {
    scope.begin_template();
    let frame = Frame::top(scope);
    let mut text = String::new();
    for part in &template.parts {
        match part {
            TemplatePart::Text(literal) => text.push_str(literal),
            TemplatePart::Expr(expr) => text.push_str(&frame.evaluate(expr).to_text().unwrap_or_default()),
        }
        if text.len() > MAX_TEXT {
            scope.fail(Failure::Length { limit: MAX_TEXT });
            break;
        }
    }
    finish(text, scope)
}

/// A template that names a topic: a leading `$$` stands for the `$` of a reserved topic.
pub fn topic(template: &Template, scope: &Scope<'_>) -> Result<String, Failure> {
    let text = self::template(template, scope)?;
    let reserved = matches!(template.parts.first(), Some(TemplatePart::Text(first)) if first.starts_with("$$"));
    Ok(if reserved { text.replacen('$', "", 1) } else { text })
}

/// Builds an object from dotted names and values. Undefined values are left out, later ones override earlier ones.
pub fn assemble<'p>(members: impl IntoIterator<Item = (&'p [Arc<str>], Value)>) -> Object {
    let mut object = Object::new();
    for (path, value) in members {
        insert(&mut object, path, value);
    }
    object
}

/// True, or text that converts to it.
pub(super) fn truth(value: &Value) -> bool {
    value.to_bool() == Some(true)
}

/// The items of a SELECT list as one object.
pub(super) fn select_list(items: &[Item], frame: &Frame<'_, '_>) -> Object {
    let mut object = Object::new();
    for item in items {
        match &item.alias {
            Some(path) => insert(&mut object, path, frame.evaluate(&item.expr)),
            None => {
                if let Value::Object(members) = frame.star()
                    // A member takes about as much memory as four nodes.
                    && frame.scope.charge(4 * members.len() as u64)
                {
                    for (name, value) in members.iter() {
                        object.insert(Arc::clone(name), value.clone());
                    }
                }
            }
        }
    }
    object
}

/// Sets `path` in an object, making objects on the way and replacing what is none.
fn insert(object: &mut Object, path: &[Arc<str>], value: Value) {
    if value.is_undefined() || path.len() > json::MAX_DEPTH {
        return;
    }
    match path {
        [] => {}
        [name] => object.insert(Arc::clone(name), value),
        [name, rest @ ..] => {
            if !matches!(object.get(name), Some(Value::Object(_))) {
                object.insert(Arc::clone(name), Value::object(Object::new()));
            }
            if let Some(Value::Object(inner)) = object.get_mut(name) {
                insert(Arc::make_mut(inner), rest, value);
            }
        }
    }
}

/// A result, unless the rule has failed.
fn finish<T>(result: T, scope: &Scope<'_>) -> Result<T, Failure> {
    scope.take_failure().map_or(Ok(result), Err)
}
