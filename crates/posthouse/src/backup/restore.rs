//! A data directory made of a backup.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::{
    BackupError, CHUNK, Manifest,
    archive::{make_empty, read, read_folder, sync_folders, write},
};
use crate::node::data::IDENTITY;

/// Where a backup is.
#[derive(Debug)]
pub(crate) enum From {
    /// In this archive.
    File(PathBuf),
    /// In this folder.
    Folder(PathBuf),
}

impl From {
    /// What is at a path.
    pub(crate) fn at(path: PathBuf) -> Self {
        if path.is_dir() { Self::Folder(path) } else { Self::File(path) }
    }

    fn read(
        &self,
        sink: &mut dyn FnMut(&str, &mut dyn Read) -> io::Result<()>,
    ) -> Result<Manifest, BackupError> {
        match self {
            Self::Folder(folder) => read_folder(folder, sink),
            Self::File(path) => {
                let file =
                    File::open(path).map_err(|source| BackupError::Io { path: path.clone(), source })?;
                read(&mut io::BufReader::with_capacity(CHUNK, file), path, sink)
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Folder(path) => path,
        }
    }
}

/// Makes a data directory of a backup, in an empty or new folder; synced when this returns. `progress` is told how many bytes
/// were read.
///
/// The node's id is written last: without it, no node starts on what was not finished.
pub(crate) fn restore(
    from: &From,
    to: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Manifest, BackupError> {
    let failed = |source| BackupError::Io { path: to.to_owned(), source };
    make_empty(to)?;
    let mut id = Vec::new();
    let manifest = from.read(&mut |path, reader| {
        let mut reader = Telling { reader, progress };
        if path == IDENTITY {
            return reader.read_to_end(&mut id).map(drop);
        }
        write(&to.join(path), &mut reader)
    })?;
    if id.is_empty() {
        let what = format!("it has no {IDENTITY}");
        return Err(BackupError::NotWhole { path: from.path().to_owned(), what });
    }
    for entry in manifest.files.iter().filter(|entry| entry.file_bytes > entry.bytes) {
        fill(&to.join(&entry.path), entry.file_bytes - entry.bytes).map_err(failed)?;
    }
    sync_folders(to).map_err(failed)?;
    write(&to.join(IDENTITY), &mut &id[..]).and_then(|()| sync_folders(to)).map_err(failed)?;
    Ok(manifest)
}

/// Appends zeros, written and not left out, so that a segment needs no more room when it is used again.
fn fill(path: &Path, mut len: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    let zeros = vec![0; CHUNK];
    while len > 0 {
        let some = usize::try_from(len).unwrap_or(CHUNK).min(CHUNK);
        file.write_all(&zeros[..some])?;
        len -= some as u64;
    }
    file.sync_all()
}

/// Tells how much was read.
struct Telling<'a> {
    reader: &'a mut dyn Read,
    progress: &'a mut dyn FnMut(u64),
}

impl Read for Telling<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        (self.progress)(read as u64);
        Ok(read)
    }
}
