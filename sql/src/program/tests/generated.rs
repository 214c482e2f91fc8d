//! Generated rules over generated payloads, mixed kinds in one batch.

use proptest::prelude::*;

use super::{check, rule};
use crate::ast::Dialect;
use crate::parse::{parse_expr, parse_statement};

/// Values of payloads: what telemetry has, and the edges.
fn json_value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "-?(0|[1-9][0-9]{0,3})",
        4 => "-?(0|[1-9][0-9]{0,2})\\.[0-9]{1,3}",
        1 => "[1-9][0-9]{15,18}",
        1 => "[1-9][0-9]{19,40}",
        1 => "[1-9]\\.[0-9]{14,20}",
        1 => "[1-9][eE]-?[0-9]{1,2}",
        1 => Just("1e999999".to_owned()),
        3 => "\"(ok|idle|12|2\\.50|true|FALSE|é€|)\"",
        1 => Just("\"a\\n\\u00e9\"".to_owned()),
        2 => "true|false",
        2 => Just("null".to_owned()),
        1 => Just("[1, 2.0, \"x\"]".to_owned()),
        1 => Just("{\"x\": 1.50, \"y\": [null]}".to_owned()),
    ]
}

/// Payloads that a failed case shows as text.
#[derive(Clone)]
pub(in crate::program) struct Payloads(pub(in crate::program) Vec<Vec<u8>>);

impl std::fmt::Debug for Payloads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|payload| String::from_utf8_lossy(payload))).finish()
    }
}

/// Mostly payloads of a few shapes, so that shapes are learned, and now and then anything.
pub(in crate::program) fn payloads() -> impl Strategy<Value = Payloads> {
    let names = || prop::sample::subsequence(vec!["a", "b", "c", "o", "a b"], 0..=5).prop_shuffle();
    let member = |name: &'static str| json_value().prop_map(move |value| format!("\"{name}\":{value}"));
    let odd = names()
        .prop_flat_map(move |names| names.into_iter().map(member).collect::<Vec<_>>())
        .prop_map(|members| format!("{{{}}}", members.join(",")).into_bytes());
    let usual =
        (0..200i32, 0..3u8, "ok|idle|warning", any::<bool>(), 0..100u8).prop_map(|(n, scale, text, flag, o)| {
            let a = match scale {
                0 => format!("{n}"),
                1 => format!("{}.{}", n / 10, n % 10),
                _ => format!("{}.{:02}", n / 100, n % 100),
            };
            format!("{{\"a\":{a},\"b\":{n},\"c\":\"{text}\",\"flag\":{flag},\"o\":{{\"x\":{o},\"z\":[{o}]}}}}")
                .into_bytes()
        });
    let rare = prop_oneof![
        Just(b"".to_vec()),
        Just(b"{\"a\":1".to_vec()),
        Just(b"[1,2]".to_vec()),
        Just(b"80".to_vec()),
        Just(b" {} ".to_vec()),
        Just(b"{\"a\":1,\"a\":2.5}".to_vec()),
        Just(b"{\"o\":{\"x\":1},\"o\":{\"y\":2}}".to_vec()),
        Just(b"{\"a\":\"\xff\"}".to_vec()),
    ];
    prop::collection::vec(prop_oneof![6 => usual, 3 => odd, 1 => rare], 1..60).prop_map(Payloads)
}

/// Expressions that are meant to be of one kind, up to some depth. Now and then a part is of another kind, and paths
/// have whatever kind the payload gives them.
#[derive(Clone)]
struct Expressions {
    numbers: BoxedStrategy<String>,
    texts: BoxedStrategy<String>,
    booleans: BoxedStrategy<String>,
}

impl Expressions {
    fn leaves() -> Self {
        let anything = || {
            prop::sample::select(vec![
                "o",
                "missing",
                "NULL",
                "o.z",
                "a",
                "c",
                "flag",
                "get(*, 'a b')",
                "o['x']",
                "get(o.z, 0)",
            ])
        };
        let numbers = prop_oneof![
            5 => "[abab]|o\\.x",
            3 => "[0-9]{1,3}",
            3 => "[0-9]{1,2}\\.[0-9]{1,3}",
            1 => prop::sample::select(vec!["timestamp()", "2e0", "1.5E3", "9999999999999999999999999999999999", "'7'"])
                .prop_map(str::to_owned),
            1 => anything().prop_map(str::to_owned),
        ];
        let texts = prop_oneof![
            5 => Just("c".to_owned()),
            3 => "'(ok|idle|12|-2\\.5|true|x| X é€ |)'",
            2 => "topic\\(\\)|topic\\([0-5]\\)|clientid\\(\\)|principal\\(\\)|sql_version\\(\\)",
            1 => anything().prop_map(str::to_owned),
        ];
        let booleans = prop_oneof![
            3 => Just("flag".to_owned()),
            2 => "TRUE|FALSE|'True'",
            1 => anything().prop_map(str::to_owned),
        ];
        Self { numbers: numbers.boxed(), texts: texts.boxed(), booleans: booleans.boxed() }
    }

