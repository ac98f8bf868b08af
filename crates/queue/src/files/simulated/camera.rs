//! How a simulated disk would be if the power failed: taken again and again while it is used, at each sync and between.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use super::{Disk, DiskProvider, FileProvider, SimulatedDisk};

/// A disk that is watched. Clones are the same disk.
#[derive(Clone)]
pub struct Camera(Arc<Film>);

/// The disk as it would be after the power failed at some moment.
pub struct Shot {
    /// When: everything up to this moment had happened, and perhaps more.
    pub moment: u64,
    /// What would be left.
    pub disk: SimulatedDisk,
}

struct Film {
    disk: SimulatedDisk,
    /// What was done to the disk so far.
    moment: AtomicU64,
    /// When a sync had been done.
    syncs: Mutex<Vec<u64>>,
    random: Mutex<fastrand::Rng>,
    shots: Mutex<Vec<Shot>>,
}

/// One of so many moments is taken.
const ONE_IN: u8 = 6;

impl Camera {
    /// Watches a disk; the seed says which moments are taken, and what of them is left.
    #[must_use]
    pub fn on(disk: SimulatedDisk, seed: u64) -> Self {
        Self(Arc::new(Film {
            disk,
            moment: AtomicU64::new(0),
            syncs: Mutex::default(),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            shots: Mutex::default(),
        }))
    }

    /// The disk as the spool is given it.
    #[must_use]
    pub fn disk(&self) -> Disk {
        Disk::new(Arc::new(self.clone()))
    }

    /// Now: what was answered before is on every shot of this moment and of later ones.
    #[must_use]
    pub fn moment(&self) -> u64 {
        self.0.moment.load(Ordering::SeqCst)
    }

    /// When syncs had been done.
    #[must_use]
    pub fn syncs(&self) -> Vec<u64> {
        self.0.syncs.lock().clone()
    }

    /// What was taken since the last time.
    #[must_use]
    pub fn shots(&self) -> Vec<Shot> {
        std::mem::take(&mut *self.0.shots.lock())
    }
}

impl Film {
    /// Takes a shot, by chance.
    fn look(&self) {
        let mut random = self.random.lock();
        if random.u8(..ONE_IN) == 0 {
            let moment = self.moment.load(Ordering::SeqCst);
            let disk = self.disk.after_power_loss(&mut random);
            self.shots.lock().push(Shot { moment, disk });
        }
    }

    fn watch<T>(&self, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.look();
        let done = run()?;
        self.moment.fetch_add(1, Ordering::SeqCst);
        self.look();
        Ok(done)
    }
}

impl Camera {
    fn watched(&self, file: Arc<dyn FileProvider>) -> Arc<dyn FileProvider> {
        Arc::new(Watched { file, film: self.0.clone() })
    }

    /// Does something to the disk, with a look at it before and after.
    fn watch<T>(&self, run: impl FnOnce(&SimulatedDisk) -> io::Result<T>) -> io::Result<T> {
        self.0.watch(|| run(&self.0.disk))
    }
}

impl DiskProvider for Camera {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileProvider>> {
        Ok(self.watched(self.watch(|disk| disk.create(path))?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileProvider>> {
        Ok(self.watched(self.0.disk.open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.disk.create_dir(dir)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.watch(|disk| disk.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.watch(|disk| disk.sync_dir(dir))
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        self.0.disk.free(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.0.disk.lock(path)
    }
}

/// A file of a watched disk.
struct Watched {
    file: Arc<dyn FileProvider>,
    film: Arc<Film>,
}

impl FileProvider for Watched {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, slices: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.film.watch(|| self.file.write_at(slices, offset))
    }

    fn sync(&self) -> io::Result<()> {
        self.film.watch(|| self.file.sync())?;
        self.film.syncs.lock().push(self.film.moment.load(Ordering::SeqCst));
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
}
