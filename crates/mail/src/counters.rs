//! What the node counts since its start.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters, each a number of recipients unless it says otherwise.
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
