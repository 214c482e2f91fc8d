//! One file of the log.
//!
//! # Segment file, format 1
//!
//! A segment is named after its position in the log, in twenty digits: `00000000000000000000.log` is the first. It
//! begins with a header of 96 bytes; commits follow without gaps. Numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `HGLOGSEG` |
//! | 4 | version of the format of segment, commits and frames: 1 |
//! | 4 | zeros |
//! | 16 | id of the log, the same in all its segments |
//! | 8 | position in the log of this file's first byte |
//! | 8 | epoch of the last commit before it; of the floor at which the log began, in the first |
//! | 8 | offset of the first record in it |
//! | 8 | wall clock at creation, µs since 1970 |
//! | 4 | link of the last commit before it, 0 if none |
//! | 24 | zeros, for later versions |
//! | 4 | crc32c of the 92 bytes above |
//!
//! A segment comes to be only after the one before it was synced whole, and takes commits only after its header and
//! its name in the directory were synced.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::commit::Chain;
use super::fields::Fields;
use super::{Epoch, Offset, Position};
use crate::disk::{Disk, DiskFile};

pub(super) const SEGMENT_HEADER: usize = 96;
pub(super) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"HGLOGSEG";
pub(super) const SUFFIX: &str = ".log";
pub(super) const PACKED_SUFFIX: &str = ".logz";

/// Tells the segments of one log from those of every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogId(pub [u8; 16]);

impl LogId {
    /// An id for a log that begins now.
    pub fn new(wall_us: u64, dir: &Path) -> Self {
        let mut id = [0; 16];
        let place = crc32c::crc32c(dir.as_os_str().as_encoded_bytes());
        let parts =
            wall_us.to_le_bytes().into_iter().chain(place.to_le_bytes()).chain(std::process::id().to_le_bytes());
        id.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        Self(id)
    }
}

/// A segment's header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub log: LogId,
    pub base: Position,
    /// What the first commit in it must follow.
    pub before: Chain,
    pub created_us: u64,
}

/// Why a file's first bytes are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Not a header, or a damaged one.
    Damaged(&'static str),
    /// Written by another version of the program.
    Version(u32),
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut header = [0; SEGMENT_HEADER];
        let fields: [&[u8]; 9] = [
            &MAGIC,
            &VERSION.to_le_bytes(),
            &[0; 4],
            &self.log.0,
            &self.base.0.to_le_bytes(),
            &self.before.epoch.0.to_le_bytes(),
            &self.before.next_offset.0.to_le_bytes(),
            &self.created_us.to_le_bytes(),
            &self.before.link.to_le_bytes(),
        ];
        header.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        let (fields, crc) = header.split_at_mut(SEGMENT_HEADER - 4);
        crc.copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
        header
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        const SHORT: BadHeader = BadHeader::Damaged("the segment header is cut short");
        let mut all = Fields(bytes.get(..SEGMENT_HEADER).ok_or(SHORT)?);
        let sealed = all.bytes(SEGMENT_HEADER - 4).ok_or(SHORT)?;
        let crc = all.u32().ok_or(SHORT)?;
        let mut fields = Fields(sealed);
        if fields.array() != Some(MAGIC) {
            return Err(BadHeader::Damaged("the file is not a log segment"));
        }
        // The version comes before the checksum: another version may place its checksum elsewhere.
        let version = fields.u32().ok_or(SHORT)?;
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        if crc32c::crc32c(sealed) != crc {
            return Err(BadHeader::Damaged("the segment header does not match its checksum"));
        }
        fields.bytes(4).ok_or(SHORT)?;
        let log = LogId(fields.array().ok_or(SHORT)?);
        let base = Position(fields.u64().ok_or(SHORT)?);
        let epoch = Epoch(fields.u64().ok_or(SHORT)?);
        let next_offset = Offset(fields.u64().ok_or(SHORT)?);
        let created_us = fields.u64().ok_or(SHORT)?;
        let link = fields.u32().ok_or(SHORT)?;
        Ok(Self { log, base, before: Chain { epoch, next_offset, link }, created_us })
    }
}

/// The file of the segment at this position.
pub(super) fn path(dir: &Path, base: Position) -> PathBuf {
    dir.join(format!("{:020}{SUFFIX}", base.0))
}

/// The file of the segment at this position, if it is packed.
pub(super) fn packed_path(dir: &Path, base: Position) -> PathBuf {
    dir.join(format!("{:020}{PACKED_SUFFIX}", base.0))
}

/// The position in a segment's name, plain or packed; `None` if the file is something else.
pub(super) fn parse_name(name: &str) -> Option<Position> {
    let digits = name.strip_suffix(SUFFIX).or_else(|| name.strip_suffix(PACKED_SUFFIX))?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then(|| digits.parse().ok().map(Position)).flatten()
}

/// One segment, as the writer, the readers and retention know it.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub base: Position,
    /// Where it ends, once it takes no more commits.
    pub end: Option<Position>,
    pub before: Chain,
    /// Length of its file, if it is packed.
    pub packed_bytes: Option<u64>,
}

impl Segment {
    pub fn first_commit(&self) -> Position {
        Position(self.base.0 + SEGMENT_HEADER as u64)
    }

    /// Bytes on the disk, for a log that ends at `end`.
    pub fn stored_bytes(&self, end: Position) -> u64 {
        self.packed_bytes.unwrap_or_else(|| self.end.unwrap_or(end).0.saturating_sub(self.base.0))
    }
}

/// Begins a segment: its header and its name are synced when this returns.
pub(super) fn create(disk: &dyn Disk, dir: &Path, header: &SegmentHeader) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(&path(dir, header.base))?;
    file.write_all_at(0, &mut [IoSlice::new(&header.encode())])?;
    file.sync()?;
    disk.sync_dir(dir)?;
    Ok(file)
}
