//! A disk and a clock for simulation: everything a crash can do, decided by a seed.
//!
//! The disk keeps what a program sees (the page cache) apart from what would survive. A write makes *versions* of the
//! 4 KiB pages it touches; until the file is synced, a crash keeps for every page, on its own, any one of them or none,
//! and for the file any length that it has had. Names live in directories: until a directory is synced, a crash keeps
//! any subset of the creations, renames and removals in it. So what survives is any subset of the unsynced pages,
//! written in any order, and it is the same one for the same seed.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;
use crate::disk::{Disk, DiskFile};

const PAGE: usize = 4096;

/// A clock that moves when it is told to. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct SimClock(Arc<SimTime>);

#[derive(Debug)]
struct SimTime {
    monotonic_us: AtomicU64,
    wall_us: AtomicU64,
}

impl SimClock {
    /// A machine that was just started, at this wall time.
    pub fn new(wall_us: u64) -> Self {
        Self(Arc::new(SimTime { monotonic_us: AtomicU64::new(0), wall_us: AtomicU64::new(wall_us) }))
    }

    /// Time passes, for both clocks.
    pub fn advance_us(&self, us: u64) {
        self.0.monotonic_us.fetch_add(us, Ordering::Relaxed);
        self.0.wall_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Somebody sets the wall clock forward or back.
    pub fn step_wall_us(&self, step_us: i64) {
        let set = |wall: u64| Some(wall.saturating_add_signed(step_us));
        let _ = self.0.wall_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, set);
    }
}

impl Clock for SimClock {
    fn monotonic_us(&self) -> u64 {
        self.0.monotonic_us.load(Ordering::Relaxed)
    }

    fn wall_us(&self) -> u64 {
        self.0.wall_us.load(Ordering::Relaxed)
    }
}

/// A sequence that looks random and is the same for the same seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next_u64() % end.max(1) as u64) as usize
    }
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    names: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    surviving_names: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    /// Changes of names since their directory was synced, in order.
    unsynced_names: Vec<NameChange>,
    locked: Vec<PathBuf>,
    capacity: Option<u64>,
    /// Operations so far that change something.
    changes: u64,
    syncs: u64,
    /// The change at which the power goes.
    freeze_at: Option<u64>,
    fail_sync_at: Option<(u64, ErrorKind)>,
}

#[derive(Clone)]
enum NameChange {
    Put { path: PathBuf, content: Arc<Mutex<Content>> },
    Remove { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, content: Arc<Mutex<Content>> },
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Put { path, .. } | Self::Remove { path } => path.parent(),
            Self::Rename { to, .. } => to.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Arc<Mutex<Content>>>) {
        match self {
            Self::Put { path, content } => {
                names.insert(path.clone(), Arc::clone(content));
            }
            Self::Remove { path } => {
                names.remove(path);
            }
            Self::Rename { from, to, content } => {
                names.remove(from);
                names.insert(to.clone(), Arc::clone(content));
            }
        }
    }
}

#[derive(Default)]
struct Content {
    seen: Vec<u8>,
    surviving: Vec<u8>,
    /// What each page has been since the last sync, oldest first.
    versions: BTreeMap<usize, Vec<Vec<u8>>>,
    /// What the length has been since the last sync.
    lengths: Vec<usize>,
}

impl Content {
    /// Notes what the pages of this range now are.
    fn changed(&mut self, from: usize, to: usize) {
        self.lengths.push(self.seen.len());
        for page in from / PAGE..to.div_ceil(PAGE) {
            let rest = self.seen.get(page * PAGE..).unwrap_or_default();
            let mut now = rest.get(..PAGE.min(rest.len())).unwrap_or_default().to_vec();
            now.resize(PAGE, 0);
            self.versions.entry(page).or_default().push(now);
        }
    }

    /// Everything seen survives from now on. Only what changed is copied: a simulated minute has many syncs.
    fn synced(&mut self) {
        self.surviving.resize(self.seen.len(), 0);
        for page in std::mem::take(&mut self.versions).into_keys() {
            let range = page * PAGE..(page * PAGE + PAGE).min(self.seen.len());
            if let (Some(from), Some(to)) = (self.seen.get(range.clone()), self.surviving.get_mut(range)) {
                to.copy_from_slice(from);
            }
        }
        self.lengths.clear();
    }

