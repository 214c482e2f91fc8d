//! The start: what was on disk at the mark, what the log says since, and the end of connections that a crash cut off.
//!
//! A connection that the log saw begin and not end was open when the process died. Its end is written now, as it would
//! have been then: its will, or when that is due, its presence event and the note, in one batch. So it is there once, also
//! if this start is cut off too: either the log has the batch, and the next start finds the connection ended, or it has
//! nothing of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use crossbeam_channel::Receiver;
use hedgerow_storage::fault;
use hedgerow_storage::log::{Batch as LogBatch, Epoch, Record};
use hedgerow_storage::table::Batch;

use super::super::Shared;
use super::super::notes::{About, Connected, Disconnected, Note};
use super::super::outbox::QueueLimits;
use super::super::presence::{Reason, Subject};
use super::super::retained::Retained;
use super::super::rows::{ConnectionRow, Rows, StoredConnection};
use super::super::session::{LastWords, Registry, Restored, lock};
use super::super::slot::Limits;
use super::super::subscriptions::{Path, Subscriptions};
use super::super::will::Will;
use super::{Delivery, DeliveryError, Order};

/// Ends written as one batch for the log.
const ENDS: usize = 1000;

/// What disk and log say of connections.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Begun and not ended, by number.
    open: BTreeMap<u64, Open>,
    /// By session: a will that waits until then.
    waiting: AHashMap<u64, (LastWords, i64)>,
}

#[derive(Debug)]
struct Open {
    row: ConnectionRow,
    will: Option<Arc<Will>>,
}

impl Open {
    fn last_words(&self, will: &Arc<Will>) -> LastWords {
        let row = &self.row;
        LastWords {
            will: Arc::clone(will),
            client_id: Arc::from(&*row.client_id),
            principal: Arc::from(&*row.principal),
            address: row.address.clone(),
            session: row.session,
            connection: row.connection,
        }
    }
}

impl Seen {
    fn stored(&mut self, stored: StoredConnection) {
        let open = Open { row: stored.row, will: stored.will };
        match (stored.waits_until_ms, &open.will) {
            (Some(due_ms), Some(will)) => {
                self.waiting.insert(open.row.session, (open.last_words(will), due_ms));
            }
            (Some(_), None) => {}
            (None, _) => {
                self.open.insert(open.row.connection, open);
            }
        }
    }

    pub(super) fn disconnected(&mut self, note: &Disconnected) {
        let open = self.open.remove(&note.connection);
        if let (Some(open), Some(due_ms)) = (open, note.will_due_ms)
            && let Some(will) = &open.will
        {
            self.waiting.insert(open.row.session, (open.last_words(will), due_ms));
        }
    }

    /// The session has no connection since then.
    pub(super) fn asleep(&self, registry: &Registry, record: &Record<'_>, expiry_s: u32) {
        if let Some(session) = registry.by_number(record.session) {
            session.fall_asleep(expiry_s, record.time_ms);
        }
    }

    pub(super) fn will_published(&mut self, session: u64) {
        self.waiting.remove(&session);
    }
}

impl Delivery {
    /// Takes up where the mark stands.
    pub(in super::super) fn new(
        shared: Arc<Shared>,
        rows: Rows,
        orders: Receiver<Order>,
    ) -> Result<Self, DeliveryError> {
        let log = &shared.log;
        let marked = rows.mark().map(Epoch);
        // A log that was not synced may end before the mark after a power failure: what follows it is new.
        let from = marked.map_or_else(|| log.first_epoch(), |mark| mark.min(log.last_epoch()));
        let reader = log.reader(from)?;
        let config = &shared.config;
        let limits = Limits {
            memory: QueueLimits { messages: config.queue_messages, bytes: config.queue_bytes },
            disk: QueueLimits { messages: config.offline_messages, bytes: config.offline_bytes },
            page: config.queue_messages.min(256).max(usize::from(config.send_window)),
        };
        let subscriptions = Subscriptions::new(config.topic_cache);
        let mut delivery = Self {
            shared,
            reader,
            rows,
            orders,
            subscriptions,
            retained: Retained::new(),
            slots: Vec::new(),
            free: Vec::new(),
            by_number: AHashMap::new(),
            waiting_wills: AHashMap::new(),
            touched: Vec::new(),
            unsettled: AHashSet::new(),
            pages: Vec::new(),
            batch: Batch::new(),
            limits,
            position: from,
            marked: marked.unwrap_or_default(),
            starting: Some(Seen::default()),
        };
        delivery.load()?;
        Ok(delivery)
    }

