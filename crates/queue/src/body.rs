//! Bodies: written once as a stream, read many times, in memory or in a file of their own.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use base::MessageId;
use bytes::{Bytes, BytesMut};

use crate::{
    QueueError,
    files::{Disk, File},
    spool::{Room, Watch},
};

/// A body that was written and is ready to be published.
#[derive(Clone, Debug, Default)]
pub enum Body {
    /// There is none.
    #[default]
    Empty,
    /// In memory; it joins the publication's record.
    Memory(Bytes),
    /// In a file of its own, synced.
    File(Arc<BodyFile>),
}

impl Body {
    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(file) => file.size,
        }
    }
}

/// A body's file.
///
/// It is removed when this is dropped, unless the queue has taken it over with a publication.
pub struct BodyFile {
    pub(crate) salt: u32,
    pub(crate) size: u64,
    pub(crate) crc: u32,
    name: String,
    file: File,
    folder: BodyFolder,
    owner: parking_lot::Mutex<Owner>,
}

/// Who removes a body's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The writer, because it was never published.
    Writer,
    /// The queue, when the message has ended.
    Queue,
}

impl BodyFile {
    /// The queue removes the file from now on, when the message has ended.
    pub(crate) fn hand_over(&self) {
        *self.owner.lock() = Owner::Queue;
    }

    /// The body, to be read back.
    pub(crate) fn stored(&self) -> StoredBody {
        StoredBody { file: self.file.clone(), offset: 0, size: self.size, crc: self.crc, _pin: None }
    }
}

impl fmt::Debug for BodyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyFile({}, {} bytes)", self.name, self.size)
    }
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        if *self.owner.lock() == Owner::Writer {
            self.folder.remove(&self.name);
        }
    }
}

/// Where large bodies lie.
#[derive(Clone, Debug)]
pub(crate) struct BodyFolder {
    disk: Disk,
    dir: Arc<Path>,
    watch: Arc<Watch>,
}

impl BodyFolder {
    pub(crate) fn open(disk: Disk, dir: PathBuf, watch: Arc<Watch>) -> io::Result<Self> {
        disk.create_dir(&dir)?;
        Ok(Self { disk, dir: dir.into(), watch })
    }

    pub(crate) fn file_name(message: MessageId, salt: u32) -> String {
        format!("{message}-{salt:08x}.body")
    }

    /// Whether a file is one of ours, by its name.
    pub(crate) fn is_body(name: &str) -> bool {
        name.ends_with(".body")
    }

    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        self.disk.list(&self.dir)
    }

    pub(crate) fn open_body(&self, name: &str) -> Result<File, QueueError> {
        self.disk.open(&self.dir.join(name)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => QueueError::Damaged(format!("the body file {name} is missing")),
            _ => error.into(),
        })
    }

    pub(crate) fn remove(&self, name: &str) {
        if let Err(error) = self.disk.remove(&self.dir.join(name)) {
            tracing::warn!(%error, file = name, "a body file could not be removed; it is removed at the next start");
        }
    }
}

/// Takes a body in as a stream. Beyond a limit it spills into a file, where the queue has files.
#[derive(Debug)]
pub struct BodyWriter {
    message: MessageId,
    memory: BytesMut,
    overflow: Overflow,
}

/// Where a body goes that is too long for memory.
#[derive(Debug)]
enum Overflow {
    /// It stays there all the same.
    Never,
    Spills(Spill),
    /// A write failed, or was given up half way: what follows cannot make it whole again.
    Broken,
}

#[derive(Debug)]
struct Spill {
    folder: BodyFolder,
    limit: usize,
    file: Option<Spilled>,
}

#[derive(Debug)]
struct Spilled {
    file: File,
    written: u64,
    crc: crc32fast::Hasher,
    /// Removes the file again if the body is never finished.
    guard: BodyFile,
}

/// How much of a spilling body is gathered in memory before it is written, in bytes.
const SPILL_CHUNK: usize = 256 << 10;

impl BodyWriter {
    /// A body that is kept in memory, however long it is.
    #[must_use]
    pub fn in_memory(message: MessageId, expect: usize) -> Self {
        Self { message, memory: BytesMut::with_capacity(expect), overflow: Overflow::Never }
    }

