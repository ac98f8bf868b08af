//! What is done by hand to works that wait.

use base::{AddressPattern, DomainPattern, HumanDuration};
use serde::{Deserialize, Serialize};

use super::{ApiError, Moment};

/// Which works are meant: those for which all holds that is given. Nothing given means none, unless `all` is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selector {
    /// All works that wait.
    pub all: bool,
    /// These messages, or works of theirs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// To domains like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainPattern>,
    /// From senders like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<AddressPattern>,
    /// Brought by this account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// With a recipient like one of these that has not ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<AddressPattern>,
    /// Accepted so long ago or longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than: Option<HumanDuration>,
    /// Tried more often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts_over: Option<u32>,
    /// Where they are for this reason, as `mail queue` shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Held back by an operator.
    pub held: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "action")]
pub enum WorkAction {
    /// They wait until they are released.
    Hold,
    /// They wait for their time again.
    Release,
    /// They end.
    Cancel,
    /// They are tried now.
    Retry,
    /// They are tried at this time.
    Reschedule {
        /// The time.
        at: Moment,
    },
    /// They go before or behind others.
    Prioritise {
        /// From -9 to 9.
        priority: i8,
    },
}

/// Whether it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Earnest {
    /// It is only counted what is meant.
    Count,
    /// It is done.
    Act,
}

/// Something to be done by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorksRequest {
    /// To which works.
    pub selector: Selector,
    /// What.
    #[serde(flatten)]
    pub action: WorkAction,
    /// Whether it is done.
    pub earnest: Earnest,
}

/// How far it has come. While it is done, a line of JSON from time to time; the last line ends it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorksReport {
    /// Works that are meant, so far.
    pub works: u64,
    /// Their recipients that have not ended.
    pub recipients: u64,
    /// Works for which it was done.
    pub done: u64,
    /// Whether this is the last line.
    pub finished: bool,
    /// Why it broke off; what was done before stays done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

/// Why a work waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkWhy {
    /// Its id.
    pub id: String,
    /// The destination's domain.
    pub domain: String,
    /// Its recipients that have not ended.
    pub recipients: Vec<String>,
    /// The reason that binds now, as a word: `attempted`, `held`, `set-aside`, `paused`, `scheduled`, `retry`, `possibly-done`,
    /// `unreadable`, `exhausted`, `no-room`, `no-node`, `lookup`, `rests`, `connections`, `share`,
    /// `throttled`, `slots` or `turn`.
    pub reason: String,
    /// In a line.
    pub text: String,
    /// When that ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// The site that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// The key of the throttle that is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<String>,
    /// The number of the pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<i64>,
    /// The node that attempts it, or that may have delivered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// For how long the node that attempts it has been silent, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_seconds: Option<u64>,
    /// The last reply, or what was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reply: Option<String>,
}
