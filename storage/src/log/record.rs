//! One record, its frame, and a batch of frames.
//!
//! # Frame, format 1
//!
//! All numbers are little-endian; a *varint* has seven bits a byte, low ones first, at most five bytes.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the content |
//! | 4 | crc32c of the length and the content |
//! | 1 | kind in bits 0-3, QoS in bits 4-5, retain bit 6, dup bit 7 |
//! | 1 | which optional fields follow: client id 1, principal 2, address 4, session 8, packet id 16, properties 32, origin and hops 64 |
//! | 8 | time of receipt, ms since 1970, signed |
//! | 8 / 2 / 1 | session, packet id, hops: each only if present |
//! | varints | lengths of topic, then of client id, principal, address, origin, properties: each only if present |
//! | | topic, client id, principal, address, origin: UTF-8, one after the other |
//! | | properties, as they came |
//! | rest | payload |
//!
//! A frame does not hold its offset or epoch: they are the commit's, and a frame is encoded before its commit exists.
//! The version of this format is the segment's.

use bytes::Bytes;

use super::fields::{Fields, put_varint};
use super::{Epoch, Offset};

/// What a record is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum RecordKind {
    /// A PUBLISH, or a derived record.
    #[default]
    Message = 0,
    /// A change of the catalog.
    Control = 1,
    /// Nothing but the passing of time.
    Tick = 2,
    /// How far a producer of derived records has come.
    Mark = 3,
    /// The gateway's own notes on sessions.
    Session = 4,
}

impl RecordKind {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Message,
            1 => Self::Control,
            2 => Self::Tick,
            3 => Self::Mark,
            4 => Self::Session,
            _ => return None,
        })
    }
}

/// All that a record says. Empty strings and zeros are absent and take no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordFields<'a> {
    /// What it is for.
    pub kind: RecordKind,
    /// Time of receipt by the log's clock ([`super::Log::now_ms`]), ms since 1970.
    pub time_ms: i64,
    /// Topic, or the producer's name in a mark.
    pub topic: &'a str,
    /// MQTT client id.
    pub client_id: &'a str,
    /// Certificate fingerprint or user.
    pub principal: &'a str,
    /// Address of the peer.
    pub address: &'a str,
    /// Session of the gateway, 0 if none.
    pub session: u64,
    /// MQTT packet id, 0 if none.
    pub packet_id: u16,
    /// MQTT quality of service, 0 to 2.
    pub qos: u8,
    /// MQTT retain flag.
    pub retain: bool,
    /// MQTT dup flag.
    pub dup: bool,
    /// MQTT 5 property section of the PUBLISH, as it came.
    pub properties: &'a [u8],
    /// Derived records: row id of what they were derived from.
    pub origin: &'a str,
    /// Derived records: how many derivations lie behind.
    pub hops: u8,
    /// The message.
    pub payload: &'a [u8],
}

/// A record read from the log: its fields, and its place in the one order of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Number of the record.
    pub offset: Offset,
    /// What it says; also by dereference.
    pub fields: RecordFields<'a>,
}

impl<'a> std::ops::Deref for Record<'a> {
    type Target = RecordFields<'a>;

    fn deref(&self) -> &RecordFields<'a> {
        &self.fields
    }
}

impl<'a> Record<'a> {
    /// A mark's producer and how far it has come; `None` for other kinds.
    pub fn mark(&self) -> Option<(&'a str, Epoch)> {
        let epoch = u64::from_le_bytes(self.fields.payload.try_into().ok()?);
        (self.fields.kind == RecordKind::Mark).then_some((self.fields.topic, Epoch(epoch)))
    }
}

/// A record in its frame: what decides whose it is can be had without decoding the rest.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub(super) offset: Offset,
    pub(super) content: &'a [u8],
}

impl<'a> Frame<'a> {
    /// What the record is for; none if no version of this program wrote it.
    pub fn kind(&self) -> Option<RecordKind> {
        RecordKind::from_bits(self.content.first()? & 15)
    }

