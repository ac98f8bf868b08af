//! What waits, in memory: a pure state that operations are applied to, while running and when recovering alike.
//!
//! It also counts, per segment of the spool, what still needs that segment. A message needs the segment that holds
//! it. A record of a work's state needs to stay until a newer one is there; the record of a work's end, until the
//! segment that holds the message is gone, or the work would come back to life at the next start.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use base::{MessageId, Timestamp, WorkId};

use crate::{
    Kind, Reason, Recipients, Status,
    op::{
        After, BodyRef, Conclude, MAX_REMEMBERED, Op, Origin, Publish, PublishedWork, REMEMBERED_FOR,
        Standing,
    },
    work::{Arrival, Repeat, Scope, WorkInfo},
};

/// A frame of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// The segment's number.
    pub(crate) segment: u32,
    /// Where in it the frame starts.
    pub(crate) offset: u32,
    /// How long its header, operations and words are together; its bodies follow.
    pub(crate) len: u32,
}

/// All works, and who needs which segment.
#[derive(Debug, Default)]
pub(crate) struct Index {
    messages: HashMap<MessageId, Message, BuildHasherDefault<IdHasher>>,
    lanes: Interner,
    accounts: Interner,
    fresh: [VecDeque<(WorkId, u32)>; 2],
    segments: BTreeMap<u32, Usage>,
    remembered: HashMap<MessageId, Timestamp, BuildHasherDefault<IdHasher>>,
    remembered_order: VecDeque<(MessageId, Timestamp)>,
    works: usize,
    recipients: usize,
}

#[derive(Debug)]
pub(crate) struct Message {
    kind: Kind,
    repeat: Repeat,
    since: Timestamp,
    pub(crate) place: Place,
    pub(crate) body: BodyRef,
    /// Bytes in its segment.
    size: u32,
    works: Vec<Work>,
}

#[derive(Debug)]
pub(crate) struct Work {
    index: u16,
    lane: u32,
    account: u32,
    ticket: u32,
    recipients: u8,
    expires: Timestamp,
    pub(crate) standing: Standing,
    /// The record of its latest state, if that is not in the message's own.
    pub(crate) state_at: Option<Place>,
    /// Segments with records that this work needs besides the message's own.
    pinned: Vec<u32>,
    needs: Vec<String>,
}

/// What still needs a segment.
#[derive(Debug, Default)]
struct Usage {
    messages: u32,
    bytes: u64,
    /// Records of states and ends in it that must stay.
    pins: u32,
    /// Ends of this segment's messages: in which segment, and how many.
    ends: BTreeMap<u32, u32>,
}

/// What the caller has to do after an operation was applied.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Messages that have ended, with where their bodies were.
    pub(crate) ended: Vec<(MessageId, BodyRef)>,
    /// Works that have come to wait, by kind.
    pub(crate) arrived: bool,
}

impl Message {
    /// The numbers of its works that have not ended.
    pub(crate) fn work_numbers(&self) -> Vec<u16> {
        self.works.iter().map(|work| work.index).collect()
    }
}

impl Index {
    /// Applies an operation that stands at `place`; `size` is how many bytes of the segment its message takes.
    pub(crate) fn apply(&mut self, op: &Op, place: Place, size: u32, effects: &mut Effects) {
        match op {
            Op::Publish(publish) => self.publish(publish, place, size, effects),
            Op::Conclude(conclude) => self.conclude(conclude, place, effects),
            Op::State(state) => {
                if let Some(work) = self.work_mut(state.work) {
                    work.standing = state.standing;
                    self.stands(state.work, place, effects);
                }
            }
            Op::Cancel(cancel) => {
                for (work, _) in &cancel.works {
                    self.end(*work, cancel.at, place.segment, effects);
                }
            }
            Op::Commit { work, .. } => {
                if let Some(work) = self.work_mut(*work) {
                    work.standing.reason = Reason::PossiblyDone;
                }
            }
            Op::Remember(ids) => {
                for (message, until) in ids {
                    self.remember(*message, *until);
                }
            }
            Op::Grant { .. } | Op::Gone { .. } | Op::Untold(_) => {}
        }
    }

