//! All sessions: under one lock, taken at connect and disconnect only, it is decided which connection owns a session,
//! which session is new, taken up or thrown away, and what time brings about.

use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use ahash::AHashMap;

use super::super::frame::Version;
use super::super::mailbox::Mailbox;
use super::super::reject::Reject;
use super::super::will::Will;
use super::{LastWords, Link, Session, SessionInfo, lock};

/// What a connection says when it wants a session.
#[derive(Clone, Debug)]
pub(in super::super) struct Claim<'a> {
    pub client_id: &'a str,
    pub clean: bool,
    pub expiry_s: u32,
    pub version: Version,
    pub address: Option<IpAddr>,
    pub principal: &'a str,
    pub will: Option<Arc<Will>>,
    pub mailbox: &'a Arc<Mailbox>,
    pub now_ms: i64,
}

/// The answer.
#[derive(Debug)]
pub(in super::super) enum Attach {
    Attached {
        session: Arc<Session>,
        /// The session was there before.
        present: bool,
        /// A session of the same client id that is thrown away. A will that waited for it is due with its end.
        ended: Option<Arc<Session>>,
        /// A will that waited for the session until then, and is void now that it is taken up.
        voided: Option<(LastWords, i64)>,
    },
    /// Another connection has the client id: it was told to leave; ask again when it has.
    Busy(Arc<Mailbox>),
    /// There are `max_sessions`.
    Full,
}

/// What time has brought about.
#[derive(Debug, Default)]
pub(in super::super) struct Due {
    /// Wills whose delay is over.
    pub wills: Vec<LastWords>,
    /// Sessions that nobody took up in time.
    pub expired: Vec<Arc<Session>>,
}

/// All sessions.
#[derive(Debug)]
pub(in super::super) struct Registry {
    inner: Mutex<Inner>,
    /// Nothing is due before.
    next_due_ms: AtomicI64,
}

impl Default for Registry {
    fn default() -> Self {
        Self { inner: Mutex::default(), next_due_ms: AtomicI64::new(i64::MAX) }
    }
}

#[derive(Debug, Default)]
struct Inner {
    by_client: AHashMap<Arc<str>, Arc<Session>>,
    by_number: AHashMap<u64, Arc<Session>>,
    last_number: u64,
}

impl Inner {
    /// A number for a session or a connection, above all earlier ones. Log time is above them after a restart.
    fn next_number(&mut self, time_us: u64) -> u64 {
        self.last_number = time_us.max(self.last_number + 1);
        self.last_number
    }

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
    /// Gives a connection its session. `time_us` is the log's, for the numbers of the connection and a new session.
    pub(in super::super) fn attach(&self, claim: &Claim<'_>, time_us: u64, max_sessions: usize) -> Attach {
        let mut inner = lock(&self.inner);
        let existing = inner.by_client.get(claim.client_id).cloned();
        if let Some(session) = &existing {
            let mut link = lock(&session.link);
            if let Some(owner) = &link.mailbox {
                owner.dismiss(Reject::TakenOver);
                return Attach::Busy(owner.clone());
            }
            if !claim.clean && link.expires_ms() > claim.now_ms {
                // A durable session stays durable until it ends, whatever its new expiry. A will that waited is void.
                let durable = link.durable || claim.expiry_s > 0;
                let due_ms = link.will_due_ms;
                let voided = link.take_will(&session.client_id, session.number).map(|words| (words, due_ms));
                *link = Link::claimed(claim, inner.next_number(time_us), durable);
                drop(link);
                return Attach::Attached { session: session.clone(), present: true, ended: None, voided };
            }
        }
        if let Some(session) = &existing {
            inner.remove(session);
        } else if inner.by_number.len() >= max_sessions {
            return Attach::Full;
        }
        let number = inner.next_number(time_us);
        let link = Link::claimed(claim, inner.next_number(time_us), claim.expiry_s > 0);
        let session = Arc::new(Session::new(number, Arc::from(claim.client_id), link));
        inner.insert(&session);
        Attach::Attached { session, present: false, ended: existing, voided: None }
    }

    /// The connection is over. `expiry_s` replaces what CONNECT said; 0 ends the session. A will that is still there is
    /// due at `will_due_ms`.
    pub(in super::super) fn detach(&self, session: &Session, expiry_s: u32, will_due_ms: Option<i64>, now_ms: i64) {
        let mut inner = lock(&self.inner);
        let mut link = lock(&session.link);
        link.mailbox = None;
        link.since_ms = now_ms;
        link.expiry_s = expiry_s;
        match will_due_ms {
            Some(due) => link.will_due_ms = due,
            None => link.will = None,
        }
        let due = link.due_ms();
        drop(link);
        if expiry_s > 0 {
            self.next_due_ms.fetch_min(due, Ordering::AcqRel);
        } else {
            inner.remove(session);
        }
    }

