//! Presence: who comes, goes, subscribes and unsubscribes, as messages under `$aws/events/…`.
//!
//! The gateway appends them to the log itself, in the batch that holds the note of the same thing, so that there is one
//! for every connection and one for its end, and the end of one is before the beginning of the same client's next.
//! Clients cannot publish there. Names and fields are those of AWS IoT Core's lifecycle events.

use hedgerow_storage::log::{Batch, RecordFields, RecordKind};
use serde::Serialize;

use super::inbound::Ending;
use super::reject::Reject;

/// Whom an event is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub client_id: &'a str,
    pub principal: &'a str,
    pub address: &'a str,
    /// Its number is the event's version: it grows with every connection of a client, and of all clients.
    pub connection: u64,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Reason {
    ClientInitiatedDisconnect,
    ConnectionLost,
    MqttKeepAliveTimeout,
    #[serde(rename = "DUPLICATE_CLIENTID")]
    DuplicateClientId,
    ClientError,
    AuthError,
    ServerError,
    ServerInitiatedDisconnect,
    Throttled,
}

impl Reason {
    pub(super) fn of(ending: Ending) -> Self {
        match ending {
            Ending::Left(_) => Self::ClientInitiatedDisconnect,
            Ending::Lost => Self::ConnectionLost,
            Ending::Refused(reason) => match reason {
                Reject::KeepAlive => Self::MqttKeepAliveTimeout,
                Reject::TakenOver => Self::DuplicateClientId,
                Reject::TopicReserved | Reject::AuthMethod => Self::AuthError,
                Reject::LogUnavailable => Self::ServerError,
                Reject::ShuttingDown => Self::ServerInitiatedDisconnect,
                Reject::Quota => Self::Throttled,
                _ => Self::ClientError,
            },
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    client_id: &'a str,
    timestamp: i64,
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_initiated_disconnect: Option<bool>,
    session_identifier: String,
    principal_identifier: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect_reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_failure_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<&'a [&'a str]>,
}

impl<'a> Subject<'a> {
    /// A connection began.
    pub(super) fn connected(self, time_ms: i64, batch: &mut Batch) {
        let version_number = Some(self.connection);
        let event = Event { ip_address: Some(self.address), version_number, ..self.event("connected", time_ms) };
        push("presence", &event, batch);
    }

    /// A connection ended.
    pub(super) fn disconnected(self, reason: Reason, time_ms: i64, batch: &mut Batch) {
        let event = Event {
            client_initiated_disconnect: Some(reason == Reason::ClientInitiatedDisconnect),
            disconnect_reason: Some(reason),
            version_number: Some(self.connection),
            ..self.event("disconnected", time_ms)
        };
        push("presence", &event, batch);
    }

    /// A client was not let in.
    pub(super) fn connect_failed(self, time_ms: i64, batch: &mut Batch) {
        let event = Event {
            ip_address: Some(self.address),
            connect_failure_reason: Some("AUTHORIZATION_FAILED"),
            ..self.event("connect_failed", time_ms)
        };
        push("presence", &event, batch);
    }

    /// Subscriptions were made.
    pub(super) fn subscribed(self, topics: &[&str], time_ms: i64, batch: &mut Batch) {
        push("subscriptions", &Event { topics: Some(topics), ..self.event("subscribed", time_ms) }, batch);
    }

    /// Subscriptions ended.
    pub(super) fn unsubscribed(self, topics: &[&str], time_ms: i64, batch: &mut Batch) {
        push("subscriptions", &Event { topics: Some(topics), ..self.event("unsubscribed", time_ms) }, batch);
    }

    fn event(self, event_type: &'a str, timestamp: i64) -> Event<'a> {
        Event {
            client_id: self.client_id,
            timestamp,
            event_type,
            client_initiated_disconnect: None,
            session_identifier: session_identifier(self.client_id, self.connection),
            principal_identifier: self.principal,
            ip_address: None,
            disconnect_reason: None,
            connect_failure_reason: None,
            version_number: None,
            topics: None,
        }
    }
}

fn push(kind: &str, event: &Event<'_>, batch: &mut Batch) {
    let topic = format!("$aws/events/{kind}/{}/{}", event.event_type, event.client_id);
    let payload = serde_json::to_vec(event);
    debug_assert!(payload.is_ok(), "an event is text and numbers");
    batch.push(&RecordFields {
        kind: RecordKind::Message,
        time_ms: event.timestamp,
        topic: &topic,
        qos: 1,
        payload: &payload.unwrap_or_default(),
        ..RecordFields::default()
    });
}

/// A UUID (version 8) of a connection, the same whenever it is asked for: the number is unique in a log, and the client
/// id tells logs apart as far as it goes.
pub(super) fn session_identifier(client_id: &str, connection: u64) -> String {
    // FNV-1a, 64 bits.
    let hash = client_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let (high, low) = (connection >> 12, connection & 0xFFF);
    let node = hash & 0xFFFF_FFFF_FFFF;
    let clock = (hash >> 48) as u16 & 0x3FFF | 0x8000;
    format!("{:08x}-{:04x}-8{low:03x}-{clock:04x}-{node:012x}", high >> 16 & 0xFFFF_FFFF, high & 0xFFFF)
}

#[cfg(test)]
mod tests {
    use hedgerow_storage::clock::SystemClock;
    use hedgerow_storage::disk::SystemDisk;
    use hedgerow_storage::log::{Class, Epoch, Log, LogConfig};
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::packet::Disconnect;
    use super::*;

