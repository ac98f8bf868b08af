//! Throttles: how often something may happen to one site. Pure; they are told the time.
//!
//! The generic cell rate algorithm (GCRA, ITU-T I.371, appendix I) in nanoseconds: one number says when the next event would be due if all
//! kept to the rate. What has happened is charged even where it was not allowed for (a message was larger than thought, a
//! connection had to be opened anew), so that the rate holds over time.

use std::time::Duration;

use base::Timestamp;

/// A rate, and how much of it is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Throttle {
    per_minute: u64,
    /// When all that happened would be over at the rate, in nanoseconds since 1970.
    used_until: i128,
}

const MINUTE: i128 = 60_000_000_000;
/// What may happen at once: as much as comes to this long, but one at least.
const AT_ONCE: i128 = 1_000_000_000;
/// No debt is carried on for longer than this: after it, a clock that jumped back blocks nobody.
const LONGEST_DEBT: i128 = 60 * MINUTE;

impl Throttle {
    pub(crate) fn new(per_minute: u64) -> Self {
        Self { per_minute: per_minute.max(1), used_until: 0 }
    }

    /// Whether all may happen that may ever happen at once.
    pub(crate) fn is_unused(&self, now: Timestamp) -> bool {
        self.used_until <= nanos(now)
    }

    /// How many may happen now.
    pub(crate) fn allowed(&self, now: Timestamp) -> u64 {
        let now = nanos(now);
        let used = (self.used_until - now).clamp(0, LONGEST_DEBT);
        let each = self.each();
        let room = AT_ONCE.max(each) - used;
        u64::try_from(room.max(0) / each).unwrap_or(u64::MAX)
    }

    /// So many have happened, or are about to.
    pub(crate) fn charge(&mut self, count: u64, now: Timestamp) {
        let now = nanos(now);
        let from = self.used_until.clamp(now, now + LONGEST_DEBT);
        self.used_until = from + i128::from(count) * MINUTE / i128::from(self.per_minute);
    }

    /// So many that were charged did not happen.
    pub(crate) fn refund(&mut self, count: u64) {
        self.used_until -= i128::from(count) * MINUTE / i128::from(self.per_minute);
    }

    /// When the next one may happen, if that is not now.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        if self.allowed(now) > 0 {
            return None;
        }
        let each = self.each();
        let used = (self.used_until - nanos(now)).clamp(0, LONGEST_DEBT);
        let wait = u64::try_from(used + each - AT_ONCE.max(each)).unwrap_or(0);
        Some(now + Duration::from_nanos(wait) + Duration::from_micros(1))
    }

    /// When what has happened beyond what was allowed is made up for, if there is such a debt.
    pub(crate) fn in_debt_until(&self, now: Timestamp) -> Option<Timestamp> {
        let used = (self.used_until - nanos(now)).clamp(0, LONGEST_DEBT);
        let debt = u64::try_from(used - AT_ONCE.max(self.each())).unwrap_or(0);
        (debt > 0).then(|| now + Duration::from_nanos(debt) + Duration::from_micros(1))
    }

    fn each(&self) -> i128 {
        (MINUTE / i128::from(self.per_minute)).max(1)
    }
}

fn nanos(time: Timestamp) -> i128 {
    i128::from(time.micros()) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

    fn after(millis: u64) -> Timestamp {
        NOW + Duration::from_millis(millis)
    }

    #[test]
    fn a_second_s_worth_may_happen_at_once_and_then_one_by_one() {
        let mut five_a_second = Throttle::new(300);
        assert_eq!(five_a_second.allowed(NOW), 5);
        five_a_second.charge(5, NOW);
        assert_eq!(five_a_second.allowed(NOW), 0);
        let next = five_a_second.next(NOW).unwrap();
        assert!(next > after(199) && next <= after(201), "{next}");
        assert_eq!(five_a_second.allowed(next), 1);
        assert_eq!(five_a_second.allowed(after(10_000)), 5, "what was not used is not saved up");
    }

    #[test]
    fn a_slow_rate_lets_one_through_at_once() {
        let mut one_a_minute = Throttle::new(1);
        assert_eq!(one_a_minute.allowed(NOW), 1);
        one_a_minute.charge(1, NOW);
        assert_eq!(one_a_minute.allowed(after(59_000)), 0);
        assert_eq!(one_a_minute.allowed(after(60_001)), 1);
    }

    #[test]
    fn what_happened_unasked_is_a_debt_and_what_did_not_is_refunded() {
        let mut bytes = Throttle::new(60_000);
        bytes.charge(3000, NOW);
        assert_eq!(bytes.allowed(after(1000)), 0);
        let made_up_for = bytes.in_debt_until(after(1000)).unwrap();
        assert!(made_up_for > after(1999) && made_up_for < after(2001), "{made_up_for}");
        let next = bytes.next(after(1000)).unwrap();
        assert!(next > after(1999) && next < after(2010), "{next}");
        bytes.refund(2500);
        assert!(bytes.in_debt_until(after(1000)).is_none() && bytes.allowed(after(1000)) > 0);
    }

    #[test]
    fn over_time_the_rate_is_kept_exactly() {
        let mut throttle = Throttle::new(600);
        let mut happened = 0;
        for step in 0..60_000 {
            let now = after(step);
            let some = throttle.allowed(now).min(3);
            throttle.charge(some, now);
            happened += some;
        }
        assert!((600..=610).contains(&happened), "{happened} in a minute at 600 a minute");
    }

    #[test]
    fn a_clock_that_jumps_back_blocks_nobody_for_long() {
        let mut throttle = Throttle::new(60);
        throttle.charge(1, after(86_400_000));
        let next = throttle.next(NOW).unwrap();
        assert!(next <= NOW + Duration::from_secs(3601), "{next}");
    }
}
