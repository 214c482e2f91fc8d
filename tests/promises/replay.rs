//! Replay is exact: the log alone gives the same rows again, on any number of workers and however its epochs are cut into
//! steps, and what the rules had put back into the log is not put there again.

use crate::crash::{RULES, violations};
use crate::publisher::Publisher;
use crate::server::{Home, SOON, Server, until, until_right};

/// Everything that rules wrote, with what stands beside it.
const RESULTS: [&str; 4] = [
    "SELECT _offset, _time, _topic, _client_id, trace, client, seq FROM all_readings",
    "SELECT client, since, n, total FROM all_seconds",
    "SELECT trace, client, seq FROM readings",
    "SELECT client, since, n, total FROM per_second",
];

/// The rows of a query as text, sorted.
async fn rows(server: &Server, sql: &str) -> Result<Vec<String>, String> {
    let mut rows: Vec<String> = server.sql(sql).await?.iter().map(|row| serde_json::json!(row).to_string()).collect();
    rows.sort();
    Ok(rows)
}

fn settings(workers: usize, step_rows: usize) -> String {
    format!(
        "[engine]\nworkers = {workers}\nstep_rows = {step_rows}\ncheckpoint_interval = \"500ms\"\n\
         [lake]\nroll_age = \"500ms\"\n[logging]\nlevel = \"warn\"\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn any_workers_and_any_steps_give_the_same_rows() {
    let first = Home::new(RULES);
    let server = first.start();
    let publishers = ["a", "b", "c", "d", "e"].map(|client| Publisher::at_least_once(client, first.port));
    until("some windows are closed", async || {
        let rows = server.sql("SELECT count(*) FROM per_second").await;
        rows.is_ok_and(|rows| rows[0][0].as_u64() >= Some(15))
    })
    .await;
    let mut sent = Vec::new();
    for publisher in publishers {
        sent.push(publisher.finish().await);
    }
    let wrong = until_right(SOON, async || violations(&first, &server, &sent).await).await;
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), first.last_words());
    let mut expected = Vec::new();
    for sql in RESULTS {
        expected.push(rows(&server, sql).await.unwrap());
    }
    server.kill();

    for (workers, step_rows) in [(1, 8192), (2, 1), (4, 100)] {
        let again = Home::with_settings(&settings(workers, step_rows));
        again.take_log_of(&first);
        let server = again.start();
        let wrong = until_right(SOON, async || {
            let mut wrong = violations(&again, &server, &sent).await;
            for (sql, expected) in RESULTS.iter().zip(&expected) {
                if rows(&server, sql).await.as_ref() != Ok(expected) {
                    wrong.push(format!("other rows than at first: {sql}"));
                }
            }
            wrong
        })
        .await;
        assert!(wrong.is_empty(), "{workers} workers: {}\n{}", wrong.join("\n"), again.last_words());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_end_in_order_nothing_is_replayed() {
    let home = Home::with_settings("[engine]\ncheckpoint_interval = \"1h\"\n[logging]\nlevel = \"warn\"\n");
    home.follow(RULES);
    let server = home.start();
    let publisher = Publisher::at_least_once("a", home.port);
    let replayed = "SELECT value FROM system.metrics WHERE name = 'hedgerow_engine_records_total'";
    until("hundreds of messages are taken", async || {
        server.sql("SELECT count(*) FROM readings").await.is_ok_and(|rows| rows[0][0].as_u64() >= Some(300))
    })
    .await;
    let sent = [publisher.finish().await];
    assert!(server.stop().success(), "{}", home.last_words());

    let server = home.start();
    let read = server.sql(replayed).await.unwrap()[0][0].as_f64().unwrap();
    assert!(read < 100.0, "{read} records were read again");
    let wrong = until_right(SOON, async || violations(&home, &server, &sent).await).await;
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), home.last_words());
}
