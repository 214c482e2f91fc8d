//! The small MQTT client behind `hedgerow pub` and `hedgerow sub`: a real client library against any broker.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use bytes::Bytes;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::sync::Semaphore;

/// Messages between being read and being acknowledged.
const WINDOW: u32 = 256;

/// The protocol version to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Protocol {
    /// MQTT 3.1.1.
    #[default]
    V4,
    /// MQTT 5.
    V5,
}

/// Where and how to connect.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Client id; one is made up if there is none.
    pub client_id: Option<String>,
    /// Protocol version.
    pub protocol: Protocol,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// Keep-alive in seconds.
    pub keep_alive_s: u64,
    /// Keep the session on the broker: QoS 1 messages wait there while the client is away. Needs a `client_id`.
    pub keep_session: bool,
    /// The largest packet, both ways.
    pub max_packet_bytes: usize,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 1883,
            client_id: None,
            protocol: Protocol::V4,
            login: None,
            keep_alive_s: 30,
            keep_session: false,
            max_packet_bytes: 16 << 20,
        }
    }
}

/// Why publishing or subscribing ended.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A parameter makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The broker could not be reached, refused the connection, or ended it.
    #[error("{host}:{port}: {reason}. Is the server running, and does it listen there?")]
    Connection {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// What happened.
        reason: String,
    },
    /// The broker refused a subscription.
    #[error("the server refused the subscription to '{0}'")]
    Refused(String),
    /// The broker refused a message.
    #[error("the server refused a message: {0}")]
    Rejected(String),
    /// Reading what to publish, or writing what came, failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What to publish.
pub enum Source<'a> {
    /// These payloads, one message each.
    Payloads(Vec<Vec<u8>>),
    /// One message for each line, without its line end.
    Lines(Box<dyn AsyncBufRead + Unpin + Send + 'a>),
}

impl Source<'_> {
    async fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        match self {
            Self::Payloads(payloads) if payloads.is_empty() => Ok(None),
            Self::Payloads(payloads) => Ok(Some(payloads.remove(0))),
            Self::Lines(lines) => {
                let mut line = Vec::new();
                if lines.read_until(b'\n', &mut line).await? == 0 {
                    return Ok(None);
                }
                while line.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
                    line.pop();
                }
                Ok(Some(line))
            }
        }
    }
}

/// How messages that came are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// The payload, and a line end.
    #[default]
    Payload,
    /// Topic, a blank, the payload, and a line end.
    TopicPayload,
    /// A JSON object a line: `topic`, `qos`, `retain`, and `payload` (JSON as it came, other text as a string) or
    /// `payload_base64`.
    Json,
}

