//! Nodes: who may take part in the cluster, by public key.

use base::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params, types::Type};

use super::{Settings, cut};
use crate::{Error, Result};

/// The most nodes that are not removed; of those that are, the latest so many are remembered.
pub const MAX_NODES: u64 = 1000;
/// The longest name of a node, in bytes.
pub const MAX_NODE_NAME: usize = 64;

/// What an operator wants of a node, or what was found out about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeState {
    /// It gets work.
    Active,
    /// It takes no more.
    Cordoned,
    /// It finishes what it has and takes no more.
    Draining,
    /// Two processes seem to have its key, so none of them is let in.
    Quarantined,
    /// It is no longer of the cluster; remembered, so that it can be told when it comes back.
    Removed,
}

/// A node as the manager knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its Ed25519 public key.
    pub key: [u8; 32],
    /// What people call it; no two nodes have the same, in whatever case.
    pub name: String,
    /// The id of its data directory; nothing before it has come.
    pub id: Option<[u8; 16]>,
    /// Its state.
    pub state: NodeState,
    /// Since when it is in that state.
    pub since: Timestamp,
    /// When it was added.
    pub added: Timestamp,
    /// When it last came; nothing: never.
    pub seen: Option<Timestamp>,
    /// What tells its process of then from those before and after.
    pub boot: Option<[u8; 16]>,
    /// Why it is in its state; may be empty.
    pub why: String,
}

/// A node that is to take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// What people call it, at most [`MAX_NODE_NAME`] bytes.
    pub name: String,
    /// Its Ed25519 public key.
    pub key: [u8; 32],
}

/// What became of a node that was to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is active now, whether it was new or removed before.
    Added,
    /// Nothing: there is a node with this key.
    KeyKnown {
        /// What that is called.
        name: String,
    },
    /// Nothing: another node has the name.
    NameTaken {
        /// The name as that writes it.
        name: String,
        /// Its key.
        key: [u8; 32],
    },
}

impl Settings {
    /// All nodes, also those removed, by name.
    ///
    /// # Errors
    /// The settings cannot be read.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        self.with(|connection| {
            connection.prepare_cached("SELECT * FROM node ORDER BY name")?.query_map([], read)?.collect()
        })
    }

    /// Adds a node, active. What is left of removed ones with its key or its name is forgotten.
    ///
    /// # Errors
    /// There are [`MAX_NODES`], the name is too long, or the settings cannot be written.
    pub fn add_node(&self, new: &NewNode, now: Timestamp) -> Result<Added> {
        if new.name.len() > MAX_NODE_NAME {
            return Err(Error::TooMuch(format!("a node's name has at most {MAX_NODE_NAME} bytes")));
        }
        let added = self.with(|connection| {
            let transaction = connection.transaction()?;
            if let Some(hindrance) = hindrance(&transaction, new)? {
                return Ok(Some(hindrance));
            }
            if count(&transaction)? >= MAX_NODES {
                return Ok(None);
            }
            // Only removed ones are left that it could collide with.
            transaction.execute("DELETE FROM node WHERE key = ? OR name = ?", (&new.key[..], &new.name))?;
            transaction.execute(
                "INSERT INTO node (key, name, state, since, added, why)
                VALUES (:key, :name, :state, :now, :now, '')",
                named_params! {
                    ":key": &new.key[..],
                    ":name": new.name,
                    ":state": number(NodeState::Active),
                    ":now": now.micros(),
                },
            )?;
            transaction.commit()?;
            Ok(Some(Added::Added))
        })?;
        added.ok_or_else(|| {
            Error::TooMuch(format!("there are {MAX_NODES} nodes, which is the most: remove some first"))
        })
    }

    /// Brings a node into a state and returns it as it is now; nothing if there is none of that name or it is removed.
    /// One that is in the state already keeps its `since` and gets the reason. Without a reason one that is cordoned or draining, and
    /// stays one of the two, keeps the one that it has.
    ///
    /// # Errors
    /// The settings cannot be written.
    pub fn set_node_state(
        &self,
        name: &str,
        state: NodeState,
        why: &str,
        now: Timestamp,
    ) -> Result<Option<Node>> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            let node = transaction
                .query_row(
                    "UPDATE node
                    SET since = iif(state = :state, since, :now), state = :state,
                        why = iif(:why = '' AND :kept AND state IN (:cordoned, :draining), why, :why)
                    WHERE name = :name AND state <> :removed RETURNING *",
                    named_params! {
                        ":name": name,
                        ":state": number(state),
                        ":why": cut(why),
                        ":kept": matches!(state, NodeState::Cordoned | NodeState::Draining),
                        ":cordoned": number(NodeState::Cordoned),
                        ":draining": number(NodeState::Draining),
                        ":now": now.micros(),
                        ":removed": number(NodeState::Removed),
                    },
                    read,
                )
                .optional()?;
            forget_old(&transaction)?;
            transaction.commit()?;
            Ok(node)
        })
    }

    /// Notes that a node has come, and returns it as it is now; nothing if it is unknown or removed. This syncs, so it
    /// is for when a node connects and not for each sign of life.
    ///
    /// # Errors
    /// The settings cannot be written.
    pub fn node_seen(
        &self,
        key: &[u8; 32],
        id: [u8; 16],
        boot: [u8; 16],
        now: Timestamp,
    ) -> Result<Option<Node>> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "UPDATE node SET id = :id, boot = :boot, seen = :now
                    WHERE key = :key AND state <> :removed RETURNING *",
                )?
                .query_map(
                    named_params! {
                        ":key": &key[..],
                        ":id": &id[..],
                        ":boot": &boot[..],
                        ":now": now.micros(),
                        ":removed": number(NodeState::Removed),
                    },
                    read,
                )?
                .next()
                .transpose()
        })
    }

    /// Removes a node and returns it as it is now; nothing if there is none of that name or it is removed already.
    ///
    /// # Errors
    /// The settings cannot be written.
    pub fn remove_node(&self, name: &str, now: Timestamp) -> Result<Option<Node>> {
        self.set_node_state(name, NodeState::Removed, "", now)
    }
}

