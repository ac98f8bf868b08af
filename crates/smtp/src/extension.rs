//! The service extensions that both sides know.

/// A service extension (RFC 5321, section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Extension {
    /// Commands may be sent without waiting for the replies (RFC 2920).
    Pipelining,
    /// Sizes are declared (RFC 1870).
    Size,
    /// Bodies may hold bytes of 128 and above (RFC 6152).
    EightBitMime,
    /// Addresses and header fields may hold UTF-8 (RFC 6531).
    SmtpUtf8,
    /// Bodies may come as counted chunks (RFC 3030).
    Chunking,
    /// Replies carry codes such as `5.1.1` (RFC 2034).
    EnhancedStatusCodes,
    /// Messages may be held until a time that the client names (RFC 4865).
    FutureRelease,
    /// Messages may have a priority (RFC 6710).
    MtPriority,
}

impl Extension {
    /// All extensions, in the order in which they are offered.
    pub const ALL: [Self; 8] = [
        Self::Pipelining,
        Self::Size,
        Self::EightBitMime,
        Self::SmtpUtf8,
        Self::Chunking,
        Self::EnhancedStatusCodes,
        Self::FutureRelease,
        Self::MtPriority,
    ];

    /// The word that offers it in the reply to EHLO.
    #[must_use]
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Pipelining => "PIPELINING",
            Self::Size => "SIZE",
            Self::EightBitMime => "8BITMIME",
            Self::SmtpUtf8 => "SMTPUTF8",
            Self::Chunking => "CHUNKING",
            Self::EnhancedStatusCodes => "ENHANCEDSTATUSCODES",
            Self::FutureRelease => "FUTURERELEASE",
            Self::MtPriority => "MT-PRIORITY",
        }
    }

    /// The extension that this word offers, if it is one of ours.
    #[must_use]
    pub fn from_keyword(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.keyword().eq_ignore_ascii_case(word))
    }
}

/// A set of extensions.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Extensions(u16);

impl Extensions {
    /// No extension.
    pub const NONE: Self = Self(0);

    /// Every extension that this crate knows.
    #[must_use]
    pub fn all() -> Self {
        Extension::ALL.into_iter().collect()
    }

    /// This set and one more.
    #[must_use]
    pub const fn with(self, extension: Extension) -> Self {
        Self(self.0 | 1 << extension as u8)
    }

    /// This set but one.
    #[must_use]
    pub const fn without(self, extension: Extension) -> Self {
        Self(self.0 & !(1 << extension as u8))
    }

    /// Whether it is in the set.
    #[must_use]
    pub const fn contains(self, extension: Extension) -> bool {
        self.0 & 1 << extension as u8 != 0
    }

    /// The members, in the order in which they are offered.
    pub fn iter(self) -> impl Iterator<Item = Extension> {
        Extension::ALL.into_iter().filter(move |extension| self.contains(*extension))
    }
}

impl FromIterator<Extension> for Extensions {
    fn from_iter<I: IntoIterator<Item = Extension>>(extensions: I) -> Self {
        extensions.into_iter().fold(Self::NONE, Self::with)
    }
}

impl std::fmt::Debug for Extensions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set = Extensions::all().without(Extension::Chunking);
        assert!(set.contains(Extension::Size) && !set.contains(Extension::Chunking));
        assert_eq!(set.with(Extension::Chunking), Extensions::all());
        assert_eq!(set.iter().count(), Extension::ALL.len() - 1);
    }

    #[test]
    fn every_keyword_names_its_extension() {
        for extension in Extension::ALL {
            assert_eq!(Extension::from_keyword(&extension.keyword().to_lowercase()), Some(extension));
        }
        assert_eq!(Extension::from_keyword("XCLIENT"), None);
    }
}
