//! One simulated device: a real MQTT client that numbers its messages, keeps each until it is acknowledged, and after a
//! lost connection sends again what was not.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};

use super::farm::{Shared, locked};

/// Messages of one device on their way; with more, it waits.
const WINDOW: u16 = 100;
/// How often a device looks whether it is time for a message.
const TICK: Duration = Duration::from_millis(20);
/// Between attempts to connect.
const RETRY: Duration = Duration::from_millis(250);
/// An attempt may take this long.
const CONNECT: Duration = Duration::from_secs(5);

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Publishes readings on `macdonald/sensors/<id>`.
    Sensor,
    /// Publishes its state on `macdonald/sprinklers/<id>`.
    Sprinkler,
}

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Stays connected.
    Steady,
    /// Says good-bye now and then, and comes back.
    Leaves,
    /// Drops its connection now and then, with messages on their way, and comes back.
    Crashes,
}

/// A device.
pub struct Device {
    pub kind: Kind,
    pub number: usize,
    pub manner: Manner,
    /// Messages per second.
    pub rate: f64,
    shared: Arc<Shared>,
    client_id: String,
    desk: Mutex<Desk>,
}

/// Its messages.
#[derive(Default)]
struct Desk {
    last: u64,
    /// Not acknowledged, by sequence number, with when they were first sent.
    waiting: BTreeMap<u64, (Instant, Vec<u8>)>,
    /// Handed to the library, which has not given them a packet id yet.
    handed: VecDeque<u64>,
    /// By packet id of this connection.
    sent: HashMap<u16, u64>,
}

/// Why a connection ended.
enum End {
    /// The device wanted to leave.
    Leave,
    /// The device crashed.
    Crash,
    /// The server or the network is gone.
    Lost,
}

impl Device {
    pub fn new(kind: Kind, number: usize, manner: Manner, rate: f64, shared: Arc<Shared>) -> Self {
        let name = if kind == Kind::Sensor { "sensor" } else { "sprinkler" };
        let client_id = format!("{name}-{number}");
        Self { kind, number, manner, rate, shared, client_id, desk: Mutex::default() }
    }

    /// Lives until the task is ended.
    pub async fn live(self) {
        let mut connections: u32 = 0;
        loop {
            let Some((client, mut events)) = self.connect().await else {
                tokio::time::sleep(RETRY).await;
                continue;
            };
            connections += 1;
            self.shared.connected(1);
            // The library may not be interrupted while it works, hence one future each for talking and listening.
            let end = tokio::select! {
                end = self.talk(&client, connections) => end,
                () = self.listen(&mut events) => End::Lost,
            };
            self.shared.connected(-1);
            let away = match end {
                End::Lost => RETRY,
                End::Crash => {
                    self.shared.note(|figures| figures.crashes += 1);
                    Duration::from_millis(500)
                }
                End::Leave => {
                    leave(&client, &mut events).await;
                    self.shared.note(|figures| figures.leaves += 1);
                    Duration::from_secs(1)
                }
            };
            drop(events);
            tokio::time::sleep(away).await;
        }
    }

