//! What may go when: works by the time that they wait for. A pure state; it is told the time.

use std::{cmp::Reverse, collections::BinaryHeap};

use base::Timestamp;
use queue::Ticket;

/// A work that waits, as dispatch knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Waits {
    /// When it may go.
    pub(crate) until: Timestamp,
    pub(crate) ticket: Ticket,
    pub(crate) priority: u8,
    /// The number of its next hop in the dispatcher.
    pub(crate) site: usize,
}

/// Works that wait for their time.
#[derive(Debug, Default)]
pub(crate) struct Due(BinaryHeap<Reverse<Waits>>);

impl Due {
    pub(crate) fn add(&mut self, waits: Waits) {
        self.0.push(Reverse(waits));
    }

    /// One whose time has come.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<Waits> {
        if self.0.peek()?.0.until > now {
            return None;
        }
        let Reverse(waits) = self.0.pop()?;
        if self.0.len() * 4 < self.0.capacity() {
            self.0.shrink_to(self.0.len() * 2);
        }
        Some(waits)
    }

    /// When the next one's time comes.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.0.peek().map(|waits| waits.0.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works_come_when_their_time_has_come_and_in_its_order() {
        let at = Timestamp::from_millis;
        let mut due = Due::default();
        for until in [30, 10, 20] {
            due.add(Waits { until: at(until), ticket: Ticket(1), priority: 5, site: 0 });
        }
        assert_eq!(due.next(), Some(at(10)));
        assert!(due.take(at(9)).is_none());
        assert_eq!(due.take(at(25)).map(|waits| waits.until), Some(at(10)));
        assert_eq!(due.take(at(25)).map(|waits| waits.until), Some(at(20)));
        assert!(due.take(at(25)).is_none());
        assert_eq!(due.next(), Some(at(30)));
    }
}
