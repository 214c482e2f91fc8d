//! What the gateway keeps on disk: durable sessions, their subscriptions, queues and QoS 2 packet ids, in the delivery
//! thread's hands alone. Together with the mark of their batch they are exactly what the log says up to that mark.
//!
//! # Stored form, format 1
//!
//! Every value begins with one byte 1, the format. Numbers in keys are big-endian (so that keys sort), in values
//! little-endian.
//!
//! | keyspace | key | value after the format byte |
//! |---|---|---|
//! | `gateway.sessions` | session u64 | expiry u32 s, level u8, connected u8, since i64 ms, client id |
//! | `gateway.subscriptions` | session u64, filter | options u8, as in the note |
//! | `gateway.queues` | session u64, offset u64 | QoS as granted and retain × 64 u8, packet id u16 or 0, time i64 ms, topic length u16, properties length u32, topic, properties, payload |
//! | `gateway.received` | session u64 | packet ids, u16 each |
//!
//! The mark is `gateway`.

use std::ops::Bound;
use std::sync::Arc;

use hedgerow_storage::table::{Batch, Keyspace, Store, StoreError};

use super::message::{Message, Queued};

const FORMAT: u8 = 1;

/// The mark's name.
pub const MARK: &str = "gateway";

/// The four keyspaces.
pub(super) struct Rows {
    store: Store,
    sessions: Keyspace,
    subscriptions: Keyspace,
    queues: Keyspace,
    received: Keyspace,
}

/// A session row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionRow {
    pub number: u64,
    pub client_id: String,
    pub expiry_s: u32,
    pub level: u8,
    pub connected: bool,
    pub since_ms: i64,
}

/// Everything about one session, as found at start; of its queue only what bounds need.
#[derive(Debug)]
pub(super) struct Stored {
    pub row: SessionRow,
    pub filters: Vec<(String, u8)>,
    pub received: Vec<u16>,
    /// Offsets and sizes, ascending.
    pub queue: Vec<(u64, usize)>,
}

impl Rows {
    pub(super) fn open(store: Store) -> Result<Self, StoreError> {
        Ok(Self {
            sessions: store.keyspace("gateway.sessions")?,
            subscriptions: store.keyspace("gateway.subscriptions")?,
            queues: store.keyspace("gateway.queues")?,
            received: store.keyspace("gateway.received")?,
            store,
        })
    }

    pub(super) fn mark(&self) -> Option<u64> {
        self.store.mark(MARK)
    }

