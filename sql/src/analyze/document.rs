//! AWS rule documents: the bare payload, `{"ruleName": …, "topicRulePayload": …}` as the API takes it, and
//! `{"rule": …}` as it gives it back.
//!
//! Spans of the rule and of all diagnostics are those of the document, also for what stands inside its texts.

use std::sync::Arc;

use crate::ast::{Dialect, Select, Span};
use crate::diagnostic::Diagnostic;
use crate::parse::{Json, JsonKind, read_json, select_with_diagnostics};
use crate::rule::{Rule, Statement};
use crate::suggest;
use crate::topic::TopicFilter;

use super::actions::{Reader, action};
use super::file::{Reading, check_length};
use super::rule::finish;

/// The rule of an AWS document, checked; or all that is wrong with it. A document without `ruleName` is called by the
/// file's name.
pub fn parse_document(file_stem: &str, text: &str) -> Result<Rule, Vec<Diagnostic>> {
    let reading = read_document(file_stem, text);
    let sound = reading.is_sound();
    match reading.statements.into_iter().next() {
        Some((Statement::Rule(rule), _)) if sound => Ok(rule),
        _ => Err(reading.diagnostics),
    }
}

/// Reads an AWS document.
pub fn read_document(file_stem: &str, text: &str) -> Reading {
    let mut diagnostics = Vec::new();
    let json = read_json(text, &mut diagnostics);
    let mut reader = Reader { out: diagnostics };
    let rule = document(file_stem, &json, &mut reader);
    let statements: Vec<_> = rule.into_iter().map(|rule| (Statement::Rule(rule), json.span)).collect();
    statements.iter().for_each(|(statement, span)| check_length(statement, *span, &mut reader.out));
    let mut reading = Reading { statements, diagnostics: reader.out };
    reading.sort();
    reading
}

/// As many actions AWS allows a rule.
const MAX_ACTIONS: usize = 10;

const PAYLOAD: [&str; 6] = ["sql", "awsIotSqlVersion", "ruleDisabled", "description", "actions", "errorAction"];

fn document(stem: &str, json: &Json, reader: &mut Reader) -> Option<Rule> {
    let JsonKind::Object(members) = &json.kind else {
        if json.kind != JsonKind::Bad {
            let message = format!("a rule document is an object, not {}", json.kind_name());
            reader.error("document", json.span, message, None);
        }
        return None;
    };
    let find = |name: &str| members.iter().find(|member| member.name == name);
    let mut name_member = find("ruleName");
    let payload = if let Some(payload) = find("topicRulePayload") {
        reader.unknown(members, &["ruleName", "topicRulePayload", "tags"], "the document");
        &payload.value
    } else if let Some(rule) = find("rule") {
        reader.unknown(members, &["rule", "ruleArn", "ruleName"], "the document");
        if let JsonKind::Object(inner) = &rule.value.kind {
            name_member = inner.iter().find(|member| member.name == "ruleName").or(name_member);
        }
        &rule.value
    } else {
        json
    };
    let name: Arc<str> = match name_member.map(|member| (&member.value.kind, member.value.span)) {
        Some((JsonKind::String(text), span)) => {
            if text.text.is_empty() || !text.text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                reader.error("name", span, "a rule's name has letters, digits and `_`".into(), None);
            }
            Arc::from(text.text.as_str())
        }
        Some((_, span)) => {
            reader.error("document", span, "ruleName is a text".into(), None);
            Arc::from(stem)
        }
        None => Arc::from(stem),
    };
    rule(name, payload, reader)
}

