//! What is done with an input, and what must hold. An `Err` is a disagreement.

use std::sync::Arc;
use std::time::Duration;

use hedgerow_sql::analyze::read;
use hedgerow_sql::ast::Dialect;
use hedgerow_sql::eval::Scope;
use hedgerow_sql::functions;
use hedgerow_sql::json;
use hedgerow_sql::message::Message;
use hedgerow_sql::program::{Program, RuleRows};
use hedgerow_sql::rule::{Rule, Statement};
use hedgerow_sql::scan::{Tape, scan};
use hedgerow_sql::value::{MAX_TEXT, Value};

use super::input::{Input, Target};
use super::meter::Meter;
use super::reading::everything;

/// Rows are no longer than this, unless they pass the payload on.
const MAX_ROW: usize = 8 << 20;

pub fn run(input: &Input) -> Result<(), String> {
    match input.target {
        Target::Reading => {
            everything(&input.text(0));
            Ok(())
        }
        Target::Rule(dialect) => rule(input, dialect),
        Target::Payloads => payloads(input),
        Target::Expressions => {
            let [text, pattern, replacement] = [0, 1, 2].map(|index| Value::text(input.text(index)));
            call("regexp_matches", &[text.clone(), pattern.clone()])?;
            call("regexp_substr", &[text.clone(), pattern.clone()])?;
            call("regexp_replace", &[text, pattern, replacement])
        }
        Target::Times => {
            let [pattern, time, zone] = [0, 1, 2].map(|index| Value::text(input.text(index)));
            call("parse_time", &[pattern.clone(), time.clone(), zone])?;
            call("time_to_epoch", &[time, pattern])
        }
        Target::Itself => itself(input),
    }
}

/// Calls a function twice: the result is bounded, and the same.
fn call(name: &str, args: &[Value]) -> Result<(), String> {
    let function = functions::lookup(name).expect("the function exists");
    let message = Message::new("a/b", b"{}", 0);
    let value = || function.call(args, &Scope::new(&message, Dialect::Aws2016));
    let (first, second) = (value(), value());
    if first != second {
        return Err(format!("{name} gives {first:?}, then {second:?}"));
    }
    match &first {
        Value::String(text) if text.len() > MAX_TEXT => Err(format!("{name} gives {} bytes", text.len())),
        _ => Ok(()),
    }
}

/// The scanner and the reader of values accept the same payloads, also when shapes are learned from them.
fn payloads(input: &Input) -> Result<(), String> {
    let rules = rules("SELECT *, a.b AS x FROM 'a/b'", "", Dialect::Aws2016);
    let mut tape = Tape::default();
    for payload in &input.texts {
        let scanned = scan(payload, &mut tape).is_ok();
        // A value, not a raw one: that would not look at surrogates.
        let known = serde_json::from_slice::<serde_json::Value>(payload).is_ok();
        let ours = json::parse(payload, Dialect::Aws2016);
        // They part where we have bounds that serde_json does not have, and it has others.
        let bounded = matches!(ours, Err(json::JsonError::Depth { .. } | json::JsonError::Range { .. }));
        if !bounded && scanned != ours.is_ok() {
            return Err(format!("the scanner says {scanned}, the reader of values {ours:?}"));
        }
        if !bounded && known && !scanned {
            return Err("serde_json takes it".to_owned());
        }
    }
    agree(&rules, &input.texts)
}

/// Both evaluation paths give the same rows for the payload, before and after its shape is learned.
fn rule(input: &Input, dialect: Dialect) -> Result<(), String> {
    let rules = rules(&input.text(0), &input.text(1), dialect);
    let payload = input.texts.get(2).cloned().unwrap_or_default();
    // As often as it takes to learn a shape, unless that would only take long.
    let copies = if payload.len() > 64 << 10 { 1 } else { 5 };
    agree(&rules, &vec![payload; copies])
}

