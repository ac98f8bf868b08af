//! The nodes whose keys are registered: the authority on who is let in. It is kept in the settings, and in memory for handshakes.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

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
    connections: Mutex<Connections>,
    /// Held while a state is changed.
    changing: Mutex<()>,
}

/// The state of a node cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Two processes seem to have its key: it is out until an operator has looked, and says so.
    #[error("{0} is quarantined: it can only be resumed or removed")]
    Quarantined(String),
    /// The registry cannot be written.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The connections that nodes have now.
#[derive(Debug, Default)]
struct Connections {
    last: u64,
    /// By the key and the number, the oldest first; what ends each.
    of: HashMap<PublicKey, VecDeque<(u64, CancellationToken)>>,
}

/// A node has no more connections than this: a link takes three, and those of one that has broken may linger for a while.
const CONNECTIONS: usize = 8;

/// A connection of a node, for as long as it is there.
#[derive(Debug)]
pub(crate) struct Connection {
    registry: Arc<Registry>,
    key: PublicKey,
    number: u64,
    /// Ends it.
    pub(crate) ends: CancellationToken,
    pub(crate) room: Room,
}

/// Whether a node had room for one more connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Yes,
    /// Its oldest was ended for it.
    No,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut connections = self.registry.connections.lock();
        if let Some(of) = connections.of.get_mut(&self.key) {
            of.retain(|(number, _)| *number != self.number);
            if of.is_empty() {
                connections.of.remove(&self.key);
            }
        }
    }
}

impl Registry {
    /// Reads it.
    pub(crate) fn read(settings: Arc<Settings>) -> Result<Self> {
        let (nodes, connections, changing) = (RwLock::default(), Mutex::default(), Mutex::default());
        let registry = Self { settings, nodes, connections, changing };
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
    ) -> std::result::Result<Option<Node>, StateError> {
        let _turn = self.changing.lock();
        let is_quarantined =
            |node: &Node| node.state == NodeState::Quarantined && node.name.eq_ignore_ascii_case(name);
        if matches!(state, NodeState::Cordoned | NodeState::Draining)
            && self.nodes.read().values().any(is_quarantined)
        {
            return Err(StateError::Quarantined(name.to_owned()));
        }
        let node = self.settings.set_node_state(name, state, why, now)?;
        self.refresh()?;
        for (key, of) in &self.connections.lock().of {
            if self.check(key).is_err() {
                of.iter().for_each(|(_, ends)| ends.cancel());
            }
        }
        Ok(node)
    }

    /// A node has a connection. It ends with the operator's word that the node is let in no more, or when there are too many newer ones.
    pub(crate) fn connected(
        self: &Arc<Self>,
        key: &PublicKey,
    ) -> std::result::Result<Connection, NotAdmitted> {
        let mut connections = self.connections.lock();
        connections.last += 1;
        let (number, ends) = (connections.last, CancellationToken::new());
        let of = connections.of.entry(*key).or_default();
        of.push_back((number, ends.clone()));
        let oldest = if of.len() > CONNECTIONS { of.pop_front() } else { None };
        drop(connections);
        let room = if oldest.is_some() { Room::No } else { Room::Yes };
        if let Some((_, ends)) = oldest {
            ends.cancel();
        }
        let connection = Connection { registry: self.clone(), key: *key, number, ends, room };
        // The word may have come between the handshake and here.
        self.check(key).map(|()| connection)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(folder: &tempfile::TempDir) -> Arc<Registry> {
        let settings = Settings::open(folder.path().join("settings.db")).expect("a new file");
        Arc::new(Registry::read(Arc::new(settings)).expect("it is empty"))
    }

    #[test]
    fn a_node_has_so_many_connections_and_the_oldest_makes_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = registry(&folder);
        let [key, other] = [[1; 32], [2; 32]].map(PublicKey::from_bytes);
        for (name, key) in [("mx1", &key), ("mx2", &other)] {
            registry.add(name, key, Timestamp::from_millis(1)).expect("it is new");
        }
        let connect = |key| registry.connected(key).expect("it is registered");
        let others = connect(&other);
        let mut all: Vec<Connection> = (0..CONNECTIONS).map(|_| connect(&key)).collect();
        assert!(all.iter().all(|one| one.room == Room::Yes && !one.ends.is_cancelled()));
        drop(all.remove(3));
        all.push(connect(&key));
        assert_eq!(all.last().map(|one| one.room), Some(Room::Yes), "one had gone");
        all.push(connect(&key));
        assert_eq!(all.last().map(|one| one.room), Some(Room::No));
        let ended: Vec<bool> = all.iter().map(|one| one.ends.is_cancelled()).collect();
        assert!(ended[0] && ended[1..].iter().all(|ended| !ended), "{ended:?}");

        registry.set_state("mx1", NodeState::Removed, "", Timestamp::from_millis(2)).expect("it is there");
        assert!(all.iter().all(|one| one.ends.is_cancelled()) && !others.ends.is_cancelled());
        assert!(matches!(registry.connected(&key), Err(NotAdmitted::Removed)));
        drop((all, others));
        assert!(registry.connections.lock().of.is_empty());
    }
}
