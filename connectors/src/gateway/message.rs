//! A message on its way to subscribers: one copy of what the log holds, shared by all of them, so that a slow one pins
//! no part of the log in memory.

use std::sync::Arc;

use hedgerow_storage::log::Record;

use super::property;

/// The copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The record's offset in the log: its name in queues.
    pub offset: u64,
    /// Time of receipt.
    pub time_ms: i64,
    topic_len: usize,
    properties_len: usize,
    /// Topic, properties, payload.
    bytes: Box<[u8]>,
    /// Position of the expiry interval in the properties, and its end by the log's clock.
    expiry: Option<(usize, i64)>,
}

impl Message {
    pub(super) fn of(record: &Record<'_>) -> Self {
        Self::new(record.offset.0, record.time_ms, record.topic, record.properties, record.payload)
    }

    pub(super) fn new(offset: u64, time_ms: i64, topic: &str, properties: &[u8], payload: &[u8]) -> Self {
        let bytes = [topic.as_bytes(), properties, payload].concat().into_boxed_slice();
        let expiry = property::expiry(properties).map(|(at, seconds)| (at, time_ms + i64::from(seconds) * 1000));
        Self { offset, time_ms, topic_len: topic.len(), properties_len: properties.len(), bytes, expiry }
    }

    pub(super) fn topic(&self) -> &str {
        std::str::from_utf8(self.bytes.get(..self.topic_len).unwrap_or_default()).unwrap_or_default()
    }

    pub(super) fn properties(&self) -> &[u8] {
        self.bytes.get(self.topic_len..self.topic_len + self.properties_len).unwrap_or_default()
    }

    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.get(self.topic_len + self.properties_len..).unwrap_or_default()
    }

    /// Memory it takes, roughly.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }

    /// Can it expire?
    pub(super) fn expires(&self) -> bool {
        self.expiry.is_some()
    }

    /// Where the expiry stands in the properties, and the seconds left, rounded up; `Err` if the time is over.
    pub(super) fn time_left(&self, now_ms: i64) -> Result<Option<(usize, u32)>, Expired> {
        let Some((at, end)) = self.expiry else { return Ok(None) };
        match end - now_ms {
            ..=0 => Err(Expired { at }),
            left => Ok(Some((at, u32::try_from((left + 999) / 1000).unwrap_or(u32::MAX)))),
        }
    }
}

/// The message's time is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expired {
    /// Where the expiry stands in the properties.
    pub at: usize,
}

/// Which subscriptions brought a message to a subscriber, where that matters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Route {
    /// Their identifiers.
    pub identifiers: Box<[u32]>,
    /// The shared subscription (`$share/…`), if it is one.
    pub share: Option<Arc<str>>,
}

/// A message in one subscriber's queue.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub message: Arc<Message>,
    /// Its name in the queue, and its order there: see [`place`].
    pub place: u64,
    /// As granted.
    pub qos: u8,
    pub retain: bool,
    /// It is in the queue on disk too.
    pub stored: bool,
    /// QoS 2: the subscriber has it. What is left is PUBREL and PUBCOMP.
    pub released: bool,
    /// The queue on disk does not know that yet.
    pub changed: bool,
    /// The packet id it was sent under on an earlier connection, or 0.
    pub packet_id: u16,
    pub route: Option<Arc<Route>>,
}

impl Route {
    /// Of a single subscription with this identifier, or 0 for none.
    pub(super) fn of(identifier: u32) -> Option<Arc<Self>> {
        (identifier > 0).then(|| Arc::new(Self { identifiers: [identifier].into(), share: None }))
    }
}

impl Queued {
    /// A message that is new in a queue.
    pub(super) fn new(message: Arc<Message>, place: u64, qos: u8, retain: bool, route: Option<Arc<Route>>) -> Self {
        Self { message, place, qos, retain, stored: false, released: false, changed: false, packet_id: 0, route }
    }

    /// The subscription identifiers to be sent along.
    pub(super) fn identifiers(&self) -> &[u32] {
        self.route.as_ref().map_or(&[], |route| &route.identifiers)
    }

    pub(super) fn share(&self) -> Option<&Arc<str>> {
        self.route.as_ref()?.share.as_ref()
    }
}

/// The place of a message in a queue: the offset of the record that made it due, and which of those it is. A message
/// that comes as it is logged is number 0 at its own offset; retained ones are due where the subscription is noted.
pub(super) fn place(offset: u64, number: usize) -> u64 {
    offset << 20 | (number as u64).min((1 << 20) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_counts_down_from_receipt() {
        let message = Message::new(1, 10_000, "a", &[1, 1, 2, 0, 0, 0, 5], b"p");
        assert_eq!(message.time_left(10_000), Ok(Some((3, 5))));
        assert_eq!(message.time_left(14_001), Ok(Some((3, 1))));
        assert_eq!(message.time_left(15_000), Err(Expired { at: 3 }));
        assert_eq!((message.topic(), message.properties().len(), message.payload()), ("a", 7, &b"p"[..]));
        assert!(!Message::new(1, 0, "a", &[], b"").expires());
    }
}
