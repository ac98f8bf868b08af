//! The clock that counts from this machine's boot, also while it sleeps.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::membership::Moment;

/// The moment now (`CLOCK_BOOTTIME`, clock_gettime(2)).
pub(crate) fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Moment(Duration::new(seconds, nanos))
}
