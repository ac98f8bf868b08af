//! Times to come, as people say them.

use std::str::FromStr;

use base::{HumanDuration, Timestamp};

use crate::api::Moment;

/// A moment to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// After so long.
    In(HumanDuration),
    /// At a time.
    At(Moment),
}

impl Until {
    /// The moment.
    pub(super) fn moment(self, now: Timestamp) -> Moment {
        match self {
            Self::In(wait) => Moment(now + wait.0),
            Self::At(at) => at,
        }
    }
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        text.parse().map(Self::In).map_err(|_| {
            format!(
                "\"{text}\" is neither a wait, such as 30m or 2h, nor a time, such as 2026-11-20T08:30:00Z"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_come_is_a_wait_or_a_moment() {
        let now = Timestamp::from_millis(60_000);
        let moment = |text: &str| text.parse::<Until>().unwrap().moment(now).to_string();
        assert_eq!(moment("2m"), "1970-01-01T00:03:00.000000Z");
        assert_eq!(moment("2026-11-20T08:30:00Z"), "2026-11-20T08:30:00.000000Z");
        assert!("soon".parse::<Until>().unwrap_err().contains("such as 30m"));
    }
}
