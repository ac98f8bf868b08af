//! What waits to be written, and when the writer takes it: the rule of the group commit.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use base::MessageId;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{
    collector::RESERVE,
    frame::encode_ops,
    promise::{Promise, Waiter},
};
use crate::{
    QueueError,
    op::{Op, Origin},
    transaction::Transaction,
};

/// A transaction on its way to the disk.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) ops: Vec<Op>,
    pub(super) encoded: Vec<u8>,
    pub(super) head: Bytes,
    pub(super) bodies: Vec<Bytes>,
    pub(super) haste: Haste,
    pub(super) claim: Claim,
    pub(super) promise: Promise,
    pub(super) since: Instant,
}

/// What it may use of the segments that are kept ready, when the disk gives no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nothing of the reserve: it brings something new.
    New,
    /// All but the last: it copies forward, which frees more than it takes.
    Copy,
    /// All: it lets mail end.
    End,
}

impl Claim {
    fn of(ops: &[Op]) -> Self {
        match ops.first() {
            Some(Op::Publish(publish)) if publish.origin == Origin::New => Self::New,
            Some(Op::Publish(_) | Op::Untold(_)) => Self::Copy,
            _ => Self::End,
        }
    }

    /// How many segments must stay ready when it is written.
    pub(super) fn leaves(self) -> usize {
        match self {
            Self::New => RESERVE,
            Self::Copy => RESERVE - 1,
            Self::End => 0,
        }
    }
}

/// Whether anybody waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// Somebody waits.
    Awaited,
    /// Nobody does: it may wait for company.
    Unawaited,
}

impl Queued {
    pub(super) fn new(transaction: Transaction, haste: Haste, waiter: Option<Waiter>) -> Self {
        Self {
            encoded: encode_ops(&transaction.ops),
            claim: Claim::of(&transaction.ops),
            ops: transaction.ops,
            head: transaction.head.into(),
            bodies: transaction.bodies,
            haste,
            promise: Promise::new(waiter, transaction.files),
            since: Instant::now(),
        }
    }

    /// Bytes it will take in a segment and its footer, a little more at most.
    pub(super) fn size(&self) -> usize {
        let bodies: usize = self.bodies.iter().map(Bytes::len).sum();
        2 * (super::frame::HEADER + self.encoded.len()) + self.head.len() + bodies + 16
    }
}

/// Where transactions wait for the writer.
///
/// It has no bound of its own: what is awaited is bounded by those who wait, what is not by the leases there are. None should be
/// taken while much of it waits for room on a full disk ([`Queue::may_begin`](crate::Queue::may_begin)).
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    changed: Condvar,
    /// Bytes that wait for room on a full disk.
    postponed: AtomicUsize,
}

#[derive(Debug, Default)]
pub(super) struct InboxState {
    queued: Vec<Queued>,
    bytes: usize,
    awaited: usize,
    disk: DiskIs,
    writer: WriterIs,
    /// How many have more to put in.
    gathering: usize,
    ending: Ending,
    /// Repeatable publications on their way, and who else waits for them.
    publishing: HashMap<MessageId, Vec<Waiter>>,
}

/// Whether the inbox takes anything.
#[derive(Clone, Debug, Default)]
enum Ending {
    #[default]
    No,
    /// Nothing more, but what waits is still written.
    Closing,
    /// Nothing at all: the disk has failed.
    Failed(QueueError),
}