    #[test]
    fn events_have_the_fields_that_consumers_know() {
        let subject = Subject { client_id: "é/1", principal: "p", address: "::1", connection: 1_700_000_000_000_123 };
        let mut batch = Batch::new();
        subject.connected(5, &mut batch);
        subject.disconnected(Reason::DuplicateClientId, 6, &mut batch);
        subject.connect_failed(7, &mut batch);
        subject.subscribed(&["a/#", "b"], 8, &mut batch);
        subject.unsubscribed(&["b"], 9, &mut batch);
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig { min_free_bytes: 0, reserve_bytes: 0, ..LogConfig::new(dir.path().to_owned()) };
        let (log, _) = Log::open(config, Arc::new(SystemDisk), Arc::new(SystemClock::default()), Epoch(0)).unwrap();
        log.appender().append_and_wait(batch, Class::System).unwrap();
        let commit = log.reader(Epoch(0)).unwrap().next(Duration::from_secs(9)).unwrap().unwrap();
        let id = session_identifier("é/1", 1_700_000_000_000_123);
        let head = |kind: &str, time: i64| format!(r#"{{"clientId":"é/1","timestamp":{time},"eventType":"{kind}""#);
        let who = format!(r#""sessionIdentifier":"{id}","principalIdentifier":"p""#);
        let version = r#""versionNumber":1700000000000123}"#;
        let expected = [
            format!(r#"{},{who},"ipAddress":"::1",{version}"#, head("connected", 5)),
            format!(
                r#"{},"clientInitiatedDisconnect":false,{who},"disconnectReason":"DUPLICATE_CLIENTID",{version}"#,
                head("disconnected", 6)
            ),
            format!(
                r#"{},{who},"ipAddress":"::1","connectFailureReason":"AUTHORIZATION_FAILED"}}"#,
                head("connect_failed", 7)
            ),
            format!(r#"{},{who},"topics":["a/#","b"]}}"#, head("subscribed", 8)),
            format!(r#"{},{who},"topics":["b"]}}"#, head("unsubscribed", 9)),
        ];
        let found: Vec<_> =
            commit.records().map(|record| String::from_utf8_lossy(record.payload).into_owned()).collect();
        assert_eq!(found, expected);
        let topics: Vec<_> = commit.records().map(|record| record.topic.to_owned()).collect();
        assert_eq!(topics[0], "$aws/events/presence/connected/é/1");
        assert_eq!(topics[3], "$aws/events/subscriptions/subscribed/é/1");
    }

    #[test]
    fn identifiers_are_uuids_and_differ() {
        let id = session_identifier("c", 0x0123_4567_89AB_CDEF);
        assert_eq!(&id[..19], "12345678-9abc-8def-");
        assert_eq!(id.len(), 36);
        assert_ne!(session_identifier("c", 1), session_identifier("c", 2));
        assert_ne!(session_identifier("c", 1), session_identifier("d", 1));
    }

    #[test]
    fn every_ending_has_its_reason() {
        let left = Ending::Left(Disconnect { session_expiry: None, voids_will: false });
        for (ending, reason) in [
            (left, Reason::ClientInitiatedDisconnect),
            (Ending::Lost, Reason::ConnectionLost),
            (Ending::Refused(Reject::KeepAlive), Reason::MqttKeepAliveTimeout),
            (Ending::Refused(Reject::TakenOver), Reason::DuplicateClientId),
            (Ending::Refused(Reject::Malformed), Reason::ClientError),
            (Ending::Refused(Reject::PacketTooLarge), Reason::ClientError),
            (Ending::Refused(Reject::TopicReserved), Reason::AuthError),
            (Ending::Refused(Reject::ShuttingDown), Reason::ServerInitiatedDisconnect),
            (Ending::Refused(Reject::LogUnavailable), Reason::ServerError),
            (Ending::Refused(Reject::Quota), Reason::Throttled),
        ] {
            assert_eq!(Reason::of(ending), reason, "{ending:?}");
        }
    }
}
