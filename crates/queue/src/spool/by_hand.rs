//! What operators do to works: hold, release, reschedule, cancel; and writing for somebody who waits.

use std::sync::Arc;

use base::{Timestamp, WorkId};
use tokio::sync::oneshot;

use super::{
    Shared,
    inbox::{Haste, Queued},
    promise::Waiter,
    writer::{fits, room},
};
use crate::{
    Cancelled, Change, QueueError,
    ledger::Content,
    op::{CANCELLED_AT_ONCE, Op, State},
    transaction::Transaction,
};

/// One transaction changes works with states of so many bytes in all, at most.
const CHANGED_BYTES: usize = 1 << 20;
/// Room for one changed state in a segment beside its words, amply, in bytes.
const STATE_TAKES: usize = 256;

/// Tells when something is synced, or why it is not.
pub(super) type Synced = oneshot::Receiver<Result<(), QueueError>>;

/// Waits for the syncer's answer; one that never comes means that the spool has ended.
pub(super) async fn answer(synced: Synced) -> Result<(), QueueError> {
    synced.await.unwrap_or(Err(QueueError::Closed))
}

/// Does something that keeps works back meanwhile, whether or not somebody still waits for it.
pub(super) async fn to_the_end(
    change: impl Future<Output = Result<usize, QueueError>> + Send + 'static,
) -> Result<usize, QueueError> {
    tokio::spawn(change).await.unwrap_or(Err(QueueError::Closed))
}

impl Shared {
    /// Puts a transaction into the inbox, for somebody who waits until it is synced.
    pub(super) fn write(&self, transaction: Transaction) -> Result<Synced, QueueError> {
        let (waiter, synced) = oneshot::channel();
        self.put(transaction, Haste::Awaited, Some(waiter))?;
        Ok(synced)
    }

    /// Puts a transaction into the inbox.
    pub(super) fn put(
        &self,
        transaction: Transaction,
        haste: Haste,
        waiter: Option<Waiter>,
    ) -> Result<(), QueueError> {
        let queued = Queued::new(transaction, haste, waiter);
        fits(&queued, self.options.segment_size)?;
        self.inbox.put(queued)
    }

    /// See [`Queue::change`](crate::Queue::change).
    pub(super) async fn change(
        self: Arc<Self>,
        works: Vec<WorkId>,
        change: Change,
    ) -> Result<usize, QueueError> {
        let mut changed = 0;
        for some in works.chunks(CANCELLED_AT_ONCE) {
            changed += self.change_some(some, change).await?;
        }
        Ok(changed)
    }

    /// See [`Queue::cancel`](crate::Queue::cancel).
    pub(super) async fn cancel(
        self: Arc<Self>,
        works: Vec<WorkId>,
        why: Cancelled,
        at: Timestamp,
    ) -> Result<usize, QueueError> {
        let mut cancelled = 0;
        for some in works.chunks(CANCELLED_AT_ONCE) {
            let Some(cancel) = self.ledger.cancel(some, at) else { continue };
            let works: Vec<WorkId> = cancel.works.iter().map(|(work, _)| *work).collect();
            let transaction = Transaction { ops: vec![Op::cancel(cancel, why)], ..Transaction::default() };
            self.write_or_leave(transaction, &works).await?;
            cancelled += works.len();
        }
        Ok(cancelled)
    }

    async fn change_some(self: &Arc<Self>, works: &[WorkId], change: Change) -> Result<usize, QueueError> {
        let mut taken = self.ledger.take_for_change(works, change);
        let mut changed = 0;
        while !taken.is_empty() {
            let left: Vec<WorkId> = taken.iter().map(|(state, _)| state.work).collect();
            let shared = self.clone();
            let collected = tokio::task::spawn_blocking(move || shared.collect_states(taken)).await;
            let Ok(collected) = collected else {
                self.ledger.unchanged(&left);
                return Err(QueueError::Closed);
            };
            taken = collected.rest;
            for (work, what) in collected.unreadable {
                self.set_aside(work, &what);
            }
            let works: Vec<WorkId> = collected.transaction.ops.iter().filter_map(state_of).collect();
            if works.is_empty() {
                continue;
            }
            if let Err(error) = self.write_or_leave(collected.transaction, &works).await {
                let left: Vec<WorkId> = taken.iter().map(|(state, _)| state.work).collect();
                self.ledger.unchanged(&left);
                return Err(error);
            }
            changed += works.len();
        }
        Ok(changed)
    }

    /// As many states with their words as one transaction may hold; reads from the disk.
    fn collect_states(&self, taken: Vec<(State, Content)>) -> Collected {
        let room = room(self.options.segment_size).min(CHANGED_BYTES);
        let mut collected = Collected::default();
        let mut bytes = 0;
        let mut taken = taken.into_iter();
        for (mut state, content) in taken.by_ref() {
            let words = match self.words(state.work, &content) {
                Ok(words) => words.state,
                Err(error) => {
                    collected.unreadable.push((state.work, error.to_string()));
                    continue;
                }
            };
            bytes += words.len() + STATE_TAKES;
            if bytes > room && !collected.transaction.ops.is_empty() {
                collected.rest.push((state, content));
                break;
            }
            state.state_len = u32::try_from(words.len()).expect("it was checked against MAX_HEADER");
            collected.transaction.head.extend_from_slice(&words);
            collected.transaction.ops.push(Op::State(state));
        }
        collected.rest.extend(taken);
        collected
    }

    /// Writes what is said of works that are kept back for it; if it cannot be written, they wait as before.
    async fn write_or_leave(&self, transaction: Transaction, works: &[WorkId]) -> Result<(), QueueError> {
        let leave = |_: &QueueError| self.ledger.unchanged(works);
        let synced = self.write(transaction).inspect_err(leave)?;
        answer(synced).await.inspect_err(leave)
    }
}

/// Changed states on their way into one transaction.
#[derive(Default)]
struct Collected {
    transaction: Transaction,
    /// What cannot be read, and why.
    unreadable: Vec<(WorkId, String)>,
    /// What no longer fits.
    rest: Vec<(State, Content)>,
}

fn state_of(op: &Op) -> Option<WorkId> {
    match op {
        Op::State(state) => Some(state.work),
        _ => None,
    }
}
