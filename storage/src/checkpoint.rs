//! Checkpoints: the state of the operators at an epoch, in one file each, the newest two kept.
//!
//! A checkpoint is written to `checkpoint.tmp`, synced, renamed to `<epoch, 20 digits>.checkpoint`, and the directory is
//! synced. Whatever crash comes in between, the one before is still there. At opening every file is verified; one that
//! fails is set aside as `<epoch>.damaged` and the caller is told, and the one before is the newest.
//!
//! A file, all integers with the least significant byte first:
//!
//! | bytes | |
//! |-------|-|
//! | 8 | `HGROWCKP` |
//! | 4 | format, 1; any other is refused |
//! | 4 | crc32c of all bytes so far, so that another format is told from damage |
//! | 4 | `semantics`: the writer's number for what the parts mean |
//! | 8 | epoch |
//! | 4 | count of parts |
//! | 4 | length of the directory |
//! | … | directory, for each part: length of name (u32), name, length of part (u64), crc32c of part (u32) |
//! | 4 | crc32c of all bytes so far |
//! | … | the parts, in the order of the directory, to the end of the file |
//!
//! This module does not know what the parts mean, nor when a checkpoint may be written: once every sink has taken its
//! epoch, says the engine.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::Disk;
use crate::fault;

const MAGIC: &[u8; 8] = b"HGROWCKP";
const FORMAT: u32 = 1;
const FIXED: usize = 36;
const TEMPORARY: &str = "checkpoint.tmp";
const SUFFIX: &str = ".checkpoint";
const DAMAGED: &str = ".damaged";
/// Two: the log is kept from the older on, so that the newest may turn out damaged.
const KEPT: usize = 2;

/// The state of the operators at an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointFile {
    /// All effects of epochs up to this one are in it, none of later ones.
    pub epoch: u64,
    /// What the parts mean, as the writer numbers it: state of another number must not be loaded.
    pub semantics: u32,
    /// Named parts, in the order they were given.
    pub parts: Vec<(String, Bytes)>,
}

impl CheckpointFile {
    /// The part of that name.
    pub fn part(&self, name: &str) -> Option<&Bytes> {
        self.parts.iter().find_map(|(of, part)| (of == name).then_some(part))
    }
}