impl Ending {
    /// Why nothing more is taken, if it is so.
    fn taking(&self) -> Result<(), QueueError> {
        match self {
            Self::No => Ok(()),
            Self::Closing => Err(QueueError::Closed),
            Self::Failed(error) => Err(error.clone()),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DiskIs {
    #[default]
    Idle,
    Syncing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum WriterIs {
    #[default]
    Working,
    /// Waits for anything at all.
    Resting,
    /// Waits for a time to pass, for the disk, or for something awaited.
    Gathering,
}

/// While the disk syncs, this many bytes are gathered before they are written, so that it is told once.
const ENOUGH: usize = 512 << 10;
/// With more bytes than this waiting for room on a full disk, nothing more should be begun.
const POSTPONED: usize = 1 << 20;
/// What nobody waits for is written after this time at the latest: within [`crate::CONCLUDED_WITHIN`], with a margin.
const GATHERED_FOR: Duration = Duration::from_millis(4);

impl Inbox {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), postponed: AtomicUsize::new(0) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock()
    }

    /// Puts a transaction in.
    pub(super) fn put(&self, queued: Queued) -> Result<(), QueueError> {
        self.put_locked(&mut self.state.lock(), queued)
    }

    /// The same, when the inbox is locked already.
    pub(super) fn put_locked(&self, state: &mut InboxState, queued: Queued) -> Result<(), QueueError> {
        state.ending.taking()?;
        state.bytes += queued.size();
        state.awaited += usize::from(queued.haste == Haste::Awaited);
        state.queued.push(queued);
        self.wake_if_wanted(state);
        Ok(())
    }

    /// Until this is dropped, whoever puts something in has more to put in.
    pub(super) fn gather(&self) -> Gathering<'_> {
        self.state.lock().gathering += 1;
        Gathering(self)
    }

    /// Wakes the writer, if there is something for it to do.
    fn wake_if_wanted(&self, state: &mut InboxState) {
        let wake = match state.writer {
            WriterIs::Working => false,
            // It waits for those who have more to put in, but not for long.
            WriterIs::Resting => !state.queued.is_empty(),
            WriterIs::Gathering => state.bytes >= ENOUGH || state.is_wanted(),
        };
        if wake {
            state.writer = WriterIs::Working;
            self.changed.notify_one();
        }
    }

    /// Takes all that waits, when its time has come. Returns nothing once the spool ends and nothing is left.
    pub(super) fn take(&self) -> Option<Vec<Queued>> {
        let mut state = self.state.lock();
        loop {
            let oldest = state.queued.first().map(|queued| queued.since + GATHERED_FOR);
            let now = Instant::now();
            let ends = !matches!(state.ending, Ending::No);
            let ready = match oldest {
                None if ends => return None,
                None => false,
                Some(deadline) => deadline <= now || ends || state.bytes >= ENOUGH || state.is_wanted(),
            };
            if ready {
                state.writer = WriterIs::Working;
                state.bytes = 0;
                if state.awaited > 0 {
                    state.disk = DiskIs::Syncing;
                }
                state.awaited = 0;
                return Some(std::mem::take(&mut state.queued));
            }
            // The end of a sync wakes the writer: while there is one, whoever comes need not. But what nobody waits for must not wait
            // for a slow disk.
            let until = oldest.or_else(|| (state.disk == DiskIs::Syncing).then(|| now + GATHERED_FOR));
            match until {
                None => {
                    state.writer = WriterIs::Resting;
                    self.changed.wait(&mut state);
                }
                Some(deadline) => {
                    state.writer = WriterIs::Gathering;
                    self.changed.wait_until(&mut state, deadline);
                }
            }
        }
    }

    /// The disk has synced what it was given.
    pub(super) fn disk_is_idle(&self) {
        let mut state = self.state.lock();
        state.disk = DiskIs::Idle;
        self.wake_if_wanted(&mut state);
    }

    /// Why nothing more is taken, if it is so.
    pub(super) fn health(&self) -> Result<(), QueueError> {
        self.state.lock().ending.taking()
    }

    /// Puts back, before all else, what could not be written now and is to be tried again after `pause`. Whoever is
    /// closing the queue does not wait for that: it is given up, as it was promised to nobody.
    pub(super) fn put_back(&self, mut postponed: Vec<Queued>, pause: Duration) {
        let mut state = self.state.lock();
        if !matches!(state.ending, Ending::No) {
            tracing::warn!(count = postponed.len(), "what could not be written to the full disk is given up");
            return;
        }
        // Their bytes are not counted: they do not make the writer hurry.
        for queued in &mut postponed {
            queued.since = Instant::now() + pause;
        }
        postponed.append(&mut state.queued);
        state.queued = postponed;
    }

    /// So many bytes had to be postponed when the writer last wrote.
    pub(super) fn postponed(&self, bytes: usize) {
        self.postponed.store(bytes, Ordering::Relaxed);
    }

    /// Whether so much waits for room that nothing should be begun that adds to it.
    pub(super) fn is_behind(&self) -> bool {
        self.postponed.load(Ordering::Relaxed) > POSTPONED
    }

    /// Whether the disk has failed.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.state.lock().ending, Ending::Failed(_))
    }

    /// Takes nothing more; what waits is still written.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        if matches!(state.ending, Ending::No) {
            state.ending = Ending::Closing;
        }
        self.changed.notify_one();
    }

    /// Takes nothing more, and what waits is not written. Returns what is owed for that.
    pub(super) fn fail(&self, error: &QueueError) -> Promise {
        let mut state = self.state.lock();
        if !matches!(state.ending, Ending::Failed(_)) {
            state.ending = Ending::Failed(error.clone());
        }
        self.changed.notify_one();
        let mut owed = Promise::default();
        for queued in state.queued.drain(..) {
            owed.join(queued.promise);
        }
        for (_, waiters) in state.publishing.drain() {
            owed.add_waiters(waiters);
        }
        owed
    }
}

/// Somebody who has more to put in.
#[derive(Debug)]
pub(super) struct Gathering<'a>(&'a Inbox);

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.gathering -= 1;
        self.0.wake_if_wanted(&mut state);
    }
}

impl InboxState {
    /// Whether somebody waits for what is here, the disk could sync it, and nobody has more.
    fn is_wanted(&self) -> bool {
        self.awaited > 0 && self.disk == DiskIs::Idle && self.gathering == 0
    }

    /// Joins whoever publishes this id already, if somebody does; gives the waiter back if not, and notes the id.
    pub(super) fn join_publishing(&mut self, message: MessageId, waiter: Waiter) -> Option<Waiter> {
        match self.publishing.get_mut(&message) {
            Some(others) => {
                others.push(waiter);
                None
            }
            None => {
                self.publishing.insert(message, Vec::new());
                Some(waiter)
            }
        }
    }

    /// Whether somebody publishes this id.
    pub(super) fn is_publishing(&self, message: MessageId) -> bool {
        self.publishing.contains_key(&message)
    }

    /// Notes that this id is being published.
    pub(super) fn publishes(&mut self, message: MessageId) {
        self.publishing.entry(message).or_default();
    }

    /// A repeatable publication is stored, or has failed; returns those who joined it.
    pub(super) fn published(&mut self, message: MessageId) -> Vec<Waiter> {
        self.publishing.remove(&message).unwrap_or_default()
    }
}
