//! All queues, and what comes into them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::counts::{Before, Counts};
use super::form::{HandedOut, MAX_ID, Place, due_from, encode_message, first_visible, unreadable};
use crate::fault;
use crate::outbox::{Accepted, Entry, Outbox, Overflow, Position, QueueLimits, destination, prefix};
use crate::table::{Batch, Keyspace, Snapshot, Store, StoreError};

/// How a queue treats its messages. Times are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// A message is invisible for so long at first.
    pub delay_ms: u64,
    /// A message that was handed out is invisible for so long, unless its receiver wants otherwise.
    pub visibility_ms: u64,
    /// A message that was handed out so often is not handed out again.
    pub max_receives: Option<u32>,
    /// Where it goes instead. Without, to the dead letters.
    pub dead_letter_queue: Option<Arc<str>>,
    /// A message is removed so long after it came.
    pub retention_ms: u64,
    /// Messages handed out and not back yet, at most.
    pub max_in_flight: u64,
    /// How much is kept.
    pub limits: QueueLimits,
}

/// A message that comes from no rule.
#[derive(Clone, Debug, Default)]
pub struct NewMessage {
    /// Nobody else's id.
    pub id: String,
    /// What it says.
    pub body: Vec<u8>,
    /// Invisible for so long, instead of the queue's delay.
    pub delay_ms: Option<u64>,
}

/// Why messages were not sent. None of them was.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no room.
    #[error("{bytes} bytes wait in queue {queue} already (max_backlog)")]
    Full {
        /// The queue.
        queue: Arc<str>,
        /// Bytes in it.
        bytes: u64,
    },
    /// An id has no room in a key.
    #[error("an id of {0} bytes is too long")]
    Id(usize),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a queue is. Counts of what happened are since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// Its name.
    pub name: String,
    /// Messages that would be handed out.
    pub visible: u64,
    /// Handed out, and neither deleted nor back.
    pub in_flight: u64,
    /// Not visible yet.
    pub delayed: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// When the oldest came, milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// Messages that came.
    pub sent: u64,
    /// Messages handed out.
    pub received: u64,
    /// Messages deleted by their receipt.
    pub deleted: u64,
    /// Messages that were handed out too often.
    pub dead: u64,
    /// Messages removed for their age.
    pub expired: u64,
    /// Messages purged.
    pub purged: u64,
}

/// All queues of an instance. Clones share them.
#[derive(Clone)]
pub struct Queues(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub outbox: Outbox,
    pub messages: Keyspace,
    pub due: Keyspace,
    pub handed: Keyspace,
    /// Held by whoever changes queues, from reading to having written.
    turn: Mutex<()>,
    queues: Mutex<BTreeMap<Arc<str>, Arc<Inner>>>,
    /// Tells apart what is sent in the same millisecond.
    sent: AtomicU64,
}

/// One queue. Clones share it.
#[derive(Clone)]
pub struct MessageQueue {
    pub(super) shared: Arc<Shared>,
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    name: Arc<str>,
    mark: String,
    /// `None` while there is no sink of that name.
    settings: RwLock<Option<Arc<QueueSettings>>>,
    order: Mutex<Order>,
    pub totals: Totals,
}

/// What is known of the keys of a queue.
pub(super) struct Order {
    pub counts: Counts,
    /// No key of `queue.due` lies below.
    pub due_head: Vec<u8>,
    /// No key of `queue.messages` lies below.
    pub message_head: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Totals {
    pub sent: AtomicU64,
    pub received: AtomicU64,
    pub deleted: AtomicU64,
    pub dead: AtomicU64,
    pub expired: AtomicU64,
    pub purged: AtomicU64,
}

/// A change of queues that is not committed yet: the batch, and what it does to the counts.
#[derive(Default)]
pub(super) struct Change {
    pub batch: Batch,
    effects: Vec<(MessageQueue, Effect)>,
}

enum Effect {
    /// A message came.
    Put { place: Place, bytes: u64, visible_ms: u64 },
    /// A message is gone.
    Gone { bytes: u64, visible_ms: u64, before: Before },
    /// A message is visible at another time.
    Moved { place: Place, from_ms: u64, before: Before, to_ms: u64 },
}

impl Queues {
    /// Opens the queues in the store of an outbox. Reads all keys once, to count them.
    ///
    /// # Errors
    /// When the store cannot be read, or holds what another version wrote.
    pub fn open(outbox: &Outbox) -> Result<Self, StoreError> {
        let store = outbox.store();
        let queues = Self(Arc::new(Shared {
            messages: store.keyspace("queue.messages")?,
            due: store.keyspace("queue.due")?,
            handed: store.keyspace("queue.handed")?,
            outbox: outbox.clone(),
            turn: Mutex::default(),
            queues: Mutex::default(),
            sent: AtomicU64::new(0),
        }));
        let view = store.snapshot();
        let name = |key: &[u8]| {
            destination(key).map(|(name, _)| name.to_owned()).ok_or_else(|| unreadable("a key of the queues"))
        };
        for item in view.prefix(&queues.0.messages, []) {
            let (key, value) = item?;
            first_visible(&value)?;
            let queue = queues.queue(&name(&key)?);
            let counts = &mut queue.order().counts;
            counts.messages += 1;
            counts.bytes += (key.len() + value.len()) as u64;
        }
        for item in view.prefix(&queues.0.due, []) {
            let (key, value) = item?;
            let queue = queues.queue(&name(&key)?);
            let (visible_ms, _) =
                Place::in_due_key(queue.name(), &key).ok_or_else(|| unreadable("a key of the queues"))?;
            queue.order().counts.later(visible_ms, before(&value));
        }
        Ok(queues)
    }

