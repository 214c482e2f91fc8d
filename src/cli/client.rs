//! `hedgerow pub` and `hedgerow sub`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use hedgerow_connectors::client::{self, ClientConfig, Format, Protocol, Source};

use super::{Common, runtime};

/// Where to connect, and as whom.
#[derive(Args)]
struct Connection {
    /// Host of the broker [default: the one of the setting gateway.listen]
    #[arg(long)]
    host: Option<String>,
    /// Port of the broker [default: the one of gateway.listen; of another host 1883]
    #[arg(long)]
    port: Option<u16>,
    /// Client id [default: a random one]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Speak MQTT 5 instead of 3.1.1
    #[arg(long)]
    v5: bool,
    /// Quality of service
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
}

impl Connection {
    fn config(&self, common: &Common, keep_session: bool) -> anyhow::Result<ClientConfig> {
        let listen = common.load()?.gateway.listen;
        let (own_host, own_port) = match listen.ip() {
            ip if ip.is_unspecified() => ("localhost".to_owned(), listen.port()),
            ip => (ip.to_string(), listen.port()),
        };
        let port = if self.host.is_none() { own_port } else { 1883 };
        Ok(ClientConfig {
            host: self.host.clone().unwrap_or(own_host),
            port: self.port.unwrap_or(port),
            client_id: self.id.clone(),
            protocol: if self.v5 { Protocol::V5 } else { Protocol::V4 },
            keep_session,
            ..ClientConfig::default()
        })
    }
}

/// Arguments of `pub`.
#[derive(Args)]
pub struct Publish {
    /// Topic
    topic: String,
    /// Payloads, one message each; none: lines of standard input, one message each
    payloads: Vec<String>,
    /// A file as one message
    #[arg(long, value_name = "FILE", conflicts_with = "payloads")]
    file: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

impl Publish {
    /// Publishes, and with QoS 1 and 2 waits for every acknowledgement.
    pub fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
        let source = match &self.file {
            Some(file) => Source::Payloads(vec![std::fs::read(file).with_context(|| file.display().to_string())?]),
            None if !self.payloads.is_empty() => {
                Source::Payloads(self.payloads.iter().map(|payload| payload.as_bytes().to_vec()).collect())
            }
            None => Source::Lines(Box::new(tokio::io::BufReader::new(tokio::io::stdin()))),
        };
        let config = self.connection.config(common, false)?;
        runtime()?.block_on(client::publish(&config, &self.topic, self.connection.qos, source))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments of `sub`.
#[derive(Args)]
pub struct Subscribe {
    /// Topic filters
    #[arg(required = true, value_name = "FILTER")]
    filters: Vec<String>,
    /// Print one JSON object a message: topic, QoS, payload
    #[arg(long)]
    json: bool,
    /// Print the topic before the payload
    #[arg(long, short)]
    verbose: bool,
    /// Stop after so many messages
    #[arg(long, short = 'n', value_name = "COUNT")]
    limit: Option<u64>,
    /// Keep the session: with --id, messages that come while nobody reads wait for the next time
    #[arg(long, requires = "id")]
    keep: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Subscribe {
    /// Prints messages until the limit, or until it is stopped.
    pub fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
        let format = match (self.json, self.verbose) {
            (true, _) => Format::Json,
            (false, true) => Format::TopicPayload,
            (false, false) => Format::Payload,
        };
        let config = self.connection.config(common, self.keep)?;
        let qos = self.connection.qos;
        let mut output = std::io::stdout();
        runtime()?.block_on(client::subscribe(&config, &self.filters, qos, format, self.limit, &mut output))?;
        Ok(ExitCode::SUCCESS)
    }
}
