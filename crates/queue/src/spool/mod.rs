//! The spool: a queue on this machine's disk.
//!
//! ```text
//! publish, conclude ──► inbox ──► writer ──► syncer ──► takes effect: index, arrivals, feed, waiters
//!                                   │                        │
//!                                   ▼                        ▼
//!                               segments ◄──────────── collector
//! ```
//!
//! - `inbox`: what waits to be written, and the rule of the group commit;
//! - `writer`: gives frames their sequence and place, and writes them;
//! - `syncer`: one `fdatasync` for all that waits, then everything takes effect at once;
//! - `collector`: frees segments in the safe order, and copies forward what keeps a sparse one;
//! - `frame`, `segment`: the format; `scan`, `recovery`: reading it again; `archive`: telling it again.

mod archive;
mod collector;
mod frame;
mod inbox;
mod provide;
mod recovery;
mod scan;
mod segment;
mod syncer;
mod writer;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64},
    },
    thread::JoinHandle,
    time::Duration,
};

use base::{Clock, WorkId};
use bytes::Bytes;
use parking_lot::Mutex;

use self::{
    collector::Collector,
    inbox::{Inbox, Waiter},
    recovery::{Recovered, recover, reread},
    segment::Segment,
    syncer::Syncer,
    writer::Writer,
};
pub use self::{scan::Damage, segment::FORMAT};
use crate::{
    BodySource, Epoch, QueueError, Repeat, Words, WorkInfo,
    body::{BodyFolder, StoredBody},
    feed::RecentTales,
    files::{Disk, Lock},
    index::Place,
    ledger::{Content, Given, Ledger},
    memory::recent,
    op::{BodyRef, Op},
};

/// How a spool is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length of a segment, in bytes.
    pub segment_size: usize,
    /// Bodies longer than this, in bytes, go into files of their own.
    pub inline_body: usize,
    /// Contents of recent messages are kept in memory up to this many bytes.
    pub recent_bytes: usize,
    /// How long a committed work whose outcome is unknown waits before it is attempted again.
    pub after_loss: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_size: 64 << 20,
            inline_body: 1 << 20,
            recent_bytes: 64 << 20,
            after_loss: Duration::from_secs(15 * 60),
        }
    }
}

/// The queue on disk.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: Lock,
}

/// What the spool's threads share.
#[derive(Debug)]
struct Shared {
    spool: u128,
    disk: Disk,
    dir: PathBuf,
    clock: Clock,
    options: Options,
    ledger: Ledger,
    inbox: Inbox,
    syncer: Syncer,
    collector: Collector,
    bodies: BodyFolder,
    segments: Mutex<BTreeMap<u32, Arc<Segment>>>,
    last_number: AtomicU32,
    /// The last sequence that is synced.
    synced: AtomicU64,
    /// The last sequence that the reader of the feed has stored for good.
    confirmed: AtomicU64,
    tales: Arc<RecentTales>,
    damage: Mutex<Vec<Damage>>,
}

impl Spool {
    /// Opens the spool in `dir`, or makes one there, and recovers what it holds.
    ///
    /// # Errors
    /// If another process has it open, something in it is not the spool's, or the disk fails.
    pub fn open(disk: Disk, dir: &Path, clock: Clock, options: Options) -> Result<Arc<Self>, QueueError> {
        let segments_dir = dir.join("segments");
        disk.create_dir(&segments_dir).map_err(|error| unusable(dir, &error))?;
        let lock = disk.lock(dir.join("spool.lock")).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => QueueError::Refused(format!(
                "{} is in use by another process; stop that one, or choose another data directory",
                dir.display()
            )),
            _ => unusable(dir, &error),
        })?;
        let bodies =
            BodyFolder::open(disk.clone(), dir.join("bodies")).map_err(|error| unusable(dir, &error))?;
        let Recovered { spool, index, segments, free, last, last_number, damage } =
            recover(&disk, &segments_dir, &bodies)?;
        let slots = disk.list(&segments_dir)?.iter().filter_map(|name| slot_of(name)).max().unwrap_or(0);
        let mut incarnation = [0; 8];
        getrandom::fill(&mut incarnation)
            .map_err(|error| QueueError::Refused(format!("the system gives no random numbers: {error}")))?;
        let shared = Arc::new(Shared {
            spool,
            disk,
            dir: segments_dir,
            clock,
            ledger: Ledger::new(index, u64::from_le_bytes(incarnation), options.recent_bytes),
            options,
            inbox: Inbox::new(),
            syncer: Syncer::default(),
            collector: Collector::new(free, slots),
            bodies,
            segments: Mutex::new(segments.into_iter().map(|segment| (segment.number, segment)).collect()),
            last_number: AtomicU32::new(last_number),
            synced: AtomicU64::new(last),
            confirmed: AtomicU64::new(0),
            tales: Arc::new(RecentTales::starting_after(last)),
            damage: Mutex::new(damage),
        });
        let writer = Writer::start(shared.clone(), last)?;
        let threads = vec![
            spawn("spool-writer", move || writer.run())?,
            spawn("spool-syncer", {
                let shared = shared.clone();
                move || syncer::run(&shared)
            })?,
            spawn("spool-collector", {
                let shared = shared.clone();
                move || collector::run(&shared)
            })?,
        ];
        Ok(Arc::new(Self { shared, threads: Mutex::new(threads), _lock: lock }))
    }

    /// What was found damaged at the start and since.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        self.shared.damage.lock().clone()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.shared.inbox.end(QueueError::Closed);
        for thread in self.threads.get_mut().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the spool panicked");
            }
        }
    }
}

