//! The nodes whose keys are registered: the authority on who is let in. It is kept in the settings, and in memory for handshakes.

use std::{
    collections::{HashMap, HashSet, VecDeque},
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
    /// The manager's own name, which no node may have.
    own: String,
    copy: RwLock<Known>,
    connections: Mutex<Connections>,
    /// Held by whoever writes: what he has read or written must not be older than what is in the copy when he puts it there.
    changing: Mutex<()>,
}

/// What the settings say, in memory.
#[derive(Debug, Default)]
struct Known {
    nodes: HashMap<PublicKey, Node>,
    /// Quarantined, which the settings do not say yet.
    to_note: HashSet<PublicKey>,
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
    /// Reads it, for a manager of this name.
    pub(crate) fn read(settings: Arc<Settings>, own: &str) -> Result<Self> {
        let (copy, connections, changing) = (RwLock::default(), Mutex::default(), Mutex::default());
        let registry = Self { settings, own: own.to_owned(), copy, connections, changing };
        registry.write(|_| Ok(()))?;
        Ok(registry)
    }

    /// Writes to the settings, and reads them into the copy; one after the other, so that nobody puts there what another has changed
    /// meanwhile.
    fn write<T>(&self, write: impl FnOnce(&Settings) -> Result<T>) -> Result<T> {
        let _turn = self.changing.lock();
        self.write_in_turn(write)
    }

    fn write_in_turn<T>(&self, write: impl FnOnce(&Settings) -> Result<T>) -> Result<T> {
        let written = write(&self.settings)?;
        let nodes = self.settings.nodes()?.into_iter();
        let mut copy = self.copy.write();
        let Known { nodes: copied, to_note } = &mut *copy;
        *copied = nodes.map(|node| (PublicKey::from_bytes(node.key), node)).collect();
        for key in &*to_note {
            if let Some(node) = copied.get_mut(key).filter(|node| node.state != NodeState::Removed) {
                node.state = NodeState::Quarantined;
            }
        }
        drop(copy);
        self.end_connections();
        Ok(written)
    }

    /// Ends the connections of nodes that are let in no more.
    fn end_connections(&self) {
        for (key, of) in &self.connections.lock().of {
            if self.check(key).is_err() {
                of.iter().for_each(|(_, ends)| ends.cancel());
            }
        }
    }

    pub(crate) fn find(&self, key: &PublicKey) -> Option<Node> {
        self.copy.read().nodes.get(key).cloned()
    }

    /// Whether the operator wants this node to get work.
    pub(crate) fn is_active(&self, key: &PublicKey) -> bool {
        self.copy.read().nodes.get(key).is_some_and(|node| node.state == NodeState::Active)
    }

    /// Those that have not been removed, by name.
    pub(crate) fn all(&self) -> Vec<(PublicKey, Node)> {
        let copy = self.copy.read();
        let mut all: Vec<_> = (copy.nodes.iter())
            .filter(|(_, node)| node.state != NodeState::Removed)
            .map(|(key, node)| (*key, node.clone()))
            .collect();
        all.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        all
    }

    /// Whether the manager has this name.
    pub(crate) fn is_own(&self, name: &str) -> bool {
        self.own.eq_ignore_ascii_case(name)
    }