    /// The client id, and the topic where there is none.
    pub fn sender(&self) -> Option<&'a [u8]> {
        let mut rest = Fields(self.content);
        let [_, present, _, _, _, _, _, _, _, _] = rest.array()?;
        let has = |bit: u8| present & bit != 0;
        let fixed = [(HAS_SESSION, 8), (HAS_PACKET_ID, 2), (HAS_ORIGIN, 1)];
        rest.bytes(fixed.iter().filter(|(bit, _)| has(*bit)).map(|(_, bytes)| bytes).sum())?;
        let topic = rest.varint()?;
        let client_id = if has(HAS_CLIENT) { rest.varint()? } else { 0 };
        for bit in [HAS_PRINCIPAL, HAS_ADDRESS, HAS_ORIGIN, HAS_PROPERTIES] {
            if has(bit) {
                rest.varint()?;
            }
        }
        let (topic, client_id) = (rest.bytes(topic)?, rest.bytes(client_id)?);
        Some(if client_id.is_empty() { topic } else { client_id })
    }

    /// The record; none if no version of this program wrote it.
    pub fn record(&self) -> Option<Record<'a>> {
        Some(Record { offset: self.offset, fields: decode(self.content)? })
    }
}

const HAS_CLIENT: u8 = 1;
const HAS_PRINCIPAL: u8 = 2;
const HAS_ADDRESS: u8 = 4;
const HAS_SESSION: u8 = 8;
const HAS_PACKET_ID: u8 = 16;
const HAS_PROPERTIES: u8 = 32;
const HAS_ORIGIN: u8 = 64;

/// Length and checksum.
pub(super) const FRAME_HEADER: usize = 8;

/// Records that enter the log together, in one commit, in the order they were pushed.
#[derive(Debug, Default)]
pub struct Batch {
    frames: Vec<u8>,
    /// The frames' checksums once more, side by side: the writer chains them without touching the frames.
    checksums: Vec<u8>,
}

impl Batch {
    /// Holds no record.
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for so many records of so many bytes altogether, before it has to grow.
    pub fn with_capacity(records: usize, bytes: usize) -> Self {
        let frames = Vec::with_capacity(bytes + records * 48);
        Self { frames, checksums: Vec::with_capacity(records * 4) }
    }

    /// Encodes one record at the end.
    pub fn push(&mut self, record: &RecordFields<'_>) {
        let start = self.frames.len();
        self.frames.extend_from_slice(&[0; FRAME_HEADER]);
        encode(&mut self.frames, record);
        let checksum = seal_frame(self.frames.get_mut(start..).unwrap_or_default());
        self.checksums.extend_from_slice(&checksum.to_le_bytes());
    }

    /// Notes that `producer` has derived everything up to and including this epoch.
    pub fn push_mark(&mut self, producer: &str, up_to: Epoch) {
        let payload = up_to.0.to_le_bytes();
        self.push(&RecordFields { kind: RecordKind::Mark, topic: producer, payload: &payload, ..Default::default() });
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.checksums.len() / 4
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.checksums.is_empty()
    }

    /// Their size in the log.
    pub fn bytes(&self) -> usize {
        self.frames.len()
    }

    /// Forgets the records and keeps the room.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.checksums.clear();
    }

    pub(super) fn frames(&self) -> &[u8] {
        &self.frames
    }

    pub(super) fn into_frames(self) -> Bytes {
        self.frames.into()
    }

    pub(super) fn checksums(&self) -> &[u8] {
        &self.checksums
    }
}

/// Fills in the frame's header, and gives its checksum.
fn seal_frame(frame: &mut [u8]) -> u32 {
    let Some((header, content)) = frame.split_first_chunk_mut::<FRAME_HEADER>() else { return 0 };
    let len = (content.len() as u32).to_le_bytes();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&len), content);
    let [l0, l1, l2, l3] = len;
    let [c0, c1, c2, c3] = checksum.to_le_bytes();
    *header = [l0, l1, l2, l3, c0, c1, c2, c3];
    checksum
}

