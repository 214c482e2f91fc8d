//! Publishers on a real client library that number their messages and remember what was acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};
use tokio::task::JoinHandle;

use crate::server::SOON;

/// Messages of one publisher without an acknowledgement, at most.
const WINDOW: usize = 16;
const RETRY: Duration = Duration::from_millis(20);

/// What a publisher did.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Its client id, which is also the last level of its topic.
    pub client: String,
    /// With QoS 2 on a persistent session: nothing is ever there twice.
    pub once: bool,
    /// How often each message was handed to the library.
    pub times: BTreeMap<u64, u32>,
    /// The acknowledged ones (PUBACK; PUBREC with QoS 2).
    pub acked: BTreeSet<u64>,
}

/// A publisher under way.
pub struct Publisher {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Sent>,
}

impl Publisher {
    /// QoS 1 on clean sessions: after a broken connection, what was not acknowledged is sent again.
    pub fn at_least_once(client: &str, port: u16) -> Self {
        Self::with_bursts(client, port, Duration::from_millis(20))
    }

    /// The same with so much time from one burst to the next, for rules that wait for others.
    pub fn with_bursts(client: &str, port: u16, every: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let state = Mutex::new(Outstanding::new(client, false));
        let run = AtLeastOnce { state, stop: Arc::clone(&stop), port, every };
        Self { stop, task: tokio::spawn(Arc::new(run).run()) }
    }

    /// QoS 2 on a persistent session, one message after the other; the library resumes what was under way.
    pub fn exactly_once(client: &str, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        Self { task: tokio::spawn(exactly_once(client.to_owned(), port, Arc::clone(&stop))), stop }
    }

    /// Sends nothing new, waits until everything is acknowledged, and tells what it did.
    pub async fn finish(self) -> Sent {
        self.stop.store(true, Ordering::Release);
        tokio::time::timeout(2 * SOON, self.task).await.expect("not everything is acknowledged").unwrap()
    }
}

fn options(client: &str, port: u16) -> MqttOptions {
    let mut options = MqttOptions::new(client, "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(5));
    options.set_pending_throttle(Duration::ZERO);
    options
}

fn topic(client: &str) -> String {
    format!("crash/in/{client}")
}

fn payload(seq: u64) -> String {
    format!("{{\"seq\": {seq}, \"temperature\": {}.5}}", seq % 100)
}

struct Outstanding {
    sent: Sent,
    next: u64,
    /// To be sent again.
    again: VecDeque<u64>,
    /// Given to the library, without a packet id yet.
    handed: VecDeque<u64>,
    by_packet: HashMap<u16, u64>,
}

impl Outstanding {
    fn new(client: &str, once: bool) -> Self {
        Self {
            sent: Sent { client: client.to_owned(), once, ..Sent::default() },
            next: 0,
            again: VecDeque::new(),
            handed: VecDeque::new(),
            by_packet: HashMap::new(),
        }
    }

    fn in_flight(&self) -> usize {
        self.handed.len() + self.by_packet.len()
    }

    fn hand_out(&mut self, client: &AsyncClient, fresh: bool) -> bool {
        let new = fresh.then_some(self.next);
        let Some(seq) = self.again.front().copied().or(new).filter(|_| self.in_flight() < WINDOW) else { return false };
        let topic = topic(&self.sent.client);
        if client.try_publish(topic, QoS::AtLeastOnce, false, payload(seq)).is_err() {
            return false;
        }
        if self.again.pop_front().is_none() {
            self.next += 1;
        }
        self.handed.push_back(seq);
        *self.sent.times.entry(seq).or_default() += 1;
        true
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Outgoing(Outgoing::Publish(packet)) => {
                let seq = self.handed.pop_front().expect("a packet that nobody handed out");
                self.by_packet.insert(*packet, seq);
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                let seq = self.by_packet.remove(&ack.pkid).expect("an acknowledgement of nothing");
                self.sent.acked.insert(seq);
            }
            _ => {}
        }
    }

    fn disconnected(&mut self) {
        let mut open: Vec<u64> = self.by_packet.drain().map(|(_, seq)| seq).collect();
        open.extend(self.handed.drain(..));
        open.extend(self.again.drain(..));
        open.sort_unstable();
        self.again = open.into();
    }
}

