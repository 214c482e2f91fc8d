//! A message has either its rows or its error, once, when a rule asks others: whenever the server dies, and whatever the
//! destination says when it is asked again.

use std::collections::BTreeMap;

use crate::exactly_once::{Dice, die_at, finish, publishers};
use crate::receiver::{Manner, Receiver};
use crate::server::{Home, SOON, Server, until, until_right};

const RULES: &str = "
CREATE TABLE failed (cloudwatchTraceId VARCHAR, PRIMARY KEY (cloudwatchTraceId));
CREATE SINK answered WITH (connector = 'lake');
CREATE RULE told AS SELECT seq, aws_lambda('moody', {'c': topic(3), 'n': seq}) AS r FROM 'crash/in/+'
  INTO answered, TOPIC 'fine/${topic(3)}' ON ERROR INTO failed;
CREATE RULE untold AS SELECT seq, aws_lambda('moody', {'to': topic(3), 'n': seq}) AS r FROM 'crash/in/+'
  WHERE seq % 10 = 0 INTO TOPIC 'tens/${topic(3)}';
";

fn home(receiver: &Receiver) -> Home {
    let port = receiver.port;
    let home = Home::with_settings(&format!(
        "[engine]\nworkers = 2\ncheckpoint_interval = \"500ms\"\n[lake]\nroll_age = \"500ms\"\n\
         [logging]\nlevel = \"warn\"\n[calls]\ntimeout = \"20s\"\n[outside]\nallow_private = [\"127.0.0.1:{port}\"]\n\
         [lambdas]\nmoody = {{ url = \"http://127.0.0.1:{port}/\" }}\n"
    ));
    home.follow(RULES);
    home
}

/// What became of messages: for each, how often it is there with its row, and how often with its error.
#[derive(Default)]
struct Fates(BTreeMap<String, (u64, u64)>);

impl Fates {
    fn wrong(&self, rule: &str, expected: usize) -> Vec<String> {
        let count = |fate: fn(&(u64, u64)) -> bool| self.0.values().filter(|of| fate(of)).count();
        let (rows, errors) = (count(|of| *of == (1, 0)), count(|of| *of == (0, 1)));
        let odd: Vec<_> = self.0.iter().filter(|(_, of)| **of != (1, 0) && **of != (0, 1)).take(3).collect();
        let mut wrong = Vec::new();
        if rows + errors != expected || rows < errors || errors == 0 {
            wrong.push(format!("{rows} rows and {errors} errors of {rule} for {expected} messages"));
        }
        if !odd.is_empty() {
            wrong.push(format!("{rule}, rows and errors: {odd:?}"));
        }
        wrong
    }
}

async fn violations(home: &Home, server: &Server) -> Vec<String> {
    let lake = server.sql("SELECT _offset FROM answered").await;
    let letters = server.sql("SELECT row_id, sink FROM dead_letters").await;
    let failed = server.sql("SELECT count(*) FROM failed").await;
    let (Ok(lake), Ok(letters), Ok(failed)) = (lake, letters, failed) else { return vec!["no answer".into()] };
    let records = home.records();
    let (mut told, mut untold, mut republished) = (Fates::default(), Fates::default(), Fates::default());
    // `epoch-offset-rule-…`
    let offset = |id: &str| id.split('-').nth(1).unwrap().to_owned();
    for row in &lake {
        told.0.entry(row[0].to_string()).or_default().0 += 1;
    }
    for record in &records {
        let origin = || offset(&record.origin);
        match record.topic.split('/').next().unwrap() {
            "fine" => republished.0.entry(origin()).or_default().0 += 1,
            "tens" => untold.0.entry(origin()).or_default().0 += 1,
            "$hedgerow" => {
                let payload: serde_json::Value = serde_json::from_str(&record.payload).unwrap();
                let failure = &payload["failures"][0];
                assert_eq!(
                    (&failure["failedAction"], &failure["failedResource"]),
                    (&"aws_lambda".into(), &"moody".into())
                );
                told.0.entry(origin()).or_default().1 += 1;
                republished.0.entry(origin()).or_default().1 += 1;
            }
            _ => {}
        }
    }
    for row in &letters {
        assert_eq!(row[1], "aws_lambda(moody)");
        untold.0.entry(offset(row[0].as_str().unwrap())).or_default().1 += 1;
    }
    let sources: Vec<_> = records.iter().filter(|record| record.topic.starts_with("crash/in/")).collect();
    let tens = sources.iter().filter(|record| record.seq().is_multiple_of(10)).count();
    let mut wrong = told.wrong("told", sources.len());
    wrong.extend(republished.wrong("told, republished", sources.len()));
    wrong.extend(untold.wrong("untold", tens));
    let errors = told.0.values().map(|(_, errors)| errors).sum::<u64>();
    if failed[0][0].as_u64() != Some(errors) {
        wrong.push(format!("{failed:?} rows of the error action, not {errors}"));
    }
    wrong
}

async fn some_are_told(server: &Server) {
    until("errors are told", async || {
        server.sql("SELECT count(*) FROM failed").await.is_ok_and(|rows| rows[0][0].as_u64() > Some(5))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_either_its_rows_or_its_error() {
    let receiver = Receiver::start(Manner::SecondThoughts).await;
    let home = home(&receiver);
    let mut dice = Dice::new();
    let server = home.start();
    let publishers = publishers(&home);
    some_are_told(&server).await;
    server.kill();
    for (point, passes) in [("calls.after_failed", 20), ("errors.after_append", 3), ("republish.after_append", 20)] {
        die_at(&home, point, dice.roll(passes));
    }
    let server = home.start();
    finish(publishers).await;
    let wrong = until_right(2 * SOON, async || violations(&home, &server).await).await;
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), home.last_words());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_call_that_is_forgotten_is_seen_as_row_and_error() {
    let receiver = Receiver::start(Manner::SecondThoughts).await;
    let home = home(&receiver);
    let bug = ("HEDGEROW_BUG", "failed_call_forgotten".to_owned());
    let server = home.start_with(std::slice::from_ref(&bug)).unwrap();
    let publishers = publishers(&home);
    some_are_told(&server).await;
    server.kill();
    for _ in 0..3 {
        let fault = ("HEDGEROW_FAULT", "calls.after_failed:5".to_owned());
        // It may die while it replays, before it is ready.
        if let Ok(mut server) = home.start_with(&[bug.clone(), fault]) {
            assert!(server.wait_for_end(SOON).is_some(), "nobody passed the point");
        }
    }
    let server = home.start_with(std::slice::from_ref(&bug)).unwrap();
    finish(publishers).await;
    let wrong = until_right(SOON / 3, async || violations(&home, &server).await).await;
    assert!(wrong.iter().any(|what| what.contains("rows and errors: [")), "{wrong:#?}");
}
