//! The contents of messages that were published lately, so that the first attempt need not read them back.

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasherDefault,
    sync::Arc,
};

use base::{MessageId, WorkId};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::{BodySource, intern::IdHasher, op::MessageWords};

/// The contents of a message.
#[derive(Debug)]
pub(crate) struct RecentContent {
    pub(crate) words: Mutex<MessageWords>,
    pub(crate) body: BodySource,
}

/// Contents of recent messages, oldest dropped first.
#[derive(Debug)]
pub(crate) struct Recent {
    contents: HashMap<MessageId, Entry, BuildHasherDefault<IdHasher>>,
    /// In order of coming; some may be gone.
    order: VecDeque<MessageId>,
    bytes: usize,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    content: Arc<RecentContent>,
    /// Bytes that it counts for.
    size: usize,
}

/// Up to this many places in the order are not worth a sweep.
const SWEPT_ABOVE: usize = 1024;

impl Recent {
    /// Room for contents of `limit` bytes in all.
    pub(crate) fn new(limit: usize) -> Self {
        Self { contents: HashMap::default(), order: VecDeque::new(), bytes: 0, limit }
    }

    pub(crate) fn insert(&mut self, message: MessageId, content: RecentContent) {
        self.remove(message);
        let size = content.size();
        self.bytes += size;
        self.contents.insert(message, Entry { content: Arc::new(content), size });
        self.order.push_back(message);
        self.keep_within_limit();
        if self.order.len() > 2 * self.contents.len() + SWEPT_ABOVE {
            let contents = &self.contents;
            self.order.retain(|message| contents.contains_key(message));
        }
    }

    pub(crate) fn find(&self, message: MessageId) -> Option<Arc<RecentContent>> {
        self.contents.get(&message).map(|entry| entry.content.clone())
    }

    pub(crate) fn remove(&mut self, message: MessageId) {
        if let Some(entry) = self.contents.remove(&message) {
            self.bytes -= entry.size;
        }
    }

    pub(crate) fn set_state(&mut self, work: WorkId, state: &[u8]) {
        let Some(entry) = self.contents.get_mut(&work.message) else { return };
        let mut words = entry.content.words.lock();
        if let Some((_, _, old)) = words.works.iter_mut().find(|(index, ..)| *index == work.index) {
            let grown = entry.size - old.len() + state.len();
            self.bytes = self.bytes - entry.size + grown;
            *old = Bytes::copy_from_slice(state);
            drop(words);
            entry.size = grown;
            self.keep_within_limit();
        }
    }

    fn keep_within_limit(&mut self) {
        while self.bytes > self.limit {
            let Some(oldest) = self.order.pop_front() else { break };
            self.remove(oldest);
        }
    }
}

impl RecentContent {
    fn size(&self) -> usize {
        let words = self.words.lock();
        let body = match &self.body {
            BodySource::Memory(bytes) => bytes.len(),
            BodySource::Stored(_) | BodySource::Missing(_) => 0,
        };
        let works: usize = words.works.iter().map(|(_, detail, state)| detail.len() + state.len() + 64).sum();
        words.header.len() + works + body + 128
    }
}

#[cfg(test)]
mod tests {
    use base::Timestamp;

    use super::*;

    fn content(bytes: usize) -> RecentContent {
        let words = MessageWords { header: Bytes::new(), works: vec![(0, Bytes::new(), Bytes::new())] };
        RecentContent { words: Mutex::new(words), body: BodySource::Memory(vec![0; bytes].into()) }
    }

    #[test]
    fn what_ended_makes_room_at_once_and_what_grows_takes_it() {
        let mut recent = Recent::new(10_000);
        let ids: Vec<MessageId> = (0..5).map(|n| MessageId::generate(Timestamp::from_millis(n))).collect();
        recent.insert(ids[0], content(3000));
        recent.insert(ids[1], content(3000));
        recent.remove(ids[1]);
        recent.insert(ids[2], content(3000));
        recent.insert(ids[3], content(3000));
        assert!(recent.find(ids[0]).is_some(), "the one that ended left its room to others");
        recent.set_state(WorkId { message: ids[3], index: 0 }, &[1; 2000]);
        assert!(recent.find(ids[0]).is_none(), "the oldest goes");
        assert!(recent.find(ids[2]).is_some() && recent.find(ids[3]).is_some());
        recent.insert(ids[4], content(20_000));
        assert_eq!((recent.bytes, recent.contents.len()), (0, 0));
        for n in 0..4 * SWEPT_ABOVE as u64 {
            let id = MessageId::generate(Timestamp::from_millis(n));
            recent.insert(id, content(1));
            recent.remove(id);
        }
        assert!(recent.order.len() <= SWEPT_ABOVE + 3);
    }
}
