//! Backups: all that a node keeps, as it stood at one moment, taken while it runs; and back again.
//!
//! A backup is a tar archive, or a folder with the same files: the node's id, its configuration, settings, the message log,
//! the spool, and last a manifest with the length and checksum of each. The node makes the archive and sends it over its
//! control socket (`take`); the command writes it down and checks it (`archive`); `restore` makes a data directory of it.
//!
//! The log is copied before the spool, so that it never knows of more than the spool, from which it catches up.

mod archive;
mod restore;
mod take;

use std::{
    io::{self, Read},
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use base::NodeId;
use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub(crate) use archive::{into_file, into_folder};
pub(crate) use restore::{From, restore};
pub(crate) use take::{Whole, take};

use crate::api::Moment;

/// The file that tells what the others are; the last one.
const MANIFEST: &str = "posthouse-backup.json";
/// The configuration that the node ran by, flags and all.
pub(crate) const CONFIGURATION: &str = "posthouse.toml";
/// The version of what stands here.
const FORMAT: u32 = 1;
/// How much is read or sent at once, in bytes.
const CHUNK: usize = 256 << 10;
/// The longest manifest that is read: that of a million files.
const MAX_MANIFEST: u64 = 256 << 20;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format.
    pub format: u32,
    /// The version of the program that made it.
    pub program: String,
    /// The node's name.
    pub node: String,
    /// The node's id.
    pub node_id: NodeId,
    /// The moment that it shows: what was answered before is in it.
    pub taken: Moment,
    /// The last sequence of the spool that is in it.
    pub sequence: u64,
    /// All files but this one.
    pub files: Vec<Entry>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path in the data directory, with `/`.
    pub path: String,
    /// Its length in the backup, in bytes.
    pub bytes: u64,
    /// Its length in the data directory: the rest is zeros.
    pub file_bytes: u64,
    /// The CRC-32 of its bytes in the backup, in hexadecimal.
    pub crc32: String,
}

/// A backup cannot be taken, or not be used. Each is one plain line.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ends before its manifest, or is not one.
    #[error("{} is not a whole backup: {what}", path.display())]
    NotWhole {
        /// The backup.
        path: PathBuf,
        /// What is missing or wrong.
        what: String,
    },
    /// Something is there already.
    #[error("{} is there already, and not empty", path.display())]
    InTheWay {
        /// What.
        path: PathBuf,
    },
    /// It was made by a newer program.
    #[error("{} has format {found} and this Posthouse knows up to {FORMAT}: use the newer Posthouse", path.display())]
    Newer {
        /// The backup.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// An archive on its way from the node.
#[derive(Debug)]
pub struct Stream {
    /// About how many bytes will come.
    pub expected: u64,
    /// The bytes, or why there are no more.
    pub chunks: mpsc::Receiver<io::Result<Bytes>>,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.chunks.poll_recv(context).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

/// Takes length and checksum of what is read.
struct Hashing<R> {
    reader: R,
    read: u64,
    crc: crc32fast::Hasher,
}

impl<R> Hashing<R> {
    fn new(reader: R) -> Self {
        Self { reader, read: 0, crc: crc32fast::Hasher::new() }
    }

    fn result(self) -> (u64, u32) {
        (self.read, self.crc.finalize())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.crc.update(&buffer[..read]);
        self.read += read as u64;
        Ok(read)
    }
}

/// Whether a path may stand in a backup: no other is ever written.
fn is_ours(path: &str) -> bool {
    use crate::node::data::{IDENTITY, KEYS, MESSAGE_LOG, SETTINGS};
    let below = |folder: &str, kind: &str| {
        let name = path.strip_prefix(folder).and_then(|name| name.strip_suffix(kind));
        name.is_some_and(|name| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
    };
    [IDENTITY, CONFIGURATION, SETTINGS, MESSAGE_LOG].contains(&path)
        || KEYS.contains(&path)
        || below("spool/segments/", ".segment")
        || below("spool/bodies/", ".body")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_nodes_files_may_stand_in_a_backup() {
        for path in
            ["node-id", "settings.sqlite", "spool/segments/00000001.segment", "spool/bodies/01a1-5f.body"]
        {
            assert!(is_ours(path), "{path}");
        }
        for path in
            ["", "/etc/passwd", "spool/bodies/../../x.body", "spool/segments/.segment", "posthouse.sock"]
        {
            assert!(!is_ours(path), "{path}");
        }
    }
}
