//! What the gateway writes, apart from PUBLISH and the CONNACK that welcomes.

use bytes::{BufMut, BytesMut};

use super::super::frame::{Version, put_varint};
use super::super::reject::Reject;

/// Appends PUBACK, PUBREC, PUBREL or PUBCOMP.
pub(in super::super) fn put_ack(out: &mut impl BufMut, kind: u8, id: u16, reason: u8) {
    let [high, low] = id.to_be_bytes();
    let first = kind << 4 | if kind == super::kind::PUBREL { 2 } else { 0 };
    if reason == 0 {
        out.put_slice(&[first, 2, high, low]);
    } else {
        out.put_slice(&[first, 3, high, low, reason]);
    }
}

/// Appends a SUBACK. Codes of MQTT 5 above 0x80 become 0x80 in 3.1.1.
pub(in super::super) fn put_suback(out: &mut Vec<u8>, version: Version, id: u16, codes: &[u8]) {
    put_codes(out, 0x90, version, id, codes);
}

/// Appends an UNSUBACK; 3.1.1 has no codes in it.
pub(in super::super) fn put_unsuback(out: &mut Vec<u8>, version: Version, id: u16, codes: &[u8]) {
    put_codes(out, 0xB0, version, id, if version == Version::V5 { codes } else { &[] });
}

fn put_codes(out: &mut Vec<u8>, first: u8, version: Version, id: u16, codes: &[u8]) {
    let five = version == Version::V5;
    let mut length = BytesMut::with_capacity(4);
    put_varint(&mut length, 2 + usize::from(five) + codes.len());
    out.push(first);
    out.extend_from_slice(&length);
    out.extend_from_slice(&id.to_be_bytes());
    if five {
        out.push(0);
    }
    out.extend(codes.iter().map(|&code| if five { code } else { code.min(0x80) }));
}

/// Appends a DISCONNECT with a reason; 3.1.1 servers have none to send.
pub(in super::super) fn put_disconnect(out: &mut BytesMut, version: Version, reason: Reject, advice: bool) {
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
pub(in super::super) fn put_refusal(out: &mut BytesMut, version: Version, reason: Reject, advice: bool) {
    match version {
        Version::V4 => {
            let code = match reason {
                Reject::ProtocolVersion => 1,
                Reject::ClientId => 2,
                Reject::TopicReserved => 5,
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
