//! The header that makes a commit whole or void, and a commit as read.
//!
//! # Commit, format 1
//!
//! A commit is a header of 48 bytes and a body: the frames of its records, one after the other.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `HGCM` |
//! | 4 | length of the body |
//! | 8 | epoch: log time in µs, above that of the commit before |
//! | 8 | offset of its first record: one above the last of the commit before |
//! | 8 | `synced_to`: every byte of the log below this position was known synced when this header was written |
//! | 4 | number of records, at least 1 |
//! | 4 | crc32c over the checksums of all its frames, in order |
//! | 4 | link: the last field of the header before, over segments too; 0 in the log's first commit |
//! | 4 | crc32c of the log's id, this header's position in the log, and the 44 bytes above |
//!
//! So a header is valid in one log at one position only; with exactly those frames in that order; and after exactly
//! that commit. What an earlier life of the log left on the disk is never taken for part of this one. `synced_to`
//! tells the two kinds of damage apart: see `recover`.

use std::sync::Arc;

use bytes::Bytes;

use super::fields::Fields;
use super::record;
use super::segment::LogId;
use super::{Epoch, Frame, Offset, Position, Record};

pub(super) const COMMIT_HEADER: usize = 48;
pub(super) const COMMIT_MAGIC: [u8; 4] = *b"HGCM";

/// A commit's header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommitHeader {
    pub body_len: u32,
    pub epoch: Epoch,
    pub first_offset: Offset,
    pub synced_to: Position,
    pub count: u32,
    pub frames_crc: u32,
    pub link: u32,
}

impl CommitHeader {
    /// The stored form, and the link for the next commit.
    pub fn encode(&self, log: LogId, at: Position) -> ([u8; COMMIT_HEADER], u32) {
        let mut header = [0; COMMIT_HEADER];
        let fields: [&[u8]; 8] = [
            &COMMIT_MAGIC,
            &self.body_len.to_le_bytes(),
            &self.epoch.0.to_le_bytes(),
            &self.first_offset.0.to_le_bytes(),
            &self.synced_to.0.to_le_bytes(),
            &self.count.to_le_bytes(),
            &self.frames_crc.to_le_bytes(),
            &self.link.to_le_bytes(),
        ];
        let bytes = fields.into_iter().flatten();
        header.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let (fields, crc) = header.split_at_mut(COMMIT_HEADER - 4);
        let sealed = Self::crc(log, at, fields);
        crc.copy_from_slice(&sealed.to_le_bytes());
        (header, sealed)
    }

    /// The header and the link for the next commit, if these bytes are a header of this log at this position.
    pub fn decode(bytes: &[u8], log: LogId, at: Position) -> Result<(Self, u32), &'static str> {
        const SHORT: &str = "the commit header is cut short";
        let mut fields = Fields(bytes.get(..COMMIT_HEADER).ok_or(SHORT)?);
        let sealed = fields.bytes(COMMIT_HEADER - 4).ok_or(SHORT)?;
        let crc = fields.u32().ok_or(SHORT)?;
        let mut fields = Fields(sealed);
        if fields.array() != Some(COMMIT_MAGIC) {
            return Err("no commit begins here");
        }
        if Self::crc(log, at, sealed) != crc {
            return Err("the commit header does not match its checksum");
        }
        let header = Self {
            body_len: fields.u32().ok_or(SHORT)?,
            epoch: Epoch(fields.u64().ok_or(SHORT)?),
            first_offset: Offset(fields.u64().ok_or(SHORT)?),
            synced_to: Position(fields.u64().ok_or(SHORT)?),
            count: fields.u32().ok_or(SHORT)?,
            frames_crc: fields.u32().ok_or(SHORT)?,
            link: fields.u32().ok_or(SHORT)?,
        };
        Ok((header, crc))
    }

    /// Header and body.
    pub fn total_len(&self) -> usize {
        COMMIT_HEADER + self.body_len as usize
    }

    /// Whether the body is the one that this header was written for.
    pub fn check_body(&self, body: &[u8]) -> Result<(), &'static str> {
        let mut rest = Fields(body);
        let mut chained = 0;
        let mut count = 0_u32;
        while !rest.0.is_empty() {
            let (stored, content) = split_frame(&mut rest).ok_or("a record is cut short")?;
            let len = (content.len() as u32).to_le_bytes();
            if crc32c::crc32c_append(crc32c::crc32c(&len), content) != stored {
                return Err("a record does not match its checksum");
            }
            if record::decode(content).is_none() {
                return Err("a record is of a form that this version does not know");
            }
            chained = crc32c::crc32c_append(chained, &stored.to_le_bytes());
            count += 1;
        }
        if chained != self.frames_crc || count != self.count {
            return Err("the records are not the ones that the commit header was written for");
        }
        Ok(())
    }

    fn crc(log: LogId, at: Position, fields: &[u8]) -> u32 {
        let seed = crc32c::crc32c_append(crc32c::crc32c(&log.0), &at.0.to_le_bytes());
        crc32c::crc32c_append(seed, fields)
    }
}

