//! How well a site can be reached: how many connections it bears at once, and when to leave it alone. Pure.
//!
//! Connections that come to nothing halve what is tried at once; each burst that the site answers adds one again. A site that
//! answers nobody rests, for as long as its retry plan says of so many failures, and is then tried with one connection. What waits
//! for it meanwhile is not attempted: it costs nothing, and the first that gets through lets all others follow.

use std::time::Duration;

use base::{RetryPlan, Timestamp};

/// What a site has shown.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// Connections at once.
    allowed: usize,
    /// Failures since the last answer.
    failures: u32,
    rests_until: Option<Timestamp>,
    answered: Option<Timestamp>,
    /// What was wrong the last time.
    trouble: Option<Box<str>>,
}

/// What a delivery found of its site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Contact {
    /// It was not tried.
    None,
    /// It answered as a mail server does.
    Answered,
    /// No connection, no greeting, or a greeting that sends us away.
    Failed(String),
}

/// The longest rest: a site that is back is noticed within this time.
const LONGEST_REST: Duration = Duration::from_secs(600);
/// A site that answered within this time is not left alone for one connection that failed.
const LATELY: Duration = Duration::from_secs(30);
/// A site that answered within this time counts as one that answers.
const PROVEN_FOR: Duration = Duration::from_secs(600);

impl Reach {
    /// Nothing is known yet: all `most` connections may be tried.
    pub(crate) fn new(most: usize) -> Self {
        Self { allowed: most.max(1), failures: 0, rests_until: None, answered: None, trouble: None }
    }

    /// A delivery has ended; `spread` in 0..1 keeps sites from coming back together.
    pub(crate) fn heard(
        &mut self,
        contact: Contact,
        most: usize,
        plan: &RetryPlan,
        now: Timestamp,
        spread: f64,
    ) {
        match contact {
            Contact::None => {}
            Contact::Answered => {
                self.allowed = (self.allowed + 1).min(most.max(1));
                self.failures = 0;
                self.rests_until = None;
                self.answered = Some(now);
                self.trouble = None;
            }
            Contact::Failed(trouble) => {
                self.allowed = (self.allowed / 2).max(1);
                self.trouble = Some(trouble.into());
                if self.answered.is_some_and(|answered| now.since(answered) < LATELY) {
                    return;
                }
                // Connections that failed together are one failure.
                if self.rests_until.is_none_or(|until| until <= now) {
                    self.failures = self.failures.saturating_add(1);
                    let rest = plan.wait_after(self.failures, spread).min(LONGEST_REST);
                    self.rests_until = Some(now + rest);
                }
            }
        }
    }

    /// Connections that may be open at once now.
    pub(crate) fn allowed(&self, most: usize) -> usize {
        if self.failures > 0 { 1 } else { self.allowed.min(most.max(1)) }
    }

    /// Until when the site is left alone, if it is.
    pub(crate) fn rests(&self, now: Timestamp) -> Option<Timestamp> {
        // A clock that jumped back must not make it longer.
        self.rests_until.filter(|until| *until > now).map(|until| until.min(now + LONGEST_REST))
    }

    /// Ends the rest: somebody wants it tried now.
    pub(crate) fn wake(&mut self) {
        self.rests_until = None;
    }

    /// Whether it has answered lately, and not failed since.
    pub(crate) fn is_proven(&self, now: Timestamp) -> bool {
        self.failures == 0 && self.answered.is_some_and(|answered| now.since(answered) < PROVEN_FOR)
    }

    /// How often it failed since its last answer.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// What was wrong the last time, unless it has answered since.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether there is nothing worth remembering: of failures, what may come back meanwhile would begin at the shortest rest.
    pub(crate) fn is_forgettable(&self, now: Timestamp) -> bool {
        let is_over = |until: Timestamp| self.rests(now).is_none() && until + LONGEST_REST <= now;
        self.rests_until.is_none_or(is_over) && !self.is_proven(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);

    fn failed(reach: &mut Reach, now: Timestamp) {
        reach.heard(Contact::Failed("no answer".into()), 20, &RetryPlan::default(), now, 0.5);
    }

    fn answered(reach: &mut Reach, now: Timestamp) {
        reach.heard(Contact::Answered, 20, &RetryPlan::default(), now, 0.5);
    }

    #[test]
    fn a_site_that_answers_nobody_rests_longer_and_longer() {
        let mut reach = Reach::new(20);
        let mut now = NOW;
        let mut rests = Vec::new();
        for _ in 0..6 {
            for _ in 0..20 {
                failed(&mut reach, now);
            }
            let until = reach.rests(now).unwrap();
            rests.push(until.since(now).as_secs());
            now = until;
            assert_eq!((reach.rests(now), reach.allowed(20)), (None, 1));
        }
        assert_eq!(rests, [60, 300, 600, 600, 600, 600]);
        assert_eq!(reach.trouble(), Some("no answer"));
        answered(&mut reach, now);
        assert!(reach.is_proven(now) && reach.rests(now).is_none() && reach.trouble().is_none());
    }

    #[test]
    fn failures_among_answers_cost_connections_and_no_rest() {
        let mut reach = Reach::new(20);
        answered(&mut reach, NOW);
        failed(&mut reach, NOW);
        assert_eq!((reach.allowed(20), reach.rests(NOW)), (10, None));
        failed(&mut reach, NOW);
        assert_eq!(reach.allowed(20), 5);
        for _ in 0..30 {
            answered(&mut reach, NOW);
        }
        assert_eq!(reach.allowed(20), 20);
        assert_eq!(reach.allowed(3), 3, "a setting that was lowered holds at once");
    }

    #[test]
    fn what_answered_long_ago_is_not_proven() {
        let mut reach = Reach::new(5);
        assert!(!reach.is_proven(NOW));
        answered(&mut reach, NOW);
        assert!(reach.is_proven(NOW + Duration::from_secs(599)));
        let later = NOW + Duration::from_secs(601);
        assert!(!reach.is_proven(later) && reach.is_forgettable(later));
        failed(&mut reach, later);
        assert!(!reach.is_forgettable(later));
        reach.wake();
        assert_eq!((reach.rests(later), reach.allowed(5)), (None, 1));
    }
}
