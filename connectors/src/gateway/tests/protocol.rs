//! What the standard says about single packets: right answers, right refusals.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn connack_says_what_there_is() {
    let server = Server::start().await;
    let mut five = server.connect(&connect_v5("", true, &[17, 0, 0, 0, 9]), Version::V5).await;
    let mut bytes = BytesMut::from(&five.packet().await[..]);
    let packet = rumqttc::v5::mqttbytes::v5::Packet::read(&mut bytes, None).unwrap();
    let rumqttc::v5::mqttbytes::v5::Packet::ConnAck(connack) = packet else { panic!("{packet:?}") };
    let properties = connack.properties.unwrap();
    assert_eq!(properties.retain_available, Some(1));
    assert_eq!(properties.shared_subscription_available, Some(1));
    assert_eq!(properties.subscription_identifiers_available, Some(1));
    assert_eq!(properties.server_keep_alive, Some(1200), "keep-alive 0 is not taken");
    assert_eq!(properties.wildcard_subscription_available, Some(1));
    assert_eq!(properties.max_qos, None);
    assert_eq!(properties.session_expiry_interval, None, "9 s, as asked for");
    assert_eq!(properties.receive_max, Some(server.config.receive_maximum));
    let id = properties.assigned_client_identifier.unwrap();
    assert!(server.session(&id).is_some_and(|session| session.connected && session.expiry_s == 9));
    // 3.1.1: an empty client id needs a clean session.
    let mut four = server.connect(&connect_v4("", true, 60), Version::V4).await;
    assert_eq!(four.packet().await, [0x20, 2, 0, 0]);
    let mut four = server.connect(&connect_v4("", false, 60), Version::V4).await;
    assert_eq!(four.packet().await, [0x20, 2, 0, 2]);
    assert_eq!(four.end().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn connects_that_are_refused() {
    let server = Server::start().await;
    let with = |level: u8, flags: u8, rest: &[u8]| {
        packet_of(0x10, &[&[0, 4, b'M', b'Q', b'T', b'T', level, flags, 0, 0], rest].concat())
    };
    let id = text("c");
    let will = [&id[..], &text("$aws/events/presence/connected/x"), &text("gone")].concat();
    let will_5 = [&[0][..], &id, &[0], &text("$SYS/w"), &text("gone")].concat();
    let deep = [&[0][..], &id, &[0], &text(&"/".repeat(128)), &text("gone")].concat();
    let method = [&[4, 21, 0, 1, b'm'][..], &id].concat();
    let too_long = text(&"x".repeat(300));
    for (name, bytes, answer, reason) in [
        ("level 3", with(3, 2, &id), Some(1), Reject::ProtocolVersion),
        ("level 6", with(6, 2, &id), Some(0x84), Reject::ProtocolVersion),
        ("3.1", packet_of(0x10, b"\0\x06MQIsdp\x03\x02\0\0\0\x01c"), Some(1), Reject::ProtocolVersion),
        ("other name", packet_of(0x10, b"\0\x04XXXX\x04\x02\0\0\0\x01c"), None, Reject::ProtocolName),
        ("reserved flag", with(4, 3, &id), None, Reject::Malformed),
        ("not UTF-8", with(4, 2, &[0, 1, 0xFF]), None, Reject::BadText),
        ("will", with(4, 6, &will), Some(5), Reject::TopicReserved),
        ("will, 5", with(5, 6, &will_5), Some(0x90), Reject::TopicReserved),
        ("will too deep", with(5, 6, &deep), Some(0x90), Reject::TopicName),
        ("id with a wildcard", with(4, 2, &text("a+")), Some(2), Reject::ClientId),
        ("method", with(5, 2, &method), Some(0x8C), Reject::AuthMethod),
        ("id too long", with(4, 2, &too_long), Some(2), Reject::ClientId),
        ("no CONNECT", vec![0xC0, 0], None, Reject::Protocol),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), None, Reject::Protocol),
    ] {
        let before = server.metrics().rejected(reason);
        let mut raw = server.connect(&bytes, Version::V5).await;
        let answered = raw.try_packet().await.map(|packet| {
            assert_eq!(packet[0], 0x20, "{name}");
            packet[3]
        });
        assert_eq!(answered, answer, "{name}");
        assert_eq!(raw.end().await, None, "{name}: closed");
        until(name, || server.metrics().rejected(reason) == before + 1).await;
    }
    assert_eq!(server.gateway().sessions(), []);
}

