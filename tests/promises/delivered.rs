//! Every row reaches its destination outside, or is a dead letter: through SIGKILL at random moments and at the named
//! points, with a receiver that refuses and resets. A row comes twice only if it was under way when the server died.

use std::time::Duration;

use crate::exactly_once::{Dice, die_at, finish, publishers, setting};
use crate::publisher::Sent;
use crate::receiver::{Manner, Receiver};
use crate::server::{Home, SOON, Server, until, until_right};

/// Rows of one request, and requests at a time.
const BATCH: u64 = 20;
const CONCURRENCY: u64 = 4;

fn rules(sink: &str, rule: &str, port: u16) -> String {
    format!(
        "CREATE SINK {sink} WITH (connector = 'webhook', url = 'http://127.0.0.1:{port}/in/${{client}}',
           allow_private = '127.0.0.1:{port}', batch_rows = {BATCH}, concurrency = {CONCURRENCY},
           max_backoff = INTERVAL '1 second');
         CREATE RULE {rule} AS SELECT topic(3) AS client, seq FROM 'crash/in/+' INTO {sink};
"
    )
}

/// What does not agree with the log, in words. `deaths`: how often the server died while it was sending.
async fn violations(home: &Home, server: &Server, receiver: &Receiver, sent: &[Sent], deaths: u64) -> Vec<String> {
    let taken = receiver.taken();
    let records = home.records();
    let sources: Vec<_> = records.iter().filter(|record| record.topic.starts_with("crash/in/")).collect();
    let ids: std::collections::BTreeSet<String> =
        sources.iter().map(|record| format!("{}-{}-outside-0", record.epoch, record.offset)).collect();
    let mut wrong = Vec::new();
    let missing: Vec<_> = ids.iter().filter(|id| !taken.contains_key(*id)).collect();
    if let Some(first) = missing.first() {
        wrong.push(format!("not delivered: {} of {} ({first})", missing.len(), ids.len()));
    }
    if let Some(unknown) = taken.keys().find(|id| !ids.contains(*id)) {
        wrong.push(format!("delivered, but not logged: {unknown}"));
    }
    let again: u64 = taken.values().map(|times| times - 1).sum();
    if again > deaths * BATCH * CONCURRENCY {
        wrong.push(format!("{again} rows came again, and the server died {deaths} times"));
    }
    let acked: usize = sent.iter().map(|publisher| publisher.acked.len()).sum();
    if sources.len() < acked {
        wrong.push(format!("{acked} acknowledged, {} logged", sources.len()));
    }
    match server.sql("SELECT count(*) FROM dead_letters").await {
        Ok(rows) if rows[0][0].as_u64() == Some(0) => {}
        other => wrong.push(format!("dead letters: {other:?}")),
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_delivered_and_what_was_confirmed_is_not_sent_again() {
    let manner = Manner::Moody { pause: Duration::from_millis(5), refuse_every: 23, reset_every: 31 };
    let receiver = Receiver::start(manner).await;
    let home = Home::new(&rules("hook", "outside", receiver.port));
    let mut dice = Dice::new();
    let server = home.start();
    let publishers = publishers(&home);
    until("rows arrive", async || !receiver.taken().is_empty()).await;
    server.kill();
    let mut deaths = 1;
    for _ in 1..setting("HEDGEROW_TEST_KILLS", 6) {
        let server = home.start();
        tokio::time::sleep(Duration::from_millis(dice.roll(1_200))).await;
        server.kill();
        deaths += 1;
    }
    for (point, passes) in [("outbox.after_accept", 20), ("outbox.before_confirm", 20), ("checkpoint.middle", 2)] {
        die_at(&home, point, dice.roll(passes));
        deaths += 1;
    }
    let server = home.start();
    let sent = finish(publishers).await;
    let wrong = until_right(2 * SOON, async || violations(&home, &server, &receiver, &sent, deaths).await).await;
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), home.last_words());
    assert!(receiver.taken().len() > 300, "{} rows: this test shows nothing", receiver.taken().len());
    // Both marks come up with the log once everything is delivered.
    until("the marks meet", async || {
        let sql = "SELECT taken = committed FROM system.sinks WHERE name = 'hook' AND healthy";
        server.sql(sql).await.is_ok_and(|rows| rows.first().is_some_and(|row| row[0] == true))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_before_the_answer_is_seen_as_lost_rows() {
    // A third of the requests is taken by nobody; whoever confirms them before the answer never sends them again.
    let manner = Manner::Moody { pause: Duration::from_millis(50), refuse_every: 0, reset_every: 3 };
    let receiver = Receiver::start(manner).await;
    let home = Home::new(&rules("hook", "outside", receiver.port));
    let bug = [("HEDGEROW_BUG", "confirm_before_answer".to_owned())];
    let server = home.start_with(&bug).unwrap();
    let publishers = publishers(&home);
    until("requests are made", async || receiver.requests() > 12).await;
    server.kill();
    let server = home.start();
    let sent = finish(publishers).await;
    let wrong = until_right(SOON / 3, async || violations(&home, &server, &receiver, &sent, 1).await).await;
    assert!(wrong.iter().any(|what| what.starts_with("not delivered")), "{wrong:#?}");
}

/// A destination that never answers: another sink's rows arrive as before, checkpoints go on, everything waits on disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_destination_holds_up_nothing_but_itself() {
    let silent = Receiver::start(Manner::Silent).await;
    let manner = Manner::Moody { pause: Duration::ZERO, refuse_every: 0, reset_every: 0 };
    let other = Receiver::start(manner).await;
    let both = rules("silent", "to_silent", silent.port) + &rules("hook", "outside", other.port);
    let home = Home::new(&both);
    let server = home.start();
    let publishers = publishers(&home);
    until("rows arrive at the other", async || other.taken().len() > 200).await;
    assert!(silent.requests() > 0, "the silent one is asked");
    until("checkpoints follow, although rows wait", async || {
        let sql =
            "SELECT s.taken - s.committed, s.backlog_bytes, m.value FROM system.sinks s CROSS JOIN system.metrics m
                   WHERE s.name = 'silent' AND m.name = 'hedgerow_engine_checkpoints_total'";
        let rows = server.sql(sql).await.unwrap_or_default();
        rows.first().is_some_and(|row| {
            let number = |value: &serde_json::Value| value.as_f64().unwrap_or_default();
            number(&row[0]) > 1e6 && number(&row[1]) > 0.0 && number(&row[2]) >= 3.0
        })
    })
    .await;
    let sent = finish(publishers).await;
    let acked: usize = sent.iter().map(|publisher| publisher.acked.len()).sum();
    until("all rows are at the other", async || other.taken().len() >= acked).await;
    assert!(silent.taken().is_empty());
}