/// The rule as it would be deployed; none if it would be refused.
fn rules(sql: &str, template: &str, dialect: Dialect) -> Vec<Arc<Rule>> {
    let reading = match dialect {
        Dialect::Native => {
            let template = template.replace('\'', "''");
            read("x.sql", &format!("CREATE RULE x AS {sql} INTO lake, TOPIC 'x/{template}'"))
        }
        _ => {
            let version = if dialect == Dialect::Aws2015 { "2015-10-08" } else { "2016-03-23" };
            let document = serde_json::json!({"sql": sql, "awsIotSqlVersion": version, "actions": [
                {"firehose": {"deliveryStreamName": "lake"}}, {"republish": {"topic": format!("x/{template}")}}
            ]});
            read("x.json", &document.to_string())
        }
    };
    if !reading.is_sound() {
        return Vec::new();
    }
    let rule = |(statement, _)| match statement {
        Statement::Rule(rule) => Some(Arc::new(rule)),
        _ => None,
    };
    reading.statements.into_iter().filter_map(rule).collect()
}

fn agree(rules: &[Arc<Rule>], payloads: &[Vec<u8>]) -> Result<(), String> {
    let message = |(offset, payload)| Message {
        client_id: Some("client"),
        epoch: 1,
        offset: offset as u64,
        ..Message::new("a/b/c", payload, 1_600_000_000_000)
    };
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    let messages: Vec<Message<'_>> = payloads.iter().copied().enumerate().map(message).collect();
    let (mut rows, mut expected) = (Vec::new(), Vec::new());
    Program::new(rules).evaluate(&messages, &mut rows);
    Program::by_reference(rules).evaluate(&messages, &mut expected);
    // The paths do not do the same work, so that one may run into a limit that the other does not reach.
    let limited = |all: &[RuleRows]| {
        all.iter().flat_map(|rows| &rows.rejects).any(|reject| !reject.reason.starts_with("payload is not JSON"))
    };
    if limited(&rows) || limited(&expected) {
        return Ok(());
    }
    for number in 0..messages.len() as u32 {
        let (row, expected) = (seen(&rows, number), seen(&expected, number));
        if row != expected {
            return Err(format!("message {number}: columns give {row:?}, the reference {expected:?}"));
        }
    }
    Ok(())
}

/// A row: its JSON as a value, or its bytes; and its templates.
type Seen = (Result<String, Vec<u8>>, Vec<Option<String>>);

/// The rows of a message.
fn seen(all: &[RuleRows], message: u32) -> Vec<Seen> {
    let mut seen = Vec::new();
    for part in all {
        for row in (0..part.rows.messages.len()).filter(|row| part.rows.messages[*row] == message) {
            let text = part.rows.json(row);
            assert!(text.len() <= MAX_ROW + (16 << 20), "a row of {} bytes", text.len());
            let value = json::parse(&text, Dialect::Aws2015).map(|value| sorted(&value)).map_err(|_| text.into_owned());
            let templates = part.rows.templates.iter().map(|texts| texts.get(row).map(str::to_owned)).collect();
            seen.push((value, templates));
        }
    }
    seen
}

/// A value with its members in one order.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut members: Vec<String> =
                object.iter().map(|(name, member)| format!("{name:?}:{}", sorted(member))).collect();
            members.sort();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(elements) => {
            format!("[{}]", elements.iter().map(sorted).collect::<Vec<_>>().join(","))
        }
        // By value: a whole number may be spelt 2.0 or 2.
        Value::Int(number) => number.to_string(),
        Value::Decimal(number) => number.strip_zeros().to_string(),
        other => format!("{other:?}"),
    }
}

/// Misbehaves when told to, to show that it is noticed.
fn itself(input: &Input) -> Result<(), String> {
    match input.texts.concat() {
        word if holds(&word, "panic") => panic!("told to"),
        word if holds(&word, "disagree") => Err("told to".to_owned()),
        word if holds(&word, "last") => {
            let meter = Meter::start();
            let mut sum = 0_u64;
            // Looked at now and then only, so that it is CPU time that passes.
            while meter.cpu_time() < Duration::from_millis(60) {
                sum = (0..100_000).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
            }
            Ok(())
        }
        word if holds(&word, "devour") => {
            let bytes = vec![1_u8; 64 << 20];
            assert_eq!(std::hint::black_box(&bytes)[17], 1);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn holds(bytes: &[u8], word: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(word)
}
