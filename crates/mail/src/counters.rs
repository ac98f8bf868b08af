//! What the node counts since its start.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    burst::Tried,
    envelope::Became,
    outcome::{Verdict, verdict},
};

/// Counters, each a number of recipients unless it says otherwise. Where works have their home, what is counted of recipients is
/// counted of all nodes; a worker counts what it took in and what its own attempts came to.
#[derive(Debug, Default)]
pub struct Counters {
    /// Accepted.
    pub accepted: Counter,
    /// Delivered.
    pub delivered: Counter,
    /// Deferred, once for each attempt that did so.
    pub deferred: Counter,
    /// Failed for good.
    pub bounced: Counter,
    /// Too old.
    pub expired: Counter,
    /// Refused at the door.
    pub rejected: Counter,
    /// Messages accepted.
    pub messages: Counter,
    /// Sessions taken in.
    pub sessions: Counter,
    /// Sessions turned away because there were too many.
    pub turned_away: Counter,
    /// Connections opened to next hops.
    pub connects: Counter,
    /// Connections that could not be opened.
    pub connect_failures: Counter,
    /// Records of the message log that were too old or too many.
    pub forgotten: Counter,
}

/// The recipients' numbers at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Accepted.
    pub accepted: u64,
    /// Delivered.
    pub delivered: u64,
    /// Deferred, once for each attempt that did so.
    pub deferred: u64,
    /// Failed for good.
    pub bounced: u64,
    /// Too old.
    pub expired: u64,
}

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// What it is now.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// Counts what became of a recipient.
    pub(crate) fn became(&self, became: Became) {
        let counter = match became {
            Became::Delivered => &self.delivered,
            Became::Deferred { .. } => &self.deferred,
            Became::Failed => &self.bounced,
            Became::Expired => &self.expired,
        };
        counter.add(1);
    }

    /// Counts what an attempt came to whose works have their home elsewhere. What follows from it is decided there.
    pub(crate) fn tried(&self, tried: &Tried) {
        if tried.is_exhausted() {
            return;
        }
        for (_, result) in &tried.results {
            let counter = match verdict(result) {
                Verdict::Delivered => &self.delivered,
                Verdict::Failed => &self.bounced,
                Verdict::NotNow => &self.deferred,
            };
            counter.add(1);
        }
    }

    /// The recipients' numbers now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            accepted: self.accepted.now(),
            delivered: self.delivered.now(),
            deferred: self.deferred.now(),
            bounced: self.bounced.now(),
            expired: self.expired.now(),
        }
    }
}
