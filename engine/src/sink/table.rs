//! Key-value tables: rows and mark in one atomic batch.
//!
//! One thread applies the deliveries of all tables in order, and syncs on its own cadence; the log is the truth in
//! between, so *applied* comes at once and *taken* with the next sync. There is a sink for each lane, with a mark of its
//! own; a table is written on one lane at a time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use hedgerow_sql::rule::Target;
use hedgerow_storage::log::Epoch;
use hedgerow_storage::table::Tables;

use super::table_row::{TableRow, table_row};
use super::{Delivery, Marks, Outcome, Sink, SinkHealth};
use crate::errors::{ErrorSample, Errors, excerpt};
use crate::lookup::Applied;
use crate::rows::{Lane, RowBatch, in_order};

/// Deliveries that wait for the thread, at most.
const QUEUE: usize = 8;

/// The sink of one lane.
pub struct TableSink {
    lane: Lane,
    queue: Option<Sender<(Lane, Delivery)>>,
    shared: Arc<Shared>,
}

/// What the sinks of both lanes share.
struct Shared {
    state: Arc<State>,
    thread: Mutex<Option<JoinHandle<()>>>,
    open: AtomicUsize,
}

struct State {
    tables: Tables,
    errors: Arc<Errors>,
    /// Everything up to here is applied, whether or not it wrote anything.
    applied: Arc<Applied>,
    straight: OfLane,
    called: OfLane,
    error: Mutex<Option<String>>,
}

struct OfLane {
    /// The name of the mark in the store.
    mark: &'static str,
    /// Rows at or below it are in the store already.
    skip: Epoch,
    rows: AtomicU64,
    /// Everything up to here is synced.
    taken: AtomicU64,
}

impl OfLane {
    fn new(tables: &Tables, lane: Lane, since: Epoch, applied: &Applied) -> Self {
        let mark = match lane {
            Lane::Straight => "tables",
            Lane::Called => "tables/called",
        };
        let skip = tables.mark(mark).unwrap_or_default().max(since.0);
        applied.advance(lane, skip);
        let taken = tables.synced_mark(mark).unwrap_or_default().max(since.0);
        Self { mark, skip: Epoch(skip), rows: AtomicU64::new(0), taken: AtomicU64::new(taken) }
    }
}

impl TableSink {
    /// Starts the thread: the sinks of the straight and of the called lane. `since` is the epoch from which the dataflow
    /// runs: what lies at or below the store's marks is skipped. `applied` is told how far they come.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn open(
        tables: Tables,
        since: Epoch,
        sync_interval: Duration,
        errors: Arc<Errors>,
        applied: Arc<Applied>,
    ) -> std::io::Result<[Self; 2]> {
        let state = Arc::new(State {
            straight: OfLane::new(&tables, Lane::Straight, since, &applied),
            called: OfLane::new(&tables, Lane::Called, since, &applied),
            tables,
            errors,
            applied,
            error: Mutex::new(None),
        });
        let (queue, deliveries) = crossbeam_channel::bounded(QUEUE);
        let on_thread = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("hedgerow-tables".into())
            .spawn(move || on_thread.run(&deliveries, sync_interval))?;
        let shared = Arc::new(Shared { state, thread: Mutex::new(Some(thread)), open: AtomicUsize::new(2) });
        Ok([Lane::Straight, Lane::Called].map(|lane| Self {
            lane,
            queue: Some(queue.clone()),
            shared: Arc::clone(&shared),
        }))
    }
}

impl State {
    fn of(&self, lane: Lane) -> &OfLane {
        match lane {
            Lane::Straight => &self.straight,
            Lane::Called => &self.called,
        }
    }

