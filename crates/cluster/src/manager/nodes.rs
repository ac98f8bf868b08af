//! The operator's word about nodes, and what there is to see of them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use base::Timestamp;
use queue::Boot;
use store::settings::{Added, NodeState};

use super::{Manager, NodeCounters, member::Linked, registry::StateError};
use crate::{
    boot_time,
    identity::PublicKey,
    membership::{Liveness, Member as Believed},
    placement::Amount,
    wire::manager_word,
};

/// A node as an operator sees it.
#[derive(Clone, Debug)]
pub struct NodeReport {
    /// What it is called.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
    /// What the operator wants of it.
    pub state: NodeState,
    /// Why it is in this state, if somebody said so.
    pub why: String,
    /// When it was added.
    pub added: Timestamp,
    /// When it connected last, if ever.
    pub seen: Option<Timestamp>,
    /// What the manager believes of it now; nothing if it has not been here since the start.
    pub liveness: Option<Liveness>,
    /// How long ago it was heard.
    pub heard: Option<Duration>,
    /// Whether there is a link to it.
    pub linked: bool,
    /// The version of its program.
    pub version: String,
    /// Its own EHLO name.
    pub ehlo: String,
    /// Where it takes mail in.
    pub doors: Vec<String>,
    /// Works that it has now.
    pub works: u32,
    /// Bytes that it has now.
    pub bytes: u64,
    /// Works that it holds leases of, of any of its boots.
    pub held: usize,
    /// Messages that it has brought since the manager's start.
    pub brought: u64,
    /// Works that it was given since then.
    pub granted: u64,
}

/// For how long a node that has works has been silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// So long.
    pub lasts: Duration,
    /// In so long its works are taken back, unless it is heard; nothing while takeover is frozen.
    pub gone_in: Option<Duration>,
}

