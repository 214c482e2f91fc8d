//! The path of live messages: rules compiled to programs over columns, as the server runs them.
//!
//! A message is evaluated several times in a row, so that its shape is learned on the way: the first copy goes through
//! the general scanner, the last through the learned shape. All must give the same.

use std::sync::Arc;

use super::Evaluate;
use super::case::{Given, Stub};
use super::outcome::{Outcome, Row};
use crate::eval::Externals;
use crate::message::Message;
use crate::program::{Answers, Calling, Face, Program, RuleRows};
use crate::rule::{Action, Rule, Target};

/// As often is a message evaluated.
const COPIES: usize = 5;

/// Evaluates by [`Program`].
#[derive(Clone, Copy, Debug)]
pub struct Live;

impl Evaluate for Live {
    fn evaluate(&self, rule: &Arc<Rule>, given: &Given, stubs: &[Stub]) -> Outcome {
        let row = several_times(rule, given, stubs);
        // A rule's rows are made in another way when they go where columns are wanted.
        let into_columns = several_times(&with_sink(rule), given, stubs);
        match (&row, &into_columns) {
            (Outcome::Rows(a), Outcome::Rows(b))
                if !a.iter().map(|row| &row.payload).eq(b.iter().map(|row| &row.payload)) =>
            {
                Outcome::Failed(format!("a defect of Hedgerow: into a topic goes {row}, into a sink {into_columns}"))
            }
            _ => row,
        }
    }
}

fn several_times(rule: &Arc<Rule>, given: &Given, stubs: &[Stub]) -> Outcome {
    let mut out = Vec::new();
    match Calling::new(rule) {
        Some(calling) => out = asked(&calling, &[given.message(); COPIES], stubs),
        None => Program::new(std::slice::from_ref(rule)).evaluate(&[given.message(); COPIES], &mut out),
    }
    let first = outcome(rule, 0, &out, 0);
    for copy in 1..COPIES {
        let later = outcome(rule, 0, &out, copy as u32);
        if later != first {
            return Outcome::Failed(format!("a defect of Hedgerow: the same message gave {first}, and then {later}"));
        }
    }
    first
}

/// The rows of a rule that asks other systems, once the stubs have answered what it asks.
fn asked(calling: &Calling, messages: &[Message<'_>], stubs: &[Stub]) -> Vec<RuleRows> {
    let mut answers = vec![Answers::default(); messages.len()];
    loop {
        let evaluated = calling.evaluate(messages, &answers);
        if evaluated.requests.is_empty() {
            return evaluated.rows;
        }
        for (message, request) in evaluated.requests {
            let answer = stubs.call(&request.function, &request.args);
            if let Some(of_message) = answers.get_mut(message as usize) {
                of_message.add(request, answer);
            }
        }
    }
}

/// The rule with one more action, into a sink.
fn with_sink(rule: &Arc<Rule>) -> Arc<Rule> {
    let mut rule = Rule::clone(rule);
    let span = crate::ast::Span::default();
    rule.actions.push(Action { kind: "into".into(), target: Target::Named("sink".into()), span });
    Arc::new(rule)
}

/// What a program's rows are for one message and rule.
pub(super) fn outcome(rule: &Rule, number: usize, out: &[RuleRows], message: u32) -> Outcome {
    // Of a rule with AFTER, the rows that would wait for their deadline.
    let of_rule = || out.iter().filter(|rows| rows.rule == number && rows.face == Face::Rows);
    let found = of_rule().find_map(|part| Some((&part.rows, part.rows.messages.binary_search(&message).ok()?)));
    let failure = || {
        let rejects = of_rule().flat_map(|rows| &rows.rejects).filter(|reject| reject.message == message);
        // A payload that is no JSON is told of and goes its way.
        rejects.map(|reject| reject.reason.clone()).find(|reason| !is_about_payload(reason))
    };
    let Some((rows, at)) = found else {
        return failure().map_or(Outcome::Rows(Vec::new()), Outcome::Failed);
    };
    let texts: Option<Vec<String>> = rows.templates.iter().map(|texts| texts.get(at).map(str::to_owned)).collect();
    match texts {
        Some(texts) => Outcome::Rows(vec![Row::new(rule, rows.json(at).into_owned(), texts)]),
        None => Outcome::Failed(failure().unwrap_or_else(|| "a template failed".to_owned())),
    }
}

fn is_about_payload(reason: &str) -> bool {
    reason.starts_with("payload is not JSON") || reason.starts_with("the payload has more than")
}
