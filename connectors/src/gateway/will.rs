//! A last will: what a client wants said when it is gone without a farewell.
//!
//! It is in the log with the note of its connection, before the client is welcomed. The batch that says that the
//! connection ended holds the will's message too, or says when it is due; the message of a delayed one is in the batch
//! that says so. A batch is in the log whole or not at all, so a will is published once, whoever crashes when.
//!
//! # Stored form
//!
//! QoS + 4 if retained u8, delay u32 s, length of the topic u16, of the properties u32 (numbers little-endian), topic,
//! properties (without the delay), payload. The notes and rows that hold it carry the version.

use hedgerow_storage::log::{Batch, RecordFields, RecordKind};

/// A will as CONNECT brought it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Will {
    pub topic: String,
    pub qos: u8,
    pub retain: bool,
    /// Seconds it waits for the session to be taken up again.
    pub delay_s: u32,
    /// MQTT 5 property section of the message to be.
    pub properties: Vec<u8>,
    pub payload: Vec<u8>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speaker<'a> {
    pub client_id: &'a str,
    pub principal: &'a str,
    pub address: &'a str,
    pub session: u64,
    pub connection: u64,
}

impl Will {
    /// Appends the message to a batch.
    pub(super) fn push(&self, speaker: Speaker<'_>, time_ms: i64, batch: &mut Batch) {
        batch.push(&RecordFields {
            kind: RecordKind::Message,
            time_ms,
            topic: &self.topic,
            client_id: speaker.client_id,
            principal: speaker.principal,
            address: speaker.address,
            session: speaker.session,
            qos: self.qos,
            retain: self.retain,
            properties: &self.properties,
            // Who reads it can tell it from what the client said itself.
            origin: &format!("will-{}", speaker.connection),
            payload: &self.payload,
            ..RecordFields::default()
        });
    }

    /// When it is due if its connection ends now and its session lasts for `expiry_s` after that; `None`: at once.
    pub(super) fn due_ms(&self, now_ms: i64, expiry_s: u32) -> Option<i64> {
        let delay = self.delay_s.min(expiry_s);
        (delay > 0).then(|| now_ms.saturating_add(i64::from(delay) * 1000))
    }

    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        into.push(self.qos | u8::from(self.retain) << 2);
        into.extend_from_slice(&self.delay_s.to_le_bytes());
        into.extend_from_slice(&(self.topic.len() as u16).to_le_bytes());
        into.extend_from_slice(&(self.properties.len() as u32).to_le_bytes());
        into.extend_from_slice(self.topic.as_bytes());
        into.extend_from_slice(&self.properties);
        into.extend_from_slice(&self.payload);
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&flags, rest) = bytes.split_first()?;
        let (delay, rest) = rest.split_first_chunk()?;
        let (topic_len, rest) = rest.split_first_chunk()?;
        let (properties_len, rest) = rest.split_first_chunk()?;
        let (topic, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*topic_len)))?;
        let (properties, payload) = rest.split_at_checked(u32::from_le_bytes(*properties_len) as usize)?;
        Some(Self {
            topic: std::str::from_utf8(topic).ok()?.to_owned(),
            qos: flags & 3,
            retain: flags & 4 != 0,
            delay_s: u32::from_le_bytes(*delay),
            properties: properties.to_vec(),
            payload: payload.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_and_read_back_and_due_no_later_than_the_session_ends() {
        let will = Will {
            topic: "é/w".to_owned(),
            qos: 2,
            retain: true,
            delay_s: 9,
            properties: vec![1, 1],
            payload: vec![0, 255],
        };
        let mut bytes = Vec::new();
        will.encode(&mut bytes);
        assert_eq!(Will::decode(&bytes), Some(will.clone()));
        assert_eq!(Will::decode(&bytes[..12]), None);
        assert_eq!(will.due_ms(1000, 60), Some(10_000));
        assert_eq!(will.due_ms(1000, 3), Some(4000));
        assert_eq!(will.due_ms(1000, 0), None);
        assert_eq!(Will { delay_s: 0, ..will }.due_ms(1000, 60), None);
    }
}
