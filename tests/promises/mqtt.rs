//! What clients do that has broken brokers before: nobody else notices.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::publisher::publish;
use crate::server::{Home, SOON, Server};

fn quiet() -> (Home, Server) {
    let home = Home::with_settings("[logging]\nlevel = \"warn\"\n");
    let server = home.start();
    (home, server)
}

/// A subscriber whose subscription is in force.
async fn subscribed(home: &Home, client: &str, filter: &str) -> (AsyncClient, EventLoop) {
    let (sender, mut events) = AsyncClient::new(MqttOptions::new(client, "127.0.0.1", home.port), 10);
    sender.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::SubAck(_))) {}
    (sender, events)
}

async fn next_message(events: &mut EventLoop) -> Publish {
    let next = async {
        loop {
            if let Event::Incoming(Packet::Publish(publish)) = events.poll().await.unwrap() {
                return publish;
            }
        }
    };
    tokio::time::timeout(SOON, next).await.expect("no message came")
}

/// A bare connection that has sent CONNECT and got CONNACK, and does nothing by itself.
async fn bare(home: &Home, client: &str, keep_alive_s: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", home.port)).await.unwrap();
    let mut connect = vec![0x10, 12 + client.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 2];
    connect.extend(keep_alive_s.to_be_bytes());
    connect.extend((client.len() as u16).to_be_bytes());
    connect.extend(client.as_bytes());
    stream.write_all(&connect).await.unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0]);
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_beyond_ascii_reach_their_subscribers() {
    let (home, _server) = quiet();
    let (_below, mut below) = subscribed(&home, "below", "é/#").await;
    let (_beside, mut beside) = subscribed(&home, "beside", "+/x").await;
    publish(home.port, "p", "é/x", &["1".to_owned()]).await;
    for events in [&mut below, &mut beside] {
        assert_eq!(next_message(events).await.topic, "é/x");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_may_leave_with_a_full_queue() {
    let (home, _server) = quiet();
    let mut deaf = bare(&home, "deaf", 0).await;
    // SUBSCRIBE to full/# with QoS 1; what comes is never read.
    deaf.write_all(&[0x82, 11, 0, 1, 0, 6, b'f', b'u', b'l', b'l', b'/', b'#', 1]).await.unwrap();
    let mut granted = [0; 5];
    deaf.read_exact(&mut granted).await.unwrap();
    assert_eq!(granted, [0x90, 3, 0, 1, 1]);
    // More than its socket, its queue and its window take together.
    let payloads = vec!["x".repeat(4_000); 3_000];
    publish(home.port, "p", "full/x", &payloads).await;
    drop(deaf);
    let (_next, mut next) = subscribed(&home, "deaf", "full/#").await;
    publish(home.port, "p", "full/x", &["after".to_owned()]).await;
    assert_eq!(next_message(&mut next).await.payload, "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_alive_zero_is_no_time_limit() {
    let (home, _server) = quiet();
    let mut patient = bare(&home, "patient", 0).await;
    let mut silent = bare(&home, "silent", 1).await;
    let mut nothing = [0; 1];
    let closed = tokio::time::timeout(Duration::from_secs(10), silent.read(&mut nothing)).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "keep-alive 1 without a word: {closed:?}");
    patient.write_all(&[0xc0, 0]).await.unwrap();
    let mut answer = [0; 2];
    patient.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [0xd0, 0], "PINGRESP");
}
