//! Acknowledgements, DISCONNECT and PINGREQ (§3.4 to §3.7, §3.12, §3.14).

use super::super::frame::{Cursor, Frame, Version};
use super::super::property::{self, Allowed, Value, id};
use super::super::reject::Reject;
use super::kind;

/// The packet id of PUBACK, PUBREC, PUBREL or PUBCOMP, and its reason code (0 in 3.1.1).
pub(in super::super) fn ack(frame: Frame<'_>, version: Version) -> Result<(u16, u8), Reject> {
    let flags = if frame.kind() == kind::PUBREL { 2 } else { 0 };
    if frame.first & 15 != flags {
        return Err(Reject::Malformed);
    }
    let mut cursor = Cursor(frame.body);
    let id = cursor.packet_id()?;
    let mut reason = 0;
    if version == Version::V5 && !cursor.is_empty() {
        reason = cursor.u8()?;
        if !cursor.is_empty() {
            property::section(&mut cursor, Allowed::ACK, |_, _| Ok(()))?;
        }
    }
    cursor.end()?;
    Ok((id, reason))
}

/// How a client takes its leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Disconnect {
    /// A new session expiry, in seconds.
    pub session_expiry: Option<u32>,
    /// It says goodbye in order: its will is void. Any other reason publishes it (§3.1.2.5).
    pub voids_will: bool,
}

/// A DISCONNECT.
pub(in super::super) fn disconnect(frame: Frame<'_>, version: Version) -> Result<Disconnect, Reject> {
    let mut cursor = Cursor(frame.body);
    let mut leave = Disconnect { session_expiry: None, voids_will: true };
    if frame.first != 0xE0 {
        return Err(Reject::Malformed);
    }
    if version == Version::V5 && !cursor.is_empty() {
        leave.voids_will = cursor.u8()? == 0;
        if !cursor.is_empty() {
            property::section(&mut cursor, Allowed::DISCONNECT, |id, value| {
                if let (id::SESSION_EXPIRY, Value::Number(seconds)) = (id, value) {
                    leave.session_expiry = Some(seconds);
                }
                Ok(())
            })?;
        }
    }
    cursor.end()?;
    Ok(leave)
}

/// A PINGREQ has nothing in it.
pub(in super::super) fn ping(frame: Frame<'_>) -> Result<(), Reject> {
    if frame.first == 0xC0 && frame.body.is_empty() { Ok(()) } else { Err(Reject::Malformed) }
}
