//! How the node is.

use base::NodeId;
use queue::Room;
use serde::{Deserialize, Serialize};

use super::{Moment, Wanted};

/// How the node is, and what it has done since its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The node's name.
    pub name: String,
    /// The node's id.
    pub node_id: NodeId,
    /// The program's version.
    pub version: String,
    /// What the node is to others.
    pub role: Role,
    /// Whether it takes mail in.
    #[serde(flatten)]
    pub readiness: Readiness,
    /// When it started.
    pub started: Moment,
    /// For how long it has been running.
    pub uptime_seconds: u64,
    /// Recipients accepted since its start, as all counts here up to `expired`.
    pub accepted: u64,
    /// Recipients that a next hop took.
    pub delivered: u64,
    /// Attempts for a recipient that did not end it.
    pub deferred: u64,
    /// Recipients that failed.
    pub bounced: u64,
    /// Recipients that were too old.
    pub expired: u64,
    /// Recipients in the queue now.
    pub queued: u64,
    /// Works in the queue now.
    pub queued_works: u64,
    /// SMTP sessions of clients now.
    pub sessions: u64,
    /// Connections to next hops now.
    pub connections: u64,
    /// How fast it was lately.
    pub rates: Rates,
    /// How full the spool is.
    pub spool: SpoolStatus,
    /// How the message log keeps up.
    pub records: RecordsStatus,
    /// Of a worker: how it stands with its manager. Queue, spool and log are the manager's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerStatus>,
}

/// What a node is to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It stands alone.
    Standalone,
    /// It keeps the queue for its workers.
    Manager,
    /// It works for its manager.
    Worker,
}

/// How a worker stands with its manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// The manager's name; empty before it was reached first.
    pub manager: String,
    /// Why there is no link to it, if there is none.
    pub away: Option<String>,
    /// What the manager has made of this node, if it has said so instead of letting it in: removed or quarantined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Wanted>,
    /// Where this node takes mail in.
    #[serde(default)]
    pub doors: Vec<String>,
    /// Works that it has now.
    pub works: u64,
    /// Messages that wait for the manager's answer.
    pub waiting: u64,
}

/// Whether a node takes mail in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It does not, and why.
    NotReady(String),
}

/// Recipients a second over the last ten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Accepted.
    pub accepted: f64,
    /// Delivered.
    pub delivered: f64,
    /// Deferred.
    pub deferred: f64,
    /// Bounced.
    pub bounced: f64,
}

/// How full the spool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// Segments in use.
    pub segments: u64,
    /// Segments ready to be used again.
    pub free_segments: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes that are free on that disk.
    pub disk_free: u64,
    /// What follows from that.
    pub room: DiskRoom,
}

/// How much room the disk has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskRoom {
    /// Enough.
    #[default]
    Enough,
    /// Little: `spool.warn-free` is not kept.
    Low,
    /// Too little: new mail is refused.
    Full,
}

impl From<Room> for DiskRoom {
    fn from(room: Room) -> Self {
        match room {
            Room::Enough => Self::Enough,
            Room::Low => Self::Low,
            Room::Full => Self::Full,
        }
    }
}

/// How the message log keeps up with the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordsStatus {
    /// Records that the spool holds and the log does not yet.
    pub behind: u64,
    /// Bytes of the log on disk.
    #[serde(default)]
    pub bytes: u64,
    /// Records that were given up, because the log did not take them for too long.
    #[serde(default)]
    pub lost: u64,
}

// On the wire: `"ready": true`, or `"ready": false, "reason": "…"`.
#[derive(Serialize, Deserialize)]
struct ReadinessFields {
    ready: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Serialize for Readiness {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (ready, reason) = match self {
            Self::Ready => (true, None),
            Self::NotReady(reason) => (false, Some(reason.clone())),
        };
        ReadinessFields { ready, reason }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Readiness {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = ReadinessFields::deserialize(deserializer)?;
        Ok(if fields.ready { Self::Ready } else { Self::NotReady(fields.reason.unwrap_or_default()) })
    }
}
