//! A row that is made at a deadline sees the tables as they were before the deadline's epoch, and no later: exactly once
//! through SIGKILL, and also when the log is read again on other workers and in other steps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::crash::{Found, client, number, text};
use crate::publisher::{Publisher, Sent};
use crate::server::{Home, Record, Row, SOON, Server, until, until_right};

/// Every message is a key of its own, and due after this.
const PATIENCE_US: u64 = 250_000;
const PACE: Duration = Duration::from_millis(100);

const RULES: &str = "
CREATE TABLE newest (client VARCHAR, seq BIGINT, PRIMARY KEY (client));
CREATE TABLE due (client VARCHAR, seq BIGINT, found BIGINT, PRIMARY KEY (client, seq));
CREATE SINK all_due WITH (connector = 'lake');
CREATE RULE remember AS SELECT topic(3) AS client, seq FROM 'crash/in/+' INTO newest;
CREATE RULE due AS
  SET @newest = get_dynamodb('newest', 'client', topic(3), 'role')
  SELECT topic(3) AS client, seq, get_or_default(@newest.seq, -1) AS found FROM 'crash/in/+'
  AFTER 0.25 UNLESS FALSE PARTITION BY topic(3), seq INTO due, all_due, TOPIC 'crash/due/${topic(3)}' QOS 1;
";

/// Looks up what it has written itself, so that epochs are evaluated one by one.
const COUNTED: &str = "
CREATE TABLE tally (client VARCHAR, n BIGINT, PRIMARY KEY (client));
CREATE RULE tally AS
  SELECT topic(3) AS client, get_or_default(get_dynamodb('tally', 'client', topic(3), 'role').n, 0) + 1 AS n
  FROM 'crash/in/+' AFTER 0.25 UNLESS FALSE PARTITION BY topic(3), seq INTO tally;
";

fn settings(workers: usize, step_rows: usize) -> String {
    format!(
        "[engine]\nworkers = {workers}\nstep_rows = {step_rows}\ncheckpoint_interval = \"500ms\"\n\
         [lake]\nroll_age = \"500ms\"\n[logging]\nlevel = \"warn\"\n"
    )
}

/// Offset, client, number, and the newest number as of the deadline.
type Line = (String, String, Option<i64>, Option<i64>);

fn line(row: &Row) -> Line {
    let number = |value| text(value).parse().ok().map(|number: f64| number as i64);
    (text(&row[0]), text(&row[1]), number(&row[2]), number(&row[3]))
}

/// What each message finds at its deadline: the newest of its client whose epoch is before.
fn expected(sources: &[&Record]) -> Vec<Line> {
    let mut by_client: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    for record in sources {
        by_client.entry(client(record)).or_default().push(record);
    }
    let then = |record: &Record| {
        let before = |other: &&&Record| other.epoch < record.epoch + PATIENCE_US;
        let newest = by_client[&client(record)].iter().filter(before).max_by_key(|other| other.offset);
        newest.map_or(-1, |newest| newest.seq() as i64)
    };
    let line =
        |record: &&Record| (record.offset.to_string(), client(record), Some(record.seq() as i64), Some(then(record)));
    sources.iter().map(line).collect()
}

/// In how many epochs each client sent something: as many deadlines there are.
fn deadlines(sources: &[&Record]) -> Vec<(String, Option<u64>)> {
    let mut epochs: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for record in sources {
        epochs.entry(client(record)).or_default().insert(record.epoch);
    }
    epochs.into_iter().map(|(client, epochs)| (client, Some(epochs.len() as u64))).collect()
}

