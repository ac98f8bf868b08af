//! What a worker was given, how far each of it is, and what is still to be said of it. Pure, but for those who wait.

use std::collections::HashMap;

use base::WorkId;
use bytes::Bytes;
use queue::{Epoch, Recipients};
use tokio::sync::{mpsc, oneshot};

use crate::wire::{self, MOST_HELD, WHOLE};

/// Everything that this boot was given and has not been told to forget.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    errands: HashMap<u64, Entry>,
    /// How many errands these are, and items of them.
    things: usize,
    /// Where what is said goes, while there is a link.
    link: Option<mpsc::UnboundedSender<Say>>,
}

/// One thing that is said to the manager.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Say {
    Commit(wire::Item),
    Told(wire::Told),
}

impl Say {
    /// Whether somebody waits for the answer, or more may be given once it is heard.
    pub(super) fn is_urgent(&self) -> bool {
        match self {
            Self::Commit(_) => true,
            Self::Told(told) => told.item.is_some_and(|item| item.item == WHOLE),
        }
    }
}

#[derive(Debug)]
struct Entry {
    items: Vec<Item>,
    /// In the trade's words what it took, once it is through.
    ended: Option<Bytes>,
    /// Whether the manager needs to hear of the whole no more.
    closed: Closed,
}

impl Entry {
    fn things(&self) -> usize {
        1 + self.items.len()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closed {
    Yes,
    No,
}

#[derive(Debug)]
struct Item {
    work: WorkId,
    epoch: Epoch,
    stage: Stage,
}

/// How far a work is.
#[derive(Debug)]
enum Stage {
    Held,
    /// The manager was asked whether the point of no return may be passed.
    Asking(oneshot::Sender<Option<Recipients>>),
    /// It may, and perhaps was.
    Permitted,
    /// What became of it; kept until the manager has it for good.
    Told(Bytes),
    /// The manager has it for good, or it is not ours any more.
    Done,
}

/// A work that is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) work: WorkId,
    pub(crate) epoch: Epoch,
}

impl Desk {
    /// There is a link: what was said and not heard is said again.
    pub(crate) fn linked(&mut self, link: mpsc::UnboundedSender<Say>) {
        for (errand, entry) in &self.errands {
            for (number, item) in (0..).zip(&entry.items) {
                let at = wire::Item { errand: *errand, item: number };
                let say = match &item.stage {
                    Stage::Asking(_) => Say::Commit(at),
                    Stage::Told(words) => Say::Told(wire::Told { item: Some(at), words: words.clone() }),
                    Stage::Held | Stage::Permitted | Stage::Done => continue,
                };
                let _ = link.send(say);
            }
            if let (Some(words), Closed::No) = (&entry.ended, entry.closed) {
                let item = Some(wire::Item { errand: *errand, item: WHOLE });
                let _ = link.send(Say::Told(wire::Told { item, words: words.clone() }));
            }
        }
        self.link = Some(link);
    }

    /// The link is gone.
    pub(crate) fn unlinked(&mut self) {
        self.link = None;
    }

    /// What the manager is to know that we have.
    pub(crate) fn held(&self) -> Vec<wire::Held> {
        let mut held = Vec::new();
        for (errand, entry) in &self.errands {
            let errand = *errand;
            held.push(wire::Held { errand, item: WHOLE, ..wire::Held::default() });
            for (number, item) in (0..).zip(&entry.items) {
                if !matches!(item.stage, Stage::Done) {
                    let (work, epoch) = (Some(item.work.into()), Some(item.epoch.into()));
                    held.push(wire::Held { errand, item: number, work, epoch });
                }
            }
        }
        held
    }

    /// Whether so many works more can be said in a hello as well.
    pub(crate) fn has_room(&self, works: usize) -> bool {
        self.things + 1 + works <= MOST_HELD
    }

    /// Something was given to us.
    pub(crate) fn granted(&mut self, errand: u64, works: impl IntoIterator<Item = Granted>) {
        let items = works.into_iter().map(|Granted { work, epoch }| Item { work, epoch, stage: Stage::Held });
        let entry = Entry { items: items.collect(), ended: None, closed: Closed::No };
        self.things += entry.things();
        if let Some(before) = self.errands.insert(errand, entry) {
            self.things -= before.things();
        }
    }

