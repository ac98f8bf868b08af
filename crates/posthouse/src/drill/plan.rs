//! What happens when: all of it follows from the seed, the number of workers and the time.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::Options;

/// Something that happens to a node; afterwards it runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// kill -9 of a worker, which is started again after a while
    Kill,
    /// A worker stands still for longer than it takes to be gone, and goes on
    Freeze,
    /// kill -9 of the manager, which is started again after a while
    Manager,
    /// A worker is stopped in order and started again
    Stop,
}

/// A fault to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// When, after the clients began.
    pub(super) at: Duration,
    /// What.
    pub(super) fault: Fault,
    /// To whom, in the order of the fleet; 0 is the manager.
    pub(super) node: usize,
    /// How long the node stands still, or is down after it has ended.
    pub(super) lasts: Duration,
}

/// When the first comes, in milliseconds: all nodes have something to do by then.
const FIRST: u64 = 1500;
/// From one fault to the next.
const BETWEEN: std::ops::Range<u64> = 1500..4000;
/// How long a node is left alone after a fault: it starts, is linked and is steady again.
const RECOVERY: u64 = 3000;

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Freeze, Self::Manager, Self::Stop];

    /// For how long, in milliseconds. A node is gone after four seconds: some are back before that.
    fn range(self) -> std::ops::Range<u64> {
        match self {
            Self::Kill => 300..7000,
            Self::Freeze => 5000..7000,
            Self::Manager => 200..2500,
            Self::Stop => 0..2000,
        }
    }
}

/// The faults of a drill, in the order of time.
pub(super) fn plan(options: &Options) -> Vec<Planned> {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let end = u64::try_from(options.lasts.as_millis()).unwrap_or(u64::MAX);
    let mut free_from = vec![0; options.workers + 1];
    let mut plan = Vec::new();
    let mut at = FIRST;
    while at < end {
        let fault = random.choice(&options.faults).copied();
        let of_manager = fault == Some(Fault::Manager);
        let nodes = if of_manager { 0..1 } else { 1..options.workers + 1 };
        let idle: Vec<usize> = nodes.filter(|node| free_from[*node] <= at).collect();
        let node = random.choice(idle);
        if let (Some(fault), Some(node)) = (fault, node) {
            let lasts = random.u64(fault.range());
            free_from[node] = at + lasts + RECOVERY;
            let millis = Duration::from_millis;
            plan.push(Planned { at: millis(at), fault, node, lasts: millis(lasts) });
        }
        at += random.u64(BETWEEN);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::Clients;

    fn options(seed: u64, seconds: u64) -> Options {
        Options {
            workers: 3,
            lasts: Duration::from_secs(seconds),
            seed,
            pace: Clients::Rate(1),
            faults: Fault::ALL.to_vec(),
        }
    }

    #[test]
    fn a_seed_always_has_the_same_plan_and_a_longer_drill_begins_like_a_short_one() {
        let long = plan(&options(7, 60));
        assert_eq!(long, plan(&options(7, 60)));
        assert_ne!(long, plan(&options(8, 60)));
        let short = plan(&options(7, 20));
        assert_eq!(short, long[..short.len()]);
        assert!(long.iter().all(|planned| planned.at < Duration::from_secs(60)));
    }

    #[test]
    fn a_node_recovers_before_the_next_fault_and_each_kind_comes() {
        let plan = plan(&options(1, 600));
        for fault in Fault::ALL {
            assert!(plan.iter().any(|planned| planned.fault == fault), "{fault:?}");
        }
        for (number, planned) in plan.iter().enumerate() {
            assert_eq!(planned.node == 0, planned.fault == Fault::Manager);
            let next = plan[number + 1..].iter().find(|next| next.node == planned.node);
            let over = planned.at + planned.lasts + Duration::from_millis(RECOVERY);
            assert!(next.is_none_or(|next| next.at >= over), "{planned:?} {next:?}");
        }
    }
}
