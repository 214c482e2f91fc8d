//! Many rules of one program give what each gives alone, and what the reference gives.

use std::sync::Arc;

use proptest::prelude::*;

use super::tests::generated::{dialects, expression, payloads};
use super::tests::{check, numbered, rule};
use super::{Body, Program, RuleRows};
use crate::ast::Dialect;
use crate::message::Message;
use crate::rule::Rule;

/// What is compared with a value: sources of every kind.
fn subject() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c", "o.x", "flag", "o", "topic(2)", "topic()", "clientid()"])
}

/// Values of every kind, equal numbers in several spellings among them.
fn value() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "1",
        "1.0",
        "10",
        "1e1",
        "-0",
        "0.0",
        "0.50",
        "5e-1",
        "7",
        "12345678901234567890123",
        "'ok'",
        "'idle'",
        "'12'",
        "''",
        "'a\u{e9}'",
        "'1'",
        "'farm/0/\u{e9}/x'",
        "'0'",
        "'client'",
        "'n/a'",
        "TRUE",
        "FALSE",
        "NULL",
    ])
}

/// A condition that an index can stand for, and what looks like one.
fn equality() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (subject(), value()).prop_map(|(of, value)| format!("{of} = {value}")),
        1 => (subject(), value()).prop_map(|(of, value)| format!("{value} = {of}")),
        2 => (subject(), value(), value()).prop_map(|(of, a, b)| format!("({of} = {a} OR {of} = {b})")),
        1 => (subject(), value(), value()).prop_map(|(of, a, b)| format!("{of} IN [{a}, {b}]")),
        1 => (subject(), value(), subject(), value()).prop_map(|(a, x, b, y)| format!("({a} = {x} OR {b} = {y})")),
        1 => (subject(), value()).prop_map(|(of, value)| format!("{of} <> {value}")),
    ]
}

