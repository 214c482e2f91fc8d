//! Rules that ask other systems: `aws_lambda`, `get_dynamodb`, `get_secret`, `machinelearning_predict`.
//!
//! Nothing here asks anybody. A message is evaluated with the answers there are; where one is missing, evaluation stops
//! and says what has to be asked. Whoever runs the rule gets the answer and evaluates again, from the beginning: so what
//! a rule gives depends on the message and the answers alone, and not on when they came. Evaluating anew costs little
//! beside a call.

use std::cell::RefCell;
use std::sync::Arc;

use super::RuleRows;
use super::paths::{anywhere, exprs};
use super::reference::Reference;
use crate::ast::{Expr, ExprKind};
use crate::eval::Externals;
use crate::functions::{self, Purity};
use crate::message::Message;
use crate::rule::Rule;
use crate::value::Value;

/// How many calls a rule may make for one message.
const MAX_CALLS: usize = 16;

/// A call to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The function's name.
    pub function: Arc<str>,
    /// Its arguments, as many as it takes, none of them Undefined.
    pub args: Vec<Value>,
}

/// What came of a call: a value, or why there is none, said to the user.
pub type Answer = Result<Value, String>;

/// The answers for one message so far.
#[derive(Clone, Debug, Default)]
pub struct Answers(Vec<(Request, Answer)>);

impl Answers {
    /// Adds one.
    pub fn add(&mut self, request: Request, answer: Answer) {
        self.0.push((request, answer));
    }

    /// The calls that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Request> {
        self.0.iter().filter(|(_, answer)| answer.is_err()).map(|(request, _)| request)
    }

    fn find(&self, function: &str, args: &[Value]) -> Option<&Answer> {
        let asked = |request: &Request| *request.function == *function && request.args == args;
        self.0.iter().find(|(request, _)| asked(request)).map(|(_, answer)| answer)
    }
}

/// A rule that asks other systems.
#[derive(Debug)]
pub struct Calling(Reference);

/// What came of evaluating messages.
#[derive(Debug, Default)]
pub struct Evaluated {
    /// The rows of the messages that need nothing more.
    pub rows: Vec<RuleRows>,
    /// What has to be asked for the others, by their place in the batch, ascending: one call each.
    pub requests: Vec<(u32, Request)>,
    /// In how many of the messages each of [`Calling::paths`] is Undefined.
    pub undefined: Vec<u64>,
}

impl Calling {
    /// The rule, if it is one that asks.
    pub fn new(rule: &Arc<Rule>) -> Option<Self> {
        rule.asks().then(|| Self(Reference::new(Arc::clone(rule))))
    }

    /// The paths that it reads, as written.
    pub fn paths(&self) -> impl Iterator<Item = Arc<str>> {
        self.0.paths().iter().map(|path| path.join(".").into())
    }

    /// Evaluates messages, each with its answers; `answers` is as long as `messages`, or shorter where there are none.
    pub fn evaluate(&self, messages: &[Message<'_>], answers: &[Answers]) -> Evaluated {
        let none = Answers::default();
        let answers = answers.iter().chain(std::iter::repeat(&none));
        let asking: Vec<Asking<'_>> = messages.iter().zip(answers).map(|(_, answers)| Asking::new(answers)).collect();
        let mut told = vec![false; messages.len()];
        let mut evaluated = Evaluated { undefined: vec![0; self.0.paths().len()], ..Evaluated::default() };
        let undefined = &mut evaluated.undefined;
        self.0.evaluate_asking(0, messages, &asking, &mut told, undefined, &mut evaluated.rows);
        let requests = asking.into_iter().enumerate();
        let requests = requests.filter_map(|(number, asking)| Some((number as u32, asking.request.into_inner()?)));
        evaluated.requests = requests.collect();
        evaluated
    }
}

/// The external functions of one message: those that are answered.
pub(super) struct Asking<'a> {
    answers: &'a Answers,
    request: RefCell<Option<Request>>,
}

impl<'a> Asking<'a> {
    fn new(answers: &'a Answers) -> Self {
        Self { answers, request: RefCell::new(None) }
    }

    /// Something has to be asked before there can be a row.
    pub(super) fn is_waiting(&self) -> bool {
        self.request.borrow().is_some()
    }
}

impl Externals for Asking<'_> {
    fn call(&self, function: &str, args: &[Value]) -> Answer {
        if let Some(answer) = self.answers.find(function, args) {
            return answer.clone();
        }
        if self.answers.0.len() >= MAX_CALLS {
            return Err(format!("a rule may make {MAX_CALLS} calls for a message"));
        }
        // What follows may be made of the missing answer, so only the first call counts.
        let request = || Request { function: function.into(), args: args.to_vec() };
        self.request.borrow_mut().get_or_insert_with(request);
        Err("the answer is not there yet".to_owned())
    }
}

impl Rule {
    /// Whether it asks other systems anything: then it runs as [`Calling`], not in a [`super::Program`].
    pub fn asks(&self) -> bool {
        exprs(self).into_iter().any(asks)
    }

    /// The external functions it calls, with their arguments, in the order of its text.
    pub fn calls(&self) -> Vec<Call<'_>> {
        let mut found = Vec::new();
        exprs(self).into_iter().for_each(|expr| collect(expr, &mut found));
        found
    }

    /// The tables it looks up. (Which ones must be plain from the text, see [`crate::analyze`].)
    pub fn lookups(&self) -> impl Iterator<Item = Arc<str>> {
        let lookups = self.calls().into_iter().filter(|call| &**call.function == "get_dynamodb");
        lookups.filter_map(|call| call.text(0).cloned())
    }

    /// Whether a replay may give other rows: it asks somebody whose answers are not in the log.
    pub fn is_impure(&self) -> bool {
        self.calls().iter().any(|call| &**call.function != "get_dynamodb")
    }
}

/// A call in a rule's text.
#[derive(Clone, Copy, Debug)]
pub struct Call<'r> {
    /// The function.
    pub function: &'r Arc<str>,
    /// Its arguments.
    pub args: &'r [Expr],
    /// The whole call.
    pub expr: &'r Expr,
}

impl<'r> Call<'r> {
    /// An argument that is a text in the rule itself.
    pub fn text(&self, index: usize) -> Option<&'r Arc<str>> {
        match &self.args.get(index)?.kind {
            ExprKind::Literal(Value::String(text)) => Some(text),
            _ => None,
        }
    }
}

/// Whether an expression asks other systems.
pub(crate) fn asks(expr: &Expr) -> bool {
    anywhere(expr, &is_call)
}

fn is_call(expr: &Expr) -> bool {
    matches!(&expr.kind, ExprKind::Call { function, .. }
        if functions::lookup(function).is_some_and(|function| function.purity == Purity::External))
}

fn collect<'r>(expr: &'r Expr, found: &mut Vec<Call<'r>>) {
    if let ExprKind::Call { function, args } = &expr.kind
        && is_call(expr)
    {
        found.push(Call { function, args, expr });
    }
    expr.for_each_child(|child| collect(child, found));
}

#[cfg(test)]
#[path = "calling_tests.rs"]
mod tests;
