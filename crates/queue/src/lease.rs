//! Leases as values: what is dropped is given back, what was committed and is dropped is unknown.

use std::{sync::Arc, time::Duration};

use base::WorkId;
use serde::{Deserialize, Serialize};

use crate::{
    Concluded, Conclusion, Provider, QueueError, Recipients,
    body::BodySource,
    work::{Words, WorkInfo},
};

/// Who holds leases: a node's boot. One deadline for all that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder(pub u128);

/// The number that makes a late holder harmless: no two leases ever share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct Epoch {
    /// Random per opening of the queue.
    pub incarnation: u64,
    /// Rising within it.
    pub counter: u64,
}

impl Epoch {
    /// The epoch as one number, as good as unique among the leases of one work.
    #[must_use]
    pub fn folded(self) -> i64 {
        self.incarnation.wrapping_add(self.counter.rotate_left(32)).cast_signed()
    }
}

/// How long a holder may keep what it holds without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// As long as the process lives: for the queue's own node.
    Unlimited,
    /// This long from now, unless extended.
    For(Duration),
}

/// A work that was leased, with all that an attempt needs.
#[derive(Debug)]
pub struct Leased {
    /// The right to attempt it.
    pub lease: Lease,
    /// What the queue knows of it.
    pub info: WorkInfo,
    /// What its trade said of it.
    pub words: Words,
    /// The body, to be read.
    pub body: BodySource,
}

/// The right to attempt one work. Dropping it gives the work back, untouched.
#[derive(Debug)]
pub struct Lease(Right);

/// The right to finish an attempt that is past the point of no return. Dropping it makes the outcome unknown.
#[derive(Debug)]
pub struct Committing(Right);

#[derive(Debug)]
struct Right {
    provider: Arc<dyn Provider>,
    work: WorkId,
    epoch: Epoch,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Held,
    Committed,
    Spent,
}

/// The lease is over: somebody else may hold the work by now, or it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease is over")]
pub struct LeaseOver;

impl Lease {
    pub(crate) fn new(provider: Arc<dyn Provider>, work: WorkId, epoch: Epoch) -> Self {
        Self(Right { provider, work, epoch, stage: Stage::Held })
    }

    /// The work it is for.
    #[must_use]
    pub fn work(&self) -> WorkId {
        self.0.work
    }

    /// Under which epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.0.epoch
    }

    /// Asks to pass the point of no return; returns the recipients that have not ended by now.
    ///
    /// # Errors
    /// [`LeaseOver`]: the attempt must stop here.
    pub async fn commit(mut self) -> Result<(Committing, Recipients), LeaseOver> {
        match self.0.provider.commit(self.0.work, self.0.epoch).await {
            Ok(remaining) => {
                let mut right = self.0.take();
                right.stage = Stage::Committed;
                Ok((Committing(right), remaining))
            }
            Err(over) => {
                self.0.stage = Stage::Spent;
                Err(over)
            }
        }
    }

    /// Says what became of the work, without having passed the point of no return.
    ///
    /// # Errors
    /// If the queue is closed or the conclusion is too large.
    pub fn conclude(self, conclusion: Conclusion) -> Result<Concluded, QueueError> {
        self.0.conclude(conclusion)
    }
}

impl Committing {
    /// The work it is for.
    #[must_use]
    pub fn work(&self) -> WorkId {
        self.0.work
    }

    /// Says what became of the work.
    ///
    /// # Errors
    /// If the queue is closed or the conclusion is too large.
    pub fn conclude(self, conclusion: Conclusion) -> Result<Concluded, QueueError> {
        self.0.conclude(conclusion)
    }
}

impl Right {
    fn take(&mut self) -> Self {
        let taken =
            Self { provider: self.provider.clone(), work: self.work, epoch: self.epoch, stage: self.stage };
        self.stage = Stage::Spent;
        taken
    }

    fn conclude(mut self, conclusion: Conclusion) -> Result<Concluded, QueueError> {
        let result = self.provider.conclude(self.work, self.epoch, conclusion);
        if result.is_ok() {
            self.stage = Stage::Spent;
        }
        result
    }
}

impl Drop for Right {
    fn drop(&mut self) {
        match self.stage {
            Stage::Held => self.provider.give_back(self.work, self.epoch),
            Stage::Committed => self.provider.unknown(self.work, self.epoch),
            Stage::Spent => {}
        }
    }
}
