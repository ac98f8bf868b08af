//! The collector: makes segments free for their next use, in the safe order, and keeps some at hand.
//!
//! A segment is free when nothing in it is needed (see [`Index`](crate::index::Index)), all that it tells is confirmed by the reader
//! of the feed, and nobody reads from it. First its header says so, synced; only then is what kept other segments
//! for its sake released. All that it looks at was synced before it took effect, so nothing is
//! overwritten that a recovery could still need.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use base::MessageId;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{
    Shared,
    inbox::{Haste, Queued},
    recovery::{FreeSegment, reread, segment_name},
    segment::{DATA_START, Segment, SegmentHeader, SegmentState},
};
use crate::{
    QueueError,
    body::BodyFolder,
    op::{BodyRef, Op, Publish},
    transaction::Transaction,
};

/// What the collector has to do, and the segments it has ready.
#[derive(Debug, Default)]
pub(super) struct Collector {
    state: Mutex<CollectorState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct CollectorState {
    free: Vec<FreeSegment>,
    bodies: Vec<MessageId>,
    slots: u32,
    due: bool,
    ended: bool,
}

/// It looks around at least this often.
const EVERY: Duration = Duration::from_secs(1);
/// It keeps this many segments ready.
const KEPT_READY: usize = 2;
/// Beyond this many free segments, files are removed.
const KEPT_FREE: usize = 8;
/// Below this many segments nothing is copied forward.
const COPIED_ABOVE: usize = 4;
/// How many ids one record remembers at most.
const REMEMBERED_AT_ONCE: usize = 20_000;

impl Collector {
    pub(super) fn new(free: Vec<FreeSegment>, slots: u32) -> Self {
        Self {
            state: Mutex::new(CollectorState { free, slots, ..CollectorState::default() }),
            changed: Condvar::new(),
        }
    }

