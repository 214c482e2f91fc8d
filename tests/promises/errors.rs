//! The error action runs once for each rule and message, whatever fails and whenever the server dies.

use std::collections::BTreeMap;

use crate::exactly_once::{Dice, die_at, finish, publishers};
use crate::receiver::{Manner, Receiver};
use crate::server::{Home, SOON, Server, until, until_right};

/// The table wants a key that no row has; the destination refuses everything; the topic is fine.
fn rules(port: u16) -> String {
    format!(
        "CREATE TABLE place (id VARCHAR, PRIMARY KEY (id));
         CREATE TABLE failed (cloudwatchTraceId VARCHAR, PRIMARY KEY (cloudwatchTraceId));
         CREATE SINK hook WITH (connector = 'webhook', url = 'http://127.0.0.1:{port}/', concurrency = 16,
           allow_private = '127.0.0.1:{port}');
         CREATE RULE told AS SELECT *, seq AS n FROM 'crash/in/+' INTO place, hook, TOPIC 'fine/${{topic(3)}}'
           ON ERROR INTO failed;
         CREATE RULE untold AS SELECT seq FROM 'crash/in/+' WHERE seq % 10 = 0 INTO hook;"
    )
}

async fn violations(home: &Home, server: &Server) -> Vec<String> {
    let records = home.records();
    let sources: Vec<_> = records.iter().filter(|record| record.topic.starts_with("crash/in/")).collect();
    let mut open: BTreeMap<String, i64> =
        sources.iter().map(|record| (format!("{}-{}-told-error", record.epoch, record.offset), 1)).collect();
    let mut wrong = Vec::new();
    for record in records.iter().filter(|record| record.topic == "$hedgerow/errors/told") {
        *open.entry(record.origin.clone()).or_default() -= 1;
        let told: serde_json::Value = serde_json::from_str(&record.payload).unwrap();
        let actions: Vec<_> = told["failures"].as_array().unwrap().iter().map(|one| &one["failedAction"]).collect();
        if actions != ["TableAction", "SinkAction"] {
            wrong.push(format!("told too early: {}", record.payload));
        }
    }
    let missing = open.values().filter(|count| **count > 0).count();
    let twice: Vec<_> = open.iter().filter(|(_, count)| **count < 0).collect();
    if missing > 0 || !twice.is_empty() {
        wrong.push(format!("{missing} of {} not told, told twice: {twice:?}", sources.len()));
    }
    let tens = sources.iter().filter(|record| record.seq() % 10 == 0).count() as u64;
    let expected = [("SELECT count(*) FROM failed", sources.len() as u64), ("SELECT count(*) FROM dead_letters", tens)];
    for (sql, expected) in expected {
        match server.sql(sql).await {
            Ok(rows) if rows[0][0].as_u64() == Some(expected) => {}
            other => wrong.push(format!("{sql}: {other:?}, not {expected}")),
        }
    }
    wrong.truncate(4);
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_action_runs_once_for_each_rule_and_message() {
    let receiver = Receiver::start(Manner::Refusing).await;
    let home = Home::new(&rules(receiver.port));
    let mut dice = Dice::new();
    let server = home.start();
    let publishers = publishers(&home);
    until("errors are told", async || {
        server.sql("SELECT count(*) FROM failed").await.is_ok_and(|rows| rows[0][0].as_u64() > Some(20))
    })
    .await;
    server.kill();
    for (point, passes) in [("errors.after_append", 3), ("outbox.after_accept", 20), ("checkpoint.middle", 2)] {
        die_at(&home, point, dice.roll(passes));
    }
    let server = home.start();
    finish(publishers).await;
    let wrong = until_right(2 * SOON, async || violations(&home, &server).await).await;
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), home.last_words());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_told_as_it_was_read_at_first_is_seen_as_told_too_early() {
    let receiver = Receiver::start(Manner::Refusing).await;
    let home = Home::new(&rules(receiver.port));
    let server = home.start_with(&[("HEDGEROW_BUG", "errors_told_as_read".to_owned())]).unwrap();
    let publishers = publishers(&home);
    let early = async || violations(&home, &server).await.iter().any(|what| what.starts_with("told too early"));
    until("an error is told without the action that was under way", early).await;
    finish(publishers).await;
}
