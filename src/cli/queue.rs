//! `hedgerow queue`: message queues from the terminal.

use std::io::Read as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use hedgerow_connectors::http::client::Client;
use hedgerow_connectors::http::queues::{Outgoing, Receipts, ReceiveRequest, SendRequest};

use super::remote::Place;
use super::{Common, query, runtime, table};

/// Subcommands.
#[derive(Subcommand)]
pub enum Queue {
    /// Show all queues with their lengths
    List,
    /// Receive messages, and keep them hidden from others for a while
    Receive(Receive),
    /// Delete messages that were received, by their receipts
    Delete(Delete),
    /// Put messages into a queue
    Send(Send),
    /// Remove all messages of a queue
    Purge(Purge),
}

/// Arguments of `receive`.
#[derive(Args)]
pub struct Receive {
    /// The queue
    queue: String,
    /// At most so many messages
    #[arg(long, default_value_t = 10)]
    max: usize,
    /// Seconds to wait for the first
    #[arg(long, default_value_t = 0)]
    wait: u32,
    /// Seconds they are hidden from others [default: the queue's own]
    #[arg(long)]
    visibility: Option<u32>,
    /// Print bodies only, and delete what was printed
    #[arg(long, conflicts_with = "json")]
    take: bool,
    /// Print messages as JSON, one a line
    #[arg(long)]
    json: bool,
}

/// Arguments of `delete`.
#[derive(Args)]
pub struct Delete {
    /// The queue
    queue: String,
    /// Receipts, as `receive` shows them
    #[arg(required = true)]
    receipts: Vec<String>,
}

/// Arguments of `send`.
#[derive(Args)]
pub struct Send {
    /// The queue
    queue: String,
    /// The message; without one, standard input as it is
    body: Option<String>,
    /// Seconds until it is visible [default: the queue's own delay]
    #[arg(long)]
    delay: Option<u32>,
}

/// Arguments of `purge`.
#[derive(Args)]
pub struct Purge {
    /// The queue
    queue: String,
}

impl Queue {
    /// Does it.
    pub fn run(self, common: &Common) -> anyhow::Result<ExitCode> {
        match self {
            Self::List => {
                let sql = "SELECT name, visible, in_flight, delayed, bytes, oldest, sent, received, deleted, dead \
                           FROM system.queues ORDER BY name";
                query::Query::of(sql.to_owned()).run(common)
            }
            Self::Receive(receive) => runtime()?.block_on(receive.run(common)),
            Self::Delete(delete) => runtime()?.block_on(delete.run(common)),
            Self::Send(send) => runtime()?.block_on(send.run(common)),
            Self::Purge(purge) => runtime()?.block_on(purge.run(common)),
        }
    }
}

/// The running server.
async fn server(common: &Common) -> anyhow::Result<Client> {
    match Place::find(common.load()?).await? {
        Place::Server(client) => Ok(client),
        folder @ Place::Folder(_) => {
            folder.close().await;
            anyhow::bail!("no server runs: start `hedgerow serve`, which hands messages out");
        }
    }
}

impl Receive {
    async fn run(self, common: &Common) -> anyhow::Result<ExitCode> {
        let client = server(common).await?;
        let request = ReceiveRequest { max: Some(self.max), wait_s: self.wait, visibility_s: self.visibility };
        let messages = client.queue_receive(&self.queue, &request).await?.messages;
        if messages.is_empty() {
            eprintln!("no message is visible in {}", self.queue);
            return Ok(ExitCode::SUCCESS);
        }
        let body = |text: &Option<String>, base64: &Option<String>| {
            text.clone().or_else(|| base64.clone()).unwrap_or_default()
        };
        if self.json {
            for message in &messages {
                println!("{}", serde_json::to_string(message)?);
            }
        } else if self.take {
            messages.iter().for_each(|message| println!("{}", table::printable(&body(&message.body, &message.base64))));
            let receipts = messages.into_iter().map(|message| message.receipt).collect();
            return deleted(&client, &self.queue, receipts, false).await;
        } else {
            let head = ["id", "received", "body", "receipt"].map(ToOwned::to_owned);
            let rows = messages.into_iter().map(|message| {
                vec![message.id, message.received.to_string(), body(&message.body, &message.base64), message.receipt]
            });
            print!("{}", table::render(&head, &rows.collect::<Vec<_>>()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Delete {
    async fn run(self, common: &Common) -> anyhow::Result<ExitCode> {
        deleted(&server(common).await?, &self.queue, self.receipts, true).await
    }
}

async fn deleted(client: &Client, queue: &str, receipts: Vec<String>, tell: bool) -> anyhow::Result<ExitCode> {
    let report = client.queue_delete(queue, &Receipts { receipts }).await?;
    if tell {
        println!("{} deleted", report.done);
    }
    for refused in &report.refused {
        eprintln!("not deleted: {}: {}", refused.receipt, refused.reason);
    }
    Ok(if report.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

impl Send {
    async fn run(self, common: &Common) -> anyhow::Result<ExitCode> {
        let client = server(common).await?;
        let bytes = match self.body {
            Some(text) => text.into_bytes(),
            None => {
                let mut bytes = Vec::new();
                std::io::stdin().lock().read_to_end(&mut bytes)?;
                bytes
            }
        };
        let message = match String::from_utf8(bytes) {
            Ok(text) => Outgoing { body: Some(text), delay_s: self.delay, ..Outgoing::default() },
            Err(_) => anyhow::bail!("standard input is not UTF-8: send bytes as \"base64\" over HTTP"),
        };
        let sent = client.queue_send(&self.queue, &SendRequest { messages: vec![message] }).await?;
        sent.ids.iter().for_each(|id| println!("{id}"));
        Ok(ExitCode::SUCCESS)
    }
}

impl Purge {
    async fn run(self, common: &Common) -> anyhow::Result<ExitCode> {
        let report = server(common).await?.queue_purge(&self.queue).await?;
        println!("{} removed", report.purged);
        Ok(ExitCode::SUCCESS)
    }
}
