//! Why the gateway ends a connection, refuses a packet or a CONNECT: one list, with the name it is counted under and
//! the reason code an MQTT 5 client is told.

/// A reason, as counted in [`super::GatewayMetrics`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reject {
    /// Bytes that are no MQTT packet: wrong flags, lengths that do not add up, unknown types or properties.
    Malformed,
    /// Text that is not UTF-8, or holds U+0000.
    BadText,
    /// A packet that has no place here: a second CONNECT, a duplicate property, packet id 0.
    Protocol,
    /// Not an MQTT protocol name.
    ProtocolName,
    /// An MQTT version other than 3.1.1 and 5.
    ProtocolVersion,
    /// A client id that is empty without clean session, too long, or not allowed.
    ClientId,
    /// A topic name with wildcards, empty, too long, or of too many levels.
    TopicName,
    /// A topic name reserved for the service (`$aws/…`, `$SYS/…`, `$share/…`).
    TopicReserved,
    /// A topic filter that is none.
    TopicFilter,
    /// A topic alias that is 0, above the maximum, or never set.
    TopicAlias,
    /// A packet above `max_packet_bytes`.
    PacketTooLarge,
    /// More unacknowledged messages than the receive maximum.
    ReceiveMaximum,
    /// A topic filter of `gateway.refused_filters`.
    FilterRefused,
    /// Enhanced authentication, which is not available.
    AuthMethod,
    /// No CONNECT within the time.
    ConnectTimeout,
    /// Nothing heard for one and a half keep-alive intervals.
    KeepAlive,
    /// A packet begun and not finished within the time.
    PacketTimeout,
    /// The same client id connected again.
    TakenOver,
    /// Too many connections, sessions or subscriptions.
    Quota,
    /// The log takes no more (failed or full): see the health report.
    LogUnavailable,
    /// The gateway is shutting down.
    ShuttingDown,
}

impl Reject {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 21] = [
        Self::Malformed,
        Self::BadText,
        Self::Protocol,
        Self::ProtocolName,
        Self::ProtocolVersion,
        Self::ClientId,
        Self::TopicName,
        Self::TopicReserved,
        Self::TopicFilter,
        Self::TopicAlias,
        Self::PacketTooLarge,
        Self::ReceiveMaximum,
        Self::FilterRefused,
        Self::AuthMethod,
        Self::ConnectTimeout,
        Self::KeepAlive,
        Self::PacketTimeout,
        Self::TakenOver,
        Self::Quota,
        Self::LogUnavailable,
        Self::ShuttingDown,
    ];

    /// The name it is counted under.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadText => "bad_text",
            Self::Protocol => "protocol",
            Self::ProtocolName => "protocol_name",
            Self::ProtocolVersion => "protocol_version",
            Self::ClientId => "client_id",
            Self::TopicName => "topic_name",
            Self::TopicReserved => "topic_reserved",
            Self::TopicFilter => "topic_filter",
            Self::TopicAlias => "topic_alias",
            Self::PacketTooLarge => "packet_too_large",
            Self::ReceiveMaximum => "receive_maximum",
            Self::FilterRefused => "filter_refused",
            Self::AuthMethod => "auth_method",
            Self::ConnectTimeout => "connect_timeout",
            Self::KeepAlive => "keep_alive",
            Self::PacketTimeout => "packet_timeout",
            Self::TakenOver => "taken_over",
            Self::Quota => "quota",
            Self::LogUnavailable => "log_unavailable",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// The reason code of MQTT 5 (§2.4).
    pub fn code(self) -> u8 {
        match self {
            Self::Malformed | Self::BadText => 0x81,
            Self::Protocol => 0x82,
            Self::ProtocolName | Self::ProtocolVersion => 0x84,
            Self::ClientId => 0x85,
            Self::TopicName | Self::TopicReserved => 0x90,
            Self::TopicFilter => 0x8F,
            Self::TopicAlias => 0x94,
            Self::PacketTooLarge => 0x95,
            Self::ReceiveMaximum => 0x93,
            Self::LogUnavailable => 0x83,
            Self::AuthMethod => 0x8C,
            Self::ConnectTimeout | Self::PacketTimeout | Self::FilterRefused => 0x80,
            Self::KeepAlive => 0x8D,
            Self::TakenOver => 0x8E,
            Self::Quota => 0x97,
            Self::ShuttingDown => 0x8B,
        }
    }

    /// What a client with reason strings is told besides the code, where that helps.
    pub fn advice(self) -> Option<&'static str> {
        match self {
            Self::TopicReserved => Some("topics under $aws/, $SYS/ and $share/ belong to the service"),
            Self::ClientId => Some(
                "a client id needs characters unless the session is clean, has no + or #, and has a maximum length",
            ),
            Self::LogUnavailable => Some("the ingest log takes no more messages: see the health report of the server"),
            Self::Quota => Some("a limit of the gateway's configuration is reached"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positions() {
        for (at, reject) in Reject::ALL.into_iter().enumerate() {
            assert_eq!(reject as usize, at, "{}", reject.label());
        }
    }
}
