//! The worker's own knowledge of its lease: whether it may still go on with what it holds. Pure.
//!
//! **No two hold one work.** A worker counts its lease from the moment S at which it *sent* the last beat that was
//! acknowledged. The manager counts silence from the moment R at which it *received* that beat or a later one, and R is not
//! before S, whatever the network did to the beat or to its acknowledgement. The worker stops at S + lease; the manager takes
//! back at R + gone at the earliest. So with `lease < gone` the worker has stopped first, on its own and while it is cut off.
//! Neither needs to know what time it is at the other; their clocks need only run equally fast, and
//! [`Timing::check`](crate::membership::Timing::check) keeps a margin for that. A manager that was started anew counts from
//! its start, which is later than anything its predecessor has received.
//!
//! **Once over is over.** When the lease has ended, the manager may have taken back what the worker held, and a beat that
//! was under way for long may yet be acknowledged. That lease is a new one: what was taken under the old one is void. So what is
//! held is held in a [`Tenure`], a time in which the lease never ended, and counts only while [`Fence::holds`] names the
//! same one.
//!
//! A pause of the whole machine which its clock does not see is beyond the fence. There the manager's commit permit decides.

use std::{collections::VecDeque, time::Duration};

use crate::membership::Moment;

/// A worker's lease, as it knows it.
#[derive(Debug)]
pub struct Fence {
    lease: Duration,
    /// Beats whose acknowledgement may come, by rising number, and when they were sent.
    outstanding: VecDeque<(u64, Moment)>,
    /// The last number that was sent.
    last: Option<u64>,
    /// When the latest beat was sent that was acknowledged.
    heard: Option<Moment>,
    ends: Option<Moment>,
    tenure: Tenure,
}

/// A time in which the lease never ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenure(pub u64);

/// Whether there is a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// What was taken in this tenure is still held.
    Yes(Tenure),
    /// There is none yet, or it has ended: nothing is held.
    No,
}

/// What an acknowledgement brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// The lease goes on, in the same tenure.
    Extended,
    /// There was no lease: one begins, and what was held before is void.
    Began(Tenure),
    /// Nothing: the beat is not remembered, or its lease would end no later than what there is, or has ended.
    Ignored,
}

/// So many beats are remembered until they are acknowledged: two minutes' worth, while a lease is some seconds.
pub const MOST_OUTSTANDING: usize = 64;

impl Fence {
    /// A fence without a lease; leases will be as long as this.
    #[must_use]
    pub const fn new(lease: Duration) -> Self {
        Self { lease, outstanding: VecDeque::new(), last: None, heard: None, ends: None, tenure: Tenure(0) }
    }

    /// From the next acknowledgement on a lease is so long.
    pub const fn set_lease(&mut self, lease: Duration) {
        self.lease = lease;
    }

    /// A beat is about to be sent; `now` was taken before. Numbers rise over all connections of a boot: one that does not is
    /// ignored, since its acknowledgement may be for what was sent earlier.
    pub fn sent(&mut self, number: u64, now: Moment) {
        if self.last.is_some_and(|last| number <= last) {
            return;
        }
        self.last = Some(number);
        if self.outstanding.len() == MOST_OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((number, now));
    }

    /// The manager has counted a beat; `now` was taken after its word came.
    pub fn acknowledged(&mut self, number: u64, now: Moment) -> Acknowledged {
        let Ok(at) = self.outstanding.binary_search_by_key(&number, |(number, _)| *number) else {
            return Acknowledged::Ignored;
        };
        let (_, sent) = self.outstanding[at];
        // Those before it would end earlier.
        self.outstanding.drain(..=at);
        self.heard = Some(sent);
        let ends = sent.plus(self.lease);
        if ends <= now || self.ends.is_some_and(|before| ends <= before) {
            return Acknowledged::Ignored;
        }
        let before = self.holds(now);
        self.ends = Some(ends);
        match before {
            Holds::Yes(_) => Acknowledged::Extended,
            Holds::No => {
                self.tenure = Tenure(self.tenure.0 + 1);
                Acknowledged::Began(self.tenure)
            }
        }
    }

    /// Whether there is a lease now, and in which tenure.
    #[must_use]
    pub fn holds(&self, now: Moment) -> Holds {
        match self.ends {
            Some(ends) if now < ends => Holds::Yes(self.tenure),
            _ => Holds::No,
        }
    }

