//! How long something is kept.

use std::{fmt, str::FromStr, time::Duration};

use base::HumanDuration;
use serde::{Deserialize, Serialize};

/// A duration, or `forever`, which may also be written `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Keep {
    /// Nothing goes because of its age.
    Forever,
    /// What is older goes.
    For(HumanDuration),
}

/// The shortest: what happened must be found by those who look after lunch.
const SHORTEST: HumanDuration = HumanDuration(Duration::from_secs(60 * 60));
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Keep {
    /// The duration; nothing for ever.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::Forever => None,
            Self::For(duration) => Some(duration.0),
        }
    }
}

impl Default for Keep {
    fn default() -> Self {
        Self::For(HumanDuration(90 * DAY))
    }
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "forever" | "0") {
            return Ok(Self::Forever);
        }
        let duration: HumanDuration = text.parse().map_err(|error| format!("{error}, or forever"))?;
        if duration < SHORTEST {
            return Err(format!(
                "{text} is not possible: write a duration of at least {SHORTEST}, or forever"
            ));
        }
        Ok(Self::For(duration))
    }
}

impl TryFrom<String> for Keep {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Keep> for String {
    fn from(keep: Keep) -> Self {
        keep.to_string()
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.write_str("forever"),
            Self::For(HumanDuration(kept)) if kept.as_nanos().is_multiple_of(DAY.as_nanos()) => {
                write!(f, "{}d", kept.as_secs() / DAY.as_secs())
            }
            Self::For(duration) => duration.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_an_age_or_is_kept_forever() {
        assert_eq!("90d".parse(), Ok(Keep::default()));
        assert_eq!(("forever".parse(), "0".parse()), (Ok(Keep::Forever), Ok(Keep::Forever)));
        for text in ["forever", "90d", "36h"] {
            let keep: Keep = text.parse().unwrap();
            assert_eq!(keep.to_string().parse(), Ok(keep), "{keep}");
        }
        assert_eq!(Keep::default().to_string(), "90d");
        let wrong = |text: &str| text.parse::<Keep>().unwrap_err();
        assert!(wrong("5m").contains("at least 1h, or forever"), "{}", wrong("5m"));
        assert!(wrong("always").ends_with("or forever"), "{}", wrong("always"));
    }
}
