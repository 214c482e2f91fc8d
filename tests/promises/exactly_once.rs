//! Exactly once, whatever happens to the process: SIGKILL at random moments and at each named point, under load.
//!
//! `HEDGEROW_TEST_KILLS` sets how often it is killed at random (20), `HEDGEROW_TEST_SEED` repeats a run.

use std::time::Duration;

use crate::crash::{RULES, violations};
use crate::publisher::{Publisher, Sent};
use crate::server::{Home, SOON, Server, until, until_right};

/// Where the process dies, and the most passes before it does.
const POINTS: [(&str, u64); 7] = [
    ("log.after_write_before_sync", 60),
    ("log.after_sync_before_ack", 60),
    ("lake.after_seal_before_upload", 3),
    ("lake.after_commit_before_mark", 3),
    ("checkpoint.middle", 2),
    ("recovery.middle", 1),
    ("republish.after_append", 40),
];
const SIGABRT: i32 = 6;

pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Numbers that follow from the seed (xorshift64).
pub struct Dice(u64);

impl Dice {
    pub fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = setting("HEDGEROW_TEST_SEED", now).max(1);
        println!("HEDGEROW_TEST_SEED={seed}");
        Self(seed)
    }

    /// From 1 to `most`.
    pub fn roll(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most + 1
    }
}

pub fn publishers(home: &Home) -> Vec<Publisher> {
    let at_least_once = ["a", "b", "c"].map(|client| Publisher::at_least_once(client, home.port));
    at_least_once.into_iter().chain([Publisher::exactly_once("once", home.port)]).collect()
}

pub async fn finish(publishers: Vec<Publisher>) -> Vec<Sent> {
    let mut sent = Vec::new();
    for publisher in publishers {
        sent.push(publisher.finish().await);
    }
    sent
}

async fn some_rows(server: &Server) {
    until("rows arrive", async || {
        server.sql("SELECT count(*) FROM readings").await.is_ok_and(|rows| rows[0][0].as_u64() > Some(0))
    })
    .await;
}

/// Runs the server until it dies of this point.
pub fn die_at(home: &Home, point: &str, passes: u64) {
    match home.start_with(&[("HEDGEROW_FAULT", format!("{point}:{passes}"))]) {
        Ok(mut server) => assert_eq!(server.wait_for_end(SOON), Some(SIGABRT), "nobody passed {point}"),
        Err(status) => {
            use std::os::unix::process::ExitStatusExt;
            assert_eq!(status.signal(), Some(SIGABRT), "{point}: {}", home.last_words());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_and_doubles_nothing() {
    let home = Home::new(RULES);
    let mut dice = Dice::new();
    let server = home.start();
    let publishers = publishers(&home);
    some_rows(&server).await;
    server.kill();
    for _ in 1..setting("HEDGEROW_TEST_KILLS", 20) {
        let server = home.start();
        tokio::time::sleep(Duration::from_millis(dice.roll(1_200))).await;
        server.kill();
    }
    for (point, passes) in POINTS {
        die_at(&home, point, dice.roll(passes));
    }
    let server = home.start();
    let sent = finish(publishers).await;
    let wrong = until_right(SOON, async || violations(&home, &server, &sent).await).await;
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), home.last_words());
    for publisher in sent {
        let (client, acknowledged) = (publisher.client, publisher.acked.len());
        assert!(acknowledged > 100, "{client} got {acknowledged} acknowledgements: this test shows nothing");
    }
}

/// Runs under load with a bug, dying a few times, and returns what is wrong afterwards.
async fn with_bug(bug: &str, point: &str, passes: u64) -> Vec<String> {
    let home = Home::new(RULES);
    let bug = ("HEDGEROW_BUG", bug.to_owned());
    let server = home.start_with(std::slice::from_ref(&bug)).unwrap();
    let publishers = publishers(&home);
    some_rows(&server).await;
    server.kill();
    for _ in 0..3 {
        let mut server = home.start_with(&[bug.clone(), ("HEDGEROW_FAULT", format!("{point}:{passes}"))]).unwrap();
        assert_eq!(server.wait_for_end(SOON), Some(SIGABRT), "nobody passed {point}");
    }
    let server = home.start();
    let sent = finish(publishers).await;
    // What is merely late comes; what is lost or doubled stays.
    until_right(SOON / 3, async || violations(&home, &server, &sent).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_before_its_rows_is_seen_as_lost_rows() {
    let wrong = with_bug("mark_before_rows", "table.after_mark_before_rows", 40).await;
    assert!(wrong.iter().any(|what| what.starts_with("table: missing")), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_mark_are_seen_as_doubled() {
    let wrong = with_bug("skip_without_mark", "republish.after_append", 40).await;
    assert!(wrong.iter().any(|what| what.starts_with("republished by hop1: not expected, or twice")), "{wrong:#?}");
}
