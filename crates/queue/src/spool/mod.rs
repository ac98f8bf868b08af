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
//! - `room`: how much the disk has left; `collector`: frees segments in the safe order; `mover`: copies forward what keeps a sparse
//!   one; `untold`: tells forward what the message log does not take;
//! - `frame`, `footer`, `segment`: the format; `survey`, `scan`, `recovery`: reading it again; `load`: reading one work again;
//!   `archive`: telling it again; `backup`: copying it while it runs.

mod archive;
mod backup;
mod by_hand;
mod collector;
mod footer;
mod frame;
mod inbox;
mod load;
mod mover;
mod promise;
mod provide;
mod recovery;
mod room;
mod scan;
mod segment;
mod survey;
mod syncer;
mod untold;
mod window;
mod writer;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use base::{Clock, MessageId, Timestamp};
use parking_lot::Mutex;

pub(crate) use self::room::Watch;
pub use self::{
    backup::{Piece, Snapshot},
    room::Room,
    scan::Damage,
    segment::FORMAT,
};
use self::{
    collector::Collector,
    inbox::{Haste, Inbox, Queued},
    promise::{Promise, Waiter},
    recovery::{Recovered, recover},
    room::Marks,
    segment::{Pin, Segment},
    syncer::Syncer,
    writer::Writer,
};
use crate::{
    QueueError, Repeat,
    body::BodyFolder,
    feed::RecentTales,
    files::{Disk, Lock},
    ledger::Ledger,
    op::Op,
    transaction::Transaction,
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
    /// Segments that only the message log still needs take this many bytes at most, and no fewer than two of them.
    pub kept_for_log: u64,
    /// With fewer free bytes on the disk than this the spool warns.
    pub warn_free: u64,
    /// With fewer than this it takes no new messages.
    pub min_free: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_size: 64 << 20,
            inline_body: 1 << 20,
            recent_bytes: 64 << 20,
            after_loss: Duration::from_secs(15 * 60),
            kept_for_log: 256 << 20,
            warn_free: 1 << 30,
            min_free: 256 << 20,
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

/// What a spool holds that nobody uses now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Segments in use.
    pub segments: usize,
    /// What is damaged.
    pub damage: Vec<Damage>,
}

/// Reads a spool as a start would, and changes nothing.
///
/// # Errors
/// [`QueueError::Refused`] if somebody uses it, or if it is none; [`QueueError::Disk`].
pub fn inspect(disk: &Disk, dir: &Path) -> Result<Inspected, QueueError> {
    // Where no lock was made yet, nobody has it; one that is made now might not be whoever starts next's.
    let is_used = disk.open(&dir.join(LOCK)).is_ok();
    let _lock = is_used.then(|| lock(disk, dir)).transpose()?;
    let Options { segment_size, warn_free: warn, min_free: least, .. } = Options::default();
    let disk = disk.untouched();
    let watch = Arc::new(Watch::new(Marks { warn, least }));
    let bodies =
        BodyFolder::open(disk.clone(), dir.join("bodies"), watch).map_err(|error| unusable(dir, &error))?;
    let Recovered { segments, damage, .. } = recover(&disk, &dir.join("segments"), &bodies, segment_size)?;
    Ok(Inspected { segments: segments.len(), damage })
}

/// Whoever uses a spool has a lock on this file.
const LOCK: &str = "spool.lock";

/// Makes sure that nobody else uses a spool.
fn lock(disk: &Disk, dir: &Path) -> Result<Lock, QueueError> {
    disk.lock(dir.join(LOCK)).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => QueueError::Refused(format!(
            "{} is in use by another process; stop that one, or choose another data directory",
            dir.display()
        )),
        _ => unusable(dir, &error),
    })
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
    watch: Arc<Watch>,
    bodies: BodyFolder,
    segments: Mutex<BTreeMap<u32, Arc<Segment>>>,
    last_number: AtomicU32,
    /// The last sequence that is synced.
    synced: AtomicU64,
    /// The last sequence that the reader of the feed has stored for good.
    confirmed: AtomicU64,
    /// Tales that were given up, because nobody took them.
    lost: AtomicU64,
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
        let lock = lock(&disk, dir)?;
        let watch = Arc::new(Watch::new(Marks { warn: options.warn_free, least: options.min_free }));
        let bodies = BodyFolder::open(disk.clone(), dir.join("bodies"), watch.clone())
            .map_err(|error| unusable(dir, &error))?;
        let Recovered { spool, index, granted, segments, free, last, last_number, damage } =
            recover(&disk, &segments_dir, &bodies, options.segment_size)?;
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
            watch,
            bodies,
            segments: Mutex::new(segments.into_iter().map(|segment| (segment.number, segment)).collect()),
            last_number: AtomicU32::new(last_number),
            synced: AtomicU64::new(last),
            confirmed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            tales: Arc::new(RecentTales::starting_after(last)),
            damage: Mutex::new(damage),
        });
        shared.ledger.restore(granted, shared.after_loss());
        let writer = Writer::start(shared.clone(), last)?;
        shared.collector.look_first(&shared)?;
        // The first frame of each opening says that all before it was synced, so that the next one can believe it.
        let opened = Queued::new(Transaction::default(), Haste::Unawaited, None);
        shared.inbox.put(opened)?;
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
        self.shared.inbox.close();
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

/// The message of a publication that somebody else may publish as well.
fn repeatable(op: &Op) -> Option<MessageId> {
    match op {
        Op::Publish(publish) if publish.repeat == Repeat::Possible => Some(publish.message),
        _ => None,
    }
}

impl Shared {
    /// Until when what may have been done already waits before it is attempted again.
    fn after_loss(&self) -> Timestamp {
        self.clock.now() + self.options.after_loss
    }

    /// Frames that are synced and that the reader of the feed has not stored for good.
    fn untold(&self) -> u64 {
        let synced = self.synced.load(Ordering::SeqCst);
        synced.saturating_sub(self.confirmed.load(Ordering::SeqCst))
    }

    /// A segment, and what keeps it from being used again while it is read.
    fn segment(&self, number: u32) -> Result<(Arc<Segment>, Pin), QueueError> {
        let segments = self.segments.lock();
        let pinned = segments.get(&number).map(|segment| (segment.clone(), segment.pin.clone()));
        pinned.ok_or_else(|| QueueError::Damaged(format!("segment {number} is missing")))
    }

    /// Nothing can be promised any more: everybody who waits is told, and nothing more is taken.
    fn fail(&self, error: &QueueError, mut owed: Promise) {
        if !self.inbox.has_failed() {
            tracing::error!(%error, "the spool has failed; the node takes nothing more and must be started again");
        }
        owed.join(self.inbox.fail(error));
        owed.break_off(error);
    }

    /// Whoever waits for a publication that somebody else published first.
    fn joined(&self, op: &Op) -> Vec<Waiter> {
        repeatable(op).map(|message| self.inbox.lock().published(message)).unwrap_or_default()
    }

    /// Something is not what was written: it is said, once.
    fn report(&self, damage: Damage) {
        let mut all = self.damage.lock();
        if all.len() < MAX_DAMAGE && !all.contains(&damage) {
            let Damage { segment, offset, what } = &damage;
            tracing::error!(segment, offset, "spool damaged: {what}");
            all.push(damage);
        }
    }
}

/// Most findings that are kept to be shown; all of them are logged.
const MAX_DAMAGE: usize = 10_000;
