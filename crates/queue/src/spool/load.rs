//! Reading the words and the body of a work again.

use std::{sync::Arc, time::Duration};

use base::WorkId;
use bytes::Bytes;

use super::{
    Shared,
    recovery::reread,
    scan::Damage,
    segment::{Pin, Segment},
};
use crate::{
    BodySource, Epoch, QueueError, Reason, Words, WorkInfo,
    body::{BodyFolder, StoredBody, checksum},
    files::lacks_descriptors,
    index::Place,
    ledger::{Content, Given},
    memory::recent,
    op::{BodyRef, Op},
    recent::RecentContent,
};

/// Bodies up to this length are read with the words and proven whole at once; longer ones while they are read.
const READ_AT_ONCE: u32 = 256 << 10;
/// A work whose body cannot be opened for want of descriptors is tried again after this time.
const EXHAUSTED_FOR: Duration = Duration::from_secs(10);
/// A work that the disk does not give now is tried again after this time.
const UNREADABLE_FOR: Duration = Duration::from_secs(60);

/// A work that was leased and loaded; given back if nobody takes it.
#[derive(Debug)]
pub(super) struct Loaded {
    shared: Arc<Shared>,
    given: Option<(Epoch, WorkInfo, Words, BodySource)>,
}

impl Loaded {
    /// Hands it to whoever leased it.
    pub(super) fn take(mut self) -> Option<(Epoch, WorkInfo, Words, BodySource)> {
        self.given.take()
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if let Some((epoch, info, ..)) = self.given.take() {
            self.shared.ledger.give_back(info.work, epoch);
        }
    }
}

/// Loads what was leased; what is damaged is set aside.
pub(super) fn load_given(shared: &Arc<Shared>, given: Given) -> Option<Loaded> {
    let work = given.info.work;
    match shared.load(work, &given.content) {
        Ok((words, body)) => {
            let given = Some((given.epoch, given.info, words, body));
            Some(Loaded { shared: shared.clone(), given })
        }
        Err(QueueError::Damaged(what)) => {
            shared.set_aside(work, &what);
            None
        }
        Err(QueueError::Disk(error)) if lacks_descriptors(&error) => {
            tracing::warn!(%work, %error, "a body cannot be opened now, and is tried again");
            let until = shared.clock.now() + EXHAUSTED_FOR;
            shared.ledger.put_off(work, given.epoch, until, Reason::Exhausted);
            None
        }
        Err(error) if given.info.expires <= shared.clock.now() => {
            shared.set_aside(work, &error.to_string());
            None
        }
        Err(error) => {
            let what = format!("work {work} cannot be read now, and is tried again: {error}");
            shared.report(Damage { segment: 0, offset: 0, what });
            shared.ledger.put_off(work, given.epoch, shared.clock.now() + UNREADABLE_FOR, Reason::Unreadable);
            None
        }
    }
}

/// Loads what another node holds still; what cannot be read stays its own, but what is damaged will not be read later either.
pub(super) fn load_resumed(shared: &Arc<Shared>, given: Given) -> Option<Loaded> {
    let work = given.info.work;
    match shared.load(work, &given.content) {
        Ok((words, body)) => {
            let given = Some((given.epoch, given.info, words, body));
            Some(Loaded { shared: shared.clone(), given })
        }
        Err(QueueError::Damaged(what)) if shared.ledger.is_held(work, given.epoch) => {
            shared.set_aside(work, &what);
            None
        }
        Err(error) => {
            tracing::warn!(%work, %error, "what another node has of it cannot be heard now");
            shared.ledger.unresume(work, given.epoch);
            None
        }
    }
}

/// What was read of a work, and where its body is.
struct Stored {
    words: Words,
    body: BodyRef,
    body_at: u64,
    segment: Arc<Segment>,
    pin: Pin,
}

fn in_memory(content: &RecentContent, work: WorkId) -> Result<(Words, BodySource), QueueError> {
    recent(content, work).ok_or_else(|| wordless(work))
}

fn wordless(work: WorkId) -> QueueError {
    QueueError::Damaged(format!("work {work} has no words"))
}

