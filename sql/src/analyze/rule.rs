//! The checks of one rule, and the last step of making it: taking a windowed rule apart.

use std::collections::HashMap;

use crate::ast::{Dialect, Expr, ExprKind, Items, Select, Span, Template, TemplatePart};
use crate::diagnostic::Diagnostic;
use crate::rule::{Rule, Target};
use crate::topic::TopicFilter;

use super::calls::{self, External, IN_ERROR_ACTION, IN_WINDOW, NO_WINDOW, Place};
use super::{absence, doubts, window};

/// Checks a rule, and takes it apart if it is windowed and nothing is wrong. `sound`: its text was without mistakes.
pub(super) fn finish(rule: &mut Rule, sound: bool, out: &mut Vec<Diagnostic>) {
    finish_with(rule, sound, false, out);
}

/// The same; `loose`, for tests: functions that ask other systems are allowed, and a topic stands for any parameter.
pub(super) fn finish_with(rule: &mut Rule, sound: bool, loose: bool, out: &mut Vec<Diagnostic>) {
    let before = out.len();
    let external = match (rule.select.window.is_some(), loose) {
        (true, _) => IN_WINDOW,
        (false, true) => External::Stubbed,
        (false, false) => External::Allowed,
    };
    check_statement(&rule.select, rule.dialect, external, out);
    if !loose {
        check_secrets(rule, out);
    }
    let place = Place {
        dialect: rule.dialect,
        filter: rule.filter.as_ref(),
        no_aggregates: if rule.select.window.is_some() { None } else { Some("templates have one message each") },
        external,
    };
    let actions = rule.actions.iter().map(|action| (action, place));
    let error_action = rule.error_action.iter().map(|action| (action, Place { external: IN_ERROR_ACTION, ..place }));
    for (action, place) in actions.chain(error_action) {
        for template in action.templates() {
            template.exprs().for_each(|expr| calls::check(expr, place, out));
            template.exprs().for_each(|expr| doubts::expr(expr, rule.dialect, out));
        }
        if let (Target::Topic { topic, .. }, false) = (&action.target, loose) {
            check_topic(topic, action.span, out);
        }
    }
    absence::check_pure(rule, out);
    if !loose {
        doubts::unused_variables(rule, out);
    }
    if sound && rule.select.window.is_some() && !out.iter().skip(before).any(Diagnostic::is_error) {
        window::take_apart(rule, out);
    }
}

/// The checks of a statement; what asks other systems is allowed (tests bring stubs).
pub(super) fn check_select(select: &Select, dialect: Dialect, out: &mut Vec<Diagnostic>) {
    check_statement(select, dialect, External::Stubbed, out);
}

fn check_statement(select: &Select, dialect: Dialect, external: External, out: &mut Vec<Diagnostic>) {
    let filter = select.from.as_ref().and_then(|(text, _)| TopicFilter::new(text).ok());
    let windowed = select.window.is_some();
    let in_items = if windowed { None } else { Some(NO_WINDOW) };
    let place = Place { dialect, filter: filter.as_ref(), no_aggregates: in_items, external };
    let per_message = |reason| Place { no_aggregates: Some(reason), ..place };
    for (_, expr) in &select.set {
        calls::check(expr, per_message("SET is computed for each message"), out);
    }
    select.items.exprs().for_each(|expr| calls::check(expr, place, out));
    if let Some(filter) = &select.filter {
        let reason = "WHERE judges each message before the window; use HAVING";
        calls::check(filter, per_message(reason), out);
    }
    for key in &select.group_by {
        calls::check(key, per_message("GROUP BY names what a message belongs to"), out);
    }
    if let Some(having) = &select.having {
        calls::check(having, place, out);
    }
    absence::check(select, place, out);
    check_grouping(select, out);
    check_once(select, out);
    if let Items::List(_) = &select.items {
        check_names(select, out);
    }
    if let Some((text, span)) = &select.from {
        check_filter(text, *span, out);
    }
    doubts::statement(select, dialect, out);
}

fn check_grouping(select: &Select, out: &mut Vec<Diagnostic>) {
    if select.window.is_some() || (select.absence.is_some() && !select.group_by.is_empty()) {
        return;
    }
    if let (Some(first), Some(last)) = (select.group_by.first(), select.group_by.last()) {
        let span = Span { start: first.span.start, end: last.span.end };
        let help = "add a window: GROUP BY …, tumble(INTERVAL '10 seconds'); for the newest row of each key write \
                    INTO a table with that key";
        out.push(Diagnostic::error("group-by", span, "GROUP BY without a window would never end").help(help));
    } else if let Some(having) = &select.having {
        let help = "use WHERE; HAVING judges the rows of a window";
        out.push(Diagnostic::error("having", having.span, "HAVING needs GROUP BY").help(help));
    }
}

