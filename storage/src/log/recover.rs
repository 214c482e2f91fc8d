//! After a crash: a torn tail is cut, corruption is refused.
//!
//! Bytes that were never known synced may be missing, whole or in part, in any pattern; nobody was told that they are
//! safe, and nobody has seen them. Bytes that were known synced must be there. Commits carry `synced_to`, so damage at a
//! position is
//! - a *torn tail*, if no intact commit header after it says that this position had been synced: the log is cut there,
//!   at the end of the last whole commit, and the loss is counted;
//! - *corruption*, if one does, or if a later segment exists (which begins only after a sync of the whole one before
//!   it): the log is not opened, and the position is named.
//!
//! Intact headers after the damage are looked for at every byte. One that an earlier life of the log left there, above
//! what that life had synced, does no harm: what it says to have been synced was, and has not been cut since.
//!
//! Only the last segment is read here. The older ones must have a valid header, the right length and the right
//! neighbours; their commits are checked whenever they are read.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::commit::{COMMIT_HEADER, COMMIT_MAGIC, Chain, CommitHeader};
use super::pack;
use super::segment::{self, BadHeader, LogId, SEGMENT_HEADER, Segment, SegmentHeader, VERSION};
use super::{Epoch, LogConfig, Offset, OpenError, Position};
use crate::clock::Clock;
use crate::disk::{Disk, DiskFile};

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Whether there was no log, and one was begun.
    pub created: bool,
    /// The last commit in the log.
    pub last_epoch: Epoch,
    /// The number that the next record gets.
    pub next_offset: Offset,
    /// How many segments there are.
    pub segments: usize,
    /// What was cut off.
    pub torn: Option<TornTail>,
    /// Whether `floor` was above the log's last commit: something outside the log remembers commits that the log has
    /// lost (possible with `durability = write` or `none` after loss of power, or when the log's folder was removed).
    pub floor_above_log: bool,
}

/// The unfinished end of a log, as a crash leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// Where it began.
    pub position: Position,
    /// Its length.
    pub bytes: u64,
    /// What was wrong there.
    pub reason: &'static str,
}

/// A log ready for its writer.
pub(super) struct Recovered {
    pub id: LogId,
    pub segments: VecDeque<Segment>,
    pub file: Arc<dyn DiskFile>,
    pub base: Position,
    pub end: Position,
    pub chain: Chain,
    pub recovery: Recovery,
}

/// Opens the segments in the folder, or begins a log.
pub(super) fn recover(
    config: &LogConfig,
    disk: &dyn Disk,
    clock: &dyn Clock,
    floor: Epoch,
) -> Result<Recovered, OpenError> {
    let dir = &config.dir;
    disk.create_dir_all(dir).map_err(io_error("create", dir))?;
    pack::clean_up(disk, dir).map_err(io_error("clean up", dir))?;
    let (headers, unfinished) = read_headers(disk, dir)?;
    check_neighbours(dir, &headers)?;
    let Some(&Found { header: last, .. }) = headers.last() else { return begin(config, disk, clock, floor) };
    let path = segment::path(dir, last.base);
    let file = disk.open(&path, true).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => corrupt(dir, &last, last.base, "the segment is sealed, and none follows it"),
        _ => io_error("open", &path)(error),
    })?;
    let bytes = disk.read(&path).map_err(io_error("read", &path))?;
    let scan = scan(&last, &bytes, |_, _, _| {});
    if let Some(damage) = &scan.damage {
        if damage.had_been_synced || unfinished.is_some_and(|next| damage.at < next) {
            return Err(corrupt(dir, &last, damage.at, damage.reason));
        }
        file.set_len(scan.end.0 - last.base.0).map_err(io_error("cut", &path))?;
        tracing::warn!(position = damage.at.0, bytes = damage.bytes, reason = damage.reason, "cut the log's torn tail");
    }
    // What is shown to readers from here on must not vanish in the next crash.
    file.sync().map_err(io_error("sync", &path))?;
    disk.sync_dir(dir).map_err(io_error("sync", dir))?;
    let mut segments: VecDeque<Segment> = headers.iter().map(Found::segment).collect();
    let ends: Vec<Position> = segments.iter().skip(1).map(|s| s.base).collect();
    segments.iter_mut().zip(ends).for_each(|(segment, end)| segment.end = Some(end));
    let recovery = Recovery {
        created: false,
        last_epoch: scan.chain.epoch,
        next_offset: scan.chain.next_offset,
        segments: segments.len(),
        torn: scan.damage.map(|d| TornTail { position: d.at, bytes: d.bytes, reason: d.reason }),
        floor_above_log: floor > scan.chain.epoch,
    };
    Ok(Recovered { id: last.log, segments, file, base: last.base, end: scan.end, chain: scan.chain, recovery })
}

