//! A step: the committed epochs that the dataflow is given at once.

use std::sync::Arc;

use hedgerow_storage::log::{Commit, Epoch};

/// Committed epochs in order, shared by all workers. Each worker takes the records whose client hashes to it, and all
/// of the control records.
#[derive(Debug)]
pub struct Step {
    /// The commits, ascending by epoch, at least one.
    pub commits: Vec<Commit>,
    /// The last epoch. The dataflow's timestamp of everything in this step is the end of the step before, plus one.
    pub end: Epoch,
    /// Operators snapshot their state once they are through with this step.
    pub checkpoint: bool,
    /// Bytes of all commits.
    pub bytes: usize,
}

/// What the reader thread hands a worker.
#[derive(Clone, Debug)]
pub enum Feed {
    /// Process this.
    Step(Arc<Step>),
    /// No more will come: finish what is under way and stop.
    Close,
}

/// The worker, of `workers`, that takes the records of `sender`: all records of a client go to one worker, so that
/// their order is kept.
pub fn worker_of(sender: &[u8], workers: usize) -> usize {
    (stable_hash(sender) % workers.max(1) as u64) as usize
}

/// A hash that is the same on every machine and in every version (FNV-1a with a final mix), so that a replay places
/// rows as the first run did.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (hash >> 29)
}
