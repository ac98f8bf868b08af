//! What one node was given and how far each of it is. Pure, but for the ears of those who wait.

use std::collections::HashMap;

use bytes::Bytes;
use queue::{BodySource, Recipients};
use tokio::sync::mpsc;

use crate::wire::{self, WHOLE};

/// What comes of an errand; the items go by their numbers in the grant.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// The node asks to pass the point of no return.
    Commit(usize),
    /// What became of a work, in the trade's words.
    Told(usize, Bytes),
    /// It never reached the node.
    Lost(usize),
    /// The node is through with it; in the trade's words what it took.
    Ended(Bytes),
}

/// Everything that one boot of a node has.
#[derive(Debug, Default)]
pub(crate) struct Errands(HashMap<u64, Entry>);

#[derive(Debug)]
struct Entry {
    words: mpsc::UnboundedSender<Word>,
    items: Vec<Item>,
    /// Whether its end was said to those who wait.
    ended: Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Yes,
    No,
}

impl Entry {
    /// The node is through with it, as it may say any number of times.
    fn end(&mut self, words: Bytes) {
        if std::mem::replace(&mut self.ended, Ended::Yes) == Ended::No {
            let _ = self.words.send(Word::Ended(words));
        }
    }
}

/// A work of an errand.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) body: BodySource,
    pub(crate) stage: Stage,
}

/// How far a work is, as the manager knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Given,
    /// The trade is being asked.
    Asked,
    Permitted(Recipients),
    /// The trade is told what became of it.
    Told,
    /// It has concluded it; that may not be synced yet.
    Concluded,
    /// It cannot be taken over now: what is said of it is neither heard nor forgotten.
    Deaf,
    /// It is not the node's any more, which may still say that it delivered.
    Lapsed,
    /// It is not the node's, and nobody listens to what it says of it.
    Over,
}

impl Stage {
    /// Whether the node may still be at it.
    fn is_open(self) -> bool {
        !matches!(self, Self::Told | Self::Concluded | Self::Deaf | Self::Over)
    }
}

impl Item {
    /// In the place of an item that is not there.
    pub(crate) fn none() -> Self {
        Self { body: BodySource::Missing(queue::QueueError::Away), stage: Stage::Over }
    }
}

/// What to say to the node at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Say {
    Nothing,
    Permit(Option<Recipients>),
    /// It was heard already, or there is nobody to hear it.
    Heard,
}

impl Errands {
    /// A new errand, and what will come of it.
    pub(crate) fn open(&mut self, errand: u64, items: Vec<Item>) -> mpsc::UnboundedReceiver<Word> {
        // Each item brings three words at most, and a node has no more items than it has credits for; the end is said once.
        let (sender, words) = mpsc::unbounded_channel();
        self.0.insert(errand, Entry { words: sender, items, ended: Ended::No });
        words
    }

    /// Nobody listens any more. Returns the items that the node still has.
    pub(crate) fn close(&mut self, errand: u64) -> Vec<u32> {
        let Some(mut entry) = self.0.remove(&errand) else { return Vec::new() };
        let mut left = Vec::new();
        for (number, item) in (0..).zip(&mut entry.items) {
            if item.stage.is_open() {
                left.push(number);
            }
            if item.stage != Stage::Deaf {
                item.stage = Stage::Over;
            }
        }
        if entry.items.iter().any(|item| item.stage == Stage::Deaf) {
            // What is said of those is not to be forgotten until they are taken over.
            self.0.insert(errand, entry);
        }
        left
    }

    /// The node is gone: nothing will come of anything.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many works cannot be taken over.
    pub(crate) fn deaf(&self) -> usize {
        let items = self.0.values().flat_map(|entry| &entry.items);
        items.filter(|item| item.stage == Stage::Deaf).count()
    }

