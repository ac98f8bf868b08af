//! How much a node has of what it will take, and the share that a burst has of it.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use queue::{Boot, Holder};
use tokio::sync::Notify;

use crate::placement::{Amount, Candidate, Choice, Eligible, NodeIndex};

/// What a site is called where only its sameness counts.
pub type SiteNumber = u64;

/// Most bursts that a node attempts at once: each has a connection of its own, which is a descriptor.
pub const BURSTS: u32 = 500;

/// What a node has at once.
#[derive(Debug)]
pub(crate) struct Load {
    node: NodeIndex,
    capacity_works: u32,
    capacity_bytes: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bursts: u32,
    all: Amount,
    sites: HashMap<SiteNumber, Amount>,
}

impl Load {
    /// Nothing yet, of so much.
    pub(crate) fn new(node: NodeIndex, works: u32, bytes: u64) -> Arc<Self> {
        let held = Mutex::default();
        Arc::new(Self { node, capacity_works: works, capacity_bytes: bytes, held })
    }

    /// The node as placement sees it.
    pub(crate) fn candidate(&self, site: SiteNumber, eligible: Eligible) -> Candidate {
        let held = self.held.lock();
        Candidate {
            node: self.node,
            credits_works: match held.bursts {
                ..BURSTS => self.capacity_works.saturating_sub(held.all.works),
                _ => 0,
            },
            credits_bytes: self.capacity_bytes.saturating_sub(held.all.bytes),
            at_site: held.sites.get(&site).copied().unwrap_or_default(),
            capacity_works: self.capacity_works,
            capacity_bytes: self.capacity_bytes,
            eligible,
        }
    }

    /// What it has now.
    pub(crate) fn held(&self) -> Amount {
        self.held.lock().all
    }

    /// Whether it would take one more work.
    pub(crate) fn has_room(&self) -> bool {
        let held = self.held.lock();
        held.bursts < BURSTS && held.all.works < self.capacity_works && held.all.bytes < self.capacity_bytes
    }
}

/// A share of a node's capacity, that of one burst, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    load: Arc<Load>,
    /// Which site has it; nothing if that is not known.
    site: Option<SiteNumber>,
    amount: Amount,
    freed: Arc<Notify>,
}

/// Where a burst goes, with its share of the node's capacity.
#[derive(Debug)]
pub struct Place {
    share: Share,
    /// Of another node.
    boot: Option<Boot>,
    rather: Option<NodeIndex>,
}

impl Share {
    /// Takes it, also where the node has less left: what it has it has.
    pub(crate) fn take(
        load: &Arc<Load>,
        site: Option<SiteNumber>,
        amount: Amount,
        freed: &Arc<Notify>,
    ) -> Self {
        let mut held = load.held.lock();
        held.bursts += 1;
        held.all += amount;
        if let Some(site) = site {
            *held.sites.entry(site).or_default() += amount;
        }
        drop(held);
        Self { load: load.clone(), site, amount, freed: freed.clone() }
    }
}

impl Place {
    pub(crate) fn take(
        load: &Arc<Load>,
        boot: Option<Boot>,
        site: SiteNumber,
        choice: &Choice,
        freed: &Arc<Notify>,
    ) -> Self {
        Self { share: Share::take(load, Some(site), choice.takes, freed), boot, rather: choice.rather }
    }

    /// The node that its works would have gone to if their site had room for a further connection, where that is another.
    #[must_use]
    pub fn rather(&self) -> Option<NodeIndex> {
        self.rather
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> NodeIndex {
        self.share.load.node
    }

    /// Who holds what goes there.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.boot.map_or(Holder::Here, Holder::Node)
    }

    /// How many works it is for, at most.
    #[must_use]
    pub fn works(&self) -> u32 {
        self.share.amount.works
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.load.held.lock();
        held.bursts -= 1;
        held.all -= self.amount;
        if let Some(site) = self.site
            && let Some(at_site) = held.sites.get_mut(&site)
        {
            *at_site -= self.amount;
            if at_site.works == 0 {
                held.sites.remove(&site);
            }
        }
        drop(held);
        self.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_attempts_no_more_bursts_at_once_than_it_has_descriptors_for_however_small_they_are() {
        let (load, freed) = (Load::new(NodeIndex(1), 1000, 1 << 20), Arc::default());
        let one = Amount { works: 1, bytes: 1 };
        let credits = || load.candidate(7, Eligible::Yes).credits_works;
        let mut shares: Vec<Share> =
            (0..BURSTS - 1).map(|_| Share::take(&load, Some(7), one, &freed)).collect();
        assert_eq!((credits(), load.has_room()), (501, true));
        shares.push(Share::take(&load, None, one, &freed));
        assert_eq!((credits(), load.has_room()), (0, false));
        shares.pop();
        assert_eq!((credits(), load.has_room()), (501, true));
        drop(shares);
        assert_eq!((load.held(), credits()), (Amount::default(), 1000));
    }
}
