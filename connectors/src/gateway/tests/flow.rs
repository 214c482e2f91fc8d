//! Into the log: nothing is acknowledged before it is committed, and nobody floods it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_follow_the_commit() {
    let server = Server::start().await;
    let (mut raw, _) = server.v4("c", true).await;
    server.gate.set(true);
    raw.publish("t", 1, 1, "a").await;
    raw.publish("t", 2, 2, "b").await;
    raw.publish("t", 0, 0, "c").await;
    until("the log wrote them and syncs", || server.gate.has_waiter()).await;
    // PINGREQ needs no commit; what comes back before its answer was sent too early.
    raw.ping().await;
    assert_eq!(server.metrics().acks_out.get(), 0);
    assert_eq!(server.logged(), Vec::<String>::new());
    server.gate.set(false);
    assert_eq!(raw.packet().await, [0x40, 2, 0, 1]);
    assert_eq!(raw.packet().await, [0x50, 2, 0, 2]);
    assert_eq!(server.logged(), ["a", "b", "c"]);
    until("nothing is in flight", || server.metrics().in_flight_bytes.get() == 0).await;
    assert_eq!(server.metrics().ack_latency.counts().iter().sum::<u64>(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_stops_at_the_socket_and_arrives_whole() {
    let server = Server::with(|config| {
        config.read_buffer_bytes = 4096;
        config.connection_in_flight_bytes = 8 << 10;
        config.max_packet_bytes = 64 << 10;
        config.in_flight_bytes = 128 << 10;
    })
    .await;
    const CLIENTS: u32 = 6;
    const EACH: u16 = 40;
    let mut raws = Vec::new();
    for client in 0..CLIENTS {
        raws.push((client, server.v4(&format!("c{client}"), true).await.0));
    }
    server.gate.set(true);
    let mut floods = Vec::new();
    for (client, mut raw) in raws {
        floods.push(tokio::spawn(async move {
            let mut bytes = BytesMut::new();
            for id in 1..=EACH {
                // One packet larger than a read, and larger than the connection may have in flight, among small ones.
                let size = if id == 20 { 60_000 } else { 8000 };
                let payload = format!("{client}-{id} {}", "x".repeat(size));
                bytes.extend_from_slice(&publish_packet(Version::V4, "t", 1, id, &payload, &[]));
            }
            let (mut reader, mut writer) = raw.stream.split();
            let acks = async {
                let mut acks = vec![0; usize::from(EACH) * 4];
                reader.read_exact(&mut acks).await.unwrap();
                acks.chunks(4).map(|ack| u16::from_be_bytes([ack[2], ack[3]])).collect::<Vec<_>>()
            };
            let (sent, acks) = tokio::join!(writer.write_all(&bytes), acks);
            sent.unwrap();
            assert_eq!(acks, (1..=EACH).collect::<Vec<_>>(), "in order");
        }));
    }
    until("everybody is throttled", || server.metrics().backpressure.get() >= u64::from(CLIENTS)).await;
    let taken = server.metrics().bytes_in.get();
    let bound = u64::from(CLIENTS) * (60_000 + (8 << 10) + 4 * 4096);
    assert!(taken < bound, "{taken} bytes were read, {bound} is the bound");
    server.gate.set(false);
    for flood in floods {
        flood.await.unwrap();
    }
    let logged = server.logged();
    assert_eq!(logged.len(), (CLIENTS * u32::from(EACH)) as usize);
    for client in 0..CLIENTS {
        let mine: Vec<_> =
            logged.iter().filter_map(|text| text.split(' ').next()?.strip_prefix(&format!("{client}-"))).collect();
        let expected: Vec<_> = (1..=EACH).map(|id| id.to_string()).collect();
        assert_eq!(mine, expected, "each client's messages in its order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_flushes_says_so_and_is_bounded() {
    let mut server = Server::start().await;
    let (mut five, _) = server.v5("five", true, &[]).await;
    let (mut four, _) = server.v4("four", true).await;
    // One that reads nothing, with much to be sent to it.
    let (mut deaf, _) = server.v4("deaf", true).await;
    deaf.subscribe("t", 0).await;
    five.publish("t", 1, 1, &"x".repeat(500_000)).await;
    five.packet().await;
    five.publish("t", 1, 2, "last").await;
    until("both are read", || server.metrics().messages_in[1].get() == 2).await;
    let start = Instant::now();
    server.stop().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(five.packet().await, [0x40, 2, 0, 2], "the acknowledgement that was due");
    assert_eq!(five.end().await, Some(0x8B));
    assert_eq!(four.end().await, None);
    server.run().await;
    assert_eq!(server.logged().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_topics_leave_nothing_behind() {
    // Ten thousand here; what is bounded is the memory of topics, to a hundred.
    let server = Server::with(|config| config.topic_cache = 100).await;
    let (mut subscriber, _) = server.v4("s", true).await;
    subscriber.subscribe("t/#", 0).await;
    let (mut raw, _) = server.v4("p", true).await;
    let counting = tokio::spawn(async move {
        for at in 0..10_000 {
            assert_eq!(subscriber.message().await.topic, format!("t/{at}"));
        }
    });
    for thousand in 0..10 {
        let mut bytes = BytesMut::new();
        for at in 0..1000 {
            bytes.extend_from_slice(&publish_packet(
                Version::V4,
                &format!("t/{}", thousand * 1000 + at),
                0,
                0,
                "x",
                &[],
            ));
        }
        raw.send(&bytes).await;
        // The subscriber's queue holds a thousand: let it keep up.
        until("delivered", || server.metrics().messages_out[0].get() >= (thousand + 1) * 1000).await;
    }
    counting.await.unwrap();
}
