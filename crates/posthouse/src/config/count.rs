//! Counts: whole numbers from 1.

use std::{fmt, num::NonZeroU32};

use serde::Serialize;

/// How many of something there may be; at least one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
    fn a_count_is_at_least_one() {
        assert_eq!((Count::new(20).size(), Count::new(0).number()), (20, 1));
    }
}
