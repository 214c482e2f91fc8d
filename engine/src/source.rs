//! The reader thread: committed epochs out of the log, as steps, to every worker.
//!
//! It is where backpressure ends: it stops reading while the bytes between it and the slowest worker exceed the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use crossbeam_channel::Sender;
use hedgerow_storage::log::{Commit, Epoch, ReadError, Reader};

use crate::checkpoint::Schedule;
use crate::metrics::EngineMetrics;
use crate::step::{Feed, Step};

/// How steps are cut.
#[derive(Clone, Copy, Debug)]
pub struct StepLimits {
    /// Records in a step, at most (one epoch may hold more).
    pub rows: usize,
    /// Bytes in a step, at most (one epoch may hold more).
    pub bytes: usize,
    /// Bytes between the reader and the slowest worker, at most.
    pub in_flight_bytes: usize,
}

/// A worker's end: its queue, and its thread to wake.
pub struct WorkerLink {
    /// Its queue. Bounded by `in_flight_bytes`, which the reader counts.
    pub queue: Sender<Feed>,
    /// Its thread.
    pub thread: Thread,
}

/// Bytes handed out and not yet through: the reader adds, the dataflow subtracts.
#[derive(Debug, Default)]
pub struct InFlight(AtomicUsize);

impl InFlight {
    /// Bytes under way.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Something of `bytes` is kept back.
    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::AcqRel);
    }

    /// A step, or what was kept back, of `bytes` is through.
    pub fn done(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// The parts of the reader thread.
pub struct Source {
    /// Where it reads.
    pub reader: Reader,
    /// Limits.
    pub limits: StepLimits,
    /// Who gets the steps.
    pub workers: Vec<WorkerLink>,
    /// Bytes under way.
    pub in_flight: Arc<InFlight>,
    /// When operators are to snapshot their state.
    pub schedule: Arc<Schedule>,
    /// Counters.
    pub metrics: Arc<EngineMetrics>,
    /// Set to stop.
    pub stop: Arc<AtomicBool>,
    /// Called with an error that ends the reading.
    pub failed: Box<dyn Fn(ReadError) + Send>,
}

impl Source {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn spawn(mut self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("hedgerow-reader".into()).spawn(move || {
            let mut carried = None;
            while !self.stop.load(Ordering::Acquire) {
                if self.in_flight.bytes() > self.limits.in_flight_bytes {
                    std::thread::park_timeout(Duration::from_millis(20));
                    continue;
                }
                match self.cut(&mut carried) {
                    Ok(Some(step)) => self.hand_out(step),
                    Ok(None) => {}
                    Err(error) => {
                        (self.failed)(error);
                        break;
                    }
                }
            }
            for worker in &self.workers {
                let _ = worker.queue.send(Feed::Close);
                worker.thread.unpark();
            }
        })
    }

    /// As many committed epochs as the limits allow; one when idle.
    fn cut(&mut self, carried: &mut Option<Commit>) -> Result<Option<Step>, ReadError> {
        const WAIT: Duration = Duration::from_millis(50);
        let first = match carried.take() {
            Some(commit) => commit,
            None => match self.reader.next(WAIT)? {
                Some(commit) => commit,
                None => return Ok(None),
            },
        };
        let (mut rows, mut bytes, mut end) = (first.count as usize, first.bytes(), first.epoch);
        let mut commits = vec![first];
        while rows < self.limits.rows && bytes < self.limits.bytes {
            let Some(commit) = self.reader.next(Duration::ZERO)? else { break };
            if rows + commit.count as usize > self.limits.rows || bytes + commit.bytes() > self.limits.bytes {
                *carried = Some(commit);
                break;
            }
            rows += commit.count as usize;
            bytes += commit.bytes();
            end = commit.epoch;
            commits.push(commit);
        }
        self.metrics.records.add(rows as u64);
        let checkpoint = self.schedule.is_due(end);
        Ok(Some(Step { commits, end, checkpoint, bytes }))
    }

    fn hand_out(&self, step: Step) {
        self.in_flight.add(step.bytes);
        self.metrics.steps.add(1);
        self.metrics.bytes.add(step.bytes as u64);
        self.metrics.in_flight_bytes.set(self.in_flight.bytes() as u64);
        let step = Arc::new(step);
        for worker in &self.workers {
            let _ = worker.queue.send(Feed::Step(Arc::clone(&step)));
            worker.thread.unpark();
        }
    }
}

/// The position below which everything is through.
#[derive(Debug, Default)]
pub struct Frontier(std::sync::atomic::AtomicU64);

impl Frontier {
    /// Everything up to `epoch` is through.
    pub fn advance(&self, epoch: Epoch) {
        self.0.fetch_max(epoch.0, Ordering::AcqRel);
    }

    /// The epoch up to which everything is through.
    pub fn get(&self) -> Epoch {
        Epoch(self.0.load(Ordering::Acquire))
    }
}