    /// The queue of this name, which may be empty, and may not be open.
    pub fn queue(&self, name: &str) -> MessageQueue {
        let mut queues = lock(&self.0.queues);
        let new = || {
            let counts = Counts::default();
            Arc::new(Inner {
                name: name.into(),
                mark: format!("queue/{name}"),
                settings: RwLock::default(),
                order: Mutex::new(Order { counts, due_head: prefix(name), message_head: prefix(name) }),
                totals: Totals::default(),
            })
        };
        let inner = queues.entry(name.into()).or_insert_with(new).clone();
        MessageQueue { shared: Arc::clone(&self.0), inner }
    }

    /// The queue of this name if it is open.
    pub fn open_queue(&self, name: &str) -> Option<MessageQueue> {
        let inner = lock(&self.0.queues).get(name).cloned()?;
        let queue = MessageQueue { shared: Arc::clone(&self.0), inner };
        queue.settings().map(|_| queue)
    }

    /// All that are open, or have messages.
    pub fn all(&self) -> Vec<MessageQueue> {
        let queues = lock(&self.0.queues);
        let queues =
            queues.values().map(|inner| MessageQueue { shared: Arc::clone(&self.0), inner: Arc::clone(inner) });
        queues.filter(|queue| queue.settings().is_some() || !queue.is_empty()).collect()
    }
}

impl Shared {
    pub fn store(&self) -> &Store {
        self.outbox.store()
    }

    pub fn turn(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
    }

    /// A position for what comes from no rule.
    pub fn position(&self, now_ms: u64) -> Position {
        let offset = self.sent.fetch_add(1, Ordering::Relaxed);
        Position { epoch: now_ms.saturating_mul(1_000), record: true, offset }
    }

    /// Commits a change, and counts it.
    pub fn commit(&self, change: Change) -> Result<(), StoreError> {
        self.store().commit(change.batch)?;
        count(change.effects);
        Ok(())
    }
}

fn count(effects: Vec<(MessageQueue, Effect)>) {
    for (queue, effect) in effects {
        let name = queue.name();
        let mut order = queue.order();
        match effect {
            Effect::Put { place, bytes, visible_ms } => {
                order.counts.messages += 1;
                order.counts.bytes += bytes;
                order.counts.later(visible_ms, Before::Never);
                lower(&mut order.due_head, place.due_key(name, visible_ms));
                lower(&mut order.message_head, place.message_key(name));
            }
            Effect::Gone { bytes, visible_ms, before } => {
                order.counts.messages = order.counts.messages.saturating_sub(1);
                order.counts.bytes = order.counts.bytes.saturating_sub(bytes);
                order.counts.no_longer(visible_ms, before);
            }
            Effect::Moved { place, from_ms, before, to_ms } => {
                order.counts.no_longer(from_ms, before);
                order.counts.later(to_ms, Before::HandedOut);
                lower(&mut order.due_head, place.due_key(name, to_ms));
            }
        }
    }
}

fn lower(head: &mut Vec<u8>, key: Vec<u8>) {
    if key < *head {
        *head = key;
    }
}

impl Change {
    /// Puts a message into a queue.
    pub fn put(&mut self, queue: &MessageQueue, position: Position, entry: &Entry, visible_ms: u64) -> u64 {
        let shared = &queue.shared;
        let place = Place::of(position, &entry.id);
        let (key, value) = (place.message_key(queue.name()), encode_message(visible_ms, entry));
        let bytes = (key.len() + value.len()) as u64;
        self.batch.put(&shared.messages, key, value);
        self.batch.put(&shared.due, place.due_key(queue.name(), visible_ms), [0]);
        self.effects.push((queue.clone(), Effect::Put { place, bytes, visible_ms }));
        bytes
    }

