//! How a rule runs, for people: what it reads, and for a sample message which of its expressions run on columns, by
//! which plan, and which row by row, and why.

use std::collections::HashMap;
use std::sync::Arc;

use super::paths::{exprs, visit_paths};
use super::{Program, RuleProgram};
use crate::ast::{BinaryOp, Expr, ExprKind, Items, TemplatePart};
use crate::lower::{Batch, Cache, Resolver, TermSet};
use crate::message::Message;
use crate::parse::print_expr;
use crate::rule::Rule;
use crate::shred::{Paths, Shredder, SlotKind};

/// How a rule runs for messages like a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Why the whole rule runs message by message, if it does.
    pub by_message: Option<String>,
    /// The paths that it reads, as written, and the kind of each in the sample: the signature.
    pub signature: Vec<(String, &'static str)>,
    /// Its conditions, its members, and the expressions of its templates.
    pub parts: Vec<Explained>,
}

/// One expression of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// `WHERE`, a member's name, or a template's place.
    pub place: String,
    /// The expression as text.
    pub expression: String,
    /// How it is computed on columns: a DataFusion physical expression. The error is why it runs row by row.
    pub plan: Result<String, String>,
}

/// Explains a rule by a sample.
pub fn explain(rule: &Arc<Rule>, sample: &Message<'_>) -> Explanation {
    let parts = parts(rule);
    let variables: HashMap<Arc<str>, &Expr> =
        rule.select.set.iter().map(|(name, expr)| (Arc::clone(name), expr)).collect();
    let mut paths = Paths::new();
    let mut read: Vec<(String, u16)> = Vec::new();
    for expr in exprs(rule) {
        visit_paths(expr, &mut |path| {
            if let Some(slot) = paths.add(&path)
                && read.iter().all(|(_, known)| *known != slot)
            {
                read.push((path.join("."), slot));
            }
        });
    }
    let mut resolver = Resolver::new(rule.dialect, variables, &mut paths);
    let mut sources = Vec::new();
    let terms = parts.iter().map(|(_, expr)| resolver.resolve(expr, &mut sources)).collect();
    let mut terms = TermSet::new(terms, sources);
    let mut shredder = Shredder::new(paths.clone(), false);
    shredder.shred(std::iter::once(sample.payload));
    let (messages, cache) = (std::slice::from_ref(sample), Cache::default());
    let batch = Batch { shredder: &shredder, messages, dialect: rule.dialect, cache: &cache };
    let plans = terms.explain(&paths, &batch, &[0]);
    let part = |((place, expr), plan): ((String, &Expr), Result<String, String>)| Explained {
        place,
        expression: print_expr(expr, rule.dialect),
        plan,
    };
    let groups = shredder.groups();
    let kind = |slot: u16| groups.kind(usize::from(slot), 1).map_or("missing", kind_name);
    Explanation {
        by_message: by_message(rule),
        signature: read.into_iter().map(|(path, slot)| (path, kind(slot))).collect(),
        parts: parts.into_iter().zip(plans).map(part).collect(),
    }
}

fn by_message(rule: &Arc<Rule>) -> Option<String> {
    let program = Program::new(std::slice::from_ref(rule));
    matches!(program.rules.first(), Some(RuleProgram::Reference(_))).then(|| {
        "it selects a bare value or nested members, or calls what gives another result each time; \
         such rules run message by message"
            .to_owned()
    })
}

fn kind_name(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Missing => "missing",
        SlotKind::Number => "number",
        SlotKind::Boolean => "boolean",
        SlotKind::String => "text",
        SlotKind::Array => "array",
        SlotKind::Object => "object",
        SlotKind::Dynamic => "a number of more than 18 digits",
    }
}

/// The expressions of a rule and where they stand.
fn parts(rule: &Rule) -> Vec<(String, &Expr)> {
    let mut parts = Vec::new();
    rule.select.filter.iter().for_each(|filter| conditions(filter, "WHERE", &mut parts));
    match (&rule.windowed, &rule.select.items) {
        (Some(windowed), _) => {
            parts.extend(windowed.keys.iter().map(|key| ("GROUP BY".to_owned(), key)));
            let arguments = windowed.aggregates.iter().filter_map(|aggregate| aggregate.argument.as_ref());
            parts.extend(arguments.map(|argument| ("aggregate".to_owned(), argument)));
            return parts;
        }
        (None, Items::Value(expr)) => parts.push(("VALUE".to_owned(), expr)),
        (None, Items::List(items)) => {
            let named = items.iter().filter_map(|item| Some((item.alias.as_ref()?.join("."), &item.expr)));
            parts.extend(named);
        }
    }
    if let Some(absence) = &rule.select.absence {
        parts.extend(absence.after.expr().map(|expr| ("AFTER".to_owned(), expr)));
        conditions(&absence.unless, "UNLESS", &mut parts);
        parts.extend(absence.keys.iter().map(|key| ("PARTITION BY".to_owned(), key)));
    }
    for (number, template) in rule.templates().into_iter().enumerate() {
        for part in &template.parts {
            if let TemplatePart::Expr(expr) = part {
                parts.push((format!("template {}", number + 1), expr));
            }
        }
    }
    parts
}