fn rule(name: Arc<str>, payload: &Json, reader: &mut Reader) -> Option<Rule> {
    let JsonKind::Object(members) = &payload.kind else {
        if payload.kind != JsonKind::Bad {
            let message = format!("the rule is an object, not {}", payload.kind_name());
            reader.error("document", payload.span, message, None);
        }
        return None;
    };
    let allowed: Vec<&str> = PAYLOAD.iter().copied().chain(["ruleName", "createdAt"]).collect();
    reader.unknown(members, &allowed, "a rule");
    let find = |name: &str| members.iter().find(|member| member.name == name).map(|member| &member.value);
    let dialect = find("awsIotSqlVersion").map_or(Dialect::Aws2015, |value| version(value, reader));
    let enabled = match find("ruleDisabled") {
        None => true,
        Some(Json { kind: JsonKind::Bool(disabled), .. }) => !disabled,
        Some(other) => {
            reader.expected("ruleDisabled", "true or false", other);
            true
        }
    };
    if let Some(other) = find("description").filter(|value| !matches!(value.kind, JsonKind::String(_))) {
        reader.expected("description", "a text", other);
    }
    let head = Span { start: payload.span.start, end: payload.span.start + 1 };
    let select = match find("sql") {
        Some(Json { kind: JsonKind::String(extract), .. }) => {
            let (select, found) = select_with_diagnostics(&extract.text, dialect);
            reader.out.extend(found.into_iter().map(|diagnostic| diagnostic.mapped(|span| extract.span(span))));
            select.map(|mut select| {
                select.map_spans(&|span| extract.span(span));
                select
            })
        }
        Some(other) => {
            reader.expected("sql", "a text", other);
            None
        }
        None => {
            let help = "add it: \"sql\": \"SELECT * FROM 'some/topic'\"".to_owned();
            reader.error("document", head, "the rule has no \"sql\"".into(), Some(help));
            None
        }
    };
    let variables: Vec<Arc<str>> =
        select.iter().flat_map(|select: &Select| select.set.iter().map(|(name, _)| name.clone())).collect();
    let filter = select.as_ref().and_then(|select| TopicFilter::new(&select.from.as_ref()?.0).ok());
    let mut actions = Vec::new();
    match find("actions") {
        Some(Json { kind: JsonKind::Array(items), .. }) => {
            if items.is_empty() {
                reader.warning("no-actions", head, "the rule has no actions: its rows go nowhere");
            }
            actions.extend(items.iter().filter_map(|item| action(item, dialect, filter.as_ref(), &variables, reader)));
            if let Some(surplus) = items.get(MAX_ACTIONS) {
                let message = format!("a rule has at most {MAX_ACTIONS} actions, and this one {}", items.len());
                reader.error("action", surplus.span, message, Some("make two rules of it".into()));
            }
        }
        Some(other) => reader.expected("actions", "an array of actions", other),
        None => {
            let help = "add them: \"actions\": [{\"republish\": {\"topic\": \"…\"}}]".to_owned();
            reader.error("document", head, "the rule has no \"actions\"".into(), Some(help));
        }
    }
    let error_action =
        find("errorAction").and_then(|value| action(value, dialect, filter.as_ref(), &variables, reader));
    let select = select?;
    let text = canonical(&name, payload);
    let mut rule = Rule { name, dialect, text, enabled, select, filter, windowed: None, actions, error_action };
    let sound = !reader.out.iter().any(Diagnostic::is_error);
    finish(&mut rule, sound, &mut reader.out);
    Some(rule)
}

fn version(value: &Json, reader: &mut Reader) -> Dialect {
    const VERSIONS: [&str; 3] = ["2016-03-23", "2015-10-08", "beta"];
    let JsonKind::String(text) = &value.kind else {
        reader.expected("awsIotSqlVersion", "a text", value);
        return Dialect::Aws2016;
    };
    match text.text.as_str() {
        "2015-10-08" => Dialect::Aws2015,
        "2016-03-23" | "beta" => Dialect::Aws2016,
        other => {
            let help = suggest::did_you_mean(other, VERSIONS.iter().copied())
                .unwrap_or_else(|| format!("versions are {}", VERSIONS.join(", ")));
            let message = format!("there is no SQL version `{other}`");
            reader.error("version", value.span, message, Some(help));
            Dialect::Aws2016
        }
    }
}

/// The document in one spelling: as the API takes it, compact, members in their order.
fn canonical(name: &str, payload: &Json) -> Arc<str> {
    let mut out = format!("{{\"ruleName\":{},\"topicRulePayload\":", serde_json::Value::from(name));
    let mut payload = payload.clone();
    if let JsonKind::Object(members) = &mut payload.kind {
        members.retain(|member| member.name != "ruleName" && member.name != "createdAt");
    }
    payload.write(&mut out);
    out.push('}');
    Arc::from(out)
}
