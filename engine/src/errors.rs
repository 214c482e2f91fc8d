//! What was refused on the way, counted and sampled: `system.errors`.

use std::collections::VecDeque;
use std::sync::Mutex;

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
}

impl Errors {
    /// Keeps the newest `limit` samples.
    pub fn new(limit: usize) -> Self {
        Self { limit, inner: Mutex::new((0, VecDeque::new())) }
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