    /// Gives an errand back as it came. Should that be lost, the next hello says that it is not here.
    pub(crate) fn refuse(&self, errand: u64) {
        let item = Some(wire::Item { errand, item: WHOLE });
        self.say(Say::Told(wire::Told { item, words: Bytes::new() }));
    }

    /// Asks whether a work may pass the point of no return; nothing if it is ours no more.
    pub(crate) fn ask(&mut self, errand: u64, item: u32) -> Option<oneshot::Receiver<Option<Recipients>>> {
        let stage = self.stage(errand, item)?;
        if !matches!(stage, Stage::Held) {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        *stage = Stage::Asking(answer);
        self.say(Say::Commit(wire::Item { errand, item }));
        Some(answered)
    }

    /// The manager has answered.
    pub(crate) fn permitted(&mut self, permit: &wire::Permit) {
        let Some(at) = &permit.item else { return };
        let remaining = permit.remaining.map(Recipients::from);
        let Some(stage) = self.stage(at.errand, at.item) else { return };
        if !matches!(stage, Stage::Asking(_)) {
            return;
        }
        let next = if remaining.is_some() { Stage::Permitted } else { Stage::Done };
        if let Stage::Asking(answer) = std::mem::replace(stage, next) {
            // Whoever asked may have given up; the manager waits for it all the same, as if it had been passed.
            let _ = answer.send(remaining);
        }
    }

    /// Says what became of a work.
    pub(crate) fn tell(&mut self, errand: u64, item: u32, words: Bytes) {
        let Some(stage) = self.stage(errand, item) else { return };
        if matches!(stage, Stage::Done) {
            return;
        }
        *stage = Stage::Told(words.clone());
        self.say(Say::Told(wire::Told { item: Some(wire::Item { errand, item }), words }));
    }

    /// Says that the whole is through. What was not told of was not attempted, or nobody knows what became of it: it may have been
    /// permitted.
    pub(crate) fn end(&mut self, errand: u64, words: Bytes) {
        let Some(entry) = self.errands.get_mut(&errand) else { return };
        entry.ended = Some(words.clone());
        for item in &mut entry.items {
            if !matches!(item.stage, Stage::Told(_)) {
                item.stage = Stage::Done;
            }
        }
        self.say(Say::Told(wire::Told { item: Some(wire::Item { errand, item: WHOLE }), words }));
        self.forget(errand);
    }

    /// The manager has it for good.
    pub(crate) fn heard(&mut self, at: &wire::Item) {
        if at.item == WHOLE {
            if let Some(entry) = self.errands.get_mut(&at.errand) {
                entry.closed = Closed::Yes;
            }
        } else if let Some(stage @ Stage::Told(_)) = self.stage(at.errand, at.item) {
            *stage = Stage::Done;
        }
        self.forget(at.errand);
    }

    /// A work is ours no more: unless it has passed the point of no return, its attempt must stop.
    pub(crate) fn over(&mut self, at: &wire::Item) {
        if let Some(stage @ (Stage::Held | Stage::Asking(_))) = self.stage(at.errand, at.item)
            && let Stage::Asking(answer) = std::mem::replace(stage, Stage::Done)
        {
            let _ = answer.send(None);
        }
    }

    /// How many works we have that are not through.
    pub(crate) fn works(&self) -> usize {
        let open = |item: &&Item| !matches!(item.stage, Stage::Done);
        self.errands.values().map(|entry| entry.items.iter().filter(open).count()).sum()
    }

    fn forget(&mut self, errand: u64) {
        let over = self.errands.get(&errand).is_some_and(|entry| {
            entry.ended.is_some()
                && entry.closed == Closed::Yes
                && entry.items.iter().all(|item| matches!(item.stage, Stage::Done))
        });
        if over && let Some(entry) = self.errands.remove(&errand) {
            self.things -= entry.things();
        }
    }

    fn stage(&mut self, errand: u64, item: u32) -> Option<&mut Stage> {
        self.errands.get_mut(&errand)?.items.get_mut(item as usize).map(|item| &mut item.stage)
    }

    fn say(&self, say: Say) {
        if let Some(link) = &self.link {
            // A link that is going is noticed by whoever drives it, and all is said again over the next.
            let _ = link.send(say);
        }
    }
}

#[cfg(test)]
mod tests {
    use base::MessageId;
    use prost::Message as _;

