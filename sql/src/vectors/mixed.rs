//! Many cases at once: their rules in one program, their messages shuffled into one large batch, as live messages come.
//!
//! A row must not depend on the rows beside it. Each case is judged by the row of its own message in the batch.

use std::sync::Arc;

use super::case::{Case, Event, Given, Step};
use super::{Report, Surroundings, judge, live, reaches, rule_of};
use crate::program::Program;
use crate::rule::Rule;
use crate::vectors::Failure;

/// Rules of one program.
const RULES: usize = 16;

/// A case that can be part of a batch.
struct Member<'c> {
    case: &'c Case,
    step: &'c Step,
    given: &'c Given,
    rule: Arc<Rule>,
}

/// Runs the cases in batches of so many messages; the seed decides which are together and in which order. Cases of several
/// messages, of windows, of functions that ask other systems, and those whose message does not reach their rule are
/// skipped.
pub fn run(cases: &[Case], surroundings: &dyn Surroundings, batch: usize, seed: u64) -> Report {
    let mut dice = Dice(seed);
    let mut members: Vec<Member<'_>> = cases.iter().filter_map(|case| member(case, surroundings)).collect();
    let mut report = Report { skipped: cases.len() - members.len(), ..Report::default() };
    let everything: Vec<&Given> = cases.iter().flat_map(|case| &case.steps).filter_map(message_of).collect();
    dice.shuffle(&mut members);
    for chunk in members.chunks(RULES) {
        run_together(chunk, &everything, batch.max(chunk.len()), &mut dice, &mut report);
    }
    report
}

fn member<'c>(case: &'c Case, surroundings: &dyn Surroundings) -> Option<Member<'c>> {
    let [step] = case.steps.as_slice() else { return None };
    let given = message_of(step)?;
    let rule = rule_of(case, surroundings).ok()?;
    let over_time = rule.windowed.is_some() || rule.select.absence.is_some();
    let fits = !over_time && !rule.asks() && reaches(&rule, given);
    fits.then_some(Member { case, step, given, rule })
}

fn message_of(step: &Step) -> Option<&Given> {
    match &step.event {
        Event::Message(given) => Some(given),
        Event::Wait(_) => None,
    }
}

fn run_together(chunk: &[Member<'_>], everything: &[&Given], batch: usize, dice: &mut Dice, report: &mut Report) {
    // Whose message it is, and the message.
    let mut messages: Vec<(Option<usize>, &Given)> =
        chunk.iter().enumerate().map(|(number, member)| (Some(number), member.given)).collect();
    while messages.len() < batch {
        match everything.get(dice.below(everything.len())) {
            Some(given) => messages.push((None, given)),
            None => break,
        }
    }
    dice.shuffle(&mut messages);
    let rules: Vec<Arc<Rule>> = chunk.iter().map(|member| Arc::clone(&member.rule)).collect();
    let batch: Vec<_> = messages.iter().map(|(_, given)| given.message()).collect();
    let mut out = Vec::new();
    Program::new(&rules).evaluate(&batch, &mut out);
    for (place, (owner, _)) in messages.iter().enumerate() {
        let Some((number, member)) = owner.and_then(|number| Some((number, chunk.get(number)?))) else { continue };
        let outcome = live::outcome(&member.rule, number, &out, place as u32);
        if judge::accepts(member.step, member.case.approx, &outcome) {
            report.passed += 1;
        } else {
            report.failed.push(*Failure::of(member.case, member.step, &outcome, None));
        }
    }
}

/// Numbers that look random and follow from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or_default()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}
