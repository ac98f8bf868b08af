//! What comes of bursts that nodes cannot take, or not wholly.

use std::{collections::BTreeMap, mem, time::Duration};

use base::Timestamp;
use cluster::placement::Nowhere;
use queue::Ticket;

use super::{LOOK_EVERY, Schedule, Slot};
use crate::turns::Served;

/// Works that no node can take now.
#[derive(Debug, Default)]
pub(super) struct Unplaced {
    /// By their sites.
    sites: BTreeMap<usize, Waiting>,
    /// Bursts that no node took since it was last begun to ask.
    since: usize,
    /// When those of them that wait were last let in again.
    freed: Timestamp,
}

/// After so many bursts that no node takes nothing more is asked for a moment: all that waits would come to be set aside.
const MOST: usize = 8;
/// How long that is if nothing happens: behind them may stand what a node takes.
pub(super) const MOMENT: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
struct Waiting {
    works: Vec<Ticket>,
    /// Why no node took the last burst, if none took any of it: what else the site has stands behind that.
    why: Option<Nowhere>,
}

impl Unplaced {
    fn add(&mut self, site: usize, works: Vec<Ticket>, why: Option<Nowhere>) {
        let waiting = self.sites.entry(site).or_default();
        waiting.works.extend(works);
        waiting.why = waiting.why.or(why);
    }

    /// Why nothing of a site can be placed until a node is free.
    pub(super) fn why(&self, site: usize) -> Option<Nowhere> {
        self.sites.get(&site)?.why
    }

    /// It is begun to ask.
    pub(super) fn ask(&mut self) {
        self.since = 0;
    }

    /// Whether there were so many that nothing more is asked for a moment.
    pub(super) fn is_enough(&self) -> bool {
        self.since >= MOST
    }
}

impl Schedule {
    /// No node can take the last works of a burst now: they wait until one can, as if they had not begun.
    pub(crate) fn surplus(&mut self, slot: &mut Slot, works: Vec<Ticket>, now: Timestamp) {
        let number = slot.served.site;
        let sizes = slot.cost.sizes.split_off(slot.cost.sizes.len() - works.len());
        if let Some(site) = &mut self.sites[number] {
            site.uncharge_works(&sizes);
            self.queue_up(number, now);
        }
        self.unplaced.add(number, works, None);
    }

    /// No node can take a burst now: its works wait until one can, as if it had not begun.
    pub(crate) fn unplaced(&mut self, slot: &Slot, works: Vec<Ticket>, why: Nowhere) {
        let Served { site: number, account, class } = slot.served;
        self.turns.end(class, account);
        if let Some(site) = &mut self.sites[number] {
            site.running -= 1;
            site.uncharge_works(&slot.cost.sizes);
        }
        self.unplaced.add(number, works, Some(why));
        self.unplaced.since += 1;
    }

    /// Some time has passed; so many nodes make deliveries. Those that no node took are asked again after all others, or in a second.
    pub(crate) fn glanced(&mut self, nodes: usize, now: Timestamp) {
        let lately = self.unplaced.freed <= now && now.since(self.unplaced.freed) < LOOK_EVERY;
        if !(self.unplaced.is_enough() && lately) {
            self.freed(nodes, now);
        }
    }

    /// A node may take more than before; so many make deliveries.
    pub(crate) fn freed(&mut self, nodes: usize, now: Timestamp) {
        self.turns.set_nodes(nodes);
        self.unplaced.freed = now;
        for (number, Waiting { works, .. }) in mem::take(&mut self.unplaced.sites) {
            self.again.extend(works);
            self.queue_up(number, now);
        }
    }

    /// Whether another site than a burst's waits: for its turn, or for a node.
    pub(crate) fn others_wait(&self, slot: &Slot) -> bool {
        let site = slot.served.site;
        self.turns.others_stand(site) || self.unplaced.sites.keys().any(|other| *other != site)
    }
}
