//! A connection's hold on its session, and how it ends: what the log is told, and in which order.
//!
//! Whatever way a connection's task ends, its seat is dropped, and the log gets one batch: the will, if it is due,
//! the presence event, and the note that the connection ended. Only then is the session free for the next connection of
//! the same client id, so the log always has the end of one before the beginning of the next. If the log has no room for
//! the moment, the batch waits in a list that the delivery thread works off, and the session with it.

use std::collections::VecDeque;
use std::sync::Arc;

use hedgerow_storage::log::{AppendError, Batch, Class};

use super::Shared;
use super::inbound::Ending;
use super::mailbox::Mailbox;
use super::notes::{About, Disconnected, Note};
use super::presence::{Reason, Subject};
use super::session::{LastWords, Session, lock};

/// A connection's hold on its session.
pub(super) struct Seat {
    pub shared: Arc<Shared>,
    pub session: Arc<Session>,
    pub mailbox: Arc<Mailbox>,
    /// The will that waited for the session.
    pub voided: Option<(LastWords, i64)>,
    /// The log was told that the connection is there, and so that the will is void.
    pub announced: bool,
    pub ending: Ending,
}

/// A batch that the log has to take, and what comes after it.
pub(super) struct Unlogged {
    batch: Batch,
    then: Option<Leave>,
}

/// What is left to do once the log has the end of a connection.
struct Leave {
    session: Arc<Session>,
    mailbox: Arc<Mailbox>,
    expiry_s: u32,
    will_due_ms: Option<i64>,
    now_ms: i64,
}

impl Leave {
    fn finish(self, shared: &Shared) {
        let mut outbox = lock(&self.session.outbox);
        outbox.mailbox = None;
        // The next connection waits for the delivery thread, which brings over what this one leaves.
        outbox.ready = false;
        drop(outbox);
        shared.registry.detach(&self.session, self.expiry_s, self.will_due_ms, self.now_ms);
        self.mailbox.close();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let shared = &self.shared;
        let now_ms = shared.log.now_ms();
        let asked = match self.ending {
            Ending::Left(leave) => leave.session_expiry.map(|expiry| expiry.min(shared.config.max_session_expiry_s)),
            _ => None,
        };
        let expiry_s = asked.unwrap_or_else(|| self.session.expiry_s());
        let will = self.session.will();
        let voided = matches!(self.ending, Ending::Left(leave) if leave.voids_will);
        let will_due_ms = will.as_ref().filter(|_| !voided).and_then(|will| will.due_ms(now_ms, expiry_s));
        let leave = Leave {
            session: Arc::clone(&self.session),
            mailbox: Arc::clone(&self.mailbox),
            expiry_s,
            will_due_ms,
            now_ms,
        };
        if !self.announced {
            // The log knows nothing of this connection: its will is none, and the one that waited waits on.
            Leave { will_due_ms: None, ..leave }.finish(shared);
            if let Some((words, due_ms)) = &self.voided {
                shared.registry.restore_will(words, *due_ms);
            }
            return;
        }
        let mut batch = Batch::new();
        if !voided
            && will_due_ms.is_none()
            && let Some(words) = self.session.take_will()
        {
            shared.publish_will(&words, now_ms, &mut batch);
        }
        let (principal, connection) = (self.session.principal(), self.session.connection());
        let client_id = &self.session.client_id;
        let subject = Subject { client_id, principal: &principal, address: "", connection };
        subject.disconnected(Reason::of(self.ending), now_ms, &mut batch);
        let note = Disconnected { connection, expiry_s, ended: expiry_s == 0, had_will: will.is_some(), will_due_ms };
        Note::Disconnected(note).push(self.session.about(now_ms), &mut batch);
        shared.put_in_log(Unlogged { batch, then: Some(leave) });
    }
}

impl Shared {
    /// Appends the message of a will.
    pub(super) fn publish_will(&self, words: &LastWords, now_ms: i64, batch: &mut Batch) {
        words.will.push(words.speaker(), now_ms, batch);
        self.metrics.wills.add(1);
    }

    /// A session without a connection ends: its will is due, and the log has to know.
    pub(super) fn end_session(&self, session: &Session) {
        let now_ms = self.log.now_ms();
        let mut batch = Batch::new();
        if let Some(words) = session.take_will() {
            self.publish_will(&words, now_ms, &mut batch);
            Note::WillPublished { connection: words.connection }.push(session.about(now_ms), &mut batch);
        }
        Note::Ended.push(session.about(now_ms), &mut batch);
        self.put_in_log(batch.into());
    }

    /// Does what is due without anybody connecting: delayed wills, and sessions whose time is over.
    pub(super) fn work_off_due(&self) {
        let due = self.registry.due(self.log.now_ms());
        let now_ms = self.log.now_ms();
        let mut batch = Batch::new();
        for words in due.wills {
            self.publish_will(&words, now_ms, &mut batch);
            let about =
                About { session: words.session, client_id: &words.client_id, time_ms: now_ms, ..About::default() };
            Note::WillPublished { connection: words.connection }.push(about, &mut batch);
        }
        for session in due.expired {
            Note::Ended.push(session.about(now_ms), &mut batch);
        }
        if !batch.is_empty() {
            self.put_in_log(batch.into());
        }
    }

    /// Has the log take a batch of the gateway's own, now or as soon as it has room, in the order of these calls.
    pub(super) fn put_in_log(&self, unlogged: Unlogged) {
        let mut waiting = lock(&self.unlogged);
        waiting.push_back(unlogged);
        self.work_off(&mut waiting);
    }

    /// Has the log take what waits. False if something still does.
    pub(super) fn retry_unlogged(&self) -> bool {
        let mut waiting = lock(&self.unlogged);
        self.work_off(&mut waiting);
        waiting.is_empty()
    }

    fn work_off(&self, waiting: &mut VecDeque<Unlogged>) {
        while let Some(Unlogged { batch, then }) = waiting.pop_front() {
            match self.appender.append(batch, Class::System, |_| {}) {
                Err((batch, AppendError::Full | AppendError::LowSpace)) => {
                    waiting.push_front(Unlogged { batch, then });
                    return;
                }
                // A log that takes nothing more knows who was connected: the next start says what this batch says.
                Ok(()) | Err(_) => {
                    if let Some(leave) = then {
                        leave.finish(self);
                    }
                }
            }
        }
    }
}

impl From<Batch> for Unlogged {
    fn from(batch: Batch) -> Self {
        Self { batch, then: None }
    }
}