    use super::*;

    fn granted(desk: &mut Desk, errand: u64, count: u16) {
        let works = (0..count).map(|index| Granted {
            work: WorkId { message: MessageId::from_bytes([1; 16]), index },
            epoch: Epoch::default(),
        });
        desk.granted(errand, works);
    }

    fn at(item: u32) -> wire::Item {
        wire::Item { errand: 1, item }
    }

    fn said(link: &mut mpsc::UnboundedReceiver<Say>) -> Vec<Say> {
        std::iter::from_fn(|| link.try_recv().ok()).collect()
    }

    #[test]
    fn what_was_said_and_not_heard_is_said_again_over_the_next_link() {
        let mut desk = Desk::default();
        granted(&mut desk, 1, 3);
        let _asked = desk.ask(1, 0);
        desk.tell(1, 1, Bytes::from_static(b"well"));
        let (link, mut words) = mpsc::unbounded_channel();
        desk.linked(link);
        let told = Say::Told(wire::Told { item: Some(at(1)), words: Bytes::from_static(b"well") });
        assert_eq!(said(&mut words), [Say::Commit(at(0)), told]);
        assert_eq!(desk.held().len(), 4);
        desk.heard(&at(1));
        let (link, mut words) = mpsc::unbounded_channel();
        desk.linked(link);
        assert_eq!(said(&mut words), [Say::Commit(at(0))]);
    }

    #[test]
    fn no_more_is_taken_than_can_be_said_in_a_hello() {
        let mut desk = Desk::default();
        let all = u16::try_from(MOST_HELD / 4 - 1).expect("it is a quarter");
        (1..=4).for_each(|errand| granted(&mut desk, errand, all));
        assert_eq!((desk.held().len(), desk.has_room(0)), (MOST_HELD, false));
        granted(&mut desk, 1, all - 3);
        assert_eq!((desk.has_room(2), desk.has_room(3)), (true, false));
        granted(&mut desk, 2, 0);
        desk.end(2, Bytes::new());
        desk.heard(&wire::Item { errand: 2, item: WHOLE });
        assert!(desk.has_room(usize::from(all) + 3) && !desk.has_room(usize::from(all) + 4));

        let work = WorkId { message: MessageId::from_bytes([255; 16]), index: u16::MAX };
        let epoch = wire::Epoch { incarnation: u64::MAX, counter: u64::MAX };
        let held = wire::Held { errand: u64::MAX, item: WHOLE, work: Some(work.into()), epoch: Some(epoch) };
        let hello = |held| wire::Hello { held, ..wire::Hello::default() }.encoded_len();
        assert_eq!(hello(vec![held]), wire::HELD_BYTES);
    }

    #[test]
    fn an_errand_is_forgotten_when_all_of_it_is_heard() {
        let mut desk = Desk::default();
        granted(&mut desk, 1, 2);
        desk.tell(1, 0, Bytes::from_static(b"well"));
        desk.end(1, Bytes::new());
        desk.heard(&at(WHOLE));
        assert_eq!((desk.works(), desk.held().len()), (1, 2));
        desk.heard(&at(0));
        assert_eq!((desk.works(), desk.held().len()), (0, 0));
    }

    #[test]
    fn what_is_over_is_not_committed_and_what_was_permitted_is_still_told() {
        let mut desk = Desk::default();
        granted(&mut desk, 1, 3);
        let mut asked = desk.ask(1, 0).expect("it is ours");
        let mut permitted = desk.ask(1, 1).expect("it is ours");
        desk.permitted(&wire::Permit { item: Some(at(1)), remaining: Some(Recipients::first(1).into()) });
        for item in 0..3 {
            desk.over(&at(item));
        }
        assert_eq!(asked.try_recv(), Ok(None));
        assert_eq!(permitted.try_recv(), Ok(Some(Recipients::first(1))));
        assert!(desk.ask(1, 2).is_none());
        desk.tell(1, 1, Bytes::from_static(b"well"));
        desk.tell(1, 2, Bytes::from_static(b"too late"));
        assert_eq!(desk.works(), 1);
    }
}
