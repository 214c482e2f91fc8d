//! The gateway in front of a real log and a real store in a folder of its own, spoken to over real sockets.

mod delivery;
mod five;
mod flow;
mod library;
mod presence;
mod protocol;
mod retained;
mod sessions;
mod shared;
mod two;
mod wills;

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hedgerow_storage::clock::{Clock, SystemClock};
use hedgerow_storage::disk::{Disk, DiskFile, SystemDisk};
use hedgerow_storage::log::{Epoch, Log, LogConfig, RecordKind};
use hedgerow_storage::table::{Store, StoreConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frame::{Split, Version, split};
use super::publish::{Outgoing, Publish, TopicLimits};
use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition, with a bound.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A disk whose syncs wait while the gate is shut: the log commits nothing meanwhile. It can be full, too.
#[derive(Default)]
struct Gate {
    full: AtomicBool,
    shut: Mutex<bool>,
    changed: Condvar,
    waiting: std::sync::atomic::AtomicUsize,
}

impl Gate {
    fn set(&self, shut: bool) {
        *lock(&self.shut) = shut;
        self.changed.notify_all();
    }

    fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        drop(self.changed.wait_while(lock(&self.shut), |shut| *shut).unwrap());
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Does a sync stand before it?
    fn has_waiter(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }
}

struct GatedDisk(Arc<Gate>);
struct GatedFile(Arc<dyn DiskFile>, Arc<Gate>);

impl GatedDisk {
    fn file(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(GatedFile(file, Arc::clone(&self.0)))
    }
}

impl Disk for GatedDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.create_dir_all(dir)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(SystemDisk.create(path)?))
    }
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(SystemDisk.open(path, write)?))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        SystemDisk.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        SystemDisk.sync_dir(dir)
    }
    fn free_space(&self, _: &Path) -> io::Result<u64> {
        Ok(if self.0.full.load(Ordering::SeqCst) { 0 } else { 1 << 40 })
    }
    fn lock(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        SystemDisk.lock(path)
    }
}

