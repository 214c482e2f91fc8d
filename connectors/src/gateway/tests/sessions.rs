//! Sessions over connections, takeovers and restarts.

use super::*;

const EXPIRY: [u8; 5] = [17, 0, 0, 0x0E, 0x10];

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_connection_wins() {
    let server = Server::start().await;
    let (mut old, _) = server.v5("c", true, &[]).await;
    let (mut new, present) = server.v5("c", true, &[]).await;
    assert!(!present);
    assert_eq!(old.end().await, Some(0x8E));
    new.ping().await;
    // Many at once: one remains, and the others are told.
    let mut crowd = Vec::new();
    for _ in 0..10 {
        crowd.push(server.connect(&connect_v5("c", true, &[]), Version::V5).await);
    }
    let mut alive = Vec::new();
    assert_eq!(new.end().await, Some(0x8E));
    until("one remains", || server.metrics().rejected(Reject::TakenOver) == 11).await;
    for mut raw in crowd {
        assert_eq!(raw.packet().await[3], 0);
        raw.send(&[0xC0, 0]).await;
        match raw.packet().await[..] {
            [0xD0, 0] => alive.push(raw),
            [0xE0, _, 0x8E, ..] => {}
            ref other => panic!("{other:?}"),
        }
    }
    assert_eq!(alive.len(), 1);
    assert_eq!(server.gateway().sessions().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_sleeps_through_a_restart() {
    let mut server = Server::start().await;
    let (mut raw, present) = server.v4("keeper", false).await;
    assert!(!present);
    raw.subscribe("a/+", 1).await;
    raw.subscribe("gone/#", 1).await;
    assert_eq!(raw.unsubscribe("gone/#").await, [0xB0, 2, 0, 78]);
    let (mut publisher, _) = server.v4("p", true).await;
    publisher.publish_1("a/1", 1, "online").await;
    assert_eq!(raw.take().await.payload, "online");
    raw.leave().await;
    publisher.publish_1("a/2", 2, "asleep").await;
    publisher.publish("a/2", 0, 0, "QoS 0 is not kept").await;
    publisher.publish_1("gone/x", 3, "not subscribed").await;
    server.restart().await;
    let (mut publisher, _) = server.v4("p", true).await;
    publisher.publish_1("a/3", 1, "after the restart").await;
    let info = server.session("keeper").unwrap();
    assert_eq!((info.connected, &info.subscriptions[..]), (false, &[("a/+".to_owned(), 1)][..]));
    let (mut raw, present) = server.v4("keeper", false).await;
    assert!(present);
    assert_eq!(raw.take().await.payload, "asleep");
    assert_eq!(raw.take().await.payload, "after the restart");
    publisher.publish_1("a/4", 2, "and on").await;
    assert_eq!(raw.take().await.payload, "and on");
    raw.leave().await;
    until("nothing is left on disk", || server.session("keeper").unwrap().stored_messages == 0).await;
    // A clean session throws the old one away, also over a restart.
    let (raw, present) = server.v4("keeper", true).await;
    assert!(!present);
    raw.leave().await;
    server.restart().await;
    let (_raw, present) = server.v4("keeper", false).await;
    assert!(!present);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_flight_is_sent_again_under_its_packet_id() {
    let mut server = Server::start().await;
    let (mut raw, _) = server.v5("s", false, &EXPIRY).await;
    raw.subscribe("t", 1).await;
    let (mut publisher, _) = server.v4("p", true).await;
    for (id, payload) in [(1, "one"), (2, "two"), (3, "three")] {
        publisher.publish_1("t", id, payload).await;
    }
    let (one, two, three) = (raw.message().await, raw.message().await, raw.message().await);
    assert!(!one.dup && two.packet_id != three.packet_id);
    raw.puback(two.packet_id).await;
    raw.ping().await;
    drop(raw);
    let (mut raw, present) = server.v5("s", false, &EXPIRY).await;
    assert!(present);
    for first in [&one, &three] {
        let again = raw.message().await;
        assert!(again.dup);
        assert_eq!((again.packet_id, &again.payload), (first.packet_id, &first.payload));
    }
    raw.puback(one.packet_id).await;
    raw.ping().await;
    raw.leave_with_restart(&mut server).await;
    let (mut raw, _) = server.v5("s", false, &EXPIRY).await;
    let again = raw.take().await;
    assert_eq!((again.packet_id, &*again.payload, again.dup), (three.packet_id, "three", true));
    raw.leave().await;
    until("all is acknowledged", || server.session("s").unwrap().stored_messages == 0).await;
}

impl Raw {
    async fn leave_with_restart(self, server: &mut Server) {
        drop(self);
        server.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_nothing_that_was_not_acknowledged_by_the_subscriber() {
    let mut server = Server::with(|config| config.delivery_commit_ms = 20).await;
    let (mut raw, _) = server.v4("s", false).await;
    raw.subscribe("t", 1).await;
    let (mut publisher, _) = server.v4("p", true).await;
    publisher.publish_1("t", 1, "before").await;
    assert_eq!(raw.take().await.payload, "before");
    raw.ping().await;
    until("the session is on disk", || server.metrics().sessions.get() == 2).await;
    server.restart().await;
    let copy = tempfile::tempdir().unwrap();
    copy_dir(&server.dir.path().join("store"), &copy.path().join("store"));
    // From here on the copy of the store knows nothing: a subscription, messages, a QoS 2 exchange half done.
    let (mut raw, _) = server.v4("s", false).await;
    raw.subscribe("u", 1).await;
    let (mut publisher, _) = server.v4("p", false).await;
    publisher.publish_1("u", 1, "first").await;
    publisher.publish_1("t", 2, "second").await;
    publisher.publish("t", 2, 9, "third").await;
    assert_eq!(publisher.packet().await, [0x50, 2, 0, 9]);
    assert_eq!(raw.message().await.payload, "first");
    drop((raw, publisher));
    server.restart_with_older_store(&copy.path().join("store")).await;
    let (mut raw, present) = server.v4("s", false).await;
    assert!(present);
    for expected in ["first", "second", "third"] {
        assert_eq!(raw.take().await.payload, expected);
    }
    let (mut publisher, present) = server.v4("p", false).await;
    assert!(present);
    publisher.publish("t", 2, 9, "third").await;
    assert_eq!(publisher.packet().await, [0x50, 2, 0, 9]);
    publisher.publish_1("t", 10, "fourth").await;
    assert_eq!(raw.take().await.payload, "fourth", "the third was not doubled");
}

#[tokio::test(flavor = "multi_thread")]
async fn qos_2_is_logged_once_whatever_happens() {
    let mut server = Server::start().await;
    let (mut raw, _) = server.v4("c", false).await;
    raw.publish("t", 2, 7, "once").await;
    assert_eq!(raw.packet().await, [0x50, 2, 0, 7]);
    raw.publish("t", 2, 7, "once").await;
    assert_eq!(raw.packet().await, [0x50, 2, 0, 7], "the same connection");
    drop(raw);
    let (mut raw, present) = server.v4("c", false).await;
    assert!(present);
    raw.publish("t", 2, 7, "once").await;
    assert_eq!(raw.packet().await, [0x50, 2, 0, 7], "a new connection");
    drop(raw);
    server.restart().await;
    let (mut raw, _) = server.v4("c", false).await;
    raw.publish("t", 2, 7, "once").await;
    assert_eq!(raw.packet().await, [0x50, 2, 0, 7], "a restart");
    raw.send(&[0x62, 2, 0, 7]).await;
    assert_eq!(raw.packet().await, [0x70, 2, 0, 7]);
    raw.send(&[0x62, 2, 0, 7]).await;
    assert_eq!(raw.packet().await, [0x70, 2, 0, 7], "PUBREL again");
    drop(raw);
    server.restart().await;
    let (mut raw, _) = server.v4("c", false).await;
    raw.publish("t", 2, 7, "another").await;
    assert_eq!(raw.packet().await, [0x50, 2, 0, 7], "released, so a new message");
    assert_eq!(server.logged(), ["once", "another"]);
    assert_eq!(server.metrics().duplicates_suppressed.get(), 0, "counted since the last start");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qos_2_repeat_is_not_answered_before_the_first_is_committed() {
    let server = Server::start().await;
    let (mut first, _) = server.v4("c", false).await;
    server.gate.set(true);
    first.publish("t", 2, 7, "once").await;
    until("it is on its way", || server.metrics().messages_in[2].get() == 1).await;
    // A new connection cannot be welcomed while nothing commits, so the repeat comes on the same one.
    first.publish("t", 2, 7, "once").await;
    until("the repeat was seen", || server.metrics().duplicates_suppressed.get() == 1).await;
    first.ping().await;
    server.gate.set(false);
    assert_eq!(first.packet().await, [0x50, 2, 0, 7]);
    assert_eq!(first.packet().await, [0x50, 2, 0, 7]);
    assert_eq!(server.logged(), ["once"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_expire() {
    let mut server = Server::start().await;
    let (mut raw, _) = server.v5("short", false, &[17, 0, 0, 0, 100]).await;
    raw.subscribe("t", 1).await;
    let (kept, _) = server.v5("kept", false, &EXPIRY).await;
    let (mut cut, _) = server.v5("cut", false, &EXPIRY).await;
    let (ends, _) = server.v5("ends", false, &[]).await;
    drop((raw, kept, ends));
    // DISCONNECT may shorten the expiry, not raise it from 0.
    cut.send(&[0xE0, 7, 0, 5, 17, 0, 0, 0, 0]).await;
    assert_eq!(cut.end().await, None);
    until("those without expiry are gone", || server.session("cut").is_none() && server.session("ends").is_none())
        .await;
    assert!(server.session("short").is_some());
    server.clock.advance(Duration::from_secs(101));
    until("one second is over", || server.session("short").is_none()).await;
    assert!(server.session("kept").is_some());
    let (mut zero, _) = server.v5("zero", true, &[]).await;
    zero.send(&[0xE0, 7, 0, 5, 17, 0, 0, 0, 9]).await;
    assert_eq!(zero.end().await, Some(0x82));
    server.restart().await;
    let left: Vec<_> = server.gateway().sessions().into_iter().map(|session| session.client_id).collect();
    assert_eq!(left, ["kept"]);
    assert_eq!(server.metrics().subscriptions.get(), 0);
}