struct AtLeastOnce {
    state: Mutex<Outstanding>,
    stop: Arc<AtomicBool>,
    port: u16,
    /// From one burst to the next.
    every: Duration,
}

impl AtLeastOnce {
    async fn run(self: Arc<Self>) -> Sent {
        loop {
            let options = options(&self.state.lock().unwrap().sent.client, self.port);
            let (client, events) = AsyncClient::new(options, WINDOW);
            // The library may not be interrupted, so somebody else feeds it.
            let feeder = tokio::spawn(Arc::clone(&self).feed(client));
            self.connection(events).await;
            feeder.abort();
            let _ = feeder.await;
            if let Some(sent) = self.disconnected() {
                return sent;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// What was sent, if that was all.
    fn disconnected(&self) -> Option<Sent> {
        let mut state = self.state.lock().unwrap();
        state.disconnected();
        self.is_done(&state).then(|| state.sent.clone())
    }

    fn is_done(&self, state: &Outstanding) -> bool {
        self.stop.load(Ordering::Acquire) && state.in_flight() == 0 && state.again.is_empty()
    }

    /// Bursts of various sizes, as devices do.
    async fn feed(self: Arc<Self>, client: AsyncClient) {
        let mut every = tokio::time::interval(self.every);
        for round in 0_u64.. {
            every.tick().await;
            let mut state = self.state.lock().unwrap();
            let fresh = !self.stop.load(Ordering::Acquire);
            let burst = round * 7 % 10;
            for _ in 0..burst {
                if !state.hand_out(&client, fresh) {
                    break;
                }
            }
        }
    }

    async fn connection(&self, mut events: EventLoop) {
        while let Ok(event) = events.poll().await {
            let mut state = self.state.lock().unwrap();
            state.note(&event);
            if self.is_done(&state) {
                return;
            }
        }
    }
}

async fn exactly_once(client: String, port: u16, stop: Arc<AtomicBool>) -> Sent {
    let mut sent = Sent { client: client.clone(), once: true, ..Sent::default() };
    let mut options = options(&client, port);
    options.set_clean_session(false);
    options.set_inflight(1);
    let (sender, mut events) = AsyncClient::new(options, 1);
    let mut connected = false;
    let (mut next, mut open) = (0, None);
    loop {
        if open.is_none() && connected {
            if stop.load(Ordering::Acquire) {
                return sent;
            }
            sender.try_publish(topic(&client), QoS::ExactlyOnce, false, payload(next)).unwrap();
            *sent.times.entry(next).or_default() += 1;
            open = Some(next);
            next += 1;
        }
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                connected = true;
                if !ack.session_present {
                    // A new session: the library has given up what was under way, and does not send it again.
                    open = None;
                }
            }
            Ok(Event::Incoming(Packet::PubRec(_))) => {
                sent.acked.extend(open);
            }
            Ok(Event::Incoming(Packet::PubComp(_))) => open = None,
            Ok(_) => {}
            Err(_) => {
                connected = false;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Publishes with QoS 1, and returns when everything is acknowledged.
pub async fn publish(port: u16, client: &str, topic: &str, payloads: &[String]) {
    let (sender, mut events) = AsyncClient::new(options(client, port), payloads.len());
    for payload in payloads {
        sender.try_publish(topic, QoS::AtLeastOnce, false, payload.as_bytes()).unwrap();
    }
    let acknowledged = async {
        let mut open = payloads.len();
        while open > 0 {
            match events.poll().await {
                Ok(Event::Incoming(Packet::PubAck(_))) => open -= 1,
                Ok(_) => {}
                // A log without room takes no connections either.
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    };
    tokio::time::timeout(SOON, acknowledged).await.expect("not everything is acknowledged");
}
