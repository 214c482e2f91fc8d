//! Statements made of every form and function, over payloads of every kind: no panic, the same result twice, and
//! output that is JSON.

use proptest::prelude::*;

use super::{NoExternals, Scope, run};
use crate::ast::Dialect;
use crate::functions;
use crate::json;
use crate::message::Message;
use crate::parse::parse_statement;

const ATOMS: &[&str] = &[
    "a",
    "b",
    "o",
    "o.k",
    "l",
    "l[0]",
    "missing",
    "1",
    "0",
    "2.5",
    "1E30",
    "-1",
    "9999999999999999999999999999999999",
    "'x'",
    "'12'",
    "'-1.5E-3'",
    "''",
    "'true'",
    "true",
    "false",
    "NULL",
    "[1, 'a', NULL]",
    "{'k': 1, 'm': [a]}",
    "'yyyy-MM-dd'",
    "'base64'",
    "'(a+)+$'",
    "'$1'",
    "'UTC'",
    "@v",
    "(SELECT VALUE k FROM l)",
    "(SELECT * FROM o)",
    "'\u{20ac}\u{1f600}'",
];
const OPERATORS: &[&str] = &["+", "-", "*", "/", "%", "=", "<>", "<", ">=", "AND", "OR", "IN"];
const NATIVE: &[&str] = &["||", "IS DISTINCT FROM", "LIKE", "NOT LIKE"];
const PAYLOADS: &[&str] = &[
    "",
    "{}",
    "[]",
    "80",
    "not json",
    "[1,2,{\"k\":3}]",
    "{\"a\":1,\"b\":\"x\",\"o\":{\"k\":[1,2]},\"l\":[{\"k\":1},{\"k\":null},3]}",
    "{\"a\":1e999,\"b\":-0.000001,\"o\":null,\"l\":\"text\"}",
    "{\"a\":\"12\",\"b\":\"true\",\"o\":{},\"l\":[]}",
];

fn expression(native: bool) -> impl Strategy<Value = String> {
    let operators: Vec<&str> = if native { [OPERATORS, NATIVE].concat() } else { OPERATORS.to_vec() };
    let names: Vec<&str> = functions::all().map(|function| function.name).collect();
    proptest::sample::select(ATOMS).prop_map(str::to_owned).prop_recursive(4, 24, 3, move |inner| {
        let args = prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            (inner.clone(), prop::sample::select(operators.clone()), inner.clone())
                .prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
            (prop::sample::select(names.clone()), args).prop_map(|(name, args)| format!("{name}({})", args.join(", "))),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("CASE {a} WHEN {b} THEN {c} ELSE {a} END")),
            (inner.clone(), prop::sample::select(&["Int", "String", "Double"][..]))
                .prop_map(|(a, to)| format!("CAST({a} AS {to})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(SELECT VALUE {a} FROM l AS e WHERE {b})")),
            inner.clone().prop_map(|a| format!("NOT ({a})")),
            inner.prop_map(|a| format!("-({a})")),
        ]
    })
}

fn check(expr: &str, payload: &str, dialect: Dialect) -> Result<(), TestCaseError> {
    let sql = format!("SET @v = a SELECT {expr} AS r, b AS o.q FROM 'a/b'");
    let Ok(select) = parse_statement(&sql, dialect) else { return Ok(()) };
    let message = Message::new("a/b", payload.as_bytes(), 1_600_000_000_000);
    let mut bytes = Vec::new();
    for _ in 0..2 {
        let mut scope = Scope::new(&message, dialect).with_externals(&NoExternals);
        match run(&select, &mut scope) {
            Ok(Some(body)) => bytes.push(body.to_bytes(&message).ok()),
            Ok(None) => return Err(TestCaseError::fail("there is no WHERE")),
            Err(_) => bytes.push(None),
        }
    }
    prop_assert_eq!(&bytes[0], &bytes[1]);
    if let Some(bytes) = &bytes[0] {
        prop_assert!(json::parse(bytes, dialect).is_ok(), "{} gives {}", sql, String::from_utf8_lossy(bytes));
    }
    Ok(())
}

proptest! {
    #[test]
    fn aws_statements(expr in expression(false), payload in prop::sample::select(PAYLOADS), old in any::<bool>()) {
        check(&expr, payload, if old { Dialect::Aws2015 } else { Dialect::Aws2016 })?;
    }

    #[test]
    fn native_statements(expr in expression(true), payload in prop::sample::select(PAYLOADS)) {
        check(&expr, payload, Dialect::Native)?;
    }
}
