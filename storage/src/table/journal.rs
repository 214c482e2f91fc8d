//! Making a database's folder fit to be opened after a crash: before `fjall` sees it.
//!
//! After a power failure any of the pages written since the last sync may be missing, in any order. `fjall` drops a last
//! batch that stops early, but refuses the whole database when a batch has all its frames and a hole in a value. Such a
//! batch was never synced: the journal is cut behind its last whole batch, and rows and marks agree again. What was cut
//! is reported, which `fjall` would not do.
//!
//! This reads the format of fjall 3 (`version` file `FJL` 3). A batch is: byte 1, count of items (u32), sequence number
//! (u64); then the items; then byte 3, xxh3 of the items' bytes (u64), `FJL` 3. An item is: byte 2, kind of value (u8),
//! compression (u8), keyspace (u64), length of key (u16), of value (u32), of value as stored (u32), key, value; or byte
//! 4, keyspace (u64). Integers have the least significant byte first. The active journal is `<n>.jnl` with the highest
//! n; zeros follow its last batch. Where another byte begins an item, this reader does not know the format: it leaves
//! the journal alone.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

const MAGIC: &[u8] = b"FJL\x03";
/// What is cut off is kept in a file of this name, in case somebody wants to look at it.
const KEPT: &str = "journal.cut";

/// What was cut off a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The journal.
    pub journal: PathBuf,
    /// Where it ends now: bytes of whole batches.
    pub kept_bytes: u64,
    /// What followed, without the zeros at its end.
    pub cut_bytes: u64,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { journal, kept_bytes, cut_bytes } = self;
        write!(f, "{}: kept {kept_bytes} bytes of whole batches, cut {cut_bytes} behind them", journal.display())
    }
}

/// Prepares the folder for opening. Fails with `WouldBlock` if a process has it open.
pub(super) fn prepare(folder: &Path) -> io::Result<Option<Repair>> {
    let lock = match OpenOptions::new().read(true).write(true).open(folder.join("lock")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    lock.try_lock()?;
    match fs::read(folder.join("version")) {
        Ok(version) if version.starts_with(MAGIC) => cut(folder),
        Ok(version) if !version.is_empty() => Ok(None),
        Ok(_) => undo_creation(folder),
        Err(error) if error.kind() == ErrorKind::NotFound => undo_creation(folder),
        Err(error) => Err(error),
    }
}

/// The `version` file is written last when a database is created: without it there was never a batch. `fjall` would not
/// go on from there, as its first journal is in the way.
fn undo_creation(folder: &Path) -> io::Result<Option<Repair>> {
    for name in ["version", "0.jnl"] {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(None)
}

/// Cuts the active journal behind its last whole batch, if something follows.
fn cut(folder: &Path) -> io::Result<Option<Repair>> {
    let Some(journal) = active(folder)? else {
        return Ok(None);
    };
    let Some(kept_bytes) = whole_batches(&journal)? else {
        return Ok(None);
    };
    let mut file = OpenOptions::new().read(true).write(true).open(&journal)?;
    file.seek(SeekFrom::Start(kept_bytes))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    tail.truncate(tail.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
    if tail.is_empty() {
        return Ok(None);
    }
    fs::write(folder.join(KEPT), &tail)?;
    file.set_len(kept_bytes)?;
    file.sync_all()?;
    Ok(Some(Repair { journal, kept_bytes, cut_bytes: tail.len() as u64 }))
}

pub(super) fn active(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse().ok());
        if let Some(number) = number
            && newest.as_ref().is_none_or(|(highest, _)| number > *highest)
        {
            newest = Some((number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// How many bytes at the journal's beginning are whole batches; None if it is not in the format known here.
pub(super) fn whole_batches(journal: &Path) -> io::Result<Option<u64>> {
    let file = File::open(journal)?;
    let length = file.metadata()?.len();
    let mut frames = Frames { input: BufReader::new(file), left: length, bytes: Vec::new() };
    let mut whole = 0;
    loop {
        match batch(&mut frames)? {
            Found::Whole => whole = length - frames.left,
            Found::Broken => return Ok(Some(whole)),
            Found::Unknown => return Ok(None),
        }
    }
}

#[derive(PartialEq)]
enum Found {
    Whole,
    Broken,
    Unknown,
}

/// Reads one batch.
fn batch(frames: &mut Frames) -> io::Result<Found> {
    let (a, b, c, d) = match frames.read::<13>()? {
        Some([1, a, b, c, d, ..]) => (a, b, c, d),
        Some([first, ..]) if first > 4 => return Ok(Found::Unknown),
        _ => return Ok(Found::Broken),
    };
    let mut hash = Xxh3::new();
    for _ in 0..u32::from_le_bytes([a, b, c, d]) {
        let found = item(frames, &mut hash)?;
        if found != Found::Whole {
            return Ok(found);
        }
    }
    let Some([3, end @ ..]) = frames.read::<13>()? else {
        return Ok(Found::Broken);
    };
    let is_whole = end.starts_with(&hash.digest().to_le_bytes()) && end.ends_with(MAGIC);
    Ok(if is_whole { Found::Whole } else { Found::Broken })
}

fn item(frames: &mut Frames, hash: &mut Xxh3) -> io::Result<Found> {
    let Some([kind]) = frames.read::<1>()? else {
        return Ok(Found::Broken);
    };
    hash.update(&[kind]);
    let bytes = match kind {
        2 => {
            let Some(header) = frames.read::<20>()? else {
                return Ok(Found::Broken);
            };
            hash.update(&header);
            let [.., k0, k1, _, _, _, _, v0, v1, v2, v3] = header;
            u64::from(u16::from_le_bytes([k0, k1])) + u64::from(u32::from_le_bytes([v0, v1, v2, v3]))
        }
        4 => 8,
        _ => return Ok(Found::Broken),
    };
    Ok(match frames.rest(bytes)? {
        Some(bytes) => {
            hash.update(bytes);
            Found::Whole
        }
        None => Found::Broken,
    })
}

struct Frames {
    input: BufReader<File>,
    left: u64,
    bytes: Vec<u8>,
}

impl Frames {
    fn read<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        Ok(self.rest(N as u64)?.and_then(|bytes| bytes.try_into().ok()))
    }

    /// The next `count` bytes; None if there are fewer.
    fn rest(&mut self, count: u64) -> io::Result<Option<&[u8]>> {
        if count > self.left {
            return Ok(None);
        }
        self.left -= count;
        self.bytes.clear();
        self.input.by_ref().take(count).read_to_end(&mut self.bytes)?;
        Ok((self.bytes.len() as u64 == count).then_some(&*self.bytes))
    }
}
