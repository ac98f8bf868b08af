//! A disk in memory that forgets, on a loss of power, what was not synced; that can be full; and that can fail.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Condvar, Mutex, RwLock};

use super::{Disk, DiskProvider, FileProvider};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    condition: Arc<Condition>,
}

#[derive(Default)]
struct State {
    /// Names as the running process sees them, and those that survive a loss of power.
    names: BTreeMap<PathBuf, Arc<Contents>>,
    synced_names: BTreeMap<PathBuf, Arc<Contents>>,
    locks: BTreeMap<PathBuf, Weak<()>>,
}

/// How the disk is, whatever lies on it.
struct Condition {
    used: AtomicU64,
    capacity: AtomicU64,
    syncs: AtomicU64,
    /// The number of the sync that fails.
    failing_sync: AtomicU64,
    pace: Mutex<Pace>,
    pace_changed: Condvar,
    /// Held by whoever changes contents; taken alone to see all of them at one moment.
    moment: RwLock<()>,
}

/// Whether syncs come to an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pace {
    #[default]
    Running,
    Held,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            used: AtomicU64::new(0),
            capacity: AtomicU64::new(u64::MAX),
            syncs: AtomicU64::new(0),
            failing_sync: AtomicU64::new(u64::MAX),
            pace: Mutex::default(),
            pace_changed: Condvar::new(),
            moment: RwLock::new(()),
        }
    }
}

struct Contents {
    bytes: Mutex<Bytes>,
    condition: Arc<Condition>,
}

#[derive(Default, Clone)]
struct Bytes {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Writes since the last sync: where and how long.
    unsynced: Vec<(usize, usize)>,
    /// Writes that a failed sync should have synced: no later sync will.
    given_up: Vec<(usize, usize)>,
}

impl SimulatedDisk {
    /// The disk as the spool is given it.
    #[must_use]
    pub fn disk(&self) -> Disk {
        Disk::new(Arc::new(self.clone()))
    }

    /// The disk as it is after the power failed at this moment.
    ///
    /// What was not synced is kept in sectors of 512 bytes, each by the toss of `random`, so that
    /// tails are torn and later writes may survive where earlier ones do not. So are new and removed names.
    #[must_use]
    pub fn after_power_loss(&self, random: &mut fastrand::Rng) -> Self {
        let state = self.state.lock();
        let _moment = self.condition.moment.write();
        let mut found: BTreeMap<&PathBuf, &Arc<Contents>> = BTreeMap::new();
        let both = state.synced_names.iter().chain(&state.names);
        found.extend(both.filter(|(path, _)| {
            let certain = state.synced_names.contains_key(*path) && state.names.contains_key(*path);
            certain || random.bool()
        }));
        let after = Self::default();
        for (path, contents) in found {
            let mut bytes = contents.bytes.lock().clone();
            let mut uncertain = std::mem::take(&mut bytes.given_up);
            uncertain.append(&mut bytes.unsynced);
            for (start, len) in uncertain {
                keep_some_sectors(&mut bytes.synced, &bytes.now, start, len, random);
            }
            bytes.now.clone_from(&bytes.synced);
            after.put(path, bytes);
        }
        after
    }

    /// The disk as it is after the process was killed at this moment: everything written is there.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let state = self.state.lock();
        let _moment = self.condition.moment.write();
        let after = Self::default();
        for (path, contents) in &state.names {
            after.put(path, contents.bytes.lock().clone());
        }
        after.state.lock().synced_names.retain(|path, _| state.synced_names.contains_key(path));
        after
    }

    fn put(&self, path: &Path, bytes: Bytes) {
        self.condition.used.fetch_add(bytes.now.len() as u64, Ordering::SeqCst);
        let contents = Arc::new(Contents { bytes: Mutex::new(bytes), condition: self.condition.clone() });
        let mut state = self.state.lock();
        state.synced_names.insert(path.to_owned(), contents.clone());
        state.names.insert(path.to_owned(), contents);
    }

    /// Changes a file's bytes in place, behind the spool's back.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let contents = self.state.lock().names.get(path).expect("the file to tamper with exists").clone();
        let mut bytes = contents.bytes.lock();
        let before = bytes.now.len() as u64;
        change(&mut bytes.now);
        self.condition.used.fetch_add((bytes.now.len() as u64).wrapping_sub(before), Ordering::SeqCst);
        bytes.synced = bytes.now.clone();
    }

    /// All files there are.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state.lock().names.keys().cloned().collect()
    }

    /// Bytes that all files take.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.condition.used.load(Ordering::SeqCst)
    }

    /// From now on files can take this many bytes together.
    pub fn limit_to(&self, capacity: u64) {
        self.condition.capacity.store(capacity, Ordering::SeqCst);
    }

    /// How often it was told to sync a file.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.condition.syncs.load(Ordering::SeqCst)
    }

    /// From now on syncs take until [`release_syncs`](Self::release_syncs).
    pub fn hold_syncs(&self) {
        *self.condition.pace.lock() = Pace::Held;
    }

    /// Lets syncs come to an end.
    pub fn release_syncs(&self) {
        *self.condition.pace.lock() = Pace::Running;
        self.condition.pace_changed.notify_all();
    }

    /// After `more` syncs that work one fails, and what it should have synced is never synced by a later one.
    pub fn fail_sync_after(&self, more: u64) {
        self.condition.failing_sync.store(self.syncs() + more, Ordering::SeqCst);
    }
}