    /// When the latest beat was sent of which it is known that the manager has counted it.
    #[must_use]
    pub const fn heard(&self) -> Option<Moment> {
        self.heard
    }

    /// When the lease ends, or has ended; nothing if there was none yet.
    #[must_use]
    pub const fn ends(&self) -> Option<Moment> {
        self.ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(12);

    fn at(secs: u64) -> Moment {
        Moment(Duration::from_secs(1000 + secs))
    }

    /// A fence whose first beat was acknowledged.
    fn leased() -> Fence {
        let mut fence = Fence::new(LEASE);
        fence.sent(1, at(0));
        assert_eq!(fence.acknowledged(1, at(1)), Acknowledged::Began(Tenure(1)));
        fence
    }

    #[test]
    fn the_lease_begins_with_an_acknowledgement_and_counts_from_the_sending() {
        let mut fence = Fence::new(LEASE);
        assert_eq!((fence.holds(at(0)), fence.ends()), (Holds::No, None));
        fence.sent(1, at(0));
        assert_eq!(fence.holds(at(0)), Holds::No);
        fence.acknowledged(1, at(5));
        assert_eq!((fence.heard(), fence.ends()), (Some(at(0)), Some(at(12))));
        assert_eq!([fence.holds(at(11)), fence.holds(at(12))], [Holds::Yes(Tenure(1)), Holds::No]);
    }

    #[test]
    fn what_is_acknowledged_in_time_extends_the_lease_and_never_shortens_it() {
        let mut fence = leased();
        for (number, secs) in [(2, 2), (3, 4), (4, 6)] {
            fence.sent(number, at(secs));
        }
        assert_eq!(fence.acknowledged(3, at(7)), Acknowledged::Extended);
        assert_eq!(fence.acknowledged(2, at(8)), Acknowledged::Ignored, "it came late");
        assert_eq!(fence.ends(), Some(at(16)));
        assert_eq!(fence.acknowledged(4, at(8)), Acknowledged::Extended);
        assert_eq!(fence.acknowledged(4, at(9)), Acknowledged::Ignored, "it came twice");
        assert_eq!(fence.ends(), Some(at(18)));
    }

    #[test]
    fn what_was_never_sent_gives_no_lease() {
        let mut fence = leased();
        assert_eq!(fence.acknowledged(9, at(2)), Acknowledged::Ignored);
        assert_eq!(fence.ends(), Some(at(12)));
    }

    #[test]
    fn a_number_that_is_sent_again_counts_from_the_first_time() {
        let mut fence = leased();
        fence.sent(2, at(2));
        fence.sent(2, at(8));
        fence.acknowledged(2, at(9));
        assert_eq!(fence.ends(), Some(at(14)));
        fence.sent(1, at(9));
        assert_eq!(fence.acknowledged(1, at(9)), Acknowledged::Ignored);
    }

    #[test]
    fn a_lease_that_ended_is_not_extended_and_another_begins() {
        let mut fence = leased();
        fence.sent(2, at(10));
        fence.sent(3, at(14));
        assert_eq!(fence.acknowledged(2, at(12)), Acknowledged::Began(Tenure(2)), "though sent in time");
        assert_eq!(fence.holds(at(21)), Holds::Yes(Tenure(2)));
        assert_eq!(fence.acknowledged(3, at(26)), Acknowledged::Ignored, "it is over before it is known");
        assert_eq!(fence.holds(at(26)), Holds::No);
    }

    #[test]
    fn only_the_latest_beats_are_remembered() {
        let mut fence = Fence::new(Duration::from_secs(1000));
        let sent = u64::try_from(MOST_OUTSTANDING).unwrap() + 1;
        (1..=sent).for_each(|number| fence.sent(number, at(number)));
        assert_eq!(fence.acknowledged(1, at(sent)), Acknowledged::Ignored);
        assert_eq!(fence.acknowledged(2, at(sent)), Acknowledged::Began(Tenure(1)));
        assert_eq!(fence.acknowledged(sent, at(sent)), Acknowledged::Extended);
        assert_eq!(fence.ends(), Some(at(sent + 1000)));
    }
}
