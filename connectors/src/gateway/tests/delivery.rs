//! From the log to subscribers: everything that is due, to everyone it is due, and no queue without an end.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_may_begin_with_any_character() {
    let server = Server::start().await;
    let (mut raw, _) = server.v4("s", true).await;
    raw.subscribe("+/x", 1).await;
    let (mut publisher, _) = server.v4("p", true).await;
    for (id, topic) in ["é/x", "日本/x", "/x", " /x", "🌾/x", "\u{FEFF}/x"].into_iter().enumerate() {
        publisher.publish_1(topic, id as u16 + 1, topic).await;
        let got = raw.take().await;
        assert_eq!((&*got.topic, &*got.payload), (topic, topic));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn qos_is_the_lower_of_both_and_overlaps_give_one_copy() {
    let server = Server::start().await;
    let (mut raw, _) = server.v5("s", true, &[]).await;
    for (filter, options) in [("a/#", 0), ("a/+", 1), ("#", 0)] {
        raw.subscribe(filter, options).await;
    }
    let (mut publisher, _) = server.v4("p", true).await;
    publisher.publish_1("a/b", 1, "both").await;
    publisher.publish("a/b", 0, 0, "zero").await;
    publisher.publish_1("c", 2, "other").await;
    publisher.publish("a/b", 2, 3, "two").await;
    let got: Vec<_> = [raw.take().await, raw.take().await, raw.take().await, raw.take().await]
        .into_iter()
        .map(|got| (got.payload, got.qos))
        .collect();
    let expected = [("both", 1), ("zero", 0), ("other", 0), ("two", 1)];
    assert_eq!(got, expected.map(|(payload, qos)| (payload.to_owned(), qos)));
    // No local: not one's own messages, unless another subscription asks for them.
    raw.subscribe("own", 1 | 4).await;
    assert_eq!(raw.unsubscribe("#").await, [0xB0, 4, 0, 78, 0, 0]);
    assert_eq!(raw.unsubscribe("#").await, [0xB0, 4, 0, 78, 0, 0x11]);
    raw.publish("own", 1, 5, "mine").await;
    assert_eq!(raw.packet().await[0], 0x40);
    publisher.publish("own", 0, 0, "theirs").await;
    assert_eq!(raw.take().await.payload, "theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_reach_mqtt_5_subscribers_and_expiry_counts_down() {
    let server = Server::start().await;
    let (mut five, _) = server.v5("five", true, &[]).await;
    five.subscribe("t", 1).await;
    let (mut four, _) = server.v4("four", true).await;
    four.subscribe("t", 1).await;
    let (mut sleeper, _) = server.v5("sleeper", false, &[17, 0, 0, 1, 0]).await;
    sleeper.subscribe("t", 1).await;
    sleeper.leave().await;
    let properties = [
        &[1, 1, 2, 0, 0, 0, 2, 3][..],
        &text("text/plain"),
        &[8],
        &text("answer/here"),
        &[9, 0, 2, 0xFF, 0],
        &[38],
        &text("key"),
        &text("value"),
        &[38],
        &text("key"),
        &text("again"),
    ]
    .concat();
    let (mut publisher, _) = server.v5("p", true, &[]).await;
    publisher.publish_with("t", 1, 1, "hello", &properties).await;
    publisher.packet().await;
    assert_eq!(five.take().await.properties, properties);
    let got = four.take().await;
    assert_eq!((&*got.payload, got.properties.len()), ("hello", 0));
    publisher.publish("t", 1, 2, "lasting").await;
    server.clock.advance(Duration::from_millis(2100));
    let (mut sleeper, _) = server.v5("sleeper", false, &[]).await;
    assert_eq!(sleeper.take().await.payload, "lasting", "the first has expired");
    assert_eq!(server.metrics().expired.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_too_large_for_the_subscriber_is_passed_over() {
    let server = Server::start().await;
    let (mut raw, _) = server.v5("s", true, &[39, 0, 0, 0, 30]).await;
    raw.subscribe("t", 1).await;
    let (mut publisher, _) = server.v4("p", true).await;
    publisher.publish_1("t", 1, &"x".repeat(40)).await;
    publisher.publish_1("t", 2, "small").await;
    assert_eq!(raw.take().await.payload, "small");
    assert_eq!(server.metrics().too_large_for_subscriber.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subscribers_receive_maximum_is_kept() {
    let server = Server::start().await;
    let (mut raw, _) = server.v5("s", true, &[33, 0, 2]).await;
    raw.subscribe("t", 1).await;
    let (mut publisher, _) = server.v4("p", true).await;
    for id in 1..=5 {
        publisher.publish_1("t", id, &id.to_string()).await;
    }
    let (one, two) = (raw.message().await, raw.message().await);
    until("the rest waits", || server.session("s").unwrap().queued_messages == 3).await;
    raw.ping().await;
    raw.puback(one.packet_id).await;
    assert_eq!(raw.message().await.payload, "3");
    raw.puback(two.packet_id).await;
    assert_eq!(raw.message().await.payload, "4");
}

/// Subscribers that read nothing, leave with full queues, or come back: the others get everything meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_does_not_read_is_bounded_and_harms_nobody() {
    let server = Server::with(|config| {
        config.queue_messages = 50;
        config.write_buffer_bytes = 4096;
        config.offline_messages = 1000;
    })
    .await;
    let (mut deaf, _) = server.v4("deaf", true).await;
    deaf.subscribe("t", 1).await;
    let (mut slow, _) = server.v4("slow", false).await;
    slow.subscribe("t", 1).await;
    let (mut good, _) = server.v4("good", true).await;
    good.subscribe("t", 1).await;
    let (mut publisher, _) = server.v4("p", true).await;
    let pad = "x".repeat(10_000);
    for id in 1..=300 {
        publisher.publish_1("t", id, &format!("{id} {pad}")).await;
        assert!(good.take().await.payload.starts_with(&format!("{id} ")));
    }
    let deaf_info = server.session("deaf").unwrap();
    assert!(deaf_info.queued_messages <= 50, "{deaf_info:?}");
    assert_eq!(deaf_info.dropped_messages, 300 - deaf_info.queued_messages - deaf_info.in_flight_messages);
    drop(deaf);
    until("the deaf one is gone", || server.session("deaf").is_none()).await;
    // The durable one lost nothing: what memory does not hold is on disk.
    let slow_info = server.session("slow").unwrap();
    assert!(slow_info.queued_messages <= 50 && slow_info.dropped_messages == 0, "{slow_info:?}");
    for id in 1..=300 {
        let got = slow.take().await;
        assert!(got.payload.starts_with(&format!("{id} ")), "{id}: {:.10}", got.payload);
    }
    publisher.publish_1("t", 1, "on").await;
    assert_eq!(slow.take().await.payload, "on");
    assert_eq!(good.take().await.payload, "on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_sessions_queue_is_bounded_oldest_first() {
    let mut server = Server::with(|config| config.offline_messages = 10).await;
    let (mut raw, _) = server.v4("s", false).await;
    raw.subscribe("t", 1).await;
    raw.leave().await;
    let (mut publisher, _) = server.v4("p", true).await;
    for id in 1..=25 {
        publisher.publish_1("t", id, &id.to_string()).await;
    }
    until("the oldest are dropped", || server.session("s").unwrap().dropped_messages == 15).await;
    server.restart().await;
    let (mut raw, _) = server.v4("s", false).await;
    for id in 16..=25 {
        assert_eq!(raw.take().await.payload, id.to_string());
    }
}
