//! The collector: makes segments free for their next use, in the safe order, and keeps some at hand.
//!
//! A segment is free when nothing in it is needed (see [`Segments`](crate::usage::Segments)), all that it tells is
//! confirmed by the reader of the feed or told forward, and nobody reads from it. First its header says so, synced; only then is what kept
//! other segments for its sake released. All that it looks at was synced before it took effect, so nothing is overwritten
//! that a recovery could still need; and as only what took effect is told, what is confirmed has taken effect.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use base::MessageId;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{
    Shared,
    inbox::{Haste, Queued},
    mover,
    promise::Promise,
    room::{Next, Room},
    segment::{DATA_START, Pin, Segment, SegmentHeader, SegmentState, Tales},
    survey::{FreeSegment, segment_name},
    untold::{self, Freed, Telling},
};
use crate::{
    QueueError,
    body::BodyFolder,
    files::lacks_descriptors,
    op::{BodyRef, Op},
    transaction::Transaction,
};

/// What the collector has to do, and the segments it has ready.
#[derive(Debug, Default)]
pub(super) struct Collector {
    state: Mutex<CollectorState>,
    /// Held by whoever makes segments, so that no more are made than are wanted.
    making: Mutex<Making>,
    changed: Condvar,
    /// Held by whoever needs body files to stay.
    bodies: Pin,
}

#[derive(Debug, Default)]
struct CollectorState {
    free: Vec<FreeSegment>,
    /// Names of body files that nobody needs.
    bodies: Vec<String>,
    slots: u32,
    due: bool,
    ended: bool,
}

/// Whether segments can be made.
#[derive(Debug, Default)]
struct Making {
    /// The disk was full; it is not tried again before this time.
    full_until: Option<Instant>,
}

/// It looks around at least this often.
const EVERY: Duration = Duration::from_secs(1);
/// So many segments stay ready for what lets mail end: nothing new is written while there are fewer.
pub(super) const RESERVE: usize = 2;
/// It keeps this many segments ready: the reserve, and the next one.
const KEPT_READY: usize = RESERVE + 1;
/// Beyond this many free segments, files are removed.
const KEPT_FREE: usize = 8;
/// After nothing could be moved, it waits this long before it tries that again.
const PAUSE: Duration = Duration::from_secs(10);
/// How long after a disk was found full it is asked again.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// How many ids one record remembers at most.
const REMEMBERED_AT_ONCE: usize = 20_000;
/// Room for one of them in a segment, amply, in bytes: with few small segments one record must not fill one.
const REMEMBERED_TAKES: usize = 512;

impl Collector {
    pub(super) fn new(free: Vec<FreeSegment>, slots: u32) -> Self {
        Self {
            state: Mutex::new(CollectorState { free, slots, ..CollectorState::default() }),
            ..Self::default()
        }
    }

    /// Messages have ended: their body files go, and segments may be free.
    pub(super) fn ended(&self, messages: Vec<(MessageId, BodyRef)>) {
        let in_files = messages.into_iter().filter_map(|(message, body)| match body {
            BodyRef::File { salt, .. } => Some(BodyFolder::file_name(message, salt)),
            BodyRef::Empty | BodyRef::Inline { .. } => None,
        });
        let mut in_files = in_files.peekable();
        if in_files.peek().is_some() {
            self.state.lock().bodies.extend(in_files);
            self.changed.notify_one();
        }
    }

    /// Keeps body files that nobody needs any more, as long as the value lives.
    pub(super) fn kept_bodies(&self) -> Pin {
        self.bodies.clone()
    }

    fn may_remove_bodies(&self) -> bool {
        Arc::strong_count(&self.bodies) == 1
    }