    /// Removes a message whose stored value is `value`.
    pub fn remove(
        &mut self,
        queue: &MessageQueue,
        place: &Place,
        value: &[u8],
        handed: Option<&HandedOut>,
    ) -> Result<(), StoreError> {
        let shared = &queue.shared;
        let key = place.message_key(queue.name());
        let bytes = (key.len() + value.len()) as u64;
        let (visible_ms, before) = match handed {
            Some(handed) => (handed.visible_ms, Before::HandedOut),
            None => (first_visible(value)?.0, Before::Never),
        };
        self.batch.delete(&shared.due, place.due_key(queue.name(), visible_ms));
        if handed.is_some() {
            self.batch.delete(&shared.handed, key.clone());
        }
        self.batch.delete(&shared.messages, key);
        self.effects.push((queue.clone(), Effect::Gone { bytes, visible_ms, before }));
        Ok(())
    }

    /// A message is handed out, or visible at another time.
    pub fn hand_out(&mut self, queue: &MessageQueue, place: &Place, from: (u64, Before), handed: &HandedOut) {
        let shared = &queue.shared;
        let (from_ms, before) = from;
        self.batch.delete(&shared.due, place.due_key(queue.name(), from_ms));
        self.batch.put(&shared.due, place.due_key(queue.name(), handed.visible_ms), [1]);
        self.batch.put(&shared.handed, place.message_key(queue.name()), handed.encode());
        let moved = Effect::Moved { place: place.clone(), from_ms, before, to_ms: handed.visible_ms };
        self.effects.push((queue.clone(), moved));
    }
}

impl MessageQueue {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.inner.name
    }

    /// How it treats its messages; `None` while there is no sink of that name.
    pub fn settings(&self) -> Option<Arc<QueueSettings>> {
        self.inner.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// There is a sink of that name, or none any more.
    pub fn set(&self, settings: Option<QueueSettings>) {
        *self.inner.settings.write().unwrap_or_else(PoisonError::into_inner) = settings.map(Arc::new);
    }

    /// Whether it has no messages.
    pub fn is_empty(&self) -> bool {
        self.order().counts.messages == 0
    }

    /// Bytes of its messages.
    pub fn bytes(&self) -> u64 {
        self.order().counts.bytes
    }

    /// How far its sink has come in the log, as readers of the store see it.
    pub fn mark(&self) -> Option<u64> {
        self.shared.store().mark(&self.inner.mark)
    }

    /// How far it has come durably.
    pub fn synced_mark(&self) -> Option<u64> {
        self.shared.store().synced_mark(&self.inner.mark)
    }

    /// Makes everything of the store durable that was written before this call.
    ///
    /// # Errors
    /// When the store fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.shared.store().sync()
    }

