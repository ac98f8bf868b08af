//! An archive that comes: written down, and checked against its manifest while it is.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{BackupError, CHUNK, Entry, FORMAT, Hashing, MANIFEST, MAX_MANIFEST, Manifest, is_ours};

/// What was read of a file: its length and checksum.
type Seen = BTreeMap<String, (u64, u32)>;

/// Writes an archive into a new file, synced when this returns.
pub(crate) fn into_file(archive: impl Read, to: &Path) -> Result<Manifest, BackupError> {
    let failed = |source| BackupError::Io { path: to.to_owned(), source };
    if to.exists() {
        return Err(BackupError::InTheWay { path: to.to_owned() });
    }
    // Under its name it is there whole or not at all.
    let partial = Partial(to.with_extension("tar.partial"));
    let file = private(&partial.0).map_err(failed)?;
    let mut tee = Tee { reader: archive, writer: io::BufWriter::with_capacity(CHUNK, file) };
    let manifest = read(&mut tee, to, &mut |_, reader| io::copy(reader, &mut io::sink()).map(drop))?;
    // What closes an archive is behind its last file.
    io::copy(&mut tee, &mut io::sink()).map_err(failed)?;
    let file = tee.writer.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().and_then(|()| fs::rename(&partial.0, to)).map_err(failed)?;
    sync_folder(to.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    Ok(manifest)
}

/// Writes an archive into an empty or new folder, synced when this returns.
pub(crate) fn into_folder(archive: impl Read, to: &Path) -> Result<Manifest, BackupError> {
    let failed = |source| BackupError::Io { path: to.to_owned(), source };
    make_empty(to)?;
    let mut reader = archive;
    let manifest = read(&mut reader, to, &mut |path, reader| write(&to.join(path), reader))?;
    io::copy(&mut reader, &mut io::sink()).map_err(failed)?;
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| failed(io::Error::other(error)))?;
    write(&to.join(MANIFEST), &mut &text[..]).map_err(failed)?;
    sync_folders(to).map_err(failed)?;
    Ok(manifest)
}

/// Reads an archive: gives each file to `sink`, and checks all of them against the manifest, which comes last. `from` is what
/// it is called.
pub(super) fn read(
    archive: &mut dyn Read,
    from: &Path,
    sink: &mut dyn FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> Result<Manifest, BackupError> {
    let failed = |source| BackupError::Io { path: from.to_owned(), source };
    let not_whole = |what: String| BackupError::NotWhole { path: from.to_owned(), what };
    let mut archive = tar::Archive::new(archive);
    let mut seen = Seen::new();
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let path = entry.path().map_err(failed)?.to_string_lossy().into_owned();
        if path == MANIFEST {
            let mut text = Vec::new();
            entry.take(MAX_MANIFEST).read_to_end(&mut text).map_err(failed)?;
            let manifest = parse(&text, from)?;
            check(&manifest.files, &seen).map_err(not_whole)?;
            return Ok(manifest);
        }
        if !is_ours(&path) {
            return Err(not_whole(format!("{path} is no file of a node")));
        }
        let mut hashing = Hashing::new(&mut entry);
        sink(&path, &mut hashing).map_err(failed)?;
        seen.insert(path, hashing.result());
    }
    Err(not_whole("it ends without its manifest".into()))
}

/// Reads a folder that holds a backup, as [`read`] reads an archive.
pub(super) fn read_folder(
    folder: &Path,
    sink: &mut dyn FnMut(&str, &mut dyn Read) -> io::Result<()>,
) -> Result<Manifest, BackupError> {
    let failed = |path: &Path, source| BackupError::Io { path: path.to_owned(), source };
    let not_whole = |what: String| BackupError::NotWhole { path: folder.to_owned(), what };
    let path = folder.join(MANIFEST);
    let text = fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => not_whole(format!("it has no {MANIFEST}")),
        _ => failed(&path, error),
    })?;
    let manifest = parse(&text, folder)?;
    let mut seen = Seen::new();
    for entry in &manifest.files {
        if !is_ours(&entry.path) {
            return Err(not_whole(format!("{} is no file of a node", entry.path)));
        }
        let path = folder.join(&entry.path);
        let file = File::open(&path).map_err(|error| failed(&path, error))?;
        let mut hashing = Hashing::new(io::BufReader::with_capacity(CHUNK, file));
        sink(&entry.path, &mut hashing).map_err(|error| failed(&path, error))?;
        seen.insert(entry.path.clone(), hashing.result());
    }
    check(&manifest.files, &seen).map_err(not_whole)?;
    Ok(manifest)
}

fn parse(text: &[u8], from: &Path) -> Result<Manifest, BackupError> {
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    let path = from.to_owned();
    match serde_json::from_slice::<Version>(text) {
        Ok(Version { format }) if format > FORMAT => Err(BackupError::Newer { path, found: format }),
        _ => serde_json::from_slice(text)
            .map_err(|error| BackupError::NotWhole { path, what: format!("{MANIFEST}: {error}") }),
    }
}

fn check(files: &[Entry], seen: &Seen) -> Result<(), String> {
    for entry in files {
        match seen.get(&entry.path) {
            None => return Err(format!("{} is missing", entry.path)),
            Some((bytes, crc)) if *bytes != entry.bytes || format!("{crc:08x}") != entry.crc32 => {
                return Err(format!("{} is not what was backed up", entry.path));
            }
            Some(_) => {}
        }
    }
    match seen.keys().find(|path| !files.iter().any(|entry| entry.path == **path)) {
        Some(path) => Err(format!("{path} does not stand in its manifest")),
        None => Ok(()),
    }
}

/// Makes sure that there is an empty folder, for its owner alone.
pub(super) fn make_empty(dir: &Path) -> Result<(), BackupError> {
    let failed = |source| BackupError::Io { path: dir.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let mut names = fs::read_dir(dir).map_err(failed)?.filter_map(|entry| Some(entry.ok()?.file_name()));
    // A new file system brings this one along.
    if names.any(|name| name != "lost+found") {
        return Err(BackupError::InTheWay { path: dir.to_owned() });
    }
    Ok(())
}

/// Writes a file, and the folders that it is in, for their owner alone; synced, but for the folders.
pub(super) fn write(path: &Path, reader: &mut dyn Read) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // A body file that had grown is there already, in part.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::copy(reader, &mut file)?;
    file.sync_all()
}

/// Makes all names below a folder, and its own, survive a loss of power.
pub(super) fn sync_folders(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(dir)?;
    dir.parent().map_or(Ok(()), sync_folder)
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// A file that goes unless it was given its name.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // It is gone when it has its name.
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes down what is read.
struct Tee<R, W> {
    reader: R,
    writer: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.writer.write_all(&buffer[..read])?;
        Ok(read)
    }
}
