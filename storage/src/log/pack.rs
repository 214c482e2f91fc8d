//! Sealed segments, compressed: the same bytes on a fraction of the disk.
//!
//! # Packed segment, format 1
//!
//! `….logz` stands for the sealed segment `….log`: that file's bytes in blocks of equal size (the last may be shorter),
//! each compressed by itself, then an index and a trailer. Numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | … | the blocks, each one zstd frame |
//! | 8 a block | length of its frame, crc32c of its frame (4 bytes each) |
//! | 8 | `HGLOGPAK` |
//! | 4 | version: 1 |
//! | 4 | bytes of a block before compression |
//! | 8 | bytes of the segment before compression |
//! | 4 | crc32c of the index and of the 24 bytes above |
//!
//! The plain file is removed only after the packed one was synced, whole, under its name: where both are, the plain one
//! counts. The segment that takes commits is never packed.

use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Position;
use super::config::add;
use super::fields::Fields;
use super::segment;
use super::shared::{Shared, lock};
use crate::disk::{Disk, DiskFile};

const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"HGLOGPAK";
const TRAILER: usize = 28;
const INDEX_ENTRY: usize = 8;
/// What a reader has to decompress for one byte.
const BLOCK: usize = 256 << 10;
/// The fastest: telemetry repeats itself so much that more work is not worth its time.
const LEVEL: i32 = 1;

/// A segment opened for reading.
pub(super) struct Opened {
    pub path: PathBuf,
    /// Its bytes before packing.
    pub file: Arc<dyn DiskFile>,
    /// Length of the file at `path`, if it is packed.
    pub packed_bytes: Option<u64>,
}

/// Opens a segment for reading, plain or packed.
pub(super) fn open(disk: &dyn Disk, dir: &Path, base: Position) -> io::Result<Opened> {
    let path = segment::path(dir, base);
    match disk.open(&path, false) {
        Ok(file) => Ok(Opened { path, file, packed_bytes: None }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let path = segment::packed_path(dir, base);
            let file = disk.open(&path, false)?;
            let packed_bytes = Some(file.len()?);
            Ok(Opened { path, file: Arc::new(Packed::open(file)?), packed_bytes })
        }
        Err(error) => Err(error),
    }
}

/// Packs what is sealed, until the log is closed.
pub(super) fn run(shared: &Shared) {
    while !lock(&shared.view).closed {
        for base in unpacked(shared) {
            if let Err(error) = pack(shared, base) {
                let path = segment::path(&shared.config.dir, base);
                tracing::warn!(path = %path.display(), %error, "a sealed segment could not be compressed and stays as it is");
            }
        }
        let _ = shared.sealed.1.recv();
    }
}

/// Packs one sealed segment; says whether it did: retention may have been faster.
pub(super) fn pack(shared: &Shared, base: Position) -> io::Result<bool> {
    let (disk, dir) = (&*shared.disk, &shared.config.dir);
    let (plain_path, packed_path) = (segment::path(dir, base), segment::packed_path(dir, base));
    let unfinished = unfinished_path(dir, base);
    let plain = match disk.open(&plain_path, false) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        plain => plain?,
    };
    let written = disk.create(&unfinished).and_then(|file| write(&*plain, &*file));
    let bytes = written.inspect_err(|_| drop(disk.remove(&unfinished)))?;
    // From here on retention waits, or has already taken the segment.
    let _removing = lock(&shared.removing);
    let mut view = lock(&shared.view);
    let Some(segment) = view.segments.iter_mut().find(|segment| segment.base == base) else {
        drop(view);
        disk.remove(&unfinished)?;
        return Ok(false);
    };
    segment.packed_bytes = Some(bytes);
    drop(view);
    disk.rename(&unfinished, &packed_path)?;
    disk.sync_dir(dir)?;
    disk.remove(&plain_path)?;
    disk.sync_dir(dir)?;
    add(&shared.metrics.segments_packed, 1);
    Ok(true)
}

/// What a crash left of packing: files that were never finished, and packed ones beside plain ones.
pub(super) fn clean_up(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let names = disk.list(dir)?;
    for name in &names {
        let unfinished = name.ends_with(UNFINISHED);
        let beside_plain = name
            .strip_suffix(segment::PACKED_SUFFIX)
            .is_some_and(|stem| names.iter().any(|other| other.strip_suffix(segment::SUFFIX) == Some(stem)));
        if unfinished || beside_plain {
            disk.remove(&dir.join(name))?;
        }
    }
    Ok(())
}

/// The sealed segments that are not packed yet, oldest first.
pub(super) fn unpacked(shared: &Shared) -> Vec<Position> {
    if !shared.config.compress {
        return Vec::new();
    }
    let view = lock(&shared.view);
    let sealed = view.segments.iter().filter(|segment| segment.end.is_some() && segment.packed_bytes.is_none());
    sealed.map(|segment| segment.base).collect()
}

const UNFINISHED: &str = ".logz.unfinished";

fn unfinished_path(dir: &Path, base: Position) -> PathBuf {
    dir.join(format!("{:020}{UNFINISHED}", base.0))
}