/// What keeps a node from being added.
fn hindrance(connection: &Connection, new: &NewNode) -> rusqlite::Result<Option<Added>> {
    let mut select = connection.prepare_cached(
        "SELECT * FROM node WHERE (key = :key OR name = :name) AND state <> :removed
        ORDER BY key = :key DESC LIMIT 1",
    )?;
    let removed = number(NodeState::Removed);
    let params = named_params! { ":key": &new.key[..], ":name": new.name, ":removed": removed };
    let other = select.query_row(params, read).optional()?;
    Ok(other.map(|other| {
        if other.key == new.key {
            Added::KeyKnown { name: other.name }
        } else {
            Added::NameTaken { name: other.name, key: other.key }
        }
    }))
}

fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = connection.query_row(
        "SELECT count(*) FROM node WHERE state <> ?",
        [number(NodeState::Removed)],
        |row| row.get(0),
    )?;
    Ok(count.cast_unsigned())
}

/// Forgets who was removed so long ago that there are too many.
fn forget_old(connection: &Connection) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM node WHERE key IN
            (SELECT key FROM node WHERE state = ? ORDER BY since DESC LIMIT -1 OFFSET ?)",
    )?;
    delete.execute((number(NodeState::Removed), MAX_NODES.cast_signed())).map(drop)
}

fn number(state: NodeState) -> i64 {
    match state {
        NodeState::Active => 1,
        NodeState::Cordoned => 2,
        NodeState::Draining => 3,
        NodeState::Quarantined => 4,
        NodeState::Removed => 5,
    }
}

fn state(number: i64) -> Option<NodeState> {
    Some(match number {
        1 => NodeState::Active,
        2 => NodeState::Cordoned,
        3 => NodeState::Draining,
        4 => NodeState::Quarantined,
        5 => NodeState::Removed,
        _ => return None,
    })
}

fn read(row: &Row<'_>) -> rusqlite::Result<Node> {
    let number: i64 = row.get("state")?;
    let unknown = || rusqlite::Error::InvalidColumnType(0, format!("state {number}"), Type::Integer);
    Ok(Node {
        key: row.get("key")?,
        name: row.get("name")?,
        id: row.get("id")?,
        state: state(number).ok_or_else(unknown)?,
        since: Timestamp::from_micros(row.get("since")?),
        added: Timestamp::from_micros(row.get("added")?),
        seen: row.get::<_, Option<i64>>("seen")?.map(Timestamp::from_micros),
        boot: row.get("boot")?,
        why: row.get("why")?,
    })
}
