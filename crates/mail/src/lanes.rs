//! Lanes: domains that mail waits for, and where each one's mail goes. Pure; it is told the time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base::Timestamp;
use queue::{Arrival, Ticket};

use crate::{
    fair::{Account, Fair},
    resolver::NoWay,
    schedule::seconds,
    site::Ready,
};

/// A lane that nobody used for this long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// An answer counts at least this long, or those that waited for it would ask again.
const SHORTEST: Duration = Duration::from_secs(5);

/// All lanes.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    by_domain: HashMap<Arc<str>, Lane>,
    /// Domains that are to be looked up, in turn by who caused it first.
    to_ask: Fair<Arc<str>>,
    asking: usize,
}

#[derive(Debug)]
pub(crate) struct Lane {
    state: State,
    used: Timestamp,
    warn_after: WarnAfter,
}

#[derive(Debug)]
enum State {
    Unknown,
    /// Its hosts are being looked up, or will be; these wait for that.
    Asking(Vec<Ready>, Asked),
    To {
        site: usize,
        until: Option<Timestamp>,
    },
    Nowhere {
        why: NoWay,
        until: Timestamp,
    },
}

/// Whether somebody has been asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Yes,
    /// Not yet, and for this account it was wanted last.
    For(Account),
}

/// Where a lane's mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goes {
    To(usize),
    Nowhere(NoWay),
    Unknown,
}

/// After how long the sender of what waits is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WarnAfter(Duration);

impl WarnAfter {
    /// When a work is to be looked at though it has not gone, in seconds since 1970.
    pub(crate) fn of(self, arrival: &Arrival, now: Timestamp) -> u32 {
        let warn = arrival.first_due + self.0;
        let is_ahead = !self.0.is_zero() && warn > now;
        let look_at = if is_ahead { arrival.expires.min(warn) } else { arrival.expires };
        // The second in which it is over.
        seconds(look_at).saturating_add(1)
    }
}

impl Lane {
    /// Where its mail goes, as far as that is known.
    pub(crate) fn goes(&self, now: Timestamp) -> Goes {
        match &self.state {
            State::To { site, until } if until.is_none_or(|until| until > now) => Goes::To(*site),
            State::Nowhere { why, until } if *until > now => Goes::Nowhere(why.clone()),
            _ => Goes::Unknown,
        }
    }

    pub(crate) fn warn_after(&self) -> WarnAfter {
        self.warn_after
    }

    pub(crate) fn warned_after(&mut self, after: Duration) -> WarnAfter {
        self.warn_after = WarnAfter(after);
        self.warn_after
    }
}

impl Lanes {
    /// The lane of a domain, and whether it is new.
    pub(crate) fn lane(&mut self, domain: &Arc<str>, now: Timestamp) -> (&mut Lane, bool) {
        let is_new = !self.by_domain.contains_key(domain);
        if is_new {
            let lane = Lane { state: State::Unknown, used: now, warn_after: WarnAfter(Duration::ZERO) };
            self.by_domain.insert(domain.clone(), lane);
        }
        let lane = self.by_domain.get_mut(domain).expect("it was just found or made");
        lane.used = now;
        (lane, is_new)
    }

    /// A work waits until its domain's hosts are known.
    pub(crate) fn ask(&mut self, domain: &Arc<str>, account: Account, ready: Ready) {
        let Some(lane) = self.by_domain.get_mut(domain) else { return };
        let for_account = Asked::For(account);
        match &mut lane.state {
            State::Asking(waiting, asked) => {
                waiting.push(ready);
                if *asked == Asked::Yes || *asked == for_account {
                    return;
                }
                *asked = for_account;
            }
            state => *state = State::Asking(vec![ready], for_account),
        }
        // It may stand there for others already, and is asked for in the first one's turn.
        self.to_ask.push(account, domain.clone());
    }

