//! Sessions, and who is connected to them. A session is what a client id refers to; it may outlive its connection.
//!
//! The registry decides, under one lock taken at connect and disconnect only: which connection owns a session, which
//! session is new, taken up or thrown away. Subscriptions and queues on disk belong to the delivery thread.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::{AHashMap, AHashSet};
use serde::Serialize;

use super::frame::Version;
use super::mailbox::Mailbox;
use super::metrics::Counter;
use super::outbox::Outbox;
use super::reject::Reject;

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
    /// The session outlives its connection by this.
    expiry_s: u32,
    /// It has notes in the log and rows on disk.
    durable: bool,
    version: Version,
    address: Option<IpAddr>,
    /// Connected or disconnected since, by the log's clock.
    since_ms: i64,
}

impl Link {
    fn expired(&self, now_ms: i64) -> bool {
        self.mailbox.is_none()
            && self.expiry_s != u32::MAX
            && self.since_ms.saturating_add(i64::from(self.expiry_s) * 1000) <= now_ms
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

    /// Nobody saw when its connection ended: it counts as ended now.
    pub(super) fn fall_asleep(&self, now_ms: i64) {
        lock(&self.link).since_ms = now_ms;
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
    /// QoS 1 messages sent and not acknowledged.
    pub in_flight_messages: u64,
    /// QoS 1 messages on disk; some may be in memory as well.
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
            address: link.address,
            protocol_level: link.version.level(),
            since_ms: link.since_ms,
            expiry_s: link.expiry_s,
            subscriptions,
            queued_messages: outbox.queue.len() as u64,
            queued_bytes: outbox.queued_bytes() as u64,
            in_flight_messages: outbox.in_flight.len() as u64,
            stored_messages: self.stored_messages.get(),
            stored_bytes: self.stored_bytes.get(),
            dropped_messages: self.dropped.get(),
        }
    }
}

/// What a connection says when it wants a session.
#[derive(Clone, Debug)]
pub(super) struct Claim<'a> {
    pub client_id: &'a str,
    pub clean: bool,
    pub expiry_s: u32,
    pub version: Version,
    pub address: Option<IpAddr>,
    pub mailbox: &'a Arc<Mailbox>,
    pub now_ms: i64,
}

/// The answer.
#[derive(Debug)]
pub(super) enum Attach {
    Attached {
        session: Arc<Session>,
        /// The session was there before.
        present: bool,
        /// A session of the same client id that is thrown away.
        ended: Option<Arc<Session>>,
    },
    /// Another connection has the client id: it was told to leave; ask again when it has.
    Busy(Arc<Mailbox>),
    /// There are `max_sessions`.
    Full,
}

/// What became of a session whose connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detach {
    /// It waits for its client.
    Sleeps,
    /// It ended with the connection.
    Ended,
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_client: AHashMap<Arc<str>, Arc<Session>>,
    by_number: AHashMap<u64, Arc<Session>>,
    last_number: u64,
}

impl Inner {
    fn insert(&mut self, session: &Arc<Session>) {
        self.last_number = self.last_number.max(session.number);
        self.by_client.insert(session.client_id.clone(), session.clone());
        self.by_number.insert(session.number, session.clone());
    }

    fn remove(&mut self, session: &Session) {
        self.by_number.remove(&session.number);
        if self.by_client.get(&session.client_id).is_some_and(|other| other.number == session.number) {
            self.by_client.remove(&session.client_id);
        }
    }
}

impl Registry {
    /// Gives a connection its session. `time_us` is the log's, for the number of a new session.
    pub(super) fn attach(&self, claim: &Claim<'_>, time_us: u64, max_sessions: usize) -> Attach {
        let mut inner = lock(&self.inner);
        let existing = inner.by_client.get(claim.client_id).cloned();
        if let Some(session) = &existing {
            let mut link = lock(&session.link);
            if let Some(owner) = &link.mailbox {
                owner.dismiss(Reject::TakenOver);
                return Attach::Busy(owner.clone());
            }
            if !claim.clean && !link.expired(claim.now_ms) {
                // A durable session stays durable until it ends, whatever its new expiry.
                let durable = link.durable || claim.expiry_s > 0;
                *link = Link::claimed(claim, durable);
                drop(link);
                return Attach::Attached { session: session.clone(), present: true, ended: None };
            }
        }
        if let Some(session) = &existing {
            inner.remove(session);
        } else if inner.by_number.len() >= max_sessions {
            return Attach::Full;
        }
        let number = time_us.max(inner.last_number + 1);
        let link = Link::claimed(claim, claim.expiry_s > 0);
        let session = Arc::new(Session::new(number, Arc::from(claim.client_id), link));
        inner.insert(&session);
        Attach::Attached { session, present: false, ended: existing }
    }

    /// The connection is over; `expiry_s` replaces what CONNECT said.
    pub(super) fn detach(&self, session: &Session, expiry_s: Option<u32>, now_ms: i64) -> Detach {
        let mut inner = lock(&self.inner);
        let mut link = lock(&session.link);
        link.mailbox = None;
        link.since_ms = now_ms;
        link.expiry_s = expiry_s.unwrap_or(link.expiry_s);
        if link.expiry_s > 0 {
            return Detach::Sleeps;
        }
        drop(link);
        inner.remove(session);
        Detach::Ended
    }

