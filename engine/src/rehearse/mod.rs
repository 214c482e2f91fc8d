//! A rule over time and given messages, without a log: windows and timers in rule tests. The program and the operators
//! are those of the dataflow; only the log's time is made up, from the times of the messages. What they give is compared
//! with a plain reference.

mod opinion;

use std::sync::Arc;

use hedgerow_sql::program::{Program, RuleRows};
use hedgerow_sql::rule::Rule;
use hedgerow_sql::vectors::{Event, Given, Outcome, Row, reaches};

use opinion::Opinion;

use crate::errors::Errors;
use crate::metrics::{EngineMetrics, RuleStats};
use crate::operators::absence::{AbsenceState, Watched, signals};
use crate::operators::window::{Keyed, KeyedRow, WindowState};
use crate::rows::{ActiveRule, Destination, Names, Origins, RowBatch};

/// What comes of each event, one after the other: rows of windows that closed until then, and of timers that went off.
///
/// # Errors
/// When the messages are not in the order of their times, or the operators and their reference do not agree.
pub fn rehearse(rule: &Arc<Rule>, events: &[&Event]) -> Result<Vec<Outcome>, String> {
    if rule.select.absence.is_some() && rule.asks() {
        return Err("this rule looks up a table when its time is up, and a rule test has no tables".to_owned());
    }
    let destinations = rule.actions.iter().map(|_| Destination::Derived).collect();
    let active = Arc::new(ActiveRule::new(Arc::clone(rule), destinations, Arc::new(RuleStats::default())));
    let mut stage = Stage::new(&active);
    let mut opinion = Opinion::new(rule);
    let mut now: u64 = 0;
    let mut outcomes = Vec::new();
    for event in events {
        let mut out = Vec::new();
        let mut expected = Vec::new();
        let mut failed = None;
        match event {
            Event::Wait(ms) => now = now.saturating_add(ms.saturating_mul(1_000)),
            Event::Message(given) => {
                let time = u64::try_from(given.time_ms).unwrap_or_default().saturating_mul(1_000);
                if time < now / 1_000 * 1_000 {
                    return Err("the messages of a case are in the order of their times".to_owned());
                }
                // No two commits of a log have the same time.
                now = time.max(now.saturating_add(1));
                stage.pass(now, &mut out);
                expected.extend(opinion.as_mut().map(|opinion| opinion.pass(now)).into_iter().flatten());
                if reaches(rule, given) {
                    failed = stage.take(given, now, &mut out);
                    if let Some(opinion) = &mut opinion {
                        opinion.take(given, now);
                    }
                }
            }
        }
        stage.pass(now, &mut out);
        let came = rows(&active, &out);
        if let Some(opinion) = &mut opinion {
            expected.extend(opinion.pass(now));
            if !opinion::agree(&came, &expected) {
                let (came, expected) = (Outcome::Rows(came), Outcome::Rows(expected));
                return Err(format!("a defect of Hedgerow: it gives {came}, and its plain reference {expected}"));
            }
        }
        outcomes.push(failed.map_or(Outcome::Rows(came), Outcome::Failed));
    }
    Ok(outcomes)
}

/// The operators that one rule goes through.
struct Stage<'r> {
    active: &'r Arc<ActiveRule>,
    program: Program,
    windows: WindowState,
    absence: AbsenceState,
    errors: Arc<Errors>,
}

impl<'r> Stage<'r> {
    fn new(active: &'r Arc<ActiveRule>) -> Self {
        let errors = Arc::new(Errors::new(1));
        Self {
            active,
            program: Program::new(std::slice::from_ref(&active.rule)),
            windows: WindowState::new(Arc::new(EngineMetrics::default()), Arc::clone(&errors)),
            absence: AbsenceState::new(0, std::slice::from_ref(active), Arc::clone(&errors)),
            errors,
        }
    }

    /// Time passes.
    fn pass(&mut self, now: u64, out: &mut Vec<RowBatch>) {
        self.windows.advance(Vec::new(), now, out);
        self.absence.advance(Vec::new(), now, out);
    }

    /// A message comes; why it came to nothing, if it failed.
    fn take(&mut self, given: &Given, now: u64, out: &mut Vec<RowBatch>) -> Option<String> {
        let mut results: Vec<RuleRows> = Vec::new();
        self.program.evaluate(&[given.message()], &mut results);
        let rejects = results.iter().flat_map(|result| &result.rejects).map(|reject| reject.reason.clone());
        let mut failure = rejects.into_iter().next();
        let came = if self.active.rule.select.absence.is_some() {
            let refused = self.watch(given, &results, now, out);
            failure = failure.or(refused);
            failure.is_none()
        } else {
            let keyed = self.keyed(given, &results, now);
            let came = !keyed.is_empty();
            self.windows.advance(keyed, now, out);
            came
        };
        failure.filter(|reason| !came && !reason.starts_with("payload is not JSON"))
    }

    /// The rows of a message for the window operator.
    fn keyed(&self, given: &Given, results: &[RuleRows], now: u64) -> Vec<Keyed> {
        let keys = self.active.rule.windowed.as_ref().map(|windowed| windowed.keys.len()).unwrap_or_default();
        let row = |mut values: Vec<_>| {
            let arguments = values.split_off(keys.min(values.len()));
            Keyed::Row(KeyedRow::new(Arc::clone(self.active), (now, given.offset), values, arguments))
        };
        let rows = results.iter().flat_map(|result| (0..result.rows.len()).map(|at| result.rows.values(at)));
        rows.map(row).collect()
    }

