//! What of the spool is not what was written.

use queue::spool::Damage;
use serde::{Deserialize, Serialize};

/// A place of the spool that was found damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedPlace {
    /// In which segment.
    pub segment: u32,
    /// Where in it, in bytes from its start.
    pub offset: u64,
    /// What, for people.
    pub what: String,
}

impl From<Damage> for DamagedPlace {
    fn from(Damage { segment, offset, what }: Damage) -> Self {
        Self { segment, offset, what }
    }
}
