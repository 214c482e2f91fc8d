//! What was refused on the way, counted and sampled: `system.errors`.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock};

use hedgerow_storage::outbox::Outbox;

use crate::rows::RowBatch;
use crate::sink::outbox_row;

/// One refused payload or row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorSample {
    /// Position of the record: epoch and offset.
    pub epoch: u64,
    /// Offset of the record.
    pub offset: u64,
    /// Time of receipt, milliseconds since 1970.
    pub time_ms: i64,
    /// Rule, or empty when no rule is to blame.
    pub rule: String,
    /// Action kind or sink, or empty.
    pub target: String,
    /// Topic of the record.
    pub topic: String,
    /// Client that sent it.
    pub client_id: String,
    /// What was wrong, with its position in the payload where there is one.
    pub reason: String,
    /// The first bytes of the payload, as text.
    pub sample: String,
}

/// The newest refusals, bounded, and their total.
#[derive(Debug)]
pub struct Errors {
    limit: usize,
    inner: Mutex<(u64, VecDeque<ErrorSample>)>,
    undelivered: OnceLock<Undelivered>,
}

/// Where refused rows go.
struct Undelivered {
    outbox: Outbox,
    now_ms: Box<dyn Fn() -> i64 + Send + Sync>,
}

impl std::fmt::Debug for Undelivered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Undelivered")
    }
}

impl Errors {
    /// Keeps the newest `limit` samples.
    pub fn new(limit: usize) -> Self {
        Self { limit, inner: Mutex::new((0, VecDeque::new())), undelivered: OnceLock::new() }
    }

    /// From now on refused rows are kept in this outbox. `now_ms` is the log's time.
    pub fn keep_in(&self, outbox: Outbox, now_ms: impl Fn() -> i64 + Send + Sync + 'static) {
        let _ = self.undelivered.set(Undelivered { outbox, now_ms: Box::new(now_ms) });
    }

    /// A table or the log refused a row: it goes to the rule's error action, or to the dead letters.
    pub fn refused(&self, batch: &RowBatch, row: usize, sink: &str, reason: &str) {
        let Some(to) = self.undelivered.get() else { return };
        let entry = outbox_row::source(batch, row);
        if let Err(error) = to.outbox.refuse(&entry, sink, reason, (to.now_ms)()) {
            tracing::error!(%error, row = %entry.id, "a row was refused, and is not in the dead letters");
        }
    }

    /// Counts a refusal and keeps it as a sample.
    pub fn push(&self, sample: ErrorSample) {
        let Ok(mut inner) = self.inner.lock() else { return };
        inner.0 += 1;
        if inner.1.len() == self.limit {
            inner.1.pop_front();
        }
        inner.1.push_back(sample);
    }

    /// How many there were since the process started.
    pub fn total(&self) -> u64 {
        self.inner.lock().map(|inner| inner.0).unwrap_or_default()
    }

    /// The samples, oldest first.
    pub fn samples(&self) -> Vec<ErrorSample> {
        self.inner.lock().map(|inner| inner.1.iter().cloned().collect()).unwrap_or_default()
    }
}

/// The first bytes of a payload as text for a sample.
pub fn excerpt(payload: &[u8]) -> String {
    const BYTES: usize = 256;
    let cut = payload.get(..BYTES).unwrap_or(payload);
    let mut text = String::from_utf8_lossy(cut).into_owned();
    if payload.len() > BYTES {
        text.push('…');
    }
    text
}
