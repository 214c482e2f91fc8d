//! A statement outside of any file, as tests and tools have it, made a rule: `SELECT …` without CREATE RULE and INTO, or
//! a whole `CREATE RULE …` or AWS document.

use std::sync::Arc;

use crate::ast::{Dialect, Span, Template};
use crate::diagnostic::Diagnostic;
use crate::parse::{self, select_with_diagnostics, template_parts};
use crate::rule::{Action, Rule, Statement, Target};
use crate::topic::TopicFilter;

use super::document::read_document;
use super::rule::finish_with;

/// What such a rule is called.
const NAME: &str = "statement";

/// The rule that a statement says. A bare `SELECT` gets one action if `template` is given: a topic, which stands for any
/// parameter of an action.
/// Functions that ask other systems are allowed: who runs it brings the answers.
///
/// # Errors
/// All that is wrong with it, with spans of the statement; those of the template's mistakes are the whole statement's.
pub fn parse_rule(text: &str, dialect: Dialect, template: Option<&str>) -> Result<Rule, Vec<Diagnostic>> {
    let first = text.trim_start();
    let is_file = dialect == Dialect::Native
        && first.get(.."CREATE".len()).is_some_and(|word| word.eq_ignore_ascii_case("CREATE"));
    if is_file || first.starts_with("--") || first.starts_with("/*") {
        return from_file(text);
    }
    if first.starts_with('{') && dialect != Dialect::Native {
        let reading = read_document(NAME, text);
        return only_rule(reading.into_result()?);
    }
    let (select, mut found) = select_with_diagnostics(text, dialect);
    let Some(select) = select else { return Err(found) };
    let whole = Span { start: 0, end: text.len() };
    let topic = template.map(|template| {
        let variables: Vec<Arc<str>> = select.set.iter().map(|(name, _)| Arc::clone(name)).collect();
        let mut mistakes = Vec::new();
        let mut parts = template_parts(template, dialect, Some(&variables), &mut mistakes);
        found.extend(mistakes.into_iter().map(|mistake| mistake.mapped(|_| whole)));
        parts.map_spans(&|_| whole);
        parts
    });
    let action = |topic: Template| Action {
        kind: "into".into(),
        target: Target::Topic { topic, qos: 0, retain: false, headers: Box::default() },
        span: whole,
    };
    let filter = select.from.as_ref().and_then(|(text, _)| TopicFilter::new(text).ok());
    let mut rule = Rule {
        name: NAME.into(),
        dialect,
        text: text.into(),
        enabled: true,
        select,
        filter,
        windowed: None,
        actions: topic.map(action).into_iter().collect(),
        error_action: None,
    };
    let sound = !found.iter().any(Diagnostic::is_error);
    finish_with(&mut rule, sound, true, &mut found);
    if found.iter().any(Diagnostic::is_error) { Err(found) } else { Ok(rule) }
}

fn from_file(text: &str) -> Result<Rule, Vec<Diagnostic>> {
    only_rule(parse::parse_file(text)?)
}

fn only_rule(statements: Vec<Statement>) -> Result<Rule, Vec<Diagnostic>> {
    let rule = statements.into_iter().find_map(|statement| match statement {
        Statement::Rule(rule) => Some(rule),
        _ => None,
    });
    rule.ok_or_else(|| vec![Diagnostic::error("syntax", Span::default(), "there is no rule in this text")])
}
