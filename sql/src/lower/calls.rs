//! Functions on columns: how each takes its arguments and what it gives.
//!
//! Functions of text that rules use a lot work on the text where it lies; all others are called with values, row by
//! row. Either way it is the code of the scalar evaluator that decides.

use std::fmt;

use crate::column::append;
use crate::functions::{self, regexp, string};
use crate::value::Value;

/// How an argument is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Param {
    /// As its text; without one the result is Undefined.
    Text,
    /// As a position.
    Position,
}

/// What a function called with values gives besides Undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Returns {
    Text,
    Number,
}

/// The arguments of one row; positions that are not given are the largest.
pub(super) struct Args<'a> {
    pub(super) texts: [&'a str; MAX_ARGS],
    pub(super) positions: [i64; MAX_ARGS],
}

/// The most arguments of a [`Call`].
pub(super) const MAX_ARGS: usize = 3;

/// How it is calculated.
pub(super) enum Body {
    /// Gives a part of its argument.
    Part(for<'a> fn(&Args<'a>) -> Option<&'a str>),
    /// Appends its result; what it has appended without giving `Some` is dropped.
    Text(fn(&Args<'_>, &mut Vec<u8>) -> Option<()>),
    Whole(fn(&Args<'_>) -> Option<i128>),
    Boolean(fn(&Args<'_>) -> Option<bool>),
    /// With values.
    Values(fn(&[Value]) -> Value, Returns),
}

/// A function.
pub(crate) struct Call {
    pub(super) name: &'static str,
    /// For all bodies but [`Body::Values`], the parameters in order.
    pub(super) params: &'static [Param],
    pub(super) body: Body,
}

impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The function of that name, if it works on columns.
pub(super) fn of(name: &str) -> Option<&'static Call> {
    use std::collections::HashMap;
    use std::sync::LazyLock;
    static ALL: LazyLock<HashMap<&'static str, Call>> =
        LazyLock::new(|| on_text().into_iter().chain(with_values()).map(|call| (call.name, call)).collect());
    ALL.get(name)
}

fn on_text() -> Vec<Call> {
    const ONE: &[Param] = &[Param::Text];
    const TWO: &[Param] = &[Param::Text, Param::Text];
    const THREE: &[Param] = &[Param::Text, Param::Text, Param::Text];
    let call = |name, params, body| Call { name, params, body };
    vec![
        call("endswith", TWO, Body::Boolean(|args| Some(args.texts[0].ends_with(args.texts[1])))),
        call("indexof", TWO, Body::Whole(|args| Some(string::index_of(args.texts[0], args.texts[1])))),
        call("length", ONE, Body::Whole(|args| Some(args.texts[0].chars().count() as i128))),
        call("lower", ONE, Body::Text(|args, out| lower(args.texts[0], out))),
        call("ltrim", ONE, Body::Part(|args| Some(string::ltrim(args.texts[0])))),
        call("numbytes", ONE, Body::Whole(|args| Some(args.texts[0].len() as i128))),
        call("regexp_matches", TWO, Body::Boolean(|args| regexp::is_match(args.texts[0], args.texts[1]))),
        call("regexp_substr", TWO, Body::Part(|args| regexp::first_match(args.texts[0], args.texts[1]))),
        call(
            "replace",
            THREE,
            Body::Text(|args, out| {
                append(out, string::replaced(args.texts[0], args.texts[1], args.texts[2])?.as_bytes());
                Some(())
            }),
        ),
        call("rtrim", ONE, Body::Part(|args| Some(string::rtrim(args.texts[0])))),
        call("startswith", TWO, Body::Boolean(|args| Some(args.texts[0].starts_with(args.texts[1])))),
        call(
            "substring",
            &[Param::Text, Param::Position, Param::Position],
            Body::Part(|args| Some(string::part(args.texts[0], args.positions[1], args.positions[2]))),
        ),
        call("trim", ONE, Body::Part(|args| Some(args.texts[0].trim()))),
        call("upper", ONE, Body::Text(|args, out| upper(args.texts[0], out))),
    ]
}

fn with_values() -> impl Iterator<Item = Call> {
    const NUMBERS: &[&str] = &[
        "abs",
        "acos",
        "asin",
        "atan",
        "atan2",
        "bitand",
        "bitnot",
        "bitor",
        "bitxor",
        "ceil",
        "cos",
        "cosh",
        "exp",
        "floor",
        "ln",
        "log",
        "mod",
        "power",
        "remainder",
        "round",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
        "time_to_epoch",
        "trunc",
    ];
    const TEXTS: &[&str] = &[
        "chr",
        "lpad",
        "md2",
        "md5",
        "parse_time",
        "regexp_replace",
        "rpad",
        "sha1",
        "sha224",
        "sha256",
        "sha384",
        "sha512",
    ];
    let numbers = NUMBERS.iter().map(|name| (*name, Returns::Number));
    let texts = TEXTS.iter().map(|name| (*name, Returns::Text));
    numbers.chain(texts).filter_map(|(name, returns)| {
        let function = functions::lookup(name).filter(|function| function.arity.1 <= MAX_ARGS)?;
        Some(Call { name, params: &[], body: Body::Values(function.values()?, returns) })
    })
}

fn lower(text: &str, out: &mut Vec<u8>) -> Option<()> {
    cased(text, out, <[u8]>::make_ascii_lowercase, str::to_lowercase)
}

fn upper(text: &str, out: &mut Vec<u8>) -> Option<()> {
    cased(text, out, <[u8]>::make_ascii_uppercase, str::to_uppercase)
}

/// Appends a text in another case: of ASCII in place, of anything else by Unicode's rules.
#[inline(always)]
fn cased(text: &str, out: &mut Vec<u8>, ascii: fn(&mut [u8]), any: fn(&str) -> String) -> Option<()> {
    if text.is_ascii() {
        let start = out.len();
        append(out, text.as_bytes());
        ascii(out.get_mut(start..)?);
    } else {
        out.extend_from_slice(any(text).as_bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_there_and_takes_what_the_language_says() {
        for call in on_text() {
            let function = functions::lookup(call.name).unwrap();
            assert_eq!(function.arity.1, call.params.len(), "{}", call.name);
        }
        assert_eq!(with_values().count(), 28 + 12);
    }
}
