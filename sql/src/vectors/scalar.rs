//! The reference path: parser and scalar evaluator.

use super::Evaluate;
use super::case::Case;
use super::judge::Outcome;
use crate::ast::Select;
use crate::diagnostic::Diagnostic;
use crate::eval::{self, Scope};
use crate::message::Message;
use crate::parse::{parse_statement, parse_template};
use crate::topic::TopicFilter;

/// Evaluates by [`crate::eval`].
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

impl Evaluate for Scalar {
    fn evaluate(&self, case: &Case) -> Outcome {
        run(case).unwrap_or_else(|outcome| outcome)
    }
}

fn run(case: &Case) -> Result<Outcome, Outcome> {
    let select = parse_statement(&case.sql, case.dialect).map_err(|mistakes| refused(&mistakes))?;
    let template = case.template.as_deref().map(|text| parse_template(text, case.dialect)).transpose();
    let template = template.map_err(|mistakes| refused(&mistakes))?;
    let message = case.message();
    if !case.basic_ingest && !is_from(&select, &message)? {
        return Ok(Outcome::NoMatch);
    }
    let mut scope = Scope::new(&message, case.dialect).with_externals(case);
    let failed = |failure: eval::Failure| Outcome::Failed(failure.to_string());
    let Some(body) = eval::run(&select, &mut scope).map_err(failed)? else { return Ok(Outcome::NoMatch) };
    let payload = body.to_bytes(&message).map_err(failed)?;
    let template = template.map(|template| eval::topic(&template, &scope)).transpose().map_err(failed)?;
    Ok(Outcome::Row { payload, template })
}

fn is_from(select: &Select, message: &Message<'_>) -> Result<bool, Outcome> {
    let Some((filter, _)) = &select.from else { return Ok(false) };
    let filter = TopicFilter::new(filter).map_err(|error| Outcome::Refused(error.to_string()))?;
    Ok(filter.matches(message.topic))
}

fn refused(mistakes: &[Diagnostic]) -> Outcome {
    Outcome::Refused(mistakes.iter().map(|mistake| mistake.message.clone()).collect::<Vec<_>>().join("; "))
}
