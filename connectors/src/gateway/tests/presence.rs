//! Presence: every connection has its event, and every end of one, in an order that can be relied on, whoever dies.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;

impl Server {
    /// The events in the log, in its order.
    fn events(&self) -> Vec<Value> {
        let own = |(topic, payload): (String, String)| {
            topic.starts_with("$aws/events/").then(|| serde_json::from_str::<Value>(&payload).unwrap())
        };
        self.log().into_iter().filter_map(own).collect()
    }

    fn of_client(&self, client_id: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["clientId"] == client_id).collect()
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["eventType"].as_str().unwrap()).collect()
}

fn reasons(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["disconnectReason"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_its_subscriptions_and_its_end() {
    let server = Server::start().await;
    let (mut watcher, _) = server.v5("watcher", true, &[]).await;
    assert_eq!(watcher.subscribe("$aws/events/+/+/device/#", 1).await, 1);
    let (mut raw, _) = server.v4("device/1", true).await;
    raw.subscribe("a/#", 1).await;
    raw.unsubscribe("never/there").await;
    raw.unsubscribe("a/#").await;
    raw.leave().await;
    let mut events = Vec::new();
    for topic in
        ["presence/connected", "subscriptions/subscribed", "subscriptions/unsubscribed", "presence/disconnected"]
    {
        let got = watcher.take().await;
        assert_eq!((&*got.topic, got.qos), (&*format!("$aws/events/{topic}/device/1"), 1));
        events.push(serde_json::from_str::<Value>(&got.payload).unwrap());
    }
    let [connected, subscribed, unsubscribed, gone] = &events[..] else { panic!("four") };
    assert_eq!((&connected["ipAddress"], &connected["principalIdentifier"]), (&"127.0.0.1".into(), &"".into()));
    assert_eq!((&subscribed["topics"], &unsubscribed["topics"]), (&vec!["a/#"].into(), &vec!["a/#"].into()));
    assert_eq!(gone["disconnectReason"], "CLIENT_INITIATED_DISCONNECT");
    assert_eq!(
        (&gone["clientInitiatedDisconnect"], &gone["versionNumber"]),
        (&true.into(), &connected["versionNumber"])
    );
    assert!(events.iter().all(|event| event["sessionIdentifier"] == connected["sessionIdentifier"]));
    assert!(connected["timestamp"].as_i64().unwrap() <= gone["timestamp"].as_i64().unwrap());
    // Nobody else says so.
    watcher.publish("$aws/events/presence/connected/device/1", 1, 9, "{}").await;
    assert_eq!(watcher.packet().await, [0x40, 3, 0, 9, 0x90]);
    assert_eq!(server.of_client("device/1").len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_has_its_reason() {
    let mut server = Server::start().await;
    let (lost, _) = server.v5("lost", true, &[]).await;
    drop(lost);
    let (mut bad, _) = server.v5("bad", true, &[]).await;
    bad.send(&[0, 0]).await;
    bad.end().await;
    let (mut old, _) = server.v5("twice", true, &[]).await;
    let (new, _) = server.v5("twice", true, &[]).await;
    old.end().await;
    let (mut reserved, _) = server.v4("reserved", true).await;
    reserved.publish("$SYS/x", 0, 0, "x").await;
    reserved.end().await;
    let mut silent = server.connect(&connect_v4("silent", true, 1), Version::V4).await;
    silent.packet().await;
    silent.end().await;
    let head = [0, 4, b'M', b'Q', b'T', b'T', 4, 6, 0, 0];
    let will = packet_of(0x10, &[&head[..], &text("denied"), &text("$aws/x"), &text("")].concat());
    let mut denied = server.connect(&will, Version::V4).await;
    assert_eq!(denied.packet().await, [0x20, 2, 0, 5]);
    until("all ends are there", || server.gateway().sessions().len() == 1).await;
    server.restart().await;
    drop(new);
    for (client_id, expected) in [
        ("lost", &["CONNECTION_LOST"][..]),
        ("bad", &["CLIENT_ERROR"]),
        ("twice", &["DUPLICATE_CLIENTID", "SERVER_INITIATED_DISCONNECT"]),
        ("reserved", &["AUTH_ERROR"]),
        ("silent", &["MQTT_KEEP_ALIVE_TIMEOUT"]),
        ("denied", &[]),
    ] {
        assert_eq!(reasons(&server.of_client(client_id)), expected, "{client_id}");
    }
    assert_eq!(kinds(&server.of_client("twice")), ["connected", "disconnected", "connected", "disconnected"]);
    assert_eq!(kinds(&server.of_client("denied")), ["connect_failed"]);
}

/// A log without room takes nothing, not even the end of a connection: that waits, and the client's next connection with it.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_waits_for_room_in_the_log_and_the_next_connection_for_it() {
    let server = Server::start().await;
    let (first, _) = server.v5("c", false, &[17, 0, 0, 0x0E, 0x10]).await;
    let (mut other, _) = server.v4("other", true).await;
    server.gate.full.store(true, Ordering::SeqCst);
    let log = Arc::clone(&server.running.as_ref().unwrap().1);
    until("the log knows that the disk is full", || log.health().reserve_used).await;
    drop(first);
    until("the end is waiting", || !lock(&server.gateway().shared.unlogged).is_empty()).await;
    // Its second connection knocks, and is not let in.
    let mut second = server.connect(&connect_v5("c", false, &[]), Version::V5).await;
    assert!(server.session("c").unwrap().connected, "as far as anybody knows");
    assert_eq!(kinds(&server.of_client("c")), ["connected"]);
    other.ping().await;
    server.gate.full.store(false, Ordering::SeqCst);
    let connack = second.packet().await;
    assert_eq!((connack[2], connack[3]), (1, 0), "its session is there");
    assert_eq!(kinds(&server.of_client("c")), ["connected", "disconnected", "connected"]);
    assert_eq!(reasons(&server.of_client("c")), ["CONNECTION_LOST"]);
    assert!(lock(&server.gateway().shared.unlogged).is_empty());
}

/// What a reader of the log may rely on, whatever happened: per client, connections do not overlap, each has one end, and
/// numbers grow.
fn check(events: &[Value]) -> BTreeSet<String> {
    let mut open: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    for event in events {
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let (client, id, version) = (text("clientId"), text("sessionIdentifier"), event["versionNumber"].as_u64());
        match &*text("eventType") {
            "connected" => {
                let version = version.unwrap();
                assert!(newest.insert(client.clone(), version).is_none_or(|old| old < version), "{event}");
                assert!(open.insert(client, (version, id)).is_none(), "two at once: {event}");
            }
            "disconnected" => {
                assert_eq!(open.remove(&client), Some((version.unwrap(), id)), "the end of something else: {event}");
            }
            _ => {}
        }
    }
    open.into_keys().collect()
}

/// A small generator, seeded, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Connections, takeovers, farewells, losses and killed servers, in any order: no connection is left without its end, and
/// every will is said as often as a connection with one ended without farewell: once.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_connections_and_crashes() {
    let seed = std::env::var("HEDGEROW_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x9E37_79B9);
    println!("HEDGEROW_TEST_SEED={seed}");
    let mut dice = Dice(seed);
    let mut server = Server::with(|config| config.delivery_commit_ms = 5).await;
    let mut owed = BTreeSet::new();
    let mut serial = 0;
    for _round in 0..6 {
        let mut open: BTreeMap<u64, (Raw, String)> = BTreeMap::new();
        for _ in 0..40 {
            let client = dice.below(6);
            match dice.below(4) {
                // Connects, and takes over from itself if it is there.
                0 | 1 => {
                    serial += 1;
                    let will = format!("will {serial}");
                    let durable: &[u8] = if dice.below(2) == 0 { &[17, 0, 0, 0x0E, 0x10] } else { &[] };
                    let clean = if dice.below(2) == 0 { 2 } else { 0 };
                    let bytes = connect_with_will(&format!("c{client}"), clean, durable, &[], &will);
                    let mut raw = server.connect(&bytes, Version::V5).await;
                    assert_eq!(raw.packet().await[3], 0);
                    if let Some((_, will)) = open.insert(client, (raw, will)) {
                        owed.insert(will);
                    }
                }
                2 => {
                    if let Some((raw, _)) = open.remove(&client) {
                        raw.leave().await;
                    }
                }
                _ => {
                    if let Some((_, will)) = open.remove(&client) {
                        owed.insert(will);
                    }
                }
            }
        }
        // A farewell is acknowledged by nothing but the end of the socket: give the log the time to have it.
        let there: BTreeSet<String> = open.keys().map(|client| format!("c{client}")).collect();
        until("the log knows who is there", || check(&server.events()) == there).await;
        owed.extend(open.values().map(|(_, will)| will.clone()));
        let crashes = 1 + dice.below(3);
        for crash in 0..crashes {
            let copy = tempfile::tempdir().unwrap();
            // The first crash with everybody there; the others soon after the start, in the middle of what it has to say.
            server.crash(copy.path()).await;
            server.run().await;
            println!("crash {crash}: {} events", server.events().len());
        }
        drop(open);
        until("everybody is gone", || server.gateway().sessions().iter().all(|session| !session.connected)).await;
        until("their ends are in the log", || check(&server.events()).is_empty()).await;
    }
    until("every will is said", || server.logged().len() >= owed.len()).await;
    let mut said = server.logged();
    said.sort();
    assert_eq!(said, owed.into_iter().collect::<Vec<_>>());
    let lost = reasons(&server.events()).iter().filter(|reason| **reason == "SERVER_ERROR").count();
    assert!(lost > 6, "{lost} connections were cut off by a crash");
}
