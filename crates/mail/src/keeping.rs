//! Connections to a site that nodes keep for the next burst, as far as the node that decides knows. Pure; it is told the time.
//!
//! A node ends what it kept for [`KEPT_FOR`], and looks for it once a second. That it keeps one is heard a little later, and a burst takes
//! a little to get there. So a connection counts as one to be used for a shorter time than that, and as an open one for a longer.

use std::time::Duration;

use base::Timestamp;
use cluster::placement::NodeIndex;

use crate::connection::KEPT_FOR;

/// How long before its node may end it a connection is counted on no more.
const EARLY: Duration = Duration::from_secs(1);
/// How long after that it may be open still: its node looks once a second, and says goodbye.
const LATE: Duration = Duration::from_secs(2);

/// A connection that a node keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    node: NodeIndex,
    /// Until when a burst at its node goes over it.
    usable_until: Timestamp,
    open_until: Timestamp,
}

/// What is kept to a site, by all nodes.
#[derive(Debug, Default)]
pub(crate) struct Keeping(Vec<Kept>);

/// Which of those that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that a burst goes over, if it comes to their node.
    Usable,
    /// Those too that their node may have ended by now.
    Open,
}

impl Keeping {
    /// A node says that it keeps one.
    pub(crate) fn add(&mut self, node: NodeIndex, now: Timestamp) {
        self.0.retain(|kept| kept.is(Which::Open, now));
        self.0.push(Kept {
            node,
            usable_until: now + (KEPT_FOR - EARLY),
            open_until: now + (KEPT_FOR + LATE),
        });
    }

    /// Takes the one that a burst at this node goes over: that which was used last, as the node does. If it can be counted on no more, the
    /// burst's own connection takes its place.
    pub(crate) fn take(&mut self, node: NodeIndex, now: Timestamp) -> Option<Kept> {
        let is_there = |kept: &Kept, which| kept.node == node && kept.is(which, now);
        let usable = self.0.iter().rposition(|kept| is_there(kept, Which::Usable));
        let place = usable.or_else(|| self.0.iter().position(|kept| is_there(kept, Which::Open)))?;
        Some(self.0.remove(place))
    }

    /// Nothing went over it.
    pub(crate) fn put_back(&mut self, kept: Kept) {
        let at = self.0.partition_point(|other| other.open_until <= kept.open_until);
        self.0.insert(at, kept);
    }

    /// A host has gone: its end of them may be closed.
    pub(crate) fn distrust(&mut self, now: Timestamp) {
        for kept in &mut self.0 {
            kept.usable_until = kept.usable_until.min(now);
        }
    }

    pub(crate) fn count(&self, which: Which, now: Timestamp) -> usize {
        self.0.iter().filter(|kept| kept.is(which, now)).count()
    }

    /// Those that this node has open, or may have.
    pub(crate) fn count_at(&self, node: NodeIndex, now: Timestamp) -> usize {
        self.0.iter().filter(|kept| kept.node == node && kept.is(Which::Open, now)).count()
    }

    /// The nodes that keep some.
    pub(crate) fn nodes(&self, which: Which, now: Timestamp) -> Vec<NodeIndex> {
        let mut nodes = Vec::new();
        for kept in self.0.iter().filter(|kept| kept.is(which, now)) {
            if !nodes.contains(&kept.node) {
                nodes.push(kept.node);
            }
        }
        nodes
    }
}

impl Kept {
    pub(crate) fn is(&self, which: Which, now: Timestamp) -> bool {
        let until = match which {
            Which::Usable => self.usable_until,
            Which::Open => self.open_until,
        };
        // A clock that jumped back must not make it longer.
        now < until && self.open_until <= now + (KEPT_FOR + LATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_795_000_000_000_000);
    const A: NodeIndex = NodeIndex(1);
    const B: NodeIndex = NodeIndex(2);

    fn after(millis: u64) -> Timestamp {
        NOW + Duration::from_millis(millis)
    }

    #[test]
    fn a_connection_is_its_nodes_own_and_ends_by_itself() {
        let mut keeping = Keeping::default();
        keeping.add(A, NOW);
        keeping.add(B, after(1000));
        assert_eq!(keeping.nodes(Which::Usable, after(3999)), [A, B]);
        assert_eq!(
            keeping.nodes(Which::Usable, after(4000)),
            [B],
            "its node may end it before a burst is there"
        );
        assert_eq!(keeping.count(Which::Open, after(6999)), 2);
        assert_eq!(keeping.nodes(Which::Open, after(7000)), [B]);
        assert_eq!(keeping.take(A, after(7000)), None);
        assert!(keeping.take(B, after(7000)).is_some_and(|kept| !kept.is(Which::Usable, after(7000))));
        assert_eq!(keeping.count(Which::Open, after(7000)), 0);
    }

    #[test]
    fn a_burst_takes_the_one_that_was_used_last_and_it_can_be_put_back() {
        let mut keeping = Keeping::default();
        (0..3).for_each(|second| keeping.add(A, after(second * 1000)));
        let last = keeping.take(A, after(2500)).unwrap();
        assert_eq!(last.usable_until, after(6000));
        keeping.put_back(last);
        assert_eq!(keeping.take(A, after(2500)), Some(last));
        assert_eq!(keeping.count(Which::Usable, after(2500)), 2);
        keeping.distrust(after(2500));
        assert_eq!(
            (keeping.count(Which::Usable, after(2500)), keeping.count(Which::Open, after(2500))),
            (0, 2)
        );
        let before = NOW - Duration::from_secs(60);
        assert_eq!(keeping.count(Which::Open, before), 0, "the clock has jumped back");
    }
}
