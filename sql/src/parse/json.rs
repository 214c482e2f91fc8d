//! JSON whose every value knows its place in the text.

use crate::ast::Span;

use super::literal::Extract;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Json {
    pub kind: JsonKind,
    pub span: Span,
}

/// The kinds of values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JsonKind {
    Null,
    Bool(bool),
    /// As it is spelt.
    Number(String),
    String(Extract),
    Array(Vec<Json>),
    Object(Vec<Member>),
    /// Not a value; reported.
    Bad,
}

/// A member of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Member {
    pub name: String,
    pub name_span: Span,
    pub value: Json,
}

impl Json {
    /// The word for its kind in a sentence.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            JsonKind::Null => "null",
            JsonKind::Bool(_) => "a boolean",
            JsonKind::Number(_) => "a number",
            JsonKind::String(_) => "a text",
            JsonKind::Array(_) => "an array",
            JsonKind::Object(_) => "an object",
            JsonKind::Bad => "no value",
        }
    }

    /// The value as compact JSON, members in their order.
    pub fn write(&self, out: &mut String) {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match &self.kind {
            JsonKind::Null | JsonKind::Bad => out.push_str("null"),
            JsonKind::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            JsonKind::Number(number) => out.push_str(number),
            JsonKind::String(text) => out.push_str(&quoted(&text.text)),
            JsonKind::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            JsonKind::Object(members) => {
                out.push('{');
                for (index, member) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(&quoted(&member.name));
                    out.push(':');
                    member.value.write(out);
                }
                out.push('}');
            }
        }
    }
}
