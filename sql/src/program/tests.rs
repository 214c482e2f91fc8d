//! Rules on columns agree with the reference, row by row and digit by digit, whatever the payloads.

use std::sync::Arc;

pub(super) mod generated;

use super::{Body, Program, RuleRows};
use crate::ast::{Dialect, Span, Template, Window};
use crate::column::ColumnData;
use crate::decimal::Decimal;
use crate::json;
use crate::message::Message;
use crate::parse::{parse_expr, parse_statement, parse_template};
use crate::rule::{Action, Aggregate, AggregateFunction, Rule, Target, Windowed};
use crate::value::Value;

pub(super) fn rule(sql: &str, dialect: Dialect, templates: &[&str], into_sink: bool) -> Arc<Rule> {
    let select = parse_statement(sql, dialect).unwrap_or_else(|mistakes| panic!("{sql}: {mistakes:?}"));
    let topic = |text: &&str| -> Template { parse_template(text, dialect).unwrap() };
    let target = |target| Action { kind: "into".into(), target, span: Span::default() };
    let mut actions: Vec<Action> = templates
        .iter()
        .map(|t| target(Target::Topic { topic: topic(t), qos: 0, retain: false, headers: Box::default() }))
        .collect();
    if into_sink {
        actions.push(target(Target::Named("lake".into())));
    }
    Arc::new(Rule {
        name: "rule".into(),
        dialect,
        text: sql.into(),
        enabled: true,
        select,
        filter: None,
        windowed: None,
        actions,
        error_action: None,
    })
}

/// A row as something to compare: its message, its members with every digit, its JSON by value, its templates.
type Seen = (u32, Vec<String>, String, Vec<Option<String>>);

fn seen(all: &[RuleRows]) -> Vec<Seen> {
    let mut rows = Vec::new();
    for part in all {
        for (row, message) in part.rows.messages.iter().enumerate() {
            let mut members: Vec<String> = match &part.rows.body {
                Body::Members(columns) => columns
                    .iter()
                    .filter(|(_, column)| !column.is_undefined(row))
                    .map(|(name, column)| format!("{name}={:?}", column.value(row, part.rows.dialect())))
                    .collect(),
                Body::Raw => vec![format!("{:?}", part.rows.raw(row))],
            };
            members.sort();
            let text = part.rows.json(row);
            let text = match json::parse(&text, Dialect::Aws2016) {
                Ok(crate::value::Value::Object(object)) => {
                    let mut members: Vec<String> = object.iter().map(|member| format!("{member:?}")).collect();
                    members.sort();
                    members.join(",")
                }
                other => format!("{other:?}"),
            };
            if let (Body::Members(_), Some(raw)) = (&part.rows.body, part.rows.raw(row)) {
                members.push(format!("{raw:?}"));
            }
            let templates = part.rows.templates.iter().map(|texts| texts.get(row).map(str::to_owned)).collect();
            rows.push((*message, members, text, templates));
        }
    }
    rows.sort();
    rows
}

/// How often each path of a rule was Undefined.
fn undefined(program: &Program, rule: usize) -> Vec<(Arc<str>, u64)> {
    let count = |place: &usize| (Arc::clone(&program.paths()[*place]), program.undefined()[*place]);
    let mut counts: Vec<_> = program.paths_of(rule).iter().map(count).collect();
    counts.sort();
    counts
}

pub(super) fn check(rules: &[Arc<Rule>], payloads: &[Vec<u8>], batch: usize) {
    let topics: Vec<String> = (0..3).map(|n| format!("farm/{n}/é/x")).collect();
    let messages: Vec<Message<'_>> = payloads
        .iter()
        .enumerate()
        .map(|(n, payload)| Message {
            client_id: (n % 5 != 0).then_some("client"),
            epoch: 7,
            offset: n as u64,
            ..Message::new(&topics[n % 3], payload, 1_700_000_000_000 + n as i64)
        })
        .collect();
    let (mut columns, mut reference) = (Program::new(rules), Program::by_reference(rules));
    for messages in messages.chunks(batch) {
        let (mut got, mut expected) = (Vec::new(), Vec::new());
        columns.evaluate(messages, &mut got);
        reference.evaluate(messages, &mut expected);
        for (index, rule) in rules.iter().enumerate() {
            let of = |all: &mut Vec<RuleRows>| all.extract_if(.., |rows| rows.rule == index).collect::<Vec<_>>();
            let (got, expected) = (of(&mut got), of(&mut expected));
            assert_eq!(seen(&got), seen(&expected), "{}", rule.text);
            for part in &got {
                assert!(part.rows.messages.is_sorted(), "{}", rule.text);
            }
            let rejected = |all: &[RuleRows]| -> Vec<u32> {
                let mut rejected: Vec<u32> = all.iter().flat_map(|r| r.rejects.iter().map(|r| r.message)).collect();
                rejected.sort_unstable();
                rejected
            };
            assert_eq!(rejected(&got), rejected(&expected), "{}", rule.text);
            assert_eq!(undefined(&columns, index), undefined(&reference, index), "{}", rule.text);
        }
    }
}

