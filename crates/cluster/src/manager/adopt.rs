//! What a node has that comes back, and this manager does not know of: its own from before the start, or what was taken back from it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use base::WorkId;
use queue::{Claim, Epoch, Resumed};

use super::{
    Shared,
    errand::Errand,
    errands::{Item, Stage},
    member::{Give, Member},
};
use crate::{
    load::Share,
    wire::{self, WHOLE},
};

/// A work of an errand that was presented: its number there, and under which lease.
#[derive(Clone, Copy, Debug)]
struct Presented {
    item: u32,
    work: WorkId,
    epoch: Epoch,
}

/// After this time a node whose works could not be read presents them again.
const HEARD_AGAIN: Duration = Duration::from_secs(10);

impl Shared {
    /// Takes over what a node has presented. What it says of that is heard afterwards only.
    pub(super) async fn adopt(self: &Arc<Self>, member: &Arc<Member>, foreign: Vec<wire::Held>) {
        let mut errands: BTreeMap<u64, Vec<Presented>> = BTreeMap::new();
        for held in foreign {
            // Another link may have brought it meanwhile.
            if member.errands(|errands| errands.knows(held.errand)) {
                continue;
            }
            let items = errands.entry(held.errand).or_default();
            let work = held.work.as_ref().and_then(|work| WorkId::try_from(work).ok());
            if let (Some(work), Some(epoch), false) = (work, held.epoch, held.item == WHOLE) {
                items.push(Presented { item: held.item, work, epoch: epoch.into() });
            }
        }
        let works = errands.values().flatten().map(|presented| (presented.work, presented.epoch)).collect();
        let mut resumed: HashMap<(WorkId, Epoch), Resumed> = HashMap::new();
        for one in self.queue.resume(member.boot, works).await {
            resumed.insert((one.info.work, one.info.lease.unwrap_or_default()), one);
        }
        let mut deaf = 0;
        for (number, presented) in errands {
            deaf += self.adopt_errand(member, number, &presented, &mut resumed);
        }
        if deaf == 0 {
            return;
        }
        tracing::warn!(
            node = %member.name,
            works = deaf,
            "works of a node cannot be read now; its link begins anew in {} s, and they are tried again",
            HEARD_AGAIN.as_secs()
        );
        let member = member.clone();
        tokio::spawn(async move {
            tokio::time::sleep(HEARD_AGAIN).await;
            member.cut();
        });
    }

    /// Takes over an errand; returns how many of its works cannot be read now.
    fn adopt_errand(
        self: &Arc<Self>,
        member: &Arc<Member>,
        number: u64,
        presented: &[Presented],
        resumed: &mut HashMap<(WorkId, Epoch), Resumed>,
    ) -> usize {
        let mut deaf = 0;
        let most = presented.iter().map(|presented| presented.item + 1).max().unwrap_or(0);
        let mut items: Vec<Item> = (0..most).map(|_| Item::none()).collect();
        let mut taken = Vec::with_capacity(presented.len());
        for Presented { item, work, epoch } in presented {
            let at = *item as usize;
            let Some(resumed) = resumed.remove(&(*work, *epoch)) else {
                // It has ended; or it could not be read, and is heard of when the node comes again.
                if self.queue.info(*work).is_some_and(|info| info.lease == Some(*epoch)) {
                    items[at].stage = Stage::Deaf;
                    deaf += 1;
                }
                continue;
            };
            items[at] =
                Item { body: resumed.body.clone(), stage: self.stage_of(member, number, *item, &resumed) };
            taken.push((at, resumed));
        }
        let Some(trade) = self.trade.get().filter(|_| !items.is_empty()) else {
            // Whatever it was, it has ended.
            member.give(Give::Heard(wire::Item { errand: number, item: WHOLE }));
            return deaf;
        };
        let words = member.errands(|errands| errands.open(number, items));
        // The node has less room for others until it is through with these.
        let works = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        let bytes = taken.iter().map(|(_, resumed)| resumed.body.size()).sum();
        let share = Some(Share::take(&member.load, None, (works, bytes), &self.freed));
        let errand = Errand { number, member: member.clone(), shared: self.clone(), words, _share: share };
        trade.adopt(errand, taken);
        deaf
    }

    fn stage_of(&self, member: &Member, errand: u64, item: u32, resumed: &Resumed) -> Stage {
        match &resumed.claim {
            Claim::Lease(_) => Stage::Given,
            Claim::Committing(_) => Stage::Permitted(resumed.info.remaining),
            Claim::Over(_) => {
                member.give(Give::Over(wire::Item { errand, item }));
                Stage::Lapsed
            }
        }
    }
}