    pub(super) fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.store.commit(batch)
    }

    /// All durable sessions, by number.
    pub(super) fn load(&self) -> Result<Vec<Stored>, StoreError> {
        let view = self.store.snapshot();
        let mut all = Vec::new();
        for entry in view.prefix(&self.sessions, []) {
            let (key, value) = entry?;
            let row = decode_session(&key, &value).ok_or_else(|| unreadable("a session of the gateway"))?;
            let prefix = row.number.to_be_bytes();
            let mut filters = Vec::new();
            for entry in view.prefix(&self.subscriptions, prefix) {
                let (key, value) = entry?;
                filters.push(decode_filter(&key, &value).ok_or_else(|| unreadable("a subscription"))?);
            }
            let received = match view.get(&self.received, prefix)? {
                Some(value) => decode_received(&value).ok_or_else(|| unreadable("a set of packet ids"))?,
                None => Vec::new(),
            };
            let mut queue = Vec::new();
            for entry in view.prefix(&self.queues, prefix) {
                let (key, value) = entry?;
                queue.push((decode_offset(&key).ok_or_else(|| unreadable("a queue"))?, value.len()));
            }
            all.push(Stored { row, filters, received, queue });
        }
        Ok(all)
    }

    /// Messages of a session's queue with offsets above `after`, at most `limit` of them and not many more bytes than
    /// `bytes`; and whether there are more.
    pub(super) fn page(
        &self,
        session: u64,
        after: u64,
        limit: usize,
        bytes: usize,
    ) -> Result<(Vec<Queued>, bool), StoreError> {
        let (from, to) = (queue_key(session, after), queue_key(session, u64::MAX));
        let mut page = Vec::new();
        let mut size = 0;
        for entry in self.store.snapshot().range(&self.queues, Bound::Excluded(&from), Bound::Included(&to)) {
            if page.len() >= limit || size >= bytes {
                return Ok((page, true));
            }
            let (key, value) = entry?;
            size += value.len();
            page.push(decode_queued(&key, &value).ok_or_else(|| unreadable("a message in a queue"))?);
        }
        Ok((page, false))
    }

    pub(super) fn put_session(&self, batch: &mut Batch, row: &SessionRow) {
        let mut value = vec![FORMAT];
        value.extend_from_slice(&row.expiry_s.to_le_bytes());
        value.extend_from_slice(&[row.level, u8::from(row.connected)]);
        value.extend_from_slice(&row.since_ms.to_le_bytes());
        value.extend_from_slice(row.client_id.as_bytes());
        batch.put(&self.sessions, row.number.to_be_bytes(), value);
    }

    pub(super) fn delete_session(&self, batch: &mut Batch, session: u64) {
        batch.delete(&self.sessions, session.to_be_bytes());
        batch.delete(&self.received, session.to_be_bytes());
    }

    pub(super) fn put_filter(&self, batch: &mut Batch, session: u64, filter: &str, options: u8) {
        batch.put(&self.subscriptions, filter_key(session, filter), [FORMAT, options]);
    }

    pub(super) fn delete_filter(&self, batch: &mut Batch, session: u64, filter: &str) {
        batch.delete(&self.subscriptions, filter_key(session, filter));
    }

    pub(super) fn put_received(&self, batch: &mut Batch, session: u64, ids: impl Iterator<Item = u16>) {
        let mut value = vec![FORMAT];
        ids.for_each(|id| value.extend_from_slice(&id.to_le_bytes()));
        if value.len() == 1 {
            batch.delete(&self.received, session.to_be_bytes());
        } else {
            batch.put(&self.received, session.to_be_bytes(), value);
        }
    }

    /// Returns the size as counted against the session's bounds.
    pub(super) fn put_queued(&self, batch: &mut Batch, session: u64, queued: &Queued) -> usize {
        let value = encode_queued(queued);
        let size = value.len();
        batch.put(&self.queues, queue_key(session, queued.message.offset), value);
        size
    }

    pub(super) fn delete_queued(&self, batch: &mut Batch, session: u64, offset: u64) {
        batch.delete(&self.queues, queue_key(session, offset));
    }
}

fn unreadable(what: &str) -> StoreError {
    StoreError::Unreadable { what: what.to_owned() }
}

fn queue_key(session: u64, offset: u64) -> [u8; 16] {
    (u128::from(session) << 64 | u128::from(offset)).to_be_bytes()
}

fn filter_key(session: u64, filter: &str) -> Vec<u8> {
    [&session.to_be_bytes(), filter.as_bytes()].concat()
}

/// The value behind its format byte, if that is this version's.
fn known(value: &[u8]) -> Option<&[u8]> {
    value.split_first().filter(|(format, _)| **format == FORMAT).map(|(_, rest)| rest)
}

fn decode_session(key: &[u8], value: &[u8]) -> Option<SessionRow> {
    let (expiry, rest) = known(value)?.split_first_chunk()?;
    let ([level, connected], rest) = rest.split_first_chunk()?;
    let (since, client_id) = rest.split_first_chunk()?;
    Some(SessionRow {
        number: u64::from_be_bytes(key.try_into().ok()?),
        client_id: std::str::from_utf8(client_id).ok()?.to_owned(),
        expiry_s: u32::from_le_bytes(*expiry),
        level: *level,
        connected: *connected != 0,
        since_ms: i64::from_le_bytes(*since),
    })
}

fn decode_filter(key: &[u8], value: &[u8]) -> Option<(String, u8)> {
    let filter = std::str::from_utf8(key.get(8..)?).ok()?;
    Some((filter.to_owned(), *known(value)?.first()?))
}

fn decode_received(value: &[u8]) -> Option<Vec<u16>> {
    let (ids, rest) = known(value)?.as_chunks::<2>();
    rest.is_empty().then(|| ids.iter().map(|id| u16::from_le_bytes(*id)).collect())
}

