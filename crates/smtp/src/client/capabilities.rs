//! What a host offers in its reply to EHLO.

use crate::{Extension, Extensions};

/// The extensions of a host, and the values that come with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    extensions: Extensions,
    max_size: Option<u64>,
    tls: Tls,
}

/// Whether a host offers to go on under TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// By STARTTLS (RFC 3207).
    Offered,
    /// It does not.
    #[default]
    NotOffered,
}

impl Capabilities {
    /// Reads the text of a reply to EHLO: the host's name, then an extension in each line.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default();
            if keyword.eq_ignore_ascii_case("STARTTLS") {
                found.tls = Tls::Offered;
            }
            let Some(extension) = Extension::from_keyword(keyword) else { continue };
            found.extensions = found.extensions.with(extension);
            if extension == Extension::Size {
                found.max_size = words.next().and_then(|size| size.parse().ok()).filter(|size| *size > 0);
            }
        }
        found
    }

    /// Whether the host has this extension.
    #[must_use]
    pub fn offers(self, extension: Extension) -> bool {
        self.extensions.contains(extension)
    }

    /// The same, less an extension that the host does not master.
    #[must_use]
    pub(super) fn without(self, extension: Extension) -> Self {
        Self { extensions: self.extensions.without(extension), ..self }
    }

    /// Whether the host offers to go on under TLS.
    #[must_use]
    pub fn tls(self) -> Tls {
        self.tls
    }

    /// The largest message that the host takes, if it names one (RFC 1870, section 4).
    #[must_use]
    pub fn max_size(self) -> Option<u64> {
        self.max_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_read_from_all_lines_but_the_first() {
        let found = Capabilities::parse("PIPELINING at your service\nsize 1000\nX-ODD one\n8bitmime");
        assert!(!found.offers(Extension::Pipelining) && found.offers(Extension::EightBitMime));
        assert_eq!(found.max_size(), Some(1000));
        assert_eq!(found.tls(), Tls::NotOffered);
        assert_eq!(Capabilities::parse("STARTTLS\nstarttls").tls(), Tls::Offered);
        assert_eq!(Capabilities::parse("a\nSIZE 0").max_size(), None);
        assert_eq!(Capabilities::parse("a\nSIZE").max_size(), None);
    }
}
