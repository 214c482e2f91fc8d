//! QoS 2 towards subscribers: each message once, over connections and restarts in good order.

use super::*;

const EXPIRY: [u8; 5] = [17, 0, 0, 0x0E, 0x10];

#[tokio::test(flavor = "multi_thread")]
async fn qos_2_is_handed_over_in_four_steps() {
    let server = Server::start().await;
    let (mut raw, _) = server.v5("s", true, &[33, 0, 2]).await;
    assert_eq!(raw.subscribe("t", 2).await, 2);
    let (mut publisher, _) = server.v4("p", true).await;
    for id in 1..=4 {
        publisher.publish("t", 2, id, &id.to_string()).await;
        assert_eq!(publisher.packet().await[0], 0x50);
        publisher.ack(0x62, id).await;
        assert_eq!(publisher.packet().await[0], 0x70);
    }
    let (one, two) = (raw.message().await, raw.message().await);
    assert_eq!((one.qos, two.qos, &*one.payload, &*two.payload), (2, 2, "1", "2"));
    let [high, low] = one.packet_id.to_be_bytes();
    raw.ack(0x50, one.packet_id).await;
    assert_eq!(raw.packet().await, [0x62, 2, high, low]);
    raw.ack(0x50, one.packet_id).await;
    assert_eq!(raw.packet().await, [0x62, 2, high, low], "again");
    raw.ack(0x50, 999).await;
    assert_eq!(raw.packet().await, [0x62, 3, 0x03, 0xE7, 0x92], "never heard of it");
    // The window is free with PUBCOMP only.
    raw.nothing().await;
    raw.ack(0x70, one.packet_id).await;
    assert_eq!(raw.message().await.payload, "3");
    // A message that the subscriber refuses is done with.
    let [high, low] = two.packet_id.to_be_bytes();
    raw.send(&[0x50, 3, high, low, 0x87]).await;
    assert_eq!(raw.message().await.payload, "4");
    assert_eq!(server.metrics().messages_out[2].get(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_exchange_goes_on_where_it_stood() {
    let mut server = Server::start().await;
    let (mut raw, _) = server.v5("s", false, &EXPIRY).await;
    raw.subscribe("t", 2).await;
    let (mut publisher, _) = server.v4("p", true).await;
    for (id, payload) in [(1, "done"), (2, "released"), (3, "sent"), (4, "one")] {
        let qos = if payload == "one" { 1 } else { 2 };
        publisher.publish("t", qos, id, payload).await;
        publisher.packet().await;
    }
    assert_eq!(raw.take().await.payload, "done");
    let (released, sent, one) = (raw.message().await, raw.message().await, raw.message().await);
    assert_eq!((&*released.payload, &*sent.payload, one.qos), ("released", "sent", 1));
    raw.ack(0x50, released.packet_id).await;
    assert_eq!(raw.packet().await[0], 0x62);
    drop(raw);
    for turn in 0..3 {
        // A new connection; then a restart; then a restart with a connection between.
        if turn > 0 {
            server.restart().await;
        }
        let (mut raw, present) = server.v5("s", false, &EXPIRY).await;
        assert!(present);
        let [high, low] = released.packet_id.to_be_bytes();
        assert_eq!(raw.packet().await, [0x62, 2, high, low], "PUBREL, not the message");
        for first in [&sent, &one] {
            let again = raw.message().await;
            assert_eq!((&again.payload, again.packet_id, again.dup), (&first.payload, first.packet_id, true));
        }
        if turn < 2 {
            drop(raw);
            continue;
        }
        raw.ack(0x70, released.packet_id).await;
        raw.ack(0x50, sent.packet_id).await;
        assert_eq!(raw.packet().await[0], 0x62);
        raw.ack(0x70, sent.packet_id).await;
        raw.puback(one.packet_id).await;
        let (mut publisher, _) = server.v4("p", true).await;
        publisher.publish("t", 2, 9, "next").await;
        assert_eq!(raw.take().await.payload, "next");
        raw.leave().await;
    }
    until("nothing is left on disk", || server.session("s").unwrap().stored_messages == 0).await;
}
