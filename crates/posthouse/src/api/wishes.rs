//! What operators wish to last: pauses, and addresses that get no mail.

use serde::{Deserialize, Serialize};
use store::settings::{About, Pause, Suppression};

use super::Moment;

/// Something to be paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRequest {
    /// What.
    #[serde(flatten)]
    pub about: About,
    /// Until when, unless by hand alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// Why.
    #[serde(default)]
    pub why: String,
    /// Who wants it.
    #[serde(default)]
    pub by: String,
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseEntry {
    /// Its number.
    pub id: i64,
    /// What is paused.
    #[serde(flatten)]
    pub about: About,
    /// Since when.
    pub since: Moment,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// Why.
    pub why: String,
    /// Who paused it.
    pub by: String,
}

impl From<Pause> for PauseEntry {
    fn from(pause: Pause) -> Self {
        let Pause { id, about, until, why, by, since } = pause;
        Self { id: id.0, about, since: since.into(), until: until.map(Into::into), why, by }
    }
}

/// Addresses that shall get no mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressRequest {
    /// The addresses, 10,000 at most.
    pub addresses: Vec<String>,
    /// Until when, unless by hand alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// Why.
    #[serde(default)]
    pub why: String,
}

/// What became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressAnswer {
    /// Addresses that were not suppressed before.
    pub new: u64,
    /// Addresses that were, and have the new end and reason.
    pub changed: u64,
}

/// Addresses that may get mail again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsuppressRequest {
    /// The addresses, 10,000 at most.
    pub addresses: Vec<String>,
}

/// What became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsuppressAnswer {
    /// Addresses that were suppressed.
    pub ended: u64,
}

/// Which suppressed addresses to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuppressedQuery {
    /// This one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Those behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many, 10,000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Suppressed addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressedPage {
    /// How many there are in all.
    pub total: u64,
    /// These, in the order of their letters.
    pub addresses: Vec<SuppressedAddress>,
    /// What to ask for the next page after; nothing: this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An address that gets no mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressedAddress {
    /// The address.
    pub address: String,
    /// Since when.
    pub since: Moment,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// Why.
    pub why: String,
}

impl From<Suppression> for SuppressedAddress {
    fn from(suppression: Suppression) -> Self {
        let Suppression { address, until, why, since } = suppression;
        Self { address, since: since.into(), until: until.map(Into::into), why }
    }
}
