//! Patterns of domains.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::HostName;

/// Which domains: `example.com` alone, `*.example.com` for all below it, `*` for all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainPattern(Pattern);

// In the order of how specific they are, the least first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Pattern {
    Any,
    Below(String),
    Exactly(String),
}

impl DomainPattern {
    /// Whether `domain` is meant; letters count the same in either case.
    #[must_use]
    pub fn matches(&self, domain: &str) -> bool {
        match &self.0 {
            Pattern::Any => true,
            Pattern::Exactly(name) => name.eq_ignore_ascii_case(domain),
            Pattern::Below(name) => {
                let start = domain.len().checked_sub(name.len()).filter(|start| *start > 1);
                start
                    .and_then(|start| domain.split_at_checked(start))
                    .is_some_and(|(front, end)| front.ends_with('.') && end.eq_ignore_ascii_case(name))
            }
        }
    }

    /// How specific the pattern is: the greater of two that match counts.
    #[must_use]
    pub fn specificity(&self) -> usize {
        match &self.0 {
            Pattern::Any => 0,
            Pattern::Below(name) => name.len(),
            Pattern::Exactly(_) => usize::MAX,
        }
    }
}

impl FromStr for DomainPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = |name: &str| {
            let valid = name.is_ascii() && name.parse::<HostName>().is_ok();
            valid.then(|| name.to_ascii_lowercase()).ok_or_else(|| {
                format!("\"{text}\" is not a domain: write example.com, or *.example.com for all below it")
            })
        };
        Ok(Self(match text.strip_prefix("*.") {
            Some(parent) => Pattern::Below(name(parent)?),
            None if text == "*" => Pattern::Any,
            None => Pattern::Exactly(name(text)?),
        }))
    }
}

impl TryFrom<String> for DomainPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DomainPattern> for String {
    fn from(pattern: DomainPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Any => f.write_str("*"),
            Pattern::Below(name) => write!(f, "*.{name}"),
            Pattern::Exactly(name) => f.write_str(name),
        }
    }
}

impl fmt::Debug for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_its_domain_or_all_below_it() {
        let matches = |pattern: &str, domain: &str| pattern.parse::<DomainPattern>().unwrap().matches(domain);
        assert!(matches("Example.com", "eXample.COM"));
        assert!(!matches("example.com", "a.example.com"));
        assert!(matches("*.example.com", "a.b.Example.com"));
        for not in ["example.com", ".example.com", "badexample.com", "é.example.org"] {
            assert!(!matches("*.example.com", not), "{not}");
        }
        assert!(matches("*", "example.org"));
        assert!("*example.com".parse::<DomainPattern>().unwrap_err().contains("*.example.com"));
        let specific = |pattern: &str| pattern.parse::<DomainPattern>().unwrap().specificity();
        assert!(specific("a.example.com") > specific("*.example.com"));
        assert!(specific("*.example.com") > specific("*.com"));
        assert!(specific("*.com") > specific("*"));
    }
}
