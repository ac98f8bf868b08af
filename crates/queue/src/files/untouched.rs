//! A disk that is read and left as it is: what would change it does nothing and seems to work, but no file is made.

use std::{io, path::Path, sync::Arc};

use super::{Disk, DiskProvider, FileProvider};

pub(super) struct Untouched(pub(super) Disk);

struct UntouchedFile(Arc<dyn FileProvider>);

impl DiskProvider for Untouched {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileProvider>> {
        Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, format!("{} is not made", path.display())))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileProvider>> {
        Ok(Arc::new(UntouchedFile(self.0.0.open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        // A folder that was not made is one with nothing in it.
        match self.0.0.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        self.0.0.free(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.0.0.lock(path)
    }
}

impl FileProvider for UntouchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, _slices: &[io::IoSlice<'_>], _offset: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
}
