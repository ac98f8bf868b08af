//! The boots of a node: which of them is the node now, and who else comes with its key.
//!
//! A process that has ended may still be heard: what it has said before comes late, and proves nothing. One that lives dials again.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use queue::Boot;

use super::{NodeCounters, waiting::Waiting};
use crate::placement::NodeIndex;

/// The boots of a node, the newest apart.
#[derive(Debug)]
pub(super) struct Incarnations {
    pub(super) node: NodeIndex,
    pub(super) current: Option<Boot>,
    /// When the latest connection was taken over which one that was the node has said hello.
    latest: Option<Instant>,
    older: VecDeque<Older>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) counters: Arc<NodeCounters>,
}

/// A boot that a newer one has superseded.
#[derive(Clone, Copy, Debug)]
struct Older {
    boot: Boot,
    /// When that was.
    since: Instant,
}

/// Another process with the key of a node than the one that is the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    /// It may have ended: its connection was made before the newer one came.
    Outlived,
    /// It has lived since: it is a clone.
    Returned,
}

/// How a boot comes to be the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It was the node already.
    Kept,
    /// There was none.
    First,
    /// It takes the place of this one.
    After(Boot),
}

/// So many superseded boots of a node are remembered, so that one that returns is known for a clone.
pub(super) const OLDER: usize = 64;

impl Incarnations {
    /// Those of a node of which a boot is the first to come since the manager's start; another may have been here before.
    pub(super) fn new(node: NodeIndex, boot: Boot, before: Option<Boot>) -> Self {
        let mut incarnations = Self {
            node,
            current: None,
            latest: None,
            older: VecDeque::new(),
            waiting: Arc::default(),
            counters: Arc::default(),
        };
        if let Some(before) = before.filter(|before| *before != boot) {
            incarnations.supersede(before);
        }
        incarnations
    }

    /// Whether a boot may be the node that says hello over a connection which was made then.
    pub(super) fn judge(&mut self, boot: Boot, since: Instant) -> Result<(), Other> {
        if let Some(older) = self.older.iter().find(|older| older.boot == boot) {
            return Err(if since > older.since { Other::Returned } else { Other::Outlived });
        }
        let is_another = self.current.is_some_and(|current| current != boot);
        if is_another && self.latest.is_some_and(|latest| since < latest) {
            self.supersede(boot);
            return Err(Other::Outlived);
        }
        Ok(())
    }

    /// A boot is the node from now on.
    pub(super) fn take_place(&mut self, boot: Boot, since: Instant) -> Place {
        self.latest = self.latest.max(Some(since));
        match self.current.replace(boot) {
            None => Place::First,
            Some(current) if current == boot => Place::Kept,
            Some(current) => {
                self.supersede(current);
                Place::After(current)
            }
        }
    }

    /// Whether a boot is or was the node.
    pub(super) fn knows(&self, boot: Boot) -> bool {
        self.current == Some(boot) || self.older.iter().any(|older| older.boot == boot)
    }

    /// Whichever boot comes next is the node.
    pub(super) fn forget_older(&mut self) {
        self.older.clear();
    }

    fn supersede(&mut self, boot: Boot) {
        self.older.push_back(Older { boot, since: Instant::now() });
        if self.older.len() > OLDER {
            self.older.pop_front();
        }
    }
}