fn keep_some_sectors(synced: &mut Vec<u8>, now: &[u8], start: usize, len: usize, random: &mut fastrand::Rng) {
    let end = (start + len).min(now.len());
    let mut at = start;
    while at < end {
        let until = (at / 512 * 512 + 512).min(end);
        if random.bool() {
            if synced.len() < until {
                synced.resize(until, 0);
            }
            synced[at..until].copy_from_slice(&now[at..until]);
        }
        at = until;
    }
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

impl DiskProvider for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileProvider>> {
        let mut state = self.state.lock();
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let contents = Arc::new(Contents { bytes: Mutex::default(), condition: self.condition.clone() });
        state.names.insert(path.to_owned(), contents.clone());
        Ok(contents)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileProvider>> {
        Ok(self.state.lock().names.get(path).ok_or_else(|| missing(path))?.clone())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let contents = self.state.lock().names.remove(path).ok_or_else(|| missing(path))?;
        self.condition.used.fetch_sub(contents.bytes.lock().now.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let State { names, synced_names, .. } = &mut *state;
        synced_names.retain(|path, _| path.parent() != Some(dir) || names.contains_key(path));
        for (path, contents) in names.iter().filter(|(path, _)| path.parent() == Some(dir)) {
            synced_names.insert(path.clone(), contents.clone());
        }
        Ok(())
    }

    fn free(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.condition.capacity.load(Ordering::SeqCst).saturating_sub(self.used()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.state.lock();
        if state.locks.get(path).is_some_and(|held| held.strong_count() > 0) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let guard = Arc::new(());
        state.locks.insert(path.to_owned(), Arc::downgrade(&guard));
        Ok(Box::new(guard))
    }
}

impl Condition {
    fn wait_while_held(&self) {
        let mut pace = self.pace.lock();
        while *pace == Pace::Held {
            self.pace_changed.wait(&mut pace);
        }
    }

    fn grow(&self, by: usize) -> io::Result<()> {
        let used = self.used.fetch_add(by as u64, Ordering::SeqCst) + by as u64;
        if by > 0 && used > self.capacity.load(Ordering::SeqCst) {
            self.used.fetch_sub(by as u64, Ordering::SeqCst);
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl FileProvider for Contents {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.now.len());
        let len = buffer.len().min(bytes.now.len() - start);
        buffer[..len].copy_from_slice(&bytes.now[start..start + len]);
        Ok(len)
    }

    fn write_at(&self, slices: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        let _moment = self.condition.moment.read();
        let mut bytes = self.bytes.lock();
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = start + slices.iter().map(|slice| slice.len()).sum::<usize>();
        self.condition.grow(end.saturating_sub(bytes.now.len()))?;
        if bytes.now.len() < end {
            bytes.now.resize(end, 0);
        }
        let mut at = start;
        for slice in slices {
            bytes.now[at..at + slice.len()].copy_from_slice(slice);
            at += slice.len();
        }
        bytes.unsynced.push((start, end - start));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.condition.wait_while_held();
        let _moment = self.condition.moment.read();
        let mut bytes = self.bytes.lock();
        let number = self.condition.syncs.fetch_add(1, Ordering::SeqCst);
        if number == self.condition.failing_sync.load(Ordering::SeqCst) {
            // What the system could not write it counts as written.
            let Bytes { unsynced, given_up, .. } = &mut *bytes;
            given_up.append(unsynced);
            return Err(io::Error::other("the disk is broken"));
        }
        let Bytes { now, synced, unsynced, .. } = &mut *bytes;
        synced.resize(now.len(), 0);
        for (start, len) in unsynced.drain(..) {
            synced[start..start + len].copy_from_slice(&now[start..start + len]);
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().now.len() as u64)
    }
}
