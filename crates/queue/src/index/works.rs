//! The messages and works that wait, held tightly: entries of fixed size that link to each other, and what only few need in tables
//! beside them.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::Arc,
};

use base::{MessageId, Timestamp, WorkId};

use super::Place;
use crate::{
    Kind, Reason, Recipients, Status,
    intern::{IdHasher, Interner},
    op::{BodyRef, Publish, PublishedWork, Standing},
    slab::{NONE, Slab},
    table::Table,
    work::{Repeat, Ticket},
};

#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: MessageId,
    /// When its works were first to go.
    pub(super) first_due: Timestamp,
    pub(super) place: Place,
    /// Bytes in its segment.
    pub(super) size: u32,
    /// The first of its works.
    first: u32,
    pub(super) kind: Kind,
    pub(super) repeat: Repeat,
}

#[derive(Debug)]
pub(super) struct Work {
    pub(super) message: u32,
    /// The next work of its message.
    next: u32,
    /// Which arrival was its latest.
    pub(super) arrival: u32,
    lane: u32,
    account: u32,
    needs: u32,
    attempts: u32,
    /// The recipients that are left, if they fit; if this is none, they stand in [`Works::many`].
    few: u32,
    /// The record of its latest state, if that is not in the message's own. Its segment is pinned.
    pub(super) state: Option<Place>,
    pub(super) expires: Timestamp,
    not_before: Timestamp,
    pub(super) index: u16,
    recipients: u8,
    priority: u8,
    pub(super) status: Status,
    reason: Reason,
    pub(super) told: Told,
}

/// Whether a dispatcher was told of a work's latest arrival, or is about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Yes,
    /// It was found at the start.
    NotYet,
}

/// A table beside the entries, by their places.
type Beside<T> = HashMap<u32, T, BuildHasherDefault<IdHasher>>;

#[derive(Debug, Default)]
pub(super) struct Works {
    messages: Slab<Message>,
    works: Slab<Work>,
    ids: Table,
    lanes: Interner<str>,
    accounts: Interner<str>,
    needs: Interner<[String]>,
    /// Recipients that are left, where they do not fit into the entry.
    many: Beside<Recipients>,
    /// Segments with records that a work needs besides its message's own and that of its state.
    pinned: Beside<Vec<u32>>,
    /// The bodies of messages that have theirs in files.
    bodies: Beside<BodyRef>,
    recipients: usize,
}

/// A work that was taken out.
#[derive(Debug)]
pub(super) struct Removed {
    pub(super) home: u32,
    /// Segments with records that it needed.
    pub(super) pinned: Vec<u32>,
    /// Its message, if this was the last of its works, and that message's body if it is in a file.
    pub(super) last: Option<(Message, BodyRef)>,
}

impl Works {
    pub(super) fn len(&self) -> usize {
        self.works.len()
    }

    /// Recipients that have not ended.
    pub(super) fn recipients(&self) -> usize {
        self.recipients
    }

    /// The place behind the last work.
    pub(super) fn end(&self) -> u32 {
        self.works.end()
    }

    /// The place behind the last message.
    pub(super) fn end_of_messages(&self) -> u32 {
        self.messages.end()
    }

    pub(super) fn get(&self, at: u32) -> Option<&Work> {
        self.works.get(at)
    }

    pub(super) fn message(&self, at: u32) -> Option<&Message> {
        self.messages.get(at)
    }

    /// The message of a work.
    pub(super) fn message_of(&self, work: &Work) -> &Message {
        &self.messages[work.message]
    }

    /// Where a message is.
    pub(super) fn find_message(&self, id: MessageId) -> Option<u32> {
        self.ids.find(hash_of(id), |at| self.messages[at].id == id)
    }

    /// Where a work is.
    pub(super) fn find(&self, id: WorkId) -> Option<u32> {
        self.of(self.find_message(id.message)?).find(|at| self.works[*at].index == id.index)
    }

