use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5;

use super::super::frame::{Frame, Split, Version, split};
use super::super::reject::Reject;
use super::super::will::Will;
use super::*;

fn frame(bytes: &[u8]) -> Frame<'_> {
    match split(bytes, 1 << 20) {
        Ok(Split::Frame(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

fn connect_bytes(name: &[u8], level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    let mut body = vec![0, u8::try_from(name.len()).unwrap()];
    body.extend_from_slice(name);
    body.extend_from_slice(&[level, flags, 0, 60]);
    body.extend_from_slice(rest);
    [&[0x10, u8::try_from(body.len()).unwrap()][..], &body].concat()
}

#[test]
fn connects_are_taken_or_get_the_right_answer() {
    let id = [0, 1, b'c'];
    let ok = connect(frame(&connect_bytes(b"MQTT", 4, 2, &id))).unwrap();
    assert_eq!((&*ok.client_id, ok.clean, ok.keep_alive, ok.version), ("c", true, 60, Version::V4));
    let five = [&[5, 17, 0, 0, 1, 0][..], &id].concat();
    let ok = connect(frame(&connect_bytes(b"MQTT", 5, 0, &five))).unwrap();
    assert_eq!((&*ok.client_id, ok.session_expiry), ("c", Some(256)));
    // A password that is not text is none of the codec's business.
    let login = [&id[..], &[0, 1, b'u', 0, 2, 0xFF, 0xFE]].concat();
    assert_eq!(connect(frame(&connect_bytes(b"MQTT", 4, 0xC2, &login))).unwrap().client_id, "c");

    // A will, with a delay and a property that is carried on.
    let with_will = [&[0][..], &id, &[7, 24, 0, 0, 0, 7, 1, 1, 0, 1, b'w', 0, 2, 0, 0xFF]].concat();
    let ok = connect(frame(&connect_bytes(b"MQTT", 5, 0x36, &with_will))).unwrap();
    let expected = Will {
        topic: "w".to_owned(),
        qos: 2,
        retain: true,
        delay_s: 7,
        properties: vec![1, 1],
        payload: vec![0, 0xFF],
    };
    assert_eq!(ok.will, Some(expected));

    let answer = |reason, answer| Err(BadConnect { reason, answer });
    let will = [&id[..], &[0, 1, b'#', 0, 0]].concat();
    for (name, level, flags, rest, expected) in [
        (&b"MQTT"[..], 3, 2, &id[..], answer(Reject::ProtocolVersion, Some(Version::V4))),
        (b"MQIsdp", 3, 2, &id, answer(Reject::ProtocolVersion, Some(Version::V4))),
        (b"MQTT", 6, 2, &id, answer(Reject::ProtocolVersion, Some(Version::V5))),
        (b"HTTP", 4, 2, &id, answer(Reject::ProtocolName, None)),
        (b"MQTT", 4, 3, &id, answer(Reject::Malformed, None)),
        (b"MQTT", 4, 0x42, &id, answer(Reject::Malformed, None)),
        (b"MQTT", 4, 0x08, &id, answer(Reject::Malformed, None)),
        (b"MQTT", 4, 2, &[0, 1, 0xFF], answer(Reject::BadText, None)),
        (b"MQTT", 4, 2, &[0, 1, b'c', 9], answer(Reject::Malformed, None)),
        (b"MQTT", 4, 6, &will, answer(Reject::TopicName, None)),
        (b"MQTT", 5, 2, &[3, 33, 0, 0, 0, 1, b'c'], answer(Reject::Protocol, Some(Version::V5))),
        (b"MQTT", 5, 2, &[2, 1, 1, 0, 1, b'c'], answer(Reject::Malformed, Some(Version::V5))),
    ] {
        assert_eq!(connect(frame(&connect_bytes(name, level, flags, rest))), expected, "{name:?} {level} {flags}");
    }
}

#[test]
fn subscriptions_are_read_strictly() {
    let four = [0x82, 6, 0, 7, 0, 1, b'a', 1];
    let read = subscribe(frame(&four), Version::V4).unwrap();
    assert_eq!((read.packet_id, read.identifier, &read.filters[..]), (7, 0, &[Filter { path: "a", options: 1 }][..]));
    let five = [0x82, 10, 0, 7, 3, 11, 0x80, 1, 0, 1, b'a', 0x2D];
    let read = subscribe(frame(&five), Version::V5).unwrap();
    assert_eq!((read.identifier, &read.filters[..]), (128, &[Filter { path: "a", options: 0x2D }][..]));
    for (bytes, version, expected) in [
        (&[0x80, 6, 0, 7, 0, 1, b'a', 1][..], Version::V4, Reject::Malformed),
        (&[0x82, 6, 0, 0, 0, 1, b'a', 1], Version::V4, Reject::Protocol),
        (&[0x82, 6, 0, 7, 0, 1, b'a', 3], Version::V4, Reject::Malformed),
        (&[0x82, 6, 0, 7, 0, 1, b'a', 4], Version::V4, Reject::Malformed),
        (&[0x82, 2, 0, 7], Version::V4, Reject::Protocol),
        (&[0x82, 6, 0, 7, 0, 1, 0xFF, 1], Version::V4, Reject::BadText),
        (&[0x82, 9, 0, 7, 2, 11, 0, 0, 1, b'a', 1], Version::V5, Reject::Protocol),
        (&[0x82, 7, 0, 7, 0, 0, 1, b'a', 0x30], Version::V5, Reject::Malformed),
    ] {
        assert_eq!(subscribe(frame(bytes), version), Err(expected), "{bytes:?}");
    }
    assert_eq!(unsubscribe(frame(&[0xA2, 5, 0, 7, 0, 1, b'a']), Version::V4), Ok((7, vec!["a"])));
    assert_eq!(unsubscribe(frame(&[0xA0, 5, 0, 7, 0, 1, b'a']), Version::V4), Err(Reject::Malformed));
}

#[test]
fn acks_and_leaves_in_their_short_and_long_forms() {
    assert_eq!(ack(frame(&[0x40, 2, 0, 9]), Version::V4), Ok((9, 0)));
    assert_eq!(ack(frame(&[0x40, 3, 0, 9, 0x10]), Version::V5), Ok((9, 0x10)));
    assert_eq!(ack(frame(&[0x62, 4, 0, 9, 0x92, 0]), Version::V5), Ok((9, 0x92)));
    assert_eq!(ack(frame(&[0x60, 2, 0, 9]), Version::V4), Err(Reject::Malformed));
    assert_eq!(ack(frame(&[0x40, 3, 0, 9, 0]), Version::V4), Err(Reject::Malformed));
    for bytes in [&[0xE0, 0][..], &[0xE0, 1, 0], &[0xE0, 2, 0, 0]] {
        let leave = Disconnect { session_expiry: None, voids_will: true };
        assert_eq!(disconnect(frame(bytes), Version::V5), Ok(leave));
    }
    let expiry = [0xE0, 7, 4, 5, 17, 0, 0, 0, 9];
    let leave = Disconnect { session_expiry: Some(9), voids_will: false };
    assert_eq!(disconnect(frame(&expiry), Version::V5), Ok(leave));
    assert_eq!(disconnect(frame(&[0xE1, 0]), Version::V4), Err(Reject::Malformed));
}

#[test]
fn the_codec_reads_what_is_written_here() {
    let mut out = Vec::new();
    put_suback(&mut out, Version::V5, 7, &[1, 0x9E]);
    put_unsuback(&mut out, Version::V5, 8, &[0, 0x11]);
    let mut bytes = BytesMut::from(&out[..]);
    put_disconnect(&mut bytes, Version::V5, Reject::TopicReserved, true);
    put_refusal(&mut bytes, Version::V5, Reject::TopicReserved, true);
    let mut read = || v5::Packet::read(&mut bytes, None).unwrap();
    assert!(matches!(read(), v5::Packet::SubAck(ack) if ack.pkid == 7 && ack.return_codes.len() == 2));
    assert!(matches!(read(), v5::Packet::UnsubAck(ack) if ack.pkid == 8 && ack.reasons.len() == 2));
    let v5::Packet::Disconnect(left) = read() else { panic!("disconnect") };
    assert_eq!(left.reason_code, v5::DisconnectReasonCode::TopicNameInvalid);
    assert_eq!(left.properties.unwrap().reason_string.as_deref(), Reject::TopicReserved.advice());
    let v5::Packet::ConnAck(refused) = read() else { panic!("connack") };
    assert_eq!(refused.code, v5::ConnectReturnCode::TopicNameInvalid);
    assert_eq!(refused.properties.unwrap().reason_string.as_deref(), Reject::TopicReserved.advice());
    for reject in Reject::ALL {
        assert!(reject.advice().unwrap_or_default().len() < 120, "one length byte suffices");
    }
}
