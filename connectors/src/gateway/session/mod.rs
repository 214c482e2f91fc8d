//! Sessions, and who is connected to them. A session is what a client id refers to; it may outlive its connection.
//!
//! Here is what a connection and the delivery thread share about a session; `registry` decides whose it is. Subscriptions
//! and queues on disk belong to the delivery thread.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::AHashSet;
use serde::Serialize;

use super::frame::Version;
use super::mailbox::Mailbox;
use super::metrics::Counter;
use super::notes::About;
use super::outbox::Outbox;
use super::presence::session_identifier;
use super::will::{Speaker, Will};

mod registry;

pub(super) use registry::{Attach, Claim, Registry, Restored};

/// A lock whose holder panicked still holds true data here: every change is one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    /// Unique over the life of the log.
    pub number: u64,
    pub client_id: Arc<str>,
    pub outbox: Mutex<Outbox>,
    /// Packet ids of QoS 2 messages received and not released.
    pub received: Mutex<AHashSet<u16>>,
    /// Subscriptions as the client was told: filter to options.
    pub filters: Mutex<BTreeMap<Arc<str>, u8>>,
    /// On disk.
    pub stored_messages: Counter,
    pub stored_bytes: Counter,
    pub dropped: Counter,
    link: Mutex<Link>,
}

/// A session's connection, or what is known of the last one.
#[derive(Clone, Debug)]
struct Link {
    mailbox: Option<Arc<Mailbox>>,
    /// Its number, unique over the life of the log and above those of earlier ones.
    connection: u64,
    /// The will of the connection, until it is published or void.
    will: Option<Arc<Will>>,
    /// Without a connection: when the will is due.
    will_due_ms: i64,
    /// The session outlives its connection by this.
    expiry_s: u32,
    /// It has notes in the log and rows on disk.
    durable: bool,
    version: Version,
    address: Option<IpAddr>,
    /// Fingerprint or user; empty if nobody asked.
    principal: Arc<str>,
    /// Connected or disconnected since, by the log's clock.
    since_ms: i64,
}

impl Link {
    /// When the session ends if nobody takes it up.
    fn expires_ms(&self) -> i64 {
        if self.mailbox.is_some() || self.expiry_s == u32::MAX {
            return i64::MAX;
        }
        self.since_ms.saturating_add(i64::from(self.expiry_s) * 1000)
    }

    /// When there is something to do without anybody connecting.
    fn due_ms(&self) -> i64 {
        let will = if self.mailbox.is_none() && self.will.is_some() { self.will_due_ms } else { i64::MAX };
        will.min(self.expires_ms())
    }

    fn take_will(&mut self, client_id: &Arc<str>, session: u64) -> Option<LastWords> {
        let will = self.will.take()?;
        Some(LastWords {
            will,
            client_id: Arc::clone(client_id),
            principal: Arc::clone(&self.principal),
            address: self.address.map(|address| address.to_string()).unwrap_or_default(),
            session,
            connection: self.connection,
        })
    }
}

/// A will with what its message says of the sender.
#[derive(Clone, Debug)]
pub(super) struct LastWords {
    pub will: Arc<Will>,
    pub client_id: Arc<str>,
    pub principal: Arc<str>,
    pub address: String,
    pub session: u64,
    pub connection: u64,
}

impl LastWords {
    pub(super) fn speaker(&self) -> Speaker<'_> {
        Speaker {
            client_id: &self.client_id,
            principal: &self.principal,
            address: &self.address,
            session: self.session,
            connection: self.connection,
        }
    }
}

impl Session {
    fn new(number: u64, client_id: Arc<str>, link: Link) -> Self {
        Self {
            number,
            client_id,
            outbox: Mutex::default(),
            received: Mutex::default(),
            filters: Mutex::default(),
            stored_messages: Counter::default(),
            stored_bytes: Counter::default(),
            dropped: Counter::default(),
            link: Mutex::new(link),
        }
    }

