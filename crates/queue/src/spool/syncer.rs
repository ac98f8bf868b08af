//! The syncer: makes what was written survive a loss of power, then lets it take effect.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{Shared, inbox::Haste, writer::Written};
use crate::{QueueError, Repeat, ledger::Applied, op::Op};

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
    waiting: bool,
}

/// What nobody waits for is synced after this time at the latest: within [`crate::SYNCED_WITHIN`], with a margin.
const GATHERED_FOR: Duration = Duration::from_millis(40);

impl Syncer {
    /// Takes over what was written.
    pub(super) fn hand(&self, written: Written) {
        let mut state = self.state.lock();
        let awaited = written.haste == Some(Haste::Awaited);
        match &mut state.written {
            Some(earlier) => earlier.join(written),
            none => {
                let wake_for_deadline = none.insert(written).since.is_some();
                if wake_for_deadline && !awaited {
                    self.changed.notify_one();
                }
            }
        }
        if awaited && state.waiting {
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
            state.waiting = true;
            match deadline {
                Some(deadline) if deadline <= Instant::now() => {
                    state.waiting = false;
                    return state.written.take();
                }
                Some(deadline) => {
                    self.changed.wait_until(&mut state, deadline);
                }
                None => self.changed.wait(&mut state),
            }
            state.waiting = false;
        }
    }
}

/// Syncs until the writer has ended.
pub(super) fn run(shared: &Arc<Shared>) {
    while let Some(written) = shared.syncer.take() {
        let awaited = written.haste == Some(Haste::Awaited);
        match written.segments.iter().try_for_each(|segment| segment.file.sync()) {
            Ok(()) => {
                shared.synced.fetch_max(written.last, Ordering::SeqCst);
                if awaited {
                    shared.inbox.disk_is_idle();
                }
                take_effect(shared, written);
            }
            // A failed sync says nothing about what is on the disk, and trying again would only seem to work.
            Err(error) => shared.fail(&QueueError::from(error), written.waiters),
        }
    }
    shared.tales.close();
    shared.collector.end();
}

fn take_effect(shared: &Shared, written: Written) {
    let repeatable = |applied: &&Applied| matches!(&applied.op, Op::Publish(publish) if publish.repeat == Repeat::Possible);
    let repeatable: Vec<Op> =
        written.applied.iter().filter(repeatable).map(|applied| applied.op.clone()).collect();
    let effects = shared.ledger.apply(written.applied);
    shared.tales.add(written.tales, written.last);
    let joined = repeatable.iter().flat_map(|op| shared.joined(op));
    for waiter in written.waiters.into_iter().chain(joined) {
        // Whoever gave up waiting does not need the answer.
        let _ = waiter.send(Ok(()));
    }
    shared.collector.ended(effects.ended);
}