/// A node cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The name is the manager's.
    #[error("{0} is the manager's own name")]
    OwnName(String),
    /// The key is the manager's.
    #[error("this is the manager's own key")]
    OwnKey,
    /// The key is another node's.
    #[error("this key is registered already, as {0}")]
    KeyKnown(String),
    /// The name is another node's.
    #[error("the name {name} is taken by the node with the key {fingerprint}")]
    NameTaken {
        /// The name.
        name: String,
        /// The other node's key, in short.
        fingerprint: String,
    },
    /// The registry cannot be written.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Manager {
    /// Adds a node's key under a name.
    ///
    /// # Errors
    /// The key or the name is another's or the manager's own, or the registry cannot be written.
    pub fn add_key(&self, name: &str, key: &PublicKey) -> Result<(), AddError> {
        if self.0.registry.is_own(name) {
            return Err(AddError::OwnName(name.to_owned()));
        }
        if self.0.own_key == *key {
            return Err(AddError::OwnKey);
        }
        match self.0.registry.add(name, key, self.0.clock.now())? {
            Added::Added => {
                // Its processes of before may be here still, as long as they are not over.
                for member in self.0.members.lock().by_boot.values().filter(|member| member.key == *key) {
                    member.rename(name);
                }
                Ok(())
            }
            Added::KeyKnown { name } => Err(AddError::KeyKnown(name)),
            Added::NameTaken { name, key } => {
                Err(AddError::NameTaken { name, fingerprint: PublicKey::from_bytes(key).fingerprint() })
            }
        }
    }

    /// Changes what is wanted of a node; says whether there is one of this name.
    ///
    /// # Errors
    /// The node is quarantined and this would not end that, or the registry cannot be written.
    pub fn set_state(&self, name: &str, state: NodeState, why: &str) -> Result<bool, StateError> {
        if state == NodeState::Active {
            self.looked_into(name);
        }
        let Some(node) = self.0.registry.set_state(name, state, why, self.0.clock.now())? else {
            return Ok(false);
        };
        let key = PublicKey::from_bytes(node.key);
        if matches!(state, NodeState::Removed | NodeState::Quarantined) {
            self.0.cut(&key);
        } else {
            let wanted = self.0.wanted(&node);
            for member in self.0.members.lock().by_boot.values().filter(|member| member.key == key) {
                member.tell(manager_word::Word::Wanted(wanted));
            }
        }
        self.0.freed.notify_one();
        Ok(true)
    }

    /// Who was a copy has been looked into, if the node is quarantined: whichever process of it comes next is the node.
    fn looked_into(&self, name: &str) {
        let mut nodes = self.0.registry.all().into_iter();
        let node = nodes.find(|(_, node)| node.name.eq_ignore_ascii_case(name));
        let Some((key, _)) = node.filter(|(_, node)| node.state == NodeState::Quarantined) else { return };
        let mut members = self.0.members.lock();
        if let Some(incarnations) = members.nodes.get_mut(&key) {
            incarnations.forget_older();
        }
        members.by_boot.values().filter(|member| member.key == key).for_each(|member| member.counts_anew());
    }

    /// Ends a freeze of takeover; says whether there was one.
    pub fn takeover(&self) -> bool {
        let mut membership = self.0.membership.lock();
        let frozen = membership.frozen_until().is_some();
        let changes = membership.takeover(boot_time::now());
        drop(membership);
        self.0.changed(changes);
        frozen
    }

    /// How much longer nothing is taken back, if takeover is frozen.
    #[must_use]
    pub fn frozen_for(&self) -> Option<Duration> {
        let until = self.0.membership.lock().frozen_until()?;
        Some(until.since(boot_time::now()))
    }

    /// All nodes that are registered, by name.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeReport> {
        let held = self.0.queue.boots();
        let now = boot_time::now();
        let members = self.0.members.lock();
        let membership = self.0.membership.lock();
        let reports = self.0.registry.all().into_iter().map(|(key, node)| {
            let of = members.nodes.get(&key);
            let current = of.and_then(|of| members.by_boot.get(&of.current?));
            let is_its = |boot: &Boot| {
                members.by_boot.get(boot).is_some_and(|member| member.key == key)
                    || node.boot == Some(boot.0.to_be_bytes())
            };
            let boot = current
                .map(|member| member.boot)
                .or_else(|| node.boot.map(|boot| Boot(u128::from_be_bytes(boot))));
            let believed: Option<&Believed> = boot
                .and_then(|boot| membership.members().find(|(other, _)| *other == boot).map(|(_, of)| of));
            let facts = current.map(|member| member.facts()).unwrap_or_default();
            let counted = |count: fn(&NodeCounters) -> &AtomicU64| {
                of.map_or(0, |node| count(&node.counters).load(Ordering::Relaxed))
            };
            let Amount { works, bytes } = current.map(|member| member.load.held()).unwrap_or_default();
            NodeReport {
                name: node.name,
                key,
                state: node.state,
                why: node.why,
                added: node.added,
                seen: node.seen,
                liveness: believed.map(|member| member.liveness),
                heard: believed.map(|member| now.since(member.heard)),
                linked: current.is_some_and(|member| member.linked() == Linked::Yes),
                version: facts.version,
                ehlo: facts.ehlo,
                doors: facts.doors,
                works,
                bytes,
                held: held.iter().filter(|(boot, _)| is_its(boot)).map(|(_, held)| held).sum(),
                brought: counted(|counters| &counters.brought),
                granted: counted(|counters| &counters.granted),
            }
        });
        reports.collect()
    }

    /// What the node of a boot is called, unless a later boot is all that is known of it.
    #[must_use]
    pub fn name_of(&self, boot: Boot) -> Option<String> {
        Some(self.0.process(boot).node).filter(|name| !name.is_empty())
    }

    /// For how long this process of a node has been silent, if it is suspect, or has not been heard since the start.
    #[must_use]
    pub fn silence(&self, boot: Boot) -> Option<Silence> {
        let now = boot_time::now();
        let membership = self.0.membership.lock();
        let (_, member) = membership.members().find(|(other, _)| *other == boot)?;
        let is_silent = matches!(member.liveness, Liveness::Expected | Liveness::Suspect { .. });
        let lasts = now.since(member.heard);
        let gone_in = self.0.options.timing.gone.saturating_sub(lasts);
        let gone_in = membership.frozen_until().is_none().then_some(gone_in);
        is_silent.then_some(Silence { lasts, gone_in })
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> &super::Counters {
        &self.0.counters
    }
}
