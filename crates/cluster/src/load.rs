//! How much a node has of what it will take, and the share that a burst has of it.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use queue::{Boot, Holder};
use tokio::sync::Notify;

use crate::placement::{Candidate, Choice, Eligible, NodeIndex, Why};

/// What a site is called where only its sameness counts.
pub type SiteNumber = u64;

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
    works: u32,
    bytes: u64,
    sites: HashMap<SiteNumber, u32>,
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
            credits_works: self.capacity_works.saturating_sub(held.works),
            credits_bytes: self.capacity_bytes.saturating_sub(held.bytes),
            at_site: held.sites.get(&site).copied().unwrap_or(0),
            capacity_works: self.capacity_works,
            capacity_bytes: self.capacity_bytes,
            eligible,
        }
    }

    /// Works and bytes that it has now.
    pub(crate) fn held(&self) -> (u32, u64) {
        let held = self.held.lock();
        (held.works, held.bytes)
    }

    /// Whether it would take one more work.
    pub(crate) fn has_room(&self) -> bool {
        let (works, bytes) = self.held();
        works < self.capacity_works && bytes < self.capacity_bytes
    }
}

/// Where a burst goes: a share of a node's capacity, given back when dropped.
#[derive(Debug)]
pub struct Place {
    load: Arc<Load>,
    /// Of another node.
    boot: Option<Boot>,
    site: SiteNumber,
    works: u32,
    bytes: u64,
    why: Why,
    freed: Arc<Notify>,
}

impl Place {
    pub(crate) fn take(
        load: &Arc<Load>,
        boot: Option<Boot>,
        site: SiteNumber,
        choice: Choice,
        bytes: u64,
        freed: &Arc<Notify>,
    ) -> Self {
        let works = choice.works;
        let bytes = bytes.saturating_mul(works.into());
        let mut held = load.held.lock();
        held.works += works;
        held.bytes += bytes;
        *held.sites.entry(site).or_default() += works;
        drop(held);
        Self { load: load.clone(), boot, site, works, bytes, why: choice.why, freed: freed.clone() }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> NodeIndex {
        self.load.node
    }

    /// Who holds what goes there.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.boot.map_or(Holder::Here, Holder::Node)
    }

    /// How many works it is for, at most.
    #[must_use]
    pub fn works(&self) -> u32 {
        self.works
    }

    /// Why there.
    #[must_use]
    pub fn why(&self) -> Why {
        self.why
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.load.held.lock();
        held.works -= self.works;
        held.bytes -= self.bytes;
        if let Some(at_site) = held.sites.get_mut(&self.site) {
            *at_site -= self.works;
            if *at_site == 0 {
                held.sites.remove(&self.site);
            }
        }
        drop(held);
        self.freed.notify_one();
    }
}
