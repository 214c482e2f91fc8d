//! The packets other than PUBLISH. Each is first walked strictly (flags, lengths, text, properties: what the codec
//! lets pass), then taken apart by rumqttc's codec; answers are written by the codec too, except for the four-byte
//! acknowledgements, of which there is one a message.

use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use super::frame::{Cursor, Frame, Version};
use super::property::{self, Allowed};
use super::reject::Reject;

/// Packet types (§2.1.2).
pub(super) mod kind {
    pub(in super::super) const CONNECT: u8 = 1;
    pub(in super::super) const PUBLISH: u8 = 3;
    pub(in super::super) const PUBACK: u8 = 4;
    pub(in super::super) const PUBREC: u8 = 5;
    pub(in super::super) const PUBREL: u8 = 6;
    pub(in super::super) const PUBCOMP: u8 = 7;
    pub(in super::super) const SUBSCRIBE: u8 = 8;
    pub(in super::super) const UNSUBSCRIBE: u8 = 10;
    pub(in super::super) const PINGREQ: u8 = 12;
    pub(in super::super) const DISCONNECT: u8 = 14;
    pub(in super::super) const AUTH: u8 = 15;
}

/// A last will, as far as it matters while wills are not available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Will {
    pub retain: bool,
}

/// A CONNECT of either version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connect {
    pub version: Version,
    pub client_id: String,
    /// Clean session, or clean start.
    pub clean: bool,
    /// Seconds, 0 for none.
    pub keep_alive: u16,
    /// MQTT 5; seconds the session outlives the connection.
    pub session_expiry: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub max_packet_bytes: Option<u32>,
    pub auth_method: bool,
    /// MQTT 5: may be told reason strings.
    pub wants_problem_information: bool,
    pub will: Option<Will>,
}

/// A CONNECT that cannot be answered, or can only be answered in a certain way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadConnect {
    pub reason: Reject,
    /// The version to answer in; `None`: close without an answer.
    pub answer: Option<Version>,
}

/// Takes a CONNECT apart.
pub(super) fn connect(frame: Frame<'_>) -> Result<Connect, BadConnect> {
    let silent = |reason| BadConnect { reason, answer: None };
    if frame.first != 0x10 {
        return Err(silent(if frame.kind() == kind::CONNECT { Reject::Malformed } else { Reject::Protocol }));
    }
    let mut cursor = Cursor(frame.body);
    let name = cursor.binary().map_err(silent)?;
    let level = cursor.u8().map_err(silent)?;
    let version = match (name, level) {
        (b"MQTT", 4) => Version::V4,
        (b"MQTT", 5) => Version::V5,
        // Older and unknown versions are told so in words that such a client knows.
        (b"MQTT", 6..) => return Err(BadConnect { reason: Reject::ProtocolVersion, answer: Some(Version::V5) }),
        (b"MQTT" | b"MQIsdp", _) => {
            return Err(BadConnect { reason: Reject::ProtocolVersion, answer: Some(Version::V4) });
        }
        _ => return Err(silent(Reject::ProtocolName)),
    };
    // 3.1.1 has no return code for a malformed CONNECT: the connection is closed (§3.1.4).
    let refuse = |reason| BadConnect { reason, answer: (version == Version::V5).then_some(version) };
    let will = walk_connect(&mut cursor, version).map_err(refuse)?;
    match version {
        Version::V4 => decode_connect_v4(frame, will),
        Version::V5 => decode_connect_v5(frame, will),
    }
    .map_err(refuse)
}

fn walk_connect(cursor: &mut Cursor<'_>, version: Version) -> Result<Option<Will>, Reject> {
    let flags = cursor.u8()?;
    let (has_will, will_qos, retain) = (flags & 4 != 0, flags >> 3 & 3, flags & 0x20 != 0);
    let (password, user) = (flags & 0x40 != 0, flags & 0x80 != 0);
    if flags & 1 != 0 || will_qos == 3 || (!has_will && flags & 0x38 != 0) {
        return Err(Reject::Malformed);
    }
    if version == Version::V4 && password && !user {
        return Err(Reject::Malformed);
    }
    cursor.u16()?;
    if version == Version::V5 {
        property::section(cursor, Allowed::CONNECT, |_, _| Ok(()))?;
    }
    cursor.text()?;
    if has_will {
        if version == Version::V5 {
            property::section(cursor, Allowed::WILL, |_, _| Ok(()))?;
        }
        let topic = cursor.text()?;
        if topic.is_empty() || topic.contains(['+', '#']) {
            return Err(Reject::TopicName);
        }
        cursor.binary()?;
    }
    if user {
        cursor.text()?;
    }
    if password {
        cursor.binary()?;
    }
    cursor.end()?;
    Ok(has_will.then_some(Will { retain }))
}