    pub(crate) fn spilling(message: MessageId, expect: usize, folder: BodyFolder, limit: usize) -> Self {
        let memory = BytesMut::with_capacity(expect.min(limit));
        Self { message, memory, overflow: Overflow::Spills(Spill { folder, limit, file: None }) }
    }

    /// The bytes that it holds in memory now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.memory.capacity()
    }

    /// Adds to the body.
    ///
    /// # Errors
    /// If the file it spills into cannot be written.
    pub async fn write(&mut self, chunk: &[u8]) -> Result<(), QueueError> {
        self.memory.extend_from_slice(chunk);
        match &self.overflow {
            Overflow::Spills(Spill { file: None, limit, .. }) if self.memory.len() > *limit => {
                self.pour().await
            }
            Overflow::Spills(Spill { file: Some(_), .. }) if self.memory.len() >= SPILL_CHUNK => {
                self.pour().await
            }
            Overflow::Broken => Err(broken()),
            Overflow::Never | Overflow::Spills(_) => Ok(()),
        }
    }

    /// Ends the body. What lies in a file is synced when this returns.
    ///
    /// # Errors
    /// If the file cannot be written or synced.
    pub async fn finish(mut self) -> Result<Body, QueueError> {
        match &self.overflow {
            Overflow::Never | Overflow::Spills(Spill { file: None, .. }) => {
                return Ok(if self.memory.is_empty() {
                    Body::Empty
                } else {
                    Body::Memory(exact(self.memory))
                });
            }
            Overflow::Spills(_) => self.pour().await?,
            Overflow::Broken => {}
        }
        let Overflow::Spills(spill) = self.overflow else { return Err(broken()) };
        blocking(move || {
            let Spilled { file, written, crc, mut guard } = spill.file.expect("it has spilled");
            file.sync()?;
            spill.folder.disk.sync_dir(&spill.folder.dir)?;
            guard.size = written;
            guard.crc = crc.finalize();
            Ok(Body::File(Arc::new(guard)))
        })
        .await
    }

    /// Writes what is in memory to the file.
    async fn pour(&mut self) -> Result<(), QueueError> {
        let Overflow::Spills(mut spill) = std::mem::replace(&mut self.overflow, Overflow::Broken) else {
            return Err(broken());
        };
        let bytes = self.memory.split().freeze();
        let message = self.message;
        let spill = blocking(move || {
            if spill.folder.watch.room() == Room::Full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let spilled = match &mut spill.file {
                Some(spilled) => spilled,
                none => none.insert(Spilled::create(&spill.folder, message)?),
            };
            spilled.file.write_at(&bytes, spilled.written)?;
            spilled.written += bytes.len() as u64;
            spilled.crc.update(&bytes);
            Ok(spill)
        })
        .await?;
        self.overflow = Overflow::Spills(spill);
        Ok(())
    }
}

/// The bytes, with no room behind them: they may be kept for long. An allocator that shrinks in place may leave some.
fn exact(memory: BytesMut) -> Bytes {
    let mut bytes = Vec::from(memory);
    bytes.shrink_to_fit();
    bytes.into()
}

fn broken() -> QueueError {
    QueueError::from(io::Error::other("the body broke off"))
}

impl Spilled {
    fn create(folder: &BodyFolder, message: MessageId) -> io::Result<Self> {
        let salt = fastrand::u32(..);
        let name = BodyFolder::file_name(message, salt);
        let file = folder.disk.create(&folder.dir.join(&name))?;
        let owner = parking_lot::Mutex::new(Owner::Writer);
        let guard =
            BodyFile { salt, size: 0, crc: 0, name, file: file.clone(), folder: folder.clone(), owner };
        Ok(Self { file, written: 0, crc: crc32fast::Hasher::new(), guard })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, QueueError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.and_then(|result| result).map_err(QueueError::from)
}

/// Where a body is read from.
#[derive(Clone, Debug)]
pub enum BodySource {
    /// In memory.
    Memory(Bytes),
    /// In the spool.
    Stored(Arc<StoredBody>),
    /// Nowhere: it could not be had, and this is why.
    Missing(QueueError),
}

/// A body on disk, with what proves it whole.
pub struct StoredBody {
    pub(crate) file: File,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) crc: u32,
    /// Keeps the segment from being used again while the body is read.
    pub(crate) _pin: Option<Arc<()>>,
}

