//! What does not happen is noticed once, at the very deadline: with real clients, through kills and restarts, and with
//! the server down when the time is up.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, Packet, QoS};
use serde_json::json;

use crate::publisher::publish;
use crate::server::{Home, Record, SOON, Server, until};

/// How long a device may be away.
const PATIENCE_US: u64 = 5_000_000;

const RULES: &str = "
CREATE SINK notices WITH (connector = 'lake');
CREATE TABLE away (device VARCHAR, seq BIGINT, PRIMARY KEY (device));

CREATE RULE offline_alert AS
  SELECT topic(2) AS device, seq FROM 'lifecycle/+' WHERE status = 'offline'
  AFTER INTERVAL '5 seconds' UNLESS status = 'online' PARTITION BY topic(2)
  INTO notices, away, TOPIC 'alerts/${topic(2)}' QOS 1;
";

/// A device says how it is, or its last will does.
async fn say(home: &Home, device: &str, status: &str, seq: u64) {
    let payload = json!({"status": status, "seq": seq}).to_string();
    publish(home.port, device, &format!("lifecycle/{device}"), &[payload]).await;
}

/// `device seq` of every notice in the lake.
async fn noticed(server: &Server) -> Vec<String> {
    let rows = server.sql("SELECT device, seq FROM notices ORDER BY device, seq").await.unwrap_or_default();
    // The lake's inferred numbers are DOUBLE.
    rows.iter().map(|row| format!("{} {}", row[0].as_str().unwrap(), row[1].as_f64().unwrap())).collect()
}

/// Waits until the last thing that is going to happen has happened: the notice of a device that went after all others,
/// for the `round`th time.
async fn until_all_is_over(home: &Home, server: &Server, round: u64) {
    say(home, "zz-last", "online", 100 + round).await;
    say(home, "zz-last", "offline", round).await;
    until("the last notice", async || noticed(server).await.contains(&format!("zz-last {round}"))).await;
}

/// What came out on the topics: by device, the payload and the row id it was derived from.
fn alerts(records: &[Record]) -> BTreeMap<String, Vec<(String, String)>> {
    let mut alerts: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for record in records {
        if let Some(device) = record.topic.strip_prefix("alerts/") {
            alerts.entry(device.to_owned()).or_default().push((record.payload.clone(), record.origin.clone()));
        }
    }
    alerts.remove("zz-last");
    alerts
}

