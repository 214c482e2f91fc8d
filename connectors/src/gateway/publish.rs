//! PUBLISH, the packet that counts: read where it stands in the socket's buffer, written straight into the
//! subscriber's. Nothing is allocated here.

use bytes::{BufMut, BytesMut};

use super::frame::{Cursor, Frame, Version, put_varint, varint_len};
use super::property::{self, Allowed, Value, id};
use super::reject::Reject;

/// A PUBLISH as received. Everything borrows from the socket's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Publish<'a> {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    /// Empty if the alias stands for it.
    pub topic: &'a str,
    /// 0 with QoS 0.
    pub packet_id: u16,
    pub alias: Option<u16>,
    /// Property section, without its length; the alias is still in it.
    pub properties: &'a [u8],
    pub payload: &'a [u8],
}

/// What a topic name may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicLimits {
    pub bytes: usize,
    pub levels: usize,
}

/// Checks and takes apart a PUBLISH.
pub(super) fn parse<'a>(frame: Frame<'a>, version: Version, limits: TopicLimits) -> Result<Publish<'a>, Reject> {
    let first = frame.first;
    let (dup, qos, retain) = (first & 8 != 0, first >> 1 & 3, first & 1 != 0);
    if qos == 3 || (dup && qos == 0) {
        return Err(Reject::Malformed);
    }
    let mut cursor = Cursor(frame.body);
    let topic = topic_name(cursor.binary()?, limits)?;
    let packet_id = if qos > 0 { cursor.packet_id()? } else { 0 };
    let mut alias = None;
    let properties = match version {
        Version::V4 => &[][..],
        Version::V5 => property::section(&mut cursor, Allowed::PUBLISH, |id, value| {
            if let (id::TOPIC_ALIAS, Value::Number(number)) = (id, value) {
                alias = u16::try_from(number).ok();
            }
            Ok(())
        })?,
    };
    if topic.is_empty() && alias.is_none() {
        return Err(if version == Version::V5 { Reject::Protocol } else { Reject::TopicName });
    }
    Ok(Publish { dup, qos, retain, topic, packet_id, alias, properties, payload: cursor.0 })
}

/// A topic name as one pass over its bytes and one UTF-8 check; empty is allowed here, for aliases.
fn topic_name(bytes: &[u8], limits: TopicLimits) -> Result<&str, Reject> {
    if bytes.len() > limits.bytes {
        return Err(Reject::TopicName);
    }
    let mut levels = 1;
    for &byte in bytes {
        match byte {
            b'/' => levels += 1,
            b'+' | b'#' => return Err(Reject::TopicName),
            0 => return Err(Reject::BadText),
            _ => {}
        }
    }
    if levels > limits.levels {
        return Err(Reject::TopicName);
    }
    std::str::from_utf8(bytes).map_err(|_| Reject::BadText)
}

/// Is a topic within the limits?
pub(super) fn within(topic: &str, limits: TopicLimits) -> bool {
    topic.len() <= limits.bytes && topic.split('/').count() <= limits.levels
}

/// What a client publishes under a reserved prefix goes nowhere, and is refused. `$aws/rules/<rule>/…` is the
/// exception: a message for one rule alone, logged and never given to subscribers.
pub(super) fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$')
        && ["$SYS", "$share", "$aws", "$hedgerow"]
            .iter()
            .any(|root| topic.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        && !is_for_one_rule(topic)
}

/// Is the message for one rule alone?
pub(super) fn is_for_one_rule(topic: &str) -> bool {
    topic
        .strip_prefix("$aws/rules/")
        .is_some_and(|rest| rest.split_once('/').is_some_and(|(rule, topic)| !rule.is_empty() && !topic.is_empty()))
}

