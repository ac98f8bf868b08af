//! Reading the configuration again.

use serde::{Deserialize, Serialize};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Whether it counts now.
    pub outcome: Reloaded,
    /// The keys that have another value than before.
    pub changes: Vec<ChangedKey>,
}

/// Whether a configuration that was read again counts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reloaded {
    /// All of it does.
    Applied,
    /// It is what it was.
    Unchanged,
    /// Nothing of it does, because something needs a restart.
    Refused,
}

/// A key that has another value than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedKey {
    /// The key.
    pub key: String,
    /// The value that counted before, as it stands in the file; nothing: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// The new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
    /// Whether the node must be restarted for it.
    pub needs_restart: bool,
}
