//! Settings of the gateway. Every limit of the gateway is one of them: nothing in it grows without bound.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::publish::TopicLimits;

/// Settings of the MQTT gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Address and port for MQTT 3.1.1 and 5; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Connections at a time; further ones are closed at once.
    pub max_connections: usize,
    /// Connections that may be between their first byte and their CONNACK at a time; further ones wait their turn.
    pub max_handshakes: usize,
    /// How long a connection may take to complete its CONNECT.
    pub connect_timeout_ms: u64,
    /// How long the rest of a packet may take once its first byte has come.
    pub packet_timeout_ms: u64,
    /// The largest packet taken, header included; announced to MQTT 5 clients.
    pub max_packet_bytes: u32,
    /// The longest topic or topic filter, in bytes.
    pub max_topic_bytes: usize,
    /// The most levels (slashes + 1) of a topic or topic filter.
    pub max_topic_levels: usize,
    /// The longest client id, in bytes.
    pub max_client_id_bytes: usize,
    /// Subscriptions of one session.
    pub max_subscriptions: usize,
    /// Sessions, online and sleeping together.
    pub max_sessions: usize,
    /// QoS 1 and 2 messages an MQTT 5 client may have unacknowledged towards us.
    pub receive_maximum: u16,
    /// Topic aliases an MQTT 5 client may set; 0 for none.
    pub topic_alias_maximum: u16,
    /// Topic aliases set towards an MQTT 5 client that allows them; 0 for none.
    pub send_topic_alias_maximum: u16,
    /// Bytes read from a socket at a time.
    pub read_buffer_bytes: usize,
    /// Bytes waiting for one connection to take them; above it, it gets no more and is not read.
    pub write_buffer_bytes: usize,
    /// Bytes of one connection on their way into the log; above it, its socket is not read.
    pub connection_in_flight_bytes: usize,
    /// Bytes of all connections on their way into the log; above it, no socket is read.
    pub in_flight_bytes: usize,
    /// QoS 1 and 2 messages unacknowledged by one subscriber (MQTT 5 clients may set a lower number).
    pub send_window: u16,
    /// Messages waiting in memory for one subscriber. What does not fit: a persistent session's QoS 1 and 2 messages
    /// go to disk; otherwise the oldest are dropped and counted.
    pub queue_messages: usize,
    /// Bytes waiting in memory for one subscriber; as above.
    pub queue_bytes: usize,
    /// QoS 1 and 2 messages kept on disk for one persistent session; above it, the oldest are dropped and counted.
    pub offline_messages: usize,
    /// Bytes kept on disk for one persistent session; as above.
    pub offline_bytes: usize,
    /// The longest session expiry, in seconds: the most an MQTT 5 client gets, and what a 3.1.1 client with
    /// clean session 0 gets.
    pub max_session_expiry_s: u32,
    /// The longest keep-alive of MQTT 5 clients in seconds, who are told; 0 for any. 3.1.1 clients cannot be told.
    pub max_keep_alive_s: u16,
    /// Topic filters that nobody may subscribe to, as they would be written in a SUBSCRIBE.
    pub refused_filters: Vec<String>,
    /// Retained messages; above it, messages of further topics are delivered and not kept, and counted.
    pub max_retained_messages: usize,
    /// Bytes of retained messages; as above. They are in memory and on disk.
    pub max_retained_bytes: usize,
    /// How often sessions, offline queues and the delivery mark are written.
    pub delivery_commit_ms: u64,
    /// How often they are synced to disk; the log is kept up to there.
    pub delivery_sync_ms: u64,
    /// Distinct topics whose subscribers are remembered.
    pub topic_cache: usize,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)),
            max_connections: 10_000,
            max_handshakes: 256,
            connect_timeout_ms: 10_000,
            packet_timeout_ms: 30_000,
            max_packet_bytes: 1 << 20,
            max_topic_bytes: 1024,
            max_topic_levels: 128,
            max_client_id_bytes: 256,
            max_subscriptions: 1000,
            max_sessions: 100_000,
            receive_maximum: 1000,
            topic_alias_maximum: 64,
            send_topic_alias_maximum: 64,
            read_buffer_bytes: 64 << 10,
            write_buffer_bytes: 256 << 10,
            connection_in_flight_bytes: 1 << 20,
            in_flight_bytes: 256 << 20,
            send_window: 100,
            queue_messages: 1000,
            queue_bytes: 4 << 20,
            offline_messages: 10_000,
            offline_bytes: 64 << 20,
            max_session_expiry_s: 7 * 24 * 3600,
            max_keep_alive_s: 1200,
            refused_filters: Vec::new(),
            max_retained_messages: 100_000,
            max_retained_bytes: 256 << 20,
            delivery_commit_ms: 200,
            delivery_sync_ms: 1000,
            topic_cache: 65_536,
        }
    }
}

impl GatewayConfig {
    /// Settings that cannot work together, as a sentence for the user.
    pub fn check(&self) -> Result<(), String> {
        let at_least: [(&str, usize, usize); 9] = [
            ("max_connections", self.max_connections, 1),
            ("max_handshakes", self.max_handshakes, 1),
            ("max_packet_bytes", self.max_packet_bytes as usize, 64),
            ("max_topic_bytes", self.max_topic_bytes, 1),
            ("receive_maximum", usize::from(self.receive_maximum), 1),
            ("read_buffer_bytes", self.read_buffer_bytes, 512),
            ("write_buffer_bytes", self.write_buffer_bytes, 512),
            ("send_window", usize::from(self.send_window), 1),
            ("queue_messages", self.queue_messages, 1),
        ];
        for (name, value, least) in at_least {
            if value < least {
                return Err(format!("gateway.{name} is {value}: give it at least {least}"));
            }
        }
        // Half of the packet ids are left for what an earlier connection had in flight.
        if self.send_window > 30_000 {
            return Err(format!("gateway.send_window is {}: give it at most 30000", self.send_window));
        }
        if self.in_flight_bytes < self.max_packet_bytes as usize + self.read_buffer_bytes {
            return Err("gateway.in_flight_bytes is too small: give it at least max_packet_bytes + read_buffer_bytes"
                .to_owned());
        }
        Ok(())
    }

    pub(super) fn topic_limits(&self) -> TopicLimits {
        TopicLimits { bytes: self.max_topic_bytes, levels: self.max_topic_levels }
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(super) fn packet_timeout(&self) -> Duration {
        Duration::from_millis(self.packet_timeout_ms)
    }
}
