//! Ports.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A port, from 1.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64")]
pub struct Port(pub u16);

impl TryFrom<i64> for Port {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        let port = u16::try_from(number).ok().filter(|port| *port != 0);
        port.map(Self)
            .ok_or_else(|| format!("{number} is not possible: write a whole number from 1 to 65535"))
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
