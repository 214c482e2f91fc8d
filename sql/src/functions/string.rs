//! Text. Unless said otherwise every argument is turned into text first; Null and Undefined have none, and then the
//! result is Undefined. Positions count characters (code points) from 0.

use std::borrow::Cow;

use super::Since::{Always, V2016};
use super::{ANY, Function};
use crate::value::{MAX_ELEMENTS, MAX_TEXT, Value};

/// The most blanks `lpad` and `rpad` add.
const MAX_PAD: i64 = 1000;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::pure("chr", (1, 1), Always, chr),
    Function::pure("concat", (0, ANY), Always, concat),
    Function::pure("endswith", (2, 2), Always, |args| two(args, |text, end| Value::Bool(text.ends_with(end)))),
    Function::pure("indexof", (2, 2), V2016, |args| two(args, |text, wanted| Value::Int(index_of(text, wanted)))),
    Function::pure("length", (1, 1), V2016, |args| one(args, |text| count(text.chars().count()))),
    Function::pure("lower", (1, 1), Always, |args| one(args, |text| Value::from(text.to_lowercase()))),
    Function::pure("lpad", (2, 2), Always, |args| pad(args, |text, blanks| format!("{blanks}{text}"))),
    Function::pure("ltrim", (1, 1), Always, |args| one(args, |text| Value::from(ltrim(text)))),
    Function::pure("numbytes", (1, 1), V2016, |args| one(args, |text| count(text.len()))),
    Function::pure("replace", (3, 3), Always, replace),
    Function::pure("rpad", (2, 2), Always, |args| pad(args, |text, blanks| format!("{text}{blanks}"))),
    Function::pure("rtrim", (1, 1), Always, |args| one(args, |text| Value::from(rtrim(text)))),
    Function::pure("startswith", (2, 2), Always, |args| two(args, |text, start| Value::Bool(text.starts_with(start)))),
    Function::pure("substring", (2, 3), Always, substring),
    Function::pure("trim", (1, 1), Always, |args| one(args, |text| Value::from(text.trim()))),
    Function::pure("upper", (1, 1), Always, |args| one(args, |text| Value::from(text.to_uppercase()))),
];

fn one(args: &[Value], function: fn(&str) -> Value) -> Value {
    let [a] = args else { return Value::Undefined };
    a.to_text().map_or(Value::Undefined, |a| function(&a))
}

fn two(args: &[Value], function: fn(&str, &str) -> Value) -> Value {
    let [a, b] = args else { return Value::Undefined };
    let (Some(a), Some(b)) = (a.to_text(), b.to_text()) else { return Value::Undefined };
    function(&a, &b)
}

fn count(number: usize) -> Value {
    Value::Int(number as i128)
}

/// An ASCII character by its code.
fn chr(args: &[Value]) -> Value {
    let [code] = args else { return Value::Undefined };
    let code = code.to_position().and_then(|code| u8::try_from(code).ok()).filter(u8::is_ascii);
    code.map(|code| char::from(code).to_string()).into()
}

/// Texts one after the other; with an array among the arguments, one array of all elements and scalars.
fn concat(args: &[Value]) -> Value {
    if args.iter().any(|arg| matches!(arg, Value::Array(_))) {
        let length = |arg: &Value| if let Value::Array(elements) = arg { elements.len() } else { 1 };
        if args.iter().map(length).sum::<usize>() > MAX_ELEMENTS {
            return Value::Undefined;
        }
        let mut elements = Vec::new();
        for arg in args {
            match arg {
                Value::Array(more) => elements.extend(more.iter().cloned()),
                other => elements.push(other.clone()),
            }
        }
        return Value::array(elements);
    }
    let texts: Option<Vec<Cow<'_, str>>> = args.iter().map(Value::to_text).collect();
    match texts {
        Some(texts) if !texts.is_empty() && texts.iter().map(|text| text.len()).sum::<usize>() <= MAX_TEXT => {
            Value::text(texts.concat())
        }
        _ => Value::Undefined,
    }
}

