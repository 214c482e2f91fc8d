//! Publishers that write and read in batches, so that the server is what is measured.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Publish, Subscribe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What to publish.
#[derive(Clone, Copy)]
pub struct Load {
    pub connections: usize,
    pub in_flight: usize,
    pub qos: u8,
    pub duration: Duration,
    /// Messages a second over all connections; 0: no limit.
    pub rate: u64,
}

/// What came of it.
pub struct Outcome {
    pub published: u64,
    /// From writing a batch to its last acknowledgement, one a batch.
    pub latencies: Vec<Duration>,
}

impl Load {
    /// Publishes to the broker at `address` until the time is over and everything is acknowledged.
    pub async fn run(&self, address: SocketAddr) -> anyhow::Result<Outcome> {
        let mut publishers = JoinSet::new();
        for number in 0..self.connections {
            publishers.spawn(publisher(*self, address, number));
        }
        let mut all = Outcome { published: 0, latencies: Vec::new() };
        while let Some(one) = publishers.join_next().await {
            let one = one??;
            all.published += one.published;
            all.latencies.extend(one.latencies);
        }
        Ok(all)
    }
}

async fn publisher(load: Load, address: SocketAddr, number: usize) -> anyhow::Result<Outcome> {
    let mut socket = connect(address, &format!("bench-{number}")).await?;
    let topic = format!("macdonald/sensors/{number}");
    let end = Instant::now() + load.duration;
    let pause = (load.in_flight * load.connections) as f64 / load.rate.max(1) as f64;
    let pause = if load.rate == 0 { Duration::ZERO } else { Duration::from_secs_f64(pause) };
    let mut outcome = Outcome { published: 0, latencies: Vec::new() };
    let mut batch = bytes::BytesMut::new();
    let mut answers = vec![0; 16 << 10];
    while Instant::now() < end {
        batch.clear();
        for index in 0..load.in_flight {
            let sequence = outcome.published + index as u64;
            message(&topic, sequence, load.qos, (index + 1) as u16).write(&mut batch)?;
        }
        let start = Instant::now();
        socket.write_all(&batch).await?;
        let mut waiting = if load.qos == 0 { 0 } else { load.in_flight * PUBACK_BYTES };
        while waiting > 0 {
            match socket.read(&mut answers).await? {
                0 => bail!("the server closed the connection"),
                read => waiting = waiting.saturating_sub(read),
            }
        }
        outcome.latencies.push(start.elapsed());
        outcome.published += load.in_flight as u64;
        if !pause.is_zero() {
            tokio::time::sleep(pause.saturating_sub(start.elapsed())).await;
        }
    }
    finish(socket).await?;
    Ok(outcome)
}

const PUBACK_BYTES: usize = 4;

/// A reading of about 115 bytes.
fn message(topic: &str, sequence: u64, qos: u8, packet_id: u16) -> Publish {
    let tenths = sequence % 1000;
    let payload = format!(
        "{{\"sent\":{sequence},\"temperature\":{}.{},\"humidity\":48.7,\"ph\":6.84,\"status\":\"online\",\"battery\":97,\"rssi\":-61}}",
        tenths / 10,
        tenths % 10
    );
    let qos = if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    let mut publish = Publish::new(topic, qos, payload);
    publish.pkid = packet_id;
    publish
}

async fn connect(address: SocketAddr, client_id: &str) -> anyhow::Result<TcpStream> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut packet = bytes::BytesMut::new();
    let mut connect = Connect::new(client_id);
    connect.keep_alive = 60;
    connect.write(&mut packet)?;
    socket.write_all(&packet).await?;
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).await?;
    let [_, _, _, code] = answer;
    if code != 0 {
        bail!("the server refused the connection with code {code}");
    }
    Ok(socket)
}

/// Says goodbye and waits until the server has read everything, QoS 0 included.
async fn finish(mut socket: TcpStream) -> anyhow::Result<()> {
    socket.write_all(&[0xe0, 0]).await?;
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await?;
    Ok(())
}

/// Publishes one message with QoS 1 and waits for its acknowledgement.
pub async fn publish_one(address: SocketAddr, topic: &str, payload: &[u8]) -> anyhow::Result<()> {
    let mut socket = connect(address, "bench-probe").await?;
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload.to_vec());
    publish.pkid = 1;
    let mut packet = bytes::BytesMut::new();
    publish.write(&mut packet)?;
    socket.write_all(&packet).await?;
    let mut answer = [0; PUBACK_BYTES];
    socket.read_exact(&mut answer).await?;
    finish(socket).await
}

/// Subscribes with QoS 0 and reads whatever comes.
pub async fn drain(address: SocketAddr, filter: &'static str) -> anyhow::Result<()> {
    let mut socket = connect(address, "bench-subscriber").await?;
    let mut packet = bytes::BytesMut::new();
    let mut subscribe = Subscribe::new(filter, QoS::AtMostOnce);
    subscribe.pkid = 1;
    subscribe.write(&mut packet)?;
    socket.write_all(&packet).await?;
    let mut sink = vec![0; 64 << 10];
    while socket.read(&mut sink).await? > 0 {}
    Ok(())
}
