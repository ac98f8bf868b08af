//! Addresses as the envelope carries them (RFC 5321, section 4.1.2; UTF-8 by RFC 6531, section 3.3).

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::unseen::is_unseen;

/// Longest local part in bytes (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL: usize = 64;
/// Longest domain in bytes (RFC 5321, section 4.5.3.1.2).
const MAX_DOMAIN: usize = 255;
/// Longest address in bytes: a path of 256 with its angle brackets (RFC 5321, section 4.5.3.1.3).
const MAX_ADDRESS: usize = 254;
/// Longest label of a domain in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;

/// A mailbox: a local part as it was written, and a domain in lower case.
///
/// Two addresses are equal if their local parts are equal byte by byte; only their own host may
/// know better. The domain is lower-cased in ASCII: a name in UTF-8 is lower case by definition
/// (RFC 5890, section 2.3.2.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    text: Box<str>,
    at: u8,
}

/// Where a message came from: an address, or nowhere, as for reports (RFC 5321, section 3.6.3).
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ReversePath {
    /// `<>`: never answer this message with another.
    #[default]
    Null,
    /// The sender.
    Address(Address),
}

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@`.
    #[error("an address needs an @ and a domain")]
    NoDomain,
    /// The part before the `@` breaks the grammar.
    #[error("the part before the @ is not a local part")]
    Local,
    /// The part after the `@` is neither a domain name nor an address in brackets.
    #[error("the part after the @ is not a domain")]
    Domain,
    /// Some part is longer than the protocol allows.
    #[error("the address is too long: 64 bytes before the @ and 254 in all are the most")]
    TooLong,
}

impl Address {
    /// Makes an address out of its two parts; a local part that needs quotes must come with them.
    ///
    /// # Errors
    /// What is wrong with the parts.
    pub fn new(local: &str, domain: &str) -> Result<Self, AddressError> {
        Self::try_from(format!("{local}@{domain}"))
    }

    /// The whole address, `local@domain`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the `@`, with its quotes if it has any.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// The part after the `@`, in lower case: a name, or an address in brackets.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }

    /// Whether hosts without SMTPUTF8 can carry it.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(mut text: String) -> Result<Self, AddressError> {
        let at = local_part(&text)?;
        if text.as_bytes().get(at) != Some(&b'@') {
            return Err(if text.contains('@') { AddressError::Local } else { AddressError::NoDomain });
        }
        text[at + 1..].make_ascii_lowercase();
        if let Some(literal) = domain(&text[at + 1..])? {
            text.truncate(at + 1);
            text.push_str(&literal);
        }
        if at > MAX_LOCAL || text.len() - at - 1 > MAX_DOMAIN || text.len() > MAX_ADDRESS {
            return Err(AddressError::TooLong);
        }
        let at = u8::try_from(at).expect("a local part has 64 bytes at most");
        Ok(Self { text: text.into_boxed_str(), at })
    }
}

/// The length of the local part that `text` begins with: atoms with dots between, or a quoted string.
fn local_part(text: &str) -> Result<usize, AddressError> {
    let end = match text.as_bytes() {
        quoted @ [b'"', ..] => quoted_string(quoted),
        bytes => dot_string(bytes),
    }
    .ok_or(AddressError::Local)?;
    if text[..end].contains(is_unseen) { Err(AddressError::Local) } else { Ok(end) }
}

/// The length of the atoms with dots between that `bytes` begin with.
fn dot_string(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().position(|b| !is_atext(*b) && *b != b'.').unwrap_or(bytes.len());
    bytes[..end].split(|b| *b == b'.').all(|atom| !atom.is_empty()).then_some(end)
}

/// The length of the quoted string that `bytes` begin with.
fn quoted_string(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match *bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' if matches!(bytes.get(at + 1)?, b' '..=b'~') => at += 2,
            b'\\' | 0..b' ' | 0x7f => return None,
            _ => at += 1,
        }
    }
}

fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte) || !byte.is_ascii()
}

/// Checks a domain in lower case; an address in brackets is returned as it should be written.
fn domain(text: &str) -> Result<Option<String>, AddressError> {
    if let Some(literal) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match literal.strip_prefix("ipv6:") {
            Some(v6) => v6.parse().map(|ip: Ipv6Addr| Some(format!("[IPv6:{ip}]"))),
            None => literal.parse().map(|ip: Ipv4Addr| Some(format!("[{ip}]"))),
        }
        .map_err(|_| AddressError::Domain);
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= MAX_LABEL
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || !b.is_ascii())
    };
    let is_name = text.split('.').all(is_label) && !text.contains(is_unseen);
    if is_name { Ok(None) } else { Err(AddressError::Domain) }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::try_from(text.to_owned())
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.text.into_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

impl ReversePath {
    /// What stands between the angle brackets: nothing, or the address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.address().map_or("", Address::as_str)
    }

    /// The address, unless the path is null.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Address(address) => Some(address),
        }
    }

    /// Whether hosts without SMTPUTF8 can carry it.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.as_str().is_ascii()
    }
}

impl TryFrom<String> for ReversePath {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        if text.is_empty() { Ok(Self::Null) } else { text.try_into().map(Self::Address) }
    }
}

impl From<Address> for ReversePath {
    fn from(address: Address) -> Self {
        Self::Address(address)
    }
}

impl From<ReversePath> for String {
    fn from(path: ReversePath) -> Self {
        match path {
            ReversePath::Null => Self::new(),
            ReversePath::Address(address) => address.into(),
        }
    }
}

impl fmt::Display for ReversePath {
    /// The address, or `<>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.address().map_or("<>", Address::as_str))
    }
}