/// Publishes everything `source` gives to one topic, and returns how many messages there were when the server has
/// acknowledged them all (QoS 0: when they are sent).
pub async fn publish(config: &ClientConfig, topic: &str, qos: u8, mut source: Source<'_>) -> Result<u64, ClientError> {
    hedgerow_sql::topic::validate_topic(topic).map_err(|error| ClientError::Usage(format!("'{topic}': {error}")))?;
    let mut link = Link::open(config, "pub", qos)?;
    let sender = link.sender.clone();
    let window = Semaphore::new(WINDOW as usize);
    let feeding = async {
        let mut count = 0;
        while let Some(payload) = source.next().await? {
            if let Ok(place) = window.acquire().await {
                place.forget();
            }
            let lost = |reason| ClientError::Connection { host: config.host.clone(), port: config.port, reason };
            sender.publish(topic, qos, payload).await.map_err(lost)?;
            count += 1;
        }
        // All places are free again when all messages are done.
        let _all = window.acquire_many(WINDOW).await;
        Ok::<u64, ClientError>(count)
    };
    // The library's loop may not be interrupted while it connects: it would begin again, with the same client id.
    let serving = async {
        loop {
            match link.next().await {
                Ok(Happened::Sent) if qos == 0 => window.add_permits(1),
                Ok(Happened::Done) if qos > 0 => window.add_permits(1),
                Ok(Happened::Rejected(reason)) => return ClientError::Rejected(reason),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    };
    let count = tokio::select! {
        count = feeding => count?,
        error = serving => return Err(error),
    };
    link.leave().await;
    Ok(count)
}

/// Subscribes, and writes what comes to `output`, until `limit` messages have come, or for ever.
pub async fn subscribe(
    config: &ClientConfig,
    filters: &[String],
    qos: u8,
    format: Format,
    limit: Option<u64>,
    output: &mut (dyn Write + Send),
) -> Result<u64, ClientError> {
    for filter in filters {
        hedgerow_sql::topic::validate_filter(filter)
            .map_err(|error| ClientError::Usage(format!("'{filter}': {error}")))?;
    }
    let mut link = Link::open(config, "sub", qos)?;
    let sender = link.sender.clone();
    let mut answered = 0;
    let mut count = 0;
    while limit.is_none_or(|limit| count < limit) {
        match link.next().await? {
            Happened::Connected => {
                for filter in filters {
                    sender.subscribe(filter, qos).await.map_err(|reason| link.lost(reason))?;
                }
            }
            Happened::Subscribed(granted) => {
                let filter = filters.get(answered).cloned().unwrap_or_default();
                answered += 1;
                if !granted {
                    return Err(ClientError::Refused(filter));
                }
            }
            Happened::Message(message) => {
                message.write(format, output)?;
                output.flush()?;
                count += 1;
            }
            _ => {}
        }
    }
    link.leave().await;
    Ok(count)
}

struct Message {
    topic: String,
    qos: u8,
    retain: bool,
    payload: Bytes,
}

impl Message {
    fn write(&self, format: Format, output: &mut (dyn Write + Send)) -> std::io::Result<()> {
        match format {
            Format::Payload => {}
            Format::TopicPayload => write!(output, "{} ", self.topic)?,
            Format::Json => return self.write_json(output),
        }
        output.write_all(&self.payload)?;
        output.write_all(b"\n")
    }

    fn write_json(&self, output: &mut (dyn Write + Send)) -> std::io::Result<()> {
        let topic = serde_json::Value::from(self.topic.as_str());
        write!(output, r#"{{"topic":{topic},"qos":{},"retain":{},"#, self.qos, self.retain)?;
        let text = std::str::from_utf8(&self.payload);
        match text.map(|text| (text, serde_json::from_str::<&RawValue>(text))) {
            // On one line: JSON may be spread over several.
            Ok((_, Ok(json))) => writeln!(output, r#""payload":{}}}"#, json.get().replace(['\n', '\r'], " ")),
            Ok((text, Err(_))) => writeln!(output, r#""payload":{}}}"#, serde_json::Value::from(text)),
            Err(_) => {
                let encoded = base64::engine::general_purpose::STANDARD.encode(&self.payload);
                writeln!(output, r#""payload_base64":"{encoded}"}}"#)
            }
        }
    }
}

/// What happened on a connection, in either version.
enum Happened {
    Connected,
    /// A PUBLISH was handed to the socket.
    Sent,
    /// A PUBLISH was acknowledged for good.
    Done,
    Rejected(String),
    Subscribed(bool),
    Message(Message),
    Left,
    Other,
}

#[derive(Clone)]
enum Sender {
    V4(rumqttc::AsyncClient),
    V5(rumqttc::v5::AsyncClient),
}

impl Sender {
    async fn publish(&self, topic: &str, qos: u8, payload: Vec<u8>) -> Result<(), String> {
        match self {
            Self::V4(client) => {
                client.publish(topic, qos_v4(qos), false, payload).await.map_err(|error| error.to_string())
            }
            Self::V5(client) => {
                client.publish(topic, qos_v5(qos), false, payload).await.map_err(|error| error.to_string())
            }
        }
    }

    async fn subscribe(&self, filter: &str, qos: u8) -> Result<(), String> {
        match self {
            Self::V4(client) => client.subscribe(filter, qos_v4(qos)).await.map_err(|error| error.to_string()),
            Self::V5(client) => client.subscribe(filter, qos_v5(qos)).await.map_err(|error| error.to_string()),
        }
    }

    async fn disconnect(&self) {
        // If the connection is gone already, so much the better.
        let _ = match self {
            Self::V4(client) => client.disconnect().await.map_err(|error| error.to_string()),
            Self::V5(client) => client.disconnect().await.map_err(|error| error.to_string()),
        };
    }
}

fn qos_v4(qos: u8) -> rumqttc::mqttbytes::QoS {
    rumqttc::mqttbytes::qos(qos).unwrap_or(rumqttc::mqttbytes::QoS::AtLeastOnce)
}

fn qos_v5(qos: u8) -> rumqttc::v5::mqttbytes::QoS {
    rumqttc::v5::mqttbytes::qos(qos).unwrap_or(rumqttc::v5::mqttbytes::QoS::AtLeastOnce)
}

enum Events {
    V4(Box<rumqttc::EventLoop>),
    V5(Box<rumqttc::v5::EventLoop>),
}

struct Link {
    host: String,
    port: u16,
    sender: Sender,
    events: Events,
}

impl Link {
    fn open(config: &ClientConfig, purpose: &str, qos: u8) -> Result<Self, ClientError> {
        if qos > 2 {
            return Err(ClientError::Usage(format!("QoS is 0, 1 or 2, not {qos}")));
        }
        if config.keep_session && config.client_id.is_none() {
            return Err(ClientError::Usage("to keep a session, give it a client id".to_owned()));
        }
        let id = config.client_id.clone().unwrap_or_else(|| made_up_id(purpose));
        let keep_alive = Duration::from_secs(config.keep_alive_s);
        let (sender, events) = match config.protocol {
            Protocol::V4 => {
                let mut options = rumqttc::MqttOptions::new(id, &config.host, config.port);
                options.set_keep_alive(keep_alive).set_clean_session(!config.keep_session);
                options.set_max_packet_size(config.max_packet_bytes, config.max_packet_bytes);
                if let Some((user, password)) = &config.login {
                    options.set_credentials(user, password);
                }
                let (client, events) = rumqttc::AsyncClient::new(options, 512);
                (Sender::V4(client), Events::V4(Box::new(events)))
            }
            Protocol::V5 => {
                let mut options = rumqttc::v5::MqttOptions::new(id, &config.host, config.port);
                options.set_keep_alive(keep_alive).set_clean_start(!config.keep_session);
                options.set_max_packet_size(u32::try_from(config.max_packet_bytes).ok());
                if config.keep_session {
                    options.set_session_expiry_interval(Some(u32::MAX));
                }
                if let Some((user, password)) = &config.login {
                    options.set_credentials(user, password);
                }
                let (client, events) = rumqttc::v5::AsyncClient::new(options, 512);
                (Sender::V5(client), Events::V5(Box::new(events)))
            }
        };
        Ok(Self { host: config.host.clone(), port: config.port, sender, events })
    }

    fn lost(&self, reason: impl ToString) -> ClientError {
        ClientError::Connection { host: self.host.clone(), port: self.port, reason: reason.to_string() }
    }

    async fn next(&mut self) -> Result<Happened, ClientError> {
        match &mut self.events {
            Events::V4(events) => match events.poll().await {
                Ok(rumqttc::Event::Incoming(packet)) => Ok(happened_v4(packet)),
                Ok(rumqttc::Event::Outgoing(outgoing)) => Ok(happened_out(&outgoing)),
                Err(error) => Err(self.lost(error)),
            },
            Events::V5(events) => match events.poll().await {
                Ok(rumqttc::v5::Event::Incoming(packet)) => Ok(happened_v5(packet)),
                Ok(rumqttc::v5::Event::Outgoing(outgoing)) => Ok(happened_out(&outgoing)),
                Err(error) => Err(self.lost(error)),
            },
        }
    }

    /// Sends what is left, and DISCONNECT.
    async fn leave(mut self) {
        self.sender.disconnect().await;
        let last = async { while !matches!(self.next().await, Ok(Happened::Left) | Err(_)) {} };
        // A server that does not take the last bytes is left without them.
        let _ = tokio::time::timeout(Duration::from_secs(5), last).await;
        // The DISCONNECT is written by the poll after the one that announces it.
        let _ = tokio::time::timeout(Duration::from_millis(100), self.next()).await;
    }
}

fn happened_out(outgoing: &rumqttc::Outgoing) -> Happened {
    match outgoing {
        rumqttc::Outgoing::Publish(_) => Happened::Sent,
        rumqttc::Outgoing::Disconnect => Happened::Left,
        _ => Happened::Other,
    }
}

fn happened_v4(packet: v4::Packet) -> Happened {
    match packet {
        v4::Packet::ConnAck(_) => Happened::Connected,
        v4::Packet::PubAck(_) | v4::Packet::PubComp(_) => Happened::Done,
        v4::Packet::SubAck(ack) => Happened::Subscribed(!ack.return_codes.contains(&v4::SubscribeReasonCode::Failure)),
        v4::Packet::Publish(message) => Happened::Message(Message {
            topic: message.topic,
            qos: message.qos as u8,
            retain: message.retain,
            payload: message.payload,
        }),
        _ => Happened::Other,
    }
}

fn happened_v5(packet: v5::Packet) -> Happened {
    match packet {
        v5::Packet::ConnAck(_) => Happened::Connected,
        v5::Packet::PubAck(ack) => match ack.reason {
            v5::PubAckReason::Success | v5::PubAckReason::NoMatchingSubscribers => Happened::Done,
            reason => Happened::Rejected(format!("{reason:?}")),
        },
        v5::Packet::PubRec(ack) => match ack.reason {
            v5::PubRecReason::Success | v5::PubRecReason::NoMatchingSubscribers => Happened::Other,
            reason => Happened::Rejected(format!("{reason:?}")),
        },
        v5::Packet::PubComp(_) => Happened::Done,
        v5::Packet::SubAck(ack) => Happened::Subscribed(
            ack.return_codes.iter().all(|code| matches!(code, v5::SubscribeReasonCode::Success(_))),
        ),
        v5::Packet::Disconnect(left) => Happened::Rejected(format!("{:?}", left.reason_code)),
        v5::Packet::Publish(message) => Happened::Message(Message {
            topic: String::from_utf8_lossy(&message.topic).into_owned(),
            qos: message.qos as u8,
            retain: message.retain,
            payload: message.payload,
        }),
        _ => Happened::Other,
    }
}

fn made_up_id(purpose: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    format!("hedgerow-{purpose}-{}-{now:x}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_written_on_one_line_each() {
        let message = |payload: &'static [u8]| Message {
            topic: "é/\"x".to_owned(),
            qos: 1,
            retain: false,
            payload: Bytes::from_static(payload),
        };
        let written = |payload, format| {
            let mut out = Vec::new();
            message(payload).write(format, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(b"21", Format::Payload), "21\n");
        assert_eq!(written(b"21", Format::TopicPayload), "é/\"x 21\n");
        let head = r#"{"topic":"é/\"x","qos":1,"retain":false,"#;
        assert_eq!(written(b"{\"a\":\n1.10}", Format::Json), format!("{head}\"payload\":{{\"a\": 1.10}}}}\n"));
        assert_eq!(written(b"on", Format::Json), format!("{head}\"payload\":\"on\"}}\n"));
        assert_eq!(written(&[0xFF], Format::Json), format!("{head}\"payload_base64\":\"/w==\"}}\n"));
    }
}
