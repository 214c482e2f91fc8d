//! Stores that fail, stall, lie, or are shared.

use super::*;
use crate::lake::AppendError;

#[test]
fn a_store_that_fails_for_a_while_costs_only_time() {
    let world = World::new();
    world.store.set(Trouble { down: true, ..Trouble::default() });
    let lake = world.open("farm");
    feed_sealed(&lake, 1..=10);
    assert!(lake.wait_for(LONG, |health| health.status == LakeStatus::Degraded));
    let message = lake.health().message.unwrap();
    for part in ["sink farm", "memory:///farm/lake", "connection refused", "max_backlog"] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    assert_eq!(world.in_query(&lake), upto(10), "sealed rows are queryable meanwhile");
    world.store.set(Trouble { fail_writes: (5, ""), ..Trouble::default() });
    assert!(lake.wait_committed(10, LONG), "{:?}", lake.health());
    assert_eq!(lake.health().status, LakeStatus::Ok);
    assert_eq!(world.in_table(), upto(10));
}

#[test]
fn a_store_that_does_not_answer_is_given_up_on() {
    let world = World::new();
    let mut config = world.config("farm");
    config.attempt_timeout = std::time::Duration::from_millis(300);
    let lake = world.open_with(config);
    assert!(lake.wait_reached(LONG));
    world.store.set(Trouble { hang: true, ..Trouble::default() });
    feed_sealed(&lake, 1..=3);
    assert!(lake.wait_for(LONG, |health| health.status == LakeStatus::Degraded));
    world.store.set(Trouble::default());
    assert!(lake.wait_committed(3, LONG), "{:?}", lake.health());
    assert_eq!(world.in_table(), upto(3));
}

#[test]
fn lost_answers_do_not_double_rows() {
    let world = World::new();
    for (round, part) in (0u64..).zip(["_delta_log/", ".parquet", ""]) {
        let lake = world.open("farm");
        assert!(lake.wait_reached(LONG));
        world.store.set(Trouble { lose_answers: (3, part), ..Trouble::default() });
        for number in 1..=4 {
            feed_sealed(&lake, round * 4 + number..=round * 4 + number);
        }
        assert!(lake.wait_committed(round * 4 + 4, LONG), "{:?}", lake.health());
        assert!(lake.close());
        assert_eq!(world.in_table(), upto(i64::try_from(round).unwrap() * 4 + 4), "lost answers of {part:?}");
    }
}

#[test]
fn two_sinks_may_share_a_table() {
    let world = World::new();
    let (one, two) = (world.open("one"), world.open("two"));
    for number in 1..=8 {
        let lake = if number % 2 == 0 { &one } else { &two };
        lake.append(record(number, &format!("{{\"c{number}\": 1}}"))).unwrap();
        lake.step_done(number).unwrap();
        lake.seal().unwrap();
    }
    assert!(one.wait_committed(8, LONG) && two.wait_committed(7, LONG), "{:?} {:?}", one.health(), two.health());
    assert!(one.close() && two.close());
    assert_eq!(world.in_table(), upto(8));
}