    fn run(&self, deliveries: &Receiver<(Lane, Delivery)>, sync_interval: Duration) {
        let timer = crossbeam_channel::tick(sync_interval);
        loop {
            match deliveries.recv_timeout(sync_interval) {
                Ok((lane, delivery)) => self.apply(lane, &delivery),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if timer.try_recv().is_ok() {
                self.sync();
            }
        }
        self.sync();
    }

    fn apply(&self, lane: Lane, delivery: &Delivery) {
        let of_lane = self.of(lane);
        let order = in_order(&delivery.batches, of_lane.skip);
        let mut rows: Vec<(TableRow, &RowBatch, usize)> = Vec::with_capacity(order.len());
        for (batch, row) in order {
            match table_row(batch, row) {
                Ok(fitting) => rows.push((fitting, batch, row)),
                Err(error) => self.refuse(batch, row, &error.to_string()),
            }
        }
        let up_to = delivery.up_to.0;
        if !rows.is_empty() {
            match self.tables.apply(of_lane.mark, up_to, rows.iter().map(|(row, _, _)| row.write())) {
                Ok(applied) => {
                    of_lane.rows.fetch_add(applied.taken as u64, Ordering::Relaxed);
                    for rejected in applied.rejected {
                        if let Some((_, batch, row)) = rows.get(rejected.index) {
                            self.refuse(batch, *row, &rejected.reason.to_string());
                        }
                    }
                }
                Err(error) => {
                    self.fail(format!("rows cannot be written to the tables: {error}"));
                    return;
                }
            }
            for (_, batch, _) in &rows {
                batch.rule.stats.delivered.add(1);
            }
        }
        self.applied.advance(lane, up_to);
    }

    /// Nothing below the applied mark waits for a replay once the store is synced: deliveries without rows wrote no
    /// mark of their own, and replaying them writes none either.
    fn sync(&self) {
        let applied = [Lane::Straight, Lane::Called].map(|lane| (self.of(lane), self.applied.get(lane)));
        let failed = self.error.lock().is_ok_and(|error| error.is_some());
        if failed || applied.iter().all(|(of_lane, applied)| *applied == of_lane.taken.load(Ordering::Acquire)) {
            return;
        }
        match self.tables.sync() {
            Ok(()) => {
                for (of_lane, applied) in applied {
                    of_lane.taken.fetch_max(applied, Ordering::AcqRel);
                }
            }
            Err(error) => self.fail(format!("the tables cannot be synced: {error}")),
        }
    }

    /// Sticky: a write that failed half way is healed by the replay after a restart, not by going on.
    fn fail(&self, reason: String) {
        tracing::error!(%reason, "tables stop taking rows; restart to replay what is missing");
        if let Ok(mut error) = self.error.lock() {
            error.get_or_insert(reason);
        }
    }

    fn refuse(&self, batch: &RowBatch, row: usize, reason: &str) {
        batch.rule.stats.fail(1, reason);
        let message = batch.rows.messages.get(row).copied().unwrap_or_default();
        let (epoch, offset) = batch.origins.position(message);
        let target = match batch.rule.rule.actions.get(batch.action).map(|action| &action.target) {
            Some(Target::Named(name)) => name.to_string(),
            Some(Target::Item(item)) => item.table.to_string(),
            _ => String::new(),
        };
        self.errors.refused(batch, row, &target, reason);
        self.errors.push(ErrorSample {
            epoch,
            offset,
            time_ms: batch.origins.time_ms(message),
            rule: batch.rule.rule.name.to_string(),
            target,
            topic: batch.origins.topic.get(message as usize).to_owned(),
            client_id: batch.origins.client_id.get(message as usize).to_owned(),
            reason: reason.to_owned(),
            sample: excerpt(&batch.rows.json(row)),
        });
    }
}

impl Sink for TableSink {
    fn deliver(&mut self, delivery: &Delivery) -> Outcome {
        let failed = self.shared.state.error.lock().is_ok_and(|error| error.is_some());
        match &self.queue {
            Some(queue) if !failed => match queue.try_send((self.lane, delivery.clone())) {
                Ok(()) => Outcome::Accepted,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Outcome::Full,
            },
            _ => Outcome::Full,
        }
    }

    fn seal(&mut self, _: Epoch) {}

    fn marks(&self) -> Marks {
        let taken = Epoch(self.shared.state.of(self.lane).taken.load(Ordering::Acquire));
        Marks { taken, committed: taken }
    }

    fn health(&self) -> SinkHealth {
        let state = &self.shared.state;
        SinkHealth {
            rows: state.of(self.lane).rows.load(Ordering::Relaxed),
            backlog_bytes: 0,
            error: state.error.lock().ok().and_then(|error| error.clone()),
        }
    }

    /// The thread ends, and is waited for, with the sink that is closed last.
    fn close(&mut self, _: Duration) {
        if self.queue.take().is_none() || self.shared.open.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let thread = self.shared.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}
