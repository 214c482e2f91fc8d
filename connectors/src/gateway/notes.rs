//! What the gateway writes into the log about its sessions, so that their state is a function of the log: the delivery
//! thread applies notes where they stand among the messages, and a restart reads them again.
//!
//! # Note, format 1
//!
//! A record of kind `Session`. `session` is the session's number; `client_id` and `packet_id` are what they are
//! elsewhere. Payload: one byte 1 (the format), one byte for the kind of note, then
//!
//! | kind | note | what follows |
//! |---|---|---|
//! | 1 | opened: a connection took up a session that may outlive it | expiry in seconds, u32; protocol level, u8 |
//! | 2 | closed: its connection ended | expiry in seconds, u32 |
//! | 3 | ended: the session is no more | |
//! | 4 | subscribed | for each filter: options u8 (as in MQTT 5 §3.8.3.1, QoS as granted), length u16, UTF-8 |
//! | 5 | unsubscribed | for each filter: 0, length u16, UTF-8 |
//! | 6 | released: PUBREL for the packet id | |
//! | 7 | repeated: a QoS 2 PUBLISH came again and was not logged again | |
//!
//! Numbers are little-endian.

use hedgerow_storage::log::{Batch, Record, RecordFields, RecordKind};

const FORMAT: u8 = 1;

/// One note, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note<'a> {
    Opened { expiry_s: u32, level: u8 },
    Closed { expiry_s: u32 },
    Ended,
    Subscribed(Vec<(&'a str, u8)>),
    Unsubscribed(Vec<&'a str>),
    Released,
    Repeated,
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
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub session: u64,
    pub client_id: &'a str,
    pub time_ms: i64,
    pub packet_id: u16,
}

impl Note<'_> {
    /// Appends the note to a batch.
    pub(super) fn push(&self, about: About<'_>, batch: &mut Batch) {
        let mut payload = vec![FORMAT];
        let filter = |payload: &mut Vec<u8>, filter: &str, options: u8| {
            payload.push(options);
            payload.extend_from_slice(&(filter.len() as u16).to_le_bytes());
            payload.extend_from_slice(filter.as_bytes());
        };
        match self {
            Self::Opened { expiry_s, level } => {
                payload.push(1);
                payload.extend_from_slice(&expiry_s.to_le_bytes());
                payload.push(*level);
            }
            Self::Closed { expiry_s } => {
                payload.push(2);
                payload.extend_from_slice(&expiry_s.to_le_bytes());
            }
            Self::Ended => payload.push(3),
            Self::Subscribed(filters) => {
                payload.push(4);
                filters.iter().for_each(|(text, options)| filter(&mut payload, text, *options));
            }
            Self::Unsubscribed(filters) => {
                payload.push(5);
                filters.iter().for_each(|text| filter(&mut payload, text, 0));
            }
            Self::Released => payload.push(6),
            Self::Repeated => payload.push(7),
        }
        batch.push(&RecordFields {
            kind: RecordKind::Session,
            time_ms: about.time_ms,
            client_id: about.client_id,
            session: about.session,
            packet_id: about.packet_id,
            payload: &payload,
            ..RecordFields::default()
        });
    }
}

impl<'a> Note<'a> {
    /// Reads the note in a record of kind `Session`.
    pub(super) fn read(record: &Record<'a>) -> Result<Self, UnknownNote> {
        let payload = record.fields.payload;
        let (format, kind) = (payload.first().copied().unwrap_or(0), payload.get(1).copied().unwrap_or(0));
        let rest = payload.get(2..).unwrap_or_default();
        decode(format, kind, rest).ok_or(UnknownNote { format, kind })
    }
}

fn decode(format: u8, kind: u8, rest: &[u8]) -> Option<Note<'_>> {
    if format != FORMAT {
        return None;
    }
    Some(match kind {
        1 => {
            let (expiry, rest) = rest.split_first_chunk()?;
            Note::Opened { expiry_s: u32::from_le_bytes(*expiry), level: *rest.first()? }
        }
        2 => Note::Closed { expiry_s: u32::from_le_bytes(*rest.first_chunk()?) },
        3 => Note::Ended,
        4 => Note::Subscribed(filters(rest)?),
        5 => Note::Unsubscribed(filters(rest)?.into_iter().map(|(filter, _)| filter).collect()),
        6 => Note::Released,
        7 => Note::Repeated,
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

    #[test]
    fn notes_come_back_and_unknown_ones_are_refused() {
        let about = About { session: 7, client_id: "c", time_ms: 5, packet_id: 9 };
        for note in [
            Note::Opened { expiry_s: 60, level: 5 },
            Note::Closed { expiry_s: u32::MAX },
            Note::Ended,
            Note::Subscribed(vec![("a/#", 1), ("é/+", 0x0C)]),
            Note::Unsubscribed(vec!["a/#"]),
            Note::Released,
            Note::Repeated,
        ] {
            let mut batch = Batch::new();
            note.push(about, &mut batch);
            assert_eq!(batch.len(), 1);
        }
        let read = |payload: &'static [u8]| {
            let fields = RecordFields { kind: RecordKind::Session, payload, ..RecordFields::default() };
            Note::read(&Record { offset: Offset(1), fields })
        };
        assert_eq!(read(&[1, 1, 60, 0, 0, 0, 5]).unwrap(), Note::Opened { expiry_s: 60, level: 5 });
        assert_eq!(read(&[1, 4, 1, 3, 0, b'a', b'/', b'#']).unwrap(), Note::Subscribed(vec![("a/#", 1)]));
        assert!(read(&[2, 3]).is_err());
        assert!(read(&[1, 99]).is_err());
        assert!(read(&[1, 4, 1, 9, 0, b'a']).is_err());
        assert!(read(&[]).is_err());
    }
}
