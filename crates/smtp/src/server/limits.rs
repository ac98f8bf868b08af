//! What a client may ask of a session.

use std::time::Duration;

use base::ByteSize;
use serde::{Deserialize, Serialize};

/// Limits of one session. Past a limit the client gets a reply that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest message, offered by SIZE; past it 552 5.3.4.
    pub message: ByteSize,
    /// Longest command line with its end. RFC 5321 asks for 512 and more for every extension.
    pub command_line: ByteSize,
    /// Longest line of a message without its end. RFC 5322 allows 998; much mail does not keep to it.
    pub text_line: ByteSize,
    /// Largest header section; past it 552 5.3.4.
    pub header: ByteSize,
    /// Most recipients of a message; past it 452 4.5.3, and the rest may come in another message. Past twice as many
    /// each is an error.
    pub recipients: usize,
    /// Most `Received:` fields; past it the message goes in circles and gets 554 5.4.6.
    pub hops: usize,
    /// Most wrong or refused commands between two messages; then 421 4.7.0 and the end.
    pub errors: usize,
    /// Most commands such as NOOP, RSET and VRFY between two messages; then 421 4.7.0 and the end.
    pub idle_commands: usize,
    /// Longest time for which a message may be held, offered by FUTURERELEASE; past it 501 5.5.4.
    #[serde(skip)]
    pub hold: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: ByteSize::mib(50),
            command_line: ByteSize(2048),
            text_line: ByteSize(8192),
            header: ByteSize::kib(256),
            recipients: 1000,
            hops: 50,
            errors: 20,
            idle_commands: 100,
            hold: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_by_name_and_the_rest_keeps_its_default() {
        let limits: Limits = toml::from_str("message = \"1MiB\"\nhops = 5").unwrap();
        assert_eq!(limits, Limits { message: ByteSize::mib(1), hops: 5, ..Limits::default() });
        assert!(toml::from_str::<Limits>("hop = 5").is_err());
    }
}
