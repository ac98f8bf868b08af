//! Whether what is taken in can be brought to the manager while its sender waits. Pure, but for who asks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Link, Shared};

/// Why what is taken in now could not be brought to the manager while its sender waits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfReach {
    /// The manager has said that it will not have this node: waiting does not help.
    #[error("{0}")]
    Refused(Arc<str>),
    /// It has been silent for so long that a reply could not be held until it is likely back.
    #[error("its manager has been silent for {} s{}", .silent.as_secs(), because(.why))]
    Silent {
        /// For how long.
        silent: Duration,
        /// Why there is no link; empty if that is not known.
        why: Arc<str>,
    },
    /// It gives signs of life, and has not answered what waits for so long, say because its disk stands still.
    #[error("its manager has not answered a message for {} s", .wait.as_secs())]
    Unanswered {
        /// For how long.
        wait: Duration,
    },
}

/// Nothing more is begun once the manager has been silent, or has not answered, for so much of the longest time for which a reply can be held.
pub(super) const HELD_SAFELY: f64 = 0.75;

impl Shared {
    pub(super) fn out_of_reach(&self) -> Option<OutOfReach> {
        let unanswered = self.offers.lock().unanswered(Instant::now());
        out_of_reach(&self.state.borrow().link, self.silent(), unanswered, self.options.hold)
    }
}

fn out_of_reach(
    link: &Link,
    silent: Option<Duration>,
    unanswered: Duration,
    hold: Duration,
) -> Option<OutOfReach> {
    let why = match link {
        Link::Refused { why, .. } => return Some(OutOfReach::Refused(why.clone())),
        Link::Away { why, .. } => why.clone(),
        Link::Up { .. } => Arc::default(),
    };
    let safely = hold.mul_f64(HELD_SAFELY);
    match silent {
        Some(silent) if silent > safely => Some(OutOfReach::Silent { silent, why }),
        _ if unanswered > safely => Some(OutOfReach::Unanswered { wait: unanswered }),
        _ => None,
    }
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_begun_for_a_manager_that_is_silent_or_does_not_answer_for_long_or_wants_nothing_of_us() {
        let since = Instant::now();
        let away = Link::Away { since, why: "it cannot be reached".into() };
        let has_not_answered = |link: &Link, silent: u64, unanswered: u64| {
            let [silent, unanswered, hold] = [silent, unanswered, 60].map(Duration::from_secs);
            out_of_reach(link, Some(silent), unanswered, hold).map(|why| why.to_string())
        };
        let says = |link: &Link, silent: u64| has_not_answered(link, silent, 0);
        assert_eq!(says(&Link::Up { since }, 45), None);
        assert_eq!(says(&Link::Up { since }, 46).as_deref(), Some("its manager has been silent for 46 s"));
        assert_eq!(says(&away, 45), None);
        let expected = "its manager has been silent for 46 s: it cannot be reached";
        assert_eq!(says(&away, 46).as_deref(), Some(expected));
        assert_eq!(
            says(&Link::Refused { since, why: "removed".into(), told: None }, 0).as_deref(),
            Some("removed")
        );
        assert_eq!(has_not_answered(&Link::Up { since }, 1, 45), None);
        let expected = "its manager has not answered a message for 46 s";
        assert_eq!(has_not_answered(&Link::Up { since }, 1, 46).as_deref(), Some(expected));
        let never = out_of_reach(&away, None, Duration::ZERO, Duration::ZERO);
        assert_eq!(never, None, "it was never heard");
    }
}
