//! The numbers that liveness goes by, and how they depend on each other.

use std::time::Duration;

/// How often nodes speak, and what silence means. [`Timing::check`] says which numbers go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A node sends a beat this often; the manager ticks at least this often.
    pub heartbeat: Duration,
    /// After so much silence a node is granted nothing more.
    pub suspect: Duration,
    /// After so much silence what a node holds is taken back.
    pub gone: Duration,
    /// A worker may work for so long after it sent the last beat that was acknowledged.
    pub lease: Duration,
    /// A node that was suspect or gone beats for so long before it is granted anything.
    pub steady: Duration,
    /// So many nodes lost at once freeze takeover.
    pub freeze_lost: usize,
    /// With fewer members than this nothing freezes takeover.
    pub freeze_members: usize,
    /// Losses are at once if they are no further apart than this.
    pub freeze_within: Duration,
    /// Takeover is frozen for no longer than this; zero: it is never frozen.
    pub freeze_for: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(2),
            suspect: Duration::from_secs(6),
            gone: Duration::from_secs(15),
            lease: Duration::from_secs(12),
            steady: Duration::from_secs(5),
            freeze_lost: 3,
            freeze_members: 4,
            freeze_within: Duration::from_secs(2),
            freeze_for: Duration::from_secs(60),
        }
    }
}

impl Timing {
    /// Checks that the numbers go together.
    ///
    /// - `heartbeat < suspect < gone`.
    /// - `2 x heartbeat < lease`: one beat may be lost without the worker's stopping.
    /// - `lease <= gone - margin`, where the margin is a heartbeat and a tenth of `gone`, whichever is longer. This is
    ///   what the [fence](crate::fence) needs: the worker's time runs from sending a beat and the manager's from receiving
    ///   it, which is later, so that `lease < gone` would do if both clocks ran alike and nothing took time. The margin is
    ///   for clocks that run apart (less than a thousandth), and for what a worker does between asking the fence and acting.
    /// - `heartbeat <= freeze_within`: nodes whose network broke at one moment fall silent over one heartbeat.
    /// - `suspect + freeze_within <= gone`: a freeze begins before the first that was lost is gone.
    /// - `1 <= freeze_lost <= freeze_members`.
    ///
    /// # Errors
    /// A text that names the numbers that do not go together.
    pub fn check(&self) -> Result<(), String> {
        let Self { heartbeat, suspect, gone, lease, freeze_within, .. } = *self;
        let longest = gone.saturating_sub(self.margin());
        if heartbeat.is_zero() {
            return Err("heartbeat must be longer than nothing".to_owned());
        }
        shorter(("heartbeat", heartbeat), ("suspect", suspect))?;
        shorter(("suspect", suspect), ("gone", gone))?;
        shorter(("two heartbeats", heartbeat.saturating_mul(2)), ("lease", lease))?;
        if lease > longest {
            return Err(format!("lease ({lease:?}) must be {longest:?} at most while gone is {gone:?}"));
        }
        if freeze_within < heartbeat {
            return Err(format!(
                "freeze_within ({freeze_within:?}) must be a heartbeat ({heartbeat:?}) at least"
            ));
        }
        if suspect.saturating_add(freeze_within) > gone {
            let most = gone.saturating_sub(suspect);
            return Err(format!(
                "freeze_within ({freeze_within:?}) must be {most:?} at most: gone less suspect"
            ));
        }
        if !(1..=self.freeze_members).contains(&self.freeze_lost) {
            let (lost, members) = (self.freeze_lost, self.freeze_members);
            return Err(format!(
                "freeze_lost ({lost}) must be 1 at least and freeze_members ({members}) at most"
            ));
        }
        Ok(())
    }

    /// By how much a lease must be shorter than `gone`.
    fn margin(&self) -> Duration {
        self.heartbeat.max(self.gone / 10)
    }
}

fn shorter((short, a): (&str, Duration), (long, b): (&str, Duration)) -> Result<(), String> {
    if a < b { Ok(()) } else { Err(format!("{short} ({a:?}) must be shorter than {long} ({b:?})")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_numbers_at_the_start_go_together_and_others_are_refused_by_name() {
        let good = Timing::default();
        assert_eq!(good.check(), Ok(()));
        let refused = |change: fn(&mut Timing)| {
            let mut timing = good;
            change(&mut timing);
            timing.check().unwrap_err()
        };
        assert_eq!(refused(|it| it.heartbeat = secs(6)), "heartbeat (6s) must be shorter than suspect (6s)");
        assert_eq!(refused(|it| it.heartbeat = secs(0)), "heartbeat must be longer than nothing");
        assert_eq!(refused(|it| it.suspect = secs(15)), "suspect (15s) must be shorter than gone (15s)");
        assert_eq!(refused(|it| it.lease = secs(4)), "two heartbeats (4s) must be shorter than lease (4s)");
        assert_eq!(refused(|it| it.lease = secs(14)), "lease (14s) must be 13s at most while gone is 15s");
        assert_eq!(
            refused(|it| (it.gone, it.lease) = (secs(60), secs(55))),
            "lease (55s) must be 54s at most while gone is 60s"
        );
        assert!(
            refused(|it| it.freeze_within = secs(1)).starts_with("freeze_within (1s) must be a heartbeat")
        );
        assert!(
            refused(|it| it.freeze_within = secs(10)).starts_with("freeze_within (10s) must be 9s at most")
        );
        assert!(refused(|it| it.freeze_lost = 5).starts_with("freeze_lost (5)"));
        assert!(refused(|it| it.freeze_lost = 0).starts_with("freeze_lost (0)"));
    }

    #[test]
    fn a_lease_of_all_that_the_margin_leaves_is_allowed() {
        let timing = Timing { lease: secs(13), ..Timing::default() };
        assert_eq!(timing.check(), Ok(()));
    }
}
