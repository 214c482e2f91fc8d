//! Looking at a log without touching it: no lock, no recovery, nothing written. Works beside a running server, whose
//! newest commit may then show as an unfinished tail.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::commit::CommitHeader;
use super::pack;
use super::recover::{self, Damage, io_error, scan};
use super::segment::{self, BadHeader, SEGMENT_HEADER, SegmentHeader, VERSION};
use super::{Commit, Epoch, Offset, OpenError, Position};
use crate::disk::Disk;

/// The segments of a log, as they are on the disk.
pub struct LogFiles {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    segments: Vec<SegmentFile>,
}

/// One segment file, by its header.
#[derive(Debug, Clone)]
pub struct SegmentFile {
    /// The file.
    pub path: PathBuf,
    /// Position in the log of its first byte.
    pub base: Position,
    /// Its length, before it was packed.
    pub bytes: u64,
    /// Its length on the disk.
    pub stored_bytes: u64,
    /// The last epoch before it.
    pub after_epoch: Epoch,
    /// The number of the first record in it.
    pub first_offset: Offset,
    /// Wall clock at its creation, µs since 1970.
    pub created_us: u64,
    /// Why it cannot be read, if it cannot.
    pub broken: Option<String>,
    header: Option<SegmentHeader>,
}

/// What a full reading of one segment found.
#[derive(Debug, Clone)]
pub struct SegmentReport {
    /// The file.
    pub path: PathBuf,
    /// Whole commits.
    pub commits: u64,
    /// Records in them.
    pub records: u64,
    /// The first and the last epoch in it.
    pub epochs: Option<(Epoch, Epoch)>,
    /// The first and the last record in it.
    pub offsets: Option<(Offset, Offset)>,
    /// Where it stops being good, if it does.
    pub damage: Option<DamageReport>,
}

/// Damage, and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamageReport {
    /// Position in the log.
    pub position: Position,
    /// Position in the file.
    pub byte: u64,
    /// From there to the end of the file.
    pub bytes: u64,
    /// What is wrong.
    pub reason: String,
    /// Whether the bytes had been synced: then this is corruption, and a server refuses to start. If not, it is the
    /// unfinished end of a log, which the next start cuts off.
    pub corruption: bool,
}

impl LogFiles {
    /// The log in this folder.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let bases = recover::list(&*disk, dir)?;
        let described = bases.into_iter().map(|base| describe(&*disk, dir, base));
        // A server beside us may drop segments after they were listed.
        let is_gone = |error: &OpenError| matches!(error, OpenError::Io { source, .. } if not_found(source));
        let segments = described.filter(|segment| !segment.as_ref().is_err_and(is_gone)).collect::<Result<_, _>>()?;
        Ok(Self { dir: dir.to_owned(), disk, segments })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its segments, oldest first.
    pub fn segments(&self) -> &[SegmentFile] {
        &self.segments
    }

    /// Reads one segment to its end or the first damage, checks every checksum, and shows every whole commit.
    pub fn read(
        &self,
        segment: &SegmentFile,
        mut each: impl FnMut(Position, Commit),
    ) -> Result<SegmentReport, OpenError> {
        let path = segment.path.clone();
        let mut report = SegmentReport { path, commits: 0, records: 0, epochs: None, offsets: None, damage: None };
        let Some(header) = &segment.header else {
            let reason = segment.broken.clone().unwrap_or_default();
            let corruption = segment.bytes > SEGMENT_HEADER as u64 || !self.is_last(segment);
            report.damage =
                Some(DamageReport { position: segment.base, byte: 0, bytes: segment.bytes, reason, corruption });
            return Ok(report);
        };
        let file = self.contents(segment).map_err(io_error("read", &segment.path))?;
        let scanned = scan(header, &file, |at, header, body| {
            report.count(header);
            let body = file.slice_ref(body);
            let CommitHeader { epoch, first_offset, count, .. } = *header;
            each(at, Commit::new(epoch, first_offset, count, Arc::new([body])));
        });
        report.damage = scanned.damage.map(|damage| self.judge(segment, &damage));
        if report.damage.is_none() {
            report.damage = self.gap_after(segment, scanned.end);
        }
        Ok(report)
    }

