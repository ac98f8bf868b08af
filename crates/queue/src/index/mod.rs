//! What waits, in memory: a pure state that operations are applied to, while running and when recovering alike.
//!
//! It also keeps count of what still needs each segment of the spool ([`Segments`]). `works` holds it all, `look` is how
//! others see it.

mod look;
mod works;

use std::collections::VecDeque;

use base::{MessageId, Timestamp, WorkId};

pub(crate) use self::look::{More, PAGE};
use self::works::{Removed, Told, Works};
use crate::{
    Reason, Recipients, Status,
    op::{After, BodyRef, Conclude, Op, Origin, Publish, REMEMBERED_FOR, Standing, State, Untold},
    remembered::Remembered,
    usage::Segments,
    work::{Repeat, Ticket},
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
    works: Works,
    /// Arrivals that nobody was told yet, by kind.
    fresh: [VecDeque<Ticket>; 2],
    /// How far the works that were found at the start are told, by kind.
    found: [u32; 2],
    /// The place behind the last of those.
    found_end: u32,
    /// Counts arrivals.
    arrivals: u32,
    phase: Phase,
    pub(crate) segments: Segments,
    remembered: Remembered,
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

impl Index {
    /// An index that is to be recovered.
    pub(crate) fn recovering() -> Self {
        Self { phase: Phase::Recovering, ..Self::default() }
    }

    /// All that happened before was applied, and what was found waits.
    pub(crate) fn recovered(&mut self) {
        self.phase = Phase::Running;
        self.found_end = self.works.end();
    }

    /// Looks up what these operations are about, and does nothing: what they need is fetched from memory side by side, and not
    /// one after the other.
    pub(crate) fn warm_up<S>(&self, ops: &[Op<S>]) {
        let about = ops.iter().filter_map(|op| match op {
            Op::Publish(publish) => Some(publish.message),
            Op::Conclude(Conclude { work, .. }) | Op::State(State { work, .. }) | Op::Commit { work, .. } => {
                Some(work.message)
            }
            _ => None,
        });
        let found = about.filter_map(|message| self.works.of(self.works.find_message(message)?).next());
        std::hint::black_box(found.map(u64::from).sum::<u64>());
    }

    /// Applies an operation that stands at `place`; `size` is how many bytes of the segment its message takes.
    pub(crate) fn apply<S: AsRef<str>>(
        &mut self,
        op: &Op<S>,
        place: Place,
        size: u32,
        effects: &mut Effects,
    ) {
        match op {
            Op::Publish(publish) => self.publish(publish, place, size, effects),
            Op::Conclude(conclude) => self.conclude(conclude, place, effects),
            Op::State(state) => {
                if let Some(at) = self.works.find(state.work) {
                    self.stands(at, state.standing, place, effects);
                }
            }
            Op::Cancel(cancel) | Op::Withdraw(cancel) => {
                for (work, _) in &cancel.works {
                    if let Some(at) = self.works.find(*work) {
                        self.end(at, cancel.at, place.segment, EndedBy::ThisRecord, effects);
                    }
                }
            }
            Op::Commit { work, .. } => {
                if let Some(at) = self.works.find(*work) {
                    self.works.set_reason(at, Reason::PossiblyDone);
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

    fn publish<S: AsRef<str>>(
        &mut self,
        publish: &Publish<S>,
        place: Place,
        size: u32,
        effects: &mut Effects,
    ) {
        if let Some(message) = self.works.find_message(publish.message) {
            if publish.origin == Origin::CopiedForward {
                self.move_forward(message, publish, place, size, effects);
            }
            return;
        }
        let message = self.works.add(publish, place, size);
        self.segments.hold(place.segment, size);
        self.each_arrives(message, effects);
    }

    fn each_arrives(&mut self, message: u32, effects: &mut Effects) {
        let mut works = self.works.of(message).next();
        while let Some(at) = works {
            self.arrive_at(at, effects);
            works = self.works.next(at);
        }
    }

    /// A message was copied: nothing moves but its place.
    fn move_forward<S>(
        &mut self,
        message: u32,
        publish: &Publish<S>,
        place: Place,
        size: u32,
        effects: &mut Effects,
    ) {
        if self.phase == Phase::Recovering {
            self.stands_as_copied(publish, effects);
        }
        let mut works = self.works.of(message).next();
        while let Some(at) = works {
            for segment in self.works.take_pinned(at) {
                self.segments.unpin(segment);
            }
            works = self.works.next(at);
        }
        let (old, old_size) = self.works.move_message(message, place, size);
        self.segments.leave(old.segment, old_size);
        self.segments.hold(place.segment, size);
        self.segments.supersede(old.segment, place.segment);
    }

    /// Takes over where a message stood when it was copied.
    fn stands_as_copied<S>(&mut self, publish: &Publish<S>, effects: &mut Effects) {
        for copied in &publish.works {
            let id = WorkId { message: publish.message, index: copied.index };
            let Some(at) = self.works.find(id) else { continue };
            self.works.set_standing(at, copied.standing);
            self.arrive_at(at, effects);
        }
    }

    fn conclude(&mut self, conclude: &Conclude, place: Place, effects: &mut Effects) {
        let Some(at) = self.works.find(conclude.work) else { return };
        let ended = conclude.ends.iter().fold(Recipients::NONE, |all, (_, some)| all.with(*some));
        let left = self.works.remaining(at).without(ended);
        self.works.leave(at, left);
        match conclude.after {
            After::Stands(standing) if !left.is_empty() => self.stands(at, standing, place, effects),
            After::Unchanged if !left.is_empty() => {
                self.works.pin(at, place.segment);
                self.segments.pin(place.segment);
            }
            After::Ended => self.end(at, conclude.at, place.segment, EndedBy::ThisRecord, effects),
            _ => self.end(at, conclude.at, place.segment, EndedBy::AllRecords, effects),
        }
    }

    /// A record at `place` says all there is to know of a work's state; but a late word may have ended more recipients
    /// meanwhile, and then the record of that stays as well.
    fn stands(&mut self, at: u32, standing: Standing, place: Place, effects: &mut Effects) {
        let remaining = standing.remaining.among(self.works.remaining(at));
        if remaining.is_empty() {
            let taken_in = self.works.message_of(&self.works[at]).id.time();
            return self.end(at, taken_in, place.segment, EndedBy::AllRecords, effects);
        }
        let says_all = remaining == standing.remaining;
        self.works.set_standing(at, Standing { remaining, ..standing });
        self.segments.pin(place.segment);
        for segment in self.works.take_pinned(at) {
            if says_all {
                self.segments.unpin(segment);
            } else {
                self.works.pin(at, segment);
            }
        }
        self.works[at].state = Some(place);
        self.arrive_at(at, effects);
    }

    /// A record in `segment` ends the work.
    fn end(&mut self, at: u32, when: Timestamp, segment: u32, by: EndedBy, effects: &mut Effects) {
        let Removed { home, pinned, last } = self.works.remove(at);
        for pinned in pinned {
            self.segments.unpin(pinned);
            if by == EndedBy::AllRecords {
                self.segments.supersede(home, pinned);
            }
        }
        self.segments.supersede(home, segment);
        if let Some((message, body)) = last {
            self.segments.leave(home, message.size);
            effects.ended.push((message.id, body));
            if message.repeat == Repeat::Possible {
                self.remembered.add(message.id, when + REMEMBERED_FOR);
            }
        }
    }

    /// A work needs a record in this segment until its state is told anew.
    pub(crate) fn need(&mut self, id: WorkId, segment: u32) {
        if let Some(at) = self.works.find(id)
            && !self.works.pins(at, segment)
        {
            self.works.pin(at, segment);
            self.segments.pin(segment);
        }
    }

    /// Says that a work waits now, if it may go.
    pub(crate) fn arrive(&mut self, id: WorkId, effects: &mut Effects) {
        if let Some(at) = self.works.find(id) {
            self.arrive_at(at, effects);
        }
    }

    fn arrive_at(&mut self, at: u32, effects: &mut Effects) {
        self.arrivals = self.arrivals.wrapping_add(1);
        let work = &mut self.works[at];
        work.arrival = self.arrivals;
        // What is found at the start is told from where it is.
        if self.phase == Phase::Recovering {
            return;
        }
        work.told = Told::Yes;
        if work.status == Status::Waiting {
            let kind = self.works.message_of(&self.works[at]).kind;
            self.fresh[kind as usize].push_back(self.works.ticket(at));
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
        let Some(at) = self.works.find(id) else { return };
        let standing = self.works.standing(at);
        let not_before = until.unwrap_or(standing.not_before);
        self.works.set_standing(at, Standing { reason, not_before, ..standing });
        self.arrive_at(at, effects);
    }

    /// The work's stored form is damaged.
    pub(crate) fn set_aside(&mut self, id: WorkId) {
        let Some(at) = self.works.find(id) else { return };
        self.arrivals = self.arrivals.wrapping_add(1);
        let work = &mut self.works[at];
        work.status = Status::SetAside;
        work.arrival = self.arrivals;
        self.works.set_reason(at, Reason::Damaged);
    }

    /// Whether this id is known: waiting, or ended and remembered.
    pub(crate) fn knows(&self, id: MessageId) -> bool {
        self.works.find_message(id).is_some() || self.remembered.knows(id)
    }

    /// The ids that are to be remembered beyond `now`, oldest first.
    pub(crate) fn remembered(&mut self, now: Timestamp) -> Vec<(MessageId, Timestamp)> {
        self.remembered.beyond(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{End, Epoch, Kind, op::PublishedWork};

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
    fn recipients_are_told_apart_however_many_there_are() {
        let mut index = Index::default();
        let mut effects = Effects::default();
        let work = WorkId { message: MessageId::generate(Timestamp::default()), index: 0 };
        let Op::Publish(mut publish) = published(work.message) else { panic!("it is a publication") };
        publish.works[0].recipients = 100;
        publish.works[0].standing.remaining = Recipients::first(100);
        index.apply(&Op::Publish(publish), place(1), 0, &mut effects);
        let mut left = Recipients::first(100);
        for number in (0..100).rev() {
            assert_eq!(index.standing(work).map(|standing| standing.remaining), Some(left));
            assert_eq!(index.counts(), (1, usize::from(number) + 1));
            left = left.without(Recipients::only(number));
            let word = concluded(work, Recipients::only(number), After::Unchanged);
            index.apply(&word, place(2), 0, &mut effects);
        }
        assert_eq!((index.counts(), effects.ended.len()), ((0, 0), 1));
    }

    #[test]
    fn a_state_that_says_all_lets_go_of_those_before_it() {
        let mut index = Index::default();
        let mut effects = Effects::default();
        let work = WorkId { message: MessageId::generate(Timestamp::default()), index: 0 };
        let (first, second) = (Recipients::only(0), Recipients::only(1));
        index.apply(&published(work.message), place(1), 0, &mut effects);
        index.apply(&concluded(work, first, After::Unchanged), place(2), 0, &mut effects);
        let change =
            |remaining| Op::<String>::State(State { work, standing: standing(remaining), state_len: 0 });
        index.apply(&change(Recipients::first(2)), place(3), 0, &mut effects);
        assert_eq!(index.standing(work).map(|standing| standing.remaining), Some(second));
        assert!(!index.segments.is_free(2), "only the late word knows of the first recipient");
        index.apply(&change(second), place(4), 0, &mut effects);
        assert!(index.segments.is_free(2) && index.segments.is_free(3) && !index.segments.is_free(4));
        assert_eq!(index.counts(), (1, 1));
    }
}
