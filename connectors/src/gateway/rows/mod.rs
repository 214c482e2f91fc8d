//! What the gateway keeps on disk: connections and wills, durable sessions with their subscriptions, queues and QoS 2
//! packet ids, and retained messages; in the delivery thread's hands alone. Together with the mark of their batch they
//! are exactly what the log says up to that mark.
//!
//! # Stored form
//!
//! Every value begins with one byte, its format. Numbers in keys are big-endian (so that keys sort), in values
//! little-endian.
//!
//! | keyspace | format | key | value after the format byte |
//! |---|---|---|---|
//! | `gateway.connections` | 1 | connection u64 | open ones: session u64, since i64 ms, lengths of client id, principal and address u16 each, the three |
//! | `gateway.wills` | 1 | connection u64 | its will, as described in `will` |
//! | `gateway.waiting` | 1 | connection u64 | the will of a connection that is over waits: due i64 ms, then as in `gateway.connections` |
//! | `gateway.sessions` | 2 | session u64 | expiry u32 s, level u8, since i64 ms, client id |
//! | `gateway.subscriptions` | 2 | session u64, filter | options u8, as in the note, identifier u32 |
//! | `gateway.queues` | 2 | session u64, place u64 | QoS as granted, released × 4, retain × 64 u8; packet id u16 or 0; offset u64; time i64 ms; lengths of topic and share u16 each; count of subscription identifiers u16; length of the properties u32; identifiers u32 each; topic, share, properties, payload |
//! | `gateway.received` | 1 | session u64 | packet ids, u16 each |
//! | `gateway.retained` | 1 | topic | QoS u8, offset u64, time i64 ms, length of the properties u32, properties, payload |
//!
//! The mark is `gateway`.

use std::ops::Bound;
use std::sync::Arc;

use hedgerow_storage::table::{Batch, Keyspace, Store, StoreError};

use super::message::{Message, Queued};
use super::retained::Kept;
use super::will::Will;

mod code;
#[cfg(test)]
mod tests;

/// The mark's name.
pub const MARK: &str = "gateway";

/// The keyspaces.
pub(super) struct Rows {
    store: Store,
    connections: Keyspace,
    wills: Keyspace,
    waiting: Keyspace,
    sessions: Keyspace,
    subscriptions: Keyspace,
    queues: Keyspace,
    received: Keyspace,
    retained: Keyspace,
}

/// A connection: whose it is, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConnectionRow {
    pub connection: u64,
    pub session: u64,
    pub since_ms: i64,
    pub client_id: String,
    pub principal: String,
    pub address: String,
}

/// A connection as found at start, open or with a will that waits until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredConnection {
    pub row: ConnectionRow,
    pub will: Option<Arc<Will>>,
    pub waits_until_ms: Option<i64>,
}

/// A session row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionRow {
    pub number: u64,
    pub client_id: String,
    pub expiry_s: u32,
    pub level: u8,
    pub since_ms: i64,
}

/// A subscription of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilterRow {
    pub filter: String,
    pub options: u8,
    pub identifier: u32,
}

/// Everything about one session, as found at start; of its queue only what bounds need.
#[derive(Debug)]
pub(super) struct StoredSession {
    pub row: SessionRow,
    pub filters: Vec<FilterRow>,
    pub received: Vec<u16>,
    /// Places and sizes, ascending.
    pub queue: Vec<(u64, usize)>,
}

impl Rows {
    pub(super) fn open(store: Store) -> Result<Self, StoreError> {
        Ok(Self {
            connections: store.keyspace("gateway.connections")?,
            wills: store.keyspace("gateway.wills")?,
            waiting: store.keyspace("gateway.waiting")?,
            sessions: store.keyspace("gateway.sessions")?,
            subscriptions: store.keyspace("gateway.subscriptions")?,
            queues: store.keyspace("gateway.queues")?,
            received: store.keyspace("gateway.received")?,
            retained: store.keyspace("gateway.retained")?,
            store,
        })
    }

    pub(super) fn mark(&self) -> Option<u64> {
        self.store.mark(MARK)
    }