    fn item(&mut self, at: &wire::Item) -> Option<(&mpsc::UnboundedSender<Word>, &mut Item)> {
        let entry = self.0.get_mut(&at.errand)?;
        Some((&entry.words, entry.items.get_mut(at.item as usize)?))
    }

    /// The node asks to pass the point of no return.
    pub(crate) fn asks(&mut self, at: &wire::Item) -> Say {
        let Some((words, item)) = self.item(at) else { return Say::Permit(None) };
        match item.stage {
            Stage::Given => {
                item.stage = Stage::Asked;
                let _ = words.send(Word::Commit(at.item as usize));
                Say::Nothing
            }
            Stage::Asked => Say::Nothing,
            // Its link broke before the answer reached it.
            Stage::Permitted(remaining) => Say::Permit(Some(remaining)),
            // Nobody can note that it is passed, and nothing else would end its wait. It has not begun to be told, so nothing is lost.
            Stage::Deaf => Say::Permit(None),
            Stage::Told | Stage::Concluded | Stage::Lapsed | Stage::Over => Say::Permit(None),
        }
    }

    /// The trade has answered.
    pub(crate) fn permit(&mut self, errand: u64, item: u32, remaining: Option<Recipients>) {
        if let Some((_, item)) = self.item(&wire::Item { errand, item }) {
            item.stage = remaining.map_or(Stage::Over, Stage::Permitted);
        }
    }

    /// The trade has concluded what it was told.
    pub(crate) fn concluded(&mut self, errand: u64, item: u32) {
        if let Some((_, item)) = self.item(&wire::Item { errand, item }) {
            item.stage = Stage::Concluded;
        }
    }

    /// Whether there is this errand.
    pub(crate) fn knows(&self, errand: u64) -> bool {
        self.0.contains_key(&errand)
    }

    /// The node says what became of something.
    pub(crate) fn tells(&mut self, told: wire::Told) -> Say {
        let Some(at) = told.item else { return Say::Nothing };
        if at.item == WHOLE {
            let Some(entry) = self.0.get_mut(&at.errand) else { return Say::Heard };
            entry.end(told.words);
            return Say::Heard;
        }
        let Some((words, item)) = self.item(&at) else { return Say::Heard };
        match item.stage {
            Stage::Told | Stage::Deaf => return Say::Nothing,
            // Its acknowledgement was lost, or there was nobody to hear it.
            Stage::Concluded | Stage::Over => return Say::Heard,
            Stage::Given | Stage::Asked | Stage::Permitted(_) | Stage::Lapsed => item.stage = Stage::Told,
        }
        let _ = words.send(Word::Told(at.item as usize, told.words));
        Say::Nothing
    }

    /// The node has come back over another link with these: what it was given and does not have never reached it. Returns what it has
    /// and nobody here hears of.
    pub(crate) fn reconcile(&mut self, held: &[wire::Held]) -> Vec<wire::Held> {
        // Nobody listens there; it may be taken over now.
        self.0.retain(|_, entry| !entry.words.is_closed());
        let has: std::collections::HashSet<(u64, u32)> =
            held.iter().map(|held| (held.errand, held.item)).collect();
        for (errand, entry) in &mut self.0 {
            for (number, item) in (0..).zip(&mut entry.items) {
                if item.stage.is_open() && !has.contains(&(*errand, number)) {
                    item.stage = Stage::Over;
                    let _ = entry.words.send(Word::Lost(number as usize));
                }
            }
            if !held.iter().any(|held| held.errand == *errand) {
                entry.end(Bytes::new());
            }
        }
        held.iter().filter(|held| self.is_to_be_taken_over(held)).cloned().collect()
    }

    /// Whether nobody here knows it, or what is said of it cannot be heard yet.
    fn is_to_be_taken_over(&self, held: &wire::Held) -> bool {
        let Some(entry) = self.0.get(&held.errand) else { return true };
        entry.items.get(held.item as usize).is_some_and(|item| item.stage == Stage::Deaf)
    }

