//! Key-value tables: rows and mark in one atomic batch.
//!
//! One thread applies the deliveries of all tables in order, and syncs on its own cadence; the log is the truth in
//! between, so *applied* comes at once and *taken* with the next sync.

use std::sync::atomic::{AtomicU64, Ordering};
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
use crate::rows::{RowBatch, in_order};

/// The name of the mark in the store.
const MARK: &str = "tables";
/// Deliveries that wait for the thread, at most.
const QUEUE: usize = 8;

/// The sink.
pub struct TableSink {
    queue: Option<Sender<Delivery>>,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    tables: Tables,
    errors: Arc<Errors>,
    rows: AtomicU64,
    /// Everything up to here is applied, whether or not it wrote anything.
    applied: AtomicU64,
    /// Everything up to here is synced.
    taken: AtomicU64,
    error: Mutex<Option<String>>,
}

impl TableSink {
    /// Starts the thread. `since` is the epoch from which the dataflow runs: what lies at or below the store's mark is
    /// skipped.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn open(tables: Tables, since: Epoch, sync_interval: Duration, errors: Arc<Errors>) -> std::io::Result<Self> {
        let mark = tables.mark(MARK).unwrap_or_default().max(since.0);
        let synced = tables.synced_mark(MARK).unwrap_or_default().max(since.0);
        let state = Arc::new(State {
            tables,
            errors,
            rows: AtomicU64::new(0),
            applied: AtomicU64::new(mark),
            taken: AtomicU64::new(synced),
            error: Mutex::new(None),
        });
        let (queue, deliveries) = crossbeam_channel::bounded(QUEUE);
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("hedgerow-tables".into())
            .spawn(move || shared.run(&deliveries, sync_interval))?;
        Ok(Self { queue: Some(queue), state, thread: Some(thread) })
    }
}

impl State {
    fn run(&self, deliveries: &Receiver<Delivery>, sync_interval: Duration) {
        let skip = Epoch(self.applied.load(Ordering::Acquire));
        let timer = crossbeam_channel::tick(sync_interval);
        loop {
            match deliveries.recv_timeout(sync_interval) {
                Ok(delivery) => self.apply(&delivery, skip),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if timer.try_recv().is_ok() {
                self.sync();
            }
        }
        self.sync();
    }

    fn apply(&self, delivery: &Delivery, skip: Epoch) {
        let order = in_order(&delivery.batches, skip);
        let mut rows: Vec<(TableRow, &RowBatch, usize)> = Vec::with_capacity(order.len());
        for (batch, row) in order {
            match table_row(batch, row) {
                Ok(fitting) => rows.push((fitting, batch, row)),
                Err(error) => self.refuse(batch, row, &error.to_string()),
            }
        }
        let up_to = delivery.up_to.0;
        if !rows.is_empty() {
            match self.tables.apply(MARK, up_to, rows.iter().map(|(row, _, _)| row.write())) {
                Ok(applied) => {
                    self.rows.fetch_add(applied.taken as u64, Ordering::Relaxed);
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
        self.applied.fetch_max(up_to, Ordering::AcqRel);
    }

    /// Nothing below the applied mark waits for a replay once the store is synced: deliveries without rows wrote no
    /// mark of their own, and replaying them writes none either.
    fn sync(&self) {
        let applied = self.applied.load(Ordering::Acquire);
        let failed = self.error.lock().is_ok_and(|error| error.is_some());
        if failed || applied == self.taken.load(Ordering::Acquire) {
            return;
        }
        match self.tables.sync() {
            Ok(()) => {
                self.taken.fetch_max(applied, Ordering::AcqRel);
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
        let text = |of: &Vec<Arc<str>>| of.get(message as usize).map(|text| text.to_string()).unwrap_or_default();
        self.errors.push(ErrorSample {
            epoch,
            offset,
            time_ms: batch.origins.time_ms(message),
            rule: batch.rule.rule.name.to_string(),
            target,
            topic: text(&batch.origins.topic),
            client_id: text(&batch.origins.client_id),
            reason: reason.to_owned(),
            sample: excerpt(&batch.rows.json(row)),
        });
    }
}

impl Sink for TableSink {
    fn deliver(&mut self, delivery: &Delivery) -> Outcome {
        let failed = self.state.error.lock().is_ok_and(|error| error.is_some());
        match &self.queue {
            Some(queue) if !failed => match queue.try_send(delivery.clone()) {
                Ok(()) => Outcome::Accepted,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Outcome::Full,
            },
            _ => Outcome::Full,
        }
    }

    fn seal(&mut self, _: Epoch) {}

    fn marks(&self) -> Marks {
        let taken = Epoch(self.state.taken.load(Ordering::Acquire));
        Marks { taken, committed: taken }
    }

    fn health(&self) -> SinkHealth {
        SinkHealth {
            rows: self.state.rows.load(Ordering::Relaxed),
            backlog_bytes: 0,
            error: self.state.error.lock().ok().and_then(|error| error.clone()),
        }
    }

    fn close(&mut self, _: Duration) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
