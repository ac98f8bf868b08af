//! Leases as values: what is dropped is given back, what was committed and is dropped is unknown.

use std::{fmt, sync::Arc};

use base::WorkId;
use serde::{Deserialize, Serialize};

use crate::{
    Concluded, Conclusion, Provider, QueueError, Recipients,
    body::BodySource,
    work::{Words, WorkInfo},
};

/// One run of a node's process: 128 random bits, drawn when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Boot(pub u128);

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Who holds leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// The process that has the queue open: what it holds ends with it, and is not written down.
    Here,
    /// Another node: what it holds is written down, and outlives this process until it is taken back.
    Node(Boot),
}

impl Holder {
    /// The other node, if it is one.
    pub(crate) fn boot(self) -> Option<Boot> {
        match self {
            Self::Here => None,
            Self::Node(boot) => Some(boot),
        }
    }
}

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

/// A work and the lease under which somebody has it.
pub type Under = (WorkId, Epoch);

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

/// A work that another node held before and holds still, with all that is needed to hear what became of it.
#[derive(Debug)]
pub struct Resumed {
    /// What its holder may do with it.
    pub claim: Claim,
    /// What the queue knows of it.
    pub info: WorkInfo,
    /// What its trade said of it.
    pub words: Words,
    /// The body, to be read.
    pub body: BodySource,
}

/// What the holder of a work may do with it.
#[derive(Debug)]
pub enum Claim {
    /// Attempt it.
    Lease(Lease),
    /// Finish an attempt that is past the point of no return.
    Committing(Committing),
    /// Only say what became of it: its lease is over.
    Over(Over),
}

/// A lease that is over. Its holder may still say that he delivered, and to whom.
#[derive(Debug)]
pub struct Over(Right);

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

impl Claim {
    pub(crate) fn new(provider: Arc<dyn Provider>, work: WorkId, epoch: Epoch, point: Point) -> Self {
        match point {
            Point::Before => Self::Lease(Lease::new(provider, work, epoch)),
            Point::Past => {
                Self::Committing(Committing(Right { provider, work, epoch, stage: Stage::Committed }))
            }
            Point::Over => Self::Over(Over(Right { provider, work, epoch, stage: Stage::Spent })),
        }
    }
}

/// On which side of the point of no return an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Before it.
    Before,
    /// Past it.
    Past,
    /// Its lease is over.
    Over,
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

impl Over {
    /// Says what became of the work: the recipients that were delivered to are marked so, the rest is ignored.
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