/// A PUBLISH to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    /// Empty if the alias stands for it.
    pub topic: &'a str,
    pub packet_id: u16,
    /// MQTT 5 clients only, as all that follows up to the payload.
    pub alias: Option<u16>,
    /// Identifiers of the subscriptions it is for.
    pub identifiers: &'a [u32],
    /// Property section without its length.
    pub properties: &'a [u8],
    /// Where in the section the expiry stands, and the seconds that are left.
    pub expiry: Option<(usize, u32)>,
    pub payload: &'a [u8],
}

impl Outgoing<'_> {
    /// Length of the property section.
    fn section(&self) -> usize {
        let identifiers: usize = self.identifiers.iter().map(|id| 1 + varint_len(*id as usize)).sum();
        self.properties.len() + identifiers + if self.alias.is_some() { 3 } else { 0 }
    }

    fn remaining(&self, version: Version) -> usize {
        let properties = match version {
            Version::V4 => 0,
            Version::V5 => varint_len(self.section()) + self.section(),
        };
        2 + self.topic.len() + if self.qos > 0 { 2 } else { 0 } + properties + self.payload.len()
    }

    /// Size of the packet.
    pub(super) fn size(&self, version: Version) -> usize {
        let remaining = self.remaining(version);
        1 + varint_len(remaining) + remaining
    }

    /// Appends the packet.
    pub(super) fn write(&self, version: Version, out: &mut BytesMut) {
        let remaining = self.remaining(version);
        out.reserve(remaining + 5);
        out.put_u8(0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain));
        put_varint(out, remaining);
        out.put_u16(self.topic.len() as u16);
        out.put_slice(self.topic.as_bytes());
        if self.qos > 0 {
            out.put_u16(self.packet_id);
        }
        if version == Version::V5 {
            put_varint(out, self.section());
            if let Some(alias) = self.alias {
                out.put_u8(id::TOPIC_ALIAS);
                out.put_u16(alias);
            }
            for identifier in self.identifiers {
                out.put_u8(id::SUBSCRIPTION_IDENTIFIER);
                put_varint(out, *identifier as usize);
            }
            let start = out.len();
            out.put_slice(self.properties);
            if let Some((at, seconds)) = self.expiry
                && let Some(place) = out.get_mut(start + at..start + at + 4)
            {
                place.copy_from_slice(&seconds.to_be_bytes());
            }
        }
        out.put_slice(self.payload);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::{Split, split};
    use super::*;

    const LIMITS: TopicLimits = TopicLimits { bytes: 64, levels: 8 };

    fn read(bytes: &[u8], version: Version) -> Result<Publish<'_>, Reject> {
        match split(bytes, 1 << 20)? {
            Split::Frame(frame) => parse(frame, version, LIMITS),
            Split::Incomplete(_) => Err(Reject::Malformed),
        }
    }

    #[test]
    fn bad_ones_have_their_reason() {
        use Version::{V4, V5};
        let long = [&[0x30, 67, 0, 65][..], &[b'a'; 65]].concat();
        let deep = [&[0x30, 18, 0, 16][..], b"////////////////"].concat();
        for (bytes, version, expected) in [
            (&[0x36, 5, 0, 1, b'a', 0, 1][..], V4, Reject::Malformed),
            (&[0x38, 3, 0, 1, b'a'], V4, Reject::Malformed),
            (&[0x32, 5, 0, 1, b'a', 0, 0], V4, Reject::Protocol),
            (&[0x32, 3, 0, 1, b'a'], V4, Reject::Malformed),
            (&[0x30, 3, 0, 9, b'a'], V4, Reject::Malformed),
            (&[0x30, 3, 0, 1, 0xFF], V4, Reject::BadText),
            (&[0x30, 3, 0, 1, 0], V4, Reject::BadText),
            (&[0x30, 3, 0, 1, b'#'], V4, Reject::TopicName),
            (&[0x30, 3, 0, 1, b'+'], V5, Reject::TopicName),
            (&[0x30, 2, 0, 0], V4, Reject::TopicName),
            (&[0x30, 3, 0, 0, 0], V5, Reject::Protocol),
            (&[0x30, 3, 0, 1, b'a'], V5, Reject::Malformed),
            (&[0x30, 5, 0, 1, b'a', 1, 99], V5, Reject::Malformed),
            (&long, V4, Reject::TopicName),
            (&deep, V4, Reject::TopicName),
        ] {
            assert_eq!(read(bytes, version), Err(expected), "{bytes:?}");
        }
    }

    #[test]
    fn reserved_topics() {
        for (topic, reserved) in [
            ("$SYS/uptime", true),
            ("$SYS", true),
            ("$SYSTEM/x", false),
            ("$aws/things/t/shadow/get", true),
            ("$aws/rules/r/a/b", false),
            ("$aws/rules/r", true),
            ("$aws/rules//a", true),
            ("$share/g/a", true),
            ("$mine/x", false),
            ("é/x", false),
        ] {
            assert_eq!(is_reserved(topic), reserved, "{topic}");
        }
    }

    proptest! {
        /// What is written is read back the same, by this parser and by the codec of the client library.
        #[test]
        fn written_and_read_back(
            topic in "[a-zé/$]{1,20}", qos in 0..3u8, retain: bool, packet_id in 1..=u16::MAX,
            payload in prop::collection::vec(any::<u8>(), 0..300), seconds: u32,
            identifier in 1..268_435_456u32, alias in prop::option::of(1..=u16::MAX),
        ) {
            prop_assume!(topic.matches('/').count() < 8);
            let properties = [2, 0, 0, 0, 9, 38, 0, 1, b'k', 0, 1, b'v'];
            let outgoing = Outgoing {
                dup: qos > 0, qos, retain, topic: &topic, packet_id, alias, identifiers: &[identifier, 1],
                properties: &properties, expiry: Some((1, seconds)), payload: &payload,
            };
            for version in [Version::V4, Version::V5] {
                let mut out = BytesMut::new();
                outgoing.write(version, &mut out);
                prop_assert_eq!(out.len(), outgoing.size(version));
                if version == Version::V5 {
                    // Only servers write subscription identifiers, so only the client's side reads them.
                    let packet = rumqttc::v5::mqttbytes::v5::Packet::read(&mut out, None).unwrap();
                    let rumqttc::v5::mqttbytes::v5::Packet::Publish(theirs) = packet else { panic!("publish") };
                    prop_assert_eq!((&theirs.topic[..], &theirs.payload[..]), (topic.as_bytes(), &payload[..]));
                    let properties = theirs.properties.unwrap();
                    prop_assert_eq!(properties.message_expiry_interval, Some(seconds));
                    prop_assert_eq!(properties.topic_alias, alias);
                    prop_assert_eq!(properties.subscription_identifiers, [identifier as usize, 1]);
                    let plain = Outgoing { identifiers: &[], ..outgoing };
                    let mut out = BytesMut::new();
                    plain.write(version, &mut out);
                    let back = read(&out, version).unwrap();
                    prop_assert_eq!((back.topic, back.qos, back.retain), (&*topic, qos, retain));
                    prop_assert_eq!((back.packet_id, back.alias), (if qos > 0 { packet_id } else { 0 }, alias));
                    prop_assert_eq!(property::expiry(back.properties).map(|found| found.1), Some(seconds));
                } else {
                    let back = read(&out, version).unwrap();
                    prop_assert_eq!((back.topic, back.qos, back.payload), (&*topic, qos, &*payload));
                    let packet = rumqttc::mqttbytes::v4::Packet::read(&mut out, 1 << 20).unwrap();
                    let rumqttc::mqttbytes::v4::Packet::Publish(theirs) = packet else { panic!("publish") };
                    prop_assert_eq!((theirs.topic, &theirs.payload[..]), (topic.clone(), &payload[..]));
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), first: u8) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.first_mut() { *byte = 0x30 | first & 15 }
            let _ = read(&bytes, Version::V4);
            let _ = read(&bytes, Version::V5);
        }
    }
}
