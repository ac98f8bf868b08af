//! The syncer: makes what was written survive a loss of power, then lets it take effect.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use base::MessageId;
use parking_lot::{Condvar, Mutex};

use super::{Shared, inbox::Haste, repeatable, writer::Written};
use crate::QueueError;

/// Where written frames wait to be synced.
#[derive(Debug, Default)]
pub(super) struct Syncer {
    state: Mutex<SyncerState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SyncerState {
    written: Option<Written>,
    ended: bool,
}

/// What nobody waits for is synced after this time at the latest: within [`crate::SYNCED_WITHIN`], with a margin.
const GATHERED_FOR: Duration = Duration::from_millis(40);

impl Syncer {
    /// Takes over what was written.
    pub(super) fn hand(&self, mut written: Written) {
        if written.segments.is_empty() {
            return;
        }
        written.since.get_or_insert_with(Instant::now);
        let mut state = self.state.lock();
        // The first has a deadline to wait for; whatever else comes unawaited waits with it.
        let wake = state.written.is_none() || written.haste == Some(Haste::Awaited);
        match &mut state.written {
            Some(earlier) => earlier.join(written),
            none => *none = Some(written),
        }
        if wake {
            self.changed.notify_one();
        }
    }

    /// Nothing more will come.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_one();
    }

    /// What is to be synced now; nothing once all has ended.
    fn take(&self) -> Option<Written> {
        let mut state = self.state.lock();
        loop {
            let deadline = match &state.written {
                Some(_) if state.ended => return state.written.take(),
                Some(written) if written.haste == Some(Haste::Awaited) => return state.written.take(),
                Some(written) => Some(written.since.unwrap_or_else(Instant::now) + GATHERED_FOR),
                None if state.ended => return None,
                None => None,
            };
            match deadline {
                Some(deadline) if deadline <= Instant::now() => return state.written.take(),
                Some(deadline) => {
                    self.changed.wait_until(&mut state, deadline);
                }
                None => self.changed.wait(&mut state),
            }
        }
    }
}

/// Syncs until the writer has ended.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut failed = None;
    while let Some(written) = shared.syncer.take() {
        if let Some(error) = &failed {
            shared.fail(error, written.promise);
            continue;
        }
        match written.segments.iter().try_for_each(|segment| segment.file.sync()) {
            Ok(()) => {
                shared.synced.fetch_max(written.last, Ordering::SeqCst);
                if written.haste == Some(Haste::Awaited) {
                    shared.inbox.disk_is_idle();
                }
                take_effect(shared, written);
            }
            // A failed sync says nothing about what is on the disk, and trying again would only seem to work.
            Err(error) => {
                let error = QueueError::from(error);
                shared.fail(&error, written.promise);
                failed = Some(error);
            }
        }
    }
    shared.tales.close();
    shared.collector.end();
}

fn take_effect(shared: &Shared, written: Written) {
    let Written { applied, tales, mut promise, last, .. } = written;
    let repeatable: Vec<MessageId> = applied.iter().filter_map(|applied| repeatable(&applied.op)).collect();
    let effects = shared.ledger.apply(applied);
    shared.tales.add(tales, last);
    for message in repeatable {
        promise.add_waiters(shared.inbox.lock().published(message));
    }
    promise.keep();
    shared.collector.ended(effects.ended);
}
