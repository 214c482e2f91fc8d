//! The functions of the rule language: name, how many arguments, since which version, whether the result depends on
//! more than the arguments, and the one implementation that every evaluation path uses.
//!
//! A function never fails: a wrong type or number of arguments is Undefined. What it makes is bounded
//! ([`crate::value::MAX_TEXT`]). It knows values and, when it must, the scope; it does not know plans or columns.

mod bits;
mod context;
mod external;
mod hash;
mod json;
mod math;
mod random;
pub(crate) mod regexp;
pub(crate) mod string;
mod time;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::ast::{Dialect, Expr};
use crate::eval::{Frame, Scope};
use crate::value::Value;

pub(crate) use json::get;

/// Which dialects have a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// All.
    Always,
    /// AWS documents of 2016-03-23 and native rules.
    V2016,
    /// Native rules only.
    Native,
}

/// What a result depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purity {
    /// The arguments (and the dialect) only.
    Pure,
    /// The message too, but the same for every call on it.
    Message,
    /// Each call on a message gives another result (reproducibly: it follows from the message's place in the log).
    PerCall,
    /// Another system.
    External,
}

/// An implementation.
#[derive(Clone, Copy)]
enum Body {
    /// Of argument values alone.
    Values(fn(&[Value]) -> Value),
    /// Of argument values and the scope.
    Scoped(fn(&[Value], &Scope<'_>) -> Value),
    /// Of the arguments' expressions: it decides what is evaluated.
    Lazy(LazyBody),
}

/// An implementation that evaluates its arguments itself.
pub(crate) type LazyBody = fn(&[Expr], &Frame<'_, '_>) -> Value;

/// A function.
pub struct Function {
    /// Its name in lower case.
    pub name: &'static str,
    /// The fewest and the most arguments; any other number makes it Undefined.
    pub arity: (usize, usize),
    /// Which dialects have it.
    pub since: Since,
    /// What the result depends on.
    pub purity: Purity,
    body: Body,
}

impl Function {
    const fn pure(name: &'static str, arity: (usize, usize), since: Since, body: fn(&[Value]) -> Value) -> Function {
        Function { name, arity, since, purity: Purity::Pure, body: Body::Values(body) }
    }

    const fn scoped(
        name: &'static str,
        arity: (usize, usize),
        since: Since,
        purity: Purity,
        body: fn(&[Value], &Scope<'_>) -> Value,
    ) -> Function {
        Function { name, arity, since, purity, body: Body::Scoped(body) }
    }

    const fn lazy_body(name: &'static str, arity: (usize, usize), since: Since, body: LazyBody) -> Function {
        Function { name, arity, since, purity: Purity::Pure, body: Body::Lazy(body) }
    }

    /// True if rules of this dialect may use it.
    pub fn is_in(&self, dialect: Dialect) -> bool {
        match self.since {
            Since::Always => true,
            Since::V2016 => dialect != Dialect::Aws2015,
            Since::Native => dialect == Dialect::Native,
        }
    }

    /// True if it takes so many arguments.
    pub fn takes(&self, args: usize) -> bool {
        (self.arity.0..=self.arity.1).contains(&args)
    }

    /// Its value for argument values. Functions that look at the arguments' expressions (see [`Function::is_lazy`])
    /// are Undefined here.
    pub fn call(&self, args: &[Value], scope: &Scope<'_>) -> Value {
        if !self.takes(args.len()) {
            return Value::Undefined;
        }
        match self.body {
            Body::Values(body) => body(args),
            Body::Scoped(body) => body(args, scope),
            Body::Lazy(_) => Value::Undefined,
        }
    }

    /// Its value for argument values alone, when it needs nothing else.
    pub fn values(&self) -> Option<fn(&[Value]) -> Value> {
        match self.body {
            Body::Values(body) => Some(body),
            _ => None,
        }
    }

    /// True if it must see its arguments unevaluated (`encode(*, …)`, `get_or_default`, `coalesce`).
    pub fn is_lazy(&self) -> bool {
        matches!(self.body, Body::Lazy(_))
    }

    pub(crate) fn lazy(&self) -> Option<LazyBody> {
        match self.body {
            Body::Lazy(body) => Some(body),
            _ => None,
        }
    }

    /// The argument that is compiled before it is used, where that is much work.
    pub(crate) fn pattern<'v>(&self, args: &'v [Value]) -> Option<&'v Value> {
        if self.name.starts_with("regexp_") { args.get(1) } else { None }
    }

    /// The work of a call, in the units of [`Scope`].
    pub(crate) fn cost(&self, args: &[Value]) -> u64 {
        match self.name {
            // These look at no more than they give back.
            "get" | "isnull" | "isundefined" | "nanvl" => 1 + args.first().map_or(0, Value::text_weight),
            "regexp_matches" | "regexp_replace" | "regexp_substr" => regexp::cost(args),
            // Slower than copying a text, md2 far slower.
            "md2" => 1 + 64 * args.first().map_or(0, Value::weight),
            "md5" | "sha1" | "sha224" | "sha256" | "sha384" | "sha512" => 1 + 8 * args.first().map_or(0, Value::weight),
            _ => 1 + args.iter().map(Value::weight).sum::<u64>(),
        }
    }
}

/// Any number of arguments from here on.
const ANY: usize = usize::MAX;

/// The function of that name, in lower case.
pub fn lookup(name: &str) -> Option<&'static Function> {
    static BY_NAME: LazyLock<HashMap<&'static str, &'static Function>> =
        LazyLock::new(|| all().map(|function| (function.name, function)).collect());
    BY_NAME.get(name).copied()
}

/// All functions.
pub fn all() -> impl Iterator<Item = &'static Function> {
    let rooms = [
        bits::FUNCTIONS,
        context::FUNCTIONS,
        external::FUNCTIONS,
        hash::FUNCTIONS,
        json::FUNCTIONS,
        math::FUNCTIONS,
        random::FUNCTIONS,
        regexp::FUNCTIONS,
        string::FUNCTIONS,
        time::FUNCTIONS,
    ];
    rooms.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    #[test]
    fn no_function_panics_on_any_value() {
        let texts =
            ["", "abc", "-5", "1e999", "base64", "yyyy", "$1", "(", "\u{1f600}", "9999999999999999999999999999999999"];
        let mut values: Vec<Value> = texts.into_iter().map(Value::from).collect();
        values.extend([
            Value::Undefined,
            Value::Null,
            Value::Bool(true),
            Value::Int(0),
            Value::Int(-1),
            Value::Int(10_i128.pow(34) - 1),
            Value::literal_number("-9.9e999").unwrap(),
            Value::literal_number("1e-999").unwrap(),
            Value::array(vec![Value::Null, Value::from("x")]),
            Value::object([("a".into(), Value::Int(1))].into_iter().collect()),
        ]);
        let message = Message::new("a/b", b"{}", 0);
        let scope = Scope::new(&message, Dialect::Native);
        for function in all() {
            for a in &values {
                function.call(std::slice::from_ref(a), &scope);
                for b in &values {
                    function.call(&[a.clone(), b.clone()], &scope);
                    function.call(&[a.clone(), b.clone(), a.clone()], &scope);
                    function.call(&[Value::from("yyyy-MM-dd G HH:mm:ss.SSS ZZ"), a.clone(), b.clone()], &scope);
                }
            }
            function.call(&[], &scope);
        }
    }

    #[test]
    fn names_are_unique_and_in_lower_case() {
        assert_eq!(all().count(), all().map(|function| function.name).collect::<std::collections::HashSet<_>>().len());
        assert!(all().all(|function| function.name == function.name.to_lowercase()));
    }
}
