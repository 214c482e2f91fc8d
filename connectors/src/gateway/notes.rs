//! What the gateway writes into the log about connections and sessions, so that their state is a function of the log:
//! the delivery thread applies notes where they stand among the messages, and a restart reads them again.
//!
//! # Note, format 2
//!
//! A record of kind `Session`. `session` is the session's number; `client_id`, `principal`, `address` and `packet_id`
//! are what they are elsewhere. Payload: one byte 2 (the format), one byte for the kind of note, then
//!
//! | kind | note | what follows |
//! |---|---|---|
//! | 1 | connected: a connection took up a session | connection u64; expiry in seconds u32; protocol level u8; flags u8: 1 the session may outlive the connection, 2 there is a will, which follows as described in `will` |
//! | 2 | disconnected: the connection ended | connection u64; expiry in seconds u32; flags u8: 1 and with it the session, 2 there was a will; when the will is due i64 ms, 0 if not any more |
//! | 3 | ended: a session that had no connection is no more | |
//! | 4 | subscribed | subscription identifier u32 or 0; for each filter: options u8 (as in MQTT 5 §3.8.3.1, QoS as granted), length u16, UTF-8 |
//! | 5 | unsubscribed | for each filter: 0, length u16, UTF-8 |
//! | 6 | released: PUBREL for the packet id | |
//! | 7 | repeated: a QoS 2 PUBLISH came again and was not logged again | |
//! | 8 | will published: the delayed will of a connection is in this batch | connection u64 |
//!
//! Numbers are little-endian. A connection's number is unique over the life of the log and above those of earlier ones.

use std::sync::Arc;

use hedgerow_storage::log::{Batch, Record, RecordFields, RecordKind};

use super::will::Will;

const FORMAT: u8 = 2;

/// One note, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note<'a> {
    Connected(Connected),
    Disconnected(Disconnected),
    Ended,
    Subscribed { identifier: u32, filters: Vec<(&'a str, u8)> },
    Unsubscribed(Vec<&'a str>),
    Released,
    Repeated,
    WillPublished { connection: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connected {
    pub connection: u64,
    pub expiry_s: u32,
    pub level: u8,
    /// The session may outlive the connection.
    pub durable: bool,
    pub will: Option<Arc<Will>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disconnected {
    pub connection: u64,
    pub expiry_s: u32,
    /// The session ended with it.
    pub ended: bool,
    /// There was a will.
    pub had_will: bool,
    /// The will waits until then; else it is in this batch, or void.
    pub will_due_ms: Option<i64>,
}

/// A note that this version cannot read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the log holds a session note of format {format}, kind {kind}, which this version does not know: start the version that wrote it"
)]
pub(crate) struct UnknownNote {
    format: u8,
    kind: u8,
}

/// Whom and what a note is about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct About<'a> {
    pub session: u64,
    pub client_id: &'a str,
    pub principal: &'a str,
    pub address: &'a str,
    pub time_ms: i64,
    pub packet_id: u16,
}

impl Note<'_> {
    fn kind(&self) -> u8 {
        match self {
            Self::Connected(_) => 1,
            Self::Disconnected(_) => 2,
            Self::Ended => 3,
            Self::Subscribed { .. } => 4,
            Self::Unsubscribed(_) => 5,
            Self::Released => 6,
            Self::Repeated => 7,
            Self::WillPublished { .. } => 8,
        }
    }

    /// Appends the note to a batch.
    pub(super) fn push(&self, about: About<'_>, batch: &mut Batch) {
        let mut payload = vec![FORMAT, self.kind()];
        self.encode(&mut payload);
        batch.push(&RecordFields {
            kind: RecordKind::Session,
            time_ms: about.time_ms,
            client_id: about.client_id,
            principal: about.principal,
            address: about.address,
            session: about.session,
            packet_id: about.packet_id,
            payload: &payload,
            ..RecordFields::default()
        });
    }

    fn encode(&self, into: &mut Vec<u8>) {
        let filter = |into: &mut Vec<u8>, filter: &str, options: u8| {
            into.push(options);
            into.extend_from_slice(&(filter.len() as u16).to_le_bytes());
            into.extend_from_slice(filter.as_bytes());
        };
        match self {
            Self::Connected(note) => {
                into.extend_from_slice(&note.connection.to_le_bytes());
                into.extend_from_slice(&note.expiry_s.to_le_bytes());
                into.extend_from_slice(&[note.level, u8::from(note.durable) | u8::from(note.will.is_some()) << 1]);
                if let Some(will) = &note.will {
                    will.encode(into);
                }
            }
            Self::Disconnected(note) => {
                into.extend_from_slice(&note.connection.to_le_bytes());
                into.extend_from_slice(&note.expiry_s.to_le_bytes());
                into.push(u8::from(note.ended) | u8::from(note.had_will) << 1);
                into.extend_from_slice(&note.will_due_ms.unwrap_or(0).to_le_bytes());
            }
            Self::Subscribed { identifier, filters } => {
                into.extend_from_slice(&identifier.to_le_bytes());
                filters.iter().for_each(|(text, options)| filter(into, text, *options));
            }
            Self::Unsubscribed(filters) => filters.iter().for_each(|text| filter(into, text, 0)),
            Self::WillPublished { connection } => into.extend_from_slice(&connection.to_le_bytes()),
            Self::Ended | Self::Released | Self::Repeated => {}
        }
    }
}

impl<'a> Note<'a> {
    /// Reads the note in a record of kind `Session`.
    pub(super) fn read(record: &Record<'a>) -> Result<Self, UnknownNote> {
        let payload = record.fields.payload;
        let (format, kind) = (payload.first().copied(), payload.get(1).copied());
        let known = match payload {
            [FORMAT, kind, rest @ ..] => read(*kind, rest),
            _ => None,
        };
        known.ok_or(UnknownNote { format: format.unwrap_or_default(), kind: kind.unwrap_or_default() })
    }
}

fn read(kind: u8, rest: &[u8]) -> Option<Note<'_>> {
    Some(match kind {
        1 => {
            let (connection, rest) = rest.split_first_chunk()?;
            let (expiry, rest) = rest.split_first_chunk()?;
            let ([level, flags], rest) = rest.split_first_chunk()?;
            let will = if flags & 2 != 0 { Some(Arc::new(Will::decode(rest)?)) } else { None };
            Note::Connected(Connected {
                connection: u64::from_le_bytes(*connection),
                expiry_s: u32::from_le_bytes(*expiry),
                level: *level,
                durable: flags & 1 != 0,
                will,
            })
        }
        2 => {
            let (connection, rest) = rest.split_first_chunk()?;
            let (expiry, rest) = rest.split_first_chunk()?;
            let (&flags, rest) = rest.split_first()?;
            let due = i64::from_le_bytes(*rest.first_chunk()?);
            Note::Disconnected(Disconnected {
                connection: u64::from_le_bytes(*connection),
                expiry_s: u32::from_le_bytes(*expiry),
                ended: flags & 1 != 0,
                had_will: flags & 2 != 0,
                will_due_ms: (due != 0).then_some(due),
            })
        }
        3 => Note::Ended,
        4 => {
            let (identifier, rest) = rest.split_first_chunk()?;
            Note::Subscribed { identifier: u32::from_le_bytes(*identifier), filters: filters(rest)? }
        }
        5 => Note::Unsubscribed(filters(rest)?.into_iter().map(|(filter, _)| filter).collect()),
        6 => Note::Released,
        7 => Note::Repeated,
        8 => Note::WillPublished { connection: u64::from_le_bytes(*rest.first_chunk()?) },
        _ => return None,
    })
}