    pub(super) fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.store.commit(batch)
    }

    /// All connections, by number.
    pub(super) fn load_connections(&self) -> Result<Vec<StoredConnection>, StoreError> {
        let view = self.store.snapshot();
        let mut all = Vec::new();
        for (keyspace, waits) in [(&self.connections, false), (&self.waiting, true)] {
            for entry in view.prefix(keyspace, []) {
                let (key, value) = entry?;
                let (row, waits_until_ms) =
                    code::connection(&key, &value, waits).ok_or_else(|| unreadable("a connection"))?;
                let will = match view.get(&self.wills, row.connection.to_be_bytes())? {
                    Some(value) => Some(Arc::new(code::will(&value).ok_or_else(|| unreadable("a will"))?)),
                    None => None,
                };
                all.push(StoredConnection { row, will, waits_until_ms });
            }
        }
        all.sort_by_key(|stored| stored.row.connection);
        Ok(all)
    }

    /// All durable sessions, by number.
    pub(super) fn load_sessions(&self) -> Result<Vec<StoredSession>, StoreError> {
        let view = self.store.snapshot();
        let mut all = Vec::new();
        for entry in view.prefix(&self.sessions, []) {
            let (key, value) = entry?;
            let row = code::session(&key, &value).ok_or_else(|| unreadable("a session"))?;
            let prefix = row.number.to_be_bytes();
            let mut filters = Vec::new();
            for entry in view.prefix(&self.subscriptions, prefix) {
                let (key, value) = entry?;
                filters.push(code::filter(&key, &value).ok_or_else(|| unreadable("a subscription"))?);
            }
            let received = match view.get(&self.received, prefix)? {
                Some(value) => code::received(&value).ok_or_else(|| unreadable("a set of packet ids"))?,
                None => Vec::new(),
            };
            let mut queue = Vec::new();
            for entry in view.prefix(&self.queues, prefix) {
                let (key, value) = entry?;
                queue.push((code::place(&key).ok_or_else(|| unreadable("a queue"))?, value.len()));
            }
            all.push(StoredSession { row, filters, received, queue });
        }
        Ok(all)
    }

    /// All retained messages.
    pub(super) fn load_retained(&self, mut each: impl FnMut(Kept)) -> Result<(), StoreError> {
        for entry in self.store.snapshot().prefix(&self.retained, []) {
            let (key, value) = entry?;
            each(code::retained(&key, &value).ok_or_else(|| unreadable("a retained message"))?);
        }
        Ok(())
    }

    /// Messages of a session's queue with places above `after`, at most `limit` of them and not many more bytes than
    /// `bytes`; and whether there are more.
    pub(super) fn page(
        &self,
        session: u64,
        after: u64,
        limit: usize,
        bytes: usize,
    ) -> Result<(Vec<Queued>, bool), StoreError> {
        let (from, to) = (code::queue_key(session, after), code::queue_key(session, u64::MAX));
        let mut page = Vec::new();
        let mut size = 0;
        for entry in self.store.snapshot().range(&self.queues, Bound::Excluded(&from), Bound::Included(&to)) {
            if page.len() >= limit || size >= bytes {
                return Ok((page, true));
            }
            let (key, value) = entry?;
            size += value.len();
            page.push(code::queued(&key, &value).ok_or_else(|| unreadable("a message in a queue"))?);
        }
        Ok((page, false))
    }

    /// A connection is there.
    pub(super) fn put_connection(&self, batch: &mut Batch, row: &ConnectionRow, will: Option<&Will>) {
        batch.put(&self.connections, row.connection.to_be_bytes(), code::encode_connection(row, None));
        if let Some(will) = will {
            batch.put(&self.wills, row.connection.to_be_bytes(), code::encode_will(will));
        }
    }

    /// It is over.
    pub(super) fn delete_connection(&self, batch: &mut Batch, connection: u64) {
        batch.delete(&self.connections, connection.to_be_bytes());
    }

    /// Its will waits; `row.since_ms` is of no use any more.
    pub(super) fn put_waiting(&self, batch: &mut Batch, row: &ConnectionRow, due_ms: i64) {
        batch.put(&self.waiting, row.connection.to_be_bytes(), code::encode_connection(row, Some(due_ms)));
    }

    /// Its will is published or void.
    pub(super) fn delete_will(&self, batch: &mut Batch, connection: u64, waited: bool) {
        batch.delete(&self.wills, connection.to_be_bytes());
        if waited {
            batch.delete(&self.waiting, connection.to_be_bytes());
        }
    }

    pub(super) fn put_session(&self, batch: &mut Batch, row: &SessionRow) {
        batch.put(&self.sessions, row.number.to_be_bytes(), code::encode_session(row));
    }

    pub(super) fn delete_session(&self, batch: &mut Batch, session: u64) {
        batch.delete(&self.sessions, session.to_be_bytes());
        batch.delete(&self.received, session.to_be_bytes());
    }

    pub(super) fn put_filter(&self, batch: &mut Batch, session: u64, filter: &str, options: u8, identifier: u32) {
        batch.put(&self.subscriptions, code::filter_key(session, filter), code::encode_filter(options, identifier));
    }

    pub(super) fn delete_filter(&self, batch: &mut Batch, session: u64, filter: &str) {
        batch.delete(&self.subscriptions, code::filter_key(session, filter));
    }

    pub(super) fn put_received(&self, batch: &mut Batch, session: u64, ids: impl Iterator<Item = u16>) {
        match code::encode_received(ids) {
            Some(value) => batch.put(&self.received, session.to_be_bytes(), value),
            None => batch.delete(&self.received, session.to_be_bytes()),
        }
    }

    /// Returns the size as counted against the session's bounds.
    pub(super) fn put_queued(&self, batch: &mut Batch, session: u64, queued: &Queued) -> usize {
        let value = code::encode_queued(queued);
        let size = value.len();
        batch.put(&self.queues, code::queue_key(session, queued.place), value);
        size
    }

    pub(super) fn delete_queued(&self, batch: &mut Batch, session: u64, place: u64) {
        batch.delete(&self.queues, code::queue_key(session, place));
    }

    pub(super) fn put_retained(&self, batch: &mut Batch, message: &Message, qos: u8) {
        batch.put(&self.retained, message.topic().as_bytes(), code::encode_retained(message, qos));
    }

    pub(super) fn delete_retained(&self, batch: &mut Batch, topic: &str) {
        batch.delete(&self.retained, topic.as_bytes());
    }
}

fn unreadable(what: &str) -> StoreError {
    StoreError::Unreadable { what: format!("{what} of the gateway") }
}
