//! The file seam: all that the spool does to a disk goes through here, so that tests can take the
//! power away at any point.
//!
//! The contract that every provider keeps: writes are visible to reads at once; they survive the
//! end of the process; they survive the loss of power only after [`File::sync`] returned `Ok`; a new name
//! survives it only after [`Disk::sync_dir`]. A sync that failed says nothing about what was
//! written before it.

mod real;
#[cfg(any(test, feature = "testing"))]
mod simulated;
mod untouched;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::io::Errno;
#[cfg(any(test, feature = "testing"))]
pub use simulated::{Call, Camera, Fault, Shot, SimulatedDisk, When};

/// Whether a call failed because no more files may be open at once: that says nothing of the disk, and ends by itself.
pub(crate) fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// The provider's side of the seam.
pub trait DiskProvider: Send + Sync + 'static {
    /// Makes a file that must not exist yet.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileProvider>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileProvider>>;
    /// Names in a folder, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a folder and those above it, unless it exists; all of them survive a loss of power.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder survive a loss of power.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written to the file system of a folder.
    fn free(&self, dir: &Path) -> io::Result<u64>;
    /// Takes a lock that ends with the returned value or with the process.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// An open file of a [`DiskProvider`].
pub trait FileProvider: Send + Sync {
    /// Reads at `offset` until the buffer is full or the file ends.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all slices one behind the other at `offset`.
    fn write_at(&self, slices: &[io::IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Makes all that was written survive a loss of power (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;
}

/// A disk, real or simulated. Cheap to clone.
#[derive(Clone)]
pub struct Disk(Arc<dyn DiskProvider>);

impl Disk {
    /// The machine's own file systems.
    #[must_use]
    pub fn real() -> Self {
        Self(Arc::new(real::RealDisk))
    }

    /// A disk of another provider.
    #[must_use]
    pub fn new(provider: Arc<dyn DiskProvider>) -> Self {
        Self(provider)
    }

    /// The same disk, to be read only: what would change it seems to work, and does nothing.
    #[must_use]
    pub fn untouched(&self) -> Self {
        Self(Arc::new(untouched::Untouched(self.clone())))
    }

    /// Makes a file that must not exist yet.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        Ok(File(self.0.create(path)?))
    }

    /// Opens a file for reading and writing.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        Ok(File(self.0.open(path)?))
    }

    /// Names in a folder, sorted.
    pub fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = self.0.list(dir)?;
        names.sort_unstable();
        Ok(names)
    }

    /// Makes a folder and those above it, unless it exists; all of them survive a loss of power.
    pub fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }

    /// Removes a file.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    /// Makes the names in a folder survive a loss of power.
    pub fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    /// Bytes that may still be written to the file system of a folder.
    pub fn free(&self, dir: &Path) -> io::Result<u64> {
        self.0.free(dir)
    }

    /// Takes a lock on a file of its own; `WouldBlock` says that another process has it.
    pub fn lock(&self, path: PathBuf) -> io::Result<Lock> {
        Ok(Lock { _guard: self.0.lock(&path)?, path })
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

/// An open file. Cheap to clone; closed with the last clone.
#[derive(Clone)]
pub struct File(Arc<dyn FileProvider>);

impl File {
    /// Reads at `offset` until the buffer is full or the file ends; returns how much was read.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    /// Reads exactly `len` bytes at `offset`.
    pub fn read_exact_at(&self, len: usize, offset: u64) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; len];
        match self.0.read_at(&mut buffer, offset)? {
            read if read == len => Ok(buffer),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Writes all bytes at `offset`.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(&[io::IoSlice::new(bytes)], offset)
    }

    /// Writes all slices one behind the other at `offset`.
    pub fn write_slices_at(&self, slices: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.0.write_at(slices, offset)
    }

    /// Makes all that was written survive a loss of power.
    pub fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    /// Length in bytes.
    pub fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("File")
    }
}

/// A lock held until dropped.
pub struct Lock {
    _guard: Box<dyn Send + Sync>,
    path: PathBuf,
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lock({})", self.path.display())
    }
}