    /// What a message means for its timer; why it could not be followed.
    fn watch(&mut self, given: &Given, faces: &[RuleRows], now: u64, out: &mut Vec<RowBatch>) -> Option<String> {
        let origins = Origins {
            epoch: vec![now],
            offset: vec![given.offset],
            time_ms: vec![given.time_ms],
            topic: Names::from_iter([given.topic.as_str()]),
            client_id: Names::from_iter([given.client_id.as_deref().unwrap_or_default()]),
            hops: vec![0],
            payload: Vec::new(),
            timer: false,
        };
        let mut refused = None;
        let refuse = |_, reason: &str| refused = Some(reason.to_owned());
        let signals = signals(self.active, faces, &origins, 1, &|_| None, refuse);
        let before = self.errors.total();
        self.absence.advance(signals.into_iter().map(Watched::Signals).collect(), now, out);
        let newest = || self.errors.samples().pop().map(|sample| sample.reason);
        refused.or_else(|| if self.errors.total() > before { newest() } else { None })
    }
}

/// Rows as they go out, each once whatever the number of actions.
fn rows(active: &ActiveRule, out: &[RowBatch]) -> Vec<Row> {
    let batches = out.iter().filter(|batch| batch.action == 0);
    let row = |batch: &RowBatch, at: usize| {
        let texts = batch.rows.templates.iter().map(|texts| texts.get(at).unwrap_or_default().to_owned());
        Row::new(&active.rule, batch.rows.json(at).into_owned(), texts.collect())
    };
    batches.flat_map(|batch| (0..batch.rows.len()).map(move |at| row(batch, at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow_sql::analyze::parse_rule;
    use hedgerow_sql::ast::Dialect;
    use hedgerow_sql::vectors::{Report, Surroundings, read, run};

    const GONE: &str = "CREATE RULE gone AS SELECT topic(2) AS d, n FROM 'd/+' WHERE s = 'off' \
                        AFTER wait UNLESS s = 'on' PARTITION BY topic(2) INTO TOPIC 'gone/${topic(2)}'";

    const OUTAGES: &str = "\
rule gone
case comes and goes
> d/1 {\"s\": \"off\", \"n\": 1, \"wait\": 10}
< nothing
wait 6 seconds
> d/1 {\"s\": \"on\", \"n\": 2}
> d/1 {\"s\": \"off\", \"n\": 3, \"wait\": 10}
wait 9 seconds
< nothing
> d/1 {\"s\": \"off\", \"n\": 4, \"wait\": 10}
wait 1 second
< gone/1 {\"d\": \"1\", \"n\": 3}
> d/1 {\"s\": \"off\", \"n\": 5, \"wait\": 10}
wait 1 minute
< nothing
> d/1 {\"s\": \"on\"}
> d/1 {\"s\": \"off\", \"wait\": \"soon\"}
< error
";

    struct Here;

    impl Surroundings for Here {
        fn rule(&self, name: &str) -> Result<Arc<Rule>, String> {
            let text = "CREATE RULE mean AS SELECT topic(2) AS k, avg(t) AS mean, count(*) AS n FROM 'a/+' \
                        GROUP BY topic(2), tumble(INTERVAL '10 seconds') INTO TOPIC 'mean/${k}', averages";
            let text = if name == "gone" { GONE } else { text };
            Ok(Arc::new(parse_rule(text, Dialect::Native, None).unwrap()))
        }

        fn over_time(&self, rule: &Arc<Rule>, events: &[&Event]) -> Result<Vec<Outcome>, String> {
            rehearse(rule, events)
        }
    }

    const CASES: &str = "\
rule mean
case two sensors
with time 2024-01-01T00:00:01Z
> a/1 {\"t\": 1}
> a/2 {\"t\": 5}
> a/1 {\"t\": 2}
< nothing
wait 10 seconds
< mean/1 {\"k\": \"1\", \"mean\": 1.5, \"n\": 2}
< averages {\"k\": \"2\", ...}
> a/1 {\"t\": 7}
< nothing
";

    fn report(text: &str) -> Report {
        let (cases, problems) = read(text);
        assert!(problems.is_empty(), "{problems:?}");
        run(&cases, &Here, |_| true)
    }

    #[test]
    fn timers_go_off_as_time_passes() {
        assert_eq!(report(OUTAGES).passed, 1, "{:?}", report(OUTAGES));
        for (from, to) in [("wait 1 second\n", "wait 1 millisecond\n"), ("\"n\": 3}", "\"n\": 1}"), ("soon", "3")] {
            assert_eq!(report(&OUTAGES.replace(from, to)).failed.len(), 1, "{from}");
        }
    }

    #[test]
    fn what_the_reference_does_not_say_is_a_defect() {
        for (bug, text) in [("notice_repeats", OUTAGES), ("windows_shifted", CASES)] {
            let report = hedgerow_storage::fault::with_bug(bug, || report(text));
            let told = format!("{:?}", report.failed);
            assert!(told.contains("a defect of Hedgerow"), "{bug}: {told}");
        }
    }

    #[test]
    fn windows_close_as_time_passes() {
        assert_eq!(report(CASES).passed, 1, "{:?}", report(CASES));
        for (from, to) in [("1.5", "2"), ("wait 10", "wait 5"), ("\"2\"", "\"3\""), ("mean/1", "mean/3")] {
            assert_eq!(report(&CASES.replace(from, to)).failed.len(), 1, "{from}");
        }
    }
}