fn unusable(dir: &Path, error: &io::Error) -> QueueError {
    QueueError::Refused(format!(
        "{} cannot be used: {error}; make it writable for this user, or choose another data directory",
        dir.display()
    ))
}

fn slot_of(name: &str) -> Option<u32> {
    name.strip_suffix(".segment")?.parse().ok()
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, QueueError> {
    Ok(std::thread::Builder::new().name(name.into()).spawn(run)?)
}

impl Shared {
    fn segment(&self, number: u32) -> Result<Arc<Segment>, QueueError> {
        let segment = self.segments.lock().get(&number).cloned();
        segment.ok_or_else(|| QueueError::Damaged(format!("segment {number} is missing")))
    }

    /// Nothing can be promised any more: everybody who waits is told, and nothing more is taken.
    fn fail(&self, error: &QueueError, waiters: Vec<Waiter>) {
        tracing::error!(%error, "the spool has failed; the node takes nothing more and must be started again");
        self.inbox.end(error.clone());
        for waiter in waiters {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    /// Whoever waits for a publication that somebody else published first.
    fn joined(&self, op: &Op) -> Vec<Waiter> {
        match op {
            Op::Publish(publish) if publish.repeat == Repeat::Possible => {
                self.inbox.lock().published(publish.message)
            }
            _ => Vec::new(),
        }
    }

    fn read_state(&self, work: WorkId, place: Place) -> Result<Bytes, QueueError> {
        let segment = self.segment(place.segment)?;
        let (len, words, _) = reread(&segment, place, |op| match op {
            Op::Conclude(conclude) if conclude.work == work => Some(conclude.state_len),
            Op::State(state) if state.work == work => Some(state.state_len),
            _ => None,
        })?;
        Ok(words.slice(..len as usize))
    }

    /// The words and the body of a work, from memory or from the disk.
    fn load(&self, work: WorkId, content: &Content) -> Result<(Words, BodySource), QueueError> {
        let (place, body, state) = match content {
            Content::Recent(content) => {
                return recent(content, work)
                    .ok_or_else(|| QueueError::Damaged(format!("work {work} has no words")));
            }
            Content::Stored { message, body, state } => (*message, *body, *state),
        };
        let segment = self.segment(place.segment)?;
        let (publish, words, body_at) = reread(&segment, place, |op| match op {
            Op::Publish(publish) if publish.message == work.message => Some(publish.clone()),
            _ => None,
        })?;
        let words = publish.words(&words).of(work.index);
        let mut words = words.ok_or_else(|| QueueError::Damaged(format!("work {work} has no words")))?;
        if let Some(place) = state {
            words.state = self.read_state(work, place)?;
        }
        let body = match body {
            BodyRef::Empty => BodySource::Memory(Bytes::new()),
            BodyRef::Inline { len, crc } => BodySource::Stored(Arc::new(StoredBody {
                file: segment.file.clone(),
                offset: body_at,
                size: len.into(),
                crc,
                _pin: Some(segment.pin.clone()),
            })),
            BodyRef::File { len, crc } => {
                let file = self.bodies.open_body(&BodyFolder::file_name(work.message))?;
                BodySource::Stored(Arc::new(StoredBody { file, offset: 0, size: len, crc, _pin: None }))
            }
        };
        Ok((words, body))
    }

    /// Loads what was leased; what is damaged is set aside.
    fn load_given(&self, given: Given) -> Option<(Epoch, WorkInfo, Words, BodySource)> {
        let work = given.info.work;
        match self.load(work, &given.content) {
            Ok((words, body)) => Some((given.epoch, given.info, words, body)),
            Err(QueueError::Damaged(what)) => {
                tracing::error!(%work, "set aside, because it is damaged: {what}");
                self.damage.lock().push(Damage {
                    segment: 0,
                    offset: 0,
                    what: format!("work {work}: {what}"),
                });
                self.ledger.set_aside(work);
                None
            }
            Err(error) => {
                tracing::warn!(%work, %error, "cannot be read now; it is tried again");
                self.ledger.give_back(work, given.epoch);
                None
            }
        }
    }
}
