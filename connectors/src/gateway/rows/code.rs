//! The bytes of each row: the table in the room's description, as code.

use std::sync::Arc;

use super::super::message::{Message, Queued, Route};
use super::super::retained::Kept;
use super::super::will::Will;
use super::{ConnectionRow, FilterRow, SessionRow};

const CONNECTION: u8 = 1;
const WILL: u8 = 1;
const SESSION: u8 = 2;
const FILTER: u8 = 2;
const QUEUED: u8 = 2;
const RECEIVED: u8 = 1;
const RETAINED: u8 = 1;

/// Reads numbers and slices off the front of a value.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The value behind its format byte, if that is this version's.
    fn of(value: &'a [u8], format: u8) -> Option<Self> {
        value.split_first().filter(|(found, _)| **found == format).map(|(_, rest)| Self(rest))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*front)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    fn text(&mut self, len: u16) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(usize::from(len))?).ok()
    }
}

fn number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

pub(super) fn encode_connection(row: &ConnectionRow, due_ms: Option<i64>) -> Vec<u8> {
    let mut value = vec![CONNECTION];
    value.extend(due_ms.iter().flat_map(|due| due.to_le_bytes()));
    value.extend_from_slice(&row.session.to_le_bytes());
    value.extend_from_slice(&row.since_ms.to_le_bytes());
    let texts = [&row.client_id, &row.principal, &row.address];
    texts.iter().for_each(|text| value.extend_from_slice(&(text.len() as u16).to_le_bytes()));
    texts.iter().for_each(|text| value.extend_from_slice(text.as_bytes()));
    value
}

pub(super) fn connection(key: &[u8], value: &[u8], waits: bool) -> Option<(ConnectionRow, Option<i64>)> {
    let mut fields = Fields::of(value, CONNECTION)?;
    let due_ms = if waits { Some(fields.i64()?) } else { None };
    let (session, since_ms) = (fields.u64()?, fields.i64()?);
    let (client, principal, address) = (fields.u16()?, fields.u16()?, fields.u16()?);
    let row = ConnectionRow {
        connection: number(key)?,
        session,
        since_ms,
        client_id: fields.text(client)?.to_owned(),
        principal: fields.text(principal)?.to_owned(),
        address: fields.text(address)?.to_owned(),
    };
    Some((row, due_ms))
}

pub(super) fn encode_will(will: &Will) -> Vec<u8> {
    let mut value = vec![WILL];
    will.encode(&mut value);
    value
}

pub(super) fn will(value: &[u8]) -> Option<Will> {
    Will::decode(Fields::of(value, WILL)?.0)
}

pub(super) fn encode_session(row: &SessionRow) -> Vec<u8> {
    let mut value = vec![SESSION];
    value.extend_from_slice(&row.expiry_s.to_le_bytes());
    value.push(row.level);
    value.extend_from_slice(&row.since_ms.to_le_bytes());
    value.extend_from_slice(row.client_id.as_bytes());
    value
}

pub(super) fn session(key: &[u8], value: &[u8]) -> Option<SessionRow> {
    let mut fields = Fields::of(value, SESSION)?;
    let (expiry_s, level, since_ms) = (fields.u32()?, fields.u8()?, fields.i64()?);
    let client_id = std::str::from_utf8(fields.0).ok()?.to_owned();
    Some(SessionRow { number: number(key)?, client_id, expiry_s, level, since_ms })
}

pub(super) fn filter_key(session: u64, filter: &str) -> Vec<u8> {
    [&session.to_be_bytes(), filter.as_bytes()].concat()
}

pub(super) fn encode_filter(options: u8, identifier: u32) -> Vec<u8> {
    [&[FILTER, options][..], &identifier.to_le_bytes()].concat()
}

pub(super) fn filter(key: &[u8], value: &[u8]) -> Option<FilterRow> {
    let filter = std::str::from_utf8(key.get(8..)?).ok()?.to_owned();
    let mut fields = Fields::of(value, FILTER)?;
    Some(FilterRow { filter, options: fields.u8()?, identifier: fields.u32()? })
}

/// `None` if there are none.
pub(super) fn encode_received(ids: impl Iterator<Item = u16>) -> Option<Vec<u8>> {
    let mut value = vec![RECEIVED];
    ids.for_each(|id| value.extend_from_slice(&id.to_le_bytes()));
    (value.len() > 1).then_some(value)
}