    fn publish(&mut self, publish: &Publish, place: Place, size: u32, effects: &mut Effects) {
        let id = publish.message;
        if let Some(message) = self.messages.get_mut(&id) {
            if publish.origin == Origin::New {
                return;
            }
            // Copied forward: nothing moves but the place.
            let old = std::mem::replace(&mut message.place, place);
            let old_size = std::mem::replace(&mut message.size, size);
            message.body = publish.body;
            let unpinned: Vec<u32> = message
                .works
                .iter_mut()
                .flat_map(|work| {
                    work.state_at = None;
                    std::mem::take(&mut work.pinned)
                })
                .collect();
            for segment in unpinned {
                self.unpin(segment, 1);
            }
            self.leave(old.segment, old_size);
        } else {
            let works = publish.works.iter().map(|work| self.new_work(work)).collect::<Vec<_>>();
            self.works += works.len();
            self.recipients += works.iter().map(|w| w.standing.remaining.count() as usize).sum::<usize>();
            self.messages.insert(
                id,
                Message {
                    kind: publish.kind,
                    repeat: publish.repeat,
                    since: publish.at,
                    place,
                    body: publish.body,
                    size,
                    works,
                },
            );
            for work in &publish.works {
                self.arrive(WorkId { message: id, index: work.index }, effects);
            }
        }
        let usage = self.segments.entry(place.segment).or_default();
        usage.messages += 1;
        usage.bytes += u64::from(size);
    }

    fn new_work(&mut self, work: &PublishedWork) -> Work {
        Work {
            index: work.index,
            lane: self.lanes.intern(&work.lane),
            account: self.accounts.intern(&work.account),
            ticket: 0,
            recipients: work.recipients,
            expires: work.expires,
            standing: work.standing,
            state_at: None,
            pinned: Vec::new(),
            needs: work.needs.clone(),
        }
    }

    fn conclude(&mut self, conclude: &Conclude, place: Place, effects: &mut Effects) {
        let id = conclude.work;
        let Some(work) = self.work_mut(id) else { return };
        let ended = conclude.ends.iter().fold(Recipients::NONE, |all, (_, some)| all.with(*some));
        let gone = work.standing.remaining.among(ended).count() as usize;
        work.standing.remaining = work.standing.remaining.without(ended);
        let left = work.standing.remaining;
        match conclude.after {
            After::Stands(standing) if !left.is_empty() => {
                work.standing = Standing { remaining: left, ..standing };
                self.recipients -= gone;
                self.stands(id, place, effects);
            }
            After::Unchanged if !left.is_empty() => {
                work.pinned.push(place.segment);
                self.recipients -= gone;
                self.pin(place.segment);
            }
            _ => {
                self.recipients -= gone;
                self.end(id, conclude.at, place.segment, effects);
            }
        }
    }

    /// A record at `place` says all there is to know of a work's state.
    fn stands(&mut self, id: WorkId, place: Place, effects: &mut Effects) {
        let Some(work) = self.work_mut(id) else { return };
        work.state_at = Some(place);
        let old = std::mem::replace(&mut work.pinned, vec![place.segment]);
        self.pin(place.segment);
        for segment in old {
            self.unpin(segment, 1);
        }
        self.arrive(id, effects);
    }

    /// A record in `segment` ends the work.
    fn end(&mut self, id: WorkId, at: Timestamp, segment: u32, effects: &mut Effects) {
        let Some(message) = self.messages.get_mut(&id.message) else { return };
        let Some(at_index) = message.works.iter().position(|work| work.index == id.index) else { return };
        let work = message.works.swap_remove(at_index);
        let home = message.place.segment;
        let last = message.works.is_empty();
        self.works -= 1;
        self.recipients -= work.standing.remaining.count() as usize;
        self.lanes.release(work.lane);
        self.accounts.release(work.account);
        for pinned in work.pinned {
            self.unpin(pinned, 1);
        }
        if home != segment {
            self.pin(segment);
            *self.segments.entry(home).or_default().ends.entry(segment).or_default() += 1;
        }
        if last {
            let message = self.messages.remove(&id.message).expect("it was just found");
            self.leave(home, message.size);
            effects.ended.push((id.message, message.body));
            if message.repeat == Repeat::Possible {
                self.remember(id.message, at + REMEMBERED_FOR);
            }
        }
    }

    /// Says that a work waits now, if it may go.
    pub(crate) fn arrive(&mut self, id: WorkId, effects: &mut Effects) {
        let Some(message) = self.messages.get_mut(&id.message) else { return };
        let kind = message.kind;
        let Some(work) = message.works.iter_mut().find(|work| work.index == id.index) else { return };
        work.ticket = work.ticket.wrapping_add(1);
        if work.standing.status == Status::Waiting {
            self.fresh[kind as usize].push_back((id, work.ticket));
            effects.arrived = true;
        }
    }

    /// Nobody holds the work any more, and nothing was written about it.
    pub(crate) fn wait_again(
        &mut self,
        id: WorkId,
        until: Option<Timestamp>,
        reason: Reason,
        effects: &mut Effects,
    ) {
        let Some(work) = self.work_mut(id) else { return };
        work.standing.reason = reason;
        work.standing.not_before = until.unwrap_or(work.standing.not_before);
        self.arrive(id, effects);
    }

