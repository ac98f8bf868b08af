//! Moments on the clock that counts from this machine's boot.

use std::time::Duration;

/// A moment, as the time since this machine's boot: the clock that never goes back and that runs on while the machine
/// sleeps (`CLOCK_BOOTTIME`). Moments of different machines have nothing to do with each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Duration);

impl Moment {
    /// The time that has passed since an earlier moment; none if that one is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// So much later.
    #[must_use]
    pub const fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}
