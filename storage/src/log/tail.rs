//! The newest commits, kept in memory as they were written: readers that keep up need no file, no copy and no checksum.

use std::collections::VecDeque;

use super::Position;
use super::commit::{Chain, Commit};

/// Bytes of commits kept: a fraction of a second under the heaviest load.
const TAIL_BYTES: usize = 16 << 20;
/// Commits that a reader takes at once, so that it holds up nobody and keeps little beyond the tail.
const AT_ONCE: usize = 64;

/// A commit that was just written.
#[derive(Debug, Clone)]
pub(super) struct Recent {
    /// End of the commit before it, also if a segment ends there.
    pub after: Position,
    /// Its own end.
    pub end: Position,
    /// What must follow it.
    pub chain: Chain,
    pub commit: Commit,
}

/// The newest commits that are as durable as promised, oldest first, without gaps.
#[derive(Debug, Default)]
pub(super) struct Tail {
    commits: VecDeque<Recent>,
    bytes: usize,
}

impl Tail {
    /// Keeps this one, and lets the oldest go.
    pub fn push(&mut self, recent: Recent) {
        self.bytes += recent.commit.bytes();
        self.commits.push_back(recent);
        while self.bytes > TAIL_BYTES {
            let Some(oldest) = self.commits.pop_front() else { break };
            self.bytes -= oldest.commit.bytes();
        }
    }

    /// Some that follow the commit that ends here; none if the first of them has gone.
    pub fn after(&self, end: Position) -> VecDeque<Recent> {
        let first = self.commits.partition_point(|recent| recent.after < end);
        match self.commits.get(first) {
            Some(recent) if recent.after == end => self.commits.range(first..).take(AT_ONCE).cloned().collect(),
            _ => VecDeque::new(),
        }
    }
}
