//! The node's side: makes the archive, in a thread that may wait for the disk.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use base::{Clock, NodeId};
use bytes::{Bytes, BytesMut};
use queue::{
    Queue, QueueError,
    spool::{Piece, Snapshot},
};
use tokio::sync::{OwnedMutexGuard, mpsc};

use super::{CHUNK, CONFIGURATION, Entry, FORMAT, Hashing, MANIFEST, Manifest, Stream};
use crate::{
    config::Config,
    node::data::{COPIES, IDENTITY, KEYS, MESSAGE_LOG, SETTINGS},
};

/// Chunks that wait for the reader.
const WAITING: usize = 4;
/// So often is looked for what has come meanwhile, before the rest is taken: each time there is less.
const ROUNDS: usize = 5;

/// All that is copied.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) data_dir: PathBuf,
    pub(crate) config: Config,
    pub(crate) id: NodeId,
    pub(crate) queue: Queue,
    pub(crate) clock: Clock,
    /// There is one backup at a time.
    pub(crate) _turn: OwnedMutexGuard<()>,
}

/// Begins to copy.
///
/// # Errors
/// If the queue cannot be copied.
pub(crate) fn take(whole: Whole) -> Result<Stream, QueueError> {
    let snapshot = whole.queue.snapshot()?;
    let sizes = [SETTINGS, MESSAGE_LOG]
        .map(|name| fs::metadata(whole.data_dir.join(name)).map_or(0, |file| file.len()));
    let expected = snapshot.bytes() + sizes.iter().sum::<u64>();
    let (sender, chunks) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let copies = Copies(whole.data_dir.join(COPIES));
        let copying = Copying {
            archive: tar::Builder::new(Chunks { sender: sender.clone(), bytes: BytesMut::new() }),
            entries: Vec::new(),
            whole: &whole,
        };
        match copying.run(snapshot, &copies.0) {
            Ok(manifest) => tracing::info!(
                files = manifest.files.len(),
                sequence = manifest.sequence,
                "a backup was taken"
            ),
            Err(error) => {
                tracing::warn!(%error, "a backup was not finished");
                // Nobody may be there to hear it.
                let _ = sender.blocking_send(Err(error));
            }
        }
        drop(copies);
    });
    Ok(Stream { expected, chunks })
}

struct Copying<'w> {
    archive: tar::Builder<Chunks>,
    entries: Vec<Entry>,
    whole: &'w Whole,
}

impl Copying<'_> {
    fn run(mut self, mut snapshot: Snapshot, copies: &Path) -> io::Result<Manifest> {
        let dir = &self.whole.data_dir;
        fs::create_dir(copies)?;
        self.bytes(IDENTITY, format!("{}\n", self.whole.id).as_bytes())?;
        for key in KEYS {
            match fs::read(dir.join(key)) {
                Ok(bytes) => self.bytes(key, &bytes)?,
                // A node that stands alone has no authority.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let config = toml::to_string(&self.whole.config).map_err(io::Error::other)?;
        self.bytes(CONFIGURATION, config.as_bytes())?;
        if dir.join(SETTINGS).exists() {
            store::settings::copy(&dir.join(SETTINGS), &copies.join(SETTINGS)).map_err(io::Error::other)?;
            self.file(SETTINGS, &copies.join(SETTINGS))?;
        }
        store::records::copy(&dir.join(MESSAGE_LOG), &copies.join(MESSAGE_LOG), &mut |_| {})
            .map_err(io::Error::other)?;
        self.file(MESSAGE_LOG, &copies.join(MESSAGE_LOG))?;
        for _ in 0..ROUNDS {
            let pieces = snapshot.whole().map_err(io::Error::other)?;
            if pieces.is_empty() {
                break;
            }
            self.pieces(&pieces)?;
        }
        let taken = self.whole.clock.now().into();
        let (pieces, sequence) = snapshot.rest().map_err(io::Error::other)?;
        self.pieces(&pieces)?;
        let manifest = Manifest {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").into(),
            node: self.whole.config.name.as_str().to_owned(),
            node_id: self.whole.id,
            taken,
            sequence,
            files: self.entries,
        };
        let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::other)?;
        append(&mut self.archive, MANIFEST, text.len() as u64, &mut &text[..])?;
        self.archive.into_inner()?.finish()?;
        Ok(manifest)
    }

    fn bytes(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.add(path, bytes.len() as u64, bytes.len() as u64, bytes)
    }

    /// A copy of ours, which then goes.
    fn file(&mut self, path: &str, copy: &Path) -> io::Result<()> {
        let file = File::open(copy)?;
        let len = file.metadata()?.len();
        self.add(path, len, len, file)?;
        fs::remove_file(copy)
    }

    fn pieces(&mut self, pieces: &[Piece]) -> io::Result<()> {
        for piece in pieces {
            let path = format!("spool/{}", piece.name);
            self.add(&path, piece.len, piece.file_len, PieceReader { piece, at: 0 })?;
        }
        Ok(())
    }

    fn add(&mut self, path: &str, bytes: u64, file_bytes: u64, reader: impl Read) -> io::Result<()> {
        let mut hashing = Hashing::new(reader.take(bytes));
        append(&mut self.archive, path, bytes, &mut hashing)?;
        let (read, crc) = hashing.result();
        if read != bytes {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{path} became shorter")));
        }
        // A body file that has grown since it was copied is copied again, and the last copy counts.
        self.entries.retain(|entry| entry.path != path);
        let crc32 = format!("{crc:08x}");
        self.entries.push(Entry { path: path.to_owned(), bytes, file_bytes, crc32 });
        Ok(())
    }
}

fn append(archive: &mut tar::Builder<Chunks>, path: &str, len: u64, reader: &mut dyn Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(len);
    archive.append_data(&mut header, path, reader)
}

struct PieceReader<'p> {
    piece: &'p Piece,
    at: u64,
}

impl Read for PieceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.piece.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Sends what is written in chunks; waits while the reader has enough of them.
struct Chunks {
    sender: mpsc::Sender<io::Result<Bytes>>,
    bytes: BytesMut,
}

impl Chunks {
    fn send(&mut self) -> io::Result<()> {
        let chunk = self.bytes.split().freeze();
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn finish(mut self) -> io::Result<()> {
        if self.bytes.is_empty() { Ok(()) } else { self.send() }
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= CHUNK {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The folder for copies, which goes with what is left in it.
struct Copies(PathBuf);

impl Drop for Copies {
    fn drop(&mut self) {
        // Where it cannot be removed, the next start does it.
        let _ = fs::remove_dir_all(&self.0);
    }
}
