//! The clock: retry plans, expiry and all records depend on it.

use std::{path::Path, process::Command};

use base::{Clock, Timestamp};

use super::Finding;

const CHECK: &str = "clock";
/// No machine that runs this program is older: 2026 has begun.
const BUILT_AFTER: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
/// What systemd-timesyncd leaves once it has set the clock.
const SET_BY_TIMESYNCD: &str = "/run/systemd/timesync/synchronized";

pub(super) fn check() -> Finding {
    judge(Clock::system().now(), is_kept_right)
}

fn judge(now: Timestamp, is_kept_right: impl FnOnce() -> Option<bool>) -> Finding {
    if now < BUILT_AFTER {
        return Finding::problem(CHECK, format!("it says {now}, which is long ago"))
            .advice("set it: mail would expire at once when it is set later");
    }
    let advice = "run a time service, such as systemd-timesyncd or chrony";
    match is_kept_right() {
        Some(true) => Finding::ok(CHECK, format!("it says {now}, and a time service keeps it right")),
        Some(false) => Finding::warning(CHECK, format!("it says {now}, and no time service keeps it right"))
            .advice(advice),
        None => Finding::skipped(
            CHECK,
            format!("it says {now}; whether a time service keeps it right is not known here"),
        ),
    }
}

/// Whether the kernel says that somebody keeps its clock right, as timedatectl tells it; nothing where that is not there.
fn is_kept_right() -> Option<bool> {
    if Path::new(SET_BY_TIMESYNCD).exists() {
        return Some(true);
    }
    let asked = Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output();
    match String::from_utf8_lossy(&asked.ok().filter(|output| output.status.success())?.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn a_clock_is_right_while_somebody_keeps_it_right() {
        let now = BUILT_AFTER;
        assert_eq!(judge(now, || Some(true)).verdict, Verdict::Ok);
        assert_eq!(judge(now, || Some(false)).verdict, Verdict::Warning);
        assert_eq!(judge(now, || None).verdict, Verdict::Skipped);
        let long_ago = judge(Timestamp::default(), || Some(true));
        assert_eq!(long_ago.verdict, Verdict::Problem);
        assert_eq!(long_ago.finding, "it says 1970-01-01T00:00:00.000Z, which is long ago");
    }
}