    /// Something may be free.
    pub(super) fn wake(&self) {
        self.state.lock().due = true;
        self.changed.notify_one();
    }

    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_one();
    }

    pub(super) fn free_count(&self) -> usize {
        self.state.lock().free.len()
    }

    /// A file for the next segment, such that `leaves` more stay ready.
    pub(super) fn take_free(&self, shared: &Shared, leaves: usize) -> Result<FreeSegment, QueueError> {
        self.keep_ready(shared, leaves + 1)?;
        let free = self.state.lock().free.pop();
        self.wake();
        free.ok_or(QueueError::NoSpace)
    }

    /// Looks at the disk before anything is taken, without making anything.
    pub(super) fn look_first(&self, shared: &Shared) -> Result<(), QueueError> {
        let missing = KEPT_READY.saturating_sub(self.free_count()) * shared.options.segment_size;
        let free = shared.disk.free(&shared.dir)?;
        let next = if free >= missing as u64 { Next::Ready } else { Next::Missing };
        shared.watch.look(free, next);
        Ok(())
    }

    /// Makes segments until so many are ready.
    pub(super) fn keep_ready(&self, shared: &Shared, wanted: usize) -> Result<(), QueueError> {
        if self.free_count() >= wanted {
            return Ok(());
        }
        let mut making = self.making.lock();
        while self.free_count() < wanted {
            if making.full_until.is_some_and(|until| Instant::now() < until) {
                return Err(QueueError::NoSpace);
            }
            let made = self.make(shared);
            making.full_until = matches!(made, Err(QueueError::NoSpace)).then(|| Instant::now() + FULL_PAUSE);
            self.state.lock().free.push(made?);
        }
        Ok(())
    }

    /// Removes the files of free segments beyond `kept`.
    fn trim(&self, shared: &Shared, kept: usize) -> Result<(), QueueError> {
        let surplus = {
            let mut state = self.state.lock();
            let kept = kept.min(state.free.len());
            state.free.split_off(kept)
        };
        surplus.iter().try_for_each(|free| Ok(shared.disk.remove(&shared.dir.join(&free.name))?))
    }

    /// Makes a segment's file, filled with zeros, so that later syncs of it need not change the file system. It begins
    /// with a header that says it is free: one without any is damaged, or was not finished.
    fn make(&self, shared: &Shared) -> Result<FreeSegment, QueueError> {
        if shared.disk.free(&shared.dir).is_ok_and(|free| free < shared.options.segment_size as u64) {
            return Err(QueueError::NoSpace);
        }
        let slot = {
            let mut state = self.state.lock();
            state.slots += 1;
            state.slots
        };
        let name = segment_name(slot);
        let path = shared.dir.join(&name);
        let file = shared.disk.create(&path).map_err(no_room)?;
        let filled = || {
            let zeros = vec![0; shared.options.segment_size.min(1 << 20)];
            let mut at = 0;
            while at < shared.options.segment_size {
                let len = zeros.len().min(shared.options.segment_size - at);
                file.write_at(&zeros[..len], at as u64)?;
                at += len;
            }
            file.write_at(&SegmentHeader::unused(shared.spool).encode(), 0)?;
            file.sync()?;
            shared.disk.sync_dir(&shared.dir)
        };
        filled()
            .inspect_err(|_| {
                // Half a file helps nobody, least of all on a full disk.
                let _ = shared.disk.remove(&path);
            })
            .map_err(no_room)?;
        Ok(FreeSegment { file, name })
    }
}

/// Without a descriptor no segment can be made now, as if there were no room for it; that ends by itself.
fn no_room(error: io::Error) -> QueueError {
    if lacks_descriptors(&error) {
        tracing::warn!(%error, "no segment can be made; raise the limit of open files if this goes on");
        return QueueError::NoSpace;
    }
    error.into()
}

/// Collects until the spool ends.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut state = State::default();
    loop {
        let (bodies, ended) = {
            let mut state = shared.collector.state.lock();
            let idle = state.bodies.is_empty() || !shared.collector.may_remove_bodies();
            if !state.due && !state.ended && idle {
                shared.collector.changed.wait_for(&mut state, EVERY);
            }
            state.due = false;
            let may = shared.collector.may_remove_bodies();
            (if may { std::mem::take(&mut state.bodies) } else { Vec::new() }, state.ended)
        };
        for name in bodies {
            shared.bodies.remove(&name);
        }
        if ended {
            return;
        }
        if let Err(error) = collect(shared, &mut state) {
            tracing::warn!(%error, "segments could not be collected; it is tried again");
        }
    }
}

/// What it knows from one look to the next.
#[derive(Default)]
struct State {
    /// Before this time nothing is copied forward.
    moving: Option<Instant>,
    telling: Telling,
}

fn is_over(pause: Option<Instant>) -> bool {
    pause.is_none_or(|until| until <= Instant::now())
}

/// Makes segments ready and looks how much room the disk has; what is kept for later is given back to a full one.
fn prepare(shared: &Shared) -> Result<(), QueueError> {
    let next = match shared.collector.keep_ready(shared, KEPT_READY) {
        Ok(()) => Next::Ready,
        Err(QueueError::NoSpace) => Next::Missing,
        Err(error) => return Err(error),
    };
    if shared.watch.look(shared.disk.free(&shared.dir)?, next) == Room::Full {
        shared.collector.trim(shared, KEPT_READY)?;
    }
    Ok(())
}

