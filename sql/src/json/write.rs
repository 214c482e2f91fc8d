//! Writing compact JSON.

use std::fmt::Write as _;

use crate::value::{MAX_NESTING, Value};

/// The compact JSON text of a value, or `None` if it is longer than `limit` bytes or nested beyond measure. Undefined members and elements are
/// left out; Undefined alone is the empty text.
pub fn to_text(value: &Value, limit: usize) -> Option<String> {
    let mut out = String::new();
    write(value, &mut out, limit, MAX_NESTING)?;
    (out.len() <= limit).then_some(out)
}

fn write(value: &Value, out: &mut String, limit: usize, levels: u32) -> Option<()> {
    let levels = levels.checked_sub(1)?;
    if out.len() > limit {
        return None;
    }
    match value {
        Value::Undefined => {}
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Int(number) => write!(out, "{number}").ok()?,
        Value::Decimal(number) => write!(out, "{number}").ok()?,
        Value::String(text) => write_string(text, out),
        Value::Array(elements) => {
            let defined = elements.iter().filter(|element| !element.is_undefined());
            out.push('[');
            for (at, element) in defined.enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(element, out, limit, levels)?;
            }
            out.push(']');
        }
        Value::Object(object) => {
            out.push('{');
            for (at, (name, member)) in object.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write(member, out, limit, levels)?;
            }
            out.push('}');
        }
    }
    Some(())
}

/// Appends a JSON string with its quotes.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            8 => "\\b",
            12 => "\\f",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(text.get(plain..at).unwrap_or_default());
        plain = at + 1;
        if escape.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(text.get(plain..).unwrap_or_default());
    out.push('"');
}