/// The next frame's checksum and content.
fn split_frame<'a>(rest: &mut Fields<'a>) -> Option<(u32, &'a [u8])> {
    let len = rest.u32()?;
    let crc = rest.u32()?;
    Some((crc, rest.bytes(len as usize)?))
}

/// Where the log goes on after a commit: what the next header must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    pub epoch: Epoch,
    pub next_offset: Offset,
    pub link: u32,
}

impl Chain {
    /// What follows this commit, if it may stand here.
    pub fn follow(&self, header: &CommitHeader, link: u32) -> Result<Self, &'static str> {
        if header.link != self.link || header.first_offset != self.next_offset || header.epoch <= self.epoch {
            return Err("the commit does not follow the one before it");
        }
        let next_offset = Offset(header.first_offset.0 + u64::from(header.count));
        Ok(Self { epoch: header.epoch, next_offset, link })
    }
}

/// One whole commit, checked. Its records borrow from it; cloning is cheap.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Its name and log time.
    pub epoch: Epoch,
    /// Number of its first record.
    pub first_offset: Offset,
    /// How many records it has.
    pub count: u32,
    /// The frames, cut between two of them or not at all.
    parts: Arc<[Bytes]>,
}

impl Commit {
    pub(super) fn new(epoch: Epoch, first_offset: Offset, count: u32, parts: Arc<[Bytes]>) -> Self {
        Self { epoch, first_offset, count, parts }
    }

    /// Its records, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        // The reader gives out only commits in which every frame decodes, so this ends at the last record.
        self.frames().map_while(|frame| frame.record())
    }

    /// Its records, in order, not yet decoded.
    pub fn frames(&self) -> Frames<'_> {
        Frames { rest: Fields(&[]), parts: self.parts.iter(), next: self.first_offset }
    }

    /// Bytes of its frames.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// A part of a record of this commit as bytes that keep the commit's memory alive, without a copy.
    pub fn share(&self, part: &[u8]) -> Bytes {
        let within = |body: &Bytes| {
            let start = (part.as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
            body.get(start..start.wrapping_add(part.len())).map(|_| body.slice(start..start + part.len()))
        };
        self.parts.iter().find_map(within).unwrap_or_else(|| Bytes::copy_from_slice(part))
    }
}

/// The frames of one commit.
pub struct Frames<'a> {
    rest: Fields<'a>,
    parts: std::slice::Iter<'a, Bytes>,
    next: Offset,
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        while self.rest.0.is_empty() {
            self.rest = Fields(self.parts.next()?);
        }
        let (_, content) = split_frame(&mut self.rest)?;
        let offset = self.next;
        self.next.0 += 1;
        Some(Frame { offset, content })
    }
}