    /// Of up to so many levels.
    fn new(levels: u32, dialect: Dialect) -> Self {
        let mut all = Self::leaves();
        for _ in 0..levels {
            all = Self {
                numbers: prop_oneof![2 => all.numbers.clone(), 3 => all.more_numbers()].boxed(),
                texts: prop_oneof![2 => all.texts.clone(), 3 => all.more_texts(dialect)].boxed(),
                booleans: prop_oneof![1 => all.booleans.clone(), 4 => all.more_booleans(dialect)].boxed(),
            };
        }
        all
    }

    fn any(&self) -> BoxedStrategy<String> {
        prop_oneof![self.numbers.clone(), self.texts.clone(), self.booleans.clone()].boxed()
    }

    /// Mostly a number.
    fn number(&self) -> BoxedStrategy<String> {
        prop_oneof![9 => self.numbers.clone(), 1 => self.any()].boxed()
    }

    /// Mostly a text.
    fn text(&self) -> BoxedStrategy<String> {
        prop_oneof![6 => self.texts.clone(), 1 => self.any()].boxed()
    }

    /// Mostly a boolean.
    fn boolean(&self) -> BoxedStrategy<String> {
        prop_oneof![9 => self.booleans.clone(), 1 => self.any()].boxed()
    }

    fn more_numbers(&self) -> BoxedStrategy<String> {
        let (a, b) = (|| self.number(), || self.text());
        let one = "abs|ceil|floor|round|sign|sqrt|ln|exp|sin|bitnot";
        let two = "mod|remainder|power|bitand|bitxor|atan2|trunc|nanvl";
        prop_oneof![
            6 => (a(), "[-+*/%]", a()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            1 => a().prop_map(|a| format!("(- {a})")),
            2 => (one, a()).prop_map(|(f, a)| format!("{f}({a})")),
            2 => (two, a(), a()).prop_map(|(f, a, b)| format!("{f}({a}, {b})")),
            1 => ("length|numbytes", b()).prop_map(|(f, a)| format!("{f}({a})")),
            1 => (b(), b()).prop_map(|(a, b)| format!("indexof({a}, {b})")),
            1 => (self.any(), "Int|Double|Decimal").prop_map(|(a, to)| format!("CAST({a} AS {to})")),
            2 => self.choice(a()),
        ]
        .boxed()
    }

    fn more_texts(&self, dialect: Dialect) -> BoxedStrategy<String> {
        let (a, n) = (|| self.text(), || self.number());
        let pattern = || prop::sample::select(vec!["'[a-z]+'", "'(o)(k)?'", "'('", "'^.$'", "'(?=i)id'", "c"]);
        let aws = prop_oneof![
            3 => (a(), self.any()).prop_map(|(a, b)| format!("({a} + {b})")),
            1 => (self.any(), a()).prop_map(|(a, b)| format!("({a} + {b})")),
            2 => prop::collection::vec(self.any(), 0..4).prop_map(|all| format!("concat({})", all.join(", "))),
            2 => ("lower|upper|trim|ltrim|rtrim|md5|sha256", a()).prop_map(|(f, a)| format!("{f}({a})")),
            1 => (a(), n()).prop_map(|(a, n)| format!("substring({a}, {n})")),
            2 => (a(), "[0-9]|-1|1\\.7", "[0-9]|'3'").prop_map(|(a, m, n)| format!("substring({a}, {m}, {n})")),
            1 => (a(), a(), a()).prop_map(|(a, b, c)| format!("replace({a}, {b}, {c})")),
            1 => ("lpad|rpad", a(), n()).prop_map(|(f, a, n)| format!("{f}({a}, {n})")),
            1 => (a(), pattern()).prop_map(|(a, p)| format!("regexp_substr({a}, {p})")),
            1 => (a(), pattern()).prop_map(|(a, p)| format!("regexp_replace({a}, {p}, '<$1>')")),
            1 => (self.any(), "String|Varchar").prop_map(|(a, to)| format!("CAST({a} AS {to})")),
            1 => n().prop_map(|n| format!("parse_time('yyyy-MM-dd', {n})")),
            1 => n().prop_map(|n| format!("chr({n})")),
            2 => self.choice(a()),
        ];
        if dialect != Dialect::Native {
            return aws.boxed();
        }
        prop_oneof![
            4 => aws,
            1 => (self.any(), self.any()).prop_map(|(a, b)| format!("({a} || {b})")),
        ]
        .boxed()
    }

    fn more_booleans(&self, dialect: Dialect) -> BoxedStrategy<String> {
        let (a, n, t) = (|| self.any(), || self.number(), || self.text());
        let aws = prop_oneof![
            4 => (n(), "=|<>|<|<=|>|>=", n()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            2 => (t(), "=|<>", t()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            1 => (a(), "=|<>|<", a()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            3 => (self.boolean(), "AND|OR", self.boolean()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            1 => self.boolean().prop_map(|a| format!("(NOT {a})")),
            2 => ("isnull|isundefined", a()).prop_map(|(f, a)| format!("{f}({a})")),
            2 => ("startswith|endswith|regexp_matches", t(), t()).prop_map(|(f, a, b)| format!("{f}({a}, {b})")),
            1 => a().prop_map(|a| format!("CAST({a} AS Boolean)")),
            1 => a().prop_map(|a| format!("({a} IN ['ok', 1, 2.50, NULL, true])")),
            1 => self.choice(self.boolean()),
        ];
        if dialect != Dialect::Native {
            return aws.boxed();
        }
        let not = || prop::sample::select(vec!["", "NOT "]);
        prop_oneof![
            3 => aws,
            1 => (a(), not()).prop_map(|(a, not)| format!("({a} IS {not}NULL)")),
            1 => (a(), not(), a()).prop_map(|(a, not, b)| format!("({a} IS {not}DISTINCT FROM {b})")),
            1 => (a(), not(), "'[o%_k12.]{0,4}'").prop_map(|(a, not, p)| format!("({a} {not}LIKE {p})")),
            1 => (a(), not(), a(), a()).prop_map(|(a, not, b, c)| format!("({a} {not}IN ({b}, 'ok', {c}))")),
            1 => (n(), not(), n(), n()).prop_map(|(a, not, b, c)| format!("({a} {not}BETWEEN {b} AND {c})")),
        ]
        .boxed()
    }

    /// CASE and its relatives.
    fn choice(&self, of: BoxedStrategy<String>) -> BoxedStrategy<String> {
        let (a, c) = (|| of.clone(), || self.boolean());
        prop_oneof![
            2 => (c(), a(), a()).prop_map(|(c, a, b)| format!("CASE WHEN {c} THEN {a} ELSE {b} END")),
            1 => (c(), a(), c(), a()).prop_map(|(c, a, d, b)| format!("CASE WHEN {c} THEN {a} WHEN {d} THEN {b} END")),
            2 => (self.any(), self.any(), a(), a())
                .prop_map(|(v, w, a, b)| format!("CASE {v} WHEN {w} THEN {a} WHEN 'ok' THEN {b} ELSE NULL END")),
            1 => (self.any(), a()).prop_map(|(a, b)| format!("get_or_default({a}, {b})")),
            1 => (self.any(), a()).prop_map(|(a, b)| format!("coalesce({a}, {b})")),
        ]
        .boxed()
    }
}

pub(in crate::program) fn expression(dialect: Dialect) -> BoxedStrategy<String> {
    Expressions::new(3, dialect).any()
}

pub(in crate::program) fn dialects() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::Aws2016), Just(Dialect::Aws2015), Just(Dialect::Native)]
}

/// A dialect, two expressions of it and a condition.
fn expressions() -> impl Strategy<Value = (Dialect, String, String, Option<String>)> {
    dialects().prop_flat_map(|dialect| {
        let condition = proptest::option::of(Expressions::new(3, dialect).booleans);
        (Just(dialect), expression(dialect), expression(dialect), condition)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_rule_over_any_payloads(
        (dialect, first, second, condition) in expressions(),
        star in 0..4,
        into_sink in any::<bool>(),
        payloads in payloads(),
        batch in 1..70usize,
    ) {
        let condition = condition.map(|c| format!(" WHERE {c}")).unwrap_or_default();
        let sql = match star {
            0 => format!("SELECT *, {first} AS r, {second} AS c FROM 'farm/#'{condition}"),
            1 => format!("SELECT * FROM 'farm/#'{condition}"),
            _ => format!("SELECT {first} AS r, {second} AS s, a FROM 'farm/#'{condition}"),
        };
        // What is no statement in a dialect is none of our business here.
        if parse_statement(&sql, dialect).is_ok() {
            // `*` is only in columns where columns are wanted.
            let into_sink = into_sink || star == 0;
            let rules = [rule(&sql, dialect, &["x/${a}/${topic(2)}/${c}"], into_sink)];
            check(&rules, &payloads.0, batch);
        }
    }

    #[test]
    fn several_rules_share_a_batch(
        first in expression(Dialect::Aws2016),
        second in expression(Dialect::Aws2015),
        payloads in payloads(),
    ) {
        prop_assume!(parse_expr(&second, Dialect::Aws2015).is_ok() && parse_expr(&first, Dialect::Aws2016).is_ok());
        let rules = [
            rule(&format!("SELECT a + 1 AS n, {first} AS r FROM 'farm/#' WHERE b > 5"), Dialect::Aws2016, &[], true),
            rule("SELECT * FROM 'farm/#'", Dialect::Native, &["t/${b}"], true),
            rule(&format!("SELECT o.x AS x, {second} AS r FROM 'farm/#'"), Dialect::Aws2015, &[], false),
            rule("SELECT newuuid() AS id, a FROM 'farm/#' WHERE a > 1.5", Dialect::Aws2016, &["${newuuid()}"], false),
        ];
        check(&rules, &payloads.0, 25);
    }
}

#[test]
fn what_is_generated_is_mostly_a_statement() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let strategy = expressions();
    let is_statement = |_: &usize| {
        let (dialect, first, second, _) = strategy.new_tree(&mut runner).unwrap().current();
        parse_statement(&format!("SELECT {first} AS r, {second} AS s FROM 'x'"), dialect).is_ok()
    };
    assert!((0..200).filter(is_statement).count() > 150);
}
