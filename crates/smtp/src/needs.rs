//! What a message asks of every host that it passes.

use serde::{Deserialize, Serialize};

/// What the body consists of (RFC 6152, section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyType {
    /// Every byte is below 128.
    #[default]
    SevenBit,
    /// Some bytes may be 128 or above.
    EightBitMime,
}

/// Whether addresses or header fields may hold UTF-8 (RFC 6531, section 3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SmtpUtf8 {
    /// All is ASCII.
    #[default]
    No,
    /// UTF-8 may occur.
    Yes,
}

/// What the next host must be able to do for a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// What its body consists of.
    pub body: BodyType,
    /// Whether its sender or header fields hold UTF-8. A recipient that does is seen from the address.
    pub utf8: SmtpUtf8,
}