    /// The work's stored form is damaged.
    pub(crate) fn set_aside(&mut self, id: WorkId) {
        if let Some(work) = self.work_mut(id) {
            work.standing.status = Status::SetAside;
            work.standing.reason = Reason::Damaged;
            work.ticket = work.ticket.wrapping_add(1);
        }
    }

    /// The next arrivals of a kind, at most `max`.
    pub(crate) fn take_arrivals(&mut self, kind: Kind, max: usize, into: &mut Vec<Arrival>) {
        for _ in 0..max {
            let Some((id, ticket)) = self.fresh[kind as usize].pop_front() else { break };
            let Some(work) = self.work(id).filter(|work| work.ticket == ticket) else { continue };
            into.push(Arrival {
                work: id,
                ticket,
                lane: self.lanes.name(work.lane),
                account: self.accounts.name(work.account),
                priority: work.standing.priority,
                not_before: work.standing.not_before,
                expires: work.expires,
                attempts: work.standing.attempts,
                reason: work.standing.reason,
            });
        }
        if self.fresh[kind as usize].is_empty() {
            self.fresh[kind as usize].shrink_to(1024);
        }
    }

    /// Whether an arrival is still the latest of a work that may go.
    pub(crate) fn is_current(&self, id: WorkId, ticket: u32) -> bool {
        self.work(id).is_some_and(|work| work.ticket == ticket && work.standing.status == Status::Waiting)
    }

    pub(crate) fn message(&self, id: MessageId) -> Option<&Message> {
        self.messages.get(&id)
    }

    pub(crate) fn message_ids(&self) -> impl Iterator<Item = MessageId> {
        self.messages.keys().copied()
    }

    pub(crate) fn work(&self, id: WorkId) -> Option<&Work> {
        self.messages.get(&id.message)?.works.iter().find(|work| work.index == id.index)
    }

    fn work_mut(&mut self, id: WorkId) -> Option<&mut Work> {
        self.messages.get_mut(&id.message)?.works.iter_mut().find(|work| work.index == id.index)
    }

    pub(crate) fn info(&self, id: WorkId) -> Option<WorkInfo> {
        let message = self.messages.get(&id.message)?;
        let work = message.works.iter().find(|work| work.index == id.index)?;
        Some(WorkInfo {
            work: id,
            kind: message.kind,
            since: message.since,
            lane: self.lanes.name(work.lane),
            account: self.accounts.name(work.account),
            priority: work.standing.priority,
            not_before: work.standing.not_before,
            expires: work.expires,
            attempts: work.standing.attempts,
            remaining: work.standing.remaining,
            status: work.standing.status,
            reason: work.standing.reason,
            lease: None,
        })
    }

    /// The works in a scope, in no order.
    pub(crate) fn in_scope(&self, scope: &Scope) -> Vec<WorkId> {
        let of = |id: MessageId, message: &Message| {
            message
                .works
                .iter()
                .map(move |work| WorkId { message: id, index: work.index })
                .collect::<Vec<_>>()
        };
        match scope {
            Scope::Work(work) => self.work(*work).map(|_| *work).into_iter().collect(),
            Scope::Message(id) => self.messages.get(id).map(|message| of(*id, message)).unwrap_or_default(),
            Scope::All(kind) => {
                self.messages.iter().filter(|(_, m)| m.kind == *kind).flat_map(|(id, m)| of(*id, m)).collect()
            }
            Scope::Lane(lane) => self.with_name(self.lanes.find(lane), |work| work.lane),
            Scope::Account(account) => self.with_name(self.accounts.find(account), |work| work.account),
        }
    }

    fn with_name(&self, name: Option<u32>, of: impl Fn(&Work) -> u32) -> Vec<WorkId> {
        let Some(name) = name else { return Vec::new() };
        let mut found = Vec::new();
        for (id, message) in &self.messages {
            let works = message.works.iter().filter(|work| of(work) == name);
            found.extend(works.map(|work| WorkId { message: *id, index: work.index }));
        }
        found
    }

    /// A message as it would be published again now, in full but for the lengths of its words.
    pub(crate) fn as_published(&self, id: MessageId) -> Option<Publish> {
        let message = self.messages.get(&id)?;
        let works = message.works.iter().map(|work| PublishedWork {
            index: work.index,
            lane: self.lanes.name(work.lane).to_string(),
            account: self.accounts.name(work.account).to_string(),
            needs: work.needs.clone(),
            expires: work.expires,
            recipients: work.recipients,
            standing: work.standing,
            detail_len: 0,
            state_len: 0,
        });
        Some(Publish {
            message: id,
            kind: message.kind,
            at: message.since,
            repeat: message.repeat,
            origin: Origin::CopiedForward,
            header_len: 0,
            body: message.body,
            works: works.collect(),
        })
    }

