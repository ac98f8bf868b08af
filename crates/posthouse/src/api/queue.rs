//! What waits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Moment;

/// What to show of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueQuery {
    /// Only this destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// At most so many works one by one (and 10,000 at most), the oldest first; without it only destinations are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub works: Option<u32>,
    /// Only works that are where they are for this reason, as the list shows it, also while they are being attempted again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What waits, by destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueReport {
    /// The destinations, the one with the most recipients first.
    pub destinations: Vec<Destination>,
    /// The works that were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub works: Vec<QueuedWork>,
    /// How many of all these may have been delivered by a node that was lost with them, by its name, as far as is known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub possibly_done_by: BTreeMap<String, u64>,
}

/// What waits for one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// The domain.
    pub domain: String,
    /// Its works.
    pub works: u64,
    /// Their recipients.
    pub recipients: u64,
    /// When the oldest was accepted.
    pub oldest: Moment,
    /// When the next attempt is due, or was, if it waits for its turn, its site or a pause; nothing for what is being attempted or
    /// held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Moment>,
    /// The last reply, or what was wrong; told for the first 1,000 destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reply: Option<String>,
    /// Its works that may have been delivered: an attempt that nobody heard of again had passed its final dot.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub possibly_done: u64,
}

/// One work that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedWork {
    /// Its id: that of the message, and which of its works.
    pub id: String,
    /// The destination's domain.
    pub domain: String,
    /// The envelope's sender; empty for the null sender.
    pub sender: String,
    /// The recipients that are not done.
    pub recipients: Vec<String>,
    /// Bytes of the message.
    pub size: u64,
    /// When it was accepted.
    pub accepted: Moment,
    /// How many attempts there were.
    pub attempts: u32,
    /// Why it waits, as a short word.
    pub reason: String,
    /// The node that was lost and may have delivered it, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_by: Option<String>,
    /// When the next attempt is due, or was, if it waits for its turn, its site or a pause; nothing for what is being attempted or
    /// held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Moment>,
    /// The last reply, or what was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reply: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
