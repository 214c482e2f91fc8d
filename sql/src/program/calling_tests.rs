//! Rules are evaluated as far as the answers go.

use super::*;
use crate::parse::parse_file;
use crate::rule::Statement;
use crate::value::Object;

fn rule(sql: &str) -> Arc<Rule> {
    match parse_file(&format!("CREATE RULE r AS {sql}")).unwrap().remove(0) {
        Statement::Rule(rule) => Arc::new(rule),
        other => panic!("{other:?}"),
    }
}

fn object(name: &str, value: Value) -> Value {
    Value::object([(name.into(), value)].into_iter().collect::<Object>())
}

fn texts(evaluated: &Evaluated) -> Vec<String> {
    let rows = evaluated.rows.iter().map(|rows| &rows.rows);
    rows.flat_map(|rows| (0..rows.len()).map(|row| String::from_utf8(rows.json(row).into_owned()).unwrap())).collect()
}

#[test]
fn one_call_follows_from_the_answer_of_another() {
    let sql = "SELECT aws_lambda('f', {'place': get_dynamodb('place', 'id', topic(2), 'role').room}) AS r, t \
               FROM 'a/+' WHERE t > 1 INTO TOPIC 'b/${aws_lambda(''g'', {''t'': t})}'";
    let calling = Calling::new(&rule(sql)).unwrap();
    let messages = [Message::new("a/x", br#"{"t":1}"#, 0), Message::new("a/y", br#"{"t":2}"#, 0)];
    let mut answers = vec![Answers::default(), Answers::default()];
    let mut asked = Vec::new();
    let last = loop {
        let evaluated = calling.evaluate(&messages, &answers);
        let Some((place, request)) = evaluated.requests.first().cloned() else { break evaluated };
        assert_eq!((place, evaluated.requests.len()), (1, 1), "WHERE spares the first message the call");
        assert!(texts(&evaluated).is_empty() && evaluated.rows.iter().all(|rows| rows.rejects.is_empty()));
        asked.push(format!("{}{:?}", request.function, request.args.last()));
        let answer = match &*request.function {
            "get_dynamodb" => object("room", "attic".into()),
            _ => request.args[1].clone(),
        };
        answers[1].add(request, Ok(answer));
    };
    assert_eq!(asked.len(), 3);
    assert!(asked[0].contains("role") && asked[1].contains("attic") && asked[2].contains("Int(2)"), "{asked:?}");
    assert_eq!(texts(&last), [r#"{"r":{"place":"attic"},"t":2}"#]);
    assert_eq!(last.rows[0].rows.templates[0].get(0), Some(r#"b/{"t":2}"#));
}

#[test]
fn a_failed_call_ends_the_rule_for_its_message_unless_there_is_a_default() {
    let ask = |sql: &str| {
        let calling = Calling::new(&rule(sql)).unwrap();
        let message = [Message::new("a", br#"{"t":1}"#, 0)];
        let request = calling.evaluate(&message, &[]).requests.remove(0).1;
        let mut answers = Answers::default();
        answers.add(request, Err("no answer within 2s".into()));
        calling.evaluate(&message, &[answers])
    };
    let failed = ask("SELECT aws_lambda('f', t) AS r FROM 'a' INTO TOPIC 'b'");
    assert_eq!(failed.rows[0].rejects[0].reason, "aws_lambda() failed: no answer within 2s");
    assert!(texts(&failed).is_empty());
    let default = ask("SELECT get_or_default(aws_lambda('f', t), 7) AS r FROM 'a' INTO TOPIC 'b'");
    assert_eq!(texts(&default), [r#"{"r":7}"#]);
    assert!(default.rows[0].rejects.is_empty());
}

#[test]
fn nobody_is_asked_about_nothing() {
    let calling = Calling::new(&rule("SELECT aws_lambda('f', missing) AS r FROM 'a' INTO TOPIC 'b'")).unwrap();
    let evaluated = calling.evaluate(&[Message::new("a", b"{}", 0)], &[]);
    assert!(evaluated.requests.is_empty());
    assert_eq!(texts(&evaluated), ["{}"]);
}

#[test]
fn calls_without_end_are_ended() {
    let sql = "SELECT (SELECT VALUE aws_lambda('f', n) FROM list) AS r FROM 'a' INTO TOPIC 'b'";
    let calling = Calling::new(&rule(sql)).unwrap();
    let payload =
        format!("{{\"list\":[{}]}}", (0..100).map(|n| format!("{{\"n\":{n}}}")).collect::<Vec<_>>().join(","));
    let message = [Message::new("a", payload.as_bytes(), 0)];
    let mut answers = [Answers::default()];
    for round in 0.. {
        let mut evaluated = calling.evaluate(&message, &answers);
        let Some((_, request)) = evaluated.requests.pop() else {
            assert_eq!(round, MAX_CALLS);
            assert!(evaluated.rows[0].rejects[0].reason.contains("16 calls"), "{:?}", evaluated.rows[0].rejects);
            break;
        };
        answers[0].add(request, Ok(Value::Int(1)));
    }
}

#[test]
fn what_a_rule_calls_is_plain_from_its_text() {
    let sql = "SET @row = get_dynamodb('place', 'id', topic(2), 'role') SELECT @row.room AS room FROM 'a/+' \
               INTO TOPIC 'b/${get_secret(''key'', ''SecretString'', ''role'')}'";
    let rule = rule(sql);
    assert!(rule.asks() && rule.is_impure());
    assert_eq!(rule.lookups().collect::<Vec<_>>(), ["place".into()]);
    let calls = rule.calls();
    let names: Vec<&str> = calls.iter().map(|call| &**call.function).collect();
    assert_eq!(names, ["get_dynamodb", "get_secret"]);
    assert_eq!(calls[1].text(0).map(|text| &**text), Some("key"));
}
