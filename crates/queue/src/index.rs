//! What waits, in memory: a pure state that operations are applied to, while running and when recovering alike.
//!
//! It also keeps count of what still needs each segment of the spool ([`Segments`]).

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasherDefault,
};

use base::{MessageId, Timestamp, WorkId};

use crate::{
    Kind, Reason, Recipients, Status,
    intern::{IdHasher, Interner},
    op::{After, BodyRef, Conclude, Op, Origin, Publish, PublishedWork, REMEMBERED_FOR, Standing, Untold},
    remembered::Remembered,
    usage::Segments,
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
    phase: Phase,
    pub(crate) segments: Segments,
    remembered: Remembered,
    works: usize,
    recipients: usize,
}

/// Whether operations tell of what happens, or of what happened before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// What is in memory is newer than what a copied message says of itself.
    #[default]
    Running,
    /// A copied message says where it stands: what was recorded before may be gone.
    Recovering,
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

/// What the caller has to do after an operation was applied.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Messages that have ended, with where their bodies were.
    pub(crate) ended: Vec<(MessageId, BodyRef)>,
    /// Works that have come to wait, by kind.
    pub(crate) arrived: bool,
}

/// What says that a work has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndedBy {
    /// The last record by itself.
    ThisRecord,
    /// It and those before it together: late words ended some recipients.
    AllRecords,
}

impl Message {
    /// The numbers of its works that have not ended.
    pub(crate) fn work_numbers(&self) -> Vec<u16> {
        self.works.iter().map(|work| work.index).collect()
    }
}

impl Index {
    /// An index that is to be recovered.
    pub(crate) fn recovering() -> Self {
        Self { phase: Phase::Recovering, ..Self::default() }
    }

    /// All that happened before was applied.
    pub(crate) fn recovered(&mut self) {
        self.phase = Phase::Running;
        for kind in 0..self.fresh.len() {
            let mut fresh = std::mem::take(&mut self.fresh[kind]);
            fresh.retain(|(id, ticket)| self.is_current(*id, *ticket));
            fresh.shrink_to_fit();
            self.fresh[kind] = fresh;
        }
    }

    /// Applies an operation that stands at `place`; `size` is how many bytes of the segment its message takes.
    pub(crate) fn apply(&mut self, op: &Op, place: Place, size: u32, effects: &mut Effects) {
        match op {
            Op::Publish(publish) => self.publish(publish, place, size, effects),
            Op::Conclude(conclude) => self.conclude(conclude, place, effects),
            Op::State(state) => self.stands(state.work, state.standing, place, effects),
            Op::Cancel(cancel) => {
                for (work, _) in &cancel.works {
                    self.end(*work, cancel.at, place.segment, EndedBy::ThisRecord, effects);
                }
            }
            Op::Commit { work, .. } => {
                if let Some(work) = self.work_mut(*work) {
                    work.standing.reason = Reason::PossiblyDone;
                }
            }
            Op::Remember(ids) => {
                for (message, until) in ids {
                    self.remembered.add(*message, *until);
                }
            }
            Op::Untold(untold) => {
                self.segments.carry(place.segment, untold.iter().map(Untold::size).sum());
            }
            Op::Grant { .. } | Op::Gone { .. } => {}
        }
    }

    fn publish(&mut self, publish: &Publish, place: Place, size: u32, effects: &mut Effects) {
        if self.messages.contains_key(&publish.message) {
            if publish.origin == Origin::CopiedForward {
                self.move_forward(publish, place, size, effects);
            }
            return;
        }
        let works = publish.works.iter().map(|work| self.new_work(work)).collect::<Vec<_>>();
        self.works += works.len();
        self.recipients += works.iter().map(|w| w.standing.remaining.count() as usize).sum::<usize>();
        let message = Message {
            kind: publish.kind,
            repeat: publish.repeat,
            since: publish.at,
            place,
            body: publish.body,
            size,
            works,
        };
        self.messages.insert(publish.message, message);
        self.segments.hold(place.segment, size);
        for work in &publish.works {
            self.arrive(WorkId { message: publish.message, index: work.index }, effects);
        }
    }