    fn load(&mut self) -> Result<(), DeliveryError> {
        let Self { rows, retained, .. } = self;
        rows.load_retained(|kept| retained.put(kept))?;
        for stored in self.rows.load_sessions()? {
            let row = &stored.row;
            let (session, older) = self.shared.registry.restore(&Restored {
                number: row.number,
                client_id: &row.client_id,
                expiry_s: row.expiry_s,
                level: row.level,
                since_ms: row.since_ms,
            });
            let at = self.place(session, true);
            for row in &stored.filters {
                if let Ok(path) = Path::parse(&row.filter) {
                    self.subscribe(at, &path, row.options, row.identifier);
                }
            }
            if let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) {
                slot.restore(stored.queue, stored.received);
            }
            if let Some(older) = older {
                self.end(older.number, None)?;
            }
        }
        for stored in self.rows.load_connections()? {
            self.shared.registry.known_number(stored.row.connection);
            if stored.waits_until_ms.is_some() {
                self.waiting_wills.insert(stored.row.session, stored.row.connection);
            }
            if let Some(seen) = &mut self.starting {
                seen.stored(stored);
            }
        }
        Ok(())
    }

    /// A connection that the log saw begin, before everyone may connect.
    pub(super) fn restore(&mut self, record: &Record<'_>, row: ConnectionRow, note: &Connected) {
        let registry = &self.shared.registry;
        registry.known_number(note.connection);
        if let Some(seen) = &mut self.starting {
            seen.waiting.remove(&record.session);
            seen.open.insert(note.connection, Open { row, will: note.will.clone() });
        }
        if !note.durable {
            return;
        }
        // An older session of the client is ended by a note of its own.
        let (session, _) = registry.restore(&Restored {
            number: record.session,
            client_id: record.client_id,
            expiry_s: note.expiry_s,
            level: note.level,
            since_ms: record.time_ms,
        });
        if !self.by_number.contains_key(&record.session) {
            self.place(session, true);
        }
    }

    /// Reads what the log held at the start, before anyone connects; then every session is asleep.
    pub(in super::super) fn catch_up(&mut self) -> Result<(), DeliveryError> {
        let end = self.shared.log.last_epoch();
        while self.position < end {
            match self.reader.next(Duration::from_millis(100))? {
                Some(commit) => self.take(&commit)?,
                None if self.reader.position() >= end => break,
                None => {}
            }
        }
        let Seen { open, waiting } = self.starting.take().unwrap_or_default();
        for slot in self.slots.iter().flatten() {
            *lock(&slot.session.received) = slot.received.iter().copied().collect();
        }
        for (words, due_ms) in waiting.into_values() {
            self.shared.registry.restore_will(&words, due_ms);
        }
        let open: Vec<Open> = open.into_values().collect();
        for some in open.chunks(ENDS) {
            self.cut_off(some);
        }
        self.commit()
    }

    /// Writes the end of connections that nobody saw ending.
    fn cut_off(&self, open: &[Open]) {
        let now_ms = self.shared.log.now_ms();
        let mut batch = LogBatch::new();
        for one in open {
            let row = &one.row;
            let session = self.shared.registry.by_number(row.session);
            let expiry_s = session.as_ref().map_or(0, |session| session.expiry_s());
            let will_due_ms = one.will.as_ref().and_then(|will| will.due_ms(now_ms, expiry_s));
            if let Some(will) = &one.will {
                let words = one.last_words(will);
                match will_due_ms {
                    Some(due_ms) => self.shared.registry.restore_will(&words, due_ms),
                    None => self.shared.publish_will(&words, now_ms, &mut batch),
                }
            }
            let note = Disconnected {
                connection: row.connection,
                expiry_s,
                ended: expiry_s == 0,
                had_will: one.will.is_some(),
                will_due_ms,
            };
            let about = About {
                session: row.session,
                client_id: &row.client_id,
                principal: &row.principal,
                address: &row.address,
                time_ms: now_ms,
                packet_id: 0,
            };
            let subject = Subject {
                client_id: &row.client_id,
                principal: &row.principal,
                address: &row.address,
                connection: row.connection,
            };
            subject.disconnected(Reason::ServerError, now_ms, &mut batch);
            if !fault::bug("end_without_note") {
                Note::Disconnected(note).push(about, &mut batch);
            }
            match session {
                Some(session) if expiry_s > 0 => session.fall_asleep(expiry_s, now_ms),
                // Nobody may take it up before this thread reads the note.
                Some(session) => self.shared.registry.remove(&session),
                None => {}
            }
        }
        self.shared.put_in_log(batch.into());
        fault::point("gateway.after_ends");
    }
}