/// A secret in the rule's rows is a secret no more.
fn check_secrets(rule: &Rule, out: &mut Vec<Diagnostic>) {
    fn find(expr: &Expr, found: &mut Vec<Span>) {
        match &expr.kind {
            ExprKind::Call { function, .. } if &**function == "get_secret" => found.push(expr.span),
            _ => expr.for_each_child(|child| find(child, found)),
        }
    }
    let mut found = Vec::new();
    rule.select.items.exprs().for_each(|expr| find(expr, &mut found));
    for span in found {
        let message = "the rows of this rule may hold the secret, and everybody who reads them reads it";
        let help = "use get_secret in the parameters of an action, or in WHERE";
        out.push(Diagnostic::warning("secret", span, message).help(help));
    }
}

/// `get_dynamodb` may be called once in a statement.
fn check_once(select: &Select, out: &mut Vec<Diagnostic>) {
    fn collect(expr: &Expr, found: &mut Vec<Span>) {
        if matches!(&expr.kind, ExprKind::Call { function, .. } if &**function == "get_dynamodb") {
            found.push(expr.span);
        }
        expr.for_each_child(|child| collect(child, found));
    }
    let mut found = Vec::new();
    select.exprs().for_each(|expr| collect(expr, &mut found));
    if let [first, second, ..] = found.as_slice() {
        let message = "get_dynamodb can be called once in a statement";
        let help = "call it in SET: SET @item = get_dynamodb(…) SELECT @item.a, @item.b …";
        out.push(Diagnostic::error("once", *second, message).help(help).label(*first, "the first call"));
    }
}

/// Two items of one name: the later one wins, which is seldom meant. (After `*` it is: `SELECT *, 'x' AS color`.)
fn check_names(select: &Select, out: &mut Vec<Diagnostic>) {
    let Items::List(items) = &select.items else { return };
    let mut seen = HashMap::new();
    for item in items {
        let Some(alias) = &item.alias else { continue };
        if let Some(earlier) = seen.insert(alias, item.expr.span) {
            let message = format!("`{}` is selected twice; the later one wins", alias.join("."));
            let help = "name one of them with AS";
            let diagnostic = Diagnostic::warning("duplicate-name", item.expr.span, message).help(help);
            out.push(diagnostic.label(earlier, "the earlier one"));
        }
    }
}

/// Filters that are valid but match nothing, or less than was meant.
fn check_filter(filter: &str, span: Span, out: &mut Vec<Diagnostic>) {
    let (message, help) =
        if filter.starts_with('$') && !filter.starts_with("$aws/") && crate::notify::name(filter).is_none() {
            ("this filter matches nothing: clients cannot publish to topics that begin with `$`", None)
        } else if filter.split('/').any(|level| level.trim() != level) {
            ("a level of this filter begins or ends with a blank, and matches only topics that do so as well", None)
        } else if filter.len() > 1 && filter.ends_with('/') {
            let all = format!("for all topics below write '{filter}#'");
            ("this filter matches only topics that end with `/`", Some(all))
        } else if filter.contains("${") {
            ("a topic filter has no `${…}`", Some("use `+` for one level".to_owned()))
        } else {
            return;
        };
    out.push(Diagnostic::warning("topic-filter", span, message).maybe_help(help));
}

/// The parts of a republish topic that are known: no wildcards, and reserved topics only on purpose.
fn check_topic(topic: &Template, span: Span, out: &mut Vec<Diagnostic>) {
    if topic.parts.is_empty() {
        out.push(Diagnostic::error("topic", span, "the topic is empty"));
        return;
    }
    for part in &topic.parts {
        if let TemplatePart::Text(text) = part
            && let Some(wildcard) = text.chars().find(|c| matches!(c, '+' | '#' | '\0'))
        {
            let message = match wildcard {
                '\0' => "a topic cannot hold the character U+0000".to_owned(),
                _ => format!("a topic to publish to cannot hold `{wildcard}`"),
            };
            let help = "take a level of the message's topic with ${topic(2)}";
            out.push(Diagnostic::error("topic", span, message).help(help));
        }
    }
    let Some(TemplatePart::Text(first)) = topic.parts.first() else { return };
    if let Some(reserved) = first.strip_prefix("$$") {
        if reserved.starts_with("aws/things/") && reserved.contains("/jobs/") {
            out.push(Diagnostic::error("topic", span, "rules cannot publish to job topics"));
        }
    } else if first.starts_with('$') {
        let message = "topics that begin with `$` are reserved";
        let help = format!("if that is meant, double the sign: `${first}`");
        out.push(Diagnostic::error("topic", span, message).help(help));
    }
}
