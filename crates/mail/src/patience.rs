//! How long works wait for the node that has their bodies, where others could take them. Pure; it is told the time.
//!
//! A site with as many connections as it may have is served by the nodes that keep one. Where works came in by a node that keeps none just
//! now but uses some, it is most likely through with one of them before the bodies would be at another node.

use std::time::Duration;

use base::Timestamp;
use queue::Ticket;

/// Longest time that a work waits: a few times what a next hop nearby takes for a message.
const WAITS: Duration = Duration::from_millis(50);
/// Where that was in vain nothing waits for so long: the next hop takes longer, whatever the reason.
const THEN_NOT_FOR: Duration = Duration::from_millis(500);

/// What a site's works wait for, and since when.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    first: Option<First>,
    /// Nothing is to be looked at until then, unless something happens at the site.
    until: Option<Timestamp>,
}

/// The first that waits of those that do.
#[derive(Clone, Copy, Debug)]
struct First {
    ticket: Ticket,
    since: Timestamp,
}

impl Patience {
    /// A work comes next that another node could take; says whether it waits.
    pub(crate) fn waits(&mut self, ticket: Ticket, now: Timestamp) -> bool {
        // Where the clock has jumped back it begins anew as well.
        self.first.take_if(|first| now < first.since || now >= first.since + WAITS + THEN_NOT_FOR);
        let First { since, .. } = *self.first.get_or_insert(First { ticket, since: now });
        self.until = Some(since + WAITS).filter(|until| now < *until);
        self.until.is_some()
    }

    /// Works have gone: there may be more that need not wait. If the first of those that wait is one of them, and had not waited in vain,
    /// the next waits as long.
    pub(crate) fn went(&mut self, works: &[Ticket], now: Timestamp) {
        if works.is_empty() {
            return;
        }
        self.look();
        self.first.take_if(|first| now < first.since + WAITS && works.contains(&first.ticket));
    }

    /// Something has happened at the site: there may be something to begin.
    pub(crate) fn look(&mut self) {
        self.until = None;
    }

    /// Until when there is nothing to begin, unless something happens.
    pub(crate) fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.until.filter(|until| now < *until && *until <= now + WAITS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

    fn after(millis: u64) -> Timestamp {
        NOW + Duration::from_millis(millis)
    }

    #[test]
    fn works_wait_a_moment_and_after_a_moment_in_vain_none_does_for_a_while() {
        let mut patience = Patience::default();
        assert!(patience.waits(Ticket(1), NOW) && patience.waits(Ticket(2), after(49)));
        assert_eq!(patience.until(after(49)), Some(after(50)), "the first began to wait then");
        assert!(!patience.waits(Ticket(2), after(50)) && !patience.waits(Ticket(3), after(549)));
        assert_eq!(patience.until(after(549)), None);
        assert!(patience.waits(Ticket(3), after(550)));
    }

    #[test]
    fn it_was_not_in_vain_if_the_first_has_gone_meanwhile() {
        let mut patience = Patience::default();
        assert!(patience.waits(Ticket(1), NOW));
        patience.went(&[], after(10));
        assert_eq!(patience.until(after(10)), Some(after(50)));
        patience.went(&[Ticket(7), Ticket(2)], after(10));
        assert_eq!(patience.until(after(10)), None, "others may go as well");
        assert!(patience.waits(Ticket(1), after(20)));
        assert_eq!(patience.until(after(20)), Some(after(50)));
        patience.went(&[Ticket(2), Ticket(1)], after(49));
        assert!(patience.waits(Ticket(3), after(50)));
        assert_eq!(patience.until(after(50)), Some(after(100)));
        patience.look();
        assert_eq!(patience.until(after(50)), None, "something has happened");
    }

    #[test]
    fn it_was_in_vain_if_the_first_goes_elsewhere_in_the_end() {
        let mut patience = Patience::default();
        assert!(patience.waits(Ticket(1), NOW));
        assert!(!patience.waits(Ticket(1), after(50)));
        patience.went(&[Ticket(1)], after(50));
        assert!(!patience.waits(Ticket(2), after(51)) && !patience.waits(Ticket(3), after(549)));
        assert!(patience.waits(Ticket(4), after(550)));
    }

    #[test]
    fn a_clock_that_jumps_back_makes_nothing_wait_longer() {
        let mut patience = Patience::default();
        assert!(patience.waits(Ticket(1), after(60_000)));
        assert_eq!(patience.until(NOW), None);
        assert!(patience.waits(Ticket(1), NOW));
        assert_eq!(patience.until(NOW), Some(after(50)));
    }
}