    /// A message was copied: nothing moves but its place.
    fn move_forward(&mut self, publish: &Publish, place: Place, size: u32, effects: &mut Effects) {
        if self.phase == Phase::Recovering {
            self.stands_as_copied(publish, effects);
        }
        let Some(message) = self.messages.get_mut(&publish.message) else { return };
        let old = std::mem::replace(&mut message.place, place);
        let old_size = std::mem::replace(&mut message.size, size);
        for work in &mut message.works {
            work.state_at = None;
            for segment in work.pinned.drain(..) {
                self.segments.unpin(segment);
            }
        }
        self.segments.leave(old.segment, old_size);
        self.segments.hold(place.segment, size);
        self.segments.supersede(old.segment, place.segment);
    }

    /// Takes over where a message stood when it was copied.
    fn stands_as_copied(&mut self, publish: &Publish, effects: &mut Effects) {
        for copied in &publish.works {
            let id = WorkId { message: publish.message, index: copied.index };
            let Some(work) = self.work_mut(id) else { continue };
            let before = std::mem::replace(&mut work.standing, copied.standing).remaining.count() as usize;
            self.recipients = self.recipients + copied.standing.remaining.count() as usize - before;
            self.arrive(id, effects);
        }
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
        self.recipients -= gone;
        match conclude.after {
            After::Stands(standing) if !left.is_empty() => self.stands(id, standing, place, effects),
            After::Unchanged if !left.is_empty() => {
                let work = self.work_mut(id).expect("it was just found");
                work.pinned.push(place.segment);
                self.segments.pin(place.segment);
            }
            After::Ended => self.end(id, conclude.at, place.segment, EndedBy::ThisRecord, effects),
            _ => self.end(id, conclude.at, place.segment, EndedBy::AllRecords, effects),
        }
    }

    /// A record at `place` says all there is to know of a work's state; but a late word may have ended more recipients
    /// meanwhile, and then the record of that stays as well.
    fn stands(&mut self, id: WorkId, standing: Standing, place: Place, effects: &mut Effects) {
        let Some(work) = self.work_mut(id) else { return };
        let before = work.standing.remaining;
        let remaining = standing.remaining.among(before);
        if remaining.is_empty() {
            let at = self.messages[&id.message].since;
            return self.end(id, at, place.segment, EndedBy::AllRecords, effects);
        }
        work.standing = Standing { remaining, ..standing };
        work.state_at = Some(place);
        let says_all = remaining == standing.remaining;
        let old = if says_all { std::mem::take(&mut work.pinned) } else { Vec::new() };
        work.pinned.push(place.segment);
        self.recipients -= before.without(remaining).count() as usize;
        self.segments.pin(place.segment);
        for segment in old {
            self.segments.unpin(segment);
        }
        self.arrive(id, effects);
    }

