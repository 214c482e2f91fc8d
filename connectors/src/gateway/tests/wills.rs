//! Last wills: said when they have to be, once, and not otherwise; whoever dies.

use super::*;

/// Clean start; with 0x38 more: QoS 3 bits and retain.
const CLEAN: u8 = 2;
const QOS_1: u8 = 8;
const RETAIN: u8 = 0x20;
/// 1,000 seconds.
const EXPIRY: [u8; 5] = [17, 0, 0, 3, 0xE8];

fn delay(seconds: u16) -> [u8; 5] {
    let [high, low] = seconds.to_be_bytes();
    [24, 0, 0, high, low]
}

async fn with_will(server: &Server, client_id: &str, flags: u8, properties: &[u8], will: &[u8], payload: &str) -> Raw {
    let mut raw = server.connect(&connect_with_will(client_id, flags, properties, will, payload), Version::V5).await;
    let connack = raw.packet().await;
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:?}");
    raw
}

async fn witness(server: &Server) -> Raw {
    let (mut raw, _) = server.v5("witness", true, &[]).await;
    assert_eq!(raw.subscribe("wills/#", 2).await, 2);
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn said_when_the_connection_is_lost_with_its_properties() {
    let server = Server::start().await;
    let mut witness = witness(&server).await;
    let properties = [&delay(0)[..], &[1, 1], &[38], &text("k"), &text("v")].concat();
    drop(with_will(&server, "c", CLEAN | QOS_1, &[], &properties, "lost").await);
    let got = witness.take().await;
    assert_eq!((&*got.topic, &*got.payload, got.qos, got.retain), ("wills/w", "lost", 1, false));
    assert_eq!(got.properties, properties[5..], "but for the delay");
    until("counted", || server.metrics().wills.get() == 1).await;
    // 3.1.1, and a protocol error.
    let head = [0, 4, b'M', b'Q', b'T', b'T', 4, CLEAN | 4, 0, 0];
    let four = packet_of(0x10, &[&head[..], &text("c"), &text("wills/4"), &text("bad")].concat());
    let mut four = server.connect(&four, Version::V4).await;
    assert_eq!(four.packet().await, [0x20, 2, 0, 0]);
    four.send(&[0, 0]).await;
    assert_eq!((witness.take().await.payload, four.end().await), ("bad".to_owned(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn void_after_a_proper_farewell_and_only_then() {
    let server = Server::start().await;
    let mut witness = witness(&server).await;
    with_will(&server, "c", CLEAN, &[], &[], "no").await.leave().await;
    let mut raw = with_will(&server, "c", CLEAN, &[], &[], "with the will").await;
    raw.send(&[0xE0, 1, 4]).await;
    assert_eq!(witness.take().await.payload, "with the will");
    until("it is gone", || server.session("c").is_none()).await;
    let _first = with_will(&server, "c", CLEAN, &[], &[], "taken over").await;
    let second = with_will(&server, "c", CLEAN, &[], &[], "shut down").await;
    assert_eq!(witness.take().await.payload, "taken over");
    witness.nothing().await;
    drop(second);
    assert_eq!(witness.take().await.payload, "shut down");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_will_waits_for_the_session() {
    let server = Server::start().await;
    let mut witness = witness(&server).await;
    let gone = |name: &'static str| {
        let server = &server;
        move || server.session(name).is_none_or(|session| !session.connected)
    };
    drop(with_will(&server, "c", CLEAN, &EXPIRY, &delay(600), "delayed").await);
    until("it is gone", gone("c")).await;
    server.clock.advance(Duration::from_secs(500));
    witness.nothing().await;
    // The session goes on: the will is void.
    drop(with_will(&server, "c", 0, &EXPIRY, &delay(600), "in time").await);
    until("it is gone", gone("c")).await;
    server.clock.advance(Duration::from_secs(200));
    witness.nothing().await;
    server.clock.advance(Duration::from_secs(450));
    assert_eq!(witness.take().await.payload, "in time");
    // The session ends before the delay does.
    drop(with_will(&server, "c", CLEAN, &EXPIRY, &delay(2500), "session over").await);
    until("it is gone", gone("c")).await;
    server.clock.advance(Duration::from_secs(1001));
    assert_eq!(witness.take().await.payload, "session over");
    until("it has ended", || server.session("c").is_none()).await;
    // It is thrown away by a clean start.
    drop(with_will(&server, "c", CLEAN, &EXPIRY, &delay(2500), "thrown away").await);
    until("it is gone", gone("c")).await;
    let (_clean, present) = server.v5("c", true, &[]).await;
    assert!(!present);
    assert_eq!(witness.take().await.payload, "thrown away");
    assert_eq!(server.metrics().wills.get(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_can_be_retained_and_be_for_the_testator() {
    let server = Server::start().await;
    let mut raw = with_will(&server, "c", CLEAN | QOS_1 | RETAIN, &EXPIRY, &[], "kept").await;
    raw.subscribe("wills/w", 1).await;
    drop(raw);
    until("said", || server.metrics().retained.get() == 1).await;
    let (mut raw, present) = server.v5("c", false, &EXPIRY).await;
    assert!(present);
    assert_eq!(raw.take().await.payload, "kept");
    let mut late = witness(&server).await;
    let got = late.take().await;
    assert_eq!((&*got.payload, got.retain), ("kept", true));
}

/// A server that dies leaves wills to the next, which says each of them once, also if it dies at once.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_connected_at_a_crash_gets_their_will_once() {
    let mut server = Server::with(|config| config.delivery_commit_ms = 20).await;
    let _stays = with_will(&server, "now", CLEAN, &[], &[], "now").await;
    let _delayed = with_will(&server, "delayed", CLEAN, &EXPIRY, &delay(300), "delayed").await;
    drop(with_will(&server, "waits", CLEAN, &EXPIRY, &delay(600), "waits").await);
    until("it is gone", || !server.session("waits").unwrap().connected).await;
    let mark = server.gateway().taken();
    until("all of that is in the rows", || server.gateway().taken() > mark).await;
    let before = tempfile::tempdir().unwrap();
    server.crash(before.path()).await;
    // The first start after the crash: one will is due at once.
    server.run().await;
    until("said", || server.logged() == ["now"]).await;
    // The next ones know that, from the log if not from the store.
    for _ in 0..2 {
        server.restart_with_older_store(&before.path().join("store")).await;
        let mut witness = witness(&server).await;
        witness.nothing().await;
        assert_eq!(server.logged(), ["now"]);
    }
    server.clock.advance(Duration::from_secs(310));
    until("the delayed one", || server.logged() == ["now", "delayed"]).await;
    server.clock.advance(Duration::from_secs(300));
    until("the one that waited", || server.logged() == ["now", "delayed", "waits"]).await;
    server.restart_with_older_store(&before.path().join("store")).await;
    server.clock.advance(Duration::from_secs(1500));
    until("sessions are over", || server.gateway().sessions().is_empty()).await;
    assert_eq!(server.logged(), ["now", "delayed", "waits"]);
}

impl Server {
    /// Ends as a killed process does: what the log and the store hold at this moment is what there is. `copy` gets both.
    pub(super) async fn crash(&mut self, copy: &Path) {
        copy_dir(&self.dir.path().join("store"), &copy.join("store"));
        copy_dir(&self.dir.path().join("log"), &copy.join("log"));
        self.stop().await;
        for part in ["store", "log"] {
            std::fs::remove_dir_all(self.dir.path().join(part)).unwrap();
            copy_dir(&copy.join(part), &self.dir.path().join(part));
        }
    }
}
