//! What waits to be written, and when the writer takes it: the rule of the group commit.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use base::MessageId;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::frame::encode_ops;
use crate::{QueueError, op::Op, transaction::Transaction};

/// Tells whoever waits that what they gave is synced, or why it is not.
pub(super) type Waiter = oneshot::Sender<Result<(), QueueError>>;

/// A transaction on its way to the disk.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) ops: Vec<Op>,
    pub(super) encoded: Vec<u8>,
    pub(super) head: Bytes,
    pub(super) bodies: Vec<Bytes>,
    pub(super) haste: Haste,
    pub(super) waiters: Vec<Waiter>,
    pub(super) since: Instant,
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
            ops: transaction.ops,
            head: transaction.head.into(),
            bodies: transaction.bodies,
            haste,
            waiters: waiter.into_iter().collect(),
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
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct InboxState {
    queued: Vec<Queued>,
    bytes: usize,
    awaited: usize,
    disk: DiskIs,
    writer: WriterIs,
    ending: Option<QueueError>,
    /// Repeatable publications on their way, and who else waits for them.
    publishing: HashMap<MessageId, Vec<Waiter>>,
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
/// What nobody waits for is written after this time at the latest: within [`crate::CONCLUDED_WITHIN`], with a margin.
const GATHERED_FOR: Duration = Duration::from_millis(4);

impl Inbox {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock()
    }

    /// Puts a transaction in; on failure says so to those who wait for it.
    pub(super) fn put(&self, queued: Queued) -> Result<(), QueueError> {
        self.put_locked(&mut self.state.lock(), queued)
    }

    /// The same, when the inbox is locked already.
    pub(super) fn put_locked(&self, state: &mut InboxState, queued: Queued) -> Result<(), QueueError> {
        if let Some(error) = &state.ending {
            return Err(error.clone());
        }
        let awaited = queued.haste == Haste::Awaited;
        state.bytes += queued.size();
        state.awaited += usize::from(awaited);
        state.queued.push(queued);
        let wake = match state.writer {
            WriterIs::Working => false,
            WriterIs::Resting => true,
            WriterIs::Gathering => {
                state.bytes >= ENOUGH || (awaited && state.awaited == 1 && state.disk == DiskIs::Idle)
            }
        };
        if wake {
            state.writer = WriterIs::Working;
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Takes all that waits, when its time has come. Returns nothing once the spool ends and nothing is left.
    pub(super) fn take(&self) -> Option<Vec<Queued>> {
        let mut state = self.state.lock();
        loop {
            let oldest = state.queued.first().map(|queued| queued.since + GATHERED_FOR);
            let now = Instant::now();
            let ready = match oldest {
                None if state.ending.is_some() => return None,
                None => false,
                Some(deadline) => {
                    deadline <= now
                        || state.ending.is_some()
                        || state.bytes >= ENOUGH
                        || (state.awaited > 0 && state.disk == DiskIs::Idle)
                }
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
            match oldest {
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
        if state.writer == WriterIs::Gathering && state.awaited > 0 {
            state.writer = WriterIs::Working;
            self.changed.notify_one();
        }
    }

    /// Takes nothing more; what waits is still written, unless the disk has failed.
    pub(super) fn end(&self, why: QueueError) {
        let mut state = self.state.lock();
        state.ending.get_or_insert(why);
        self.changed.notify_one();
    }
}

impl InboxState {
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

    /// A repeatable publication is stored, or has failed; returns those who joined it.
    pub(super) fn published(&mut self, message: MessageId) -> Vec<Waiter> {
        self.publishing.remove(&message).unwrap_or_default()
    }
}
