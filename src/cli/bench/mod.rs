//! `hedgerow bench`: this build on this machine, under load over real connections.
//!
//! Every figure is of a server process of its own, started on a temporary folder: its CPU time is what the operating
//! system accounts to it. Where a mosquitto is installed, the same load goes through it in the same run, and the ratio is
//! printed.

mod load;
mod process;
mod webhook;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};
use hedgerow_connectors::http::client::Client;
use serde_json::json;

use super::{Common, runtime};
use load::{Load, Outcome};
use process::Process;

/// Arguments.
#[derive(Args)]
pub struct Bench {
    /// What to measure
    #[arg(value_enum, default_value_t = Subject::Gateway)]
    subject: Subject,
    /// Connections that publish
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Messages each of them has under way
    #[arg(long, default_value_t = 100)]
    in_flight: usize,
    /// Quality of service: 0 or 1
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
    /// How long
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    seconds: u64,
    /// Messages a second over all connections; 0: as many as it takes
    #[arg(long, default_value_t = 0, value_name = "RATE")]
    rate: u64,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// PUBLISH to PUBACK, durable, without rules; beside it mosquitto, if there is one
    Gateway,
    /// PUBLISH through a rule into a lake and a table, until it can be queried
    EndToEnd,
    /// PUBLISH through a rule to a webhook on loopback; beside it a plain HTTP client, to the same receiver
    Webhook,
}

const RULES: &str = "\
CREATE TABLE bench_table (device VARCHAR, PRIMARY KEY (device));
CREATE SINK bench_lake (device VARCHAR, temperature DOUBLE, humidity DOUBLE, sent BIGINT) WITH (connector = 'lake');
CREATE RULE bench AS
  SELECT topic(3) AS device, temperature, humidity, sent FROM 'macdonald/sensors/+'
  INTO bench_table, bench_lake;
";

