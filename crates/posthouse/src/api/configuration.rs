//! The configuration that a node runs by.

use serde::{Deserialize, Serialize};

use crate::config::Config;

/// What counts, and what a reload would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigurationReport {
    /// What counts, flags and all; of addresses whose port was the system's choice, those that mail is taken in at have the port that
    /// it chose.
    pub counts: Config,
    /// Keys that the file, with the flags of this process over it, has other values for by now.
    pub changed: Vec<String>,
    /// Why the file cannot be read again, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}