impl Shared {
    /// A work cannot go, because it is damaged: it waits, visibly, and is reported.
    pub(super) fn set_aside(&self, work: WorkId, what: &str) {
        self.report(Damage { segment: 0, offset: 0, what: format!("work {work} is set aside: {what}") });
        self.ledger.set_aside(work);
    }

    /// The words and the body of a work, from memory or from the disk.
    pub(super) fn load(&self, work: WorkId, content: &Content) -> Result<(Words, BodySource), QueueError> {
        self.where_it_is_now(work, content, |content| self.load_from(work, content))
    }

    /// The words of a work, from memory or from the disk.
    pub(super) fn words(&self, work: WorkId, content: &Content) -> Result<Words, QueueError> {
        self.where_it_is_now(work, content, |content| match content {
            Content::Recent(content) => in_memory(content, work).map(|(words, _)| words),
            Content::Stored { message, state } => {
                self.stored(work, *message, *state).map(|stored| stored.words)
            }
        })
    }

    /// Reads from `content`, or from where that is by now.
    fn where_it_is_now<T>(
        &self,
        work: WorkId,
        content: &Content,
        read: impl Fn(&Content) -> Result<T, QueueError>,
    ) -> Result<T, QueueError> {
        read(content).or_else(|error| match self.ledger.content(work) {
            // It was copied forward before it was leased, and its old place is in use again.
            Some(now) if now.place() != content.place() => read(&now),
            _ => Err(error),
        })
    }

    fn load_from(&self, work: WorkId, content: &Content) -> Result<(Words, BodySource), QueueError> {
        match content {
            Content::Recent(content) => in_memory(content, work),
            Content::Stored { message, state } => {
                let stored = self.stored(work, *message, *state)?;
                let body = self.body(work, stored.body, &stored.segment, stored.pin, stored.body_at)?;
                Ok((stored.words, body))
            }
        }
    }

    fn stored(&self, work: WorkId, message: Place, state: Option<Place>) -> Result<Stored, QueueError> {
        let (segment, pin) = self.segment(message.segment)?;
        let (publish, words, body_at) = reread(&segment, message, |op| match op {
            Op::Publish(publish) if publish.message == work.message => Some(publish.clone()),
            _ => None,
        })?;
        let mut words = publish.words(&words).of(work.index).ok_or_else(|| wordless(work))?;
        if let Some(place) = state {
            words.state = self.read_state(work, place)?;
        }
        Ok(Stored { words, body: publish.body, body_at, segment, pin })
    }

    fn body(
        &self,
        work: WorkId,
        body: BodyRef,
        segment: &Segment,
        pin: Pin,
        offset: u64,
    ) -> Result<BodySource, QueueError> {
        let stored = match body {
            BodyRef::Empty => return Ok(BodySource::Memory(Bytes::new())),
            BodyRef::Inline { len, crc } if len <= READ_AT_ONCE => {
                let bytes = segment.file.read_exact_at(len as usize, offset)?;
                if checksum(&bytes) != crc {
                    return Err(QueueError::Damaged("the body is not what was written".into()));
                }
                return Ok(BodySource::Memory(bytes.into()));
            }
            BodyRef::Inline { len, crc } => {
                StoredBody { file: segment.file.clone(), offset, size: len.into(), crc, _pin: Some(pin) }
            }
            BodyRef::File { salt, len, crc } => {
                let file = self.bodies.open_body(&BodyFolder::file_name(work.message, salt))?;
                if file.size()? != len {
                    return Err(QueueError::Damaged("the body file is not as long as it was".into()));
                }
                StoredBody { file, offset: 0, size: len, crc, _pin: None }
            }
        };
        Ok(BodySource::Stored(Arc::new(stored)))
    }

    /// A work's state from the record of it.
    pub(super) fn read_state(&self, work: WorkId, place: Place) -> Result<Bytes, QueueError> {
        let (segment, _pin) = self.segment(place.segment)?;
        let (len, words, _) = reread(&segment, place, |op| match op {
            Op::Conclude(conclude) if conclude.work == work => Some(conclude.state_len),
            Op::State(state) if state.work == work => Some(state.state_len),
            _ => None,
        })?;
        Ok(words.slice(..len as usize))
    }
}
