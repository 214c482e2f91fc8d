//! From the log to subscribers: one thread that reads every commit in order, with a mark of its own.
//!
//! It alone knows the subscriptions and writes the gateway's rows. Notes are applied where they stand among the
//! messages, so a subscription matches exactly what was logged after it, also when the log is read again. The mark and
//! everything that follows from the log up to it are one batch. It never waits for a subscriber: a commit's messages
//! are handed over under one lock a session, and what does not fit goes to disk or is dropped and counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::{AHashMap, AHashSet};
use crossbeam_channel::Receiver;
use hedgerow_sql::topic::TopicFilter;
use hedgerow_storage::log::{Batch as LogBatch, Class, Commit, Epoch, ReadError, Reader, Record, RecordKind};
use hedgerow_storage::table::{Batch, StoreError};

use super::Shared;
use super::message::{Message, Queued};
use super::notes::{About, Note, UnknownNote};
use super::outbox::QueueLimits;
use super::publish::is_for_one_rule;
use super::rows::{MARK, Rows, SessionRow};
use super::session::{Restored, Session, lock};
use super::slot::{Desk, Limits, Slot};
use super::subscriptions::Subscriptions;

/// How long the thread waits for a commit before it looks at its orders.
const PATIENCE: Duration = Duration::from_millis(10);
/// A batch for the disk is committed at this size, whatever the time.
const BATCH_BYTES: usize = 4 << 20;

/// What connections tell the delivery thread. Each session has at most a few on the way, so the channel is bounded by
/// their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// A connection took up a durable session.
    Attached(u64),
    /// Its connection ended.
    Detached(u64),
    /// The queue in memory runs low, and there is more on disk.
    More(u64),
    /// Messages that are on disk were acknowledged.
    Acknowledged(u64),
    /// A session that was not durable ended.
    Ended(u64),
    /// Commit, and stop.
    Stop,
}

/// Why delivery stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Note(#[from] UnknownNote),
}

pub(super) struct Delivery {
    shared: Arc<Shared>,
    reader: Reader,
    rows: Rows,
    orders: Receiver<Order>,
    subscriptions: Subscriptions,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    by_number: AHashMap<u64, usize>,
    /// Slots with messages staged from the commit at hand.
    touched: Vec<usize>,
    /// Durable slots to look at before the next batch is committed.
    unsettled: AHashSet<usize>,
    batch: Batch,
    limits: Limits,
    /// Commits read up to here, and the mark up to there.
    position: Epoch,
    marked: Epoch,
    /// Until everyone may connect: sessions whose connection the log saw opened and not closed. After that, what
    /// connections did is known at first hand, and notes about it are old news.
    starting: Option<AHashSet<u64>>,
}

