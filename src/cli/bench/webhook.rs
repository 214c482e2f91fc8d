//! Deliveries a second: a rule into a webhook, beside a plain loop of an HTTP client, to the same receiver on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Requests under way at a time, of both.
pub const CONCURRENCY: usize = 32;
/// What the loop sends: as long as what the rule selects.
const BODY: &str = "{\"device\":\"device-0000001\",\"temperature\":21.5}";

/// Answers 200 to everything, and counts.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    taken: Arc<AtomicU64>,
}

impl Receiver {
    /// Listens on a free port of loopback.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let taken = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&taken);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(socket, Arc::clone(&count)));
            }
        });
        Ok(Self { address, taken })
    }

    /// Requests answered so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

async fn answer(mut socket: TcpStream, taken: Arc<AtomicU64>) -> std::io::Result<()> {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let _ = socket.set_nodelay(true);
    let mut bytes = Vec::with_capacity(4096);
    loop {
        while let Some(end) = request_end(&bytes) {
            bytes.drain(..end);
            taken.fetch_add(1, Ordering::Relaxed);
            socket.write_all(OK).await?;
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

/// Where the first request ends, if it is there in whole.
fn request_end(bytes: &[u8]) -> Option<usize> {
    const LENGTH: &str = "content-length: ";
    let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(bytes.get(..head_end)?).unwrap_or_default();
    let length = head.lines().find_map(|line| {
        line.get(..LENGTH.len()).filter(|name| name.eq_ignore_ascii_case(LENGTH)).and_then(|_| line.get(LENGTH.len()..))
    });
    let end = head_end + length.and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
    (bytes.len() >= end).then_some(end)
}

/// Requests a second of a plain client loop, [`CONCURRENCY`] at a time.
pub async fn plain_loop(receiver: &Receiver, duration: Duration) -> anyhow::Result<f64> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("http://{}/", receiver.address);
    let (before, start) = (receiver.taken(), Instant::now());
    let tasks: Vec<_> = (0..CONCURRENCY)
        .map(|_| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move {
                while start.elapsed() < duration {
                    client.post(&url).header("content-type", "application/json").body(BODY).send().await?;
                }
                Ok::<(), reqwest::Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok((receiver.taken() - before) as f64 / start.elapsed().as_secs_f64())
}

/// The rules of the server under test.
pub fn rules(receiver: &Receiver) -> String {
    let address = receiver.address;
    format!(
        "CREATE SINK hook WITH (connector = 'webhook', url = 'http://{address}/', allow_private = '{address}',
           concurrency = {CONCURRENCY});
         CREATE RULE bench AS SELECT topic(3) AS device, temperature FROM 'macdonald/sensors/+' INTO hook;"
    )
}
