//! Late words about works that nobody holds any more, or others do: until they are synced, nobody is sent the same twice.

use base::WorkId;

use super::{Hold, Holding, Inner, Stage};
use crate::{Holder, Recipients, index::Effects, op::Conclude};

impl Holding {
    /// Nobody has it any more, but late words are on their way.
    pub(super) fn late(self) -> Self {
        let stage = Stage::Concluding { before: Hold::Late, ends: Recipients::NONE };
        Self { holder: Holder::Here, stage, ..self }
    }
}

impl Inner {
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