impl Delivery {
    /// Takes up where the mark stands.
    pub(super) fn new(shared: Arc<Shared>, rows: Rows, orders: Receiver<Order>) -> Result<Self, DeliveryError> {
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
            slots: Vec::new(),
            free: Vec::new(),
            by_number: AHashMap::new(),
            touched: Vec::new(),
            unsettled: AHashSet::new(),
            batch: Batch::new(),
            limits,
            position: from,
            marked: marked.unwrap_or_default(),
            starting: Some(AHashSet::new()),
        };
        delivery.load()?;
        Ok(delivery)
    }

    fn load(&mut self) -> Result<(), DeliveryError> {
        for stored in self.rows.load()? {
            let row = &stored.row;
            let (session, older) = self.shared.registry.restore(&Restored {
                number: row.number,
                client_id: &row.client_id,
                expiry_s: row.expiry_s,
                level: row.level,
                since_ms: row.since_ms,
            });
            if row.connected
                && let Some(open) = &mut self.starting
            {
                open.insert(row.number);
            }
            let at = self.place(session, true);
            for (filter, options) in &stored.filters {
                self.subscribe(at, filter, *options);
            }
            if let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut) {
                slot.restore(stored.queue, stored.received);
            }
            if let Some(older) = older {
                self.end(older.number);
            }
        }
        Ok(())
    }

    /// Reads what the log held at the start, before anyone connects; then every session is asleep.
    pub(super) fn catch_up(&mut self) -> Result<(), DeliveryError> {
        let end = self.shared.log.last_epoch();
        while self.position < end {
            match self.reader.next(Duration::from_millis(100))? {
                Some(commit) => self.take(&commit)?,
                None if self.reader.position() >= end => break,
                None => {}
            }
        }
        let now_ms = self.shared.log.now_ms();
        let open = self.starting.take().unwrap_or_default();
        for slot in self.slots.iter().flatten() {
            *lock(&slot.session.received) = slot.received.iter().copied().collect();
            if open.contains(&slot.session.number) {
                slot.session.fall_asleep(now_ms);
            }
        }
        self.commit()
    }

    /// The thread.
    pub(super) fn run(mut self) -> Result<(), DeliveryError> {
        let config = &self.shared.config;
        let commit_every = Duration::from_millis(config.delivery_commit_ms.max(1));
        let (mut last_commit, mut last_sweep) = (Instant::now(), Instant::now());
        loop {
            match self.reader.next(PATIENCE) {
                Ok(Some(commit)) => self.take(&commit)?,
                Ok(None) => {}
                Err(ReadError::Closed) => return self.commit(),
                Err(error) => return Err(error.into()),
            }
            if self.obey()? {
                return self.commit();
            }
            if last_commit.elapsed() >= commit_every || self.batch.bytes() >= BATCH_BYTES {
                self.commit()?;
                last_commit = Instant::now();
            }
            if last_sweep.elapsed() >= Duration::from_secs(1) {
                self.sweep();
                last_sweep = Instant::now();
            }
        }
    }

    fn take(&mut self, commit: &Commit) -> Result<(), DeliveryError> {
        for record in commit.records() {
            match record.kind {
                RecordKind::Message => self.fan_out(&record),
                RecordKind::Session => self.apply(&record)?,
                _ => {}
            }
        }
        self.hand_over();
        self.position = commit.epoch;
        Ok(())
    }

    fn fan_out(&mut self, record: &Record<'_>) {
        if record.qos == 2 {
            self.note_received(record);
        }
        if record.topic.starts_with('$') && is_for_one_rule(record.topic) {
            return;
        }
        let Self { subscriptions, slots, touched, .. } = self;
        let mut message: Option<Arc<Message>> = None;
        for target in subscriptions.targets(record.topic) {
            let Some(Some(slot)) = slots.get_mut(target.slot) else { continue };
            let own = record.session != 0 && *record.client_id == *slot.session.client_id;
            let Some(granted) = (if own { target.own_qos } else { Some(target.qos) }) else { continue };
            let message = message.get_or_insert_with(|| Arc::new(Message::of(record)));
            if slot.staged.is_empty() {
                touched.push(target.slot);
            }
            slot.staged.push(Queued {
                message: Arc::clone(message),
                qos: record.qos.min(granted),
                retain: target.keep_retain && record.retain,
                stored: false,
                packet_id: 0,
            });
        }
    }

    fn note_received(&mut self, record: &Record<'_>) {
        if let Some(&at) = self.by_number.get(&record.session)
            && let Some(Some(slot)) = self.slots.get_mut(at)
            && slot.durable
        {
            slot.received.insert(record.packet_id);
            slot.received_changed = true;
            self.unsettled.insert(at);
        }
    }

    fn hand_over(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for at in touched.drain(..) {
            self.with(at, |slot, desk| slot.deliver(desk));
        }
        self.touched = touched;
    }

    fn apply(&mut self, record: &Record<'_>) -> Result<(), DeliveryError> {
        // Messages before the note are judged by what was in force then.
        self.hand_over();
        match Note::read(record)? {
            Note::Opened { expiry_s, level } => self.opened(record, expiry_s, level, true),
            Note::Closed { expiry_s } => {
                if let Some(&at) = self.by_number.get(&record.session)
                    && let Some(Some(slot)) = self.slots.get(at)
                {
                    let level = slot.session.version().level();
                    self.opened(record, expiry_s, level, false);
                }
            }
            Note::Ended => self.end(record.session),
            Note::Subscribed(filters) => {
                if let Some(at) = self.slot_of(record.session) {
                    for (filter, options) in filters {
                        self.subscribe(at, filter, options);
                        self.with(at, |slot, desk| {
                            if slot.durable {
                                desk.rows.put_filter(desk.batch, slot.session.number, filter, options);
                            }
                        });
                    }
                }
            }
            Note::Unsubscribed(filters) => {
                if let Some(at) = self.slot_of(record.session) {
                    filters.iter().for_each(|filter| self.unsubscribe(at, filter));
                }
            }
            Note::Released => {
                if let Some(&at) = self.by_number.get(&record.session)
                    && let Some(Some(slot)) = self.slots.get_mut(at)
                {
                    slot.received.remove(&record.packet_id);
                    slot.received_changed = true;
                    self.unsettled.insert(at);
                }
            }
            Note::Repeated => {}
        }
        Ok(())
    }

    /// A connection took up a session, or left it.
    fn opened(&mut self, record: &Record<'_>, expiry_s: u32, level: u8, connected: bool) {
        let (number, since_ms) = (record.session, record.time_ms);
        if let Some(open) = &mut self.starting {
            if connected {
                open.insert(number)
            } else {
                open.remove(&number)
            };
            let restored = Restored { number, client_id: record.client_id, expiry_s, level, since_ms };
            let (session, older) = self.shared.registry.restore(&restored);
            if let Some(older) = older {
                self.end(older.number);
            }
            if !self.by_number.contains_key(&number) {
                self.place(session, true);
            }
        }
        // A session that ended since then has no slot and needs no row.
        if let Some(at) = self.slot_of(number) {
            self.with(at, |slot, desk| {
                let row = SessionRow { connected, expiry_s, since_ms, ..slot.row(connected) };
                desk.rows.put_session(desk.batch, &row);
            });
        }
    }

    fn subscribe(&mut self, at: usize, filter: &str, granted: u8) {
        let Some(Some(slot)) = self.slots.get_mut(at) else { return };
        let Ok(checked) = TopicFilter::new(filter) else { return };
        self.subscriptions.set(&checked, at, granted);
        slot.filters.insert(Arc::clone(checked.text()));
        if self.starting.is_some() {
            lock(&slot.session.filters).insert(Arc::clone(checked.text()), granted);
        }
        self.shared.metrics.subscriptions.set(self.subscriptions.len() as u64);
    }

    fn unsubscribe(&mut self, at: usize, filter: &str) {
        let Some(Some(slot)) = self.slots.get_mut(at) else { return };
        let Ok(checked) = TopicFilter::new(filter) else { return };
        self.subscriptions.remove(&checked, at);
        slot.filters.remove(filter);
        if self.starting.is_some() {
            lock(&slot.session.filters).remove(filter);
        }
        if slot.durable {
            self.rows.delete_filter(&mut self.batch, slot.session.number, filter);
        }
        self.shared.metrics.subscriptions.set(self.subscriptions.len() as u64);
    }

    /// Does what connections asked for; true if to stop.
    fn obey(&mut self) -> Result<bool, DeliveryError> {
        let mut pages = Vec::new();
        let mut stop = false;
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Attached(number) => {
                    if let Some(at) = self.slot_of(number) {
                        self.with(at, |slot, _| slot.attach());
                        pages.push(at);
                    }
                }
                Order::Detached(number) => {
                    if let Some(&at) = self.by_number.get(&number) {
                        self.with(at, Slot::detach);
                    }
                }
                Order::More(number) => pages.extend(self.by_number.get(&number)),
                Order::Acknowledged(number) => self.unsettled.extend(self.by_number.get(&number)),
                Order::Ended(number) => self.end(number),
                Order::Stop => stop = true,
            }
        }
        if !pages.is_empty() {
            // Pages are read from disk, so what was written for them has to be there.
            self.commit()?;
            for at in pages {
                if let Some(Some(slot)) = self.slots.get_mut(at) {
                    slot.page(&self.rows, self.limits)?;
                }
            }
        }
        Ok(stop)
    }

    /// Writes the mark, and everything that follows from the log up to it.
    fn commit(&mut self) -> Result<(), DeliveryError> {
        let unsettled: Vec<usize> = self.unsettled.drain().collect();
        for at in unsettled {
            self.act(at, Slot::settle);
        }
        let mut batch = std::mem::take(&mut self.batch);
        if self.position > self.marked {
            batch.mark(MARK, self.position.0);
        }
        if !batch.is_empty() {
            self.rows.commit(batch)?;
            self.marked = self.marked.max(self.position);
        }
        self.shared.metrics.sessions.set(self.shared.registry.len() as u64);
        Ok(())
    }

    /// Ends sleeping sessions whose time is over, by a note, so that the log says so.
    fn sweep(&mut self) {
        let now_ms = self.shared.log.now_ms();
        let mut batch = LogBatch::new();
        for session in self.shared.registry.expire(now_ms) {
            let about = About { session: session.number, client_id: &session.client_id, time_ms: now_ms, packet_id: 0 };
            Note::Ended.push(about, &mut batch);
        }
        if !batch.is_empty() && self.shared.appender.append(batch, Class::System, |_| {}).is_err() {
            tracing::warn!("the log took no note of expired sessions; they expire again after a restart");
        }
    }

    /// The slot of a session, made now if need be; `None` if the session is no more.
    fn slot_of(&mut self, number: u64) -> Option<usize> {
        if let Some(&at) = self.by_number.get(&number) {
            return Some(at);
        }
        let session = self.shared.registry.by_number(number)?;
        let durable = session.durable();
        Some(self.place(session, durable))
    }

    fn place(&mut self, session: Arc<Session>, durable: bool) -> usize {
        let number = session.number;
        let slot = Some(Slot::new(session, durable));
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        if let Some(place) = self.slots.get_mut(at) {
            *place = slot;
        }
        self.by_number.insert(number, at);
        at
    }

    fn end(&mut self, number: u64) {
        let Some(at) = self.by_number.remove(&number) else { return };
        self.act(at, Slot::erase);
        let Some(slot) = self.slots.get_mut(at).and_then(Option::take) else { return };
        for filter in &slot.filters {
            if let Ok(filter) = TopicFilter::new(filter) {
                self.subscriptions.remove(&filter, at);
            }
        }
        if !slot.session.connected() {
            self.shared.registry.remove(&slot.session);
        }
        self.unsettled.remove(&at);
        self.free.push(at);
        self.shared.metrics.subscriptions.set(self.subscriptions.len() as u64);
    }

    /// Works on a slot that has to be settled before the next commit.
    fn with(&mut self, at: usize, work: impl FnOnce(&mut Slot, &mut Desk<'_>)) {
        if let Some(Some(slot)) = self.slots.get(at)
            && slot.durable
        {
            self.unsettled.insert(at);
        }
        self.act(at, work);
    }

    fn act(&mut self, at: usize, work: impl FnOnce(&mut Slot, &mut Desk<'_>)) {
        let Self { rows, batch, slots, limits, shared, .. } = self;
        if let Some(Some(slot)) = slots.get_mut(at) {
            work(slot, &mut Desk { rows, batch, limits: *limits, metrics: &shared.metrics });
        }
    }
}
