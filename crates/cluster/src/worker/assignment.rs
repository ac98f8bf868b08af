//! Works to be attempted, as the trade of a worker sees them.

use std::{sync::Arc, time::Duration};

use base::WorkId;
use bytes::Bytes;
use queue::{BodySource, Kind, LeaseOver, Recipients};

use super::Shared;
use crate::{
    boot_time,
    fence::{Holds, Tenure},
};

/// Works that this node was given; dropping it says that it is through with them.
#[derive(Debug)]
pub struct Assignment {
    pub(super) shared: Arc<Shared>,
    pub(super) errand: u64,
    /// The lease of the node under which they were given.
    pub(super) under: Tenure,
    /// Which trade's they are.
    pub kind: Kind,
    /// In the trade's words all that an attempt needs but the bodies.
    pub burst: Bytes,
    /// The works with their bodies; they go by their numbers here.
    pub works: Vec<(WorkId, BodySource)>,
    pub(super) took: Bytes,
}

impl Assignment {
    /// Asks to pass the point of no return; returns the recipients that have not ended.
    ///
    /// To be asked right before that point: if the answer is yes, this node's lease runs at that moment.
    ///
    /// # Errors
    /// [`LeaseOver`]: the attempt must stop here.
    pub async fn commit(&self, item: usize) -> Result<Recipients, LeaseOver> {
        let number = u32::try_from(item).map_err(|_| LeaseOver)?;
        self.lease_ends()?;
        let mut answer = self.shared.desk.lock().ask(self.errand, number).ok_or(LeaseOver)?;
        let remaining = loop {
            // A beat that is acknowledged meanwhile moves the end.
            let left = self.lease_ends()?;
            if let Ok(answer) = tokio::time::timeout(left, &mut answer).await {
                break answer.ok().flatten().ok_or(LeaseOver)?;
            }
        };
        self.lease_ends()?;
        Ok(remaining)
    }

    /// How long the lease runs still under which these works were given.
    fn lease_ends(&self) -> Result<Duration, LeaseOver> {
        let now = boot_time::now();
        let fence = self.shared.fence.lock();
        match (fence.holds(now), fence.ends()) {
            (Holds::Yes(tenure), Some(ends)) if tenure == self.under => Ok(ends.since(now)),
            _ => Err(LeaseOver),
        }
    }

    /// Says what became of a work, in the trade's words. It is kept and said again until the manager has it for good.
    pub fn tell(&self, item: usize, words: Bytes) {
        if let Ok(item) = u32::try_from(item) {
            self.shared.desk.lock().tell(self.errand, item, words);
        }
    }

    /// Says that this node is through, and in the trade's words what it took. What was not told of was not
    /// attempted; or, if it was committed, may have been done.
    pub fn end(mut self, words: Bytes) {
        self.took = words;
    }
}

impl Drop for Assignment {
    fn drop(&mut self) {
        self.shared.desk.lock().end(self.errand, std::mem::take(&mut self.took));
    }
}