fn encode(out: &mut Vec<u8>, r: &RecordFields<'_>) {
    let has_origin = !r.origin.is_empty() || r.hops != 0;
    let flag = |present: bool, bit: u8| if present { bit } else { 0 };
    let present = flag(!r.client_id.is_empty(), HAS_CLIENT)
        | flag(!r.principal.is_empty(), HAS_PRINCIPAL)
        | flag(!r.address.is_empty(), HAS_ADDRESS)
        | flag(r.session != 0, HAS_SESSION)
        | flag(r.packet_id != 0, HAS_PACKET_ID)
        | flag(!r.properties.is_empty(), HAS_PROPERTIES)
        | flag(has_origin, HAS_ORIGIN);
    out.push(r.kind as u8 | (r.qos & 3) << 4 | u8::from(r.retain) << 6 | u8::from(r.dup) << 7);
    out.push(present);
    out.extend_from_slice(&r.time_ms.to_le_bytes());
    if r.session != 0 {
        out.extend_from_slice(&r.session.to_le_bytes());
    }
    if r.packet_id != 0 {
        out.extend_from_slice(&r.packet_id.to_le_bytes());
    }
    if has_origin {
        out.push(r.hops);
    }
    put_varint(out, r.topic.len());
    for text in [r.client_id, r.principal, r.address] {
        if !text.is_empty() {
            put_varint(out, text.len());
        }
    }
    if has_origin {
        put_varint(out, r.origin.len());
    }
    if !r.properties.is_empty() {
        put_varint(out, r.properties.len());
    }
    for text in [r.topic, r.client_id, r.principal, r.address, r.origin] {
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(r.properties);
    out.extend_from_slice(r.payload);
}

/// The fields in a frame's content; `None` if no version of this program wrote it.
pub(super) fn decode(content: &[u8]) -> Option<RecordFields<'_>> {
    let mut rest = Fields(content);
    let first = rest.u8()?;
    let present = rest.u8()?;
    let has = |bit: u8| present & bit != 0;
    let time_ms = i64::from_le_bytes(rest.array()?);
    let session = if has(HAS_SESSION) { rest.u64()? } else { 0 };
    let packet_id = if has(HAS_PACKET_ID) { rest.u16()? } else { 0 };
    let hops = if has(HAS_ORIGIN) { rest.u8()? } else { 0 };
    let mut len = |present: bool| if present { rest.varint() } else { Some(0) };
    let topic = len(true)?;
    let client_id = len(has(HAS_CLIENT))?;
    let principal = len(has(HAS_PRINCIPAL))?;
    let address = len(has(HAS_ADDRESS))?;
    let origin = len(has(HAS_ORIGIN))?;
    let properties = len(has(HAS_PROPERTIES))?;
    // One validation for all the strings; cutting them apart only looks at character boundaries.
    let strings = rest.bytes(topic + client_id + principal + address + origin)?;
    let strings = std::str::from_utf8(strings).ok()?;
    let (topic, strings) = strings.split_at_checked(topic)?;
    let (client_id, strings) = strings.split_at_checked(client_id)?;
    let (principal, strings) = strings.split_at_checked(principal)?;
    let (address, origin) = strings.split_at_checked(address)?;
    Some(RecordFields {
        kind: RecordKind::from_bits(first & 15)?,
        time_ms,
        topic,
        client_id,
        principal,
        address,
        session,
        packet_id,
        qos: first >> 4 & 3,
        retain: first & 0x40 != 0,
        dup: first & 0x80 != 0,
        properties: rest.bytes(properties)?,
        origin,
        hops,
        payload: rest.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_went_in(
            kind in 0_u8..5, time_ms: i64, topic in ".{0,200}", client_id in ".{0,20}", principal in ".{0,20}",
            address in ".{0,20}", session: u64, packet_id: u16, qos in 0_u8..4, retain: bool, dup: bool,
            properties: Vec<u8>, origin in ".{0,20}", hops: u8, payload: Vec<u8>,
        ) {
            let fields = RecordFields {
                kind: RecordKind::from_bits(kind).unwrap(), time_ms, topic: &topic, client_id: &client_id,
                principal: &principal, address: &address, session, packet_id, qos, retain, dup,
                properties: &properties, origin: &origin, hops, payload: &payload,
            };
            let mut batch = Batch::new();
            batch.push(&fields);
            let frame = Frame { offset: Offset(7), content: &batch.frames()[FRAME_HEADER..] };
            prop_assert_eq!(frame.record(), Some(Record { offset: Offset(7), fields }));
            prop_assert_eq!(frame.kind(), Some(fields.kind));
            let sender = if client_id.is_empty() { &topic } else { &client_id };
            prop_assert_eq!(frame.sender(), Some(sender.as_bytes()));
        }

        #[test]
        fn nothing_read_panics(content: Vec<u8>) {
            let frame = Frame { offset: Offset(7), content: &content };
            let _ = (frame.kind(), frame.sender(), frame.record());
        }
    }

    #[test]
    fn absent_fields_take_no_room() {
        let mut batch = Batch::new();
        batch.push(&RecordFields { topic: "t", payload: b"p", ..Default::default() });
        assert_eq!(batch.bytes(), FRAME_HEADER + 1 + 1 + 8 + 1 + 1 + 1);
    }
}