fn filters(mut rest: &[u8]) -> Option<Vec<(&str, u8)>> {
    let mut filters = Vec::new();
    while let Some((&options, after)) = rest.split_first() {
        let (len, after) = after.split_first_chunk()?;
        let (text, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        filters.push((std::str::from_utf8(text).ok()?, options));
        rest = after;
    }
    Some(filters)
}

#[cfg(test)]
mod tests {
    use hedgerow_storage::log::Offset;

    use super::*;

    fn record(payload: &[u8]) -> Record<'_> {
        let fields = RecordFields { kind: RecordKind::Session, payload, ..RecordFields::default() };
        Record { offset: Offset(1), fields }
    }

    #[test]
    fn notes_come_back_and_unknown_ones_are_refused() {
        let will = Will {
            topic: "w".to_owned(),
            qos: 1,
            retain: false,
            delay_s: 5,
            properties: Vec::new(),
            payload: b"gone".to_vec(),
        };
        let connected = Connected { connection: 9, expiry_s: 60, level: 5, durable: true, will: None };
        let gone =
            Disconnected { connection: 9, expiry_s: u32::MAX, ended: false, had_will: true, will_due_ms: Some(-5) };
        for note in [
            Note::Connected(Connected { will: Some(Arc::new(will)), ..connected.clone() }),
            Note::Connected(connected),
            Note::Disconnected(gone),
            Note::Disconnected(Disconnected { ended: true, will_due_ms: None, ..gone }),
            Note::Ended,
            Note::Subscribed { identifier: 268_435_455, filters: vec![("a/#", 1), ("é/+", 0x0C)] },
            Note::Unsubscribed(vec!["a/#"]),
            Note::Released,
            Note::Repeated,
            Note::WillPublished { connection: 7 },
        ] {
            let mut payload = vec![FORMAT, note.kind()];
            note.encode(&mut payload);
            assert_eq!(Note::read(&record(&payload)).unwrap(), note);
        }
        for unknown in [&[1, 3][..], &[2, 99], &[2, 4, 0, 0, 0, 0, 1, 9, 0, b'a'], &[2], &[]] {
            assert!(Note::read(&record(unknown)).is_err(), "{unknown:?}");
        }
    }
}