impl fmt::Debug for StoredBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredBody({} bytes)", self.size)
    }
}

impl BodySource {
    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Stored(stored) => stored.size,
            Self::Missing(_) => 0,
        }
    }

    /// Starts to read it.
    #[must_use]
    pub fn read(&self) -> BodyReader {
        BodyReader { source: self.clone(), at: 0, crc: crc32fast::Hasher::new() }
    }
}

/// Reads a body in chunks. The last chunk comes only after the whole was proven undamaged.
#[derive(Debug)]
pub struct BodyReader {
    source: BodySource,
    at: u64,
    crc: crc32fast::Hasher,
}

/// Longest chunk, in bytes.
const CHUNK: usize = 256 << 10;
/// The last chunk of a longer body has so many bytes: what is done between it and the others is done close to the end.
const LAST_CHUNK: usize = 64 << 10;

/// What a body has to give next.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Some bytes, and more to come.
    More(Bytes),
    /// The last bytes, perhaps none.
    Last(Bytes),
}

impl BodyReader {
    /// The next chunk.
    ///
    /// # Errors
    /// If the disk fails, or the body is not what was written ([`QueueError::Damaged`]).
    pub async fn next(&mut self) -> Result<Chunk, QueueError> {
        let stored = match &self.source {
            BodySource::Memory(bytes) => {
                let at = usize::try_from(self.at).expect("it is in memory");
                let len = chunk(bytes.len() - at);
                let some = bytes.slice(at..at + len);
                self.at += len as u64;
                let is_last = at + len == bytes.len();
                return Ok(if is_last { Chunk::Last(some) } else { Chunk::More(some) });
            }
            BodySource::Stored(stored) => stored.clone(),
            BodySource::Missing(why) => return Err(why.clone()),
        };
        let len = chunk(usize::try_from(stored.size - self.at).unwrap_or(usize::MAX));
        let offset = stored.offset + self.at;
        let file = stored.file.clone();
        let bytes = Bytes::from(blocking(move || file.read_exact_at(len, offset)).await?);
        self.crc.update(&bytes);
        self.at += len as u64;
        if self.at < stored.size {
            return Ok(Chunk::More(bytes));
        }
        if self.crc.clone().finalize() != stored.crc {
            return Err(QueueError::Damaged("the body is not what was written".into()));
        }
        Ok(Chunk::Last(bytes))
    }
}

/// How long the next chunk is where so many bytes are left.
fn chunk(left: usize) -> usize {
    if left <= LAST_CHUNK { left } else { (left - LAST_CHUNK).min(CHUNK) }
}

/// The checksum that proves a body whole.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_but_the_end_of_a_long_body_comes_before_its_last_chunk() {
        for len in [0, 1, LAST_CHUNK, LAST_CHUNK + 1, LAST_CHUNK + CHUNK, 3 * CHUNK + 7] {
            let body: Bytes = (0u8..=250).cycle().take(len).collect();
            let (mut reader, mut all) = (BodySource::Memory(body.clone()).read(), Vec::new());
            let last = loop {
                match reader.next().await.expect("it is memory") {
                    Chunk::More(bytes) => {
                        assert!(!bytes.is_empty() && bytes.len() <= CHUNK);
                        all.extend_from_slice(&bytes);
                    }
                    Chunk::Last(bytes) => break bytes,
                }
            };
            assert_eq!(last.len(), len.min(LAST_CHUNK));
            all.extend_from_slice(&last);
            assert!(all == body, "{len}");
        }
    }

    #[tokio::test]
    async fn a_body_in_memory_takes_no_more_than_it_is_long() {
        for (len, expect) in [(1000, 64 << 10), (10_000, 16 << 10), (16_000, 16 << 10), (40_000, 0)] {
            let mut writer = BodyWriter::in_memory(MessageId::from_bytes([1; 16]), expect);
            for piece in vec![7; len].chunks(999) {
                writer.write(piece).await.expect("it is memory");
            }
            let Ok(Body::Memory(bytes)) = writer.finish().await else { panic!("it is in memory") };
            let bytes = bytes.try_into_mut().expect("nobody else has it");
            assert!(bytes.len() == len && bytes.capacity() <= len + len / 8, "{}", bytes.capacity());
        }
    }
}
