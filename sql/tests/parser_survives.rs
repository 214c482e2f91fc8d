//! Whatever a text holds, reading it ends: without a panic, with every place inside the text, and what is accepted has
//! a canonical text that reads as the same thing.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod reading;

use std::sync::Arc;

use hedgerow_sql::analyze::{parse_document, read_file};
use hedgerow_sql::ast::{BinaryOp, CastType, Dialect, Expr, ExprKind, Item, Items, Select, Span, Subquery, UnaryOp};
use hedgerow_sql::diagnostic::{Style, render};
use hedgerow_sql::parse::{parse_expr, parse_statement, print_expr, print_select};
use hedgerow_sql::value::Value;
use proptest::prelude::*;
use reading::everything;

const NATIVE: &str = r#"
CREATE TABLE sensor_data (sensor_id VARCHAR, ts BIGINT, "odd name" DECIMAL(10, 2), PRIMARY KEY (sensor_id, ts))
  WITH (ttl = INTERVAL '30 days'); -- rows
CREATE SINK farm_lake (t DOUBLE) WITH (connector = 'lake', path = 's3://farm/x', secret_key = SECRET('k'), roll = 1e6);
CREATE RULE store WITH (enabled = TRUE) AS SET @a = x.y['z'], @b = @a + 1
  SELECT *, topic(3) AS sensor_id, timestamp() AS ts, @b AS b.c, (SELECT VALUE v FROM list AS e WHERE e.v > 1) AS l,
    CASE WHEN a LIKE 'x%' THEN -1.50 ELSE {'k': [1, NULL, TRUE]} END AS c, cast("odd name" AS Int) AS i
  FROM 'macdonald/sensors/+' WHERE NOT (a IS NULL OR b NOT IN (1, 2)) AND d BETWEEN 1 AND 2 || 3
  INTO sensor_data, farm_lake, TOPIC 'alerts/${topic(3)}/${get({''a'': ''}''}, ''a'')}' QOS 1 RETAIN ON ERROR INTO dead_letters;
CREATE RULE mean AS SELECT topic(3) AS s, avg(t) / count(*) AS m, window_start FROM 'a/b/#'
  GROUP BY s, tumble(INTERVAL '10 seconds') HAVING m > 1 INTO TOPIC 'm/${s}';
DROP RULE IF EXISTS gone;
"#;

const DOCUMENT: &str = r#"{"ruleName": "store", "topicRulePayload": {
  "sql": "SET @v = a.b SELECT *, upper(\"x\u00e9\") AS x FROM 'macdonald/#' WHERE x <> 'a\\'b'",
  "awsIotSqlVersion": "2016-03-23", "ruleDisabled": false, "description": "…",
  "actions": [
    {"dynamoDB": {"tableName": "t", "hashKeyField": "id", "hashKeyValue": "${topic(2)}-${@v}", "rangeKeyField": "ts",
      "rangeKeyType": "NUMBER", "rangeKeyValue": "${timestamp()}", "operation": "INSERT", "roleArn": "arn"}},
    {"firehose": {"deliveryStreamName": "lake", "separator": "\n"}}
  ],
  "errorAction": {"republish": {"topic": "$$aws/errors/${topic()}", "qos": 1}}
}}"#;