impl DiskFile for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(position, into)
    }
    fn write_some_at(&self, position: u64, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_some_at(position, parts)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

/// The machine's clocks, which a test can put forward.
#[derive(Default)]
struct TestClock {
    real: SystemClock,
    ahead_us: AtomicU64,
}

impl TestClock {
    fn advance(&self, by: Duration) {
        self.ahead_us.fetch_add(by.as_micros() as u64, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn monotonic_us(&self) -> u64 {
        self.real.monotonic_us() + self.ahead_us.load(Ordering::SeqCst)
    }
    fn wall_us(&self) -> u64 {
        self.real.wall_us() + self.ahead_us.load(Ordering::SeqCst)
    }
}

/// A server: folder, log, store, gateway. May be stopped, in good order or not, and started again.
struct Server {
    dir: tempfile::TempDir,
    config: GatewayConfig,
    gate: Arc<Gate>,
    clock: Arc<TestClock>,
    running: Option<(Gateway, Arc<Log>)>,
}

impl Server {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let mut config = GatewayConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..GatewayConfig::default() };
        change(&mut config);
        let dir = tempfile::tempdir().unwrap();
        let mut server = Self { dir, config, gate: Arc::default(), clock: Arc::default(), running: None };
        server.run().await;
        server
    }

    async fn run(&mut self) {
        let (dir, config) = (self.dir.path().to_owned(), self.config.clone());
        let disk: Arc<dyn Disk> = Arc::new(GatedDisk(Arc::clone(&self.gate)));
        let clock: Arc<dyn Clock> = self.clock.clone();
        let runtime = tokio::runtime::Handle::current();
        let started = tokio::task::spawn_blocking(move || {
            let store = Store::open(&dir.join("store"), StoreConfig::default()).unwrap();
            let log_config = LogConfig { min_free_bytes: 100, reserve_bytes: 50, ..LogConfig::new(dir.join("log")) };
            let floor = Epoch(store.mark(rows::MARK).unwrap_or(0));
            let (log, _) = Log::open(log_config, disk, clock, floor).unwrap();
            let log = Arc::new(log);
            (Gateway::start(config, Arc::clone(&log), store, &runtime).unwrap(), log)
        });
        self.running = Some(started.await.unwrap());
    }

    fn gateway(&self) -> &Gateway {
        &self.running.as_ref().unwrap().0
    }

    fn metrics(&self) -> &GatewayMetrics {
        self.gateway().metrics()
    }

    fn session(&self, client_id: &str) -> Option<SessionInfo> {
        self.gateway().sessions().into_iter().find(|session| session.client_id == client_id)
    }

    async fn stop(&mut self) {
        let (gateway, log) = self.running.take().unwrap();
        gateway.shutdown(Duration::from_secs(5)).await;
        drop(gateway);
        until("the log has one owner", || Arc::strong_count(&log) == 1).await;
        tokio::task::spawn_blocking(move || drop(log)).await.unwrap();
    }

    async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    /// A restart that finds the store as it was when the log already held more: what a crash leaves.
    async fn restart_with_older_store(&mut self, older: &Path) {
        self.stop().await;
        std::fs::remove_dir_all(self.dir.path().join("store")).unwrap();
        copy_dir(older, &self.dir.path().join("store"));
        self.run().await;
    }

    /// Payloads of all messages in the log, but for the gateway's own.
    fn logged(&self) -> Vec<String> {
        let own = |topic: &str| topic.starts_with("$aws/events/");
        let all = self.log().into_iter().filter(|(topic, _)| !own(topic));
        all.map(|(_, payload)| payload).collect()
    }

    /// Topics and payloads of all messages in the log.
    fn log(&self) -> Vec<(String, String)> {
        let log = &self.running.as_ref().unwrap().1;
        let mut reader = log.reader(Epoch(0)).unwrap();
        let mut found = Vec::new();
        while let Some(commit) = reader.next(Duration::ZERO).unwrap() {
            let messages = commit.records().filter(|record| record.kind == RecordKind::Message);
            found.extend(
                messages.map(|record| (record.topic.to_owned(), String::from_utf8_lossy(record.payload).into_owned())),
            );
        }
        found
    }

    async fn connect(&self, bytes: &[u8], version: Version) -> Raw {
        let stream = TcpStream::connect(self.gateway().local_addr()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut raw = Raw { stream, input: BytesMut::new(), version, early: VecDeque::new() };
        raw.send(bytes).await;
        raw
    }

    /// Connects a 3.1.1 client; returns it and whether its session was there.
    async fn v4(&self, client_id: &str, clean: bool) -> (Raw, bool) {
        let mut raw = self.connect(&connect_v4(client_id, clean, 0), Version::V4).await;
        let connack = raw.packet().await;
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:?}");
        (raw, connack[2] == 1)
    }

    /// Connects an MQTT 5 client.
    async fn v5(&self, client_id: &str, clean: bool, properties: &[u8]) -> (Raw, bool) {
        let mut raw = self.connect(&connect_v5(client_id, clean, properties), Version::V5).await;
        let connack = raw.packet().await;
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:?}");
        (raw, connack[2] == 1)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.gate.set(false);
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn packet_of(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = BytesMut::from(&[first][..]);
    super::frame::put_varint(&mut packet, body.len());
    packet.extend_from_slice(body);
    packet.to_vec()
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

fn connect_v4(client_id: &str, clean: bool, keep_alive: u16) -> Vec<u8> {
    let head = [0, 4, b'M', b'Q', b'T', b'T', 4, u8::from(clean) << 1];
    packet_of(0x10, &[&head[..], &keep_alive.to_be_bytes(), &text(client_id)].concat())
}

fn connect_v5(client_id: &str, clean: bool, properties: &[u8]) -> Vec<u8> {
    let head = [0, 4, b'M', b'Q', b'T', b'T', 5, u8::from(clean) << 1, 0, 0, u8::try_from(properties.len()).unwrap()];
    packet_of(0x10, &[&head[..], properties, &text(client_id)].concat())
}

/// A CONNECT with a will, in MQTT 5.
fn connect_with_will(client_id: &str, flags: u8, properties: &[u8], will_properties: &[u8], payload: &str) -> Vec<u8> {
    let section = |properties: &[u8]| [&[u8::try_from(properties.len()).unwrap()], properties].concat();
    let head = [0, 4, b'M', b'Q', b'T', b'T', 5, flags | 4, 0, 0];
    let will = [section(will_properties), text("wills/w"), text(payload)].concat();
    packet_of(0x10, &[&head[..], &section(properties), &text(client_id), &will].concat())
}

/// A client made of bytes.
struct Raw {
    stream: TcpStream,
    input: BytesMut,
    version: Version,
    /// Packets that came before the one waited for.
    early: VecDeque<Vec<u8>>,
}

/// A message as it came.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    topic: String,
    payload: String,
    qos: u8,
    dup: bool,
    retain: bool,
    packet_id: u16,
    properties: Vec<u8>,
}

impl Raw {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next packet, or `None` if the server closed the connection.
    async fn try_packet(&mut self) -> Option<Vec<u8>> {
        if let Some(packet) = self.early.pop_front() {
            return Some(packet);
        }
        self.next_packet().await
    }

    /// The next packet that begins like this; messages may come before it, and are kept.
    async fn answer(&mut self, first: u8) -> Vec<u8> {
        if let Some(at) = self.early.iter().position(|packet| packet[0] == first) {
            return self.early.remove(at).unwrap();
        }
        loop {
            let packet = self.next_packet().await.expect("an answer, not the end");
            if packet[0] == first {
                return packet;
            }
            self.early.push_back(packet);
        }
    }

    async fn next_packet(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Ok(Split::Frame(frame)) = split(&self.input, 1 << 28) {
                let packet = frame.bytes.to_vec();
                let _ = self.input.split_to(packet.len());
                return Some(packet);
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
            if read.expect("a packet in time").unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn packet(&mut self) -> Vec<u8> {
        self.try_packet().await.expect("a packet, not the end")
    }

    /// Reads to the end; the reason of the server's DISCONNECT, if there was one.
    async fn end(&mut self) -> Option<u8> {
        let mut reason = None;
        while let Some(packet) = self.try_packet().await {
            if packet[0] == 0xE0 {
                reason = Some(packet[2]);
            }
        }
        reason
    }

    /// Everything the server sent before this has been read when this returns.
    async fn ping(&mut self) {
        self.send(&[0xC0, 0]).await;
        assert_eq!(self.packet().await, [0xD0, 0]);
    }

    async fn publish(&mut self, topic: &str, qos: u8, packet_id: u16, payload: &str) {
        self.publish_with(topic, qos, packet_id, payload, &[]).await;
    }

    async fn publish_with(&mut self, topic: &str, qos: u8, packet_id: u16, payload: &str, properties: &[u8]) {
        let packet = publish_packet(self.version, topic, qos, packet_id, payload, properties);
        self.send(&packet).await;
    }

    /// Publishes and waits for PUBACK.
    async fn publish_1(&mut self, topic: &str, packet_id: u16, payload: &str) {
        self.publish(topic, 1, packet_id, payload).await;
        let [high, low] = packet_id.to_be_bytes();
        assert_eq!(self.packet().await, [0x40, 2, high, low]);
    }

    async fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        let properties: &[u8] = if self.version == Version::V5 { &[0] } else { &[] };
        self.send(&packet_of(0x82, &[&[0, 77], properties, &text(filter), &[options]].concat())).await;
        let suback = self.answer(0x90).await;
        assert_eq!(suback[3], 77);
        *suback.last().unwrap()
    }

    async fn unsubscribe(&mut self, filter: &str) -> Vec<u8> {
        let properties: &[u8] = if self.version == Version::V5 { &[0] } else { &[] };
        self.send(&packet_of(0xA2, &[&[0, 78], properties, &text(filter)].concat())).await;
        self.packet().await
    }

    async fn message(&mut self) -> Got {
        let packet = self.packet().await;
        let Ok(Split::Frame(frame)) = split(&packet, 1 << 28) else { panic!("a packet") };
        let limits = TopicLimits { bytes: 65_535, levels: 65_535 };
        let publish: Publish<'_> = super::publish::parse(frame, self.version, limits).expect("a PUBLISH");
        Got {
            topic: publish.topic.to_owned(),
            payload: String::from_utf8_lossy(publish.payload).into_owned(),
            qos: publish.qos,
            dup: publish.dup,
            retain: publish.retain,
            packet_id: publish.packet_id,
            properties: publish.properties.to_vec(),
        }
    }

    /// The next message, acknowledged as its QoS asks for.
    async fn take(&mut self) -> Got {
        let got = self.message().await;
        match got.qos {
            0 => {}
            1 => self.puback(got.packet_id).await,
            _ => {
                self.ack(0x50, got.packet_id).await;
                let [high, low] = got.packet_id.to_be_bytes();
                assert_eq!(self.answer(0x62).await, [0x62, 2, high, low]);
                self.ack(0x70, got.packet_id).await;
            }
        }
        got
    }

    async fn ack(&mut self, first: u8, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        self.send(&[first, 2, high, low]).await;
    }

    /// Nothing has come so far but the answer to this ping.
    async fn nothing(&mut self) {
        self.ping().await;
    }

    /// Publishes with the retain flag, QoS 1, and waits for PUBACK.
    async fn retain(&mut self, topic: &str, payload: &str, properties: &[u8]) {
        let mut packet = publish_packet(self.version, topic, 1, 99, payload, properties);
        packet[0] |= 1;
        self.send(&packet).await;
        assert_eq!(self.packet().await, [0x40, 2, 0, 99]);
    }

    async fn puback(&mut self, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        self.send(&[0x40, 2, high, low]).await;
    }

    async fn leave(mut self) {
        self.send(&[0xE0, 0]).await;
        assert_eq!(self.end().await, None);
    }
}

fn publish_packet(
    version: Version,
    topic: &str,
    qos: u8,
    packet_id: u16,
    payload: &str,
    properties: &[u8],
) -> BytesMut {
    let mut packet = BytesMut::new();
    Outgoing {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id,
        alias: None,
        identifiers: &[],
        properties,
        expiry: None,
        payload: payload.as_bytes(),
    }
    .write(version, &mut packet);
    packet
}
