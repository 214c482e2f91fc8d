//! SUBSCRIBE and UNSUBSCRIBE (§3.8, §3.10).

use super::super::frame::{Cursor, Frame, Version};
use super::super::property::{self, Allowed, Value, id};
use super::super::reject::Reject;

/// One filter of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Filter<'a> {
    pub path: &'a str,
    /// As asked for, in the bits of MQTT 5 (§3.8.3.1).
    pub options: u8,
}

/// A SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Subscribe<'a> {
    pub packet_id: u16,
    /// The subscription identifier, or 0.
    pub identifier: u32,
    pub filters: Vec<Filter<'a>>,
}

/// Takes a SUBSCRIBE apart.
pub(in super::super) fn subscribe(frame: Frame<'_>, version: Version) -> Result<Subscribe<'_>, Reject> {
    if frame.first != 0x82 {
        return Err(Reject::Malformed);
    }
    let mut cursor = Cursor(frame.body);
    let mut subscribe = Subscribe { packet_id: cursor.packet_id()?, identifier: 0, filters: Vec::new() };
    if version == Version::V5 {
        property::section(&mut cursor, Allowed::SUBSCRIBE, |id, value| {
            if let (id::SUBSCRIPTION_IDENTIFIER, Value::Number(number)) = (id, value) {
                subscribe.identifier = number;
            }
            Ok(())
        })?;
    }
    if cursor.is_empty() {
        return Err(Reject::Protocol);
    }
    let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
    while !cursor.is_empty() {
        let path = cursor.text()?;
        let options = cursor.u8()?;
        if options & reserved != 0 || options & 3 == 3 || options & 0x30 == 0x30 {
            return Err(Reject::Malformed);
        }
        subscribe.filters.push(Filter { path, options });
    }
    Ok(subscribe)
}

/// An UNSUBSCRIBE: its packet id, and its filters.
pub(in super::super) fn unsubscribe(frame: Frame<'_>, version: Version) -> Result<(u16, Vec<&str>), Reject> {
    if frame.first != 0xA2 {
        return Err(Reject::Malformed);
    }
    let mut cursor = Cursor(frame.body);
    let packet_id = cursor.packet_id()?;
    if version == Version::V5 {
        property::section(&mut cursor, Allowed::UNSUBSCRIBE, |_, _| Ok(()))?;
    }
    if cursor.is_empty() {
        return Err(Reject::Protocol);
    }
    let mut filters = Vec::new();
    while !cursor.is_empty() {
        filters.push(cursor.text()?);
    }
    Ok((packet_id, filters))
}
