//! Known ways to make a little text cost a lot: each must stay within the bounds.

use std::fmt::Write as _;

use hedgerow_sql::ast::Dialect;

use super::input::{Input, Target};

/// Each with a name to find it by.
pub fn attacks() -> Vec<(&'static str, Input)> {
    let mut all = statements();
    all.extend(expressions());
    all.extend(values());
    all.extend(payloads());
    all
}

fn rule(sql: &str, payload: &str) -> Input {
    Input::of(Target::Rule(Dialect::Aws2016), &[sql, "x", payload])
}

fn native(sql: &str, payload: &str) -> Input {
    Input::of(Target::Rule(Dialect::Native), &[sql, "x", payload])
}

/// `before`, then so many numbered pieces, then `after`.
fn many(before: &str, count: usize, piece: impl Fn(usize) -> String, after: &str) -> String {
    let mut text = before.to_owned();
    (0..count).for_each(|number| text.push_str(&piece(number)));
    text.push_str(after);
    text
}

/// Large statements.
fn statements() -> Vec<(&'static str, Input)> {
    let reading = |text: String| Input::of(Target::Reading, &[&text]);
    let from = " FROM 'a/#'";
    let same = many("SELECT a", 300_000, |_| ",a".into(), from);
    let items = many("SELECT a", 100_000, |n| format!(",a{n}"), from);
    let terms = many("SELECT a FROM 'a/#' WHERE a = 1", 60_000, |n| format!(" AND a{n} = 1"), "");
    let list = many("SELECT a FROM 'a/#' WHERE a IN (0", 150_000, |n| format!(",{n}"), ")");
    let array = many("SELECT [0", 150_000, |n| format!(",{n}"), "] AS r FROM 'a/#'");
    let object = many("SELECT {'a': 0", 60_000, |n| format!(", 'a{n}': {n}"), "} AS r FROM 'a/#'");
    let cases = many("SELECT CASE a", 40_000, |n| format!(" WHEN {n} THEN {n}"), " END AS r FROM 'a/#'");
    let aliases = many("SELECT a AS r", 60_000, |n| format!(",a AS r.b.c{n}"), from);
    let deep = many("SELECT a AS r", 200_000, |_| ".b".into(), from);
    let columns = many("CREATE TABLE t (a VARCHAR", 60_000, |n| format!(", a{n} BIGINT"), ", PRIMARY KEY (a))");
    let options = many("CREATE SINK s WITH (a = 1", 80_000, |n| format!(", a{n} = {n}"), ")");
    let drops = many("", 60_000, |n| format!("DROP RULE r{n};"), "");
    let targets = many("CREATE RULE r AS SELECT * FROM 'a/#' INTO a", 100_000, |n| format!(", a{n}"), "");
    let actions = many(
        r#"{"sql": "SELECT * FROM 'a/#'", "actions": [{"republish": {"topic": "x"}}"#,
        25_000,
        |n| format!(r#",{{"republish":{{"topic":"x{n}"}}}}"#),
        "]}",
    );
    let members = many(r#"{"sql": "SELECT * FROM 'a/#'", "actions": []"#, 60_000, |n| format!(r#","a{n}":1"#), "}");
    let variables = many("SET @a = 1", 40_000, |n| format!(", @a{n} = @a"), " SELECT @a AS r FROM 'a/#'");
    let groups = many(
        "CREATE RULE r AS SELECT count(*) AS n FROM 'a/#' GROUP BY tumble(INTERVAL '1 second')",
        60_000,
        |n| format!(", a{n}"),
        " INTO t",
    );
    let payload = r#"{"a":1,"a1":1}"#;
    vec![
        ("one item many times", reading(same.clone())),
        ("many items", reading(items.clone())),
        ("many terms", reading(terms.clone())),
        ("a long list", reading(list.clone())),
        ("a long array", reading(array.clone())),
        ("a large object", reading(object.clone())),
        ("many branches", reading(cases.clone())),
        ("many nested names", reading(aliases.clone())),
        ("a deep name", reading(deep)),
        ("many columns", reading(columns)),
        ("many options", reading(options)),
        ("many statements", reading(drops)),
        ("many targets", reading(targets)),
        ("many actions", reading(actions)),
        ("many unknown members", reading(members)),
        ("many variables", reading(variables)),
        ("many groups", reading(groups)),
        ("one item many times, run", rule(&same, payload)),
        ("many items, run", rule(&items, payload)),
        ("many terms, run", rule(&terms, payload)),
        ("a long list, run", native(&list, payload)),
        ("a long array, run", rule(&array, payload)),
        ("a large object, run", rule(&object, payload)),
        ("many branches, run", rule(&cases, payload)),
        ("many nested names, run", rule(&aliases, payload)),
    ]
}

/// Patterns that take long on some texts.
fn expressions() -> Vec<(&'static str, Input)> {
    let on = |text: &str, pattern: &str| Input::of(Target::Expressions, &[text, pattern, "$0$0"]);
    let small = |n: usize| "a".repeat(n);
    let long = "a".repeat(1 << 20);
    let mut all = vec![
        ("nested repeats", on(&long, "(a?){300}a{300}b")),
        ("a counted class", on(&long, "[a-z]{1,400}[0-9]")),
        ("a large class, counted", on(&long, r"(\p{L}\p{N}?){1,60}!")),
        ("many dots", on(&long, "(.*)(.*)(.*)(.*)(.*)x")),
        ("an alternation of suffixes", on(&long, "(a|aa|aaa|aaaa)*b")),
        ("looking ahead to the end", on(&long, "(?=.*b)c")),
        ("matches that look ahead to the end", on(&long, "a(?=.*a)")),
        ("looking ahead from the middle", on(&small(20_000), "a(?=.*b)")),
        ("steps back in every match", on(&small(16_000), r"(?=(a|aa){1,9}\1b)?a")),
        ("a back-reference", on(&small(5_000), r"(a*)(a*)(a*)\1\2\3b")),
        ("a possessive hunt", on(&long, "(?:a++a|a)*+b")),
        ("looking back", on(&long, "(?<=aaaaaaaaaaaaaaaaaaaa)b")),
        ("many matches of nothing", on(&long, "")),
        ("long replacements", on(&small(60_000), "a")),
        ("words", on(&"a1 ".repeat(300_000), r"(\b\w+\b\s*)+$")),
    ];
    let calls = |pattern: &str| {
        let payload = many("{\"l\":[0", 30_000, |_| ",\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"".into(), "]}");
        rule(&format!("SELECT (SELECT VALUE regexp_matches(e, '{pattern}') FROM l AS e) AS r FROM 'a/#'"), &payload)
    };
    all.push(("a pattern on many elements", calls("(a+)+$")));
    all.push(("a hard pattern on many elements", calls("(?=(a|aa)+b)(a|aa)+c")));
    let patterns = many("{\"l\":[0", 5_000, |n| format!(",\"(a|b|c{n})+{n}\""), "]}");
    all.push((
        "many patterns",
        rule("SELECT (SELECT VALUE regexp_matches('abcabc', e) FROM l AS e) AS r FROM 'a/#'", &patterns),
    ));
    all
}

/// Expressions that make large values, or look at the same value again and again.
fn values() -> Vec<(&'static str, Input)> {
    let numbers = many("{\"l\":[0", 60_000, |n| format!(",{n}"), "]");
    let text = format!("{numbers},\"s\":\"{}\"}}", "é".repeat(200_000));
    let members = many(&format!("{numbers},\"o\":{{\"a\":0"), 30_000, |n| format!(",\"a{n}\":0"), "}}");
    let packed = {
        use base64::Engine as _;
        let json = many("[0", 100_000, |_| ",0".into(), "]");
        format!("{numbers},\"s\":\"{}\"}}", base64::prelude::BASE64_STANDARD.encode(json))
    };
    let doubled = |last: &str| {
        let mut sql = "SET @a0 = [1, 'x']".to_owned();
        (1..28).for_each(|n| write!(sql, ", @a{n} = [@a{p}, @a{p}]", p = n - 1).unwrap());
        (1..3).for_each(|n| write!(sql, ", @b{n} = [@a27, @a26, {n}]").unwrap());
        format!("{sql} SELECT {last} AS r FROM 'a/#'")
    };
    let each = |expr: &str| format!("SELECT length((SELECT VALUE {expr} FROM l AS e)) AS r FROM 'a/#'");
    vec![
        ("joined texts", rule(&each("@s + e").replacen("SELECT", "SET @s = s SELECT", 1), &text)),
        ("joined texts, by a function", rule(&each("concat(@s, e)").replacen("SELECT", "SET @s = s SELECT", 1), &text)),
        ("padded texts", rule(&each("lpad(rpad(e, 1000), 1000)"), &text)),
        ("capital letters", rule(&each("upper(@s)").replacen("SELECT", "SET @s = s SELECT", 1), &text)),
        ("characters of a text", rule(&each("get(@s, 100000)").replacen("SELECT", "SET @s = s SELECT", 1), &text)),
        ("parts of a text", rule(&each("substring(@s, e)").replacen("SELECT", "SET @s = s SELECT", 1), &text)),
        ("hashes", rule(&each("sha512(@s)").replacen("SELECT", "SET @s = s SELECT", 1), &text)),
        ("packed texts", rule(&each("encode(@s, 'base64')").replacen("SELECT", "SET @s = s SELECT", 1), &text)),
        ("unpacked values", rule(&each("decode(@s, 'base64')").replacen("SELECT", "SET @s = s SELECT", 1), &packed)),
        ("a join of arrays", rule(&each("concat(@l, @l)").replacen("SELECT", "SET @l = l SELECT", 1), &text)),
        (
            "a product of arrays",
            rule(
                &each("(SELECT VALUE x FROM e AS x)").replacen("FROM e", "FROM @l", 1).replacen(
                    "SELECT",
                    "SET @l = l SELECT",
                    1,
                ),
                &text,
            ),
        ),
        (
            "copies of an object",
            rule(&each("(SELECT *, 1 AS x FROM @o)").replacen("SELECT", "SET @o = o SELECT", 1), &members),
        ),
        ("copies of an object, many stars", rule("SELECT *, *, *, *, *, *, 1 AS a FROM 'a/#'", &members)),
        (
            "objects from literals",
            rule(&each("{'a': e, 'b': e, 'c': e, 'd': e, 'e': e, 'f': e, 'g': e, 'h': e}"), &text),
        ),
        (
            "enriched objects",
            rule(
                &each("transform('enrichArray', @o, [@o, @o, @o])").replacen("SELECT", "SET @o = o SELECT", 1),
                &members,
            ),
        ),
        ("IN over an array", rule(&each("e IN @l").replacen("SELECT", "SET @l = l SELECT", 1), &text)),
        (
            "equal arrays",
            rule(&each("@l = @m").replacen("SELECT", "SET @l = concat(l, 1), @m = concat(l, 2) SELECT", 1), &text),
        ),
        ("a doubled value", rule(&doubled("@a27"), "{}")),
        ("a doubled value, as text", rule(&doubled("upper(@a27)"), "{}")),
        ("a doubled value, compared", rule(&doubled("@b1 = @b2"), "{}")),
        ("a doubled value, looked for", rule(&doubled("@b1 IN [@b2, @b2, @b2, @b2, @b2, @b2]"), "{}")),
        ("LIKE with many stars", native("SELECT s LIKE '%é%é%é%é%é%é%é%x%é%é%é%x' AS r FROM 'a/#'", &text)),
        (
            "huge exponents",
            rule("SELECT x * x * x / 3 % 7 AS r, power(x, x) AS p, x + 1e-999 AS s FROM 'a/#'", r#"{"x": 9.9e999}"#),
        ),
        ("remainders", rule(&each("9e999 % (e + 1e-999)"), &text)),
    ]
}

/// Payloads.
fn payloads() -> Vec<(&'static str, Input)> {
    let select = "SELECT *, a.b.c + 1 AS x, b FROM 'a/#' WHERE isUndefined(nothing)";
    let mb = 1 << 20;
    let long = format!("{{\"b\":\"{}\"}}", "x".repeat(10 * mb));
    let escapes = format!("{{\"b\":\"{}\"}}", "\\u00e9".repeat(mb));
    let digits = format!("{{\"b\":{}}}", "9".repeat(10 * mb));
    let fraction = format!("{{\"b\":0.{}1e-999999999999}}", "0".repeat(4 * mb));
    let members = many("{\"b\":0", 400_000, |n| format!(",\"m{n}\":{n}"), "}");
    let same = many("{\"b\":0", mb, |_| ",\"b\":1".into(), "}");
    let elements = format!("{{\"b\":[{}0]}}", "0,".repeat(2 * mb));
    let nested = format!("{{\"b\":[{}0]}}", "[],".repeat(mb));
    let deep = format!("{{\"b\":{}{}}}", "[".repeat(5 * mb), "]".repeat(5 * mb));
    let open = "{\"b\":".repeat(2 * mb);
    let blanks = format!("{{\"b\":1{}}}", " ".repeat(10 * mb));
    let quotes = "\"".repeat(5 * mb);
    let broken = format!("{}x", members);
    vec![
        ("a long text", rule(select, &long)),
        ("a text of escapes", rule(select, &escapes)),
        ("a long number", rule(select, &digits)),
        ("a long fraction", rule(select, &fraction)),
        ("many members", rule(select, &members)),
        ("many members of one name", rule(select, &same)),
        ("a long list of numbers", rule(select, &elements)),
        ("many empty lists", rule(select, &nested)),
        ("deep lists", rule(select, &deep)),
        ("open objects", rule(select, &open)),
        ("blanks", rule(select, &blanks)),
        ("quotes", rule(select, &quotes)),
        ("a mistake at the end", rule(select, &broken)),
    ]
}