fn decode_connect_v4(frame: Frame<'_>, will: Option<Will>) -> Result<Connect, Reject> {
    let header = rumqttc::mqttbytes::FixedHeader::new(frame.first, frame.header_len() - 1, frame.body.len());
    // The codec takes a password for text, which it need not be; nothing here needs it.
    let bytes = Bytes::from(without_login(frame.bytes, frame.header_len()));
    let connect = v4::Connect::read(header, bytes).map_err(|_| Reject::Malformed)?;
    Ok(Connect {
        version: Version::V4,
        client_id: connect.client_id,
        clean: connect.clean_session,
        keep_alive: connect.keep_alive,
        session_expiry: None,
        receive_maximum: None,
        max_packet_bytes: None,
        auth_method: false,
        wants_problem_information: false,
        will,
    })
}

fn decode_connect_v5(frame: Frame<'_>, will: Option<Will>) -> Result<Connect, Reject> {
    let header = v5::FixedHeader::new(frame.first, frame.header_len() - 1, frame.body.len());
    let bytes = Bytes::from(without_login(frame.bytes, frame.header_len()));
    let (connect, _, _) = v5::Connect::read(header, bytes).map_err(|_| Reject::Malformed)?;
    let properties = connect.properties.unwrap_or_default();
    if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
        return Err(Reject::Protocol);
    }
    Ok(Connect {
        version: Version::V5,
        client_id: connect.client_id,
        clean: connect.clean_start,
        keep_alive: connect.keep_alive,
        session_expiry: properties.session_expiry_interval,
        receive_maximum: properties.receive_maximum,
        max_packet_bytes: properties.max_packet_size,
        auth_method: properties.authentication_method.is_some(),
        wants_problem_information: properties.request_problem_info != Some(0),
        will,
    })
}

/// The packet with its user name and password flags cleared, so that the codec stops before them.
fn without_login(packet: &[u8], header: usize) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if let Some(flags) = packet.get_mut(header + 7) {
        *flags &= 0x3F;
    }
    packet
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub path: String,
    /// As asked for, 0 to 2.
    pub qos: u8,
    pub no_local: bool,
    pub keep_retain: bool,
}

/// A SUBSCRIBE: its packet id, and its filters.
pub(super) fn subscribe(frame: Frame<'_>, version: Version) -> Result<(u16, Vec<Filter>), Reject> {
    if frame.first != 0x82 {
        return Err(Reject::Malformed);
    }
    let mut cursor = Cursor(frame.body);
    cursor.packet_id()?;
    if version == Version::V5 {
        property::section(&mut cursor, Allowed::SUBSCRIBE, |id, _| {
            if id == 11 { Err(Reject::SubscriptionId) } else { Ok(()) }
        })?;
    }
    if cursor.is_empty() {
        return Err(Reject::Protocol);
    }
    while !cursor.is_empty() {
        cursor.text()?;
        let options = cursor.u8()?;
        let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
        if options & reserved != 0 || options & 3 == 3 || options & 0x30 == 0x30 {
            return Err(Reject::Malformed);
        }
    }
    let bytes = Bytes::copy_from_slice(frame.bytes);
    match version {
        Version::V4 => {
            let header = rumqttc::mqttbytes::FixedHeader::new(frame.first, frame.header_len() - 1, frame.body.len());
            let packet = v4::Subscribe::read(header, bytes).map_err(|_| Reject::Malformed)?;
            let filters = packet.filters.into_iter().map(|filter| Filter {
                path: filter.path,
                qos: filter.qos as u8,
                no_local: false,
                keep_retain: false,
            });
            Ok((packet.pkid, filters.collect()))
        }
        Version::V5 => {
            let header = v5::FixedHeader::new(frame.first, frame.header_len() - 1, frame.body.len());
            let packet = v5::Subscribe::read(header, bytes).map_err(|_| Reject::Malformed)?;
            let filters = packet.filters.into_iter().map(|filter| Filter {
                path: filter.path,
                qos: filter.qos as u8,
                no_local: filter.nolocal,
                keep_retain: filter.preserve_retain,
            });
            Ok((packet.pkid, filters.collect()))
        }
    }
}

