//! A disk in memory that forgets, on a loss of power, what was not synced.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::{Disk, DiskProvider, FileProvider};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Names as the running process sees them, and those that survive a loss of power.
    names: BTreeMap<PathBuf, Arc<Contents>>,
    synced_names: BTreeMap<PathBuf, Arc<Contents>>,
    locks: BTreeMap<PathBuf, Weak<()>>,
}

#[derive(Default)]
struct Contents(Mutex<Bytes>);

#[derive(Default, Clone)]
struct Bytes {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Writes since the last sync: where and how long.
    unsynced: Vec<(usize, usize)>,
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
    /// tails are torn and later writes may survive where earlier ones do not.
    #[must_use]
    pub fn after_power_loss(&self, random: &mut fastrand::Rng) -> Self {
        let state = self.0.lock();
        let mut names = BTreeMap::new();
        for (path, contents) in &state.synced_names {
            let mut bytes = contents.0.lock().clone();
            for (start, len) in std::mem::take(&mut bytes.unsynced) {
                keep_some_sectors(&mut bytes.synced, &bytes.now, start, len, random);
            }
            bytes.now.clone_from(&bytes.synced);
            names.insert(path.clone(), Arc::new(Contents(Mutex::new(bytes))));
        }
        Self(Arc::new(Mutex::new(State { synced_names: names.clone(), names, locks: BTreeMap::new() })))
    }

    /// The disk as it is after the process was killed at this moment: everything written is there.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let state = self.0.lock();
        let copy = |from: &BTreeMap<PathBuf, Arc<Contents>>| {
            from.iter()
                .map(|(path, contents)| {
                    (path.clone(), Arc::new(Contents(Mutex::new(contents.0.lock().clone()))))
                })
                .collect::<BTreeMap<_, _>>()
        };
        let names = copy(&state.names);
        let synced_names = state
            .synced_names
            .iter()
            .filter_map(|(path, _)| Some((path.clone(), names.get(path)?.clone())))
            .collect();
        Self(Arc::new(Mutex::new(State { names, synced_names, locks: BTreeMap::new() })))
    }

    /// Changes a file's bytes in place, behind the spool's back.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let contents = self.0.lock().names.get(path).expect("the file to tamper with exists").clone();
        let mut bytes = contents.0.lock();
        change(&mut bytes.now);
        bytes.synced = bytes.now.clone();
    }

    /// All files there are.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.lock().names.keys().cloned().collect()
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
        let mut state = self.0.lock();
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let contents = Arc::new(Contents::default());
        state.names.insert(path.to_owned(), contents.clone());
        Ok(contents)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileProvider>> {
        Ok(self.0.lock().names.get(path).ok_or_else(|| missing(path))?.clone())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().names.remove(path).map(drop).ok_or_else(|| missing(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let State { names, synced_names, .. } = &mut *state;
        synced_names.retain(|path, _| path.parent() != Some(dir) || names.contains_key(path));
        for (path, contents) in names.iter().filter(|(path, _)| path.parent() == Some(dir)) {
            synced_names.insert(path.clone(), contents.clone());
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.0.lock();
        if state.locks.get(path).is_some_and(|held| held.strong_count() > 0) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let guard = Arc::new(());
        state.locks.insert(path.to_owned(), Arc::downgrade(&guard));
        Ok(Box::new(guard))
    }
}

impl FileProvider for Contents {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.lock();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.now.len());
        let len = buffer.len().min(bytes.now.len() - start);
        buffer[..len].copy_from_slice(&bytes.now[start..start + len]);
        Ok(len)
    }

    fn write_at(&self, slices: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut bytes = self.0.lock();
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut at = start;
        for slice in slices {
            if bytes.now.len() < at + slice.len() {
                bytes.now.resize(at + slice.len(), 0);
            }
            bytes.now[at..at + slice.len()].copy_from_slice(slice);
            at += slice.len();
        }
        bytes.unsynced.push((start, at - start));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut bytes = self.0.lock();
        let Bytes { now, synced, unsynced } = &mut *bytes;
        synced.resize(now.len(), 0);
        for (start, len) in unsynced.drain(..) {
            synced[start..start + len].copy_from_slice(&now[start..start + len]);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().now.len() as u64)
    }
}
