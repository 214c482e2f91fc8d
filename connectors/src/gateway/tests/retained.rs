//! Retained messages: the last one of a topic, for whoever subscribes later.

use super::*;

/// Retain as published; retain handling 1 and 2.
const AS_PUBLISHED: u8 = 8;
const IF_NEW: u8 = 0x10;
const NEVER: u8 = 0x20;

#[tokio::test(flavor = "multi_thread")]
async fn the_last_one_is_for_later_subscribers_also_through_wildcards_and_a_restart() {
    let mut server = Server::start().await;
    let (mut publisher, _) = server.v5("p", true, &[]).await;
    let (mut live, _) = server.v5("live", true, &[]).await;
    live.subscribe("a/#", 1).await;
    live.subscribe("b/#", 1 | AS_PUBLISHED).await;
    publisher.retain("a/1", "old", &[]).await;
    publisher.retain("a/1", "new", &[]).await;
    publisher.retain("a/2/x", "deep", &[3, 0, 1, b't']).await;
    publisher.retain("b/1", "published", &[]).await;
    publisher.retain("$mine/1", "hidden", &[]).await;
    let got: Vec<_> = [live.take().await, live.take().await, live.take().await, live.take().await]
        .map(|got| (got.payload, got.retain))
        .to_vec();
    let expected = [("old", false), ("new", false), ("deep", false), ("published", true)];
    assert_eq!(got, expected.map(|(payload, retain)| (payload.to_owned(), retain)));
    for _ in 0..2 {
        let (mut late, _) = server.v4("late", true).await;
        for (filter, expected) in [
            ("a/1", &["new"][..]),
            ("a/+", &["new"]),
            ("+/#", &["new", "deep", "published"]),
            ("#", &["new", "deep", "published"]),
            ("$mine/+", &["hidden"]),
            ("a/2", &[]),
        ] {
            late.subscribe(filter, 1).await;
            for payload in expected {
                let got = late.take().await;
                assert_eq!((&*got.payload, got.retain, got.qos), (*payload, true, 1), "{filter}");
            }
            late.nothing().await;
            late.unsubscribe(filter).await;
        }
        let (mut five, _) = server.v5("five", true, &[]).await;
        five.subscribe("a/2/#", 0).await;
        let got = five.take().await;
        assert_eq!((got.properties, got.qos), (vec![3, 0, 1, b't'], 0));
        server.restart().await;
        assert_eq!(server.metrics().retained.get(), 4);
    }
    // An empty payload deletes, and is delivered like any other.
    let (mut live, _) = server.v5("live", true, &[]).await;
    live.subscribe("a/1", 1).await;
    assert_eq!(live.take().await.payload, "new");
    let (mut publisher, _) = server.v5("p", true, &[]).await;
    publisher.retain("a/1", "", &[]).await;
    let got = live.take().await;
    assert_eq!((&*got.payload, got.retain), ("", false));
    server.restart().await;
    let (mut late, _) = server.v5("late", true, &[]).await;
    late.subscribe("a/+", 1).await;
    late.nothing().await;
    assert_eq!(server.metrics().retained.get(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn retain_handling_and_expiry() {
    let server = Server::start().await;
    let (mut raw, _) = server.v5("c", true, &[]).await;
    raw.retain("t", "kept", &[2, 0, 0, 0x0B, 0xB8]).await;
    raw.subscribe("t", NEVER).await;
    raw.nothing().await;
    raw.subscribe("t", IF_NEW).await;
    raw.nothing().await;
    raw.unsubscribe("t").await;
    raw.subscribe("t", IF_NEW).await;
    assert_eq!(raw.take().await.payload, "kept");
    raw.subscribe("t", 0).await;
    server.clock.advance(Duration::from_secs(1000));
    assert_eq!(raw.take().await.payload, "kept", "0 sends it again");
    raw.subscribe("t", 0).await;
    let left = raw.take().await.properties;
    let left = u32::from_be_bytes(left[1..].try_into().unwrap());
    assert!((1900..=2000).contains(&left), "what is left of its time: {left} s");
    server.clock.advance(Duration::from_secs(2001));
    raw.subscribe("t", 0).await;
    raw.nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_reach_a_new_subscriber_whole_and_the_number_kept_is_bounded() {
    let server = Server::with(|config| {
        config.queue_messages = 10;
        config.max_retained_messages = 300;
    })
    .await;
    let (mut publisher, _) = server.v5("p", true, &[]).await;
    for at in 0..310 {
        publisher.retain(&format!("t/{at:03}"), &at.to_string(), &[]).await;
    }
    until("the rest is refused", || server.metrics().retained_refused.get() == 10).await;
    for (client_id, clean, qos) in [("clean", true, 1), ("clean 0", true, 0), ("durable", false, 1)] {
        let (mut raw, _) = server.v4(client_id, clean).await;
        raw.subscribe("t/#", qos).await;
        for at in 0..300 {
            let got = raw.take().await;
            assert_eq!((&*got.payload, got.qos), (&*at.to_string(), qos), "{client_id}");
        }
        publisher.publish_1("t/live", 1, "live").await;
        assert_eq!(raw.take().await.payload, "live");
        raw.leave().await;
    }
    // What is replaced while it waits is not sent any more: its successor was.
    publisher.retain("t/000", "replaced", &[]).await;
    let (mut raw, _) = server.v4("clean", true).await;
    raw.subscribe("t/000", 1).await;
    assert_eq!(raw.take().await.payload, "replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_session_gets_them_after_a_restart_too() {
    let mut server = Server::start().await;
    let (mut publisher, _) = server.v5("p", true, &[]).await;
    publisher.retain("t/1", "one", &[]).await;
    publisher.retain("t/2", "two", &[]).await;
    let (mut raw, _) = server.v4("c", false).await;
    raw.subscribe("t/+", 1).await;
    let (one, two) = (raw.message().await, raw.message().await);
    assert!(one.retain && two.retain);
    publisher.publish_1("t/3", 1, "three").await;
    raw.puback(one.packet_id).await;
    raw.ping_past_messages().await;
    drop(raw);
    server.restart().await;
    let (mut raw, present) = server.v4("c", false).await;
    assert!(present);
    let again = raw.take().await;
    assert_eq!((&*again.payload, again.retain, again.packet_id, again.dup), ("two", true, two.packet_id, true));
    assert_eq!(raw.take().await.payload, "three");
    raw.leave().await;
    until("nothing is left", || server.session("c").unwrap().stored_messages == 0).await;
}

impl Raw {
    /// As `ping`, but messages may come before the answer, and are passed over.
    async fn ping_past_messages(&mut self) {
        self.send(&[0xC0, 0]).await;
        while self.packet().await != [0xD0, 0] {}
    }
}
