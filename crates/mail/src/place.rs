//! Where a burst is attempted: on this node, or on another that the cluster has placed it on.

use std::hash::{DefaultHasher, Hash, Hasher};

use cluster::{
    SiteNumber,
    manager::HERE,
    placement::{NodeIndex, Nowhere, Others, Wanted},
};
use queue::{Holder, Ticket};

use crate::{
    delivery::Delivery,
    schedule::Slot,
    site::{Key, Looked},
};

/// Where a burst is attempted.
#[derive(Debug)]
pub(crate) enum Place {
    /// On this node, which is alone.
    Here,
    /// Where the cluster says, which may be this node.
    Of(cluster::Place),
}

impl Place {
    /// Who holds what is attempted there.
    pub(crate) fn holder(&self) -> Holder {
        match self {
            Self::Here => Holder::Here,
            Self::Of(place) => place.holder(),
        }
    }

    /// Which node that is.
    pub(crate) fn node(&self) -> NodeIndex {
        match self {
            Self::Here => HERE,
            Self::Of(place) => place.node(),
        }
    }

    /// Where it would be if its site had room for a further connection.
    pub(crate) fn rather(&self) -> Option<NodeIndex> {
        match self {
            Self::Here => None,
            Self::Of(place) => place.rather(),
        }
    }

    /// How many of so many works go there.
    pub(crate) fn takes(&self, works: usize) -> usize {
        match self {
            Self::Here => works,
            Self::Of(place) => works.min(usize::try_from(place.works()).unwrap_or(usize::MAX)),
        }
    }
}

impl Delivery {
    /// What placement needs to know of a work, unless its ticket is a thing of the past.
    pub(crate) fn look_at(&self, ticket: Ticket) -> Option<Looked> {
        let mut looked = None;
        self.queue.look(&[ticket], &mut |seen| looked = Some((seen.size, seen.work.message)));
        let (size, message) = looked?;
        let origin = self.cluster.as_ref().and_then(|cluster| cluster.origin(message));
        Some(Looked { size, origin })
    }

    /// Whether any node would take a work now.
    pub(crate) fn has_room(&self) -> bool {
        self.cluster.as_ref().is_none_or(cluster::manager::Manager::has_room)
    }

    /// How many nodes make deliveries now.
    pub(crate) fn nodes(&self) -> usize {
        self.cluster.as_ref().map_or(1, cluster::manager::Manager::working)
    }

    /// A place for a burst.
    pub(crate) fn place(&self, slot: &Slot, others: Others) -> Result<Place, Nowhere> {
        let Some(cluster) = &self.cluster else { return Ok(Place::Here) };
        let wanted = Wanted { sizes: &slot.cost.sizes, intake: slot.origin, keepers: &slot.keepers };
        cluster.place(&wanted, number(&slot.key), others).map(Place::Of)
    }
}

/// What tells sites apart for placement.
fn number(key: &Key) -> SiteNumber {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
