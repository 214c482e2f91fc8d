//! Windows give the same rows however steps are cut, and wherever a checkpoint interrupts them.

use std::sync::Arc;

use hedgerow_sql::rule::Statement;
use hedgerow_sql::value::Value;
use proptest::prelude::*;

use super::window::{Keyed, KeyedRow, WindowState};
use crate::errors::Errors;
use crate::metrics::{EngineMetrics, RuleStats};
use crate::rows::{ActiveRule, Destination, RowBatch};

const SECOND: u64 = 1_000_000;

fn rule() -> Arc<ActiveRule> {
    let text = "CREATE RULE mean AS
        SELECT topic(2) AS sensor, window_start AS since, count(*) AS n, avg(t) AS mean, max(t) AS top FROM 'a/+'
        GROUP BY topic(2), tumble(INTERVAL '10 seconds') HAVING count(*) > 0 INTO TOPIC 'mean/${sensor}'";
    match hedgerow_sql::parse::parse_file(text).unwrap().pop() {
        Some(Statement::Rule(rule)) => {
            Arc::new(ActiveRule::new(Arc::new(rule), vec![Destination::Derived], Arc::new(RuleStats::default())))
        }
        other => panic!("{other:?}"),
    }
}

/// Epoch in µs, sensor, reading.
type Reading = (u64, u16, i64);

fn keyed(rule: &Arc<ActiveRule>, readings: &[Reading]) -> Vec<Keyed> {
    let windowed = rule.rule.windowed.as_ref().unwrap();
    let row = |(offset, (epoch, sensor, reading)): (usize, &Reading)| {
        let arguments = windowed.aggregates.iter().map(|aggregate| match aggregate.argument {
            Some(_) => Value::Int((*reading).into()),
            None => Value::Bool(true),
        });
        let key = vec![Value::text(format!("s{sensor}"))];
        Keyed::Row(KeyedRow::new(Arc::clone(rule), (*epoch, offset as u64), key, arguments.collect()))
    };
    readings.iter().enumerate().map(row).collect()
}

fn texts(batches: &[RowBatch]) -> Vec<String> {
    let rows = batches.iter().flat_map(|batch| (0..batch.rows.len()).map(move |row| (batch, row)));
    rows.map(|(batch, row)| {
        let topic = batch.templates(row).next().flatten().unwrap_or("none").to_owned();
        format!("{} {topic} {}", batch.epoch(row), String::from_utf8_lossy(&batch.rows.json(row)))
    })
    .collect()
}

fn state() -> WindowState {
    WindowState::new(Arc::new(EngineMetrics::default()), Arc::new(Errors::new(10)))
}

/// Some room, but not for all.
fn small_state() -> WindowState {
    WindowState::with_limit(512, Arc::new(EngineMetrics::default()), Arc::new(Errors::new(10)))
}

#[test]
fn a_window_closes_when_the_log_s_time_reaches_its_end() {
    let rule = rule();
    let mut windows = state();
    let mut out = Vec::new();
    windows.advance(keyed(&rule, &[(SECOND, 1, 20), (9 * SECOND, 1, 21)]), 9 * SECOND, &mut out);
    assert!(out.is_empty());
    assert_eq!(windows.next_deadline(), Some(10 * SECOND));
    windows.advance(Vec::new(), 10 * SECOND, &mut out);
    let expected = r#"10000000 mean/s1 {"sensor":"s1","since":0,"n":2,"mean":20.5,"top":21}"#;
    assert_eq!(texts(&out), [expected]);
    assert_eq!(windows.next_deadline(), None);
}

#[test]
fn groups_beyond_the_limit_are_refused_alike_on_any_number_of_workers() {
    let rule = rule();
    // Two a slot, and four times as many keys as there is room for; each comes twice.
    let readings: Vec<Reading> = (0..4_096_u16).map(|n| (SECOND + u64::from(n % 2_048), n % 2_048, 1)).collect();
    let run = |workers: u64, cut: u64| {
        let mut out = Vec::new();
        for worker in 0..workers {
            let mut windows = small_state();
            let own = |item: &Keyed| item.route() % workers == worker;
            let (first, then): (Vec<_>, Vec<_>) =
                keyed(&rule, &readings).into_iter().filter(own).partition(|item| item.position().0 <= cut);
            windows.advance(first, cut, &mut out);
            let stored = windows.encode();
            let mut windows = small_state();
            windows.restore(&stored, &[Arc::clone(&rule)], |slot| slot % workers == worker).unwrap();
            windows.advance(then, 10 * SECOND, &mut out);
        }
        let mut rows = texts(&out);
        rows.sort();
        rows
    };
    let failed = rule.stats.failed.get();
    let whole = run(1, SECOND + 2_048);
    assert!(whole.len() > 400 && whole.len() <= 512, "{}", whole.len());
    assert_eq!(rule.stats.failed.get() - failed, 4_096 - 2 * whole.len() as u64);
    assert!(rule.stats.last_error.lock().unwrap().as_ref().unwrap().contains("no room for another group"));
    for (workers, cut) in [(2, SECOND + 100), (3, SECOND + 1_000), (4, SECOND + 1)] {
        assert_eq!(run(workers, cut), whole, "{workers} workers");
    }
}

proptest! {
    #[test]
    fn cuts_and_checkpoints_do_not_show(
        mut readings in proptest::collection::vec((0..60 * SECOND, 0_u16..4, -50_i64..50), 0..60),
        cuts in proptest::collection::vec(0..70 * SECOND, 0..8),
        workers in 1_u64..5,
    ) {
        readings.sort_unstable();
        let rule = rule();
        let mut whole = Vec::new();
        state().advance(keyed(&rule, &readings), 70 * SECOND, &mut whole);
        let mut whole = texts(&whole);
        whole.sort();

        let mut ends: Vec<u64> = cuts.into_iter().chain([70 * SECOND]).collect();
        ends.sort_unstable();
        let mut parts = Vec::new();
        for worker in 0..workers {
            let mut windows = state();
            let mut after = None;
            for end in &ends {
                let step = keyed(&rule, &readings).into_iter().filter(|item| {
                    let epoch = item.position().0;
                    after.is_none_or(|after| epoch > after) && epoch <= *end && item.route() % workers == worker
                });
                windows.advance(step.collect(), *end, &mut parts);
                after = Some(*end);
                let stored = windows.encode();
                windows = state();
                windows.restore(&stored, &[Arc::clone(&rule)], |hash| hash % workers == worker).unwrap();
            }
        }
        let mut parts = texts(&parts);
        parts.sort();
        prop_assert_eq!(parts, whole);
    }
}