/// Words and signs that a parser may stumble over.
const VOCABULARY: &[&str] = &[
    "SELECT",
    "VALUE",
    "FROM",
    "WHERE",
    "GROUP BY",
    "HAVING",
    "SET",
    "AS",
    "AND",
    "OR",
    "NOT",
    "IN",
    "IS",
    "NULL",
    "LIKE",
    "BETWEEN",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST(",
    "EXISTS (",
    "INTO",
    "TOPIC",
    "QOS",
    "RETAIN",
    "ON ERROR INTO",
    "AFTER",
    "UNLESS",
    "PARTITION BY",
    "EMIT",
    "LATENESS",
    "LATE INTO",
    "JOIN",
    "LEFT",
    "ON",
    "CREATE",
    "TABLE",
    "SINK",
    "RULE",
    "VIEW",
    "DROP",
    "IF EXISTS",
    "PRIMARY KEY",
    "INDEX",
    "WITH (",
    "SECRET(",
    "INTERVAL",
    "tumble(",
    "hop(",
    "topic(",
    "count(*)",
    "avg(",
    "window_start",
    "x",
    "a.b",
    "\"q n\"",
    "@v",
    "1",
    "2.50",
    "1e999",
    "9e-9",
    "'text'",
    "'a/+/#'",
    "'${x}'",
    "'10 seconds'",
    "a/b/#",
    "$aws/x",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ";",
    ".",
    ":",
    "*",
    "+",
    "-",
    "/",
    "%",
    "=",
    "<>",
    "<=",
    "||",
    "--",
    "/*",
    "*/",
    "'",
    "\"",
    "`",
    "\\",
    "\n",
    "é",
    "😀",
    "\u{0}",
    "\u{2028}",
    "${",
    "DECIMAL(5, 2)",
    "DISTINCT",
    "TRUE",
];

/// The text with pieces removed, doubled, moved or replaced.
fn mutated(text: &'static str) -> impl Strategy<Value = String> {
    let edit = (0..text.len(), 0..12_usize, 0..5_u8, prop::sample::select(VOCABULARY));
    prop::collection::vec(edit, 1..4).prop_map(move |edits| {
        let mut text = text.to_owned();
        for (at, length, kind, word) in edits {
            let boundary = |at: usize| (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap();
            let (start, end) = (boundary(at), boundary(at + length));
            match kind {
                0 => text.replace_range(start..end, ""),
                1 => text.replace_range(start..end, word),
                2 => text.insert_str(start, word),
                3 => {
                    let piece = text[start..end].to_owned();
                    text.insert_str(end, &piece);
                }
                _ => text.truncate(start),
            }
        }
        text
    })
}

#[test]
fn the_originals_are_sound() {
    let file = read_file(NATIVE);
    assert_eq!(file.statements.len(), 5, "{}", render(&file.diagnostics, "f", NATIVE, Style::Plain));
    assert!(file.diagnostics.is_empty(), "{}", render(&file.diagnostics, "f", NATIVE, Style::Plain));
    let rule =
        parse_document("x", DOCUMENT).unwrap_or_else(|found| panic!("{}", render(&found, "d", DOCUMENT, Style::Plain)));
    assert_eq!((&*rule.name, rule.actions.len()), ("store", 2));
    everything(NATIVE);
    everything(DOCUMENT);
}

#[test]
fn long_and_deep_texts_end() {
    for piece in
        ["(", "[", "{'a':", "-", "NOT ", "x.", "x[", "f(", "a OR ", "CASE ", "(SELECT ", "${", "'", "/*", "@", "a,"]
    {
        everything(&piece.repeat(20_000));
        everything(&format!("SELECT {}", piece.repeat(20_000)));
        everything(&format!("CREATE RULE r AS SELECT x FROM 'a' WHERE {}", piece.repeat(2_000)));
    }
    for piece in ["[", "{\"a\":", "{", "\"", "1,", "}"] {
        everything(&piece.repeat(50_000));
    }
    everything(&"x".repeat(3 << 20));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        everything(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn random_words(words in prop::collection::vec(prop::sample::select(VOCABULARY), 0..40), glue in any::<bool>()) {
        let text = words.join(if glue { "" } else { " " });
        everything(&text);
        everything(&format!("CREATE RULE r AS SELECT {text}"));
        everything(&format!("SELECT a FROM 'a/b' WHERE {text}"));
    }

    #[test]
    fn mutations_of_a_file(text in mutated(NATIVE)) {
        everything(&text);
    }

    #[test]
    fn mutations_of_a_document(text in mutated(DOCUMENT)) {
        everything(&text);
    }

    /// Printing is the inverse of parsing, for every tree that a text can give.
    #[test]
    fn printed_expressions_read_as_the_same_tree((dialect, expr) in dialect_and_expr()) {
        let printed = print_expr(&expr, dialect);
        prop_assert_eq!(parse_expr(&printed, dialect), Ok(expr), "{}", printed);
    }

    #[test]
    fn printed_statements_read_as_the_same_tree((dialect, select) in dialect_and_statement()) {
        let printed = print_select(&select, dialect);
        prop_assert_eq!(parse_statement(&printed, dialect), Ok(select), "{}", printed);
    }
}

/// The same for whole statements.
fn dialect_and_statement() -> impl Strategy<Value = (Dialect, Select)> {
    let of = |dialect| statement(dialect).prop_map(move |select| (dialect, select));
    prop_oneof![of(Dialect::Aws2016), of(Dialect::Native)]
}

fn statement(dialect: Dialect) -> impl Strategy<Value = Select> {
    let star = || Item { expr: of(ExprKind::Star), alias: None };
    let item = (expr(dialect), prop::collection::vec(name(dialect), 1..3))
        .prop_map(|(expr, alias)| Item { expr, alias: Some(alias) });
    let items = prop_oneof![
        expr(dialect).prop_map(Items::Value),
        Just(Items::Value(of(ExprKind::Star))),
        (any::<bool>(), prop::collection::vec(item, 1..4)).prop_map(move |(with_star, mut items)| {
            if with_star {
                items.insert(0, star());
            }
            Items::List(items)
        }),
    ];
    let first = prop::sample::select(vec![Value::Int(1), Value::Null, Value::text("it's")]);
    let filter = prop::sample::select(vec!["a/b", "+/#", "it's/+", "$aws/things/+/shadow/update", "é/x y"]);
    (first, prop::option::of(expr(dialect)), items, filter, prop::option::of(expr(dialect))).prop_map(
        move |(first, second, items, from, condition)| {
            let mut select = parse_statement("SELECT a FROM 'x'", dialect).unwrap();
            // Expressions may use the first variable.
            select.set.push((Arc::from("v_1"), of(ExprKind::Literal(first))));
            select.set.extend(second.map(|expr| (Arc::from("v_2"), expr)));
            select.items = items;
            select.from = Some((Arc::from(from), Span::default()));
            select.filter = condition;
            select
        },
    )
}

fn dialect_and_expr() -> impl Strategy<Value = (Dialect, Expr)> {
    prop_oneof![
        expr(Dialect::Aws2016).prop_map(|expr| (Dialect::Aws2016, expr)),
        expr(Dialect::Native).prop_map(|expr| (Dialect::Native, expr)),
    ]
}

fn of(kind: ExprKind) -> Expr {
    Expr { kind, span: Span::default() }
}

fn name(dialect: Dialect) -> BoxedStrategy<Arc<str>> {
    let plain = prop::sample::select(vec!["a", "value", "timestamp", "end", "é_1", "_x", "group"]);
    let odd = prop::sample::select(vec!["a b", "select", "from", "it's", "say \"x\"", "0"]);
    match dialect {
        Dialect::Native => prop_oneof![3 => plain, 1 => odd].prop_map(Arc::from).boxed(),
        _ => plain.prop_filter("reserved in CASE", |name| *name != "end").prop_map(Arc::from).boxed(),
    }
}

fn leaf(dialect: Dialect) -> BoxedStrategy<Expr> {
    let text = prop::sample::select(vec!["", "x", "it's", "\\d+\\", "\"", "é😀", "a\nb", "${x}", "--", "'"]);
    prop_oneof![
        name(dialect).prop_map(|name| of(ExprKind::Name(name))),
        text.prop_map(|text| of(ExprKind::Literal(Value::String(Arc::from(text))))),
        (0..10_i128.pow(20)).prop_map(|int| of(ExprKind::Literal(Value::Int(int)))),
        prop::sample::select(vec!["2.50", "0.000", "1e3", "1.5E-7", "1e-500", "9.99e999", "12345.6789"])
            .prop_map(|text| of(ExprKind::Literal(Value::literal_number(text).unwrap()))),
        any::<bool>().prop_map(|value| of(ExprKind::Literal(Value::Bool(value)))),
        Just(of(ExprKind::Literal(Value::Null))),
        Just(of(ExprKind::Variable(Arc::from("v_1")))),
    ]
    .boxed()
}

fn expr(dialect: Dialect) -> BoxedStrategy<Expr> {
    leaf(dialect)
        .prop_recursive(5, 40, 4, move |inner| {
            let boxed = || inner.clone().prop_map(Box::new);
            let list = || prop::collection::vec(inner.clone(), 0..4);
            let common = prop_oneof![
                (boxed(), name(dialect)).prop_map(|(of_, name)| ExprKind::Member { of: of_, name }),
                (boxed(), boxed()).prop_map(|(of_, index)| ExprKind::Index { of: of_, index }),
                (any::<bool>(), boxed()).prop_map(|(not, operand)| ExprKind::Unary {
                    op: if not { UnaryOp::Not } else { UnaryOp::Neg },
                    operand
                }),
                (binary_op(dialect), boxed(), boxed()).prop_map(|(op, left, right)| ExprKind::Binary {
                    op,
                    left,
                    right
                }),
                list().prop_map(|mut args| {
                    args.push(of(ExprKind::Star));
                    ExprKind::Call { function: Arc::from("concat"), args }
                }),
                (
                    boxed(),
                    prop::sample::select(vec![CastType::String, CastType::Int, CastType::Double, CastType::Boolean])
                )
                    .prop_map(|(operand, to)| ExprKind::Cast { operand, to }),
                (
                    prop::option::of(boxed()),
                    prop::collection::vec((inner.clone(), inner.clone()), 1..3),
                    prop::option::of(boxed())
                )
                    .prop_map(|(operand, branches, otherwise)| ExprKind::Case {
                        operand,
                        branches,
                        otherwise
                    }),
                list().prop_map(ExprKind::Array),
                prop::collection::vec(
                    (prop::sample::select(vec!["k", "it's", "\\"]).prop_map(Arc::from), inner.clone()),
                    0..3
                )
                .prop_map(ExprKind::Object),
                (any::<bool>(), subquery(dialect, inner.clone())).prop_map(|(exists, query)| {
                    if exists { ExprKind::Exists(Box::new(query)) } else { ExprKind::Subquery(Box::new(query)) }
                }),
            ];
            if dialect != Dialect::Native {
                return common.prop_map(of).boxed();
            }
            let native =
                prop_oneof![
                    (boxed(), any::<bool>()).prop_map(|(operand, negated)| ExprKind::IsNull { operand, negated }),
                    (boxed(), boxed(), any::<bool>()).prop_map(|(left, right, negated)| ExprKind::IsDistinct {
                        left,
                        right,
                        negated
                    }),
                    (boxed(), boxed(), any::<bool>()).prop_map(|(value, pattern, negated)| ExprKind::Like {
                        value,
                        pattern,
                        negated
                    }),
                    (boxed(), prop::collection::vec(inner.clone(), 1..4), any::<bool>())
                        .prop_map(|(value, list, negated)| ExprKind::InList { value, list, negated }),
                    (boxed(), boxed(), boxed(), any::<bool>())
                        .prop_map(|(value, low, high, negated)| ExprKind::Between { value, low, high, negated }),
                ];
            prop_oneof![2 => common, 1 => native].prop_map(of).boxed()
        })
        .boxed()
}

fn binary_op(dialect: Dialect) -> BoxedStrategy<BinaryOp> {
    use BinaryOp::{Add, And, Concat, Div, Eq, Ge, Gt, In, Le, Lt, Mul, Ne, Or, Rem, Sub};
    let mut ops = vec![Or, And, Eq, Ne, Lt, Le, Gt, Ge, Add, Sub, Mul, Div, Rem];
    // In native files parentheses after IN are a list, so that not every tree has a text.
    ops.push(if dialect == Dialect::Native { Concat } else { In });
    prop::sample::select(ops).boxed()
}

fn subquery(dialect: Dialect, inner: impl Strategy<Value = Expr> + Clone + 'static) -> impl Strategy<Value = Subquery> {
    let item = (inner.clone(), prop::collection::vec(name(dialect), 1..3))
        .prop_map(|(expr, alias)| Item { expr, alias: Some(alias) });
    let items = prop_oneof![
        inner.clone().prop_map(Items::Value),
        Just(Items::Value(of(ExprKind::Star))),
        prop::collection::vec(item, 1..3).prop_map(Items::List),
    ];
    let source = (name(dialect), name(dialect))
        .prop_map(|(first, second)| of(ExprKind::Member { of: Box::new(of(ExprKind::Name(first))), name: second }));
    (items, source, prop::option::of(name(dialect)), prop::option::of(inner))
        .prop_map(|(items, source, alias, filter)| Subquery { items, source, alias, filter })
}