async fn violations(home: &Home, server: &Server, sent: &[Sent], counted: bool) -> Vec<String> {
    let mut found = Found::default();
    let in_table = found.rows(server, "SELECT '', client, seq, found FROM due").await;
    let in_lake = found.rows(server, "SELECT _offset, client, seq, found FROM all_due").await;
    let tally = if counted { found.rows(server, "SELECT client, n FROM tally").await } else { Vec::new() };
    let records = home.records();
    let mut messages: Vec<&Record> = records.iter().filter(|record| record.kind == "message").collect();
    messages.sort_by_key(|record| record.offset);
    let below = |prefix: &str| messages.iter().copied().filter(|record| record.topic.starts_with(prefix)).collect();
    let (sources, derived): (Vec<&Record>, Vec<&Record>) = (below("crash/in/"), below("crash/due/"));
    found.acknowledged(&sources, sent);
    let expected = expected(&sources);
    // A message that was sent again after a kill is the same key, which is armed already.
    let mut seen = BTreeSet::new();
    let is_first: Vec<bool> = sources.iter().map(|record| seen.insert((client(record), record.seq()))).collect();
    let expected: Vec<Line> =
        expected.into_iter().zip(&is_first).filter(|(_, first)| **first).map(|(line, _)| line).collect();
    let sources: Vec<&Record> =
        sources.into_iter().zip(&is_first).filter(|(_, first)| **first).map(|(record, _)| record).collect();
    let nowhere = |line: &Line| (String::new(), line.1.clone(), line.2, line.3);
    found.same("due, in the table", expected.iter().map(nowhere).collect::<Vec<_>>(), in_table.iter().map(line));
    found.same("due, in the lake", expected, in_lake.iter().map(line));
    let ids = sources.iter().map(|record| format!("{}-{}-due-2", record.epoch + PATIENCE_US, record.offset));
    found.same("due, on the topic", ids.collect::<Vec<_>>(), derived.iter().map(|record| record.origin.clone()));
    if counted {
        let tally = tally.iter().map(|row| (text(&row[0]), number(&row[1])));
        found.same("tally", deadlines(&sources), tally);
    }
    found.in_words()
}

async fn rows_arrive(server: &Server, least: u64) {
    until("rows arrive", async || {
        server.sql("SELECT count(*) FROM due").await.is_ok_and(|rows| rows[0][0].as_u64() >= Some(least))
    })
    .await;
}

/// Runs under load, dies a few times, and returns what was sent.
async fn load(home: &Home, kills: u64, counted: bool) -> Vec<Sent> {
    let server = home.start();
    let publishers = ["a", "b", "c"].map(|client| Publisher::with_bursts(client, home.port, PACE));
    rows_arrive(&server, 100).await;
    server.kill();
    for kill in 1..kills {
        let server = home.start();
        rows_arrive(&server, 100 * (kill + 1)).await;
        server.kill();
    }
    let server = home.start();
    let mut sent = Vec::new();
    for publisher in publishers {
        sent.push(publisher.finish().await);
    }
    let wrong = until_right(SOON, async || violations(home, &server, &sent, counted).await).await;
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), home.last_words());
    server.kill();
    sent
}

async fn exact(counted: bool) {
    let rules = RULES.to_owned() + if counted { COUNTED } else { "" };
    let first = Home::with_settings(&settings(2, 8192));
    first.follow(&rules);
    let sent = load(&first, 4, counted).await;
    for (workers, step_rows) in [(1, 8192), (2, 1), (4, 100)] {
        let again = Home::with_settings(&settings(workers, step_rows));
        again.take_log_of(&first);
        let server = again.start();
        let wrong = until_right(SOON, async || violations(&again, &server, &sent, counted).await).await;
        assert!(wrong.is_empty(), "{workers} workers: {}\n{}", wrong.join("\n"), again.last_words());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_up_at_a_deadline_is_exact_through_kills_and_replays() {
    exact(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_up_at_a_deadline_and_written_there_is_exact_too() {
    exact(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_reads_the_newest_row_is_seen() {
    let first = Home::with_settings(&settings(2, 8192));
    first.follow(RULES);
    let sent = load(&first, 1, false).await;
    let again = Home::with_settings(&settings(1, 8192));
    again.take_log_of(&first);
    let server = again.start_with(&[("HEDGEROW_BUG", "lookup_reads_newest".to_owned())]).unwrap();
    let wrong = until_right(SOON / 3, async || violations(&again, &server, &sent, false).await).await;
    assert!(wrong.iter().any(|what| what.starts_with("due, in the lake: missing")), "{wrong:#?}");
}