/// A checkpoint that could not be used when the folder was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Where it was set aside.
    pub path: PathBuf,
    /// Its epoch, by its name.
    pub epoch: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Why the checkpoints could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointOpenError {
    /// Another version wrote it.
    #[error("the checkpoint {} has format {found}, and this version reads format {FORMAT}: start the version that wrote it, or remove the file to replay the log instead", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The file system said no.
    #[error("could not read the checkpoints in {}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Why a checkpoint was not written. The earlier ones are as they were.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It would not be the newest.
    #[error("a checkpoint at epoch {epoch} is not newer than the one at {newest}")]
    NotNewer {
        /// The epoch asked for.
        epoch: u64,
        /// The newest there is.
        newest: u64,
    },
    /// The file system said no.
    #[error("could not write a checkpoint in {}: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// The checkpoints in a folder.
pub struct Checkpoints {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    /// Epochs of valid checkpoints, ascending.
    epochs: Vec<u64>,
    newest: Option<CheckpointFile>,
    damaged: Vec<Damaged>,
}

impl Checkpoints {
    /// Opens the folder, creating it if there is none, and verifies what is in it.
    pub fn open(folder: &Path, disk: Arc<dyn Disk>) -> Result<Self, CheckpointOpenError> {
        let mut opened =
            Self { folder: folder.to_owned(), disk, epochs: Vec::new(), newest: None, damaged: Vec::new() };
        opened.load().map_err(|error| match error {
            LoadError::Io(source) => CheckpointOpenError::Io { path: folder.to_owned(), source },
            LoadError::UnknownFormat { epoch, found } => {
                CheckpointOpenError::UnknownFormat { path: opened.path(epoch), found }
            }
        })?;
        Ok(opened)
    }

    fn load(&mut self) -> Result<(), LoadError> {
        self.disk.create_dir_all(&self.folder)?;
        let names = self.disk.list(&self.folder)?;
        let mut epochs: Vec<u64> = names.iter().filter_map(|name| epoch_of(name)).collect();
        epochs.sort_unstable();
        for epoch in epochs {
            let bytes = self.disk.read(&self.path(epoch))?;
            match decode(Bytes::from(bytes)) {
                Ok(file) if file.epoch == epoch => {
                    self.epochs.push(epoch);
                    self.newest = Some(file);
                }
                Ok(file) => self.set_aside(epoch, format!("it holds epoch {}", file.epoch))?,
                Err(Invalid::Format(found)) => return Err(LoadError::UnknownFormat { epoch, found }),
                Err(Invalid::Damaged(reason)) => self.set_aside(epoch, reason.to_owned())?,
            }
        }
        if names.iter().any(|name| name == TEMPORARY) {
            self.disk.remove(&self.folder.join(TEMPORARY))?;
        }
        Ok(())
    }

    /// Renames a file that cannot be used, so that it takes the place of none that can.
    fn set_aside(&mut self, epoch: u64, reason: String) -> io::Result<()> {
        let path = self.folder.join(format!("{epoch:020}{DAMAGED}"));
        self.disk.rename(&self.path(epoch), &path)?;
        self.disk.sync_dir(&self.folder)?;
        tracing::warn!(path = %path.display(), reason, "a checkpoint is damaged: an older one is used");
        self.damaged.push(Damaged { path, epoch, reason });
        Ok(())
    }

    /// The newest valid checkpoint found at opening, or written since.
    pub fn newest_epoch(&self) -> Option<u64> {
        self.epochs.last().copied()
    }

    /// Hands out the newest valid checkpoint found at opening, once: it may be large.
    pub fn take_newest(&mut self) -> Option<CheckpointFile> {
        self.newest.take()
    }

    /// The epochs of the valid checkpoints, ascending: two at most after a write. The log is needed from the first of
    /// two on; from its beginning as long as there are fewer.
    pub fn epochs(&self) -> &[u64] {
        &self.epochs
    }

    /// The log below this epoch is not needed for recovery, even if the newest checkpoint turns out damaged.
    pub fn log_floor(&self) -> Option<u64> {
        if self.epochs.len() < KEPT { None } else { self.epochs.first().copied() }
    }

    /// What could not be used at opening.
    pub fn damaged(&self) -> &[Damaged] {
        &self.damaged
    }

    /// Writes a checkpoint; when this returns it is durable, and older ones than the one before it are removed. On an
    /// error it can be tried again.
    pub fn write(&mut self, epoch: u64, semantics: u32, parts: &[(&str, &[u8])]) -> Result<(), CheckpointError> {
        if let Some(newest) = self.newest_epoch()
            && epoch <= newest
        {
            return Err(CheckpointError::NotNewer { epoch, newest });
        }
        self.put(epoch, semantics, parts)
            .map_err(|source| CheckpointError::Io { path: self.folder.clone(), source })?;
        self.epochs.push(epoch);
        self.remove_old();
        Ok(())
    }

    fn put(&self, epoch: u64, semantics: u32, parts: &[(&str, &[u8])]) -> io::Result<()> {
        let temporary = self.folder.join(TEMPORARY);
        // A new file each time: what a failed sync left of an earlier one is not to be trusted.
        let file = self.disk.create(&temporary)?;
        let head = encode_head(epoch, semantics, parts)?;
        file.write_all_at(0, &mut [IoSlice::new(&head)])?;
        fault::point("checkpoint.middle");
        let mut slices: Vec<_> = parts.iter().map(|(_, part)| IoSlice::new(part)).collect();
        file.write_all_at(head.len() as u64, &mut slices)?;
        file.sync()?;
        drop(file);
        self.disk.rename(&temporary, &self.path(epoch))?;
        self.disk.sync_dir(&self.folder)
    }

    /// Files that cannot be removed are removed another time: they cost space only.
    fn remove_old(&mut self) {
        while self.epochs.len() > KEPT {
            let epoch = self.epochs.remove(0);
            if let Err(error) = self.disk.remove(&self.path(epoch)) {
                tracing::warn!(epoch, %error, "an old checkpoint could not be removed");
            }
        }
        // One that was set aside is kept for a look at it, until two later ones are in place.
        let oldest = self.epochs.first().copied().unwrap_or(0);
        let disk = &self.disk;
        self.damaged.retain(|damaged| damaged.epoch >= oldest || disk.remove(&damaged.path).is_err());
    }

    fn path(&self, epoch: u64) -> PathBuf {
        self.folder.join(format!("{epoch:020}{SUFFIX}"))
    }
}

enum LoadError {
    Io(io::Error),
    UnknownFormat { epoch: u64, found: u32 },
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn epoch_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

fn encode_head(epoch: u64, semantics: u32, parts: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "too many or too long parts");
    let mut directory = Vec::new();
    for (name, part) in parts {
        directory.extend(u32::try_from(name.len()).map_err(too_long)?.to_le_bytes());
        directory.extend(name.as_bytes());
        directory.extend((part.len() as u64).to_le_bytes());
        directory.extend(crc32c::crc32c(part).to_le_bytes());
    }
    let mut head = Vec::with_capacity(FIXED + directory.len() + 4);
    head.extend(MAGIC);
    head.extend(FORMAT.to_le_bytes());
    head.extend(crc32c::crc32c(&head).to_le_bytes());
    head.extend(semantics.to_le_bytes());
    head.extend(epoch.to_le_bytes());
    head.extend(u32::try_from(parts.len()).map_err(too_long)?.to_le_bytes());
    head.extend(u32::try_from(directory.len()).map_err(too_long)?.to_le_bytes());
    head.extend(directory);
    head.extend(crc32c::crc32c(&head).to_le_bytes());
    Ok(head)
}

#[derive(Debug, PartialEq)]
enum Invalid {
    Format(u32),
    Damaged(&'static str),
}

fn decode(file: Bytes) -> Result<CheckpointFile, Invalid> {
    const CUT: Invalid = Invalid::Damaged("it ends too early");
    let mut rest = Reader(&file);
    let preamble = rest.take(12).ok_or(CUT)?;
    if !preamble.starts_with(MAGIC) || rest.u32() != Some(crc32c::crc32c(preamble)) {
        return Err(Invalid::Damaged("it does not begin as a checkpoint does"));
    }
    let format = Reader(preamble).skip(8).u32().ok_or(CUT)?;
    if format != FORMAT {
        return Err(Invalid::Format(format));
    }
    let fields = (|| Some((rest.u32()?, rest.u64()?, rest.u32()?, rest.u32()?)))();
    let (semantics, epoch, count, directory) = fields.ok_or(CUT)?;
    let head = FIXED.saturating_add(directory as usize);
    let stored = file.get(head..head.saturating_add(4)).ok_or(CUT)?;
    if crc32c::crc32c(file.get(..head).unwrap_or_default()).to_le_bytes() != *stored {
        return Err(Invalid::Damaged("its head has the wrong checksum"));
    }
    let mut at = head + 4;
    let mut parts = Vec::new();
    for _ in 0..count {
        let entry = (|| {
            let length = rest.u32()? as usize;
            let name = std::str::from_utf8(rest.take(length)?).ok()?.to_owned();
            Some((name, usize::try_from(rest.u64()?).ok()?, rest.u32()?))
        })();
        let (name, length, crc) = entry.ok_or(Invalid::Damaged("its directory is not readable"))?;
        let end = at.checked_add(length).filter(|&end| end <= file.len());
        let part = file.slice(at..end.ok_or(CUT)?);
        if crc32c::crc32c(&part) != crc {
            return Err(Invalid::Damaged("a part has the wrong checksum"));
        }
        at += length;
        parts.push((name, part));
    }
    if at != file.len() {
        return Err(Invalid::Damaged("it is longer than it says"));
    }
    Ok(CheckpointFile { epoch, semantics, parts })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn skip(mut self, count: usize) -> Self {
        self.take(count);
        self
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests;