    /// Does its state have to survive a crash?
    pub(super) fn durable(&self) -> bool {
        lock(&self.link).durable
    }

    pub(super) fn expiry_s(&self) -> u32 {
        lock(&self.link).expiry_s
    }

    pub(super) fn version(&self) -> Version {
        lock(&self.link).version
    }

    pub(super) fn connected(&self) -> bool {
        lock(&self.link).mailbox.is_some()
    }

    pub(super) fn since_ms(&self) -> i64 {
        lock(&self.link).since_ms
    }

    /// It has no connection since then.
    pub(super) fn fall_asleep(&self, expiry_s: u32, since_ms: i64) {
        let mut link = lock(&self.link);
        link.expiry_s = expiry_s;
        link.since_ms = since_ms;
    }

    /// The number of its connection, or of the last one.
    pub(super) fn connection(&self) -> u64 {
        lock(&self.link).connection
    }

    pub(super) fn will(&self) -> Option<Arc<Will>> {
        lock(&self.link).will.clone()
    }

    /// The will with its sender, for publishing; it is gone from here then.
    pub(super) fn take_will(&self) -> Option<LastWords> {
        lock(&self.link).take_will(&self.client_id, self.number)
    }

    pub(super) fn principal(&self) -> Arc<str> {
        Arc::clone(&lock(&self.link).principal)
    }

    /// What a note about it begins with.
    pub(super) fn about(&self, time_ms: i64) -> About<'_> {
        About { session: self.number, client_id: &self.client_id, time_ms, ..About::default() }
    }
}

/// One row of `system.sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionInfo {
    /// Client id.
    pub client_id: String,
    /// Number of the session, unique over the life of the log.
    pub session: u64,
    /// Is a connection open?
    pub connected: bool,
    /// Number of the connection, or of the last one: the version number of its presence events.
    pub connection: u64,
    /// What its presence events call it.
    pub session_identifier: String,
    /// Fingerprint or user; empty if nobody asked.
    pub principal: String,
    /// Topic of the will that is said if it goes without farewell.
    pub will_topic: Option<String>,
    /// Address of the connection, or of the last one if known.
    pub address: Option<IpAddr>,
    /// Protocol level: 4 (MQTT 3.1.1) or 5.
    pub protocol_level: u8,
    /// Connected, or disconnected, since; ms since 1970.
    pub since_ms: i64,
    /// Seconds the session outlives its connection.
    pub expiry_s: u32,
    /// Filters and the QoS granted.
    pub subscriptions: Vec<(String, u8)>,
    /// Messages waiting in memory.
    pub queued_messages: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// QoS 1 and 2 messages sent and not done with.
    pub in_flight_messages: u64,
    /// QoS 1 and 2 messages on disk; some may be in memory as well.
    pub stored_messages: u64,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Messages dropped because a queue was full.
    pub dropped_messages: u64,
}

impl Session {
    fn info(&self) -> SessionInfo {
        let link = lock(&self.link).clone();
        let subscriptions =
            lock(&self.filters).iter().map(|(filter, options)| (filter.to_string(), options & 3)).collect();
        let outbox = lock(&self.outbox);
        SessionInfo {
            client_id: self.client_id.to_string(),
            session: self.number,
            connected: link.mailbox.is_some(),
            connection: link.connection,
            session_identifier: session_identifier(&self.client_id, link.connection),
            principal: link.principal.to_string(),
            will_topic: link.will.as_ref().map(|will| will.topic.clone()),
            address: link.address,
            protocol_level: link.version.level(),
            since_ms: link.since_ms,
            expiry_s: link.expiry_s,
            subscriptions,
            queued_messages: outbox.queue.len() as u64,
            queued_bytes: outbox.queued_bytes() as u64,
            in_flight_messages: outbox.window() as u64,
            stored_messages: self.stored_messages.get(),
            stored_bytes: self.stored_bytes.get(),
            dropped_messages: self.dropped.get(),
        }
    }
}