pub(super) fn numbered(count: usize, payload: impl Fn(usize) -> String) -> Vec<Vec<u8>> {
    (0..count).map(|n| payload(n).into_bytes()).collect()
}

#[test]
fn telemetry_runs_on_shapes_and_plans() {
    let sql = "SELECT temperature * 1.8 + 32 AS f, humidity, topic(3) AS device FROM 'a/#' WHERE temperature > 50";
    let payloads =
        numbered(1000, |n| format!("{{\"temperature\":{}.{},\"humidity\":{},\"status\":\"ok\"}}", n % 100, n % 10, n));
    let rules = [rule(sql, Dialect::Aws2016, &[], true)];
    check(&rules, &payloads, 300);
    // That they agree says little if nothing ran on columns.
    let messages: Vec<_> = payloads.iter().map(|payload| Message::new("a/b/device", payload, 0)).collect();
    let (mut program, mut out) = (Program::new(&rules), Vec::new());
    program.evaluate(&messages, &mut out);
    assert!(program.shredder.shapes() > 0);
    let kinds: Vec<&ColumnData> = out[0].rows.columns().iter().map(|(_, column)| &column.data).collect();
    assert!(
        matches!(kinds[..], [ColumnData::Number { .. }, ColumnData::Number { .. }, ColumnData::String(_)]),
        "{kinds:?}"
    );
}

/// How a comparison and logic of each kind come out when they are lowered: as booleans, not row by row.
#[test]
fn logic_is_lowered_in_every_dialect() {
    let payloads = numbered(50, |n| match n % 3 {
        0 => format!("{{\"a\":{n},\"c\":\"ok\",\"flag\":true}}"),
        1 => format!("{{\"a\":{n}.5,\"c\":\"idle\"}}"),
        _ => "{\"c\":\"x\",\"flag\":false}".to_owned(),
    });
    for dialect in [Dialect::Aws2015, Dialect::Aws2016, Dialect::Native] {
        for test in ["a > 10 AND c = 'ok'", "a > 10 OR flag", "NOT (a <> 3.5)", "isUndefined(a) OR a < 2 * 4.5"] {
            let rules = [rule(&format!("SELECT {test} AS r FROM 'x'"), dialect, &[], true)];
            check(&rules, &payloads, 20);
            let messages: Vec<_> = payloads.iter().map(|payload| Message::new("x", payload, 0)).collect();
            let mut out = Vec::new();
            Program::new(&rules).evaluate(&messages, &mut out);
            assert!(matches!(out[0].rows.columns()[0].1.data, ColumnData::Boolean(_)), "{test} in {dialect:?}");
        }
    }
}