    /// Domains that are to be looked up now, so that `most` are at once.
    pub(crate) fn next_to_ask(&mut self, most: usize) -> Vec<Arc<str>> {
        let mut domains = Vec::new();
        while self.asking < most
            && let Some(domain) = self.to_ask.pop()
        {
            let lane = self.by_domain.get_mut(&domain);
            if let Some(Lane { state: State::Asking(_, asked @ Asked::For(_)), .. }) = lane {
                *asked = Asked::Yes;
                self.asking += 1;
                domains.push(domain);
            }
        }
        domains
    }

    /// An answer has come; returns the works that waited for it.
    pub(crate) fn answered(&mut self, domain: &str) -> Vec<Ticket> {
        self.asking = self.asking.saturating_sub(1);
        let Some(lane) = self.by_domain.get_mut(domain) else { return Vec::new() };
        match std::mem::replace(&mut lane.state, State::Unknown) {
            State::Asking(waiting, _) => waiting.into_iter().map(|ready| ready.ticket).collect(),
            other => {
                lane.state = other;
                Vec::new()
            }
        }
    }

    pub(crate) fn goes_to(&mut self, domain: &str, site: usize, until: Option<Timestamp>, now: Timestamp) {
        if let Some(lane) = self.by_domain.get_mut(domain) {
            lane.state = State::To { site, until };
            lane.used = now;
        }
    }

    pub(crate) fn goes_nowhere(&mut self, domain: &str, why: NoWay, until: Timestamp, now: Timestamp) {
        if let Some(lane) = self.by_domain.get_mut(domain) {
            // Those that wait for the answer are to find it, however short it counts.
            lane.state = State::Nowhere { why, until: until.max(now + SHORTEST) };
        }
    }

    /// Takes out what waits for an answer and is to be looked at by now; returns when the next one is, in seconds since 1970.
    pub(crate) fn take_overdue(&mut self, now_seconds: u32, into: &mut Vec<Ticket>) -> Option<u32> {
        let mut next = None;
        for lane in self.by_domain.values_mut() {
            let State::Asking(waiting, _) = &mut lane.state else { continue };
            let overdue = waiting.extract_if(.., |ready| ready.look_at <= now_seconds);
            into.extend(overdue.map(|ready| ready.ticket));
            next = next.into_iter().chain(waiting.iter().map(|ready| ready.look_at)).min();
        }
        next
    }

    /// The site that a domain's mail goes to.
    pub(crate) fn site_of(&self, domain: &str) -> Option<usize> {
        match self.by_domain.get(domain)?.state {
            State::To { site, .. } => Some(site),
            _ => None,
        }
    }

    pub(crate) fn is_asking(&self, domain: &str) -> bool {
        self.by_domain.get(domain).is_some_and(|lane| matches!(lane.state, State::Asking(..)))
    }

    /// Works that wait for an answer.
    pub(crate) fn waiting(&self) -> usize {
        let waiting = self.by_domain.values().map(|lane| match &lane.state {
            State::Asking(waiting, _) => waiting.len(),
            _ => 0,
        });
        waiting.sum()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_domain.len()
    }

    /// Everything that is known is to be decided anew; those who are asked still answer.
    pub(crate) fn forget_all(&mut self) {
        self.by_domain.retain(|_, lane| matches!(lane.state, State::Asking(..)));
    }

    /// Forgets lanes that go to sites which are known no more, and those that nobody used lately where nothing waits. `waits` tells
    /// whether something waits at a site, or that it is not known.
    pub(crate) fn forget(&mut self, now: Timestamp, waits: impl Fn(usize) -> Option<bool>) {
        self.by_domain.retain(|_, lane| match lane.state {
            State::Asking(..) => true,
            State::To { site, .. } => {
                waits(site).is_some_and(|waits| waits || now.since(lane.used) < FORGOTTEN_AFTER)
            }
            State::Unknown | State::Nowhere { .. } => now.since(lane.used) < FORGOTTEN_AFTER,
        });
    }
}