/// Without blanks and tabs at the start.
pub(crate) fn ltrim(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// Without blanks and tabs at the end.
pub(crate) fn rtrim(text: &str) -> &str {
    text.trim_end_matches([' ', '\t'])
}

/// Where a text stands in another, or -1.
pub(crate) fn index_of(text: &str, wanted: &str) -> i128 {
    let before = text.find(wanted).and_then(|at| text.get(..at));
    before.map_or(-1, |before| before.chars().count() as i128)
}

/// Adds so many blanks; it does not fill up to a width.
fn pad(args: &[Value], join: fn(&str, &str) -> String) -> Value {
    let [text, blanks] = args else { return Value::Undefined };
    let (Some(text), Some(blanks)) = (text.to_text(), blanks.to_position()) else { return Value::Undefined };
    let blanks = usize::try_from(blanks.clamp(0, MAX_PAD)).unwrap_or(0);
    Value::from(join(&text, &" ".repeat(blanks)))
}

/// Every occurrence, taken literally.
fn replace(args: &[Value]) -> Value {
    let [text, from, to] = args else { return Value::Undefined };
    let (Some(text), Some(from), Some(to)) = (text.to_text(), from.to_text(), to.to_text()) else {
        return Value::Undefined;
    };
    replaced(&text, &from, &to).into()
}

/// Every occurrence of a text replaced; `None` if that would be much too long.
pub(crate) fn replaced(text: &str, from: &str, to: &str) -> Option<String> {
    let grown = text.matches(from).count().saturating_mul(to.len());
    (grown.saturating_add(text.len()) <= 2 * MAX_TEXT).then(|| text.replace(from, to))
}

/// From a position, up to and not including another one; positions outside are moved to the nearest end.
fn substring(args: &[Value]) -> Value {
    let [text, rest @ ..] = args else { return Value::Undefined };
    let Some(text) = text.to_text() else { return Value::Undefined };
    let positions: Option<Vec<i64>> = rest.iter().map(Value::to_position).collect();
    match positions.as_deref() {
        Some([from]) => Value::from(part(&text, *from, i64::MAX).to_owned()),
        Some([from, to]) => Value::from(part(&text, *from, *to).to_owned()),
        _ => Value::Undefined,
    }
}

/// From a position, up to and not including another one.
pub(crate) fn part(text: &str, from: i64, to: i64) -> &str {
    let position = |at: i64| usize::try_from(at.max(0)).unwrap_or(usize::MAX);
    let (from, to) = (position(from), position(to));
    if text.is_ascii() {
        let to = to.min(text.len());
        return text.get(from.min(to)..to).unwrap_or_default();
    }
    let start = offset(text, from);
    let rest = text.get(start..).unwrap_or_default();
    rest.get(..offset(rest, to.saturating_sub(from))).unwrap_or_default()
}

/// The byte at which a character begins, by its number; the text's length if there is none.
pub(crate) fn offset(text: &str, character: usize) -> usize {
    /// Bytes whose characters are counted at once, which is much faster than going over them.
    const BLOCK: usize = 2_048;
    let (mut start, mut left) = (0_usize, character);
    while let Some(end) = start.checked_add(BLOCK).filter(|end| *end < text.len()) {
        let end = text.floor_char_boundary(end);
        let count = text.get(start..end).unwrap_or_default().chars().count();
        if count > left {
            break;
        }
        (start, left) = (end, left - count);
    }
    let rest = text.get(start..).unwrap_or_default();
    rest.char_indices().nth(left).map_or(text.len(), |(at, _)| start + at)
}

#[cfg(test)]
mod tests {
    use super::{offset, part};

    #[test]
    fn characters_are_found_in_long_texts() {
        let text: String = (0..6_000).map(|n| if n % 3 == 0 { 'é' } else { '€' }).collect();
        let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        for (character, start) in starts.iter().enumerate() {
            assert_eq!(offset(&text, character), *start, "{character}");
        }
        assert_eq!([6_000, usize::MAX].map(|beyond| offset(&text, beyond)), [text.len(); 2]);
        assert_eq!((part(&text, 5_998, 9_000).chars().count(), part(&text, 3, 5)), (2, "é€"));
        assert_eq!((part(&text, 5, 3), offset("", 0)), ("", 0));
    }
}
