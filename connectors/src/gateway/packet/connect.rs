//! CONNECT of either version (§3.1).

use super::super::frame::{Cursor, Frame, Version};
use super::super::property::{self, Allowed, Value, id};
use super::super::reject::Reject;
use super::super::will::Will;
use super::kind;

/// A CONNECT of either version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Connect {
    pub version: Version,
    pub client_id: String,
    /// Clean session, or clean start.
    pub clean: bool,
    /// Seconds, 0 for none.
    pub keep_alive: u16,
    /// MQTT 5; seconds the session outlives the connection.
    pub session_expiry: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub max_packet_bytes: Option<u32>,
    /// Aliases the client takes from us.
    pub topic_alias_maximum: u16,
    pub auth_method: bool,
    /// MQTT 5: may be told reason strings.
    pub wants_problem_information: bool,
    pub will: Option<Will>,
}

/// A CONNECT that cannot be answered, or can only be answered in a certain way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct BadConnect {
    pub reason: Reject,
    /// The version to answer in; `None`: close without an answer.
    pub answer: Option<Version>,
}

/// Takes a CONNECT apart.
pub(in super::super) fn connect(frame: Frame<'_>) -> Result<Connect, BadConnect> {
    let silent = |reason| BadConnect { reason, answer: None };
    if frame.first != 0x10 {
        return Err(silent(if frame.kind() == kind::CONNECT { Reject::Malformed } else { Reject::Protocol }));
    }
    let mut cursor = Cursor(frame.body);
    let name = cursor.binary().map_err(silent)?;
    let level = cursor.u8().map_err(silent)?;
    let version = match (name, level) {
        (b"MQTT", 4) => Version::V4,
        (b"MQTT", 5) => Version::V5,
        // Older and unknown versions are told so in words that such a client knows.
        (b"MQTT", 6..) => return Err(BadConnect { reason: Reject::ProtocolVersion, answer: Some(Version::V5) }),
        (b"MQTT" | b"MQIsdp", _) => {
            return Err(BadConnect { reason: Reject::ProtocolVersion, answer: Some(Version::V4) });
        }
        _ => return Err(silent(Reject::ProtocolName)),
    };
    // 3.1.1 has no return code for a malformed CONNECT: the connection is closed (§3.1.4).
    let refuse = |reason| BadConnect { reason, answer: (version == Version::V5).then_some(version) };
    rest(&mut cursor, version).map_err(refuse)
}

/// What follows the protocol level.
fn rest(cursor: &mut Cursor<'_>, version: Version) -> Result<Connect, Reject> {
    let flags = Flags(cursor.u8()?);
    flags.check(version)?;
    let mut connect = Connect {
        version,
        client_id: String::new(),
        clean: flags.has(2),
        keep_alive: cursor.u16()?,
        session_expiry: None,
        receive_maximum: None,
        max_packet_bytes: None,
        topic_alias_maximum: 0,
        auth_method: false,
        wants_problem_information: true,
        will: None,
    };
    if version == Version::V5 {
        properties(cursor, &mut connect)?;
    }
    connect.client_id = cursor.text()?.to_owned();
    if flags.has(4) {
        connect.will = Some(will(cursor, version, flags)?);
    }
    // User name and password: nothing here asks for them yet.
    if flags.has(0x80) {
        cursor.text()?;
    }
    if flags.has(0x40) {
        cursor.binary()?;
    }
    cursor.end()?;
    Ok(connect)
}

#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    fn will_qos(self) -> u8 {
        self.0 >> 3 & 3
    }

    fn check(self, version: Version) -> Result<(), Reject> {
        let will_without_flag = !self.has(4) && self.has(0x38);
        let password_alone = version == Version::V4 && self.has(0x40) && !self.has(0x80);
        if self.has(1) || self.will_qos() == 3 || will_without_flag || password_alone {
            return Err(Reject::Malformed);
        }
        Ok(())
    }
}

fn properties(cursor: &mut Cursor<'_>, connect: &mut Connect) -> Result<(), Reject> {
    let mut auth_data = false;
    property::section(cursor, Allowed::CONNECT, |id, value| {
        match (id, value) {
            (id::SESSION_EXPIRY, Value::Number(seconds)) => connect.session_expiry = Some(seconds),
            (id::RECEIVE_MAXIMUM, Value::Number(n)) => connect.receive_maximum = u16::try_from(n).ok(),
            (id::MAX_PACKET, Value::Number(bytes)) => connect.max_packet_bytes = Some(bytes),
            (id::TOPIC_ALIAS_MAXIMUM, Value::Number(n)) => {
                connect.topic_alias_maximum = u16::try_from(n).unwrap_or(u16::MAX)
            }
            (id::PROBLEM_INFORMATION, Value::Number(0)) => connect.wants_problem_information = false,
            (id::AUTH_METHOD, _) => connect.auth_method = true,
            (id::AUTH_DATA, _) => auth_data = true,
            _ => {}
        }
        Ok(())
    })?;
    if auth_data && !connect.auth_method { Err(Reject::Protocol) } else { Ok(()) }
}

fn will(cursor: &mut Cursor<'_>, version: Version, flags: Flags) -> Result<Will, Reject> {
    let mut delay_s = 0;
    let mut properties = Vec::new();
    if version == Version::V5 {
        let section = property::section(cursor, Allowed::WILL, |id, value| {
            if let (id::WILL_DELAY, Value::Number(seconds)) = (id, value) {
                delay_s = seconds;
            }
            Ok(())
        })?;
        properties = property::without(section, id::WILL_DELAY);
    }
    let topic = cursor.text()?;
    if topic.is_empty() || topic.contains(['+', '#']) {
        return Err(Reject::TopicName);
    }
    Ok(Will {
        topic: topic.to_owned(),
        qos: flags.will_qos(),
        retain: flags.has(0x20),
        delay_s,
        properties,
        payload: cursor.binary()?.to_vec(),
    })
}
