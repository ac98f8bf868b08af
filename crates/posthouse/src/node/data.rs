//! The data directory: ours, for one process at a time, and what lies where in it.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base::NodeId;
use rustix::fs::FlockOperation;

/// The file that makes a directory ours: it holds the node's id.
pub(crate) const IDENTITY: &str = "node-id";
/// The node's own key, and a manager's authority.
pub(crate) const KEYS: [&str; 3] = ["node.key", "ca.key", "ca.pem"];
/// What that file is called until it is whole.
const NEW_IDENTITY: &str = "node-id.new";
/// The file that a running node holds the lock of.
const LOCK: &str = "posthouse.lock";
/// The spool's folder.
pub(super) const SPOOL: &str = "spool";
/// The message log's file.
pub(crate) const MESSAGE_LOG: &str = "message-log.sqlite";
/// The settings' file.
pub(crate) const SETTINGS: &str = "settings.sqlite";
/// The folder for copies that a backup takes.
pub(crate) const COPIES: &str = "backup.tmp";

/// A data directory cannot be used. Each is one plain line.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It cannot be made, read or written.
    #[error("the data directory {} cannot be used: {source}", path.display())]
    Unusable {
        /// The directory or the file in it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("a node is already running on {}", path.display())]
    Running {
        /// The directory.
        path: PathBuf,
    },
    /// It holds something else.
    #[error("{} is not a data directory of Posthouse, and it is not empty", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// Its identity is damaged.
    #[error("{} does not hold a node's id", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
    },
}

impl DataError {
    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unusable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "make it writable for this user, or choose another with --data-dir".into()
            }
            Self::Unusable { .. } => "choose another with --data-dir".into(),
            Self::Running { .. } => "stop that one first, or choose another with --data-dir".into(),
            Self::Foreign { .. } => "choose an empty or a new one with --data-dir".into(),
            Self::Identity { path } => {
                format!("remove {} to let the node make itself a new id; its mail stays", path.display())
            }
        })
    }
}

/// A data directory that this process has for itself.
#[derive(Debug)]
pub(crate) struct DataDir {
    id: NodeId,
    _lock: fs::File,
}

impl DataDir {
    /// Takes a directory, and makes it ours if it is new.
    pub(crate) fn open(dir: &Path) -> Result<Self, DataError> {
        let unusable = |source| DataError::Unusable { path: dir.to_owned(), source };
        if dir.exists() && !dir.is_dir() {
            return Err(unusable(io::ErrorKind::NotADirectory.into()));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
        let identity = dir.join(IDENTITY);
        if !identity.exists() && holds_something_else(dir).map_err(unusable)? {
            return Err(DataError::Foreign { path: dir.to_owned() });
        }
        let mut options = fs::OpenOptions::new();
        let lock = options.write(true).create(true).truncate(false).mode(0o600).open(dir.join(LOCK));
        let lock = lock.map_err(unusable)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(DataError::Running { path: dir.to_owned() }),
            Err(error) => return Err(unusable(error.into())),
        }
        // What a backup has left that a crash has cut short.
        if dir.join(COPIES).exists() {
            fs::remove_dir_all(dir.join(COPIES)).map_err(unusable)?;
        }
        Ok(Self { id: read_or_make_id(dir, &identity)?, _lock: lock })
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }
}

/// The id of a data directory that may be another process's; nothing if it has none yet.
pub(crate) fn read_id(dir: &Path) -> Result<Option<NodeId>, DataError> {
    let path = dir.join(IDENTITY);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| DataError::Identity { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataError::Unusable { path, source }),
    }
}

fn holds_something_else(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        // What a first start leaves that was cut short, and what a file system brings along.
        if name != LOCK && name != NEW_IDENTITY && name != "lost+found" {
            return Ok(true);
        }
    }
    Ok(false)
}

fn read_or_make_id(dir: &Path, path: &Path) -> Result<NodeId, DataError> {
    if let Some(id) = read_id(dir)? {
        return Ok(id);
    }
    let unusable = |source| DataError::Unusable { path: path.to_owned(), source };
    let id = NodeId::generate();
    // Under another name first: an id is there whole or not at all.
    let new = dir.join(NEW_IDENTITY);
    let mut options = fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(unusable)?;
    file.write_all(format!("{id}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(unusable)?;
    fs::rename(&new, path).map_err(unusable)?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(unusable)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_ours_for_one_process_and_keeps_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("new/data");
        let first = DataDir::open(&dir).unwrap();
        assert!(matches!(DataDir::open(&dir), Err(DataError::Running { .. })));
        let id = first.id();
        drop(first);
        assert_eq!(DataDir::open(&dir).unwrap().id(), id);
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        for left in [LOCK, NEW_IDENTITY] {
            fs::write(folder.path().join(left), "").unwrap();
        }
        assert!(DataDir::open(folder.path()).is_ok());
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
        let error = DataDir::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("not empty"), "{error}");
        fs::write(folder.path().join(IDENTITY), "nonsense").unwrap();
        assert!(matches!(DataDir::open(folder.path()), Err(DataError::Identity { .. })));
    }
}
