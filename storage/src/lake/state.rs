//! The one state that the lake's threads and its queries share.
//!
//! A row is in exactly one of three places: in the buffer, in a sealed piece, or in the table version held here. It moves
//! from one to the next under the lock, and a query copies all three under the lock, so it sees each row once.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use super::delta::Snapshot;
use super::fit::widen;
use super::rows::{LakeRows, used_bytes};
use super::schema::LakeSchema;
use super::seal::{last_offset, rows_after};
use super::spool::{EpochEnd, Piece};

/// Buffered batches are merged up to this many rows, so that a slow trickle does not become thousands of batches.
const MERGE_ROWS: usize = 8192;

/// How a lake sink is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LakeStatus {
    /// The store has not answered yet.
    Starting,
    /// All is well.
    Ok,
    /// Rows are safe on this machine, but the store cannot take them at the moment.
    Degraded,
    /// The store or table is unfit for this sink; only another setting helps.
    Refused,
}

/// What is committed, in either format.
#[derive(Clone)]
pub(super) enum Committed {
    /// The store was not reached yet.
    Unknown,
    /// A Delta table version.
    Delta(Box<Snapshot>),
    /// Plain Parquet files, as object names with their day and size.
    Files(Vec<super::plain::PlainFile>),
}

/// The state.
pub(super) struct State {
    pub schema: LakeSchema,
    /// Counts changes of the schema by the committer.
    pub generation: u64,
    pub buffer: Buffer,
    /// Last epoch told by `step_done`.
    pub step: u64,
    pub taken: u64,
    pub sealed: VecDeque<Piece>,
    pub committed: Committed,
    pub committed_mark: u64,
    pub status: LakeStatus,
    pub message: Option<String>,
    pub rescued: u64,
    pub rows_committed: u64,
    /// The first attempt to reach the store is over.
    pub contacted: bool,
    pub closing: bool,
    pub gone: bool,
}

impl State {
    /// The mark of rows at their destination: with nothing sealed or buffered, whatever is taken is committed.
    pub(super) fn committed(&self) -> u64 {
        if self.sealed.is_empty() { self.committed_mark.max(self.taken) } else { self.committed_mark }
    }

    /// Bytes of sealed files that wait.
    pub(super) fn spool_bytes(&self) -> u64 {
        self.sealed.iter().map(Piece::bytes).sum()
    }

    /// The columns of buffered and sealed rows.
    pub(super) fn file_schema(&self) -> SchemaRef {
        self.schema.file_schema()
    }
}

fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| used_bytes(column)).sum()
}

/// Rows not yet sealed.
#[derive(Default)]
pub(super) struct Buffer {
    batches: Vec<RecordBatch>,
    pub rows: usize,
    pub bytes: usize,
    /// Epoch of the oldest row.
    pub oldest: u64,
    /// Last offset of each epoch, while the table's mark is unknown: it may turn out to hold some of them.
    pub ends: Vec<EpochEnd>,
}

impl Buffer {
    /// Adds a batch, merging small ones in the manner of a binary counter: a row is copied at most a dozen times.
    pub(super) fn push(&mut self, batch: RecordBatch, epoch: u64, schema: &SchemaRef) -> Result<(), ArrowError> {
        if self.rows == 0 {
            self.oldest = epoch;
        }
        self.rows += batch.num_rows();
        self.bytes += batch_bytes(&batch);
        self.batches.push(batch);
        while let [.., before, last] = self.batches.as_slice()
            && before.num_rows() <= 2 * last.num_rows()
            && before.num_rows() + last.num_rows() <= MERGE_ROWS
        {
            let freed = batch_bytes(before) + batch_bytes(last);
            let merged = concat_batches(schema, &[widen(before, schema)?, widen(last, schema)?])?;
            self.bytes = (self.bytes + batch_bytes(&merged)).saturating_sub(freed);
            self.batches.truncate(self.batches.len() - 2);
            self.batches.push(merged);
        }
        Ok(())
    }

    /// Notes where the epochs of rows end.
    pub(super) fn note_ends(&mut self, rows: &LakeRows) {
        for (epoch, offset) in rows.epoch_of.iter().zip(&rows.offset) {
            let offset = i64::try_from(*offset).unwrap_or(i64::MAX);
            match self.ends.last_mut() {
                Some(end) if end.0 == *epoch => end.1 = end.1.max(offset),
                _ => self.ends.push(EpochEnd(*epoch, offset)),
            }
        }
    }

    /// Drops the rows of epochs up to `mark`: the table has them.
    pub(super) fn drop_up_to(&mut self, mark: u64) -> Result<(), ArrowError> {
        if let Some(last) = last_offset(&self.ends, mark) {
            let batches = std::mem::take(&mut self.batches);
            self.batches = batches.iter().map(|batch| rows_after(batch, last)).collect::<Result<_, _>>()?;
            self.batches.retain(|batch| batch.num_rows() > 0);
            self.rows = self.batches.iter().map(RecordBatch::num_rows).sum();
            self.bytes = self.batches.iter().map(batch_bytes).sum();
        }
        self.ends = Vec::new();
        Ok(())
    }

    pub(super) fn batches(&self) -> Vec<RecordBatch> {
        self.batches.clone()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The state, its lock, and the signal that it changed.
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below the lock is one assignment or push: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes whoever waits for a change.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `done` holds, at most `limit`; returns whether it held.
    pub(super) fn wait(&self, limit: Duration, mut done: impl FnMut(&State) -> bool) -> bool {
        let state = self.lock();
        let (state, _) =
            self.changed.wait_timeout_while(state, limit, |state| !done(state)).unwrap_or_else(PoisonError::into_inner);
        let mut done = done;
        done(&state)
    }
}
