//! A disk in memory that forgets, on a loss of power, what was not synced; that can be full; and that can fail.
//!
//! - here: its names, and what is left of it after a kill or a loss of power;
//! - `contents`: the bytes of a file, of which some are synced;
//! - `fault`: what it does wrong, and when;
//! - `camera`: how it would be if the power failed, again and again while it is used.

mod camera;
mod contents;
mod fault;

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Condvar, Mutex, RwLock};

use super::{Disk, DiskProvider, FileProvider};
use contents::{Bytes, Contents};
use fault::Plan;

pub use self::{
    camera::{Camera, Shot},
    fault::{Call, Fault, When},
};

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
    plan: Plan,
    /// Syncs of files of which one had failed before.
    retried_syncs: AtomicU64,
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
            plan: Plan::default(),
            retried_syncs: AtomicU64::new(0),
            pace: Mutex::default(),
            pace_changed: Condvar::new(),
            moment: RwLock::new(()),
        }
    }
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
            after.put(path, contents.bytes.lock().after_power_loss(random));
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
            after.put(path, contents.bytes.lock().after_kill());
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

    /// From now on it does not give these bytes of a file.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn spoil(&self, path: &Path, place: Range<u64>) {
        let contents = self.state.lock().names.get(path).expect("the file to spoil exists").clone();
        contents.bytes.lock().spoiled.push(place);
    }

    /// From now on it gives all of a file again.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn heal(&self, path: &Path) {
        let contents = self.state.lock().names.get(path).expect("the file to heal exists").clone();
        contents.bytes.lock().spoiled.clear();
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

    /// How often it was asked for something.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.condition.plan.calls(call)
    }

    /// From now on it does this wrong, whenever it is asked for it as said.
    pub fn fail(&self, call: Call, fault: Fault, when: When) {
        self.condition.plan.add(call, fault, when);
    }

    /// From now on it does nothing wrong.
    pub fn mend(&self) {
        self.condition.plan.clear();
    }

    /// How often it was told to sync a file of which a sync had failed before: what nobody may do.
    #[must_use]
    pub fn retried_syncs(&self) -> u64 {
        self.condition.retried_syncs.load(Ordering::SeqCst)
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
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} does not exist", path.display()))
}

impl DiskProvider for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileProvider>> {
        self.condition.plan.ask(Call::Create)?;
        let mut state = self.state.lock();
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let contents = Arc::new(Contents { bytes: Mutex::default(), condition: self.condition.clone() });
        state.names.insert(path.to_owned(), contents.clone());
        Ok(contents)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileProvider>> {
        self.condition.plan.ask(Call::Open)?;
        Ok(self.state.lock().names.get(path).ok_or_else(|| missing(path))?.clone())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.condition.plan.ask(Call::List)?;
        let state = self.state.lock();
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.condition.plan.ask(Call::Remove)?;
        let contents = self.state.lock().names.remove(path).ok_or_else(|| missing(path))?;
        self.condition.used.fetch_sub(contents.bytes.lock().now.len() as u64, Ordering::SeqCst);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.condition.plan.ask(Call::SyncDir)? == Some(Fault::Lie) {
            return Ok(());
        }
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
