//! Retention: what of the message log is too old or too much goes, a little at a time, between what is written.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base::Clock;
use store::records::{Because, Records};

use crate::{Counters, Live};

/// So many records are looked at in one step, which takes about 10 ms.
const STEP: usize = 2000;
/// Where there was nothing to forget, this is how long nobody looks again.
const PAUSE: Duration = Duration::from_secs(10);

/// Forgets records.
#[derive(Debug)]
pub(crate) struct Retention {
    config: Live,
    clock: Clock,
    counters: Arc<Counters>,
    next: Instant,
    because: Because,
}

impl Retention {
    pub(crate) fn new(config: Live, clock: Clock, counters: Arc<Counters>) -> Self {
        Self { config, clock, counters, next: Instant::now(), because: Because::Old }
    }

    /// Takes one step, if there may be something to forget. `written` records have been written since the last one: so
    /// many can be forgotten at least, so that a log that is full does not grow.
    pub(crate) fn step(&mut self, records: &mut Records, written: usize) {
        if Instant::now() < self.next {
            return;
        }
        let most = STEP.max(2 * written);
        let forgotten = records.forget(self.config.now().records, self.clock.now(), most);
        match forgotten.and_then(|forgotten| records.give_back().map(|()| forgotten)) {
            Ok(forgotten) => {
                self.counters.forgotten.add(forgotten.records);
                // The operator is told once, until there is room again.
                if forgotten.because == Because::Large && self.because == Because::Old {
                    tracing::warn!("the message log is larger than records.max-size: its oldest records go");
                }
                self.because = forgotten.because;
                if forgotten.looked_at < most {
                    self.next = Instant::now() + PAUSE;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "old records cannot be forgotten; it is tried again");
                self.next = Instant::now() + PAUSE;
            }
        }
    }
}