/// A new log. Its first segment says that it begins at `floor`, so that nobody reads it from an older mark.
fn begin(config: &LogConfig, disk: &dyn Disk, clock: &dyn Clock, floor: Epoch) -> Result<Recovered, OpenError> {
    let dir = &config.dir;
    let created_us = clock.wall_us();
    let id = LogId::new(created_us, dir);
    let chain = Chain { epoch: floor, next_offset: Offset(1), link: 0 };
    let base = Position(0);
    let header = SegmentHeader { log: id, base, before: chain, created_us };
    let file = segment::create(disk, dir, &header).map_err(io_error("create", &segment::path(dir, base)))?;
    let recovery = Recovery {
        created: true,
        last_epoch: floor,
        next_offset: chain.next_offset,
        segments: 1,
        torn: None,
        floor_above_log: floor > Epoch(0),
    };
    let segments = VecDeque::from([Segment { base, end: None, before: chain, packed_bytes: None }]);
    Ok(Recovered { id, segments, file, base, end: Position(SEGMENT_HEADER as u64), chain, recovery })
}

/// A segment as it lies there.
struct Found {
    header: SegmentHeader,
    /// Its length before packing.
    len: u64,
    packed_bytes: Option<u64>,
}

impl Found {
    fn segment(&self) -> Segment {
        Segment { base: self.header.base, end: None, before: self.header.before, packed_bytes: self.packed_bytes }
    }
}

/// The headers of all segments, in order, and their files' lengths. A last one that a crash left unfinished is removed,
/// and its position given.
fn read_headers(disk: &dyn Disk, dir: &Path) -> Result<(Vec<Found>, Option<Position>), OpenError> {
    let bases = list(disk, dir)?;
    let mut headers = Vec::with_capacity(bases.len());
    let mut unfinished = None;
    for &base in &bases {
        let plain = segment::path(dir, base);
        let pack::Opened { path, file, packed_bytes } =
            pack::open(disk, dir, base).map_err(io_error("open", &plain))?;
        let len = file.len().map_err(io_error("read", &path))?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(SEGMENT_HEADER)];
        file.read_exact_at(0, &mut bytes).map_err(io_error("read", &path))?;
        match SegmentHeader::decode(&bytes) {
            Ok(header) if header.base != base => {
                return Err(corrupt(dir, &header, header.base, "the file has the name of another segment"));
            }
            Ok(header) => headers.push(Found { header, len, packed_bytes }),
            Err(BadHeader::Version(found)) => return Err(OpenError::Version { path, found, known: VERSION }),
            // A crash while it was begun: nothing can be in it, see `segment`.
            Err(BadHeader::Damaged(_)) if Some(&base) == bases.last() && len <= SEGMENT_HEADER as u64 => {
                disk.remove(&path).map_err(io_error("remove", &path))?;
                disk.sync_dir(dir).map_err(io_error("sync", dir))?;
                unfinished = Some(base);
            }
            Err(BadHeader::Damaged(reason)) => {
                return Err(OpenError::Corrupt { position: base, path, byte: 0, reason });
            }
        }
    }
    Ok((headers, unfinished))
}