pub(super) fn received(value: &[u8]) -> Option<Vec<u16>> {
    let (ids, rest) = Fields::of(value, RECEIVED)?.0.as_chunks::<2>();
    rest.is_empty().then(|| ids.iter().map(|id| u16::from_le_bytes(*id)).collect())
}

pub(super) fn queue_key(session: u64, place: u64) -> [u8; 16] {
    (u128::from(session) << 64 | u128::from(place)).to_be_bytes()
}

pub(super) fn place(key: &[u8]) -> Option<u64> {
    number(key.get(8..)?)
}

pub(super) fn encode_queued(queued: &Queued) -> Vec<u8> {
    let message = &queued.message;
    // Of a message that the subscriber has, only the packet id still matters.
    let (topic, properties, payload) = match queued.released {
        true => ("", &[][..], &[][..]),
        false => (message.topic(), message.properties(), message.payload()),
    };
    let share = queued.share().map_or("", |share| &**share);
    let identifiers = queued.identifiers();
    let mut value = Vec::with_capacity(32 + topic.len() + share.len() + properties.len() + payload.len());
    let flags = queued.qos | u8::from(queued.released) << 2 | u8::from(queued.retain) << 6;
    value.extend_from_slice(&[QUEUED, flags]);
    value.extend_from_slice(&queued.packet_id.to_le_bytes());
    value.extend_from_slice(&message.offset.to_le_bytes());
    value.extend_from_slice(&message.time_ms.to_le_bytes());
    value.extend_from_slice(&(topic.len() as u16).to_le_bytes());
    value.extend_from_slice(&(share.len() as u16).to_le_bytes());
    value.extend_from_slice(&(identifiers.len() as u16).to_le_bytes());
    value.extend_from_slice(&(properties.len() as u32).to_le_bytes());
    identifiers.iter().for_each(|id| value.extend_from_slice(&id.to_le_bytes()));
    value.extend_from_slice(topic.as_bytes());
    value.extend_from_slice(share.as_bytes());
    value.extend_from_slice(properties);
    value.extend_from_slice(payload);
    value
}

pub(super) fn queued(key: &[u8], value: &[u8]) -> Option<Queued> {
    let mut fields = Fields::of(value, QUEUED)?;
    let (flags, packet_id) = (fields.u8()?, fields.u16()?);
    let (offset, time_ms) = (fields.u64()?, fields.i64()?);
    let (topic, share, identifiers, properties) = (fields.u16()?, fields.u16()?, fields.u16()?, fields.u32()?);
    let identifiers = (0..identifiers).map(|_| fields.u32()).collect::<Option<Box<[u32]>>>()?;
    let topic = fields.text(topic)?;
    let share = fields.text(share)?;
    let properties = fields.bytes(properties as usize)?;
    let plain = identifiers.is_empty() && share.is_empty();
    let route = Route { identifiers, share: (!share.is_empty()).then(|| Arc::from(share)) };
    Some(Queued {
        message: Arc::new(Message::new(offset, time_ms, topic, properties, fields.0)),
        place: place(key)?,
        qos: flags & 3,
        retain: flags & 64 != 0,
        stored: true,
        released: flags & 4 != 0,
        changed: false,
        packet_id,
        route: (!plain).then(|| Arc::new(route)),
    })
}

pub(super) fn encode_retained(message: &Message, qos: u8) -> Vec<u8> {
    let mut value = vec![RETAINED, qos];
    value.extend_from_slice(&message.offset.to_le_bytes());
    value.extend_from_slice(&message.time_ms.to_le_bytes());
    value.extend_from_slice(&(message.properties().len() as u32).to_le_bytes());
    value.extend_from_slice(message.properties());
    value.extend_from_slice(message.payload());
    value
}

pub(super) fn retained(key: &[u8], value: &[u8]) -> Option<Kept> {
    let topic = std::str::from_utf8(key).ok()?;
    let mut fields = Fields::of(value, RETAINED)?;
    let (qos, offset, time_ms, properties) = (fields.u8()?, fields.u64()?, fields.i64()?, fields.u32()?);
    let properties = fields.bytes(properties as usize)?;
    let message = Message::new(offset, time_ms, topic, properties, fields.0);
    Some(Kept { message: Arc::new(message), qos })
}
