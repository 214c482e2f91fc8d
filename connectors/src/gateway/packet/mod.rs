//! The packets other than PUBLISH, each read strictly where it stands: flags, lengths, text and properties.
//!
//! | file | idea |
//! |---|---|
//! | `connect` | CONNECT, the will included |
//! | `subscribe` | SUBSCRIBE and UNSUBSCRIBE |
//! | `short` | acknowledgements, DISCONNECT, PINGREQ |
//! | `answer` | what the gateway writes |

mod answer;
mod connect;
mod short;
mod subscribe;
#[cfg(test)]
mod tests;

pub(super) use answer::{put_ack, put_disconnect, put_refusal, put_suback, put_unsuback};
pub(super) use connect::{BadConnect, Connect, connect};
pub(super) use short::{Disconnect, ack, disconnect, ping};
#[cfg(test)]
use subscribe::Filter;
pub(super) use subscribe::{subscribe, unsubscribe};

/// Packet types (§2.1.2).
pub(super) mod kind {
    pub(in super::super) const CONNECT: u8 = 1;
    pub(in super::super) const PUBLISH: u8 = 3;
    pub(in super::super) const PUBACK: u8 = 4;
    pub(in super::super) const PUBREC: u8 = 5;
    pub(in super::super) const PUBREL: u8 = 6;
    pub(in super::super) const PUBCOMP: u8 = 7;
    pub(in super::super) const SUBSCRIBE: u8 = 8;
    pub(in super::super) const UNSUBSCRIBE: u8 = 10;
    pub(in super::super) const PINGREQ: u8 = 12;
    pub(in super::super) const DISCONNECT: u8 = 14;
    pub(in super::super) const AUTH: u8 = 15;
}