    /// The works of a message, by their numbers.
    pub(super) fn of(&self, message: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(some(self.messages[message].first), |at| self.next(*at))
    }

    /// The next work of the same message.
    pub(super) fn next(&self, at: u32) -> Option<u32> {
        some(self.works[at].next)
    }

    pub(super) fn id(&self, work: &Work) -> WorkId {
        WorkId { message: self.message_of(work).id, index: work.index }
    }

    pub(super) fn ticket(&self, at: u32) -> Ticket {
        Ticket::new(at, self.works[at].arrival)
    }

    pub(super) fn lane(&self, work: &Work) -> &Arc<str> {
        self.lanes.name(work.lane)
    }

    pub(super) fn account(&self, work: &Work) -> &Arc<str> {
        self.accounts.name(work.account)
    }

    /// Messages that have their bodies in files.
    pub(super) fn in_files(&self) -> impl Iterator<Item = (MessageId, BodyRef)> {
        self.bodies.iter().map(|(at, body)| (self.messages[*at].id, *body))
    }

    /// Bytes that a message takes in the spool.
    pub(super) fn size(&self, message: u32) -> u32 {
        let in_file = match self.bodies.get(&message) {
            Some(BodyRef::File { len, .. }) => u32::try_from(*len).unwrap_or(u32::MAX),
            _ => 0,
        };
        self.messages[message].size.saturating_add(in_file)
    }

    /// Adds a message with its works.
    pub(super) fn add<S: AsRef<str>>(&mut self, publish: &Publish<S>, place: Place, size: u32) -> u32 {
        let Publish { message: id, kind, repeat, .. } = *publish;
        let first_due = publish.first_due();
        let message = self.messages.insert(Message { id, first_due, place, size, first: NONE, kind, repeat });
        let messages = &self.messages;
        self.ids.insert(hash_of(id), message, |at| hash_of(messages[at].id));
        if let BodyRef::File { .. } = publish.body {
            self.bodies.insert(message, publish.body);
        }
        // From the last to the first, so that the links lead from the first to the last.
        for work in publish.works.iter().rev() {
            self.add_work(message, work);
        }
        message
    }

    fn add_work<S: AsRef<str>>(&mut self, message: u32, work: &PublishedWork<S>) {
        let needs: Vec<String> = work.needs.iter().map(|need| need.as_ref().to_owned()).collect();
        let Standing { remaining: _, attempts, not_before, priority, status, reason } = work.standing;
        let entry = Work {
            message,
            next: self.messages[message].first,
            arrival: 0,
            lane: self.lanes.intern(work.lane.as_ref()),
            account: self.accounts.intern(work.account.as_ref()),
            needs: self.needs.intern(&needs[..]),
            attempts,
            few: 0,
            state: None,
            expires: work.expires,
            not_before,
            index: work.index,
            recipients: work.recipients,
            priority,
            status,
            reason,
            told: Told::NotYet,
        };
        let at = self.works.insert(entry);
        self.messages[message].first = at;
        self.leave(at, work.standing.remaining);
    }

    /// Takes a work out, and its message with its last one.
    pub(super) fn remove(&mut self, at: u32) -> Removed {
        self.leave(at, Recipients::NONE);
        let pinned = self.take_pinned(at).collect();
        let before = self.of(self.works[at].message).find(|other| self.works[*other].next == at);
        let work = self.works.remove(at).expect("it is there");
        match before {
            Some(before) => self.works[before].next = work.next,
            None => self.messages[work.message].first = work.next,
        }
        self.lanes.release(work.lane);
        self.accounts.release(work.account);
        self.needs.release(work.needs);
        let Message { place, first, .. } = self.messages[work.message];
        let last = (first == NONE).then(|| self.remove_message(work.message));
        Removed { home: place.segment, pinned, last }
    }

    fn remove_message(&mut self, at: u32) -> (Message, BodyRef) {
        let messages = &self.messages;
        self.ids.remove(hash_of(messages[at].id), at, |at| hash_of(messages[at].id));
        let body = self.bodies.remove(&at).unwrap_or(BodyRef::Empty);
        (self.messages.remove(at).expect("it is there"), body)
    }

