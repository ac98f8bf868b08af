//! The ids of ended messages that may be published again.

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasherDefault,
};

use base::{MessageId, Timestamp};

use crate::{intern::IdHasher, op::MAX_REMEMBERED};

/// Ids, and until when each is remembered; the oldest are forgotten first.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    until: HashMap<MessageId, Timestamp, BuildHasherDefault<IdHasher>>,
    order: VecDeque<(MessageId, Timestamp)>,
}

impl Remembered {
    pub(crate) fn knows(&self, id: MessageId) -> bool {
        self.until.contains_key(&id)
    }

    /// Remembers an id; it may be told so more than once, and the latest time counts.
    pub(crate) fn add(&mut self, id: MessageId, until: Timestamp) {
        if self.until.get(&id).is_some_and(|known| *known >= until) {
            return;
        }
        self.until.insert(id, until);
        self.order.push_back((id, until));
        while self.order.len() > MAX_REMEMBERED {
            self.forget_oldest();
        }
    }

    /// What is to be remembered beyond `now`, oldest first; the rest is forgotten.
    pub(crate) fn beyond(&mut self, now: Timestamp) -> Vec<(MessageId, Timestamp)> {
        while self.order.front().is_some_and(|(_, until)| *until <= now) {
            self.forget_oldest();
        }
        self.order.iter().filter(|(id, until)| self.until.get(id) == Some(until)).copied().collect()
    }

    fn forget_oldest(&mut self) {
        if let Some((id, until)) = self.order.pop_front()
            && self.until.get(&id) == Some(&until)
        {
            self.until.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_told_again_and_again_crowds_nobody_out() {
        let mut remembered = Remembered::default();
        let first = MessageId::generate(Timestamp::from_millis(1));
        let second = MessageId::generate(Timestamp::from_millis(2));
        remembered.add(first, Timestamp::from_millis(5));
        for _ in 0..=MAX_REMEMBERED {
            remembered.add(second, Timestamp::from_millis(9));
        }
        assert!(remembered.knows(first));
        assert_eq!(remembered.beyond(Timestamp::from_millis(5)), [(second, Timestamp::from_millis(9))]);
        assert!(!remembered.knows(first));
    }
}
