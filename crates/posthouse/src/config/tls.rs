//! `[delivery.tls]`: how mail goes out under TLS.

use std::path::PathBuf;

use clap::ValueEnum;
use mail::TlsLevel;
use serde::{Deserialize, Serialize};

use super::log::one_of;

/// How much of TLS is asked for, and who is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tls {
    /// How much of it is asked of a host before it gets mail.
    pub mode: TlsMode,
    /// A file with the certificates (PEM) of those who are trusted; by default whom the machine trusts.
    pub roots: Option<PathBuf>,
}

/// How much of TLS is asked of a host before it gets mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(try_from = "String", rename_all = "kebab-case")]
pub enum TlsMode {
    /// None.
    Off,
    /// What it can do.
    #[default]
    Opportunistic,
    /// TLS, with whatever certificate.
    Require,
    /// TLS, with a certificate for the host's name.
    Verify,
}

impl TlsMode {
    /// As the mail trade has it.
    #[must_use]
    pub fn level(self) -> TlsLevel {
        match self {
            Self::Off => TlsLevel::Off,
            Self::Opportunistic => TlsLevel::Opportunistic,
            Self::Require => TlsLevel::Require,
            Self::Verify => TlsLevel::Verify,
        }
    }
}

impl TryFrom<String> for TlsMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        one_of(&text)
    }
}
