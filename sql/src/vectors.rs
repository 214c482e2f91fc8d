//! Rule tests: examples of what a rule makes of a message, run and judged. `docs/rule-tests.md` is their manual.
//!
//! There are two spellings, told apart by the first character: one JSON object a line ([`mod@line`], the vector format),
//! and a text for people ([`mod@script`]). Both read into [`Case`]s. A case is evaluated on the path of live messages
//! ([`Live`]), and again by the scalar reference ([`Scalar`]); where the two differ, Hedgerow is wrong, and the case fails
//! whatever it expects. [`mod@mixed`] evaluates many cases in one batch.
//!
//! It knows the language. It does not know files, servers, or rules that remember: whoever calls brings the rules that
//! cases name, and what runs a rule over time.

mod case;
mod diff;
mod judge;
mod line;
mod live;
pub mod mixed;
mod outcome;
mod report;
mod scalar;
mod script;

use std::sync::Arc;

pub use case::{Case, Event, Expectation, Expected, FormatError, Given, Step, Stub, Subject};
pub use diff::{Line, Side};
pub use live::Live;
pub use outcome::{Outcome, Row};
pub use report::{Failure, Report};
pub use scalar::Scalar;

use crate::rule::Rule;
use crate::topic::FilterTrie;

/// An evaluation path for rules that remember nothing.
pub trait Evaluate {
    /// What comes of a message that reaches the rule.
    fn evaluate(&self, rule: &Arc<Rule>, given: &Given, stubs: &[Stub]) -> Outcome;
}

/// What the cases of a file need from outside of it.
pub trait Surroundings {
    /// The rule of that name; the error is for the user.
    fn rule(&self, name: &str) -> Result<Arc<Rule>, String>;
    /// What comes of the events of a case, one after the other, for a rule with a window or a timer: an outcome for each.
    fn over_time(&self, rule: &Arc<Rule>, events: &[&Event]) -> Result<Vec<Outcome>, String>;
}

/// No rules, no time: cases bring their statements.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Surroundings for Alone {
    fn rule(&self, name: &str) -> Result<Arc<Rule>, String> {
        Err(format!("there is no rule {name}"))
    }

    fn over_time(&self, _: &Arc<Rule>, _: &[&Event]) -> Result<Vec<Outcome>, String> {
        Err("a rule with a window cannot be tested here".to_owned())
    }
}

/// The cases of a file, and the places that are none.
pub fn read(text: &str) -> (Vec<Case>, Vec<FormatError>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') { line::read(text) } else { script::read(text) }
}

/// Runs the cases for which `select` holds, one by one.
pub fn run(cases: &[Case], surroundings: &dyn Surroundings, select: impl Fn(&Case) -> bool) -> Report {
    let mut report = Report::default();
    for case in cases {
        if !select(case) {
            report.skipped += 1;
            continue;
        }
        match run_case(case, surroundings) {
            Ok(()) => report.passed += 1,
            Err(failure) => report.failed.push(*failure),
        }
    }
    report
}

fn run_case(case: &Case, surroundings: &dyn Surroundings) -> Result<(), Box<Failure>> {
    let rule = match rule_of(case, surroundings) {
        Ok(rule) => rule,
        Err(reason) => {
            let refused = Outcome::Refused(reason);
            // That there is no such rule is never what a case is about.
            let is_known = matches!(case.subject, Subject::Statement { .. });
            let wrong = case.steps.iter().find(|step| !is_known || !judge::accepts(step, case.approx, &refused));
            return wrong.map_or(Ok(()), |step| Err(Failure::of(case, step, &refused, None)));
        }
    };
    let (outcomes, second) = if rule.windowed.is_some() || rule.select.absence.is_some() {
        let events: Vec<&Event> = case.steps.iter().map(|step| &step.event).collect();
        let refused = |reason| vec![Outcome::Refused(reason); case.steps.len()];
        (surroundings.over_time(&rule, &events).unwrap_or_else(refused), Vec::new())
    } else {
        let by = |path: &dyn Evaluate| -> Vec<Outcome> {
            case.steps.iter().map(|step| event(path, &rule, &step.event, &case.stubs)).collect()
        };
        (by(&Live), by(&Scalar))
    };
    for (number, step) in case.steps.iter().enumerate() {
        let nothing = Outcome::Rows(Vec::new());
        let outcome = outcomes.get(number).unwrap_or(&nothing);
        let reference = second.get(number).filter(|reference| !agree(reference, outcome));
        if reference.is_some() || !judge::accepts(step, case.approx, outcome) {
            return Err(Failure::of(case, step, outcome, reference));
        }
    }
    Ok(())
}

/// The rule a case is about.
fn rule_of(case: &Case, surroundings: &dyn Surroundings) -> Result<Arc<Rule>, String> {
    match &case.subject {
        Subject::Rule(name) => surroundings.rule(name),
        Subject::Statement { dialect, text, template } => {
            let rule = crate::analyze::parse_rule(text, *dialect, template.as_deref());
            rule.map(Arc::new).map_err(|mistakes| report::mistakes(&mistakes))
        }
    }
}

fn event(path: &dyn Evaluate, rule: &Arc<Rule>, event: &Event, stubs: &[Stub]) -> Outcome {
    match event {
        Event::Message(given) if reaches(rule, given) => path.evaluate(rule, given, stubs),
        _ => Outcome::Rows(Vec::new()),
    }
}

/// Does a message come to the rule? By its topic, or sent to the rule by name.
pub fn reaches(rule: &Rule, given: &Given) -> bool {
    if given.basic_ingest {
        return true;
    }
    if let Some((name, _)) = given.message().basic_ingest() {
        return *name == *rule.name;
    }
    let Some(filter) = &rule.filter else { return false };
    let mut trie = FilterTrie::new();
    trie.insert(filter, ());
    let mut found = Vec::new();
    trie.matches(&given.topic, &mut found);
    !found.is_empty()
}

/// Have two paths come to the same? Failures may be worded differently.
fn agree(a: &Outcome, b: &Outcome) -> bool {
    match (a, b) {
        (Outcome::Rows(a), Outcome::Rows(b)) => {
            let alike = |(a, b): (&Row, &Row)| {
                let value = |row: &Row| crate::json::parse(&row.payload, crate::ast::Dialect::Aws2016).ok();
                let same =
                    a.payload == b.payload || value(a).zip(value(b)).is_some_and(|(a, b)| a.equals(&b) == Some(true));
                same && a.texts == b.texts
            };
            a.len() == b.len() && a.iter().zip(b).all(alike)
        }
        (Outcome::Rows(_), _) | (_, Outcome::Rows(_)) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