    /// Takes rows together with the mark `up_to`: all of it is there after a crash, or nothing. The delay of each is
    /// counted from its own epoch. What `refused` holds, and what there is no room for, goes where the outbox puts it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn accept(
        &self,
        up_to: u64,
        entries: &[Entry],
        refused: &[(Entry, String)],
        now_ms: i64,
    ) -> Result<Accepted, StoreError> {
        let Some(settings) = self.settings() else { return Ok(Accepted::Full) };
        let shared = &self.shared;
        let _turn = shared.turn();
        let (before, limits) = (self.bytes(), settings.limits);
        if limits.overflow == Overflow::Block && before >= limits.max_bytes && !entries.is_empty() {
            return Ok(Accepted::Full);
        }
        let mut change = Change::default();
        let (mut queued, mut bytes) = (0, 0);
        let mut refused: Vec<(&Entry, String)> =
            refused.iter().map(|(entry, reason)| (entry, reason.clone())).collect();
        for entry in entries {
            if before + bytes >= limits.max_bytes && limits.overflow == Overflow::DeadLetter {
                let reason = format!("{} bytes wait in this queue already (max_backlog)", before + bytes);
                refused.push((entry, reason));
                continue;
            }
            let arrived_ms = entry.position.epoch.div_ceil(1_000);
            // The payload was kept for the case that the row does not arrive, and it has.
            let arrived = Entry { original: None, ..entry.clone() };
            bytes += change.put(self, entry.position, &arrived, arrived_ms.saturating_add(settings.delay_ms));
            queued += 1;
        }
        let mut batch = change.batch;
        if !fault::bug("queue_without_mark") {
            batch.mark(&self.inner.mark, up_to);
        }
        shared.outbox.commit(batch, &refused, self.name(), now_ms)?;
        count(change.effects);
        self.inner.totals.sent.fetch_add(queued, Ordering::Relaxed);
        fault::point("queue.after_accept");
        Ok(Accepted::Taken { queued, dead: refused.len() as u64 })
    }

    /// Takes messages from elsewhere: all, or none.
    ///
    /// # Errors
    /// When there is no room, or the store fails.
    pub fn send(&self, messages: &[NewMessage], now_ms: i64) -> Result<(), SendError> {
        let now = millis(now_ms);
        let (limit, delay) = self.settings().map_or((0, 0), |own| (own.limits.max_bytes, own.delay_ms));
        let shared = &self.shared;
        let _turn = shared.turn();
        let bytes = self.bytes();
        let coming: usize = messages.iter().map(|message| message.body.len()).sum();
        if bytes > 0 && bytes.saturating_add(coming as u64) > limit {
            return Err(SendError::Full { queue: Arc::clone(self.name()), bytes });
        }
        let mut change = Change::default();
        for message in messages {
            if message.id.len() > MAX_ID {
                return Err(SendError::Id(message.id.len()));
            }
            let position = shared.position(now);
            let (id, body) = (message.id.clone(), message.body.clone());
            let entry = Entry { id, position, time_ms: now_ms, body, ..Entry::default() };
            change.put(self, position, &entry, now.saturating_add(message.delay_ms.unwrap_or(delay)));
        }
        shared.commit(change)?;
        self.inner.totals.sent.fetch_add(messages.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// When the next message is visible; `None` if there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn next_due_ms(&self) -> Result<Option<u64>, StoreError> {
        use std::ops::Bound;
        let head = self.order().due_head.clone();
        let view = self.shared.store().snapshot();
        let first = view.range(&self.shared.due, Bound::Included(&head), Bound::Unbounded).next().transpose()?;
        Ok(first.and_then(|(key, _)| Place::in_due_key(self.name(), &key)).map(|(visible_ms, _)| visible_ms))
    }

    /// How it is at this time.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn status(&self, now_ms: i64) -> Result<QueueStatus, StoreError> {
        use std::ops::Bound;
        let shared = &self.shared;
        let (head, bytes, (visible, in_flight, delayed)) = {
            let mut order = self.order();
            (order.message_head.clone(), order.counts.bytes, order.counts.now(millis(now_ms)))
        };
        let first = shared.store().snapshot().range(&shared.messages, Bound::Included(&head), Bound::Unbounded).next();
        let oldest = first.transpose()?.and_then(|(key, _)| Place::in_message_key(self.name(), &key));
        let total = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let totals = &self.inner.totals;
        Ok(QueueStatus {
            name: self.name().to_string(),
            visible,
            in_flight,
            delayed,
            bytes,
            oldest_ms: oldest.map(|place| place.arrived_ms()),
            sent: total(&totals.sent),
            received: total(&totals.received),
            deleted: total(&totals.deleted),
            dead: total(&totals.dead),
            expired: total(&totals.expired),
            purged: total(&totals.purged),
        })
    }

    pub(super) fn order(&self) -> MutexGuard<'_, Order> {
        lock(&self.inner.order)
    }

    pub(super) fn handed_out(&self, view: &Snapshot, place: &Place) -> Result<Option<HandedOut>, StoreError> {
        let stored = view.get(&self.shared.handed, place.message_key(self.name()))?;
        stored.map(|bytes| HandedOut::decode(&bytes)).transpose()
    }

    /// The first key of `queue.due` that is not due at this time.
    pub(super) fn due_end(&self, now_ms: u64) -> Vec<u8> {
        due_from(self.name(), now_ms.saturating_add(1))
    }
}

/// What a value of `queue.due` says.
pub(super) fn before(value: &[u8]) -> Before {
    if value.first() == Some(&1) { Before::HandedOut } else { Before::Never }
}

pub(super) fn millis(now_ms: i64) -> u64 {
    u64::try_from(now_ms).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
