//! Messages in the order in which something is said of them, once over each link. Pure.

use std::collections::VecDeque;

use base::MessageId;

/// Messages of which something is said, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Line {
    messages: VecDeque<MessageId>,
    /// Of so many of the oldest it has been said over this link.
    said: usize,
}

impl Line {
    pub(super) fn push(&mut self, message: MessageId) {
        self.messages.push_back(message);
    }

    /// The next of which it has not been said over this link; now it has.
    pub(super) fn say(&mut self) -> Option<MessageId> {
        let message = self.messages.get(self.said).copied()?;
        self.said += 1;
        Some(message)
    }

    pub(super) fn all_is_said(&self) -> bool {
        self.said == self.messages.len()
    }

    /// Over another link all is said again.
    pub(super) fn begin_anew(&mut self) {
        self.said = 0;
    }

    /// Nothing more is to be said of a message. They come to their end in about the order in which they came, so it is near the front.
    pub(super) fn remove(&mut self, message: MessageId) {
        if let Some(at) = self.messages.iter().position(|other| *other == message) {
            self.remove_at(at);
        }
    }

    /// Forgets the oldest where there are more than so many.
    pub(super) fn keep(&mut self, most: usize) {
        while self.messages.len() > most {
            self.remove_at(0);
        }
    }

    pub(super) fn oldest(&self) -> Option<MessageId> {
        self.messages.front().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = MessageId> {
        self.messages.iter().copied()
    }

    fn remove_at(&mut self, at: usize) {
        self.messages.remove(at);
        if at < self.said {
            self.said -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_said_once_over_each_link_whatever_is_removed_meanwhile() {
        let id = |n| MessageId::from_bytes([n; 16]);
        let rest = |line: &mut Line| -> Vec<MessageId> { std::iter::from_fn(|| line.say()).collect() };
        let mut line = Line::default();
        assert!(line.all_is_said() && line.say().is_none());
        (1..=6).for_each(|n| line.push(id(n)));
        assert_eq!([line.say(), line.say(), line.say()], [1, 2, 3].map(|n| Some(id(n))));
        // Two that were said, one that was not, one that is not there.
        [2, 1, 5, 9].into_iter().for_each(|n| line.remove(id(n)));
        assert_eq!((line.oldest(), line.all_is_said()), (Some(id(3)), false));
        assert_eq!(rest(&mut line), [4, 6].map(id));
        line.push(id(7));
        line.keep(2);
        assert_eq!(rest(&mut line), [id(7)]);
        line.begin_anew();
        assert_eq!(rest(&mut line), [6, 7].map(id));
        line.keep(0);
        assert!(line.all_is_said() && line.oldest().is_none());
    }
}