/// An UNSUBSCRIBE: its packet id, and its filters.
pub(super) fn unsubscribe(frame: Frame<'_>, version: Version) -> Result<(u16, Vec<String>), Reject> {
    if frame.first != 0xA2 {
        return Err(Reject::Malformed);
    }
    let mut cursor = Cursor(frame.body);
    cursor.packet_id()?;
    if version == Version::V5 {
        property::section(&mut cursor, Allowed::UNSUBSCRIBE, |_, _| Ok(()))?;
    }
    if cursor.is_empty() {
        return Err(Reject::Protocol);
    }
    while !cursor.is_empty() {
        cursor.text()?;
    }
    let bytes = Bytes::copy_from_slice(frame.bytes);
    match version {
        Version::V4 => {
            let header = rumqttc::mqttbytes::FixedHeader::new(frame.first, frame.header_len() - 1, frame.body.len());
            let packet = v4::Unsubscribe::read(header, bytes).map_err(|_| Reject::Malformed)?;
            Ok((packet.pkid, packet.topics))
        }
        Version::V5 => {
            let header = v5::FixedHeader::new(frame.first, frame.header_len() - 1, frame.body.len());
            let packet = v5::Unsubscribe::read(header, bytes).map_err(|_| Reject::Malformed)?;
            Ok((packet.pkid, packet.filters))
        }
    }
}

/// The packet id of PUBACK, PUBREC, PUBREL or PUBCOMP, and its reason code (0 in 3.1.1).
pub(super) fn ack(frame: Frame<'_>, version: Version) -> Result<(u16, u8), Reject> {
    let flags = if frame.kind() == kind::PUBREL { 2 } else { 0 };
    if frame.first & 15 != flags {
        return Err(Reject::Malformed);
    }
    let mut cursor = Cursor(frame.body);
    let id = cursor.packet_id()?;
    let mut reason = 0;
    if version == Version::V5 && !cursor.is_empty() {
        reason = cursor.u8()?;
        if !cursor.is_empty() {
            property::section(&mut cursor, Allowed::ACK, |_, _| Ok(()))?;
        }
    }
    cursor.end()?;
    Ok((id, reason))
}

/// How a client takes its leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disconnect {
    /// A new session expiry, in seconds.
    pub session_expiry: Option<u32>,
}

/// A DISCONNECT. The codec does not read the short forms, so this is the whole of it.
pub(super) fn disconnect(frame: Frame<'_>, version: Version) -> Result<Disconnect, Reject> {
    let mut cursor = Cursor(frame.body);
    let mut session_expiry = None;
    if frame.first != 0xE0 {
        return Err(Reject::Malformed);
    }
    if version == Version::V5 && !cursor.is_empty() {
        cursor.u8()?;
        if !cursor.is_empty() {
            property::section(&mut cursor, Allowed::DISCONNECT, |id, value| {
                if let (17, property::Value::Number(seconds)) = (id, value) {
                    session_expiry = Some(seconds);
                }
                Ok(())
            })?;
        }
    }
    cursor.end()?;
    Ok(Disconnect { session_expiry })
}

/// A PINGREQ has nothing in it.
pub(super) fn ping(frame: Frame<'_>) -> Result<(), Reject> {
    if frame.first == 0xC0 && frame.body.is_empty() { Ok(()) } else { Err(Reject::Malformed) }
}

/// Appends PUBACK, PUBREC or PUBCOMP.
pub(super) fn put_ack(out: &mut Vec<u8>, kind: u8, id: u16, reason: u8) {
    let [high, low] = id.to_be_bytes();
    if reason == 0 {
        out.extend_from_slice(&[kind << 4, 2, high, low]);
    } else {
        out.extend_from_slice(&[kind << 4, 3, high, low, reason]);
    }
}

/// Appends a SUBACK. Codes of MQTT 5 above 0x80 become 0x80 in 3.1.1.
pub(super) fn put_suback(out: &mut Vec<u8>, version: Version, id: u16, codes: &[u8]) {
    put_codes(out, 0x90, version, id, codes);
}

/// Appends an UNSUBACK; 3.1.1 has no codes in it.
pub(super) fn put_unsuback(out: &mut Vec<u8>, version: Version, id: u16, codes: &[u8]) {
    put_codes(out, 0xB0, version, id, if version == Version::V5 { codes } else { &[] });
}

fn put_codes(out: &mut Vec<u8>, first: u8, version: Version, id: u16, codes: &[u8]) {
    let five = version == Version::V5;
    let mut length = BytesMut::with_capacity(4);
    super::frame::put_varint(&mut length, 2 + usize::from(five) + codes.len());
    out.push(first);
    out.extend_from_slice(&length);
    out.extend_from_slice(&id.to_be_bytes());
    if five {
        out.push(0);
    }
    out.extend(codes.iter().map(|&code| if five { code } else { code.min(0x80) }));
}

/// Appends a DISCONNECT with a reason; 3.1.1 servers have none to send.
pub(super) fn put_disconnect(out: &mut BytesMut, version: Version, reason: Reject, advice: bool) {
    if version == Version::V4 {
        return;
    }
    let text = reason.advice().filter(|_| advice);
    out.put_u8(0xE0);
    match text {
        None => out.put_slice(&[1, reason.code()]),
        Some(text) => {
            let len = text.len() as u8;
            out.put_slice(&[len + 5, reason.code(), len + 3, 31, 0, len]);
            out.put_slice(text.as_bytes());
        }
    }
}