    /// Whether this id is known: waiting, or ended and remembered.
    pub(crate) fn knows(&self, id: MessageId) -> bool {
        self.messages.contains_key(&id) || self.remembered.contains_key(&id)
    }

    fn remember(&mut self, id: MessageId, until: Timestamp) {
        self.remembered.insert(id, until);
        self.remembered_order.push_back((id, until));
        while self.remembered_order.len() > MAX_REMEMBERED {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((id, until)) = self.remembered_order.pop_front()
            && self.remembered.get(&id) == Some(&until)
        {
            self.remembered.remove(&id);
        }
    }

    /// The ids that are to be remembered beyond `now`.
    pub(crate) fn remembered(&mut self, now: Timestamp) -> Vec<(MessageId, Timestamp)> {
        while self.remembered_order.front().is_some_and(|(_, until)| *until <= now) {
            self.forget_oldest();
        }
        self.remembered.iter().map(|(id, until)| (*id, *until)).collect()
    }

    fn pin(&mut self, segment: u32) {
        self.segments.entry(segment).or_default().pins += 1;
    }

    fn unpin(&mut self, segment: u32, count: u32) {
        if let Some(usage) = self.segments.get_mut(&segment) {
            usage.pins -= count;
        }
    }

    fn leave(&mut self, segment: u32, size: u32) {
        if let Some(usage) = self.segments.get_mut(&segment) {
            usage.messages -= 1;
            usage.bytes -= u64::from(size);
        }
    }

    /// Whether nothing needs this segment any more.
    pub(crate) fn is_free(&self, segment: u32) -> bool {
        self.segments.get(&segment).is_none_or(|usage| usage.messages == 0 && usage.pins == 0)
    }

    /// How many bytes of messages a segment still holds.
    pub(crate) fn live_bytes(&self, segment: u32) -> u64 {
        self.segments.get(&segment).map_or(0, |usage| usage.bytes)
    }

    /// The messages that a segment holds, found by looking at all.
    pub(crate) fn messages_in(&self, segment: u32) -> Vec<MessageId> {
        let inside = self.messages.iter().filter(|(_, message)| message.place.segment == segment);
        inside.map(|(id, _)| *id).collect()
    }

    /// The works whose state is recorded in a segment that does not hold their message.
    pub(crate) fn states_in(&self, segment: u32) -> Vec<MessageId> {
        let pins = |message: &&Message| message.works.iter().any(|work| work.pinned.contains(&segment));
        self.messages.iter().filter(|(_, message)| pins(message)).map(|(id, _)| *id).collect()
    }

    /// A segment is used no more: the ends of its messages need not be kept for it.
    pub(crate) fn retire(&mut self, segment: u32) {
        let Some(usage) = self.segments.remove(&segment) else { return };
        for (other, count) in usage.ends {
            self.unpin(other, count);
        }
    }

    /// Works and recipients that have not ended.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.works, self.recipients)
    }
}

/// Names that many works share, each held once.
#[derive(Debug, Default)]
struct Interner {
    names: Vec<Option<(Arc<str>, usize)>>,
    numbers: HashMap<Arc<str>, u32>,
    free: Vec<u32>,
}

impl Interner {
    fn intern(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            if let Some((_, uses)) = &mut self.names[*number as usize] {
                *uses += 1;
            }
            return *number;
        }
        let name: Arc<str> = name.into();
        let number = self.free.pop().unwrap_or_else(|| {
            self.names.push(None);
            u32::try_from(self.names.len() - 1).expect("fewer names than works, and those fit")
        });
        self.names[number as usize] = Some((name.clone(), 1));
        self.numbers.insert(name, number);
        number
    }

    fn release(&mut self, number: u32) {
        let slot = &mut self.names[number as usize];
        if let Some((_, uses)) = slot {
            *uses -= 1;
            if *uses == 0 {
                let (name, _) = slot.take().expect("it is in use");
                self.numbers.remove(&name);
                self.free.push(number);
            }
        }
    }

    fn name(&self, number: u32) -> Arc<str> {
        self.names[number as usize].as_ref().map(|(name, _)| name.clone()).expect("a work holds it")
    }

    fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }
}

/// Ids are random in their low half already.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(29) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn write_u128(&mut self, id: u128) {
        let bytes = id.to_le_bytes();
        self.write(&bytes);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