    /// A record in `segment` ends the work.
    fn end(&mut self, id: WorkId, at: Timestamp, segment: u32, by: EndedBy, effects: &mut Effects) {
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
            self.segments.unpin(pinned);
            if by == EndedBy::AllRecords {
                self.segments.supersede(home, pinned);
            }
        }
        self.segments.supersede(home, segment);
        if last {
            let message = self.messages.remove(&id.message).expect("it was just found");
            self.segments.leave(home, message.size);
            effects.ended.push((id.message, message.body));
            if message.repeat == Repeat::Possible {
                self.remembered.add(id.message, at + REMEMBERED_FOR);
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
        let enough = into.len() + max;
        while into.len() < enough {
            let Some((id, ticket)) = self.fresh[kind as usize].pop_front() else { break };
            // It has ended or arrived anew since.
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
        self.messages.contains_key(&id) || self.remembered.knows(id)
    }

    /// The ids that are to be remembered beyond `now`, oldest first.
    pub(crate) fn remembered(&mut self, now: Timestamp) -> Vec<(MessageId, Timestamp)> {
        self.remembered.beyond(now)
    }

    /// The messages that keep a segment from being free, found by looking at all; but none that is damaged, because
    /// it cannot be moved.
    pub(crate) fn movable(&self, segment: u32) -> Vec<MessageId> {
        let whole = |message: &Message| message.works.iter().all(|w| w.standing.reason != Reason::Damaged);
        let inside = |message: &Message| {
            message.place.segment == segment || message.works.iter().any(|w| w.pinned.contains(&segment))
        };
        let movable = self.messages.iter().filter(|(_, message)| inside(message) && whole(message));
        movable.map(|(id, _)| *id).collect()
    }

    /// Works and recipients that have not ended.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.works, self.recipients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{End, Epoch, op::State};

    fn place(segment: u32) -> Place {
        Place { segment, offset: 0, len: 0 }
    }

    fn standing(remaining: Recipients) -> Standing {
        Standing {
            remaining,
            attempts: 0,
            not_before: Timestamp::default(),
            priority: 0,
            status: Status::Waiting,
            reason: Reason::New,
        }
    }

    fn published(id: MessageId) -> Op {
        let work = PublishedWork {
            index: 0,
            lane: "lane".into(),
            account: "account".into(),
            needs: Vec::new(),
            expires: Timestamp::default(),
            recipients: 2,
            standing: standing(Recipients::first(2)),
            detail_len: 0,
            state_len: 0,
        };
        Op::Publish(Publish {
            message: id,
            kind: Kind::Mail,
            at: Timestamp::default(),
            repeat: Repeat::Never,
            origin: Origin::New,
            header_len: 0,
            body: BodyRef::Empty,
            works: vec![work],
        })
    }

    fn concluded(work: WorkId, ended: Recipients, after: After) -> Op {
        Op::Conclude(Conclude {
            work,
            epoch: Epoch::default(),
            at: Timestamp::default(),
            ends: vec![(End::Done, ended)],
            after,
            state_len: 0,
            record_len: 0,
        })
    }

    #[test]
    fn a_late_word_stays_as_long_as_only_it_says_that_somebody_was_delivered_to() {
        let mut index = Index::default();
        let mut effects = Effects::default();
        let work = WorkId { message: MessageId::generate(Timestamp::default()), index: 0 };
        let (first, second) = (Recipients::only(0), Recipients::only(1));
        index.apply(&published(work.message), place(1), 0, &mut effects);
        index.apply(&concluded(work, first, After::Unchanged), place(2), 0, &mut effects);
        // It was written by somebody who had not heard the late word.
        let rest = After::Stands(standing(first));
        index.apply(&concluded(work, second, rest), place(3), 0, &mut effects);
        assert_eq!(index.counts(), (0, 0));
        assert!(index.segments.is_free(1) && !index.segments.is_free(2) && !index.segments.is_free(3));
        index.segments.retire(1);
        assert!(index.segments.is_free(2) && index.segments.is_free(3));
    }

    #[test]
    fn a_state_that_says_all_lets_go_of_those_before_it() {
        let mut index = Index::default();
        let mut effects = Effects::default();
        let work = WorkId { message: MessageId::generate(Timestamp::default()), index: 0 };
        let (first, second) = (Recipients::only(0), Recipients::only(1));
        index.apply(&published(work.message), place(1), 0, &mut effects);
        index.apply(&concluded(work, first, After::Unchanged), place(2), 0, &mut effects);
        let change = |remaining| Op::State(State { work, standing: standing(remaining), state_len: 0 });
        index.apply(&change(Recipients::first(2)), place(3), 0, &mut effects);
        assert_eq!(index.work(work).map(|work| work.standing.remaining), Some(second));
        assert!(!index.segments.is_free(2), "only the late word knows of the first recipient");
        index.apply(&change(second), place(4), 0, &mut effects);
        assert!(index.segments.is_free(2) && index.segments.is_free(3) && !index.segments.is_free(4));
        assert_eq!(index.counts(), (1, 1));
    }
}
