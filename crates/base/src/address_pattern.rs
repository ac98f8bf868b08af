//! Patterns of addresses.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::DomainPattern;

/// Which addresses: `anna@example.com`, `*@example.com`, `news-*@*.example.com`, `*` for all, `<>` for the null sender.
///
/// One `*` may stand in the local part, for any text. Letters count the same in either case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressPattern(Pattern);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Pattern {
    Any,
    Null,
    At(Local, DomainPattern),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Local {
    Exactly(String),
    /// How it begins and how it ends.
    Between(String, String),
}

impl AddressPattern {
    /// Whether `address` is meant, which is empty for the null sender.
    #[must_use]
    pub fn matches(&self, address: &str) -> bool {
        match &self.0 {
            Pattern::Any => true,
            Pattern::Null => address.is_empty(),
            Pattern::At(local, domain) => address
                .rsplit_once('@')
                .is_some_and(|(name, host)| domain.matches(host) && local.matches(name)),
        }
    }
}

impl Local {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exactly(exactly) => name.eq_ignore_ascii_case(exactly),
            Self::Between(start, end) => {
                let rest =
                    name.split_at_checked(start.len()).filter(|(front, _)| front.eq_ignore_ascii_case(start));
                rest.is_some_and(|(_, rest)| {
                    let tail = rest.len().checked_sub(end.len()).and_then(|at| rest.split_at_checked(at));
                    tail.is_some_and(|(_, tail)| tail.eq_ignore_ascii_case(end))
                })
            }
        }
    }
}

impl FromStr for AddressPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fail = || {
            format!(
                "\"{text}\" is not a pattern of addresses: write anna@example.com, *@example.com for all at a domain, \
                 or <> for the null sender"
            )
        };
        match text {
            "*" => return Ok(Self(Pattern::Any)),
            "<>" => return Ok(Self(Pattern::Null)),
            _ => {}
        }
        let (local, domain) = text.rsplit_once('@').ok_or_else(fail)?;
        let is_odd = |c: char| c.is_control() || c == ' ';
        if local.is_empty() || local.chars().any(is_odd) {
            return Err(fail());
        }
        let domain = domain.parse().map_err(|_| fail())?;
        let local = match local.split_once('*') {
            None => Local::Exactly(local.to_owned()),
            Some((_, end)) if end.contains('*') => return Err(fail()),
            Some((start, end)) => Local::Between(start.to_owned(), end.to_owned()),
        };
        Ok(Self(Pattern::At(local, domain)))
    }
}

impl TryFrom<String> for AddressPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<AddressPattern> for String {
    fn from(pattern: AddressPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Any => f.write_str("*"),
            Pattern::Null => f.write_str("<>"),
            Pattern::At(Local::Exactly(local), domain) => write!(f, "{local}@{domain}"),
            Pattern::At(Local::Between(start, end), domain) => write!(f, "{start}*{end}@{domain}"),
        }
    }
}

impl fmt::Debug for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_one_address_or_many() {
        let matches =
            |pattern: &str, address: &str| pattern.parse::<AddressPattern>().unwrap().matches(address);
        assert!(matches("Anna@Example.com", "anna@example.COM"));
        assert!(!matches("anna@example.com", "joanna@example.com"));
        assert!(matches("*@example.com", "\"odd @ one\"@example.com"));
        assert!(!matches("*@example.com", "anna@mail.example.com"));
        assert!(matches("news-*@*.example.com", "news-ben=example.org@lists.example.com"));
        assert!(matches("a*a@*", "aa@example.org") && !matches("a*a@*", "a@example.org"));
        assert!(!matches("né*@example.com", "n\u{308}@example.com"));
        assert!(matches("<>", "") && !matches("<>", "anna@example.com"));
        assert!(matches("*", "") && matches("*", "anna@example.com"));
        assert!(!matches("*@*", ""));
    }

    #[test]
    fn a_pattern_reads_as_it_is_written() {
        for text in ["anna@example.com", "*@example.com", "news-*@*.example.com", "*", "<>", "a*b@*"] {
            assert_eq!(text.parse::<AddressPattern>().unwrap().to_string(), text);
        }
        for text in ["", "anna", "@example.com", "a*b*c@example.com", "anna@", "an na@example.com", "anna@*x"]
        {
            let error = text.parse::<AddressPattern>().unwrap_err();
            assert!(error.contains("*@example.com"), "{error}");
        }
    }
}
