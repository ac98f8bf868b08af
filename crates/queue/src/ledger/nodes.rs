//! What other nodes hold: given while the queue is open, or found when it was opened.

use std::collections::{BTreeMap, HashSet};

use base::{Timestamp, WorkId};

use super::{Given, Holding, Inner, Ledger, Life, Stage};
use crate::{
    Boot, Epoch, Holder, Point, Reason, Status, Under, WorkInfo,
    granted::{Grant, Granted},
    index::Effects,
};

/// A node that was lost and may have done a work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) boot: Boot,
    /// Under which lease it had it.
    pub(super) epoch: Epoch,
    /// Why the work had waited before that.
    pub(super) before: Reason,
    /// Whether that lease has its value still.
    pub(super) life: Life,
}

impl Ledger {
    /// What nodes held when the queue was open last is theirs still; what those that are gone had committed waits until
    /// `until`.
    pub(crate) fn restore(&self, granted: Granted, until: Timestamp) {
        let mut effects = Effects::default();
        let mut inner = self.state.lock();
        for (work, Grant { boot, epoch, point, segments }) in granted.into_grants() {
            if inner.index.standing(work).is_none() {
                continue;
            }
            for segment in segments {
                inner.index.need(work, segment);
            }
            let stage = if point == Point::Before { Stage::Held } else { Stage::Committed };
            let holder = Holder::Node(boot);
            let holding = Holding::new(holder, epoch, stage);
            inner.leases.insert(work, Holding { life: Life::Restored, ..holding });
            if point == Point::Over {
                inner.unknown(work, until, &mut effects);
            }
        }
        drop(inner);
        self.wake_for(&effects);
    }

    /// Takes back all that a node holds; what it committed waits until `until`.
    pub(crate) fn take_back(&self, boot: Boot, until: Timestamp) {
        self.take_back_some(boot, until, |_, _| true);
    }

    /// A node has come back with these works: those that were its own when the queue was opened are again, and what else it had
    /// then, but what is kept, is taken back.
    pub(crate) fn resume(
        &self,
        boot: Boot,
        works: Vec<Under>,
        kept: &[Under],
        until: Timestamp,
    ) -> Vec<(Given, Point)> {
        let works: HashSet<Under> = works.into_iter().collect();
        let kept: HashSet<&Under> = kept.iter().collect();
        self.take_back_some(boot, until, |work, holding| {
            let under = (work, holding.epoch);
            holding.life == Life::Restored && !works.contains(&under) && !kept.contains(&under)
        });
        let mut inner = self.state.lock();
        works.into_iter().filter_map(|(work, epoch)| inner.resume(boot, work, epoch)).collect()
    }

    fn take_back_some(&self, boot: Boot, until: Timestamp, which: impl Fn(WorkId, &Holding) -> bool) {
        let mut effects = Effects::default();
        let mut inner = self.state.lock();
        let some = inner.leases.iter().filter(|(work, holding)| {
            holding.holder == Holder::Node(boot) && !holding.stage.is_concluding() && which(**work, holding)
        });
        let some: Vec<(WorkId, Stage)> = some.map(|(work, holding)| (*work, holding.stage)).collect();
        for (work, stage) in some {
            match stage {
                Stage::Committed => inner.unknown(work, until, &mut effects),
                _ => inner.back(work, Reason::HolderGone, &mut effects),
            }
        }
        drop(inner);
        self.wake_for(&effects);
    }

    /// What was to be a node's own again cannot be read now: it is as it was.
    pub(crate) fn unresume(&self, work: WorkId, epoch: Epoch) {
        let mut inner = self.state.lock();
        if let Some(holding) = inner.leases.get_mut(&work).filter(|holding| holding.epoch == epoch) {
            holding.life = Life::Restored;
        }
    }

    /// Whether a work is held under this lease.
    pub(crate) fn is_held(&self, work: WorkId, epoch: Epoch) -> bool {
        self.state.lock().leases.get(&work).is_some_and(|holding| holding.epoch == epoch)
    }

    /// The nodes that hold something, and how much.
    pub(crate) fn boots(&self) -> Vec<(Boot, usize)> {
        let mut boots = BTreeMap::new();
        for holding in self.state.lock().leases.values() {
            if let Holder::Node(boot) = holding.holder {
                *boots.entry(boot).or_default() += 1;
            }
        }
        boots.into_iter().collect()
    }
}

impl Inner {
    fn resume(&mut self, boot: Boot, work: WorkId, epoch: Epoch) -> Option<(Given, Point)> {
        let mut info = self.index.info(work)?;
        if let Some(lost) = self.awaited(boot, work, epoch) {
            self.lost.remove(&work);
            let holding = Holding::new(Holder::Node(boot), epoch, Stage::Committed);
            let Lost { before, life: former, .. } = lost;
            self.leases.insert(work, Holding { before, former, life: Life::Restored, ..holding });
            // What it may have done itself it has not done again.
            info.reason = lost.before;
        }
        let point = match self.leases.get_mut(&work) {
            Some(holding) if holding.epoch != epoch || holding.holder != Holder::Node(boot) => Point::Over,
            // What it has said of it is on its way to the disk.
            Some(holding) if holding.life == Life::Living && holding.stage.is_concluding() => Point::Over,
            Some(holding) => {
                if std::mem::replace(&mut holding.life, Life::Living) == Life::Living {
                    return None;
                }
                if holding.stage == Stage::Held { Point::Before } else { Point::Past }
            }
            None => Point::Over,
        };
        let info = WorkInfo { lease: Some(epoch), ..info };
        Some((Given { info, epoch, content: self.content(work)? }, point))
    }

    /// The value of a committed lease was dropped without a word.
    pub(super) fn dropped(&mut self, work: WorkId, epoch: Epoch, until: Timestamp, effects: &mut Effects) {
        match self.leases.get_mut(&work).filter(|holding| holding.epoch == epoch) {
            // Its node has the work again, and somebody else listens to it.
            Some(holding) if holding.former == Life::Living => holding.former = Life::Restored,
            Some(holding) if holding.stage == Stage::Committed => {
                holding.life = Life::Restored;
                self.unknown(work, until, effects);
            }
            Some(_) => {}
            None => {
                if let Some(lost) = self.lost.get_mut(&work).filter(|lost| lost.epoch == epoch) {
                    lost.life = Life::Restored;
                }
            }
        }
    }

    /// What is known of a node that a work waits for, if nobody has had the work or changed it since.
    fn awaited(&self, boot: Boot, work: WorkId, epoch: Epoch) -> Option<Lost> {
        let standing = self.index.standing(work)?;
        let waits = standing.status == Status::Waiting && standing.reason == Reason::PossiblyDone;
        let lost = self.lost.get(&work).filter(|lost| lost.boot == boot && lost.epoch == epoch)?;
        (waits && !self.leases.contains_key(&work)).then_some(*lost)
    }
}
