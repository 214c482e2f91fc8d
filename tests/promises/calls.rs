//! Rules that look rows up, or ask another system: each row exactly once through SIGKILL, and what is looked up is what
//! the tables held at the message's epoch, also when the log is read again on other workers and in other steps.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::crash::{Found, client, number, text};
use crate::publisher::{Publisher, Sent};
use crate::server::{Home, Record, Row, SOON, Server, until, until_right};

/// `newest` is written by a rule that asks nobody, and `tally` by the rule that looks it up.
const RULES: &str = "
CREATE TABLE newest (client VARCHAR, seq BIGINT, PRIMARY KEY (client));
CREATE TABLE tally (client VARCHAR, n BIGINT, PRIMARY KEY (client));
CREATE TABLE looked (trace VARCHAR, client VARCHAR, seq BIGINT, before BIGINT, PRIMARY KEY (trace));
CREATE TABLE asked (trace VARCHAR, client VARCHAR, seq BIGINT, twice BIGINT, PRIMARY KEY (trace));
CREATE SINK all_looked WITH (connector = 'lake');
CREATE SINK all_asked WITH (connector = 'lake');

CREATE RULE remember AS SELECT topic(3) AS client, seq FROM 'crash/in/+' INTO newest;

CREATE RULE look AS
  SELECT traceid() AS trace, topic(3) AS client, seq,
         get_or_default(get_dynamodb('newest', 'client', topic(3), 'role').seq, -1) AS before
  FROM 'crash/in/+' INTO looked, all_looked, TOPIC 'crash/looked/${topic(3)}' QOS 1;

CREATE RULE count_epochs AS
  SELECT topic(3) AS client, get_or_default(get_dynamodb('tally', 'client', topic(3), 'role').n, 0) + 1 AS n
  FROM 'crash/in/+' INTO tally;

CREATE RULE ask AS
  SELECT traceid() AS trace, topic(3) AS client, seq, aws_lambda('double', seq) AS twice
  FROM 'crash/in/+' INTO asked, all_asked, TOPIC 'crash/asked/${topic(3)}' QOS 1;
";

/// From one burst of messages to the next: each waits for an answer, so that what was sent is not what takes time.
const PACE: Duration = Duration::from_millis(150);

/// A row of a client: with its offset in the lake, without it in a table.
type Line = (String, String, Option<i64>, Option<i64>);

fn settings(workers: usize, step_rows: usize, function: u16) -> String {
    format!(
        "[engine]\nworkers = {workers}\nstep_rows = {step_rows}\ncheckpoint_interval = \"500ms\"\n\
         [lake]\nroll_age = \"500ms\"\n[logging]\nlevel = \"warn\"\n\
         [calls]\ntimeout = \"20s\"\n[outside]\nallow_private = [\"127.0.0.1:{function}\"]\n\
         [lambdas]\ndouble = {{ url = \"http://127.0.0.1:{function}/\" }}\n"
    )
}

/// A function that doubles numbers and takes a few milliseconds for some of them.
fn function() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || while answer(&connection).is_some() {});
        }
    });
    port
}

/// Answers one request; `None` when there are no more.
fn answer(mut connection: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(connection);
    let mut length = 0;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let number: i64 = String::from_utf8(body).ok()?.parse().ok()?;
    std::thread::park_timeout(Duration::from_millis(number.unsigned_abs() % 5));
    let body = (2 * number).to_string();
    write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()
}

/// What does not agree with the log, in words; nothing when all is well.
async fn violations(home: &Home, server: &Server, sent: &[Sent]) -> Vec<String> {
    let mut found = Found::default();
    let looked = found.rows(server, "SELECT '', client, seq, before FROM looked").await;
    let in_lake = found.rows(server, "SELECT _offset, client, seq, before FROM all_looked").await;
    let asked = found.rows(server, "SELECT '', client, seq, twice FROM asked").await;
    let asked_in_lake = found.rows(server, "SELECT _offset, client, seq, twice FROM all_asked").await;
    let tally = found.rows(server, "SELECT client, n FROM tally").await;
    let records = home.records();
    let mut messages: Vec<&Record> = records.iter().filter(|record| record.kind == "message").collect();
    messages.sort_by_key(|record| record.offset);
    let below = |prefix: &str| messages.iter().copied().filter(|record| record.topic.starts_with(prefix)).collect();
    let sources: Vec<&Record> = below("crash/in/");
    let (from_look, from_ask): (Vec<&Record>, Vec<&Record>) = (below("crash/looked/"), below("crash/asked/"));
    found.acknowledged(&sources, sent);

    let expected = lookups(&sources);
    found.same("looked up, in the table", without_offset(&expected), looked.iter().map(line));
    found.same("looked up, in the lake", expected, in_lake.iter().map(line));
    let twice = |record: &&Record| line_of(record, 2 * record.seq() as i64);
    let expected: Vec<Line> = sources.iter().map(twice).collect();
    found.same("asked, in the table", without_offset(&expected), asked.iter().map(line));
    found.same("asked, in the lake", expected, asked_in_lake.iter().map(line));
    let counted = tally.iter().map(|row| (text(&row[0]), number(&row[1])));
    found.same("tally", epochs(&sources), counted);
    found.derived("look", 2, &sources, &from_look);
    found.derived("ask", 2, &sources, &from_ask);
    found.in_words()
}

