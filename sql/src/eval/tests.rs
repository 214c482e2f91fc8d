use super::*;
use crate::ast::{Dialect, Select};
use crate::message::Message;
use crate::parse::{parse_statement, parse_template};
use crate::value::Value;

fn parsed(sql: &str, dialect: Dialect) -> Select {
    parse_statement(sql, dialect).unwrap_or_else(|mistakes| panic!("{sql}: {mistakes:?}"))
}

/// What a statement makes of a payload: the row's text, `-` for no match, the failure's text.
fn outcome(sql: &str, payload: &[u8], dialect: Dialect, externals: &dyn Externals) -> String {
    let message = Message { client_id: Some("c"), epoch: 7, offset: 9, ..Message::new("a/b", payload, 1_000) };
    let mut scope = Scope::new(&message, dialect).with_externals(externals);
    let row =
        run(&parsed(sql, dialect), &mut scope).and_then(|body| body.map(|body| body.to_bytes(&message)).transpose());
    match row {
        Ok(Some(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(None) => "-".to_owned(),
        Err(failure) => failure.to_string(),
    }
}

#[track_caller]
fn check(sql: &str, payload: &str, expected: &str) {
    assert_eq!(outcome(sql, payload.as_bytes(), Dialect::Aws2016, &NoExternals), expected, "{sql}");
}

/// Answers every call with its arguments, or fails when the first one is `fail`.
struct Echo;

impl Externals for Echo {
    fn call(&self, _: &str, args: &[Value]) -> Result<Value, String> {
        match args.first() {
            Some(Value::String(text)) if &**text == "fail" => Err("no such function".to_owned()),
            _ => Ok(Value::array(args.to_vec())),
        }
    }
}

#[test]
fn members_are_merged_in_order() {
    check(
        "SELECT *, 1 AS b, 2 AS d.e, 3 AS d.f FROM 'a/b'",
        r#"{"a":0,"b":0,"c":0}"#,
        r#"{"a":0,"b":1,"c":0,"d":{"e":2,"f":3}}"#,
    );
    check("SELECT 1 AS a, 2 AS a.b FROM 'a/b'", "{}", r#"{"a":{"b":2}}"#);
    check("SELECT *, missing AS a FROM 'a/b'", r#"{"a":1}"#, r#"{"a":1}"#);
    check("SELECT 1 AS a, * FROM 'a/b'", r#"{"b":2,"a":3}"#, r#"{"a":3,"b":2}"#);
}

#[test]
fn a_payload_alone_is_not_touched() {
    check("SELECT * FROM 'a/b'", r#" { "a" : 1.0 } "#, r#" { "a" : 1.0 } "#);
    check("SELECT VALUE * FROM 'a/b'", "80", "80");
    assert_eq!(outcome("SELECT * FROM 'a/b'", b"not json", Dialect::Native, &NoExternals), "not json");
}

#[test]
fn what_is_not_json_has_no_members_and_says_so() {
    let message = Message::new("a/b", b"{\"a\": 1,}", 0);
    let mut scope = Scope::new(&message, Dialect::Aws2016);
    assert_eq!(scope.payload_error(), None);
    let body = run(&parsed("SELECT a, 1 AS x FROM 'a/b'", Dialect::Aws2016), &mut scope).unwrap().unwrap();
    assert_eq!(body.to_bytes(&message).unwrap(), b"{\"x\":1}");
    assert_eq!(
        scope.payload_error().map(|error| error.to_string()).as_deref(),
        Some("expected a member name at byte 8")
    );
}

#[test]
fn a_failing_external_function_ends_the_rule() {
    let call = |sql: &str| outcome(sql, b"{}", Dialect::Aws2016, &Echo);
    assert_eq!(call("SELECT aws_lambda('f', 1) AS r FROM 'a/b'"), r#"{"r":["f",1]}"#);
    assert_eq!(call("SELECT aws_lambda('fail', 1) AS r FROM 'a/b'"), "aws_lambda() failed: no such function");
    assert_eq!(
        call("SELECT 1 AS r FROM 'a/b' WHERE isUndefined(aws_lambda('fail', 1))"),
        "aws_lambda() failed: no such function"
    );
    assert_eq!(call("SELECT get_or_default(aws_lambda('fail', 1), 5) AS r FROM 'a/b'"), r#"{"r":5}"#);
    assert_eq!(
        call("SELECT get_dynamodb('t', 'k', 1, 'r').a AS r, get_dynamodb('t', 'k', 2, 'r') AS q FROM 'a/b'"),
        "get_dynamodb() may be called once per statement; keep its result in a SET variable"
    );
    check("SELECT aws_lambda('f', 1) AS r FROM 'a/b'", "{}", "aws_lambda() failed: it is not available yet");
}

#[test]
fn work_is_bounded() {
    let payload = format!("{{\"a\":[{}]}}", vec!["1"; 2_000].join(","));
    check(
        "SET @a = a SELECT VALUE (SELECT VALUE (SELECT VALUE 1 FROM @a) FROM @a) FROM 'a/b'",
        &payload,
        "the expression takes too much work for this message; make nested queries or texts smaller",
    );
    check(
        "SET @a = a SELECT (SELECT VALUE length(@a) FROM @a) AS r FROM 'a/b' WHERE exists(SELECT VALUE 1 FROM @a WHERE md5(@a) = '')",
        &format!("{{\"a\":[{}]}}", vec!["1"; 9_000].join(",")),
        "the expression takes too much work for this message; make nested queries or texts smaller",
    );
    let doubling: Vec<String> = (1..30).map(|at| format!("@v{at} = [@v{}, @v{}]", at - 1, at - 1)).collect();
    let sql = format!("SET @v0 = 1, {} SELECT VALUE @v29 FROM 'a/b'", doubling.join(", "));
    check(&sql, "{}", "the row or an action's parameter is longer than 8388608 bytes");
}

#[test]
fn nesting_through_variables_is_bounded() {
    let wrapped = |from: usize| format!("{}@v{from}{}", "[".repeat(120), "]".repeat(120));
    let set = |count: usize| (1..count).map(|at| format!(", @v{at} = {}", wrapped(at - 1))).collect::<String>();
    let sql = format!("SET @v0 = 1{} SELECT @v31 = @v31 AS same, @v31 = @v30 AS other FROM 'a/b'", set(32));
    check(&sql, "{}", r#"{"same":true}"#);
    let sql = format!("SET @v0 = 1{} SELECT @v31 AS r FROM 'a/b'", set(32));
    check(&sql, "{}", "the row or an action's parameter is longer than 8388608 bytes");
    // More variables could nest beyond measure; they are refused.
    let sql = format!("SET @v0 = 1{} SELECT 1 AS r FROM 'a/b'", set(33));
    let refused = parse_statement(&sql, Dialect::Aws2016).unwrap_err();
    assert_eq!(refused.first().map(|mistake| &*mistake.message), Some("more than 32 variables"));
}

#[test]
fn long_chains_are_not_deep() {
    let sum = vec!["a"; 250].join(" + ");
    check(&format!("SELECT {sum} AS r FROM 'a/b'"), r#"{"a":2}"#, r#"{"r":500}"#);
}

#[test]
fn what_looks_random_follows_from_the_log() {
    let sql = "SELECT newuuid() AS a, newuuid() AS b, traceid() AS c, rand() AS d FROM 'a/b'";
    let first = outcome(sql, b"{}", Dialect::Aws2016, &NoExternals);
    assert_eq!(outcome(sql, b"{}", Dialect::Aws2016, &NoExternals), first);
    let values = crate::json::parse(first.as_bytes(), Dialect::Aws2016).unwrap();
    assert_ne!(values.member("a"), values.member("b"));
    assert_ne!(values.member("a"), values.member("c"));
    assert!(values.member("a").to_text().unwrap().as_bytes()[14] == b'4', "a version 4 form");

    let message = Message { epoch: 7, offset: 10, client_id: Some("c"), ..Message::new("a/b", b"{}", 1_000) };
    let mut scope = Scope::new(&message, Dialect::Aws2016);
    let other = run(&parsed(sql, Dialect::Aws2016), &mut scope).unwrap().unwrap().to_bytes(&message).unwrap();
    assert_ne!(other, first.as_bytes());
}

#[test]
fn templates_see_variables_and_the_message_but_no_aliases() {
    let message = Message::new("a/b", br#"{"x":1,"n":null,"o":{"k":[1.5]}}"#, 5);
    let mut scope = Scope::new(&message, Dialect::Aws2016);
    run(&parsed("SET @v = x + 1 SELECT x AS y FROM 'a/b'", Dialect::Aws2016), &mut scope).unwrap();
    for (text, expected) in [
        ("${topic(2)}/${@v}/${y}/${n}/${o}", "b/2///{\"k\":[1.5]}"),
        ("$$aws/${x}", "$aws/1"),
        ("$x", "$x"),
        ("${'$$'}a", "$$a"),
    ] {
        let template = parse_template(text, Dialect::Aws2016).unwrap();
        assert_eq!(topic(&template, &scope).unwrap(), expected, "{text}");
    }
}

#[test]
fn slots_are_given_from_outside() {
    let message = Message::new("", b"", 0);
    let slots = [Value::from("s1"), Value::Int(4)];
    let scope = Scope::new(&message, Dialect::Native).with_slots(&slots);
    let slot = |index| crate::ast::Expr { kind: crate::ast::ExprKind::Slot(index), span: crate::ast::Span::default() };
    assert_eq!(evaluate(&slot(1), &scope), Value::Int(4));
    assert_eq!(evaluate(&slot(2), &scope), Value::Undefined);
    let path: [std::sync::Arc<str>; 2] = ["a".into(), "b".into()];
    let row = assemble([(&path[..], evaluate(&slot(0), &scope)), (&path[..1], Value::Undefined)]);
    assert_eq!(crate::json::to_text(&Value::object(row), 100).as_deref(), Some(r#"{"a":{"b":"s1"}}"#));
}
