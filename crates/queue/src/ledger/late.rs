//! Late words about works that nobody holds any more, or others do: until they are synced, nobody is sent the same twice.

use base::WorkId;

use super::{Hold, Holding, Inner, Stage};
use crate::{
    Boot, Epoch, Holder, Reason, Recipients, Status,
    index::Effects,
    op::{Conclude, Standing},
};

/// A node that was lost and may have done a work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) boot: Boot,
    /// Under which lease it had it.
    pub(super) epoch: Epoch,
    /// Why the work had waited before that.
    pub(super) before: Reason,
}

impl Holding {
    /// Nobody has it any more, but late words are on their way.
    pub(super) fn late(self) -> Self {
        let stage = Stage::Concluding { before: Hold::Late, ends: Recipients::NONE };
        Self { holder: Holder::Here, stage, ..self }
    }
}

impl Inner {
    /// Whether a work waits for the word of whoever had it under this lease, and nobody has had it or changed it since.
    pub(super) fn is_awaited(&self, work: WorkId, epoch: Epoch, standing: Standing) -> bool {
        standing.status == Status::Waiting
            && standing.reason == Reason::PossiblyDone
            && !self.leases.contains_key(&work)
            && self.lost.get(&work).is_some_and(|lost| lost.epoch == epoch)
    }

    /// Nobody holds the work any more; but until the late words about it are synced the queue keeps it back.
    pub(super) fn leave(&mut self, work: WorkId) {
        match self.leases.get_mut(&work) {
            Some(holding) if !holding.done.is_empty() => *holding = holding.late(),
            _ => {
                self.leases.remove(&work);
            }
        }
    }

    /// A late word is synced.
    pub(super) fn late_word_is_synced(&mut self, conclude: &Conclude, effects: &mut Effects) {
        let Some(holding) = self.leases.get_mut(&conclude.work) else { return };
        let ends = conclude.ends.iter().map(|(_, some)| *some);
        holding.done = ends.fold(holding.done, Recipients::without);
        let is_late = matches!(holding.stage, Stage::Concluding { before: Hold::Late, .. });
        if (is_late && holding.done.is_empty()) || !self.index.contains(conclude.work) {
            self.release(conclude.work, effects);
        }
    }
}