    fn crash(&mut self, random: &mut Seeded) {
        let mut survived = std::mem::take(&mut self.surviving);
        let synced_len = survived.len();
        let longest = self.lengths.iter().copied().max().unwrap_or(0).max(synced_len);
        survived.resize(longest.next_multiple_of(PAGE), 0);
        for (page, versions) in &self.versions {
            let kept = random.below(versions.len() + 1).checked_sub(1).and_then(|i| versions.get(i));
            if let (Some(kept), Some(to)) = (kept, survived.chunks_mut(PAGE).nth(*page)) {
                to.copy_from_slice(kept);
            }
        }
        let len = random.below(self.lengths.len() + 1).checked_sub(1).and_then(|i| self.lengths.get(i).copied());
        survived.truncate(len.unwrap_or(synced_len));
        self.seen.clone_from(&survived);
        self.surviving = survived;
        self.versions.clear();
        self.lengths.clear();
    }
}

impl SimDisk {
    /// An empty disk without limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// The power goes when so many changing operations (counted since the disk was made) have been done: from then on
    /// every operation fails and nothing changes, until [`SimDisk::crash`].
    pub fn freeze_at(&self, change: u64) {
        self.state().freeze_at = Some(change);
    }

    /// The n-th sync of a file fails (counted from 1 since the disk was made).
    pub fn fail_sync_at(&self, sync: u64) {
        self.fail_sync_as(sync, ErrorKind::Other);
    }

    /// The n-th sync of a file fails with this kind of error.
    pub fn fail_sync_as(&self, sync: u64, kind: ErrorKind) {
        self.state().fail_sync_at = Some((sync, kind));
    }

    /// Files may take so many bytes together.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Changing operations so far.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Syncs of files so far.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// The machine after a loss of power: a new disk with what survived, by seed. The old one stays frozen.
    pub fn crash(&self, seed: u64) -> Self {
        let mut random = Seeded::new(seed);
        let mut state = self.state();
        state.freeze_at = Some(0);
        let mut names = state.surviving_names.clone();
        for change in &state.unsynced_names {
            if random.below(2) == 0 {
                change.apply(&mut names);
            }
        }
        for content in names.values() {
            lock(content).crash(&mut random);
        }
        let after = State { surviving_names: names.clone(), names, capacity: state.capacity, ..State::default() };
        Self(Arc::new(Mutex::new(after)))
    }

    /// Changes a byte that had been written and synced, as a bad disk does.
    pub fn flip(&self, path: &Path, position: usize) -> io::Result<()> {
        let content = self.state().content(path)?;
        let mut content = lock(&content);
        let byte = content.seen.get_mut(position).ok_or(ErrorKind::UnexpectedEof)?;
        *byte ^= 0x10;
        content.changed(position, position + 1);
        content.synced();
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    fn file(&self, content: Arc<Mutex<Content>>) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), content, lock: None })
    }
}

impl State {
    /// One more changing operation, unless the power has gone.
    fn change(&mut self) -> io::Result<()> {
        if self.freeze_at.is_some_and(|at| self.changes >= at) {
            return Err(io::Error::other("the simulated machine has lost power"));
        }
        self.changes += 1;
        Ok(())
    }

    fn content(&self, path: &Path) -> io::Result<Arc<Mutex<Content>>> {
        self.names.get(path).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn free(&self) -> u64 {
        let used: usize = self.names.values().map(|content| lock(content).seen.len()).sum();
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(used as u64))
    }

    fn rename_or_remove(&mut self, change: NameChange) -> io::Result<()> {
        self.change()?;
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
        Ok(())
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.change()?;
        let content = match state.content(path) {
            Ok(content) => {
                let mut emptied = lock(&content);
                let len = emptied.seen.len();
                emptied.seen.clear();
                emptied.changed(0, len);
                drop(emptied);
                content
            }
            Err(_) => {
                let content = Arc::default();
                let put = NameChange::Put { path: path.to_owned(), content: Arc::clone(&content) };
                put.apply(&mut state.names);
                state.unsynced_names.push(put);
                content
            }
        };
        drop(state);
        Ok(self.file(content))
    }