#[test]
fn the_text_of_rows_keeps_the_payload_as_it_was_spelt() {
    let rules = [
        rule("SELECT *, a + 1 AS b FROM 'x'", Dialect::Aws2016, &[], true),
        rule("SELECT * FROM 'x'", Dialect::Aws2016, &[], true),
        rule("SELECT a, s FROM 'x'", Dialect::Aws2016, &[], true),
    ];
    let payload = br#"{ "a" : 1.50, "b":{"x": [1E2]}, "s":"\u0041\n", "a":2.50 }"#;
    let mut out = Vec::new();
    Program::new(&rules).evaluate(&[Message::new("x", payload, 0)], &mut out);
    let text = |rule: usize| String::from_utf8(out[rule].rows.json(0).into_owned()).unwrap();
    assert_eq!(text(0), r#"{"s":"\u0041\n","a":2.50,"b":3.50}"#);
    assert_eq!(text(1).as_bytes(), payload);
    assert_eq!(text(2), r#"{"a":2.50,"s":"A\n"}"#);
}

#[test]
fn what_a_row_is_does_not_depend_on_the_rows_beside_it() {
    let rules = [rule("SELECT a, a * 1.5 AS p FROM 'x'", Dialect::Aws2016, &[], true)];
    let payloads = [r#"{"a":1}"#, r#"{"a":1.25}"#, r#"{"a":2.0}"#, r#"{"a":0.123456789012}"#];
    let json = |payloads: &[&str]| {
        let messages: Vec<_> = payloads.iter().map(|p| Message::new("x", p.as_bytes(), 0)).collect();
        let mut out = Vec::new();
        Program::new(&rules).evaluate(&messages, &mut out);
        (0..payloads.len())
            .map(|row| String::from_utf8(out[0].rows.json(row).into_owned()).unwrap())
            .collect::<Vec<_>>()
    };
    let together = json(&payloads);
    let alone: Vec<_> = payloads.iter().flat_map(|payload| json(&[payload])).collect();
    assert_eq!(together, alone);
    assert_eq!(together[..2], [r#"{"a":1,"p":1.5}"#, r#"{"a":1.25,"p":1.875}"#]);
}

#[test]
fn a_payload_that_is_not_json_is_told_once_and_kept() {
    let rules =
        [rule("SELECT * FROM 'x'", Dialect::Native, &[], true), rule("SELECT a FROM 'x'", Dialect::Native, &[], true)];
    let messages = [Message::new("x", b"{\"a\":1 \"b\":2}", 0), Message::new("x", b"{\"a\":1}", 0)];
    let mut out = Vec::new();
    Program::new(&rules).evaluate(&messages, &mut out);
    let rejects: Vec<_> = out.iter().flat_map(|rows| &rows.rejects).collect();
    assert_eq!(rejects.len(), 1);
    assert_eq!(rejects[0].reason, "payload is not JSON: expected ',' or '}' at byte 7");
    let raw: Vec<_> = out.iter().filter(|rows| matches!(rows.rows.body, Body::Raw)).collect();
    assert_eq!(raw.len(), 1);
    assert_eq!(raw[0].rows.json(0), messages[0].payload);
}

#[test]
fn windowed_rules_give_keys_and_arguments() {
    let expr = |text: &str| parse_expr(text, Dialect::Native).unwrap();
    let mut windowed = (*rule("SELECT a FROM 'x' WHERE b > 20", Dialect::Native, &[], true)).clone();
    windowed.windowed = Some(Windowed {
        window: Window::Tumble { width_us: 1 },
        keys: vec![expr("topic(2)"), expr("c"), expr("missing")],
        aggregates: vec![
            Aggregate { function: AggregateFunction::Sum, argument: Some(expr("a * 2")) },
            Aggregate { function: AggregateFunction::Count, argument: None },
        ],
        items: Vec::new(),
        having: None,
    });
    let rules = [Arc::new(windowed)];
    let payloads = numbered(60, |n| match n % 4 {
        0 => format!("{{\"a\":\"{n}\",\"b\":{n}}}"),
        _ => format!("{{\"a\":{n}.25,\"b\":{n},\"c\":\"k{}\"}}", n % 3),
    });
    check(&rules, &payloads, 25);
    let message = Message::new("x/y", br#"{"a":1.5,"b":21,"c":"k"}"#, 0);
    let mut out = Vec::new();
    Program::new(&rules).evaluate(&[message], &mut out);
    let values = out[0].rows.values(0);
    let expected = ["y".into(), "k".into(), Value::Undefined, Value::decimal(Decimal::new(30, 1)), Value::Bool(true)];
    assert_eq!(values, expected);
}

#[test]
fn a_payload_with_too_many_members_is_kept_as_a_whole_and_told() {
    let members: Vec<String> = (0..17_000).map(|n| format!("\"m{n}\":{n}")).collect();
    let payload = format!("{{{},\"a\":1}}", members.join(","));
    let rules = [rule("SELECT * FROM 'x' WHERE a = 1", Dialect::Native, &[], true)];
    let mut out = Vec::new();
    Program::new(&rules).evaluate(&[Message::new("x", payload.as_bytes(), 0)], &mut out);
    assert!(out.iter().any(|all| all.rejects.iter().any(|one| one.reason.starts_with("the payload has more than"))));
    let rows = &out.iter().find(|all| !all.rows.is_empty()).unwrap().rows;
    assert!(matches!(rows.body, Body::Raw));
    assert!(*rows.json(0) == *payload.as_bytes());
}

#[test]
fn many_members_and_many_kinds_are_survived() {
    let rules = [rule("SELECT *, a AS x FROM 'x' WHERE isUndefined(nothing)", Dialect::Aws2016, &[], true)];
    let payloads = numbered(300, |n| {
        let members: Vec<String> = (0..n % 40).map(|m| format!("\"m{}\":{}", (n * 7 + m) % 500, m)).collect();
        let a = ["1", "\"x\"", "null", "[1]", "{}", "true", "1e30", "2.5"][n % 8];
        format!("{{\"a\":{a}{}{}}}", if members.is_empty() { "" } else { "," }, members.join(","))
    });
    check(&rules, &payloads, 128);
}
