//! The nodes of a cluster, as their manager knows them.

use base::{HostName, NodeId};
use serde::{Deserialize, Serialize};

use super::{ApiError, ErrorKind, Moment, Readiness};

/// All nodes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodesReport {
    /// The manager, who says this.
    pub manager: ManagerEntry,
    /// For how much longer nothing is taken back from silent nodes, if takeover is frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_seconds: Option<u64>,
    /// The nodes that are registered, by name.
    pub nodes: Vec<NodeEntry>,
}

/// The manager among its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerEntry {
    /// Its name.
    pub name: String,
    /// Its id.
    pub node_id: NodeId,
    /// The version of its program.
    pub version: String,
    /// Whether it takes mail in.
    #[serde(flatten)]
    pub readiness: Readiness,
    /// What its workers know it by.
    pub pin: String,
    /// Where it lets them in, as configured.
    pub link: String,
    /// Its own EHLO name.
    pub ehlo: String,
    /// Where it takes mail in.
    pub doors: Vec<String>,
    /// Works that it attempts itself now.
    pub works: u64,
}

/// A node that is registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Its name.
    pub name: String,
    /// Its public key, as OpenSSH writes it.
    pub key: String,
    /// That in short.
    pub fingerprint: String,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// Why, if somebody said so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What is believed of it.
    pub presence: Presence,
    /// How long ago it was heard; nothing: not since the manager's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_seconds: Option<u64>,
    /// Whether there is a link to it.
    pub linked: bool,
    /// When it was added.
    pub added: Moment,
    /// When it connected last; nothing: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<Moment>,
    /// The version of its program; this and what follows as it says, empty if it is not there.
    pub version: String,
    /// Its own EHLO name.
    pub ehlo: String,
    /// Where it takes mail in.
    pub doors: Vec<String>,
    /// Works that it was given and has.
    pub works: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Works that nobody else may attempt because it holds them, also those of its former processes.
    pub held: u64,
    /// Messages that it has brought since the manager's start.
    pub brought: u64,
    /// Works that it was given since then.
    pub granted: u64,
}

impl NodeEntry {
    /// Works that it has in one way or the other.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.works.max(self.held)
    }
}

/// What is wanted of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// It gets work.
    Active,
    /// It takes no more.
    Cordoned,
    /// It finishes what it has and takes no more.
    Draining,
    /// Two processes seem to have its key, so none of them is let in.
    Quarantined,
    /// It is no longer of the cluster.
    Removed,
}

/// What the manager believes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// It has not come yet.
    Never,
    /// It has stopped, or has not come since the manager's start.
    Away,
    /// It has works from before the manager's start, and has not been heard since.
    Expected,
    /// It is heard.
    Alive,
    /// It has fallen silent: it keeps what it has, and is given nothing more.
    Suspect,
    /// It was silent for so long that what it had went elsewhere.
    Gone,
    /// It is heard again, and is given nothing before it has been steady.
    Returning,
}

/// A node that shall be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddNodeRequest {
    /// Its public key, as `posthouse identity show` prints it on that node.
    pub key: String,
    /// What it is to be called.
    pub name: HostName,
}

/// What is to become of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeAction {
    /// It takes no more.
    Cordon,
    /// It finishes what it has and takes no more.
    Drain,
    /// It gets work again.
    Resume,
    /// It is let in no more.
    Remove,
}

impl NodeAction {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cordon, Self::Drain, Self::Resume, Self::Remove];

    /// As it stands in paths and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cordon => "cordon",
            Self::Drain => "drain",
            Self::Resume => "resume",
            Self::Remove => "remove",
        }
    }
}

/// What there is to say with that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeNodeRequest {
    /// Why, for those who come later.
    pub why: String,
}

/// What became of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedNode {
    /// The node as it is now.
    #[serde(flatten)]
    pub node: NodeEntry,
    /// Of a node that was removed and still holds works: how long it has to be silent before they go elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere_seconds: Option<u64>,
    /// And how much longer that which it may have delivered waits, unless that is until somebody has it tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_loss_seconds: Option<u64>,
}

/// What became of a freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeoverAnswer {
    /// Whether there was one.
    pub was_frozen: bool,
}

/// The no of one who is asked about a node that he does not know, with the name that was probably meant.
pub(crate) fn unknown_node<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> ApiError {
    let meant = base::nearest(name, known);
    let meant = meant.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
    ApiError::new(ErrorKind::NotFound, format!("there is no node \"{name}\"{meant}"))
        .hint("`posthouse nodes list` shows all of them")
}
