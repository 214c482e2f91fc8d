//! From the log to subscribers: one thread that reads every commit in order, with a mark of its own.
//!
//! It alone knows the subscriptions and the retained messages, and writes the gateway's rows. Notes are applied where
//! they stand among the messages, so a subscription matches exactly what was logged after it, also when the log is read
//! again. The mark and everything that follows from the log up to it are one batch. It never waits for a subscriber: a
//! commit's messages are handed over under one lock a session, and what does not fit goes to disk or is dropped and
//! counted.
//!
//! | file | idea |
//! |---|---|
//! | `start` | what was on disk, and what the log says since; the end of connections that a crash cut off |
//! | `apply` | notes |
//! | `route` | messages: to whom, which are retained |

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::{AHashMap, AHashSet};
use crossbeam_channel::Receiver;
use hedgerow_storage::log::{Commit, Epoch, ReadError, Reader, RecordKind};
use hedgerow_storage::table::{Batch, StoreError};

use super::Shared;
use super::notes::UnknownNote;
use super::retained::Retained;
use super::rows::{MARK, Rows};
use super::session::{Session, lock};
use super::slot::{Desk, Limits, Slot};
use super::subscriptions::{Path, Subscriptions};

mod apply;
mod route;
mod start;

/// How long the thread waits for a commit before it looks at its orders.
const PATIENCE: Duration = Duration::from_millis(10);
/// A batch for the disk is committed at this size, whatever the time.
const BATCH_BYTES: usize = 4 << 20;
/// How often it is looked for wills and sessions whose time has come: one look may pass over all sessions.
const DUE: Duration = Duration::from_millis(100);
/// How often expired retained messages are looked for.
const RETAINED_SWEEP: Duration = Duration::from_secs(60);

/// What connections tell the delivery thread. Each session has at most a few on the way, so the channel is bounded by
/// their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The queue in memory runs low, and the thread has more.
    More(u64),
    /// Messages that are on disk were acknowledged.
    Acknowledged(u64),
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
    retained: Retained,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    by_number: AHashMap<u64, usize>,
    /// Sessions without a connection whose last one left a will that waits: that connection.
    waiting_wills: AHashMap<u64, u64>,
    /// Slots with messages staged from the commit at hand.
    touched: Vec<usize>,
    /// Durable slots to look at before the next batch is committed.
    unsettled: AHashSet<usize>,
    /// Sessions to be given what they have on disk, once that is committed.
    pages: Vec<usize>,
    batch: Batch,
    limits: Limits,
    /// Commits read up to here, and the mark up to there.
    position: Epoch,
    marked: Epoch,
    /// Until everyone may connect: what the log says of connections. After that it is known at first hand.
    starting: Option<start::Seen>,
}

impl Delivery {
    /// The thread.
    pub(super) fn run(mut self) -> Result<(), DeliveryError> {
        let config = &self.shared.config;
        let commit_every = Duration::from_millis(config.delivery_commit_ms.max(1));
        let (mut last_commit, mut last_due, mut last_sweep) = (Instant::now(), Instant::now(), Instant::now());
        loop {
            match self.reader.next(PATIENCE) {
                Ok(Some(commit)) => self.take(&commit)?,
                Ok(None) => {}
                Err(ReadError::Closed) => return self.commit(),
                Err(error) => return Err(error.into()),
            }
            if last_due.elapsed() >= DUE {
                self.shared.work_off_due();
                last_due = Instant::now();
            }
            self.shared.retry_unlogged();
            if self.obey()? {
                return self.commit();
            }
            if last_commit.elapsed() >= commit_every || self.batch.bytes() >= BATCH_BYTES {
                self.commit()?;
                last_commit = Instant::now();
            }
            if last_sweep.elapsed() >= RETAINED_SWEEP {
                self.sweep_retained();
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

    fn hand_over(&mut self) {
        let mut touched = std::mem::take(&mut self.touched);
        for at in touched.drain(..) {
            self.with(at, |slot, desk| slot.deliver(desk));
        }
        self.touched = touched;
    }

    /// Does what connections asked for; true if to stop.
    fn obey(&mut self) -> Result<bool, DeliveryError> {
        let mut stop = false;
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::More(number) => self.pages.extend(self.by_number.get(&number)),
                Order::Acknowledged(number) => self.unsettled.extend(self.by_number.get(&number)),
                Order::Stop => stop = true,
            }
        }
        if !self.pages.is_empty() {
            // Pages are read from disk, so what was written for them has to be there.
            self.commit()?;
            for at in std::mem::take(&mut self.pages) {
                if let Some(Some(slot)) = self.slots.get_mut(at) {
                    slot.page(&self.rows, self.limits)?;
                }
                self.act(at, Slot::feed);
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
        let metrics = &self.shared.metrics;
        metrics.sessions.set(self.shared.registry.len() as u64);
        metrics.retained.set(self.retained.len() as u64);
        metrics.retained_bytes.set(self.retained.bytes() as u64);
        Ok(())
    }

    fn subscribe(&mut self, at: usize, path: &Path, granted: u8, identifier: u32) {
        let Some(Some(slot)) = self.slots.get_mut(at) else { return };
        self.subscriptions.set(path, at, granted, identifier);
        slot.filters.insert(Arc::clone(&path.text));
        if self.starting.is_some() {
            lock(&slot.session.filters).insert(Arc::clone(&path.text), granted);
        }
        self.shared.metrics.subscriptions.set(self.subscriptions.len() as u64);
    }

    fn unsubscribe(&mut self, at: usize, path: &Path) {
        let Some(Some(slot)) = self.slots.get_mut(at) else { return };
        self.subscriptions.remove(path, at);
        slot.filters.remove(&path.text);
        if self.starting.is_some() {
            lock(&slot.session.filters).remove(&path.text);
        }
        if slot.durable {
            self.rows.delete_filter(&mut self.batch, slot.session.number, &path.text);
        }
        self.shared.metrics.subscriptions.set(self.subscriptions.len() as u64);
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

    /// A session is no more. What it had of shared subscriptions goes to their other members; `cause` is the record that
    /// says so; without one they are forgotten.
    fn end(&mut self, number: u64, cause: Option<u64>) -> Result<(), DeliveryError> {
        let Some(at) = self.by_number.remove(&number) else { return Ok(()) };
        let Some(Some(slot)) = self.slots.get(at) else { return Ok(()) };
        let paths: Vec<Path> = slot.filters.iter().filter_map(|text| Path::parse(text).ok()).collect();
        let shared = cause.is_some() && paths.iter().any(|path| path.shared);
        let unfinished = if shared { self.unfinished_shared(at)? } else { Vec::new() };
        self.act(at, Slot::erase);
        let Some(slot) = self.slots.get_mut(at).and_then(Option::take) else { return Ok(()) };
        paths.iter().for_each(|path| self.subscriptions.remove(path, at));
        if !slot.session.connected() {
            self.shared.registry.remove(&slot.session);
        }
        self.unsettled.remove(&at);
        self.pages.retain(|page| *page != at);
        self.free.push(at);
        self.shared.metrics.subscriptions.set(self.subscriptions.len() as u64);
        self.reroute(unfinished, cause.unwrap_or_default());
        Ok(())
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
        let Self { rows, batch, slots, limits, shared, retained, .. } = self;
        if let Some(Some(slot)) = slots.get_mut(at) {
            work(slot, &mut Desk { rows, batch, limits: *limits, metrics: &shared.metrics, retained });
        }
    }
}