    /// The body of a work that the node has.
    pub(crate) fn body(&mut self, at: &wire::Item) -> Option<BodySource> {
        self.item(at).map(|(_, item)| item.body.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Item {
        Item { body: BodySource::Memory(Bytes::new()), stage: Stage::Given }
    }

    fn at(item: u32) -> wire::Item {
        wire::Item { errand: 7, item }
    }

    fn told(item: u32) -> wire::Told {
        wire::Told { item: Some(at(item)), words: Bytes::from_static(b"it went well") }
    }

    fn next(words: &mut mpsc::UnboundedReceiver<Word>) -> Option<Word> {
        words.try_recv().ok()
    }

    #[test]
    fn what_is_said_twice_is_heard_once() {
        let mut errands = Errands::default();
        let mut words = errands.open(7, vec![item(), item()]);
        assert_eq!([errands.asks(&at(0)), errands.asks(&at(0))], [Say::Nothing, Say::Nothing]);
        assert_eq!((next(&mut words), next(&mut words)), (Some(Word::Commit(0)), None));
        let all = Recipients::first(2);
        errands.permit(7, 0, Some(all));
        assert_eq!(errands.asks(&at(0)), Say::Permit(Some(all)), "the answer was lost");
        for _ in 0..2 {
            assert_eq!(errands.tells(told(0)), Say::Nothing);
        }
        assert!(matches!(next(&mut words), Some(Word::Told(0, _))));
        assert_eq!(next(&mut words), None);
        assert_eq!(errands.close(7), [1]);
        assert_eq!((errands.tells(told(1)), errands.asks(&at(1))), (Say::Heard, Say::Permit(None)));
    }

    #[test]
    fn what_cannot_be_taken_over_is_not_committed_and_not_forgotten() {
        let mut errands = Errands::default();
        let deaf = || Item { stage: Stage::Deaf, ..item() };
        let mut words = errands.open(7, vec![deaf(), deaf(), item()]);
        for _ in 0..2 {
            assert_eq!(errands.asks(&at(0)), Say::Permit(None), "its attempt does not wait for ever");
            assert_eq!(errands.tells(told(1)), Say::Nothing, "the node keeps what it says");
        }
        assert_eq!(next(&mut words), None);
        assert_eq!(errands.close(7), [2], "it is not said to be over");
        drop(words);
        assert_eq!((errands.tells(told(1)), errands.tells(told(2))), (Say::Nothing, Say::Heard));
        let held = [wire::Held { errand: 7, item: 1, ..wire::Held::default() }];
        assert_eq!(errands.reconcile(&held), held, "it is brought again");
    }

    #[test]
    fn the_end_is_said_once_however_often_the_node_says_it() {
        let mut errands = Errands::default();
        let mut words = errands.open(7, vec![item()]);
        for _ in 0..3 {
            assert_eq!(errands.tells(told(WHOLE)), Say::Heard);
        }
        errands.reconcile(&[]);
        let all: Vec<_> = std::iter::from_fn(|| next(&mut words)).collect();
        assert!(matches!(all[..], [Word::Ended(_), Word::Lost(0)]), "{all:?}");
    }

    #[test]
    fn what_never_reached_a_node_is_told_when_it_comes_back() {
        let mut errands = Errands::default();
        let mut reached = errands.open(7, vec![item(), item()]);
        let mut lost = errands.open(8, vec![item()]);
        let held = |errand, item| wire::Held { errand, item, ..wire::Held::default() };
        let foreign = errands.reconcile(&[held(7, 1), held(9, 0)]);
        assert_eq!(foreign, [held(9, 0)]);
        assert_eq!((next(&mut reached), next(&mut reached)), (Some(Word::Lost(0)), None));
        assert_eq!(next(&mut lost), Some(Word::Lost(0)));
        assert_eq!(next(&mut lost), Some(Word::Ended(Bytes::new())));
    }
}
