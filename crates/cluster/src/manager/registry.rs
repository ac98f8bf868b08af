//! The nodes whose keys are registered: the authority on who is let in. It is kept in the settings, and in memory for handshakes.

use std::{collections::HashMap, sync::Arc};

use base::{NodeId, Timestamp};
use parking_lot::{Mutex, RwLock};
use queue::Boot;
use store::{
    Result,
    settings::{Added, NewNode, Node, NodeState, Settings},
};
use tokio_util::sync::CancellationToken;

use crate::{
    identity::PublicKey,
    tls::{self, NotAdmitted},
};

/// All nodes that the operator has added.
#[derive(Debug)]
pub(crate) struct Registry {
    settings: Arc<Settings>,
    nodes: RwLock<HashMap<PublicKey, Node>>,
    /// What ends the connections of nodes that were here.
    connections: Mutex<HashMap<PublicKey, CancellationToken>>,
}

impl Registry {
    /// Reads it.
    pub(crate) fn read(settings: Arc<Settings>) -> Result<Self> {
        let registry = Self { settings, nodes: RwLock::default(), connections: Mutex::default() };
        registry.refresh()?;
        Ok(registry)
    }

    fn refresh(&self) -> Result<()> {
        let nodes = self.settings.nodes()?.into_iter();
        *self.nodes.write() = nodes.map(|node| (PublicKey::from_bytes(node.key), node)).collect();
        Ok(())
    }

    pub(crate) fn find(&self, key: &PublicKey) -> Option<Node> {
        self.nodes.read().get(key).cloned()
    }

    /// Whether the operator wants this node to get work.
    pub(crate) fn is_active(&self, key: &PublicKey) -> bool {
        self.nodes.read().get(key).is_some_and(|node| node.state == NodeState::Active)
    }

    /// Those that have not been removed, by name.
    pub(crate) fn all(&self) -> Vec<(PublicKey, Node)> {
        let nodes = self.nodes.read();
        let mut all: Vec<_> = nodes
            .iter()
            .filter(|(_, node)| node.state != NodeState::Removed)
            .map(|(key, node)| (*key, node.clone()))
            .collect();
        all.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        all
    }

    /// Whether another node has this name.
    pub(crate) fn is_taken(&self, name: &str, by_other_than: &PublicKey) -> bool {
        self.all().iter().any(|(key, node)| key != by_other_than && node.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn add(&self, name: &str, key: &PublicKey, now: Timestamp) -> Result<Added> {
        let new = NewNode { name: name.to_owned(), key: key.to_bytes() };
        let added = self.settings.add_node(&new, now)?;
        self.refresh()?;
        Ok(added)
    }

    pub(crate) fn set_state(
        &self,
        name: &str,
        state: NodeState,
        why: &str,
        now: Timestamp,
    ) -> Result<Option<Node>> {
        let node = self.settings.set_node_state(name, state, why, now)?;
        self.refresh()?;
        self.connections.lock().retain(|key, ends| {
            let stays = self.check(key).is_ok();
            if !stays {
                ends.cancel();
            }
            stays
        });
        Ok(node)
    }

    /// What ends a connection of a node: the operator's word that it is let in no more.
    pub(crate) fn connected(&self, key: &PublicKey) -> std::result::Result<CancellationToken, NotAdmitted> {
        let ends = self.connections.lock().entry(*key).or_default().clone();
        // The word may have come between the handshake and here.
        self.check(key).map(|()| ends)
    }

    pub(crate) fn seen(&self, key: &PublicKey, id: NodeId, boot: Boot, now: Timestamp) -> Result<()> {
        let seen = self.settings.node_seen(&key.to_bytes(), id.to_bytes(), boot.0.to_be_bytes(), now)?;
        if let (Some(seen), Some(node)) = (seen, self.nodes.write().get_mut(key)) {
            *node = seen;
        }
        Ok(())
    }

    fn check(&self, key: &PublicKey) -> std::result::Result<(), NotAdmitted> {
        match self.nodes.read().get(key).map(|node| node.state) {
            None => Err(NotAdmitted::Unknown),
            Some(NodeState::Removed) => Err(NotAdmitted::Removed),
            Some(NodeState::Quarantined) => Err(NotAdmitted::Quarantined),
            Some(NodeState::Active | NodeState::Cordoned | NodeState::Draining) => Ok(()),
        }
    }
}

impl tls::Registry for Registry {
    fn admits(&self, key: &PublicKey) -> std::result::Result<(), NotAdmitted> {
        self.check(key)
    }
}