impl Bench {
    /// Measures and prints.
    pub fn run(&self, _: &Common) -> anyhow::Result<ExitCode> {
        if cfg!(debug_assertions) {
            eprintln!("This is a development build: its figures say little. Build with --release to measure.");
        }
        let load = Load {
            connections: self.connections,
            in_flight: self.in_flight,
            qos: self.qos,
            duration: Duration::from_secs(self.seconds),
            rate: self.rate,
        };
        runtime()?.block_on(async {
            match self.subject {
                Subject::Gateway => self.gateway(&load).await,
                Subject::EndToEnd => self.end_to_end(&load).await,
                Subject::Webhook => self.webhook(&load).await,
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }

    async fn gateway(&self, load: &Load) -> anyhow::Result<()> {
        let hedgerow = Process::hedgerow("")?;
        let own = measured(&hedgerow, load).await?;
        self.print("hedgerow", &own, json!({}));
        let Some(mosquitto) = Process::mosquitto()? else {
            eprintln!("No mosquitto is installed, so there is nothing to compare with.");
            return Ok(());
        };
        let subscriber = tokio::spawn(load::drain(mosquitto.mqtt, "macdonald/#"));
        let other = measured(&mosquitto, load).await?;
        subscriber.abort();
        self.print("mosquitto, relaying to one subscriber", &other, json!({}));
        let ratio = other.cpu_us_per_message() / own.cpu_us_per_message();
        println!("CPU a message: mosquitto / hedgerow = {ratio:.2}");
        Ok(())
    }

    async fn end_to_end(&self, load: &Load) -> anyhow::Result<()> {
        let server = Process::hedgerow(RULES)?;
        let client = server.client()?;
        let probing = tokio::spawn(queryable(server.client()?, server.mqtt, load.duration));
        let outcome = measured(&server, load).await?;
        let mut queryable = probing.await??;
        queryable.sort_unstable();
        let behind = Instant::now();
        wait_until(&client, outcome.published).await?;
        let extra = json!({
            "queryable_p50_ms": percentile(&queryable, 50).as_millis(),
            "queryable_p99_ms": percentile(&queryable, 99).as_millis(),
            "caught_up_after_ms": behind.elapsed().as_millis(),
            "resident_mib": server.resident_bytes()? >> 20,
        });
        self.print("hedgerow, rule into lake and table", &outcome, extra);
        Ok(())
    }

    async fn webhook(&self, load: &Load) -> anyhow::Result<()> {
        let receiver = webhook::Receiver::start().await?;
        let plain = webhook::plain_loop(&receiver, load.duration).await?;
        let server = Process::hedgerow(&webhook::rules(&receiver))?;
        let (before, start) = (receiver.taken(), Instant::now());
        let outcome = measured(&server, load).await?;
        // The load may be over before the deliveries are: what waits in the outbox is sent at full speed.
        let end = Instant::now() + load.duration.max(Duration::from_secs(60));
        while receiver.taken() - before < outcome.published && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let delivered = receiver.taken() - before;
        let rate = delivered as f64 / start.elapsed().as_secs_f64();
        let extra = json!({
            "delivered": delivered,
            "deliveries_per_s": rate as u64,
            "plain_client_per_s": plain as u64,
            "share_of_plain_client": (rate / plain * 100.0).round() / 100.0,
            "resident_mib": server.resident_bytes()? >> 20,
        });
        self.print("hedgerow, rule into a webhook", &outcome, extra);
        Ok(())
    }

    fn print(&self, name: &str, measured: &Measured, extra: serde_json::Value) {
        let seconds = measured.elapsed.as_secs_f64();
        let mut figures = json!({
            "subject": name, "qos": self.qos, "connections": self.connections, "in_flight": self.in_flight,
            "messages": measured.published, "messages_per_s": (measured.published as f64 / seconds) as u64,
            "cpu_us_per_message": (measured.cpu_us_per_message() * 1000.0).round() / 1000.0,
            "ack_p50_us": measured.latency(50).as_micros(), "ack_p99_us": measured.latency(99).as_micros(),
        });
        if let (Some(figures), serde_json::Value::Object(extra)) = (figures.as_object_mut(), extra) {
            figures.extend(extra);
        }
        if self.json {
            println!("{figures}");
            return;
        }
        println!("{name}");
        for (key, value) in figures.as_object().into_iter().flatten().filter(|(key, _)| *key != "subject") {
            println!("  {key:<22} {value}");
        }
    }
}

/// A load and the CPU time it cost the process under it.
struct Measured {
    published: u64,
    elapsed: Duration,
    cpu: Duration,
    /// Ascending.
    latencies: Vec<Duration>,
}

impl Measured {
    fn cpu_us_per_message(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.published.max(1) as f64
    }

    fn latency(&self, percent: usize) -> Duration {
        percentile(&self.latencies, percent)
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

async fn measured(process: &Process, load: &Load) -> anyhow::Result<Measured> {
    let (cpu, start) = (process.cpu_time()?, Instant::now());
    let Outcome { published, mut latencies } = load.run(process.mqtt).await?;
    let (elapsed, cpu) = (start.elapsed(), process.cpu_time()?.saturating_sub(cpu));
    latencies.sort_unstable();
    Ok(Measured { published, elapsed, cpu, latencies })
}

/// Publishes a marked message from time to time and asks until a query shows it.
async fn queryable(client: Client, mqtt: std::net::SocketAddr, duration: Duration) -> anyhow::Result<Vec<Duration>> {
    const PAUSE: Duration = Duration::from_millis(200);
    const GIVE_UP: Duration = Duration::from_secs(30);
    let end = Instant::now() + duration;
    let mut seen = Vec::new();
    let mut number = 0_u64;
    while Instant::now() < end {
        number += 1;
        let sent = Instant::now();
        load::publish_one(mqtt, &format!("macdonald/sensors/probe-{number}"), b"{\"temperature\":1}").await?;
        let sql = format!("SELECT 1 FROM bench_lake WHERE device = 'probe-{number}'");
        while client.sql(&sql).await?.rows.is_empty() {
            anyhow::ensure!(sent.elapsed() < GIVE_UP, "a message was not queryable after {GIVE_UP:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        seen.push(sent.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(seen)
}

/// Waits until the lake shows all messages.
async fn wait_until(client: &Client, published: u64) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let answer = client.sql("SELECT count(*) FROM bench_lake WHERE device NOT LIKE 'probe-%'").await?;
        let count = answer.rows.first().and_then(|row| row.first()).and_then(serde_json::Value::as_u64);
        if count.context("no count")? >= published {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < end, "the lake has {count:?} of {published} rows after two minutes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