/// The sides of an AND.
fn conditions<'e>(filter: &'e Expr, place: &str, parts: &mut Vec<(String, &'e Expr)>) {
    match &filter.kind {
        ExprKind::Binary { op: BinaryOp::And, left, right } => {
            conditions(left, place, parts);
            conditions(right, place, parts);
        }
        _ => parts.push((place.to_owned(), filter)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::Dialect;
    use crate::program::tests::rule;

    fn row_wise(sql: &str, dialect: Dialect, payload: &str) -> Vec<(String, String)> {
        let rule = rule(sql, dialect, &["alerts/${topic(3)}/${a}"], true);
        let sample = Message::new("farm/1/north", payload.as_bytes(), 0);
        let explanation = explain(&rule, &sample);
        assert_eq!(explanation.by_message, None, "{sql}");
        let parts = explanation.parts.into_iter();
        parts.filter_map(|part| Some((part.expression, part.plan.err()?))).collect()
    }

    #[test]
    fn what_telemetry_rules_use_runs_on_columns() {
        let payload = r#"{"a":21.5,"b":7,"c":"Ok","flag":true,"n":null,"o":{"x":1},"t":"12.5"}"#;
        for items in [
            "a * 1.8 + 32, a / 3, b % 4, -a, a - t, t > 5, a + 'C', 'x' + b",
            "(a - 32) * 5 / 9, floor(a), ceil(a), round(a * 10) / 10, abs(a), sqrt(a), power(a, 2), mod(b, 4), trunc(a, 1)",
            "concat(c, '-', a, flag), lower(c), upper(c), trim(c), substring(c, 0, 1), replace(c, 'O', '0'), length(c)",
            "startswith(c, 'O'), endswith(c, 'k'), indexof(c, 'k'), regexp_matches(c, '^O'), regexp_substr(c, 'k')",
            "topic(), topic(2), clientid(), timestamp(), upper(topic(3)), concat(topic(2), '/', clientid()), principal()",
            "CAST(a AS Int), CAST(a AS String), CAST(c AS Boolean), CAST(flag AS Int), CAST(t AS Double)",
            "CASE WHEN a > 20 THEN 'hot' ELSE 'ok' END, CASE c WHEN 'Ok' THEN 1 WHEN 'no' THEN 2 END, CASE b WHEN 7 THEN a END",
            "nanvl(n, 0), get_or_default(missing, 'none'), isNull(n), isUndefined(o.y), n = 1, isNull(a + b)",
            "parse_time('yyyy-MM-dd', timestamp(), 'UTC'), time_to_epoch(c, 'yyyy'), md5(c), sha256(topic())",
            "a IN [1, 2, 21.5], c IN ['Ok', 'warn'], b = c, flag AND a > 3, NOT flag",
        ] {
            let items = named(items);
            let sql = format!("SELECT {items} FROM 'farm/#' WHERE a > 20 AND c <> 'x' OR t = '1'");
            assert_eq!(row_wise(&sql, Dialect::Aws2016, payload), []);
        }
        let sql = "SELECT a || c AS j, COALESCE(n, missing, a) AS k, a / 3 AS d FROM 'farm/#' \
                   WHERE c LIKE 'O%' AND a BETWEEN 1 AND 30 AND b IN (7, 8) AND n IS NULL AND a IS DISTINCT FROM b";
        assert_eq!(row_wise(sql, Dialect::Native, payload), []);
    }

    /// Names for items: `AS` is only in the way of a list of examples.
    fn named(items: &str) -> String {
        let mut depth = 0;
        let mut number = 0;
        let mut named = String::new();
        for character in items.chars() {
            match character {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                ',' if depth == 0 => {
                    named.push_str(&format!(" AS m{number}"));
                    number += 1;
                }
                _ => {}
            }
            named.push(character);
        }
        named + " AS last"
    }

    #[test]
    fn what_runs_row_by_row_is_told_with_a_reason() {
        let payload = r#"{"a":21.5,"l":[1,2],"o":{"x":1}}"#;
        let sql = "SELECT l[0] AS first, a AS a, (SELECT VALUE x FROM o) AS x, concat(l, 'x') AS j FROM 'farm/#'";
        let reasons: Vec<_> = row_wise(sql, Dialect::Aws2016, payload).into_iter().map(|(_, why)| why).collect();
        assert_eq!(reasons, ["an element of an array", "a nested query", "the text of an array or object"]);
    }

    #[test]
    fn plans_name_what_they_read() {
        let rule = rule("SELECT a * 1.8 + 32 AS f FROM 'farm/#' WHERE c = 'x'", Dialect::Aws2016, &[], true);
        let explanation = explain(&rule, &Message::new("farm/1", br#"{"a":21.5,"c":"x"}"#, 0));
        assert_eq!(explanation.signature, [("c".to_owned(), "text"), ("a".to_owned(), "number")]);
        let plans: Vec<_> = explanation.parts.iter().map(|part| part.plan.as_deref().unwrap()).collect();
        assert!(plans[0].starts_with("c@0 = ") && plans[1].contains("a@1 * 1.8"), "{plans:?}");
    }
}