    /// Whether another node has this name, or the manager.
    pub(crate) fn is_taken(&self, name: &str, by_other_than: &PublicKey) -> bool {
        self.is_own(name)
            || self
                .all()
                .iter()
                .any(|(key, node)| key != by_other_than && node.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn add(&self, name: &str, key: &PublicKey, now: Timestamp) -> Result<Added> {
        let new = NewNode { name: name.to_owned(), key: key.to_bytes() };
        self.write(|settings| settings.add_node(&new, now))
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
            && self.copy.read().nodes.values().any(is_quarantined)
        {
            return Err(StateError::Quarantined(name.to_owned()));
        }
        let changed = self.write_in_turn(|settings| {
            let node = settings.set_node_state(name, state, why, now)?;
            if let Some(node) = &node {
                // The operator has decided.
                self.copy.write().to_note.remove(&PublicKey::from_bytes(node.key));
            }
            Ok(node)
        });
        Ok(changed?)
    }

    /// Keeps a node out from now on, without a wait for the disk: [`note_quarantine`](Self::note_quarantine) does that.
    pub(crate) fn quarantine(&self, key: &PublicKey) {
        let mut copy = self.copy.write();
        let Known { nodes, to_note } = &mut *copy;
        if let Some(node) = nodes.get_mut(key).filter(|node| node.state != NodeState::Removed) {
            node.state = NodeState::Quarantined;
            to_note.insert(*key);
        }
        drop(copy);
        self.end_connections();
    }

    /// Writes down that a node is quarantined, unless an operator has decided otherwise meanwhile. If that fails it is kept out all the
    /// same, until the manager starts anew.
    pub(crate) fn note_quarantine(&self, key: &PublicKey, why: &str, now: Timestamp) -> Result<()> {
        let _turn = self.changing.lock();
        let copy = self.copy.read();
        let Some(node) = copy.nodes.get(key).filter(|_| copy.to_note.contains(key)).cloned() else {
            return Ok(());
        };
        drop(copy);
        self.write_in_turn(|settings| {
            settings.set_node_state(&node.name, NodeState::Quarantined, why, now)?;
            self.copy.write().to_note.remove(key);
            Ok(())
        })
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

    /// How many a node has.
    #[cfg(test)]
    pub(crate) fn connections(&self, key: &PublicKey) -> usize {
        self.connections.lock().of.get(key).map_or(0, VecDeque::len)
    }

    pub(crate) fn seen(&self, key: &PublicKey, id: NodeId, boot: Boot, now: Timestamp) -> Result<()> {
        let _turn = self.changing.lock();
        let seen = self.settings.node_seen(&key.to_bytes(), id.to_bytes(), boot.0.to_be_bytes(), now)?;
        // All of them are not read for this: all come at once after a restart.
        let mut copy = self.copy.write();
        let is_to_note = copy.to_note.contains(key);
        if let (Some(seen), Some(node)) = (seen, copy.nodes.get_mut(key)) {
            let state = if is_to_note { NodeState::Quarantined } else { seen.state };
            *node = Node { state, ..seen };
        }
        Ok(())
    }

    fn check(&self, key: &PublicKey) -> std::result::Result<(), NotAdmitted> {
        match self.copy.read().nodes.get(key).map(|node| node.state) {
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
        Arc::new(Registry::read(Arc::new(settings), "mx0").expect("it is empty"))
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

    #[test]
    fn nobody_writes_while_another_has_his_turn() {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = registry(&folder);
        let [key, other] = [[1; 32], [2; 32]].map(PublicKey::from_bytes);
        let now = Timestamp::from_millis(1);
        registry.add("mx2", &key, now).expect("it is new");
        let written = || {
            let nodes = registry.settings.nodes().expect("it can be read");
            (nodes.len(), nodes.iter().any(|node| node.seen.is_some()))
        };
        let (writes, to_write) = std::sync::mpsc::channel();
        let adds = writes.clone();
        std::thread::scope(|scope| {
            let turn = registry.changing.lock();
            scope.spawn(|| {
                writes.send(registry.seen(&key, NodeId::from_bytes([7; 16]), Boot(1), now).is_ok())
            });
            scope.spawn(|| adds.send(registry.add("mx3", &other, now).is_ok()));
            assert!(to_write.recv_timeout(std::time::Duration::from_millis(100)).is_err(), "neither is done");
            assert_eq!(written(), (1, false), "a removal may be under way");
            drop(turn);
        });
        assert_eq!((written(), registry.find(&key).and_then(|node| node.seen)), ((2, true), Some(now)));
    }

    #[test]
    fn a_quarantine_counts_at_once_and_until_an_operator_decides_otherwise() {
        let folder = tempfile::tempdir().expect("a folder");
        let registry = registry(&folder);
        let [key, other] = [[1; 32], [2; 32]].map(PublicKey::from_bytes);
        let now = Timestamp::from_millis(1);
        registry.add("mx2", &key, now).expect("it is new");
        let noted = || registry.settings.nodes().expect("it can be read").pop().map(|node| node.state);
        registry.quarantine(&key);
        registry.seen(&key, NodeId::from_bytes([7; 16]), Boot(1), now).expect("it can be noted");
        registry.add("mx1", &other, now).expect("it is new");
        assert_eq!(registry.check(&key), Err(NotAdmitted::Quarantined), "whatever else is written");
        assert_eq!(noted(), Some(NodeState::Active));
        registry.note_quarantine(&key, "", now).expect("it can be noted");
        assert_eq!(noted(), Some(NodeState::Quarantined));
        registry.set_state("mx2", NodeState::Active, "", now).expect("it is there");
        registry.quarantine(&key);
        registry.set_state("mx2", NodeState::Active, "", now).expect("it is there");
        registry.note_quarantine(&key, "", now).expect("there is nothing to note");
        assert_eq!((registry.check(&key), noted()), (Ok(()), Some(NodeState::Active)), "it is decided");
    }
}
