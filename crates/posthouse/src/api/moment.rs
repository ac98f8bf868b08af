//! Times on the wire.

use std::{fmt, str::FromStr, time::SystemTime};

use base::Timestamp;
use serde::{Deserialize, Serialize};

/// A moment as a text in RFC 3339, in UTC and to the microsecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(pub Timestamp);

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        Self(at)
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let since = humantime::parse_rfc3339(text)
            .ok()
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
            .and_then(|since| i64::try_from(since.as_micros()).ok());
        since.map(|micros| Self(Timestamp::from_micros(micros))).ok_or_else(|| {
            format!("\"{text}\" is not a time: write it in RFC 3339, such as 2026-11-20T08:30:00Z")
        })
    }
}

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        moment.to_string()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&humantime::format_rfc3339_micros(self.0.system_time()), f)
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_its_text() {
        let moment = Moment(Timestamp::from_micros(1_795_000_000_123_456));
        assert_eq!(moment.to_string(), "2026-11-18T11:06:40.123456Z");
        assert_eq!(moment.to_string().parse(), Ok(moment));
        let beyond = Moment(Timestamp::from_micros(i64::MAX)).to_string();
        assert_eq!(beyond, "9999-12-31T23:59:59.999999Z");
        assert!(beyond.parse::<Moment>().is_ok());
        assert!("yesterday".parse::<Moment>().unwrap_err().contains("RFC 3339"));
    }
}
