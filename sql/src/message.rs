//! What a rule sees of one MQTT message.

use std::fmt;

/// One message, borrowed from the log. It brings its own time and position: nothing in this crate reads a clock or
/// makes up randomness, so that the same log always gives the same rows.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The topic as published, with a basic-ingest prefix if it had one.
    pub topic: &'a str,
    /// The payload's bytes.
    pub payload: &'a [u8],
    /// The MQTT client id; absent off MQTT.
    pub client_id: Option<&'a str>,
    /// Who sent it: certificate thumbprint, user name, role.
    pub principal: Option<&'a str>,
    /// The sender's address.
    pub source_ip: Option<&'a str>,
    /// The tenant's account number.
    pub account_id: Option<&'a str>,
    /// When the server took it, epoch milliseconds.
    pub time_ms: i64,
    /// The commit of the log it is in; with `offset` the seed of `newuuid`, `traceid` and `rand`.
    pub epoch: u64,
    /// Its record number.
    pub offset: u64,
    /// MQTT 5 properties.
    pub properties: Properties<'a>,
}

impl<'a> Message<'a> {
    /// A message with nothing but topic, payload and time.
    #[inline]
    pub fn new(topic: &'a str, payload: &'a [u8], time_ms: i64) -> Message<'a> {
        Message {
            topic,
            payload,
            client_id: None,
            principal: None,
            source_ip: None,
            account_id: None,
            time_ms,
            epoch: 0,
            offset: 0,
            properties: Properties::default(),
        }
    }

    /// The rule's name and the topic behind it, when the topic is `$aws/rules/<rule>/<rest>`.
    pub fn basic_ingest(&self) -> Option<(&'a str, &'a str)> {
        self.topic.strip_prefix("$aws/rules/")?.split_once('/')
    }

    /// The topic as rules see it: a basic-ingest prefix is hidden.
    pub fn visible_topic(&self) -> &'a str {
        self.basic_ingest().map_or(self.topic, |(_, rest)| rest)
    }
}

/// The property section of an MQTT 5 PUBLISH (MQTT 5.0, 3.3.2.3) without its length prefix, read only when asked for.
/// Empty for older protocols.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

/// One property that rules can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    /// 0x01: true says that the payload is UTF-8 text.
    FormatIndicator(bool),
    /// 0x03.
    ContentType(&'a str),
    /// 0x08.
    ResponseTopic(&'a str),
    /// 0x09.
    CorrelationData(&'a [u8]),
    /// 0x26: name and value.
    User(&'a str, &'a str),
    /// Any other.
    Other,
}

impl<'a> Properties<'a> {
    /// Over the bytes that follow the section's length prefix.
    pub fn new(bytes: &'a [u8]) -> Properties<'a> {
        Properties { bytes }
    }

    /// All properties in order, up to the first malformed one.
    pub fn iter(self) -> impl Iterator<Item = Property<'a>> {
        let mut rest = Cursor(self.bytes);
        std::iter::from_fn(move || rest.property())
    }

    /// The user properties in order.
    pub fn user(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.iter().filter_map(|property| match property {
            Property::User(name, value) => Some((name, value)),
            _ => None,
        })
    }
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.iter()).finish()
    }
}

/// The bytes not yet read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn property(&mut self) -> Option<Property<'a>> {
        let property = match self.byte()? {
            0x01 => Property::FormatIndicator(self.byte()? == 1),
            0x03 => Property::ContentType(self.text()?),
            0x08 => Property::ResponseTopic(self.text()?),
            0x09 => Property::CorrelationData(self.binary()?),
            0x26 => Property::User(self.text()?, self.text()?),
            // Message expiry, topic alias, subscription identifier.
            0x02 => self.skip(4)?,
            0x23 => self.skip(2)?,
            0x0b => {
                while self.byte()? & 0x80 != 0 {}
                Property::Other
            }
            _ => return None,
        };
        Some(property)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn skip(&mut self, count: usize) -> Option<Property<'a>> {
        self.take(count).map(|_| Property::Other)
    }

    fn binary(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes([self.byte()?, self.byte()?]);
        self.take(usize::from(length))
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.binary()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_until_one_is_malformed() {
        let bytes = b"\x02\0\0\0\x3c\x01\x01\x03\0\x0atext/plain\x0b\x81\x01\x26\0\x01k\0\x02v1\x26\0\x01k\0\xffv2";
        let all: Vec<_> = Properties::new(bytes).iter().collect();
        assert_eq!(
            all,
            [
                Property::Other,
                Property::FormatIndicator(true),
                Property::ContentType("text/plain"),
                Property::Other,
                Property::User("k", "v1"),
            ]
        );
    }

    #[test]
    fn basic_ingest_hides_its_prefix() {
        let message = Message::new("$aws/rules/store/a/b", b"", 0);
        assert_eq!(message.basic_ingest(), Some(("store", "a/b")));
        assert_eq!(message.visible_topic(), "a/b");
        assert_eq!(Message::new("a/b", b"", 0).visible_topic(), "a/b");
    }
}
