//! The clock seam: wall time to the microsecond, and a clock that tests set by hand.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A moment of wall time: microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// The last microsecond of the year 9999.
const LATEST: i64 = 253_402_300_799_999_999;

impl Timestamp {
    /// The moment `micros` microseconds after 1970 began.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The moment `millis` milliseconds after 1970 began.
    #[must_use]
    pub fn from_millis(millis: u64) -> Self {
        Self(i64::try_from(millis).map_or(i64::MAX, |m| m.saturating_mul(1000)))
    }

    /// Microseconds since 1970 began.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since 1970 began; 0 for moments before.
    #[must_use]
    pub fn millis(self) -> u64 {
        u64::try_from(self.0 / 1000).unwrap_or(0)
    }

    /// As the machine tells time, as far as RFC 3339 can write it: no earlier than 1970, no later than the year 9999.
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        let micros = u64::try_from(self.0.clamp(0, LATEST)).expect("it is not below 0");
        SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
    }

    /// How long after `earlier` this is; nothing if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl std::str::FromStr for Timestamp {
    type Err = String;

    /// A moment as RFC 3339 writes it, in UTC: `2026-11-20T19:35:49Z`.
    fn from_str(text: &str) -> Result<Self, String> {
        let time = humantime::parse_rfc3339_weak(text).map_err(|_| {
            format!("\"{text}\" is not a time: write it in UTC, such as 2026-11-20T19:35:49Z")
        })?;
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, to the millisecond; what is beyond its years is shown as the last moment of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&humantime::format_rfc3339_millis(self.system_time()), f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Tells the time. Cheap to clone; everything that needs wall time is given one.
#[derive(Clone, Debug, Default)]
pub struct Clock(Hand);

/// What moves a clock.
#[derive(Clone, Debug, Default)]
enum Hand {
    #[default]
    System,
    Manual(ManualClock),
    Following(Offset),
}

impl Clock {
    /// The machine's own clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Hand::System)
    }

    /// A clock that goes by another machine's. Until it is known it is the machine's own; from then on steps of that do not move it.
    #[must_use]
    pub fn following(offset: &Offset) -> Self {
        Self(Hand::Following(offset.clone()))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Hand::Manual(manual) => Timestamp(manual.0.load(Ordering::SeqCst)),
            Hand::System => system_now(),
            Hand::Following(offset) => offset.now(),
        }
    }
}

/// How far another machine's clock is ahead of the time since this one's boot, in microseconds; the clocks that follow it are set by it.
#[derive(Clone, Debug)]
pub struct Offset(Arc<AtomicI64>);

/// It is not known.
const UNKNOWN: i64 = i64::MIN;

impl Default for Offset {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(UNKNOWN)))
    }
}

impl Offset {
    /// The other clock says `theirs` now; returns how far this machine's is off, in microseconds: above zero where it is behind.
    pub fn set(&self, theirs: Timestamp) -> i64 {
        let offset = theirs.0.saturating_sub(boot_micros()).max(UNKNOWN + 1);
        self.0.store(offset, Ordering::Relaxed);
        theirs.0.saturating_sub(system_now().0)
    }

    fn now(&self) -> Timestamp {
        match self.0.load(Ordering::Relaxed) {
            UNKNOWN => system_now(),
            offset => Timestamp(offset.saturating_add(boot_micros())),
        }
    }
}

/// A clock that stands still until it is set; for tests.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that stands at `at`.
    #[must_use]
    pub fn at(at: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(at.0)))
    }

    /// What the tested parts are given.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Hand::Manual(self.clone()))
    }

    /// Moves the clock, forwards or back.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.0, Ordering::SeqCst);
    }

    /// Moves the clock forwards.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

/// How long ago this machine was booted, with the time that it slept (`CLOCK_BOOTTIME`, clock_gettime(2)).
#[must_use]
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

fn boot_micros() -> i64 {
    i64::try_from(since_boot().as_micros()).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
fn system_now() -> Timestamp {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
        Err(_) => Timestamp(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let manual = ManualClock::at(Timestamp::from_millis(1000));
        let clock = manual.clock();
        assert_eq!(clock.now(), clock.now());
        manual.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), Timestamp::from_millis(2000));
        assert_eq!(clock.now().since(Timestamp::from_millis(500)), Duration::from_millis(1500));
        assert_eq!(Timestamp::from_millis(500).since(clock.now()), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_follows_goes_by_the_other_one() {
        let offset = Offset::default();
        let (following, system) = (Clock::following(&offset), Clock::system());
        assert!(following.now().since(system.now()) < Duration::from_secs(1));
        let off = offset.set(system.now() + Duration::from_secs(86_400));
        assert!((86_399_000_000..=86_400_000_000).contains(&off), "{off}");
        assert!(following.now().since(system.now()) > Duration::from_secs(86_398));
    }

    #[test]
    fn a_timestamp_reads_as_rfc_3339() {
        assert_eq!(Timestamp::from_millis(1_795_000_000_123).to_string(), "2026-11-18T11:06:40.123Z");
        assert_eq!(Timestamp::from_micros(i64::MIN).to_string(), "1970-01-01T00:00:00.000Z");
        for beyond in [LATEST, LATEST + 1, i64::MAX] {
            assert_eq!(Timestamp::from_micros(beyond).to_string(), "9999-12-31T23:59:59.999Z");
        }
    }
}
