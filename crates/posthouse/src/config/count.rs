//! Counts: whole numbers from 1.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};

/// How many of something there may be; at least one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Count(NonZeroU32);

impl Count {
    /// The count `n`; one where `n` is zero.
    #[must_use]
    pub const fn new(n: u32) -> Self {
        match NonZeroU32::new(n) {
            Some(n) => Self(n),
            None => Self(NonZeroU32::MIN),
        }
    }

    /// The count as a number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0.get()
    }

    /// The count as a length or a number of permits.
    #[must_use]
    pub fn size(self) -> usize {
        usize::try_from(self.0.get()).unwrap_or(usize::MAX)
    }
}

impl TryFrom<i64> for Count {
    type Error = String;

    fn try_from(n: i64) -> Result<Self, String> {
        let count = u32::try_from(n).ok().and_then(NonZeroU32::new);
        count
            .map(Self)
            .ok_or_else(|| format!("{n} is not a count: write a whole number from 1 to {}", u32::MAX))
    }
}

impl From<Count> for i64 {
    fn from(count: Count) -> Self {
        count.0.get().into()
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: Result<i64, _> = text.parse();
        number
            .map_err(|_| format!("\"{text}\" is not a count: write a whole number from 1 to {}", u32::MAX))
            .and_then(Self::try_from)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_and_less_than_none_are_no_counts() {
        assert_eq!(Count::try_from(20).unwrap().size(), 20);
        for text in ["0", "-1", "4294967296", "many"] {
            assert!(text.parse::<Count>().unwrap_err().contains("from 1 to 4294967295"), "{text}");
        }
    }
}
