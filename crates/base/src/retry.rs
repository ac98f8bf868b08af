//! Retry plans: how long to wait after the first, second, … attempt that did not end the work.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::HumanDuration;

/// Waits between attempts; the last one repeats.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<HumanDuration>", into = "Vec<HumanDuration>")]
pub struct RetryPlan(Vec<HumanDuration>);

impl RetryPlan {
    /// How long to wait after attempt number `attempt`, counted from 1.
    ///
    /// `spread` in 0..1 moves the wait by up to 10 % either way, so that works which failed
    /// together do not come back together.
    #[must_use]
    pub fn wait_after(&self, attempt: u32, spread: f64) -> Duration {
        let at = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let wait = self.0.get(at).or(self.0.last()).expect("a plan has at least one wait").0;
        wait.mul_f64(0.9 + 0.2 * spread.clamp(0.0, 1.0))
    }
}

impl Default for RetryPlan {
    /// 1 m, 5 m, 15 m, 30 m, 1 h, 2 h, then every 4 h.
    fn default() -> Self {
        Self([1, 5, 15, 30, 60, 120, 240].map(|m| HumanDuration(Duration::from_secs(m * 60))).to_vec())
    }
}

impl TryFrom<Vec<HumanDuration>> for RetryPlan {
    type Error = String;

    fn try_from(waits: Vec<HumanDuration>) -> Result<Self, String> {
        match waits.iter().find(|wait| wait.0 < Duration::from_millis(100)) {
            _ if waits.is_empty() => Err("a retry plan needs at least one wait, such as [\"5m\"]".into()),
            Some(short) => Err(format!("a wait of {short} would never let go: the shortest is 100ms")),
            None => Ok(Self(waits)),
        }
    }
}

impl From<RetryPlan> for Vec<HumanDuration> {
    fn from(plan: RetryPlan) -> Self {
        plan.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_follow_the_plan_and_the_last_repeats() {
        let plan = RetryPlan::default();
        assert_eq!(plan.wait_after(1, 0.5), Duration::from_secs(60));
        assert_eq!(plan.wait_after(2, 0.5), Duration::from_secs(300));
        assert_eq!(plan.wait_after(99, 0.5), Duration::from_secs(4 * 3600));
        assert_eq!(plan.wait_after(1, 0.0), Duration::from_secs(54));
        assert!(RetryPlan::try_from(vec![]).is_err());
        assert!(RetryPlan::try_from(vec![HumanDuration(Duration::ZERO)]).is_err());
    }
}
