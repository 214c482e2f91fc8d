//! What only MQTT 5 has.

use rumqttc::v5::mqttbytes::v5::{Packet, Publish};

use super::*;

async fn publish(raw: &mut Raw) -> Publish {
    let mut bytes = BytesMut::from(&raw.packet().await[..]);
    match Packet::read(&mut bytes, None).unwrap() {
        Packet::Publish(publish) => publish,
        other => panic!("{other:?}"),
    }
}

async fn subscribe_as(raw: &mut Raw, filter: &str, options: u8, identifier: u32) {
    let mut section = BytesMut::from(&[11][..]);
    super::super::frame::put_varint(&mut section, identifier as usize);
    let body = [&[0, 5, section.len() as u8][..], &section, &text(filter), &[options]].concat();
    raw.send(&packet_of(0x82, &body)).await;
    assert_eq!(raw.answer(0x90).await, [0x90, 4, 0, 5, 0, options & 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_identifiers_come_with_messages() {
    let mut server = Server::start().await;
    let (mut raw, _) = server.v5("c", false, &[17, 0, 0, 1, 0]).await;
    subscribe_as(&mut raw, "a/b", 1, 1).await;
    subscribe_as(&mut raw, "a/#", 1, 268_435_455).await;
    subscribe_as(&mut raw, "$share/g/s", 1, 7).await;
    raw.subscribe("+/b", 1).await;
    let (mut publisher, _) = server.v5("p", true, &[]).await;
    publisher.retain("a/b", "one", &[38, 0, 1, b'k', 0, 1, b'v']).await;
    let got = publish(&mut raw).await;
    let properties = got.properties.unwrap();
    let mut identifiers = properties.subscription_identifiers;
    identifiers.sort_unstable();
    assert_eq!(identifiers, [1, 268_435_455]);
    assert_eq!(properties.user_properties, [("k".to_owned(), "v".to_owned())]);
    // Retained: that of the subscription just made. Asleep and over a restart: that of when it was due.
    subscribe_as(&mut raw, "a/b", 1, 2).await;
    assert_eq!(publish(&mut raw).await.properties.unwrap().subscription_identifiers, [2]);
    drop(raw);
    until("it sleeps", || !server.session("c").unwrap().connected).await;
    publisher.publish_1("a/x", 1, "asleep").await;
    publisher.publish_1("s", 2, "shared").await;
    server.restart().await;
    let (mut publisher, _) = server.v5("p", true, &[]).await;
    publisher.publish_1("a/x", 3, "after").await;
    let (mut raw, present) = server.v5("c", false, &[]).await;
    assert!(present);
    for (payload, expected) in [
        ("one", vec![1, 268_435_455]),
        ("one", vec![2]),
        ("asleep", vec![268_435_455]),
        ("shared", vec![7]),
        ("after", vec![268_435_455]),
    ] {
        let got = publish(&mut raw).await;
        let mut identifiers = got.properties.unwrap().subscription_identifiers;
        identifiers.sort_unstable();
        assert_eq!((&got.payload[..], identifiers), (payload.as_bytes(), expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_aliases_are_set_towards_clients_that_allow_them() {
    let server = Server::start().await;
    let (mut raw, _) = server.v5("c", true, &[34, 0, 1]).await;
    raw.subscribe("t/#", 1).await;
    let (mut publisher, _) = server.v4("p", true).await;
    for (id, topic, expected, alias) in [(1, "t/1", "t/1", Some(1)), (2, "t/1", "", Some(1)), (3, "t/2", "t/2", None)] {
        publisher.publish_1(topic, id, "x").await;
        let got = publish(&mut raw).await;
        let found = got.properties.and_then(|properties| properties.topic_alias);
        assert_eq!((&got.topic[..], found), (expected.as_bytes(), alias));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_expires_in_a_queue_or_before_it_is_sent_is_not() {
    let server = Server::start().await;
    let (mut raw, _) = server.v5("c", false, &[17, 0, 0, 0x0E, 0x10, 33, 0, 1]).await;
    raw.subscribe("t", 1).await;
    let (mut publisher, _) = server.v5("p", true, &[]).await;
    for (id, payload) in [(1, "sent"), (2, "waits")] {
        publisher.publish_with("t", 1, id, payload, &[2, 0, 0, 3, 0xE8]).await;
        publisher.packet().await;
    }
    publisher.publish_1("t", 3, "lasts").await;
    let sent = raw.message().await;
    drop(raw);
    until("it sleeps", || !server.session("c").unwrap().connected).await;
    server.clock.advance(Duration::from_secs(1001));
    let (mut raw, _) = server.v5("c", false, &[17, 0, 0, 0x0E, 0x10]).await;
    let again = raw.take().await;
    assert_eq!((&*again.payload, again.packet_id), ("sent", sent.packet_id), "what was begun is finished");
    assert_eq!(raw.take().await.payload, "lasts");
    assert_eq!(server.metrics().expired.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_keep_alive_and_refused_filters() {
    let server = Server::with(|config| {
        config.max_keep_alive_s = 1;
        config.refused_filters = vec!["not/#".to_owned()];
    })
    .await;
    let mut raw = server.connect(&connect_v5("c", true, &[]), Version::V5).await;
    let mut bytes = BytesMut::from(&raw.packet().await[..]);
    let Packet::ConnAck(connack) = Packet::read(&mut bytes, None).unwrap() else { panic!("connack") };
    assert_eq!(connack.properties.unwrap().server_keep_alive, Some(1));
    assert_eq!(raw.subscribe("not/#", 0).await, 0x80);
    assert_eq!(raw.subscribe("$share/g/not/#", 0).await, 0x80);
    assert_eq!(raw.subscribe("not/this", 0).await, 0);
    assert_eq!(raw.end().await, Some(0x8D), "silent for too long");
}
