//! Following the log: whole commits, in order, as soon as they are durable: from the writer's hands while a reader keeps
//! up (see `tail`), from the files otherwise.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::commit::{COMMIT_HEADER, Chain, CommitHeader};
use super::pack;
use super::segment::{self, SEGMENT_HEADER};
use super::shared::{Shared, View, lock};
use super::tail::Recent;
use super::{Commit, Epoch, Position, ReadError};
use crate::disk::DiskFile;

/// A place in the log, from which it is read on. Many may read at once; none holds up the writer.
pub struct Reader {
    shared: Arc<Shared>,
    /// The last commit given out, or the one after which reading was to begin.
    after: Epoch,
    /// Where the next commit is.
    at: Position,
    /// What the next commit must follow.
    chain: Chain,
    /// Commits from `at` on that were in the tail.
    recent: VecDeque<Recent>,
    /// Bytes of the log from `at` on, if there are no such commits.
    chunk: Bytes,
    /// Bytes that the next commit needs, if the chunk turned out too short for it.
    want: usize,
    file: Option<(Position, Arc<dyn DiskFile>)>,
}

/// How much is read at once, unless one commit is larger.
const CHUNK: usize = 1 << 20;

/// Where there is something to read.
enum Available {
    /// In `recent`.
    Recent,
    /// In the file of the segment at `base`, up to `end`.
    File { base: Position, end: Position },
}

impl Reader {
    /// Reads what follows `from`.
    pub(super) fn new(shared: Arc<Shared>, from: Epoch) -> Result<Self, ReadError> {
        let view = lock(&shared.view);
        let first = first_epoch(&view);
        let start = view.segments.iter().rev().find(|s| s.before.epoch <= from);
        let Some(segment) = start else { return Err(ReadError::Gone { asked: from, first }) };
        let (at, chain) = match from >= view.chain.epoch {
            true => (view.visible, view.chain),
            false => (segment.first_commit(), segment.before),
        };
        drop(view);
        Ok(Self {
            shared,
            after: from,
            at,
            chain,
            recent: VecDeque::new(),
            chunk: Bytes::new(),
            want: COMMIT_HEADER,
            file: None,
        })
    }

    /// The next commit; `None` if none came within `wait`. All kinds of records are in it.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Commit>, ReadError> {
        loop {
            while let Some(commit) = self.take()? {
                if commit.epoch > self.after {
                    self.after = commit.epoch;
                    return Ok(Some(commit));
                }
            }
            match self.await_more(wait)? {
                Some(Available::Recent) => {}
                Some(Available::File { base, end }) => self.fill(base, end)?,
                None => return Ok(None),
            }
        }
    }

    /// The last commit given out.
    pub fn position(&self) -> Epoch {
        self.after
    }

    /// The next commit that is here already.
    fn take(&mut self) -> Result<Option<Commit>, ReadError> {
        if let Some(recent) = self.recent.pop_front() {
            (self.at, self.chain) = (recent.end, recent.chain);
            return Ok(Some(recent.commit));
        }
        self.take_from_chunk()
    }

    /// The next commit out of the chunk, if the chunk has it whole.
    fn take_from_chunk(&mut self) -> Result<Option<Commit>, ReadError> {
        if self.chunk.len() < COMMIT_HEADER {
            self.want = COMMIT_HEADER;
            return Ok(None);
        }
        let decoded = CommitHeader::decode(&self.chunk, self.shared.id, self.at);
        let (header, link) = decoded.map_err(|reason| self.corrupt(reason))?;
        let total = header.total_len();
        if self.chunk.len() < total {
            self.want = total;
            return Ok(None);
        }
        let chain = self.chain.follow(&header, link).map_err(|reason| self.corrupt(reason))?;
        let body = self.chunk.split_to(total).split_off(COMMIT_HEADER);
        // What was read before needs no check: the caller does not get it.
        if header.epoch > self.after {
            header.check_body(&body).map_err(|reason| self.corrupt(reason))?;
        }
        self.chain = chain;
        self.at.0 += total as u64;
        self.want = COMMIT_HEADER;
        Ok(Some(Commit::new(header.epoch, header.first_offset, header.count, Arc::new([body]))))
    }

    /// Waits until there are bytes at this position, stepping over the end of a segment.
    fn await_more(&mut self, wait: Duration) -> Result<Option<Available>, ReadError> {
        let shared = Arc::clone(&self.shared);
        let at = self.at;
        let nothing_new = |view: &mut View| view.visible <= at && !view.closed;
        let mut view = lock(&shared.view);
        if nothing_new(&mut view) {
            let waited = shared.view_changed.wait_timeout_while(view, wait, nothing_new);
            view = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if view.visible <= at {
            return if view.closed { Err(ReadError::Closed) } else { Ok(None) };
        }
        self.recent = view.tail.after(at);
        if !self.recent.is_empty() {
            self.chunk = Bytes::new();
            return Ok(Some(Available::Recent));
        }
        let gone = ReadError::Gone { asked: self.after, first: first_epoch(&view) };
        let mut after = view.segments.iter().rev().take_while(|s| s.end.is_none_or(|end| end >= at));
        let Some(mut segment) = after.by_ref().last() else { return Err(gone) };
        if segment.end == Some(at) {
            segment = view.segments.iter().find(|s| s.base == at).ok_or(gone)?;
        } else if segment.base > at {
            return Err(gone);
        }
        if segment.base == at {
            self.at = segment.first_commit();
            self.chunk = Bytes::new();
        }
        let end = segment.end.unwrap_or(view.visible);
        if end <= self.at {
            return Ok(None);
        }
        Ok(Some(Available::File { base: segment.base, end }))
    }

    fn fill(&mut self, base: Position, end: Position) -> Result<(), ReadError> {
        let file = self.open(base)?;
        let left = usize::try_from(end.0 - self.at.0).unwrap_or(usize::MAX);
        if left < self.want {
            return Err(self.corrupt("a commit goes on beyond the end of its segment"));
        }
        let mut bytes = vec![0; left.min(CHUNK.max(self.want))];
        let read = file.read_exact_at(self.at.0 - base.0, &mut bytes);
        read.map_err(|source| match source.kind() {
            ErrorKind::InvalidData => self.corrupt("the block of the packed segment is damaged"),
            _ => ReadError::Io { path: self.path(), source },
        })?;
        self.chunk = bytes.into();
        Ok(())
    }

    fn open(&mut self, base: Position) -> Result<Arc<dyn DiskFile>, ReadError> {
        if let Some((_, file)) = self.file.as_ref().filter(|(open, _)| *open == base) {
            return Ok(Arc::clone(file));
        }
        match pack::open(&*self.shared.disk, &self.shared.config.dir, base) {
            Ok(pack::Opened { file, .. }) => {
                self.file = Some((base, Arc::clone(&file)));
                Ok(file)
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Err(ReadError::Gone { asked: self.after, first: first_epoch(&lock(&self.shared.view)) })
            }
            Err(source) => Err(ReadError::Io { path: segment::path(&self.shared.config.dir, base), source }),
        }
    }

    fn path(&self) -> PathBuf {
        segment::path(&self.shared.config.dir, self.file.as_ref().map_or(Position(0), |(base, _)| *base))
    }

    fn corrupt(&self, reason: &'static str) -> ReadError {
        ReadError::Corrupt { position: self.at, path: self.path(), reason }
    }
}

/// The log holds every commit after this one.
pub(super) fn first_epoch(view: &View) -> Epoch {
    view.segments.front().map_or(view.chain.epoch, |s| s.before.epoch)
}

const _: () = assert!(SEGMENT_HEADER >= COMMIT_HEADER);