    /// Reads every segment. The log is sound if no report has corruption.
    pub fn verify(&self) -> Result<Vec<SegmentReport>, OpenError> {
        self.segments.iter().map(|segment| self.read(segment, |_, _| {})).collect()
    }

    /// A segment's bytes before packing. A server beside us may have packed it since it was listed.
    fn contents(&self, segment: &SegmentFile) -> io::Result<Bytes> {
        let file = pack::open(&*self.disk, &self.dir, segment.base)?.file;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_exact_at(0, &mut bytes)?;
        Ok(bytes.into())
    }

    /// Whether a server beside us has dropped the segment since it was listed.
    pub fn is_gone(&self, segment: &SegmentFile) -> bool {
        pack::open(&*self.disk, &self.dir, segment.base).is_err_and(|error| not_found(&error))
    }

    fn is_last(&self, segment: &SegmentFile) -> bool {
        self.segments.last().is_some_and(|last| last.base == segment.base)
    }

    fn judge(&self, segment: &SegmentFile, damage: &Damage) -> DamageReport {
        DamageReport {
            position: damage.at,
            byte: damage.at.0 - segment.base.0,
            bytes: damage.bytes,
            reason: damage.reason.to_owned(),
            corruption: damage.had_been_synced || !self.is_last(segment),
        }
    }

    /// Between this segment's end and the next one's beginning there must be nothing.
    fn gap_after(&self, segment: &SegmentFile, end: Position) -> Option<DamageReport> {
        let next = self.segments.iter().find(|s| s.base > segment.base)?;
        let reason = "the segment does not end where the next one begins".to_owned();
        let byte = end.0 - segment.base.0;
        (next.base != end).then_some(DamageReport { position: end, byte, bytes: 0, reason, corruption: true })
    }
}

impl SegmentReport {
    fn count(&mut self, header: &CommitHeader) {
        self.commits += 1;
        self.records += u64::from(header.count);
        let last = Offset(header.first_offset.0 + u64::from(header.count) - 1);
        self.epochs = Some((self.epochs.map_or(header.epoch, |(first, _)| first), header.epoch));
        self.offsets = Some((self.offsets.map_or(header.first_offset, |(first, _)| first), last));
    }
}

fn not_found(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn describe(disk: &dyn Disk, dir: &Path, base: Position) -> Result<SegmentFile, OpenError> {
    let plain = segment::path(dir, base);
    let pack::Opened { path, file, packed_bytes } = pack::open(disk, dir, base).map_err(io_error("open", &plain))?;
    let bytes = file.len().map_err(io_error("read", &path))?;
    let mut start = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX).min(SEGMENT_HEADER)];
    file.read_exact_at(0, &mut start).map_err(io_error("read", &path))?;
    let (header, broken) = match SegmentHeader::decode(&start) {
        Ok(header) if header.base != base => (None, Some("the file has the name of another segment".to_owned())),
        Ok(header) => (Some(header), None),
        Err(BadHeader::Damaged(reason)) => (None, Some(reason.to_owned())),
        Err(BadHeader::Version(found)) => {
            (None, Some(format!("format version {found}, this program knows {VERSION}; use the version that wrote it")))
        }
    };
    let (after_epoch, first_offset) = header.map_or_else(Default::default, |h| (h.before.epoch, h.before.next_offset));
    let created_us = header.map_or(0, |h| h.created_us);
    let stored_bytes = packed_bytes.unwrap_or(bytes);
    Ok(SegmentFile { path, base, bytes, stored_bytes, after_epoch, first_offset, created_us, broken, header })
}