#[test]
fn a_store_without_conditional_put_is_refused() {
    let world = World::new();
    world.store.set(Trouble { careless: true, ..Trouble::default() });
    let lake = world.open("farm");
    assert!(lake.wait_for(LONG, |health| health.status == LakeStatus::Refused));
    match lake.append(record(1, "{}")) {
        Err(AppendError::Refused(message)) => assert!(message.contains("conditional put"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_backlog_is_backpressure_and_goes_away() {
    let world = World::new();
    world.store.set(Trouble { down: true, ..Trouble::default() });
    let mut config = world.config("farm");
    config.max_backlog_bytes = 4000;
    let lake = world.open_with(config);
    let mut number = 0;
    let full = loop {
        match lake.append(record(number + 1, r#"{"x": 1}"#)) {
            Ok(()) => number += 1,
            Err(error) => break error,
        }
        lake.step_done(number).unwrap();
        lake.seal().unwrap();
        assert!(number < 100 && lake.wait_taken(number, LONG));
    };
    assert_eq!(full, AppendError::Full);
    assert!(lake.health().backlog_warning);
    world.store.set(Trouble::default());
    assert!(lake.wait_committed(number, LONG), "{:?}", lake.health());
    feed(&lake, number + 1..=number + 3);
    assert!(lake.close());
    assert_eq!(world.in_table(), upto(i64::try_from(number).unwrap() + 3));
}

#[test]
fn a_local_folder_is_a_lake_too() {
    let world = World::new();
    let folder = world.spool.path().join("table with blank");
    let config = LakeConfig::new("farm", folder.to_str().unwrap(), world.spool.path().join("farm"));
    let lake = Lake::open(config.clone(), world.runtime.handle().clone()).unwrap();
    feed_sealed(&lake, 1..=12);
    assert!(lake.wait_committed(12, LONG), "{:?}", lake.health());
    feed_sealed(&lake, 13..=14);
    feed(&lake, 15..=15);
    assert_eq!(world.in_query(&lake), upto(15));
    assert!(lake.close());
    let lake = Lake::open(config, world.runtime.handle().clone()).unwrap();
    assert!(lake.wait_reached(LONG));
    assert_eq!(world.in_query(&lake), upto(15));
}

/// Run by `moto_server` and friends: the environment names the endpoint of a service with a bucket `hedgerow-lake`.
#[test]
#[ignore = "needs an S3 service: HEDGEROW_TEST_S3=http://127.0.0.1:5000 cargo test -p hedgerow-storage -- --ignored s3"]
fn s3_is_a_lake_too() {
    let endpoint = std::env::var("HEDGEROW_TEST_S3").expect("HEDGEROW_TEST_S3 names the endpoint");
    let world = World::new();
    let mut config = LakeConfig::new("farm", "s3://hedgerow-lake/farm/sensors", world.spool.path().join("farm"));
    config.store.endpoint = Some(endpoint);
    config.store.allow_http = true;
    config.store.access_key_id = Some(crate::lake::Secret::new("id"));
    config.store.secret_access_key = Some(crate::lake::Secret::new("key"));
    let lake = Lake::open(config.clone(), world.runtime.handle().clone()).unwrap();
    assert!(lake.wait_for(LONG, |health| health.status != LakeStatus::Starting));
    assert_eq!(lake.health().message, None);
    for (number, payload) in
        (1..).zip([r#"{"x": 21}"#, r#"{"x": 21.5}"#, r#"{"x": 1e3}"#, r#"{"x": "21"}"#, r#"{"x": null}"#])
    {
        lake.append(record(number, payload)).unwrap();
        lake.step_done(number).unwrap();
    }
    feed_sealed(&lake, 6..=30);
    assert!(lake.wait_committed(30, LONG), "{:?}", lake.health());
    feed(&lake, 31..=31);
    assert_eq!(world.in_query(&lake), upto(31));
    assert!(lake.close());
    let lake = Lake::open(config, world.runtime.handle().clone()).unwrap();
    assert!(lake.wait_reached(LONG));
    assert_eq!(world.in_query(&lake), upto(31));
}

#[test]
fn an_error_names_endpoint_and_setting_and_no_secret() {
    let world = World::new();
    let mut config = LakeConfig::new("farm", "s3://bucket/farm", world.spool.path().join("farm"));
    config.store.endpoint = Some("http://127.0.0.1:1".into());
    config.store.allow_http = true;
    config.store.access_key_id = Some(crate::lake::Secret::new("the-id"));
    config.store.secret_access_key = Some(crate::lake::Secret::new("the-key"));
    let lake = Lake::open(config, world.runtime.handle().clone()).unwrap();
    assert!(lake.wait_for(LONG, |health| health.status == LakeStatus::Degraded));
    let message = lake.health().message.unwrap();
    for part in ["sink farm", "s3://bucket/farm", "http://127.0.0.1:1", "`endpoint`"] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    assert!(!message.contains("the-id") && !message.contains("the-key"), "{message}");
}