    /// Messages have ended: their body files go, and segments may be free.
    pub(super) fn ended(&self, messages: Vec<(MessageId, BodyRef)>) {
        let in_files = messages.into_iter().filter(|(_, body)| matches!(body, BodyRef::File { .. }));
        let mut in_files = in_files.map(|(message, _)| message).peekable();
        if in_files.peek().is_some() {
            self.state.lock().bodies.extend(in_files);
            self.changed.notify_one();
        }
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

    /// A file for the next segment: one that is ready, or a new one.
    pub(super) fn take_free(&self, shared: &Shared) -> Result<FreeSegment, QueueError> {
        let ready = self.state.lock().free.pop();
        let free = ready.map_or_else(|| self.make(shared), Ok)?;
        self.wake();
        Ok(free)
    }

    /// Makes a segment's file, filled with zeros, so that later syncs of it need not change the file system.
    fn make(&self, shared: &Shared) -> Result<FreeSegment, QueueError> {
        let slot = {
            let mut state = self.state.lock();
            state.slots += 1;
            state.slots
        };
        let name = segment_name(slot);
        let path = shared.dir.join(&name);
        let file = shared.disk.create(&path)?;
        let filled = || {
            let zeros = vec![0; shared.options.segment_size.min(1 << 20)];
            let mut at = 0;
            while at < shared.options.segment_size {
                let len = zeros.len().min(shared.options.segment_size - at);
                file.write_at(&zeros[..len], at as u64)?;
                at += len;
            }
            file.sync()?;
            shared.disk.sync_dir(&shared.dir)
        };
        filled().inspect_err(|_| {
            // Half a file helps nobody, least of all on a full disk.
            let _ = shared.disk.remove(&path);
        })?;
        Ok(FreeSegment { file, name })
    }
}

/// Collects until the spool ends.
pub(super) fn run(shared: &Arc<Shared>) {
    loop {
        let bodies = {
            let mut state = shared.collector.state.lock();
            if !state.due && !state.ended && state.bodies.is_empty() {
                shared.collector.changed.wait_for(&mut state, EVERY);
            }
            if state.ended {
                return;
            }
            state.due = false;
            std::mem::take(&mut state.bodies)
        };
        for message in bodies {
            shared.bodies.remove(&BodyFolder::file_name(message));
        }
        if let Err(error) = collect(shared) {
            tracing::warn!(%error, "segments could not be collected; it is tried again");
        }
    }
}

fn collect(shared: &Shared) -> Result<(), QueueError> {
    let segments: Vec<Arc<Segment>> = shared.segments.lock().values().cloned().collect();
    for segment in &segments {
        if is_free(shared, segment) {
            retire(shared, segment)?;
        }
    }
    copy_forward(shared, &segments)?;
    while shared.collector.free_count() < KEPT_READY {
        match shared.collector.make(shared) {
            Ok(free) => shared.collector.state.lock().free.push(free),
            // The writer says so to whoever is concerned, once it needs one.
            Err(QueueError::NoSpace) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_free(shared: &Shared, segment: &Arc<Segment>) -> bool {
    let Some(sealed) = *segment.sealed.lock() else { return false };
    sealed.last <= shared.synced.load(Ordering::SeqCst)
        && sealed.last <= shared.confirmed.load(Ordering::SeqCst)
        && Arc::strong_count(&segment.pin) == 1
        && shared.ledger.with_index(|index| index.is_free(segment.number))
}

fn retire(shared: &Shared, segment: &Segment) -> Result<(), QueueError> {
    remember(shared)?;
    let header = SegmentHeader {
        spool: shared.spool,
        number: segment.number,
        nonce: segment.nonce,
        after: segment.after,
        state: SegmentState::Free,
    };
    segment.file.write_at(&header.encode(), 0)?;
    segment.file.sync()?;
    shared.ledger.with_index(|index| index.retire(segment.number));
    shared.segments.lock().remove(&segment.number);
    let free = FreeSegment { file: segment.file.clone(), name: segment.name.clone() };
    if shared.collector.free_count() < KEPT_FREE {
        shared.collector.state.lock().free.push(free);
    } else {
        shared.disk.remove(&shared.dir.join(&free.name))?;
    }
    Ok(())
}

/// Ids that are to be remembered may stand only in the segment that goes: they are written again before.
fn remember(shared: &Shared) -> Result<(), QueueError> {
    let ids = shared.ledger.with_index(|index| index.remembered(shared.clock.now()));
    for some in ids.chunks(REMEMBERED_AT_ONCE) {
        write(shared, Transaction { ops: vec![Op::Remember(some.to_vec())], ..Transaction::default() })?;
    }
    Ok(())
}

/// When segments hold much more than is alive, what lives in the oldest sparse one is copied to the newest.
fn copy_forward(shared: &Shared, segments: &[Arc<Segment>]) -> Result<(), QueueError> {
    let live = |segment: &Arc<Segment>| shared.ledger.with_index(|index| index.live_bytes(segment.number));
    let size = shared.options.segment_size as u64;
    let total: u64 = segments.iter().map(live).sum();
    if segments.len() <= COPIED_ABOVE || total * 2 > size * segments.len() as u64 {
        return Ok(());
    }
    let sparse = |segment: &&Arc<Segment>| segment.sealed.lock().is_some() && live(segment) * 2 < size;
    let Some(segment) = segments.iter().find(sparse) else { return Ok(()) };
    let messages = shared.ledger.with_index(|index| {
        let mut messages = index.messages_in(segment.number);
        messages.extend(index.states_in(segment.number));
        messages
    });
    for message in messages {
        copy(shared, message)?;
    }
    Ok(())
}

/// Copies a message forward as it stands now, unless somebody holds one of its works.
fn copy(shared: &Shared, message: MessageId) -> Result<(), QueueError> {
    let Some(publish) = shared.ledger.with_index(|index| index.as_published(message)) else { return Ok(()) };
    let numbers: Vec<u16> = publish.works.iter().map(|work| work.index).collect();
    let (publish, transaction) = match with_contents(shared, publish) {
        Ok(copied) => copied,
        Err(QueueError::Damaged(what)) => {
            tracing::error!(%message, "a message cannot be copied forward, because it is damaged: {what}");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let (waiter, synced) = oneshot::channel();
    {
        // Whoever concludes or changes one of its works puts that into the inbox too: under this lock nothing can
        // come between what is copied and the copy.
        let mut inbox = shared.inbox.lock();
        let unchanged = shared.ledger.with_index(|index| index.as_published(message)).is_some_and(|now| {
            now.works.len() == publish.works.len()
                && now.works.iter().zip(&publish.works).all(|(a, b)| a.standing == b.standing)
        });
        if !unchanged || !shared.ledger.is_at_rest(message, &numbers) {
            return Ok(());
        }
        shared.inbox.put_locked(&mut inbox, Queued::new(transaction, Haste::Awaited, Some(waiter)))?;
    }
    synced.blocking_recv().unwrap_or(Err(QueueError::Closed))
}

/// A message's publication with its words and body, read back.
fn with_contents(shared: &Shared, mut publish: Publish) -> Result<(Publish, Transaction), QueueError> {
    let mut transaction = Transaction::default();
    let message = publish.message;
    let place = shared.ledger.with_index(|index| index.message(message).map(|message| message.place));
    let place = place.ok_or(QueueError::Closed)?;
    let segment = shared.segment(place.segment)?;
    let (stored, words, body_at) = reread(&segment, place, |op| match op {
        Op::Publish(stored) if stored.message == message => Some(stored.clone()),
        _ => None,
    })?;
    let stored_words = stored.words(&words);
    publish.header_len = stored.header_len;
    transaction.head.extend_from_slice(&stored_words.header);
    for work in &mut publish.works {
        let id = base::WorkId { message, index: work.index };
        let mut words = stored_words.of(work.index).unwrap_or_default();
        if let Some(place) = shared.ledger.with_index(|index| index.work(id).and_then(|work| work.state_at)) {
            words.state = shared.read_state(id, place)?;
        }
        work.detail_len = u32::try_from(words.detail.len()).expect("it was checked against MAX_HEADER");
        work.state_len = u32::try_from(words.state.len()).expect("it was checked against MAX_HEADER");
        transaction.head.extend_from_slice(&words.detail);
        transaction.head.extend_from_slice(&words.state);
    }
    if let BodyRef::Inline { len, crc } = publish.body {
        let body = segment.file.read_exact_at(len as usize, body_at)?;
        if crate::body::checksum(&body) != crc {
            return Err(QueueError::Damaged(format!("the body of message {message}")));
        }
        transaction.bodies.push(body.into());
    }
    transaction.ops.push(Op::Publish(publish.clone()));
    Ok((publish, transaction))
}

/// Writes a transaction and waits until it is synced.
fn write(shared: &Shared, transaction: Transaction) -> Result<(), QueueError> {
    let (waiter, synced) = oneshot::channel();
    shared.inbox.put(Queued::new(transaction, Haste::Awaited, Some(waiter)))?;
    synced.blocking_recv().unwrap_or(Err(QueueError::Closed))
}

const _: () = assert!(DATA_START.is_multiple_of(super::frame::ALIGN));
