//! The simple model: what a queue should hold, and what it should have told, after a row of steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use base::{MessageId, Timestamp, WorkId};
use bytes::Bytes;
use queue::{Change, REMEMBERED_FOR, Recipients, Status};

/// What a work should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Work {
    pub(crate) first_due: Timestamp,
    pub(crate) remaining: Recipients,
    pub(crate) attempts: u32,
    pub(crate) status: Status,
    pub(crate) not_before: Timestamp,
    pub(crate) state: Bytes,
}

/// What a message should be.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) header: Bytes,
    pub(crate) body: Vec<u8>,
    pub(crate) repeatable: bool,
    pub(crate) works: BTreeMap<u16, Work>,
}

/// One thing that happened, as the feed should tell it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Published(MessageId),
    Concluded(WorkId, Bytes),
    Cancelled(WorkId, Recipients),
}

/// What somebody did.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Publish(Vec<(MessageId, Message)>),
    Conclude(Conclude),
    Cancel(WorkId, Timestamp),
    Change { work: WorkId, change: Change, not_before: Timestamp },
}

#[derive(Clone, Debug)]
pub(crate) struct Conclude {
    pub(crate) work: WorkId,
    pub(crate) at: Timestamp,
    pub(crate) ended: Recipients,
    /// Where the rest stands, unless the conclusion is late.
    pub(crate) rest: Option<(Status, Timestamp)>,
    pub(crate) state: Bytes,
    pub(crate) record: Bytes,
    pub(crate) follow_ups: Vec<(MessageId, Message)>,
}

/// All that should be there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) messages: BTreeMap<MessageId, Message>,
    pub(crate) remembered: BTreeMap<MessageId, Timestamp>,
    pub(crate) story: Vec<Event>,
}

impl Model {
    pub(crate) fn work(&self, id: WorkId) -> Option<&Work> {
        self.messages.get(&id.message)?.works.get(&id.index)
    }

    pub(crate) fn works(&self) -> BTreeSet<WorkId> {
        let of = |(id, message): (&MessageId, &Message)| {
            let id = *id;
            message.works.keys().map(move |index| WorkId { message: id, index: *index }).collect::<Vec<_>>()
        };
        self.messages.iter().flat_map(of).collect()
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Publish(batch) => self.publish(batch),
            Step::Conclude(conclude) => self.conclude(conclude),
            Step::Cancel(id, at) => {
                let remaining = self.work(*id).expect("only what is there is cancelled").remaining;
                self.story.push(Event::Cancelled(*id, remaining));
                self.end(*id, *at);
            }
            Step::Change { work, change, not_before } => {
                let message = self.messages.get_mut(&work.message).expect("only what is there is changed");
                let work = message.works.get_mut(&work.index).expect("only what is there is changed");
                work.status = match change {
                    Change::Hold => Status::Held,
                    Change::Release | Change::Reschedule(_) => Status::Waiting,
                    Change::Prioritise(_) => work.status,
                };
                work.not_before = *not_before;
            }
        }
    }

    fn publish(&mut self, batch: &[(MessageId, Message)]) {
        for (id, message) in batch {
            self.messages.insert(*id, message.clone());
            self.story.push(Event::Published(*id));
        }
    }

    fn conclude(&mut self, conclude: &Conclude) {
        if !conclude.record.is_empty() {
            self.story.push(Event::Concluded(conclude.work, conclude.record.clone()));
        }
        let id = conclude.work;
        let work = self.messages.get_mut(&id.message).and_then(|message| message.works.get_mut(&id.index));
        if let Some(work) = work {
            work.remaining = work.remaining.without(conclude.ended);
            if let Some((status, not_before)) = conclude.rest {
                work.attempts += 1;
                work.status = status;
                work.not_before = not_before;
                work.state = conclude.state.clone();
            }
            if work.remaining.is_empty() {
                self.end(id, conclude.at);
            }
        }
        self.publish(&conclude.follow_ups);
    }

    fn end(&mut self, id: WorkId, at: Timestamp) {
        let message = self.messages.get_mut(&id.message).expect("only what is there ends");
        message.works.remove(&id.index);
        if message.works.is_empty() {
            if message.repeatable {
                self.remembered.insert(id.message, at + REMEMBERED_FOR - Duration::from_secs(1));
            }
            self.messages.remove(&id.message);
        }
    }

    /// Whether works are the same but for what is not written down.
    pub(crate) fn differs(&self, other: &BTreeMap<WorkId, Work>) -> Option<String> {
        let mine = self.works();
        let theirs: BTreeSet<WorkId> = other.keys().copied().collect();
        if mine != theirs {
            let missing: Vec<_> = mine.difference(&theirs).collect();
            let surplus: Vec<_> = theirs.difference(&mine).collect();
            return Some(format!("missing {missing:?}, surplus {surplus:?}"));
        }
        other.iter().find_map(|(id, theirs)| {
            let mine = self.work(*id).expect("the same works");
            let same = mine.remaining == theirs.remaining
                && mine.attempts == theirs.attempts
                && mine.status == theirs.status
                && mine.state == theirs.state;
            (!same).then(|| format!("{id} should be {mine:?} and is {theirs:?}"))
        })
    }
}