fn line_of(record: &Record, last: i64) -> Line {
    (record.offset.to_string(), client(record), Some(record.seq() as i64), Some(last))
}

fn line(row: &Row) -> Line {
    let number = |value| text(value).parse().ok().map(|number: f64| number as i64);
    (text(&row[0]), text(&row[1]), number(&row[2]), number(&row[3]))
}

fn without_offset(lines: &[Line]) -> Vec<Line> {
    lines.iter().cloned().map(|(_, client, seq, last)| (String::new(), client, seq, last)).collect()
}

/// For each message the newest one of its client in an earlier epoch; -1 if there is none.
fn lookups(sources: &[&Record]) -> Vec<Line> {
    // By client: the epoch of its newest message, that message, and the newest of an earlier epoch.
    let mut newest: BTreeMap<String, (u64, i64, i64)> = BTreeMap::new();
    let mut all = Vec::new();
    for record in sources {
        let (epoch, seq, before) = newest.entry(client(record)).or_insert((0, -1, -1));
        if *epoch < record.epoch {
            *before = *seq;
        }
        (*epoch, *seq) = (record.epoch, record.seq() as i64);
        all.push(line_of(record, *before));
    }
    all
}

/// In how many epochs each client sent something.
fn epochs(sources: &[&Record]) -> Vec<(String, Option<u64>)> {
    let mut epochs: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for record in sources {
        epochs.entry(client(record)).or_default().insert(record.epoch);
    }
    epochs.into_iter().map(|(client, epochs)| (client, Some(epochs.len() as u64))).collect()
}

async fn rows_arrive(server: &Server, least: u64) {
    until("rows arrive", async || {
        server.sql("SELECT count(*) FROM looked").await.is_ok_and(|rows| rows[0][0].as_u64() >= Some(least))
    })
    .await;
}

/// Runs under load, dies `kills` times, and returns what was sent.
async fn load(home: &Home, kills: u64) -> Vec<Sent> {
    let server = home.start();
    let publishers = ["a", "b", "c", "d"].map(|client| Publisher::with_bursts(client, home.port, PACE));
    rows_arrive(&server, 200).await;
    server.kill();
    for kill in 1..kills {
        let server = home.start();
        rows_arrive(&server, 200 * kill).await;
        server.kill();
    }
    let server = home.start();
    let mut sent = Vec::new();
    for publisher in publishers {
        sent.push(publisher.finish().await);
    }
    let wrong = until_right(SOON, async || violations(home, &server, &sent).await).await;
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), home.last_words());
    server.kill();
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_and_calls_are_exact_through_kills_and_replays() {
    let function = function();
    let first = Home::with_settings(&settings(2, 8192, function));
    first.follow(RULES);
    let sent = load(&first, 6).await;
    for (workers, step_rows) in [(1, 8192), (2, 1), (4, 100)] {
        let again = Home::with_settings(&settings(workers, step_rows, function));
        again.take_log_of(&first);
        let server = again.start();
        let wrong = until_right(SOON, async || violations(&again, &server, &sent).await).await;
        assert!(wrong.is_empty(), "{workers} workers: {}\n{}", wrong.join("\n"), again.last_words());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_that_reads_the_newest_row_is_seen() {
    let function = function();
    let first = Home::with_settings(&settings(2, 8192, function));
    first.follow(RULES);
    let sent = load(&first, 1).await;
    let again = Home::with_settings(&settings(1, 8192, function));
    again.take_log_of(&first);
    let server = again.start_with(&[("HEDGEROW_BUG", "lookup_reads_newest".to_owned())]).unwrap();
    // What is merely late comes; what is wrong stays.
    let wrong = until_right(SOON / 3, async || violations(&again, &server, &sent).await).await;
    assert!(wrong.iter().any(|what| what.starts_with("looked up, in the lake: missing")), "{wrong:#?}");
}
