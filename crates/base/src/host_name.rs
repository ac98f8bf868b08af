//! Names of hosts and nodes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest name of a host (RFC 1035, section 2.3.4).
const MAX_LENGTH: usize = 253;

/// The name of a host: letters, digits and hyphens in labels, with dots between them
/// (RFC 1123, section 2.1). By default that of this machine.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a machine that calls itself so. Some have a `_` in it, which no address may have:
    /// it becomes a hyphen.
    fn of_machine(name: &str) -> Self {
        let name = name.replace('_', "-");
        name.trim_matches(['-', '.']).parse().unwrap_or_else(|_| Self("localhost".into()))
    }
}

impl Default for HostName {
    fn default() -> Self {
        Self::of_machine(&rustix::system::uname().nodename().to_string_lossy())
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if text.len() <= MAX_LENGTH && text.split('.').all(label) {
            return Ok(Self(text.to_owned()));
        }
        if text.contains('_') {
            return Err(format!(
                "\"{text}\" is not a host name: no \"_\" may be in it; write a hyphen instead"
            ));
        }
        Err(format!(
            "\"{text}\" is not a host name: write letters, digits and hyphens, such as mx1.example.com"
        ))
    }
}

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_has_labels_and_nothing_else() {
        for text in ["mx1", "mx1.example.com", "a-b.example", "1.2.3.4"] {
            assert_eq!(text.parse::<HostName>().unwrap().as_str(), text);
        }
        for text in ["", "mx1.", ".mx1", "-a", "a b", "mx1\r\nEHLO x", "é", &"a".repeat(64)] {
            assert!(text.parse::<HostName>().unwrap_err().contains("such as mx1.example.com"), "{text}");
        }
        let error = "mx_1.example.com".parse::<HostName>().unwrap_err();
        assert_eq!(
            error,
            "\"mx_1.example.com\" is not a host name: no \"_\" may be in it; write a hyphen instead"
        );
    }

    #[test]
    fn a_machine_of_any_name_has_a_host_name() {
        for (name, ours) in [
            ("mx1.example.com", "mx1.example.com"),
            ("build_box_1", "build-box-1"),
            ("_box", "box"),
            ("(none)", "localhost"),
            ("", "localhost"),
        ] {
            assert_eq!(HostName::of_machine(name).as_str(), ours);
        }
    }
}
