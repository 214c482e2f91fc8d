//! The reference path: the scalar evaluator.

use super::Evaluate;
use super::case::{Given, Stub};
use super::outcome::{Outcome, Row};
use crate::ast::Template;
use crate::eval::{self, Failure, Scope};
use crate::rule::Rule;

/// Evaluates by [`crate::eval`].
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

impl Evaluate for Scalar {
    fn evaluate(&self, rule: &std::sync::Arc<Rule>, given: &Given, stubs: &[Stub]) -> Outcome {
        run(rule, given, stubs).unwrap_or_else(|failure| Outcome::Failed(failure.to_string()))
    }
}

fn run(rule: &Rule, given: &Given, stubs: &[Stub]) -> Result<Outcome, Failure> {
    let message = given.message();
    let stubs = Answers(stubs);
    let mut scope = Scope::new(&message, rule.dialect).with_externals(&stubs);
    let Some(body) = eval::run(&rule.select, &mut scope)? else { return Ok(Outcome::Rows(Vec::new())) };
    let payload = body.to_bytes(&message)?;
    let text = |template: &&Template| eval::template(template, &scope);
    let texts = rule.templates().iter().map(text).collect::<Result<_, _>>()?;
    Ok(Outcome::Rows(vec![Row::new(rule, payload, texts)]))
}

/// The stubs as what answers external functions.
struct Answers<'s>(&'s [Stub]);

impl eval::Externals for Answers<'_> {
    fn call(&self, function: &str, args: &[crate::value::Value]) -> Result<crate::value::Value, String> {
        self.0.call(function, args)
    }
}