    fn open(&self, path: &Path, _: bool) -> io::Result<Arc<dyn DiskFile>> {
        let content = self.state().content(path)?;
        Ok(self.file(content))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let here = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let content = state.content(from)?;
        state.rename_or_remove(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), content })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.content(path)?;
        state.rename_or_remove(NameChange::Remove { path: path.to_owned() })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.unsynced_names).into_iter().partition(|change| change.dir() == Some(dir));
        state.unsynced_names = rest;
        for change in synced {
            change.apply(&mut state.surviving_names);
        }
        Ok(())
    }

    fn free_space(&self, _: &Path) -> io::Result<u64> {
        Ok(self.state().free())
    }

    fn lock(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        if state.locked.iter().any(|locked| locked == path) {
            return Err(ErrorKind::WouldBlock.into());
        }
        state.locked.push(path.to_owned());
        drop(state);
        Ok(Arc::new(SimFile { disk: self.clone(), content: Arc::default(), lock: Some(path.to_owned()) }))
    }
}

struct SimFile {
    disk: SimDisk,
    content: Arc<Mutex<Content>>,
    lock: Option<PathBuf>,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Some(path) = &self.lock {
            self.disk.state().locked.retain(|locked| locked != path);
        }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.content).seen.len() as u64)
    }

    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let content = lock(&self.content);
        let there = content.seen.get(position as usize..).unwrap_or_default();
        let len = there.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..len), there.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }

    /// Writes one part; when that does not fit, what fits, and `StorageFull` the next time.
    fn write_some_at(&self, position: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.change()?;
        let all = parts.iter().map(|part| &**part).collect::<Vec<&[u8]>>().concat();
        let mut content = lock(&self.content);
        let start = position as usize;
        let grows = (start + all.len()).saturating_sub(content.seen.len());
        let len = content.seen.len();
        drop(content);
        let free = usize::try_from(state.free()).unwrap_or(usize::MAX);
        let writes = all.len() - grows.saturating_sub(free).min(all.len());
        if writes == 0 && !all.is_empty() {
            return Err(ErrorKind::StorageFull.into());
        }
        content = lock(&self.content);
        content.seen.resize(len.max(start + writes), 0);
        if let (Some(to), Some(from)) = (content.seen.get_mut(start..start + writes), all.get(..writes)) {
            to.copy_from_slice(from);
        }
        content.changed(start.min(len), start + writes);
        Ok(writes)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change()?;
        state.syncs += 1;
        if let Some((_, kind)) = state.fail_sync_at.filter(|(at, _)| *at == state.syncs) {
            return Err(io::Error::new(kind, "the simulated disk failed to sync"));
        }
        lock(&self.content).synced();
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change()?;
        let mut content = lock(&self.content);
        let before = content.seen.len();
        content.seen.resize(len as usize, 0);
        let (from, to) = (before.min(len as usize), before.max(len as usize));
        content.changed(from, to);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survivors(seed: u64) -> (usize, Vec<bool>) {
        let disk = SimDisk::new();
        let (dir, path) = (Path::new("/d"), Path::new("/d/f"));
        let file = disk.create(path).unwrap();
        disk.sync_dir(dir).unwrap();
        file.write_all_at(0, &mut [IoSlice::new(&[1; PAGE])]).unwrap();
        file.sync().unwrap();
        for page in 1..4 {
            file.write_all_at(page * PAGE as u64, &mut [IoSlice::new(&[1; PAGE])]).unwrap();
        }
        let bytes = disk.crash(seed).read(path).unwrap();
        (bytes.len(), bytes.chunks(PAGE).map(|page| page[0] == 1).collect())
    }

    #[test]
    fn unsynced_pages_survive_in_every_combination_and_synced_ones_always() {
        let all: std::collections::BTreeSet<_> = (0..500).map(survivors).collect();
        assert!(all.iter().all(|(_, pages)| pages[0]));
        assert!(all.contains(&(PAGE, vec![true])));
        assert!(all.contains(&(4 * PAGE, vec![true, false, true, false])));
        assert!(all.contains(&(4 * PAGE, vec![true, true, true, true])));
        assert_eq!(survivors(7), survivors(7));
    }

    #[test]
    fn names_survive_only_if_the_directory_was_synced() {
        let there = |synced: bool, seed| {
            let disk = SimDisk::new();
            disk.create(Path::new("/d/f")).unwrap();
            if synced {
                disk.sync_dir(Path::new("/d")).unwrap();
            }
            disk.crash(seed).open(Path::new("/d/f"), false).is_ok()
        };
        assert!((0..50).all(|seed| there(true, seed)));
        assert!((0..50).any(|seed| there(false, seed)) && (0..50).any(|seed| !there(false, seed)));
    }
}