    /// A new connection. The library's memory of the former one is not wanted: the device has its own.
    async fn connect(&self) -> Option<(AsyncClient, EventLoop)> {
        let mut options = MqttOptions::new(&self.client_id, self.shared.mqtt.ip().to_string(), self.shared.mqtt.port());
        options.set_keep_alive(Duration::from_secs(30)).set_clean_session(true).set_inflight(WINDOW);
        let (client, mut events) = AsyncClient::new(options, usize::from(WINDOW));
        match tokio::time::timeout(CONNECT, events.poll()).await {
            Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                let mut desk = locked(&self.desk);
                desk.handed.clear();
                desk.sent.clear();
                Some((client, events))
            }
            _ => None,
        }
    }

    /// Sends what is not acknowledged, then new messages at the device's rate.
    async fn talk(&self, client: &AsyncClient, connections: u32) -> End {
        let again: Vec<(u64, Vec<u8>)> =
            locked(&self.desk).waiting.iter().map(|(sequence, (_, payload))| (*sequence, payload.clone())).collect();
        self.shared.note(|figures| figures.sent_again += again.len() as u64);
        for (sequence, payload) in again {
            if !self.send(client, sequence, payload).await {
                return End::Lost;
            }
        }
        // Devices are not all alike, so that they do not come and go together.
        let stay = Duration::from_millis(3000 + 700 * (self.number as u64 + u64::from(connections)) % 4000);
        let since = Instant::now();
        let mut owed = 0.0;
        let mut last = since;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            let now = Instant::now();
            // A device that was held up does not make up for it: sensors measure the present.
            let publishing = self.shared.speaks(self.kind, self.number);
            owed =
                if publishing { (owed + (now - last).as_secs_f64() * self.rate).min(f64::from(WINDOW)) } else { 0.0 };
            last = now;
            let may_go = publishing && now - since > stay;
            if may_go && self.manner == Manner::Crashes && !locked(&self.desk).waiting.is_empty() {
                return End::Crash;
            }
            if may_go && self.manner == Manner::Leaves {
                if locked(&self.desk).waiting.is_empty() {
                    return End::Leave;
                }
                continue;
            }
            while owed >= 1.0 && locked(&self.desk).waiting.len() < usize::from(WINDOW) {
                owed -= 1.0;
                let (sequence, payload) = self.measure();
                if !self.send(client, sequence, payload).await {
                    return End::Lost;
                }
            }
        }
    }

    async fn send(&self, client: &AsyncClient, sequence: u64, payload: Vec<u8>) -> bool {
        locked(&self.desk).handed.push_back(sequence);
        let topic = match self.kind {
            Kind::Sensor => format!("macdonald/sensors/{}", self.number),
            Kind::Sprinkler => format!("macdonald/sprinklers/{}", self.number),
        };
        client.publish(topic, QoS::AtLeastOnce, false, payload).await.is_ok()
    }

    /// Lets the library work until the connection is gone, and keeps the books of acknowledgements.
    async fn listen(&self, events: &mut EventLoop) {
        while let Ok(event) = events.poll().await {
            match event {
                Event::Outgoing(Outgoing::Publish(packet_id)) => {
                    let mut desk = locked(&self.desk);
                    if let Some(sequence) = desk.handed.pop_front() {
                        desk.sent.insert(packet_id, sequence);
                    }
                }
                Event::Incoming(Packet::PubAck(ack)) => {
                    let mut desk = locked(&self.desk);
                    if let Some(sequence) = desk.sent.remove(&ack.pkid)
                        && let Some((since, _)) = desk.waiting.remove(&sequence)
                    {
                        self.shared.acknowledge(&self.client_id, sequence, since.elapsed());
                    }
                }
                _ => {}
            }
        }
    }

    /// The next message.
    fn measure(&self) -> (u64, Vec<u8>) {
        let mut desk = locked(&self.desk);
        desk.last += 1;
        let sequence = desk.last;
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let noise = noise(self.number as u64, sequence);
        let payload = match self.kind {
            Kind::Sensor => {
                // A day in the field takes two minutes here, and once in fifty readings the sun hits the sensor.
                let day = (timestamp % 120_000) as f64 / 120_000.0 * std::f64::consts::TAU;
                let sun = if noise.is_multiple_of(50) { 45.0 } else { 0.0 };
                let temperature = 20.0 + 8.0 * day.sin() + (noise % 200) as f64 / 100.0 + sun;
                let humidity = 60.0 - 15.0 * day.sin() + (noise / 200 % 100) as f64 / 20.0;
                let ph = 6.2 + (noise / 20_000 % 80) as f64 / 100.0;
                format!(
                    r#"{{"timestamp": {timestamp}, "temperature": {temperature:.2}, "humidity": {humidity:.1}, "ph": {ph:.2}, "seq": {sequence}}}"#
                )
            }
            Kind::Sprinkler => {
                let open = noise.is_multiple_of(3);
                let state = if open { "on" } else { "off" };
                let litres = if open { 4.0 + (noise / 3 % 100) as f64 / 50.0 } else { 0.0 };
                format!(
                    r#"{{"timestamp": {timestamp}, "state": "{state}", "litres_per_minute": {litres:.1}, "seq": {sequence}}}"#
                )
            }
        }
        .into_bytes();
        desk.waiting.insert(sequence, (Instant::now(), payload.clone()));
        drop(desk);
        self.shared.published();
        (sequence, payload)
    }
}

/// Says good-bye. Nothing is on its way any more, so the library may be interrupted.
async fn leave(client: &AsyncClient, events: &mut EventLoop) {
    if client.disconnect().await.is_err() {
        return;
    }
    let last = async { while !matches!(events.poll().await, Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_)) {} };
    let _ = tokio::time::timeout(Duration::from_secs(1), last).await;
    // The DISCONNECT is written by the poll after the one that announces it.
    let _ = tokio::time::timeout(Duration::from_millis(100), events.poll()).await;
}

/// A number that looks random and is the same for the same message (splitmix64).
fn noise(device: u64, sequence: u64) -> u64 {
    let mut z = (device << 32 | sequence & 0xffff_ffff).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
