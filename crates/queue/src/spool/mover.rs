//! Copying forward: what still lives in sparse segments is copied to the newest, so that they become free.

use std::sync::Arc;

use base::{MessageId, WorkId};
use tokio::sync::oneshot;

use super::{
    Shared,
    inbox::{Haste, Queued},
    recovery::reread,
    segment::Segment,
    writer::fits,
};
use crate::{
    Cursor, QueueError, Status,
    body::checksum,
    op::{BodyRef, Op, Publish},
    transaction::Transaction,
};

/// Whether something was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    Something,
    Nothing,
    /// What should have been is damaged, or somebody holds it.
    NotNow,
}

/// Below this many segments nothing is copied forward.
const MOVED_ABOVE: usize = 4;
/// So many bytes are copied before their sync is waited for.
const MOVED_AT_ONCE: usize = 1 << 20;

type Synced = oneshot::Receiver<Result<(), QueueError>>;

/// When segments hold much more than is alive, what lives in the oldest sparse one that can be moved is copied to
/// the newest.
pub(super) fn move_forward(shared: &Shared, segments: &[Arc<Segment>]) -> Result<Moved, QueueError> {
    let size = shared.options.segment_size as u64;
    let sparse: Vec<u32> = shared.ledger.with_index(|index| {
        let live = |segment: &Arc<Segment>| index.segments.live_bytes(segment.number);
        let total: u64 = segments.iter().map(live).sum();
        if segments.len() <= MOVED_ABOVE || total * 2 > size * segments.len() as u64 {
            return Vec::new();
        }
        let sealed = segments.iter().filter(|segment| segment.sealed.lock().is_some());
        let sparse = sealed.filter(|segment| live(segment) * 2 < size);
        sparse.map(|segment| segment.number).filter(|number| index.segments.is_movable(*number)).collect()
    });
    let mut moved = Moved::Nothing;
    for segment in sparse {
        moved = copy_all(shared, segment)?;
        if moved == Moved::Something {
            break;
        }
    }
    Ok(moved)
}

fn copy_all(shared: &Shared, segment: u32) -> Result<Moved, QueueError> {
    let mut moved = Moved::NotNow;
    let mut waiting: Vec<Synced> = Vec::new();
    let mut bytes = 0;
    let mut from = Some(Cursor::default());
    while let Some(cursor) = from {
        let (messages, next) = shared.ledger.with_index(|index| index.movable(segment, cursor));
        from = next;
        for message in messages {
            let Some((size, synced)) = copy(shared, message)? else { continue };
            moved = Moved::Something;
            bytes += size;
            waiting.push(synced);
            if bytes >= MOVED_AT_ONCE {
                settle(&mut waiting)?;
                bytes = 0;
            }
        }
    }
    settle(&mut waiting)?;
    Ok(moved)
}

fn settle(waiting: &mut Vec<Synced>) -> Result<(), QueueError> {
    waiting.drain(..).try_for_each(|synced| synced.blocking_recv().unwrap_or(Err(QueueError::Closed)))
}

/// Puts a copy of a message as it stands now into the inbox, unless somebody holds one of its works.
fn copy(shared: &Shared, message: MessageId) -> Result<Option<(usize, Synced)>, QueueError> {
    let Some(publish) = shared.ledger.with_index(|index| index.as_published(message)) else {
        return Ok(None);
    };
    let numbers: Vec<u16> = publish.works.iter().map(|work| work.index).collect();
    if !shared.ledger.is_at_rest(message, &numbers) {
        return Ok(None);
    }
    let (publish, transaction) = match with_contents(shared, publish) {
        Ok(copied) => copied,
        Err(QueueError::Damaged(what)) => {
            leave_damaged(shared, message, &numbers, &what);
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let (waiter, synced) = oneshot::channel();
    let queued = Queued::new(transaction, Haste::Awaited, Some(waiter));
    if fits(&queued, shared.options.segment_size).is_err() {
        // Its works have more to say by now than one segment takes.
        return Ok(None);
    }
    let size = queued.size();
    // Whoever concludes or changes one of its works puts that into the inbox too: under this lock nothing can come
    // between what is copied and the copy.
    let mut inbox = shared.inbox.lock();
    let unchanged = shared.ledger.with_index(|index| index.as_published(message)).is_some_and(|now| {
        now.works.len() == publish.works.len()
            && now.works.iter().zip(&publish.works).all(|(a, b)| a.standing == b.standing)
    });
    if !unchanged || !shared.ledger.is_at_rest(message, &numbers) {
        return Ok(None);
    }
    shared.inbox.put_locked(&mut inbox, queued)?;
    Ok(Some((size, synced)))
}

/// What cannot be read cannot be moved: its works are set aside, and its segment stays.
fn leave_damaged(shared: &Shared, message: MessageId, works: &[u16], what: &str) {
    for index in works {
        let work = WorkId { message, index: *index };
        if shared
            .ledger
            .info(work)
            .is_some_and(|info| info.lease.is_none() && info.status != Status::SetAside)
        {
            shared.set_aside(work, what);
        }
    }
}

/// A message's publication with its words and body, read back.
fn with_contents(shared: &Shared, mut publish: Publish) -> Result<(Publish, Transaction), QueueError> {
    let mut transaction = Transaction::default();
    let message = publish.message;
    let place = shared.ledger.with_index(|index| index.place(message)).ok_or(QueueError::Closed)?;
    let (segment, _pin) = shared.segment(place.segment)?;
    let (stored, words, body_at) = reread(&segment, place, |op| match op {
        Op::Publish(stored) if stored.message == message => Some(stored.clone()),
        _ => None,
    })?;
    let stored_words = stored.words(&words);
    publish.header_len = stored.header_len;
    publish.body = stored.body;
    transaction.head.extend_from_slice(&stored_words.header);
    for work in &mut publish.works {
        let id = WorkId { message, index: work.index };
        let mut words = stored_words
            .of(work.index)
            .ok_or_else(|| QueueError::Damaged(format!("work {id} has no words")))?;
        if let Some((_, Some(place))) = shared.ledger.with_index(|index| index.places(id)) {
            words.state = shared.read_state(id, place)?;
        }
        work.detail_len = u32::try_from(words.detail.len()).expect("it was checked against MAX_HEADER");
        work.state_len = u32::try_from(words.state.len()).expect("it was checked against MAX_HEADER");
        transaction.head.extend_from_slice(&words.detail);
        transaction.head.extend_from_slice(&words.state);
    }
    if let BodyRef::Inline { len, crc } = publish.body {
        let body = segment.file.read_exact_at(len as usize, body_at)?;
        if checksum(&body) != crc {
            return Err(QueueError::Damaged(format!("the body of message {message}")));
        }
        transaction.bodies.push(body.into());
    }
    transaction.ops.push(Op::Publish(publish.clone()));
    Ok((publish, transaction))
}