    /// A durable session as the log or the disk tells of it, without a connection. A newer one of the same client
    /// replaces an older one, which is returned.
    pub(in super::super) fn restore(&self, restored: &Restored<'_>) -> (Arc<Session>, Option<Arc<Session>>) {
        let mut inner = lock(&self.inner);
        let link = Link {
            mailbox: None,
            connection: 0,
            will: None,
            will_due_ms: i64::MAX,
            expiry_s: restored.expiry_s,
            durable: true,
            version: if restored.level == 5 { Version::V5 } else { Version::V4 },
            address: None,
            principal: Arc::default(),
            since_ms: restored.since_ms,
        };
        self.next_due_ms.fetch_min(link.due_ms(), Ordering::AcqRel);
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

    /// A number for something that is like a connection.
    pub(in super::super) fn number(&self, time_us: u64) -> u64 {
        lock(&self.inner).next_number(time_us)
    }

    /// A number that a connection had before the restart: later ones are above it.
    pub(in super::super) fn known_number(&self, number: u64) {
        let mut inner = lock(&self.inner);
        inner.last_number = inner.last_number.max(number);
    }

    /// What the log tells of a sleeping session's will: due then, unless the session is taken up.
    pub(in super::super) fn restore_will(&self, words: &LastWords, due_ms: i64) {
        let inner = lock(&self.inner);
        if let Some(session) = inner.by_number.get(&words.session) {
            let mut link = lock(&session.link);
            link.connection = words.connection;
            link.principal = Arc::clone(&words.principal);
            link.address = words.address.parse().ok();
            link.will = Some(Arc::clone(&words.will));
            link.will_due_ms = due_ms;
            self.next_due_ms.fetch_min(link.due_ms(), Ordering::AcqRel);
        }
    }

    /// Takes what is due: wills, and sleeping sessions whose time is over, which are removed. Whoever takes a will here,
    /// or the session in `attach`, is the only one to have it.
    pub(in super::super) fn due(&self, now_ms: i64) -> Due {
        let mut due = Due::default();
        if self.next_due_ms.load(Ordering::Acquire) > now_ms {
            return due;
        }
        let mut inner = lock(&self.inner);
        let mut next = i64::MAX;
        for session in inner.by_number.values() {
            let mut link = lock(&session.link);
            if link.due_ms() > now_ms {
                next = next.min(link.due_ms());
                continue;
            }
            due.wills.extend(link.take_will(&session.client_id, session.number));
            if link.expires_ms() <= now_ms {
                due.expired.push(Arc::clone(session));
            } else {
                next = next.min(link.due_ms());
            }
        }
        self.next_due_ms.store(next, Ordering::Release);
        for session in &due.expired {
            inner.remove(session);
        }
        due
    }

    /// Removes a session that ended.
    pub(in super::super) fn remove(&self, session: &Session) {
        lock(&self.inner).remove(session);
    }

    pub(in super::super) fn by_number(&self, number: u64) -> Option<Arc<Session>> {
        lock(&self.inner).by_number.get(&number).cloned()
    }

    pub(in super::super) fn len(&self) -> usize {
        lock(&self.inner).by_number.len()
    }

    /// Tells all connections to end.
    pub(in super::super) fn dismiss_all(&self, reason: Reject) {
        for session in self.all() {
            if let Some(mailbox) = &lock(&session.link).mailbox {
                mailbox.dismiss(reason);
            }
        }
    }

    /// All sessions, by client id.
    pub(in super::super) fn list(&self) -> Vec<SessionInfo> {
        let mut list: Vec<_> = self.all().iter().map(|session| session.info()).collect();
        list.sort_by(|a, b| a.client_id.cmp(&b.client_id));
        list
    }

    pub(in super::super) fn all(&self) -> Vec<Arc<Session>> {
        lock(&self.inner).by_number.values().cloned().collect()
    }
}

impl Link {
    fn claimed(claim: &Claim<'_>, connection: u64, durable: bool) -> Self {
        Self {
            mailbox: Some(claim.mailbox.clone()),
            connection,
            will: claim.will.clone(),
            will_due_ms: i64::MAX,
            expiry_s: claim.expiry_s,
            durable,
            version: claim.version,
            address: claim.address,
            principal: Arc::from(claim.principal),
            since_ms: claim.now_ms,
        }
    }
}

/// A durable session as stored.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Restored<'a> {
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
        Claim {
            client_id: "c",
            clean,
            expiry_s,
            version: Version::V5,
            address: None,
            principal: "",
            will: None,
            mailbox,
            now_ms,
        }
    }

    fn attached(attach: Attach) -> (Arc<Session>, bool, Option<u64>) {
        match attach {
            Attach::Attached { session, present, ended, .. } => (session, present, ended.map(|old| old.number)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sessions_are_taken_up_thrown_away_and_expire() {
        let registry = Registry::default();
        let mailbox = Arc::new(Mailbox::new());
        let (first, present, _) = attached(registry.attach(&claim(&mailbox, false, 10, 0), 100, 9));
        assert!(!present && first.durable());
        let connection = first.connection();
        assert!(matches!(registry.attach(&claim(&mailbox, false, 10, 0), 100, 9), Attach::Busy(_)));
        assert_eq!(mailbox.order(), Some(Reject::TakenOver));
        registry.detach(&first, 10, None, 1000);
        let (again, present, _) = attached(registry.attach(&claim(&mailbox, false, 10, 5000), 100, 9));
        assert!(present && again.number == first.number && again.connection() > connection);
        registry.detach(&again, 10, None, 5000);
        let (clean, present, ended) = attached(registry.attach(&claim(&mailbox, true, 0, 5000), 100, 9));
        assert!(!present && clean.number > first.number && ended == Some(first.number) && !clean.durable());
        registry.detach(&clean, 0, None, 6000);
        assert_eq!(registry.len(), 0);

        let (short, ..) = attached(registry.attach(&claim(&mailbox, false, 1, 0), 100, 9));
        assert!(registry.due(99_000).expired.is_empty(), "connected sessions do not expire");
        registry.detach(&short, 1, None, 0);
        assert!(registry.due(999).expired.is_empty());
        assert_eq!(registry.due(1000).expired.len(), 1);
        let (forever, ..) = attached(registry.attach(&claim(&mailbox, false, u32::MAX, 0), 100, 9));
        registry.detach(&forever, u32::MAX, None, 0);
        assert!(registry.due(i64::MAX - 1).expired.is_empty());
        let other = Claim { client_id: "d", ..claim(&mailbox, true, 0, 0) };
        assert!(matches!(registry.attach(&other, 1, 1), Attach::Full));
    }

    #[test]
    fn a_will_waits_for_its_time_and_is_void_if_the_session_is_taken_up() {
        let registry = Registry::default();
        let mailbox = Arc::new(Mailbox::new());
        let will = Will {
            topic: "w".to_owned(),
            qos: 0,
            retain: false,
            delay_s: 5,
            properties: Vec::new(),
            payload: Vec::new(),
        };
        let with_will = |now_ms| Claim { will: Some(Arc::new(will.clone())), ..claim(&mailbox, false, 60, now_ms) };
        let (session, ..) = attached(registry.attach(&with_will(0), 1, 9));
        assert!(registry.due(i64::MAX - 1).wills.is_empty(), "it is connected");
        registry.detach(&session, 60, Some(5000), 0);
        assert!(registry.due(4999).wills.is_empty());
        let due = registry.due(5000);
        assert_eq!((due.wills.len(), due.wills[0].connection, due.expired.len()), (1, session.connection(), 0));
        assert!(registry.due(5001).wills.is_empty(), "once");

        let (session, ..) = attached(registry.attach(&with_will(6000), 1, 9));
        registry.detach(&session, 60, Some(11_000), 6000);
        let (session, present, _) = attached(registry.attach(&claim(&mailbox, false, 60, 7000), 1, 9));
        assert!(present && session.will().is_none());
        registry.detach(&session, 60, None, 8000);
        assert!(registry.due(20_000).wills.is_empty());

        // A session that is thrown away takes its will along, for whoever ends it.
        let (session, ..) = attached(registry.attach(&with_will(20_000), 1, 9));
        registry.detach(&session, 60, Some(25_000), 20_000);
        let thrown = registry.attach(&claim(&mailbox, true, 0, 21_000), 1, 9);
        let Attach::Attached { ended: Some(ended), .. } = thrown else { panic!("{thrown:?}") };
        assert!(ended.take_will().is_some());
    }
}