/// One of many rules: a few forms, so that rules have things in common.
fn statement() -> impl Strategy<Value = String> {
    let items = prop_oneof![
        3 => Just("*".to_owned()),
        2 => Just("*, topic(2) AS a, o.x AS x".to_owned()),
        3 => Just("a + 1 AS n, topic(2) AS t, c".to_owned()),
        2 => (0..3u8).prop_map(|k| format!("a * {k} AS n, c, o.x AS x")),
        1 => Just("newuuid() AS id, a".to_owned()),
        1 => Just("* AS m, a + 1 AS n".to_owned()),
        1 => expression(Dialect::Aws2016).prop_map(|one| format!("{one} AS r, topic(2) AS t")),
    ];
    let rest = prop_oneof![
        3 => Just(String::new()),
        2 => (0..60u8).prop_map(|k| format!(" AND b > {k}")),
        1 => expression(Dialect::Aws2016).prop_map(|one| format!(" AND {one}")),
    ];
    let condition = prop_oneof![
        5 => (equality(), rest).prop_map(|(first, rest)| format!("{first}{rest}")),
        1 => (0..60u8).prop_map(|k| format!("b > {k}")),
        1 => expression(Dialect::Aws2016),
    ];
    (items, condition).prop_map(|(items, condition)| format!("SELECT {items} FROM 'farm/#' WHERE {condition}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn many_rules_give_what_the_reference_gives(
        statements in prop::collection::vec((statement(), dialects(), any::<bool>(), any::<bool>()), 1..40),
        payloads in payloads(),
        batch in 1..70usize,
    ) {
        let rules: Vec<Arc<Rule>> = statements
            .iter()
            // What is no statement in a dialect is none of our business here.
            .filter(|(sql, dialect, ..)| crate::parse::parse_statement(sql, *dialect).is_ok())
            .map(|(sql, dialect, sink, topic)| {
                let templates: &[&str] = if *topic { &["t/${topic(2)}/${c}", "${a}", "fixed"] } else { &[] };
                // `*` is only in columns where columns are wanted.
                rule(sql, *dialect, templates, *sink || sql.contains('*'))
            })
            .collect();
        check(&rules, &payloads.0, batch);
    }
}

fn evaluate(rules: &[Arc<Rule>], payloads: &[Vec<u8>]) -> (Program, Vec<RuleRows>) {
    let messages: Vec<_> = payloads.iter().map(|payload| Message::new("farm/1", payload, 0)).collect();
    let (mut program, mut out) = (Program::new(rules), Vec::new());
    program.evaluate(&messages, &mut out);
    (program, out)
}

/// That they agree says little if the index is never used.
#[test]
fn rules_that_test_one_member_are_in_the_index() {
    let statement = |n: usize| format!("SELECT a, {n} AS n FROM 'farm/#' WHERE type = 'x{n}' AND a > 1.5");
    let rules: Vec<_> = (0..100).map(|n| rule(&statement(n), Dialect::Aws2016, &[], true)).collect();
    let payloads = numbered(300, |n| format!("{{\"type\":\"x{}\",\"a\":{}}}", n % 150, n % 7));
    check(&rules, &payloads, 90);
    let (program, out) = evaluate(&rules, &payloads);
    assert!((0..100).all(|rule| program.index.condition(rule) == Some(0)));
    assert!(program.everywhere.is_empty());
    let rows: usize = out.iter().map(|rows| rows.rows.len()).sum();
    let expected = (0..300).filter(|n| n % 150 < 100 && n % 7 > 1).count();
    assert_eq!(rows, expected);
}

/// The condition that tells most rules apart is the one to index by.
#[test]
fn of_two_equalities_the_one_with_more_values_is_indexed() {
    let rules: Vec<_> = (0..20)
        .map(|n| rule(&format!("SELECT a FROM 'x' WHERE site = 's{}' AND id = {n}", n % 2), Dialect::Native, &[], true))
        .collect();
    let program = Program::new(&rules);
    assert!((0..20).all(|rule| program.index.condition(rule) == Some(1)));
}

/// That they agree says little if nothing is shared.
#[test]
fn expressions_that_rules_have_in_common_are_evaluated_once() {
    let rules: Vec<_> = (0..10)
        .map(|n| {
            let sql = format!("SELECT topic(2) AS device, a * 2 AS b, a + {n} AS c FROM 'farm/#' WHERE a > {}", n / 5);
            rule(&sql, Dialect::Aws2016, &["t/${topic(2)}"], true)
        })
        .collect();
    let payloads = numbered(50, |n| format!("{{\"a\":{n}}}"));
    check(&rules, &payloads, 20);
    let (program, out) = evaluate(&rules, &payloads);
    assert_eq!(program.outputs.shared(), 2);
    let column = |rule: usize| match &out[rule].rows.columns()[1].1.data {
        crate::column::ColumnData::Number { values, .. } => values.values().as_ptr(),
        other => panic!("{other:?}"),
    };
    // All rows of the rules 0 to 4 pass, those of the others but for two: these have columns of their own.
    assert_eq!(column(0), column(4));
    assert_ne!(column(0), column(5));
}

#[test]
fn a_rule_without_rows_says_nothing() {
    let rules: Vec<_> =
        (0..9).map(|n| rule(&format!("SELECT * FROM 'x' WHERE a = {n}"), Dialect::Native, &[], true)).collect();
    let (_, out) = evaluate(&rules, &[b"{\"a\":3}".to_vec(), b"{\"a\":100}".to_vec()]);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].rule, 3);
}

#[test]
fn the_bytes_of_a_payload_that_is_no_object_stay_beside_the_members() {
    let rules = [rule("SELECT *, topic(2) AS device FROM 'x'", Dialect::Native, &[], true)];
    let payloads = [&b"\xff\x00raw"[..], b"{\"a\":1}", b"[1, 2]", b""].map(<[u8]>::to_vec);
    check(&rules, &payloads, 4);
    let (_, out) = evaluate(&rules, &payloads);
    let rows = &out.iter().find(|rows| !rows.rows.is_empty()).unwrap().rows;
    assert!(matches!(rows.body, Body::Members(_)));
    let raw: Vec<_> = (0..4).map(|row| rows.raw(row)).collect();
    assert_eq!(raw, [Some(&b"\xff\x00raw"[..]), None, Some(b"[1, 2]"), None]);
    assert_eq!(&*rows.json(0), br#"{"device":"1"}"#);
}
