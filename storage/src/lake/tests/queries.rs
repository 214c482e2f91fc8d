//! One row, once, in every query, while files move underneath.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

#[test]
fn every_query_sees_a_prefix_and_each_row_once() {
    let world = World::new();
    let mut config = world.config("farm");
    config.roll_rows = 3;
    let lake = world.open_with(config);
    let (fed, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=120 {
                while lake.append(record(number, r#"{"x": 1}"#)).is_err() {
                    std::thread::yield_now();
                }
                lake.step_done(number).unwrap();
                lake.flush();
                fed.store(number, Ordering::Release);
            }
            done.store(true, Ordering::Release);
        });
        let mut queries = 0;
        let mut mixed = 0;
        while !done.load(Ordering::Acquire) || queries < 20 {
            let before = i64::try_from(fed.load(Ordering::Acquire)).unwrap();
            let seen = offsets(&world.query(&lake, "SELECT _offset FROM lake"));
            let last = i64::try_from(seen.len()).unwrap();
            assert_eq!(seen, upto(last), "a row is missing or doubled");
            assert!(last >= before, "a row that was visible before is gone");
            queries += 1;
            mixed += u32::from(lake.health().sealed_pieces > 0);
        }
        assert!(mixed > 0, "no query ran while a file was on its way: the test shows nothing");
    });
    assert!(lake.close());
    assert_eq!(world.in_table(), upto(120));
}

#[test]
fn a_query_planned_before_a_commit_still_reads_its_sealed_files() {
    let world = World::new();
    world.store.set(Trouble { down: true, ..Trouble::default() });
    let lake = world.open("farm");
    feed_sealed(&lake, 1..=30);
    let plan = world.runtime.block_on(async {
        let frame = SessionContext::new().read_table(lake.table_provider().unwrap()).unwrap();
        let task = Arc::new(frame.task_ctx());
        (frame.create_physical_plan().await.unwrap(), task)
    });
    world.store.set(Trouble::default());
    assert!(lake.wait_committed(30, LONG));
    let batches = world.runtime.block_on(datafusion::physical_plan::collect(plan.0, plan.1)).unwrap();
    assert_eq!(offsets(&batches), upto(30));
}

#[test]
fn sealed_files_are_read_from_a_spool_with_a_relative_path() {
    let mut world = World::new();
    world.spool = tempfile::tempdir_in(".").unwrap();
    world.store.set(Trouble { down: true, ..Trouble::default() });
    let mut config = world.config("farm");
    let name = world.spool.path().file_name().unwrap();
    config.spool_dir = std::path::Path::new(name).join("farm");
    let lake = world.open_with(config);
    feed_sealed(&lake, 1..=10);
    assert_eq!(world.in_query(&lake), upto(10));
    assert!(lake.health().sealed_pieces > 0);
}

#[test]
fn filters_and_projections_reach_the_files() {
    let world = World::new();
    let lake = world.open("farm");
    feed_sealed(&lake, 1..=30);
    assert!(lake.wait_committed(30, LONG));
    feed_sealed(&lake, 31..=45);
    feed(&lake, 46..=50);
    lake.flush();
    for (filter, want) in [
        ("_offset > 28 AND _offset <= 47", (29..=47).collect::<Vec<i64>>()),
        ("temperature = 33.5", vec![33]),
        ("_date = '2023-11-17' AND temperature < 1000", (21..=30).collect()),
        ("_time < TIMESTAMP '2023-11-15T02:00:00Z'", vec![1]),
        ("_rescued IS NOT NULL", vec![]),
        ("_topic LIKE 'macdonald/%' AND _offset % 25 = 0", vec![25, 50]),
    ] {
        let got = offsets(&world.query(&lake, &format!("SELECT _offset FROM lake WHERE {filter}")));
        assert_eq!(got, want, "{filter}");
    }
    let count = world.query(&lake, "SELECT count(*) FROM lake");
    assert_eq!(count[0].column(0).as_primitive::<Int64Type>().value(0), 50);
    let plan = world.query(&lake, "EXPLAIN SELECT _offset FROM lake WHERE temperature = 33.5");
    let plan = arrow::util::pretty::pretty_format_batches(&plan).unwrap().to_string();
    assert!(plan.contains("pruning_predicate") || plan.contains("predicate="), "no file sees the filter:\n{plan}");
}