    /// A message stands elsewhere from now on; returns where it stood.
    pub(super) fn move_message(&mut self, at: u32, place: Place, size: u32) -> (Place, u32) {
        let message = &mut self.messages[at];
        (std::mem::replace(&mut message.place, place), std::mem::replace(&mut message.size, size))
    }

    /// The recipients of a work that have not ended.
    pub(super) fn remaining(&self, at: u32) -> Recipients {
        match self.works[at].few {
            0 => self.many.get(&at).copied().unwrap_or_default(),
            few => Recipients::from(few),
        }
    }

    /// From now on these are left.
    pub(super) fn leave(&mut self, at: u32, remaining: Recipients) {
        let before = self.remaining(at);
        self.recipients += remaining.count() as usize;
        self.recipients -= before.count() as usize;
        let few = remaining.few();
        self.works[at].few = few.unwrap_or(0);
        match few {
            Some(_) => self.many.remove(&at),
            None => self.many.insert(at, remaining),
        };
    }

    pub(super) fn standing(&self, at: u32) -> Standing {
        let Work { attempts, not_before, priority, status, reason, .. } = self.works[at];
        Standing { remaining: self.remaining(at), attempts, not_before, priority, status, reason }
    }

    pub(super) fn set_standing(&mut self, at: u32, standing: Standing) {
        let Standing { remaining, attempts, not_before, priority, status, reason } = standing;
        self.leave(at, remaining);
        let work = &mut self.works[at];
        *work = Work { attempts, not_before, priority, status, reason, ..*work };
    }

    pub(super) fn set_reason(&mut self, at: u32, reason: Reason) {
        self.works[at].reason = reason;
    }

    /// A record that a work needs.
    pub(super) fn pin(&mut self, at: u32, segment: u32) {
        self.pinned.entry(at).or_default().push(segment);
    }

    /// Whether a work needs a record in this segment.
    pub(super) fn pins(&self, at: u32, segment: u32) -> bool {
        self.works[at].state.is_some_and(|state| state.segment == segment)
            || self.pinned.get(&at).is_some_and(|pinned| pinned.contains(&segment))
    }

    /// A work needs none of its records any more.
    pub(super) fn take_pinned(&mut self, at: u32) -> impl Iterator<Item = u32> + use<> {
        let state = self.works[at].state.take().map(|state| state.segment);
        state.into_iter().chain(self.pinned.remove(&at).unwrap_or_default())
    }

    /// A work as it would be published now, but for the lengths of its words.
    pub(super) fn as_published(&self, at: u32) -> PublishedWork {
        let work = &self.works[at];
        PublishedWork {
            index: work.index,
            lane: self.lane(work).to_string(),
            account: self.account(work).to_string(),
            needs: self.needs.name(work.needs).to_vec(),
            expires: work.expires,
            recipients: work.recipients,
            standing: self.standing(at),
            detail_len: 0,
            state_len: 0,
        }
    }

    /// The body of a message, if it is in a file.
    pub(super) fn body_file(&self, message: u32) -> BodyRef {
        self.bodies.get(&message).copied().unwrap_or(BodyRef::Empty)
    }
}

impl std::ops::Index<u32> for Works {
    type Output = Work;

    fn index(&self, at: u32) -> &Work {
        &self.works[at]
    }
}

impl std::ops::IndexMut<u32> for Works {
    fn index_mut(&mut self, at: u32) -> &mut Work {
        &mut self.works[at]
    }
}

fn some(at: u32) -> Option<u32> {
    (at != NONE).then_some(at)
}

fn hash_of(id: MessageId) -> u64 {
    let mut hasher = IdHasher::default();
    id.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Slab<Message>>() > 0 && size_of::<Option<Message>>() <= 48);
        assert!(size_of::<Option<Work>>() <= 72);
    }
}