/// Every segment but the last must end where the next one begins, and belong to the same log.
fn check_neighbours(dir: &Path, headers: &[Found]) -> Result<(), OpenError> {
    for (Found { header: segment, len, .. }, next) in headers.iter().zip(headers.iter().skip(1)) {
        let next = &next.header;
        if segment.log != next.log {
            return Err(corrupt(dir, next, next.base, "the segment belongs to another log"));
        }
        let end = segment.base.0 + len;
        if end < next.base.0 {
            return Err(corrupt(dir, segment, Position(end), "the segment is cut short, or one after it is missing"));
        }
        if end > next.base.0 {
            return Err(corrupt(dir, segment, next.base, "the segment goes on after its end"));
        }
    }
    Ok(())
}

/// The positions of the segments in a folder, in order.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<Position>, OpenError> {
    let names = disk.list(dir).map_err(io_error("list", dir))?;
    let mut bases: Vec<Position> = names.iter().filter_map(|name| segment::parse_name(name)).collect();
    bases.sort_unstable();
    bases.dedup();
    Ok(bases)
}

/// What a segment holds.
pub(super) struct Scan {
    /// What must follow its last whole commit.
    pub chain: Chain,
    /// Where that one ends.
    pub end: Position,
    pub damage: Option<Damage>,
}

/// The first place at which a segment does not go on as it should.
pub(super) struct Damage {
    pub at: Position,
    pub reason: &'static str,
    /// From there to the end of the file.
    pub bytes: u64,
    /// Whether a later commit says that the damaged bytes had been synced.
    pub had_been_synced: bool,
}

/// Goes through a plain segment, given whole, commit by commit, to its end or the first damage.
pub(super) fn scan(segment: &SegmentHeader, file: &[u8], mut each: impl FnMut(Position, &CommitHeader, &[u8])) -> Scan {
    let mut chain = segment.before;
    let mut at = SEGMENT_HEADER;
    loop {
        let position = Position(segment.base.0 + at as u64);
        let rest = file.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Scan { chain, end: position, damage: None };
        }
        match next_commit(segment, position, rest, chain) {
            Ok((header, body, follows)) => {
                each(position, &header, body);
                chain = follows;
                at += header.total_len();
            }
            Err(reason) => {
                let had_been_synced = synced_beyond(segment, position, file, at + 1);
                let damage = Damage { at: position, reason, bytes: rest.len() as u64, had_been_synced };
                return Scan { chain, end: position, damage: Some(damage) };
            }
        }
    }
}

/// The commit at the front of these bytes, whole, and what must follow it.
fn next_commit<'a>(
    segment: &SegmentHeader,
    at: Position,
    rest: &'a [u8],
    chain: Chain,
) -> Result<(CommitHeader, &'a [u8], Chain), &'static str> {
    let (header, link) = CommitHeader::decode(rest, segment.log, at)?;
    let follows = chain.follow(&header, link)?;
    let body = rest.get(COMMIT_HEADER..header.total_len()).ok_or("the commit is cut short")?;
    header.check_body(body)?;
    Ok((header, body, follows))
}

/// Whether an intact commit header in the rest of the file says that more than `damaged` had been synced.
fn synced_beyond(segment: &SegmentHeader, damaged: Position, file: &[u8], from: usize) -> bool {
    let candidates = file.get(from..).unwrap_or_default().windows(COMMIT_HEADER).enumerate();
    candidates.filter(|(_, bytes)| bytes.starts_with(&COMMIT_MAGIC)).any(|(i, bytes)| {
        let at = Position(segment.base.0 + (from + i) as u64);
        CommitHeader::decode(bytes, segment.log, at).is_ok_and(|(header, _)| header.synced_to > damaged)
    })
}

fn corrupt(dir: &Path, segment: &SegmentHeader, position: Position, reason: &'static str) -> OpenError {
    let byte = position.0.saturating_sub(segment.base.0);
    OpenError::Corrupt { position, path: segment::path(dir, segment.base), byte, reason }
}

pub(super) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}