/// Each of these ends its own connection, with the right reason, and nobody else notices.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_packets() {
    let server = Server::with(|config| {
        config.max_packet_bytes = 2000;
        config.max_topic_bytes = 40;
    })
    .await;
    let (mut witness, _) = server.v4("witness", true).await;
    assert_eq!(witness.subscribe("#", 1).await, 1);
    let long = publish_packet(Version::V5, &"t".repeat(41), 0, 0, "x", &[]).to_vec();
    let shared = packet_of(0x82, &[&[0, 1, 0][..], &text("$share/g/a"), &[5]].concat());
    let big = publish_packet(Version::V5, "t", 0, 0, &"x".repeat(2000), &[]).to_vec();
    let aws = publish_packet(Version::V5, "$aws/things/t/shadow/update/accepted", 0, 0, "x", &[]).to_vec();
    for (name, bytes, reason) in [
        ("type 0", vec![0x00, 0], Reject::Malformed),
        ("CONNACK", vec![0x20, 2, 0, 0], Reject::Protocol),
        ("second CONNECT", connect_v5("other", true, &[]), Reject::Protocol),
        ("QoS 3", vec![0x36, 6, 0, 1, b'a', 0, 1, 0], Reject::Malformed),
        ("DUP with QoS 0", vec![0x38, 4, 0, 1, b'a', 0], Reject::Malformed),
        ("packet id 0", vec![0x32, 6, 0, 1, b'a', 0, 0, 0], Reject::Protocol),
        ("topic beyond the packet", vec![0x30, 3, 0, 200, b'a'], Reject::Malformed),
        ("topic not UTF-8", vec![0x30, 5, 0, 2, 0xC3, 0x28, 0], Reject::BadText),
        ("U+0000 in a topic", vec![0x30, 5, 0, 2, b'a', 0, 0], Reject::BadText),
        ("surrogate in a topic", vec![0x30, 6, 0, 3, 0xED, 0xA0, 0x80, 0], Reject::BadText),
        ("wildcard in a topic", vec![0x30, 6, 0, 3, b'a', b'/', b'#', 0], Reject::TopicName),
        ("empty topic", vec![0x30, 3, 0, 0, 0], Reject::Protocol),
        ("over-long topic", long, Reject::TopicName),
        ("unknown property", vec![0x30, 6, 0, 1, b'a', 2, 99, 0], Reject::Malformed),
        ("property twice", vec![0x30, 8, 0, 1, b'a', 4, 1, 1, 1, 1], Reject::Protocol),
        ("alias 0", vec![0x30, 7, 0, 1, b'a', 3, 35, 0, 0], Reject::TopicAlias),
        ("alias above the maximum", vec![0x30, 7, 0, 1, b'a', 3, 35, 0xFF, 0], Reject::TopicAlias),
        ("alias never set", vec![0x30, 6, 0, 0, 3, 35, 0, 9], Reject::Protocol),
        ("reserved topic", aws, Reject::TopicReserved),
        ("too large", big, Reject::PacketTooLarge),
        ("length of five bytes", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1], Reject::Malformed),
        ("length not minimal", vec![0xC0, 0x80, 0], Reject::Malformed),
        ("SUBSCRIBE flags", vec![0x80, 7, 0, 1, 0, 0, 1, b'a', 0], Reject::Malformed),
        ("SUBSCRIBE without filter", vec![0x82, 3, 0, 1, 0], Reject::Protocol),
        ("SUBSCRIBE with identifier property 0", vec![0x82, 9, 0, 1, 2, 11, 0, 0, 1, b'a', 0], Reject::Protocol),
        ("no local property shared", shared, Reject::Protocol),
        ("PUBREL flags", vec![0x60, 2, 0, 1], Reject::Malformed),
        ("AUTH", vec![0xF0, 0], Reject::Protocol),
        ("PINGREQ with a body", vec![0xC0, 1, 0], Reject::Malformed),
    ] {
        let before = server.metrics().rejected(reason);
        let (mut raw, _) = server.v5("bad", true, &[]).await;
        raw.send(&bytes).await;
        assert_eq!(raw.end().await, Some(reason.code()), "{name}");
        assert_eq!(server.metrics().rejected(reason), before + 1, "{name}");
        // 3.1.1 closes without a word. (What follows is told by properties, or is another matter there.)
        if !name.contains("propert") && !name.contains("alias") && !["AUTH", "packet id 0"].contains(&name) {
            let (mut raw, _) = server.v4("bad", true).await;
            raw.send(&bytes).await;
            assert_eq!(raw.end().await, None, "{name}, 3.1.1");
        }
    }
    let (mut good, _) = server.v4("good", true).await;
    good.publish_1("still/here", 1, "yes").await;
    assert_eq!(witness.take().await.topic, "still/here", "none of the bad ones was delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn good_packets_before_a_bad_one_are_logged_and_acknowledged() {
    let server = Server::start().await;
    let (mut raw, _) = server.v5("c", true, &[]).await;
    let mut bytes = publish_packet(Version::V5, "t", 1, 7, "good", &[]);
    bytes.extend_from_slice(&[0x00, 0]);
    raw.send(&bytes).await;
    assert_eq!(raw.packet().await, [0x40, 2, 0, 7]);
    assert_eq!(raw.end().await, Some(0x81));
    assert_eq!(server.logged(), ["good"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reserved_topics_are_refused_in_the_words_there_are() {
    let server = Server::start().await;
    let (mut five, _) = server.v5("five", true, &[]).await;
    five.publish("$SYS/x", 1, 3, "x").await;
    assert_eq!(five.packet().await, [0x40, 3, 0, 3, 0x90]);
    five.publish("$SYS/x", 2, 4, "x").await;
    assert_eq!(five.packet().await, [0x50, 3, 0, 4, 0x90]);
    five.publish("$other/x", 1, 5, "an ordinary topic").await;
    assert_eq!(five.packet().await, [0x40, 2, 0, 5]);
    let (mut four, _) = server.v4("four", true).await;
    four.publish("$aws/x", 1, 3, "x").await;
    assert_eq!(four.end().await, None);
    assert_eq!(five.subscribe("$share/g", 1).await, 0x8F);
    assert_eq!(five.subscribe("$aws/rules/r/#", 1).await, 0x87);
    assert_eq!(five.subscribe("$share/g/$aws/rules/r/#", 1).await, 0x87);
    assert_eq!(five.subscribe("a/#/b", 1).await, 0x8F);
    let (mut four, _) = server.v4("four", true).await;
    assert_eq!(four.subscribe("$share/+/a", 1).await, 0x80);
    assert_eq!(four.subscribe("ok", 2).await, 2);
    // A message for one rule is logged and reaches nobody else.
    assert_eq!(four.subscribe("$aws/rules-of/#", 0).await, 0);
    five.publish("$aws/rules/r/farm/1", 1, 6, "for a rule").await;
    assert_eq!(five.packet().await, [0x40, 2, 0, 6]);
    five.publish("ok", 1, 7, "after it").await;
    assert_eq!(four.take().await.payload, "after it");
    assert_eq!(server.logged(), ["an ordinary topic", "for a rule", "after it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_alive_ends_the_silent_and_zero_means_none() {
    let server = Server::start().await;
    let mut silent = server.connect(&connect_v4("silent", true, 1), Version::V4).await;
    let (mut zero, _) = server.v4("zero", true).await;
    silent.packet().await;
    let start = Instant::now();
    assert_eq!(silent.end().await, None);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1400) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(server.metrics().rejected(Reject::KeepAlive), 1);
    zero.ping().await;
    // A packet begun has to be finished, also without keep-alive.
    let server = Server::with(|config| config.packet_timeout_ms = 200).await;
    let (mut slow, _) = server.v4("slow", true).await;
    slow.send(&[0x30, 50, 0]).await;
    assert_eq!(slow.end().await, None);
    assert_eq!(server.metrics().rejected(Reject::PacketTimeout), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_never_says_connect_is_closed() {
    let server = Server::with(|config| config.connect_timeout_ms = 100).await;
    let mut raw = server.connect(&[0x10], Version::V4).await;
    assert_eq!(raw.try_packet().await, None);
    assert_eq!(server.metrics().rejected(Reject::ConnectTimeout), 1);
    let server = Server::with(|config| config.max_connections = 1).await;
    let (_first, _) = server.v4("first", true).await;
    let mut second = server.connect(&connect_v4("second", true, 0), Version::V4).await;
    assert_eq!(second.try_packet().await, None);
    assert_eq!(server.metrics().rejected(Reject::Quota), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_aliases() {
    let server = Server::start().await;
    let (mut subscriber, _) = server.v5("s", true, &[]).await;
    subscriber.subscribe("#", 1).await;
    let (mut raw, _) = server.v5("p", true, &[]).await;
    let alias = |number: u8| [35, 0, number];
    for (topic, number, payload, expected) in [
        ("a/b", 1, "1", "a/b"),
        ("", 1, "2", "a/b"),
        ("c", 2, "3", "c"),
        ("d", 1, "4", "d"),
        ("", 1, "5", "d"),
        ("", 2, "6", "c"),
    ] {
        raw.publish_with(topic, 1, 9, payload, &alias(number)).await;
        assert_eq!(raw.packet().await, [0x40, 2, 0, 9]);
        let got = subscriber.take().await;
        assert_eq!((&*got.topic, &*got.payload, got.properties), (expected, payload, Vec::new()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receive_maximum_holds_and_is_given_back() {
    let server = Server::with(|config| config.receive_maximum = 2).await;
    let (mut raw, _) = server.v5("c", true, &[]).await;
    for id in 1..=20 {
        raw.publish("t", 1, id, "x").await;
        assert_eq!(raw.packet().await[0], 0x40);
    }
    server.gate.set(true);
    for id in 1..=3 {
        raw.publish("t", 1, id, "x").await;
    }
    until("the third is refused", || server.metrics().rejected(Reject::ReceiveMaximum) == 1).await;
    server.gate.set(false);
    assert_eq!(raw.end().await, Some(0x93));
    // QoS 2 counts from PUBLISH to PUBCOMP.
    let (mut raw, _) = server.v5("c", true, &[]).await;
    for id in 1..=2 {
        raw.publish("t", 2, id, "x").await;
        assert_eq!(raw.packet().await[0], 0x50);
    }
    raw.send(&[0x62, 2, 0, 1]).await;
    assert_eq!(raw.packet().await, [0x70, 2, 0, 1]);
    raw.publish("t", 1, 3, "x").await;
    assert_eq!(raw.packet().await[0], 0x40);
    raw.publish("t", 2, 4, "x").await;
    assert_eq!(raw.packet().await[0], 0x50);
    raw.publish("t", 1, 5, "one too many").await;
    assert_eq!(raw.end().await, Some(0x93));
}
