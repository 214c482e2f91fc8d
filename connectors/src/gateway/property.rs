//! MQTT 5 property sections (§2.2.2): checked where they stand, never copied.

use super::frame::Cursor;
use super::reject::Reject;

/// Property identifiers used by name here.
pub(super) mod id {
    pub(in super::super) const PAYLOAD_FORMAT: u8 = 1;
    pub(in super::super) const MESSAGE_EXPIRY: u8 = 2;
    pub(in super::super) const RESPONSE_TOPIC: u8 = 8;
    pub(in super::super) const SUBSCRIPTION_IDENTIFIER: u8 = 11;
    pub(in super::super) const SESSION_EXPIRY: u8 = 17;
    pub(in super::super) const AUTH_METHOD: u8 = 21;
    pub(in super::super) const AUTH_DATA: u8 = 22;
    pub(in super::super) const PROBLEM_INFORMATION: u8 = 23;
    pub(in super::super) const WILL_DELAY: u8 = 24;
    pub(in super::super) const RECEIVE_MAXIMUM: u8 = 33;
    pub(in super::super) const TOPIC_ALIAS_MAXIMUM: u8 = 34;
    pub(in super::super) const TOPIC_ALIAS: u8 = 35;
    pub(in super::super) const MAX_PACKET: u8 = 39;
}

/// The properties a packet may have, as a bit set of their identifiers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed(u64);

impl Allowed {
    const fn of(ids: &[u8]) -> Self {
        let mut bits = 0;
        let mut rest = ids;
        while let [first, others @ ..] = rest {
            bits |= 1 << *first;
            rest = others;
        }
        Self(bits)
    }

    pub(super) const CONNECT: Self = Self::of(&[17, 21, 22, 23, 25, 33, 34, 38, 39]);
    pub(super) const WILL: Self = Self::of(&[1, 2, 3, 8, 9, 24, 38]);
    pub(super) const PUBLISH: Self = Self::of(&[1, 2, 3, 8, 9, 35, 38]);
    pub(super) const ACK: Self = Self::of(&[31, 38]);
    pub(super) const SUBSCRIBE: Self = Self::of(&[11, 38]);
    pub(super) const UNSUBSCRIBE: Self = Self::of(&[38]);
    pub(super) const DISCONNECT: Self = Self::of(&[17, 28, 31, 38]);
}

const USER_PROPERTY: u8 = 38;

/// The value of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Byte, two-byte, four-byte and variable byte integers.
    Number(u32),
    /// A UTF-8 string.
    Text(&'a str),
    /// Binary data, or a pair of strings whose content was checked.
    Opaque,
}

/// Reads the property at the front: its identifier and value.
pub(super) fn next<'a>(cursor: &mut Cursor<'a>) -> Result<(u8, Value<'a>), Reject> {
    let id = cursor.u8()?;
    let value = match id {
        1 | 23 | 25 | 36 | 37 | 40..=42 => Value::Number(cursor.u8()?.into()),
        19 | 33..=35 => Value::Number(cursor.u16()?.into()),
        2 | 17 | 24 | 39 => Value::Number(cursor.u32()?),
        11 => Value::Number(u32::try_from(cursor.varint()?).map_err(|_| Reject::Malformed)?),
        3 | 8 | 18 | 21 | 26 | 28 | 31 => Value::Text(cursor.text()?),
        9 | 22 => {
            cursor.binary()?;
            Value::Opaque
        }
        USER_PROPERTY => {
            cursor.text()?;
            cursor.text()?;
            Value::Opaque
        }
        _ => return Err(Reject::Malformed),
    };
    Ok((id, value))
}