impl fmt::Debug for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Address, AddressError> {
        text.parse()
    }

    #[test]
    fn the_domain_is_lower_cased_and_the_local_part_is_not() {
        let address = parse("Jo.Ann+x@Example.ORG").unwrap();
        assert_eq!(address.as_str(), "Jo.Ann+x@example.org");
        assert_eq!((address.local(), address.domain()), ("Jo.Ann+x", "example.org"));
        assert!(address.is_ascii());
    }

    #[test]
    fn quoted_local_parts_literals_and_utf_8_are_addresses() {
        for text in [
            "\"jo ann\"@example.org",
            "\"a@b\"@example.org",
            "\"\\\"\\\\\"@example.org",
            "\"\"@example.org",
            "jo@[192.0.2.1]",
            "jo@[IPv6:2001:db8::1]",
            "jo@localhost",
            "jörg@müller.example",
            "!#$%&'*+-/=?^_`{|}~@a-b.c1",
        ] {
            assert_eq!(parse(text).unwrap().as_str(), text);
        }
        assert_eq!(parse("jo@[ipv6:0:0::1]").unwrap().domain(), "[IPv6:::1]");
        assert_eq!(parse("\"a@b\"@c").unwrap().domain(), "c");
        assert!(!parse("jörg@example.org").unwrap().is_ascii());
    }

    #[test]
    fn what_breaks_the_grammar_is_refused_with_the_reason() {
        use AddressError::{Domain, Local, NoDomain};
        for (text, error) in [
            ("", Local),
            ("jo", NoDomain),
            ("@example.org", Local),
            (".jo@example.org", Local),
            ("jo.@example.org", Local),
            ("jo..ann@example.org", Local),
            ("jo ann@example.org", Local),
            ("\"jo@example.org", Local),
            ("\"jo\"ann@example.org", Local),
            ("jo\r\n@example.org", Local),
            ("\"\r\n\"@example.org", Local),
            ("jo@", Domain),
            ("jo@a..b", Domain),
            ("jo@-a.b", Domain),
            ("jo@a-.b", Domain),
            ("jo@a_b", Domain),
            ("jo@a b", Domain),
            ("jo@a>b", Domain),
            ("jo@a@b", Domain),
            ("jo@a.", Domain),
            ("jo@[1.2.3]", Domain),
            ("jo@[IPv6:1.2.3.4]", Domain),
            ("jo@[x", Domain),
            ("jo\u{9b}31m@example.org", Local),
            ("\"jo\u{85}\"@example.org", Local),
            ("\u{202e}oj@example.org", Local),
            ("\"jo\u{2066}\"@example.org", Local),
            ("jo@ex\u{90}ample.org", Domain),
            ("jo@ex\u{200e}ample.org", Domain),
            ("jo@example.org\u{feff}", Domain),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn lengths_are_held_to_the_byte() {
        let local = |n| "a".repeat(n);
        assert!(parse(&format!("{}@b", local(64))).is_ok());
        assert_eq!(parse(&format!("{}@b", local(65))), Err(AddressError::TooLong));
        let domain = |n: usize| "a".repeat(2 - n % 2) + &".a".repeat((n - 1) / 2);
        assert!(parse(&format!("a@{}", domain(252))).is_ok_and(|address| address.as_str().len() == 254));
        assert_eq!(parse(&format!("a@{}", domain(253))), Err(AddressError::TooLong));
        assert!(parse(&format!("a@{}.b", local(63))).is_ok());
        assert_eq!(parse(&format!("a@{}.b", local(64))), Err(AddressError::Domain));
    }

    #[test]
    fn a_null_path_is_not_an_address() {
        let null = ReversePath::try_from(String::new()).unwrap();
        assert_eq!((null.as_str(), null.to_string().as_str(), null.address()), ("", "<>", None));
        let json = serde_json::to_string(&[null, parse("a@b").unwrap().into()]).unwrap();
        assert_eq!(json, r#"["","a@b"]"#);
        let back: Vec<ReversePath> = serde_json::from_str(&json).unwrap();
        assert_eq!(back[1].as_str(), "a@b");
        assert!(serde_json::from_str::<Address>("\"\"").is_err());
    }

    proptest! {
        #[test]
        fn an_address_reads_back_as_itself(text in "(\"[ -~]{0,9}\"|[a-z.é@\"\\\\ ]{1,9})@(\\[?[A-Z0-9.:é-]{1,20}\\]?)") {
            if let Ok(address) = parse(&text) {
                prop_assert_eq!(parse(address.as_str()), Ok(address.clone()));
                prop_assert_eq!(Address::new(address.local(), address.domain()), Ok(address));
            }
        }

        #[test]
        fn no_text_makes_an_address_with_controls_or_brackets_outside_quotes(
            text in "\\PC{0,20}|[\\x00-\\x7f]{0,20}|\"?[a-z\u{80}-\u{9f}\u{200e}\u{202e}\u{2069}\u{feff}]{1,3}\"?@[a-z\u{80}-\u{9f}\u{202e}]{1,3}",
        ) {
            if let Ok(address) = parse(&text) {
                prop_assert!(!address.as_str().contains(is_unseen));
                prop_assert!(!address.domain().contains(['<', '>', ' ', '"', '@']));
            }
        }
    }
}