/// Each of these devices was noticed once, for the record with that number, at its epoch plus the delay.
fn assert_noticed(home: &Home, lake: &[String], expected: &[(&str, u64)]) {
    let records = home.records();
    let mut alerts = alerts(&records);
    for (device, seq) in expected {
        let of_device = alerts.remove(*device).unwrap_or_default();
        assert_eq!(of_device.len(), 1, "{device}: {of_device:?}");
        let (payload, origin) = &of_device[0];
        assert_eq!(payload, &format!("{{\"device\":\"{device}\",\"seq\":{seq}}}"));
        let armed = records
            .iter()
            .find(|record| record.topic == format!("lifecycle/{device}") && record.seq() == *seq)
            .unwrap_or_else(|| panic!("{device} {seq} is not logged"));
        let position = format!("{}-{}-offline_alert-2", armed.epoch + PATIENCE_US, armed.offset);
        assert_eq!(origin, &position, "{device}");
    }
    assert!(alerts.is_empty(), "nobody was to notice {alerts:?}");
    let mut expected: Vec<String> = expected.iter().map(|(device, seq)| format!("{device} {seq}")).collect();
    expected.sort();
    let lake: Vec<&String> = lake.iter().filter(|row| !row.starts_with("zz-last")).collect();
    assert_eq!(lake, expected.iter().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_noticed_once_timed_from_its_last_beginning() {
    let home = Home::new(RULES);
    let server = home.start();
    for device in ["crashed", "back", "flapping", "repeats"] {
        say(&home, device, "online", 0).await;
        say(&home, device, "offline", 1).await;
    }
    say(&home, "back", "online", 2).await;
    for seq in [2, 4, 6] {
        say(&home, "flapping", "online", seq).await;
        say(&home, "flapping", "offline", seq + 1).await;
    }
    for seq in 2..6 {
        say(&home, "repeats", "offline", seq).await;
    }
    until_all_is_over(&home, &server, 1).await;
    say(&home, "repeats", "offline", 6).await;
    until_all_is_over(&home, &server, 2).await;
    assert_noticed(&home, &noticed(&server).await, &[("crashed", 1), ("flapping", 7), ("repeats", 1)]);
    let away = server.sql("SELECT device, seq FROM away WHERE device = 'flapping'").await.unwrap();
    assert_eq!(away, [[json!("flapping"), json!(7)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_before_the_deadline_notices_once() {
    let home = Home::new(RULES);
    let server = home.start();
    say(&home, "early", "offline", 1).await;
    say(&home, "saved", "offline", 1).await;
    // Once with the timer in a checkpoint, and once with the log alone.
    until("a checkpoint holds the timer", async || armed(&server).await == Some(2)).await;
    say(&home, "late", "offline", 1).await;
    server.kill();
    let server = home.start();
    say(&home, "saved", "online", 2).await;
    until_all_is_over(&home, &server, 1).await;
    server.kill();
    let server = home.start();
    until("the lake is there again", async || noticed(&server).await.len() >= 3).await;
    let lake = noticed(&server).await;
    let saved_in_time = !lake.contains(&"saved 1".to_owned());
    let mut expected = vec![("early", 1), ("late", 1)];
    if !saved_in_time {
        // A slow machine: the server came back when the time was up.
        expected.push(("saved", 1));
    }
    assert_noticed(&home, &lake, &expected);
}

/// Armed keys, as the server tells.
async fn armed(server: &Server) -> Option<u64> {
    server.sql("SELECT armed FROM system.timers").await.ok()?.first()?.first()?.as_u64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passed_while_the_server_was_down_is_noticed_after_the_start_once() {
    let home = Home::new(RULES);
    let server = home.start();
    say(&home, "gone", "offline", 1).await;
    server.kill();
    let up = Instant::now() + Duration::from_micros(PATIENCE_US) + Duration::from_millis(100);
    until("the deadline passes", async || Instant::now() > up).await;
    let server = home.start();
    // Nothing comes from outside: the log's own tick brings the time.
    until("the notice", async || noticed(&server).await == ["gone 1"]).await;
    say(&home, "gone", "online", 2).await;
    server.kill();
    let server = home.start();
    until_all_is_over(&home, &server, 1).await;
    assert_noticed(&home, &noticed(&server).await, &[("gone", 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_log_gives_the_same_notices() {
    let first = Home::new(RULES);
    let server = first.start();
    for number in 0..20 {
        let device = format!("d{number}");
        say(&first, &device, "offline", 1).await;
        if number % 3 == 0 {
            say(&first, &device, "online", 2).await;
        }
    }
    until_all_is_over(&first, &server, 1).await;
    let expected = noticed(&server).await;
    server.kill();
    let position = |records: &[Record]| alerts(records).into_values().flatten().map(|(_, at)| at).collect::<Vec<_>>();
    let positions = position(&first.records());
    assert_eq!(positions.len(), 13);
    for workers in [1, 4] {
        let again = Home::with_settings(&format!(
            "[engine]\nworkers = {workers}\nstep_rows = 3\n[logging]\nlevel = \"warn\"\n"
        ));
        again.take_log_of(&first);
        let server = again.start();
        until("all is replayed", async || noticed(&server).await == expected).await;
        assert_eq!(position(&again.records()), positions, "what is in the log is not put there again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_timer_holds_up_nothing_and_is_shown() {
    let home = Home::new(&RULES.replace("5 seconds", "15 minutes"));
    let server = home.start();
    say(&home, "patient", "offline", 1).await;
    let record = home.records().into_iter().find(|record| record.topic == "lifecycle/patient").unwrap();
    until("it is armed", async || armed(&server).await == Some(1)).await;
    let sql = "SELECT rule, armed, fired, CAST(next_deadline AS BIGINT), next_key, notices FROM system.timers";
    let deadline_ms = (record.epoch + 900_000_000) / 1_000;
    let expected = json!([["offline_alert", 1, 0, deadline_ms, "[\"patient\"]", 0]]);
    assert_eq!(json!(server.sql(sql).await.unwrap()), expected);
    until("marks and checkpoints go on", async || {
        say(&home, "other", "online", 1).await;
        let taken = server.sql("SELECT min(taken) FROM system.sinks").await.unwrap();
        let sql = "SELECT value FROM system.metrics WHERE name = 'hedgerow_engine_checkpoints_total'";
        let checkpoints = server.sql(sql).await.unwrap();
        taken[0][0].as_u64() > Some(record.epoch + 1_000_000) && checkpoints[0][0].as_f64() > Some(1.0)
    })
    .await;
    // The timer is in a checkpoint that the log begins after.
    server.kill();
    let server = home.start();
    until("it is still armed", async || armed(&server).await == Some(1)).await;
    assert_eq!(json!(server.sql(sql).await.unwrap()), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_says_which_timers_it_discards() {
    let home = Home::with_settings("[logging]\nlevel = \"warn\"\n");
    let server = home.start();
    let notes = async |rules: &str, dry_run: bool| {
        let body = json!({"files": {"rules.sql": rules}, "dry_run": dry_run});
        let report = server.post("/rules/apply", &body).await.unwrap();
        let all = report["changes"].as_array().unwrap_or_else(|| panic!("{report}")).clone();
        let of_rule = all.into_iter().find(|one| one["kind"] == "rule");
        of_rule.map(|one| one["note"].as_str().unwrap_or_default().to_owned())
    };
    notes(RULES, false).await;
    say(&home, "a", "offline", 1).await;
    say(&home, "b", "offline", 1).await;
    until("they are armed", async || armed(&server).await == Some(2)).await;
    let other_row = RULES.replace("seq FROM", "seq, 1 AS one FROM");
    assert_eq!(notes(&other_row, true).await.unwrap(), "its timers go on: 2 armed, which keep their rows");
    let longer = RULES.replace("5 seconds", "5 minutes");
    let lost = "its timers are discarded: 2 armed, whose notices will not come";
    assert_eq!(notes(&longer, true).await.unwrap(), lost);
    assert_eq!(notes("-- nothing", true).await.unwrap(), lost, "a rule whose file is gone");
    assert_eq!(armed(&server).await, Some(2), "a dry run changes nothing");
    assert_eq!(notes(&longer, false).await.unwrap(), lost);
    assert_eq!(armed(&server).await, Some(0));
    assert_eq!(
        notes(RULES, false).await.unwrap(),
        "it has no armed timers; keys that were noticed may be noticed again"
    );
    until_all_is_over(&home, &server, 1).await;
    assert_eq!(noticed(&server).await, ["zz-last 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_of_a_session_that_was_taken_over_is_no_outage() {
    let rules = "
CREATE RULE as_presence AS SELECT VALUE * FROM 'fake/+/+' INTO TOPIC '$$aws/events/presence/${topic(2)}/${topic(3)}';
CREATE RULE gone AS
  SELECT clientId, versionNumber AS v FROM presence WHERE eventType = 'disconnected' AND clientId <> 'gateway'
  AFTER INTERVAL '2 seconds' UNLESS eventType = 'connected' PARTITION BY clientId INTO TOPIC 'gone/${clientId}' QOS 1;
";
    let home = Home::new(rules);
    let server = home.start();
    let event = async |client: &str, event: &str, version: u64| {
        let payload =
            json!({"clientId": client, "eventType": event, "versionNumber": version, "timestamp": 1}).to_string();
        publish(home.port, "gateway", &format!("fake/{event}/{client}"), &[payload]).await;
    };
    event("taken-over", "connected", 1).await;
    event("taken-over", "connected", 2).await;
    event("taken-over", "disconnected", 1).await;
    event("left", "connected", 1).await;
    event("left", "disconnected", 1).await;
    event("left", "connected", 1).await;
    until("the notice", async || {
        server.sql("SELECT notices, stale FROM system.timers").await.is_ok_and(|rows| rows == [[json!(1), json!(2)]])
    })
    .await;
    let gone = || home.records().into_iter().filter(|record| record.topic.starts_with("gone/"));
    until("it is logged", async || gone().count() > 0).await;
    let gone: Vec<(String, String)> = gone().map(|record| (record.topic, record.payload)).collect();
    assert_eq!(gone, [("gone/left".to_owned(), "{\"clientId\":\"left\",\"v\":1}".to_owned())]);
}

/// A device with a connection of its own, whose last will says that it is offline.
async fn connected(home: &Home, device: &str) -> EventLoop {
    let mut options = MqttOptions::new(device, "127.0.0.1", home.port);
    let will = json!({"status": "offline", "seq": 1}).to_string();
    options.set_last_will(LastWill::new(format!("lifecycle/{device}"), will, QoS::AtLeastOnce, false));
    let (sender, mut events) = AsyncClient::new(options, 10);
    sender.publish(format!("lifecycle/{device}"), QoS::AtLeastOnce, false, r#"{"status": "online"}"#).await.unwrap();
    let acknowledged = async { while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::PubAck(_))) {} };
    tokio::time::timeout(SOON, acknowledged).await.expect("no acknowledgement");
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_client_is_noticed_by_its_will_and_by_its_presence() {
    let rules = format!(
        "{RULES}
CREATE RULE gone AS
  SELECT clientId, disconnectReason AS reason FROM presence WHERE eventType = 'disconnected'
  AFTER INTERVAL '5 seconds' UNLESS eventType = 'connected' PARTITION BY clientId INTO TOPIC 'gone/${{clientId}}' QOS 1;"
    );
    let home = Home::new(&rules);
    let server = home.start();
    // Dropped connections: nobody says DISCONNECT.
    drop(connected(&home, "pump").await);
    drop(connected(&home, "valve").await);
    let offline = |device: &str| {
        let topic = format!("lifecycle/{device}");
        home.records().iter().any(|record| record.topic == topic && record.payload.contains("offline"))
    };
    until("the wills are published", async || offline("pump") && offline("valve")).await;
    let _back = connected(&home, "valve").await;
    let of_devices = |prefix: &str| -> Vec<String> {
        let records = home.records();
        let topics = records.iter().filter_map(|record| record.topic.strip_prefix(prefix));
        topics.filter(|device| ["pump", "valve"].contains(device)).map(str::to_owned).collect()
    };
    until("both rules notice", async || !of_devices("gone/").is_empty() && !of_devices("alerts/").is_empty()).await;
    until_all_is_over(&home, &server, 1).await;
    assert_eq!(of_devices("gone/"), ["pump"]);
    assert_eq!(of_devices("alerts/"), ["pump"]);
    assert!(noticed(&server).await.contains(&"pump 1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_repeats_itself_is_seen() {
    let home = Home::new(RULES);
    let Ok(server) = home.start_with(&[("HEDGEROW_BUG", "notice_repeats".to_owned())]) else { panic!("no start") };
    say(&home, "repeats", "offline", 1).await;
    until("the first notice", async || noticed(&server).await == ["repeats 1"]).await;
    say(&home, "repeats", "offline", 2).await;
    let until_seen = Instant::now() + SOON;
    until("the bug shows", async || {
        assert!(Instant::now() < until_seen, "a second notice was expected");
        noticed(&server).await == ["repeats 1", "repeats 2"]
    })
    .await;
}