/// Takes a section with its length off the front, checks it, and shows every property to `see`.
pub(super) fn section<'a>(
    cursor: &mut Cursor<'a>,
    allowed: Allowed,
    mut see: impl FnMut(u8, Value<'a>) -> Result<(), Reject>,
) -> Result<&'a [u8], Reject> {
    let len = cursor.varint()?;
    let section = cursor.take(len)?;
    let mut inside = Cursor(section);
    let mut seen = 0u64;
    while !inside.is_empty() {
        let (id, value) = next(&mut inside)?;
        let bit = 1u64 << id;
        if allowed.0 & bit == 0 {
            return Err(Reject::Malformed);
        }
        if seen & bit != 0 && id != USER_PROPERTY {
            return Err(Reject::Protocol);
        }
        seen |= bit;
        check_value(id, value)?;
        see(id, value)?;
    }
    Ok(section)
}

/// Values that the standard forbids whatever the packet.
fn check_value(id: u8, value: Value<'_>) -> Result<(), Reject> {
    match (id, value) {
        // payload format, request problem information, request response information: 0 or 1
        (id::PAYLOAD_FORMAT | 23 | 25, Value::Number(2..)) => Err(Reject::Protocol),
        // subscription identifier, receive maximum, maximum packet size: not 0
        (11 | 33 | 39, Value::Number(0)) => Err(Reject::Protocol),
        (id::RESPONSE_TOPIC, Value::Text(topic)) if topic.contains(['+', '#']) => Err(Reject::Protocol),
        _ => Ok(()),
    }
}

/// A section without the properties of one identifier.
pub(super) fn without(section: &[u8], unwanted: u8) -> Vec<u8> {
    let mut kept = Vec::with_capacity(section.len());
    let mut cursor = Cursor(section);
    while !cursor.is_empty() {
        let before = cursor.0;
        let Ok((id, _)) = next(&mut cursor) else { break };
        if id != unwanted {
            kept.extend_from_slice(before.get(..before.len() - cursor.0.len()).unwrap_or_default());
        }
    }
    kept
}

/// Position of the message expiry interval's four bytes in a section, and its value.
pub(super) fn expiry(section: &[u8]) -> Option<(usize, u32)> {
    let mut cursor = Cursor(section);
    while !cursor.is_empty() {
        if let (id::MESSAGE_EXPIRY, Value::Number(seconds)) = next(&mut cursor).ok()? {
            return Some((section.len() - cursor.0.len() - 4, seconds));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(section_bytes: &[u8], allowed: Allowed) -> Result<(), Reject> {
        let mut bytes = vec![u8::try_from(section_bytes.len()).unwrap()];
        bytes.extend_from_slice(section_bytes);
        section(&mut Cursor(&bytes), allowed, |_, _| Ok(())).map(|_| ())
    }

    #[test]
    fn sections_are_checked() {
        let user = [38, 0, 1, b'k', 0, 1, b'v'];
        let twice = [user, user].concat();
        for (bytes, expected) in [
            (&[][..], Ok(())),
            (&[1, 1], Ok(())),
            (&twice, Ok(())),
            (&[1, 2], Err(Reject::Protocol)),
            (&[1, 1, 1, 1], Err(Reject::Protocol)),
            (&[2, 0, 0, 0], Err(Reject::Malformed)),
            (&[3, 0, 1, 0xFF], Err(Reject::BadText)),
            (&[3, 0, 1, 0], Err(Reject::BadText)),
            (&[8, 0, 1, b'#'], Err(Reject::Protocol)),
            (&[11, 1], Err(Reject::Malformed)),
            (&[99], Err(Reject::Malformed)),
            (&[200], Err(Reject::Malformed)),
        ] {
            assert_eq!(check(bytes, Allowed::PUBLISH), expected, "{bytes:?}");
        }
        assert_eq!(check(&[33, 0, 0], Allowed::CONNECT), Err(Reject::Protocol));
    }

    #[test]
    fn one_property_is_cut_out_and_expiry_is_found() {
        let section = [1, 1, 35, 0, 7, 2, 0, 0, 1, 0, 38, 0, 1, b'k', 0, 1, b'v'];
        let cut = without(&section, id::TOPIC_ALIAS);
        assert_eq!(cut, [1, 1, 2, 0, 0, 1, 0, 38, 0, 1, b'k', 0, 1, b'v']);
        assert_eq!(expiry(&cut), Some((3, 256)));
        assert_eq!(expiry(&[1, 1]), None);
    }
}