    /// A durable session as the log or the disk tells of it, without a connection. A newer one of the same client
    /// replaces an older one, which is returned.
    pub(super) fn restore(&self, restored: &Restored<'_>) -> (Arc<Session>, Option<Arc<Session>>) {
        let mut inner = lock(&self.inner);
        let link = Link {
            mailbox: None,
            expiry_s: restored.expiry_s,
            durable: true,
            version: if restored.level == 5 { Version::V5 } else { Version::V4 },
            address: None,
            since_ms: restored.since_ms,
        };
        if let Some(session) = inner.by_number.get(&restored.number) {
            let mut known = lock(&session.link);
            if known.mailbox.is_none() {
                *known = link;
            }
            drop(known);
            return (session.clone(), None);
        }
        let older = inner.by_client.get(restored.client_id).cloned();
        let session = Arc::new(Session::new(restored.number, Arc::from(restored.client_id), link));
        inner.insert(&session);
        if let Some(older) = &older {
            inner.by_number.remove(&older.number);
        }
        (session, older)
    }

    /// Removes sleeping sessions whose time is over, and returns them.
    pub(super) fn expire(&self, now_ms: i64) -> Vec<Arc<Session>> {
        let mut inner = lock(&self.inner);
        let over: Vec<_> =
            inner.by_number.values().filter(|session| lock(&session.link).expired(now_ms)).cloned().collect();
        for session in &over {
            inner.remove(session);
        }
        over
    }

    /// Removes a session that ended.
    pub(super) fn remove(&self, session: &Session) {
        lock(&self.inner).remove(session);
    }

    pub(super) fn by_number(&self, number: u64) -> Option<Arc<Session>> {
        lock(&self.inner).by_number.get(&number).cloned()
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.inner).by_number.len()
    }

    /// Tells all connections to end.
    pub(super) fn dismiss_all(&self, reason: Reject) {
        for session in self.all() {
            if let Some(mailbox) = &lock(&session.link).mailbox {
                mailbox.dismiss(reason);
            }
        }
    }

    /// All sessions, by client id.
    pub(super) fn list(&self) -> Vec<SessionInfo> {
        let mut list: Vec<_> = self.all().iter().map(|session| session.info()).collect();
        list.sort_by(|a, b| a.client_id.cmp(&b.client_id));
        list
    }

    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        lock(&self.inner).by_number.values().cloned().collect()
    }
}

impl Link {
    fn claimed(claim: &Claim<'_>, durable: bool) -> Self {
        Self {
            mailbox: Some(claim.mailbox.clone()),
            expiry_s: claim.expiry_s,
            durable,
            version: claim.version,
            address: claim.address,
            since_ms: claim.now_ms,
        }
    }
}

/// A durable session as stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restored<'a> {
    pub number: u64,
    pub client_id: &'a str,
    pub expiry_s: u32,
    pub level: u8,
    pub since_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim<'a>(mailbox: &'a Arc<Mailbox>, clean: bool, expiry_s: u32, now_ms: i64) -> Claim<'a> {
        Claim { client_id: "c", clean, expiry_s, version: Version::V5, address: None, mailbox, now_ms }
    }

    fn attached(attach: Attach) -> (Arc<Session>, bool, Option<u64>) {
        match attach {
            Attach::Attached { session, present, ended } => (session, present, ended.map(|old| old.number)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sessions_are_taken_up_thrown_away_and_expire() {
        let registry = Registry::default();
        let mailbox = Arc::new(Mailbox::new());
        let (first, present, _) = attached(registry.attach(&claim(&mailbox, false, 10, 0), 100, 9));
        assert!(!present && first.durable());
        assert!(matches!(registry.attach(&claim(&mailbox, false, 10, 0), 100, 9), Attach::Busy(_)));
        assert_eq!(mailbox.order(), Some(Reject::TakenOver));
        assert_eq!(registry.detach(&first, None, 1000), Detach::Sleeps);
        let (again, present, _) = attached(registry.attach(&claim(&mailbox, false, 10, 5000), 100, 9));
        assert!(present && again.number == first.number);
        registry.detach(&again, None, 5000);
        let (clean, present, ended) = attached(registry.attach(&claim(&mailbox, true, 0, 5000), 100, 9));
        assert!(!present && clean.number > first.number && ended == Some(first.number) && !clean.durable());
        assert_eq!(registry.detach(&clean, None, 6000), Detach::Ended);
        assert_eq!(registry.len(), 0);

        let (short, ..) = attached(registry.attach(&claim(&mailbox, false, 1, 0), 100, 9));
        assert!(registry.expire(99_000).is_empty(), "connected sessions do not expire");
        registry.detach(&short, None, 0);
        assert!(registry.expire(999).is_empty());
        assert_eq!(registry.expire(1000).len(), 1);
        let (forever, ..) = attached(registry.attach(&claim(&mailbox, false, u32::MAX, 0), 100, 9));
        registry.detach(&forever, None, 0);
        assert!(registry.expire(i64::MAX).is_empty());
        let other = Claim { client_id: "d", ..claim(&mailbox, true, 0, 0) };
        assert!(matches!(registry.attach(&other, 1, 1), Attach::Full));
    }
}
