//! A windowed rule over given messages, without a log: for rule tests. The program and the window operator are those of
//! the dataflow; only the log's time is made up, from the times of the messages.

use std::sync::Arc;

use hedgerow_sql::program::{Program, RuleRows};
use hedgerow_sql::rule::Rule;
use hedgerow_sql::vectors::{Event, Given, Outcome, Row, reaches};

use crate::errors::Errors;
use crate::metrics::{EngineMetrics, RuleStats};
use crate::operators::window::{Keyed, KeyedRow, WindowState};
use crate::rows::{ActiveRule, Destination, RowBatch};

/// What comes of each event, one after the other: rows of windows that closed until then.
///
/// # Errors
/// When the messages are not in the order of their times.
pub fn rehearse(rule: &Arc<Rule>, events: &[&Event]) -> Result<Vec<Outcome>, String> {
    let active = Arc::new(ActiveRule {
        rule: Arc::clone(rule),
        destinations: rule.actions.iter().map(|_| Destination::Derived).collect(),
        stats: Arc::new(RuleStats::default()),
    });
    let mut program = Program::new(std::slice::from_ref(rule));
    let mut windows = WindowState::new(Arc::new(EngineMetrics::default()), Arc::new(Errors::new(1)));
    let mut now: u64 = 0;
    let mut outcomes = Vec::new();
    for event in events {
        let mut out = Vec::new();
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
                windows.advance(Vec::new(), now, &mut out);
                if reaches(rule, given) {
                    let (keyed, failure) = take(&mut program, &active, given, now);
                    failed = failure;
                    windows.advance(keyed, now, &mut out);
                }
            }
        }
        windows.advance(Vec::new(), now, &mut out);
        outcomes.push(failed.map_or_else(|| Outcome::Rows(rows(&active, &out)), Outcome::Failed));
    }
    Ok(outcomes)
}

/// The rows of a message for the window operator, or why there is none.
fn take(program: &mut Program, active: &Arc<ActiveRule>, given: &Given, now: u64) -> (Vec<Keyed>, Option<String>) {
    let mut results: Vec<RuleRows> = Vec::new();
    program.evaluate(&[given.message()], &mut results);
    let keys = active.rule.windowed.as_ref().map(|windowed| windowed.keys.len()).unwrap_or_default();
    let row = |values: Vec<_>| {
        let mut values = values;
        let arguments = values.split_off(keys.min(values.len()));
        Keyed::Row(KeyedRow::new(Arc::clone(active), (now, given.offset), values, arguments))
    };
    let keyed: Vec<Keyed> = results
        .iter()
        .flat_map(|result| (0..result.rows.len()).map(|at| row(result.rows.values(at))).collect::<Vec<_>>())
        .collect();
    let failure = results.iter().flat_map(|result| &result.rejects).map(|reject| reject.reason.clone()).next();
    let failure = failure.filter(|reason| keyed.is_empty() && !reason.starts_with("payload is not JSON"));
    (keyed, failure)
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

    struct Here;

    impl Surroundings for Here {
        fn rule(&self, name: &str) -> Result<Arc<Rule>, String> {
            let text = "CREATE RULE mean AS SELECT topic(2) AS k, avg(t) AS mean, count(*) AS n FROM 'a/+' \
                        GROUP BY topic(2), tumble(INTERVAL '10 seconds') INTO TOPIC 'mean/${k}', averages";
            assert_eq!(name, "mean");
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
    fn windows_close_as_time_passes() {
        assert_eq!(report(CASES).passed, 1, "{:?}", report(CASES));
        for (from, to) in [("1.5", "2"), ("wait 10", "wait 5"), ("\"2\"", "\"3\""), ("mean/1", "mean/3")] {
            assert_eq!(report(&CASES.replace(from, to)).failed.len(), 1, "{from}");
        }
    }
}