fn collect(shared: &Shared, state: &mut State) -> Result<(), QueueError> {
    let freed = make_free(shared, state);
    let prepared = prepare(shared);
    match freed {
        // There is no room to copy anything now; the watch has said so.
        Ok(()) | Err(QueueError::NoSpace) => prepared,
        Err(error) => Err(error),
    }
}

/// Makes free what is, and tries to make free what almost is.
fn make_free(shared: &Shared, state: &mut State) -> Result<(), QueueError> {
    let room = shared.watch.room();
    let segments: Vec<Arc<Segment>> = shared.segments.lock().values().cloned().collect();
    for segment in &segments {
        if is_free(shared, segment) {
            retire(shared, segment, room)?;
        }
    }
    if untold::tell_forward(shared, &segments, &mut state.telling)? == Freed::One {
        shared.collector.wake();
    }
    if is_over(state.moving) && mover::move_forward(shared, &segments)? == mover::Moved::NotNow {
        state.moving = Some(Instant::now() + PAUSE);
    }
    Ok(())
}

fn is_free(shared: &Shared, segment: &Arc<Segment>) -> bool {
    let Some(sealed) = *segment.sealed.lock() else { return false };
    // Beside the list and our look at it nobody has it: not the syncer either, who may be about to sync its footer, and whose sync may
    // fail. Then nobody may sync it again.
    Arc::strong_count(segment) <= 2
        && sealed.last <= shared.synced.load(Ordering::SeqCst)
        && (sealed.tales == Tales::Forward || sealed.last <= shared.confirmed.load(Ordering::SeqCst))
        && Arc::strong_count(&segment.pin) == 1
        && shared.ledger.with_index(|index| index.segments.is_free(segment.number))
}

fn retire(shared: &Shared, segment: &Arc<Segment>, room: Room) -> Result<(), QueueError> {
    remember(shared)?;
    if !withdraw(shared, segment) {
        return Ok(());
    }
    let last = segment.sealed.lock().map_or(segment.after, |sealed| sealed.last);
    let header = segment.header(shared.spool, last, SegmentState::Free);
    let freed = segment.file.write_at(&header.encode(), 0).and_then(|()| segment.file.sync());
    if let Err(error) = freed {
        // Not tried again: after a sync that failed nobody knows what is on the disk.
        shared.segments.lock().insert(segment.number, segment.clone());
        let error = QueueError::from(error);
        shared.fail(&error, Promise::default());
        return Err(error);
    }
    shared.ledger.with_index(|index| index.segments.retire(segment.number));
    let free = FreeSegment { file: segment.file.clone(), name: segment.name.clone() };
    let is_whole = free.file.size()? == shared.options.segment_size as u64;
    let kept = if room == Room::Enough { KEPT_FREE } else { KEPT_READY };
    if is_whole && shared.collector.free_count() < kept {
        shared.collector.state.lock().free.push(free);
    } else {
        shared.disk.remove(&shared.dir.join(&free.name))?;
    }
    Ok(())
}

/// Takes a segment away from all who might want to read it, unless somebody does so now.
fn withdraw(shared: &Shared, segment: &Segment) -> bool {
    let mut segments = shared.segments.lock();
    let unread = Arc::strong_count(&segment.pin) == 1;
    if unread {
        segments.remove(&segment.number);
    }
    unread
}

/// Ids that are to be remembered may stand only in the segment that goes: they are written again before.
fn remember(shared: &Shared) -> Result<(), QueueError> {
    let ids = shared.ledger.with_index(|index| index.remembered(shared.clock.now()));
    let at_once = REMEMBERED_AT_ONCE.min(shared.options.segment_size / REMEMBERED_TAKES);
    for some in ids.chunks(at_once) {
        let transaction = Transaction { ops: vec![Op::Remember(some.to_vec())], ..Transaction::default() };
        let (waiter, synced) = oneshot::channel();
        shared.inbox.put(Queued::new(transaction, Haste::Awaited, Some(waiter)))?;
        synced.blocking_recv().unwrap_or(Err(QueueError::Closed))?;
    }
    Ok(())
}

const _: () = assert!(DATA_START.is_multiple_of(super::frame::ALIGN));