/// Writes the packed form, synced, and says how long it is.
fn write(plain: &dyn DiskFile, packed: &dyn DiskFile) -> io::Result<u64> {
    let len = plain.len()?;
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    let (mut index, mut at, mut from) = (Vec::new(), 0_u64, 0_u64);
    let mut block = vec![0; BLOCK];
    while from < len {
        let take = usize::try_from(len - from).unwrap_or(BLOCK).min(BLOCK);
        block.truncate(take);
        plain.read_exact_at(from, &mut block)?;
        let frame = compressor.compress(&block)?;
        packed.write_all_at(at, &mut [IoSlice::new(&frame)])?;
        index.extend((frame.len() as u32).to_le_bytes());
        index.extend(crc32c::crc32c(&frame).to_le_bytes());
        at += frame.len() as u64;
        from += take as u64;
    }
    let mut trailer = Vec::with_capacity(TRAILER);
    trailer.extend(MAGIC);
    trailer.extend(VERSION.to_le_bytes());
    trailer.extend((BLOCK as u32).to_le_bytes());
    trailer.extend(len.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&index), &trailer);
    trailer.extend(crc.to_le_bytes());
    packed.write_all_at(at, &mut [IoSlice::new(&index), IoSlice::new(&trailer)])?;
    packed.sync()?;
    Ok(at + (index.len() + trailer.len()) as u64)
}

/// A packed segment, read as if it were plain.
struct Packed {
    file: Arc<dyn DiskFile>,
    block_bytes: usize,
    plain_bytes: u64,
    blocks: Vec<Block>,
    /// The block that was read last.
    last: Mutex<Option<(usize, Vec<u8>)>>,
}

struct Block {
    at: u64,
    len: usize,
    crc: u32,
}

impl Packed {
    fn open(file: Arc<dyn DiskFile>) -> io::Result<Self> {
        let len = file.len()?;
        let index_end = len.checked_sub(TRAILER as u64).ok_or_else(|| damaged("it is cut short"))?;
        let mut trailer = [0; TRAILER];
        file.read_exact_at(index_end, &mut trailer)?;
        let mut fields = Fields(&trailer);
        let short = || damaged("it is cut short");
        if fields.array() != Some(MAGIC) {
            return Err(damaged("it does not end as one"));
        }
        let version = fields.u32().ok_or_else(short)?;
        if version != VERSION {
            let reason = format!("packed segment of format {version}, this program knows {VERSION}");
            return Err(io::Error::new(ErrorKind::Unsupported, reason));
        }
        let block_bytes = fields.u32().ok_or_else(short)? as usize;
        let plain_bytes = fields.u64().ok_or_else(short)?;
        let crc = fields.u32().ok_or_else(short)?;
        let count = plain_bytes.checked_div(block_bytes as u64).ok_or_else(|| damaged("its blocks have no size"))?
            + u64::from(plain_bytes % block_bytes as u64 != 0);
        let index_len = count.checked_mul(INDEX_ENTRY as u64).filter(|bytes| *bytes <= index_end);
        let index_len = index_len.ok_or_else(|| damaged("its index is too long"))?;
        let mut index = vec![0; usize::try_from(index_len).map_err(io::Error::other)?];
        file.read_exact_at(index_end - index_len, &mut index)?;
        let sealed = trailer.get(..TRAILER - 4).unwrap_or_default();
        if crc32c::crc32c_append(crc32c::crc32c(&index), sealed) != crc {
            return Err(damaged("its index does not match its checksum"));
        }
        let (mut blocks, mut at, mut entries) = (Vec::new(), 0, Fields(&index));
        while let (Some(len), Some(crc)) = (entries.u32(), entries.u32()) {
            blocks.push(Block { at, len: len as usize, crc });
            at += u64::from(len);
        }
        if at != index_end - index_len {
            return Err(damaged("its blocks do not fill it"));
        }
        Ok(Self { file, block_bytes, plain_bytes, blocks, last: Mutex::default() })
    }

    fn decompress(&self, number: usize) -> io::Result<Vec<u8>> {
        let block = self.blocks.get(number).ok_or(ErrorKind::UnexpectedEof)?;
        let mut frame = vec![0; block.len];
        self.file.read_exact_at(block.at, &mut frame)?;
        if crc32c::crc32c(&frame) != block.crc {
            return Err(damaged("a block does not match its checksum"));
        }
        zstd::bulk::decompress(&frame, self.block_bytes).map_err(|_| damaged("a block does not decompress"))
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("damaged packed segment: {what}"))
}

fn read_only() -> io::Error {
    io::Error::new(ErrorKind::ReadOnlyFilesystem, "a packed segment takes no commits")
}

impl DiskFile for Packed {
    fn len(&self) -> io::Result<u64> {
        Ok(self.plain_bytes)
    }

    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        if position >= self.plain_bytes || into.is_empty() {
            return Ok(0);
        }
        let number = usize::try_from(position / self.block_bytes as u64).map_err(io::Error::other)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(known, _)| *known != number) {
            *last = Some((number, self.decompress(number)?));
        }
        let block = last.as_ref().map_or(&[][..], |(_, block)| block);
        let from = (position % self.block_bytes as u64) as usize;
        let bytes = block.get(from..).unwrap_or_default();
        let count = bytes.len().min(into.len());
        into.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Ok(count)
    }

    fn write_some_at(&self, _: u64, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(read_only())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(read_only())
    }
}
