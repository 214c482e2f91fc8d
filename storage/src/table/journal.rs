//! Cutting a torn end off fjall's journal.
//!
//! After a power failure any of the pages written since the last sync may be missing, in any order. `fjall` drops a
//! last batch that stops early, but refuses the whole database when a batch has all its frames and a hole in a value.
//! Such a batch was never synced; cut behind the last whole one, rows and marks agree again.
//!
//! This reads the format of fjall 3 (`version` file `FJL` 3). A batch is: byte 1, count of items (u32), sequence number
//! (u64); then the items; then byte 3, xxh3 of the items' bytes (u64), `FJL` 3. An item is: byte 2, kind of value (u8),
//! compression (u8), keyspace (u64), length of key (u16), of value (u32), of value as stored (u32), key, value; or byte
//! 4, keyspace (u64). Integers have the least significant byte first. The active journal is `<n>.jnl` with the highest
//! n; zeros follow its last batch.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
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

/// Cuts the active journal of the database in `folder` behind its last whole batch. None, and nothing is changed, if it
/// does not begin with a whole batch, or has a format unknown here.
pub(super) fn cut(folder: &Path) -> io::Result<Option<Repair>> {
    if !fs::read(folder.join("version"))?.starts_with(MAGIC) {
        return Ok(None);
    }
    let Some(journal) = active(folder)? else {
        return Ok(None);
    };
    let kept_bytes = whole_batches(&journal)?;
    if kept_bytes == 0 {
        return Ok(None);
    }
    let mut file = OpenOptions::new().read(true).write(true).open(&journal)?;
    file.seek(SeekFrom::Start(kept_bytes))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    tail.truncate(tail.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
    fs::write(folder.join(KEPT), &tail)?;
    file.set_len(kept_bytes)?;
    file.sync_all()?;
    Ok(Some(Repair { journal, kept_bytes, cut_bytes: tail.len() as u64 }))
}

fn active(folder: &Path) -> io::Result<Option<PathBuf>> {
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

/// How many bytes at the journal's beginning are whole batches.
fn whole_batches(journal: &Path) -> io::Result<u64> {
    let file = File::open(journal)?;
    let length = file.metadata()?.len();
    let mut frames = Frames { input: BufReader::new(file), left: length, bytes: Vec::new() };
    let mut whole = 0;
    while batch(&mut frames)?.is_some() {
        whole = length - frames.left;
    }
    Ok(whole)
}

/// Reads one batch; None if what follows is none.
fn batch(frames: &mut Frames) -> io::Result<Option<()>> {
    let Some([1, a, b, c, d, ..]) = frames.read::<13>()? else {
        return Ok(None);
    };
    let mut hash = Xxh3::new();
    for _ in 0..u32::from_le_bytes([a, b, c, d]) {
        if item(frames, &mut hash)?.is_none() {
            return Ok(None);
        }
    }
    let Some([3, end @ ..]) = frames.read::<13>()? else {
        return Ok(None);
    };
    let is_whole = end.starts_with(&hash.digest().to_le_bytes()) && end.ends_with(MAGIC);
    Ok(is_whole.then_some(()))
}

fn item(frames: &mut Frames, hash: &mut Xxh3) -> io::Result<Option<()>> {
    let Some([kind]) = frames.read::<1>()? else {
        return Ok(None);
    };
    hash.update(&[kind]);
    match kind {
        2 => {
            let Some(header) = frames.read::<20>()? else {
                return Ok(None);
            };
            hash.update(&header);
            let [.., k0, k1, _, _, _, _, v0, v1, v2, v3] = header;
            let key = u64::from(u16::from_le_bytes([k0, k1]));
            let value = u64::from(u32::from_le_bytes([v0, v1, v2, v3]));
            Ok(frames.rest(key + value)?.map(|bytes| hash.update(bytes)))
        }
        4 => Ok(frames.rest(8)?.map(|bytes| hash.update(bytes))),
        _ => Ok(None),
    }
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