/// Appends a CONNACK that refuses.
pub(super) fn put_refusal(out: &mut BytesMut, version: Version, reason: Reject, advice: bool) {
    match version {
        Version::V4 => {
            let code = match reason {
                Reject::ProtocolVersion => 1,
                Reject::ClientId => 2,
                _ => 3,
            };
            out.put_slice(&[0x20, 2, 0, code]);
        }
        Version::V5 => {
            // Before the connection is there, these are "server unavailable".
            let unavailable = matches!(reason, Reject::LogUnavailable | Reject::ShuttingDown);
            let code = if unavailable { 0x88 } else { reason.code() };
            match reason.advice().filter(|_| advice) {
                None => out.put_slice(&[0x20, 3, 0, code, 0]),
                Some(text) => {
                    let len = text.len() as u8;
                    out.put_slice(&[0x20, len + 6, 0, code, len + 3, 31, 0, len]);
                    out.put_slice(text.as_bytes());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Split, split};
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
        let (id, filters) = subscribe(frame(&[0x82, 6, 0, 7, 0, 1, b'a', 1]), Version::V4).unwrap();
        assert_eq!((id, &*filters[0].path, filters[0].qos), (7, "a", 1));
        let (_, filters) = subscribe(frame(&[0x82, 7, 0, 7, 0, 0, 1, b'a', 0x0D]), Version::V5).unwrap();
        assert!(filters[0].no_local && filters[0].keep_retain);
        for (bytes, version, expected) in [
            (&[0x80, 6, 0, 7, 0, 1, b'a', 1][..], Version::V4, Reject::Malformed),
            (&[0x82, 6, 0, 0, 0, 1, b'a', 1], Version::V4, Reject::Protocol),
            (&[0x82, 6, 0, 7, 0, 1, b'a', 3], Version::V4, Reject::Malformed),
            (&[0x82, 6, 0, 7, 0, 1, b'a', 4], Version::V4, Reject::Malformed),
            (&[0x82, 2, 0, 7], Version::V4, Reject::Protocol),
            (&[0x82, 6, 0, 7, 0, 1, 0xFF, 1], Version::V4, Reject::BadText),
            (&[0x82, 9, 0, 7, 2, 11, 5, 0, 1, b'a', 1], Version::V5, Reject::SubscriptionId),
            (&[0x82, 7, 0, 7, 0, 0, 1, b'a', 0x30], Version::V5, Reject::Malformed),
        ] {
            assert_eq!(subscribe(frame(bytes), version), Err(expected), "{bytes:?}");
        }
        assert_eq!(unsubscribe(frame(&[0xA2, 5, 0, 7, 0, 1, b'a']), Version::V4), Ok((7, vec!["a".to_owned()])));
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
            assert_eq!(disconnect(frame(bytes), Version::V5), Ok(Disconnect { session_expiry: None }));
        }
        let expiry = [0xE0, 7, 0, 5, 17, 0, 0, 0, 9];
        assert_eq!(disconnect(frame(&expiry), Version::V5), Ok(Disconnect { session_expiry: Some(9) }));
        assert_eq!(disconnect(frame(&[0xE1, 0]), Version::V4), Err(Reject::Malformed));
    }

    #[test]
    fn the_codec_reads_what_is_written_here() {
        let mut out = Vec::new();
        put_suback(&mut out, Version::V5, 7, &[1, 0x9E]);
        put_unsuback(&mut out, Version::V5, 8, &[0, 0x11]);
        let mut bytes = BytesMut::from(&out[..]);
        put_disconnect(&mut bytes, Version::V5, Reject::TopicReserved, true);
        put_refusal(&mut bytes, Version::V5, Reject::Will, true);
        let mut read = || v5::Packet::read(&mut bytes, None).unwrap();
        assert!(matches!(read(), v5::Packet::SubAck(ack) if ack.pkid == 7 && ack.return_codes.len() == 2));
        assert!(matches!(read(), v5::Packet::UnsubAck(ack) if ack.pkid == 8 && ack.reasons.len() == 2));
        let v5::Packet::Disconnect(left) = read() else { panic!("disconnect") };
        assert_eq!(left.reason_code, v5::DisconnectReasonCode::TopicNameInvalid);
        assert_eq!(left.properties.unwrap().reason_string.as_deref(), Reject::TopicReserved.advice());
        let v5::Packet::ConnAck(refused) = read() else { panic!("connack") };
        assert_eq!(refused.code, v5::ConnectReturnCode::ImplementationSpecificError);
        assert_eq!(refused.properties.unwrap().reason_string.as_deref(), Reject::Will.advice());
        for reject in Reject::ALL {
            assert!(reject.advice().unwrap_or_default().len() < 120, "one length byte suffices");
        }
    }
}
