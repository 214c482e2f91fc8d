//! An HTTP receiver that outlives the server: it counts what it takes, by row id.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What it answers.
#[derive(Clone, Copy)]
pub enum Manner {
    /// Every request after a pause; every so many with 503, resetting others; 0 for none.
    Moody { pause: Duration, refuse_every: u64, reset_every: u64 },
    /// 404 to everything.
    Refusing,
    /// Nothing, ever.
    Silent,
    /// 500 to a third of all questions when they are asked for the first time; otherwise `true`.
    SecondThoughts,
}

/// The receiver.
pub struct Receiver {
    /// Its port on loopback.
    pub port: u16,
    taken: Arc<Mutex<BTreeMap<String, u64>>>,
    requests: Arc<AtomicU64>,
}

impl Receiver {
    /// Listens on a free port.
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Arc::<Mutex<BTreeMap<String, u64>>>::default();
        let requests = Arc::<AtomicU64>::default();
        let (map, count) = (Arc::clone(&taken), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, manner, Arc::clone(&map), Arc::clone(&count)));
            }
        });
        Self { port, taken, requests }
    }

    /// How often each row was taken; or each question asked.
    pub fn taken(&self) -> BTreeMap<String, u64> {
        self.taken.lock().unwrap().clone()
    }

    /// Requests that came in whole.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

type Taken = Arc<Mutex<BTreeMap<String, u64>>>;

/// Answers the requests of one connection. A row counts as taken just before the answer that says so.
async fn serve(mut socket: TcpStream, manner: Manner, taken: Taken, requests: Arc<AtomicU64>) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if socket.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let end = head_end + header("content-length: ").map_or(0, |length| length.parse().unwrap());
        while bytes.len() < end {
            if socket.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        let body: Vec<u8> = bytes.drain(..end).skip(head_end).collect();
        let number = requests.fetch_add(1, Ordering::SeqCst) + 1;
        let every = |n: u64| n > 0 && number.is_multiple_of(n);
        let status = match manner {
            Manner::Silent => std::future::pending().await,
            Manner::Refusing => "404 Not Found",
            Manner::SecondThoughts => {
                let asked = String::from_utf8(body).unwrap();
                let times = *taken.lock().unwrap().entry(asked.clone()).and_modify(|times| *times += 1).or_insert(1);
                let is_third = asked.bytes().map(u64::from).sum::<u64>().is_multiple_of(3);
                if times == 1 && is_third { "500 Broken" } else { "200 OK" }
            }
            Manner::Moody { pause, refuse_every, reset_every } => {
                tokio::time::sleep(pause).await;
                if every(reset_every) {
                    return None;
                }
                if every(refuse_every) { "503 Unavailable" } else { "200 OK" }
            }
        };
        if status == "200 OK" && !matches!(manner, Manner::SecondThoughts) {
            for id in header("idempotency-key: ").unwrap().split(',') {
                *taken.lock().unwrap().entry(id.to_owned()).or_default() += 1;
            }
        }
        let answer = if matches!(manner, Manner::SecondThoughts) { "true" } else { "" };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        socket.write_all(answer.as_bytes()).await.ok()?;
    }
}