fn decode_offset(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(8..)?.try_into().ok()?))
}

fn encode_queued(queued: &Queued) -> Vec<u8> {
    let message = &queued.message;
    let (topic, properties, payload) = (message.topic(), message.properties(), message.payload());
    let mut value = Vec::with_capacity(18 + topic.len() + properties.len() + payload.len());
    value.extend_from_slice(&[FORMAT, queued.qos | u8::from(queued.retain) << 6]);
    value.extend_from_slice(&queued.packet_id.to_le_bytes());
    value.extend_from_slice(&message.time_ms.to_le_bytes());
    value.extend_from_slice(&(topic.len() as u16).to_le_bytes());
    value.extend_from_slice(&(properties.len() as u32).to_le_bytes());
    value.extend_from_slice(topic.as_bytes());
    value.extend_from_slice(properties);
    value.extend_from_slice(payload);
    value
}

fn decode_queued(key: &[u8], value: &[u8]) -> Option<Queued> {
    let (&flags, rest) = known(value)?.split_first()?;
    let (packet_id, rest) = rest.split_first_chunk()?;
    let (time_ms, rest) = rest.split_first_chunk()?;
    let (topic_len, rest) = rest.split_first_chunk()?;
    let (properties_len, rest) = rest.split_first_chunk()?;
    let (topic, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*topic_len)))?;
    let (properties, payload) = rest.split_at_checked(u32::from_le_bytes(*properties_len) as usize)?;
    let topic = std::str::from_utf8(topic).ok()?;
    let message = Message::new(decode_offset(key)?, i64::from_le_bytes(*time_ms), topic, properties, payload);
    Some(Queued {
        message: Arc::new(message),
        qos: flags & 3,
        retain: flags & 64 != 0,
        stored: true,
        packet_id: u16::from_le_bytes(*packet_id),
    })
}

#[cfg(test)]
mod tests {
    use hedgerow_storage::table::StoreConfig;

    use super::*;

    #[test]
    fn what_is_stored_is_loaded_and_unknown_formats_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreConfig::default()).unwrap();
        let rows = Rows::open(store.clone()).unwrap();
        let row =
            SessionRow { number: 7, client_id: "é".to_owned(), expiry_s: 60, level: 5, connected: true, since_ms: -1 };
        let queued = |offset: u64, packet_id| Queued {
            message: Arc::new(Message::new(offset, 5, "a/b", &[1, 1], b"payload")),
            qos: 1,
            retain: true,
            stored: true,
            packet_id,
        };
        let mut batch = Batch::new();
        rows.put_session(&mut batch, &row);
        rows.put_session(&mut batch, &SessionRow { number: 8, client_id: "d".to_owned(), ..row.clone() });
        rows.put_filter(&mut batch, 7, "a/#", 0x0D);
        rows.put_received(&mut batch, 7, [1, 65_535].into_iter());
        for offset in [3, 256, 70_000] {
            rows.put_queued(&mut batch, 7, &queued(offset, 9));
        }
        rows.put_queued(&mut batch, 8, &queued(1, 0));
        batch.mark(MARK, 11);
        rows.commit(batch).unwrap();

        let loaded = rows.load().unwrap();
        assert_eq!(rows.mark(), Some(11));
        assert_eq!((loaded.len(), &loaded[0].row), (2, &row));
        assert_eq!(loaded[0].filters, [("a/#".to_owned(), 0x0D)]);
        assert_eq!(loaded[0].received, [1, 65_535]);
        assert_eq!(loaded[0].queue.iter().map(|entry| entry.0).collect::<Vec<_>>(), [3, 256, 70_000]);
        let (page, more) = rows.page(7, 3, 1, 1000).unwrap();
        assert!(more && page[0].packet_id == 9 && page[0].retain && page[0].message == queued(256, 9).message);
        let (page, more) = rows.page(7, 3, 10, usize::MAX).unwrap();
        assert!(!more && page.len() == 2);

        let mut batch = Batch::new();
        batch.put(&rows.sessions, 9u64.to_be_bytes(), [2u8, 0]);
        rows.commit(batch).unwrap();
        assert!(matches!(rows.load(), Err(StoreError::Unreadable { .. })));
    }
}
