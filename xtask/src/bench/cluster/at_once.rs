//! A cluster and a node alone that relay at the same time: what disturbs the machine disturbs both, so that what they cost can be held against
//! each other. One after the other, the same program differs from itself by a fifth.

use std::time::Instant;

use anyhow::{Result, bail, ensure};

use super::{
    super::{LOOK_EVERY, measure::Median, process::Interrupt},
    relay::{self, PATIENCE_WITH_A_STALL, Setting},
};

/// What both took in the time in which both relayed: CPU of each process for a message that its own contender relayed, in microseconds.
pub(super) struct AtOnce {
    alone: f64,
    manager: f64,
    workers: Vec<f64>,
    /// Cores that the node alone and the manager had.
    cores: [f64; 2],
}

/// Who is started, and sent to, first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    Alone,
    Cluster,
}

impl First {
    /// Each is first in turn.
    pub(super) fn of(run: u32) -> Self {
        if run.is_multiple_of(2) { Self::Cluster } else { Self::Alone }
    }
}

impl AtOnce {
    /// The manager's CPU for each CPU of the node alone.
    pub(super) fn manager(&self) -> f64 {
        self.manager / self.alone
    }

    /// The CPU of the whole cluster for each CPU of the node alone.
    pub(super) fn all(&self) -> f64 {
        (self.manager + self.workers.iter().sum::<f64>()) / self.alone
    }

    /// What both took between two looks, in which each was to relay so many messages at least.
    fn between(before: &Both, after: &Both, least: u64) -> Result<Self> {
        let took = (after.at - before.at).as_secs_f64() * 1e6;
        let [of_alone, of_cluster] = [(&before.alone, &after.alone), (&before.cluster, &after.cluster)];
        let cores = [of_alone, of_cluster]
            .map(|(before, after)| after.used_since(before).next().unwrap_or_default() / took);
        let each = [of_alone, of_cluster].map(|(before, after)| after.each_since(before, least));
        let [of_alone, of_cluster] = each;
        let (of_alone, of_cluster) = (of_alone?, of_cluster?);
        let ([alone], [manager, workers @ ..]) = (&of_alone[..], &of_cluster[..]) else {
            bail!("these are not a node alone and a cluster")
        };
        Ok(Self { alone: *alone, manager: *manager, workers: workers.to_vec(), cores })
    }

    /// What it says of a turn while more are measured.
    pub(super) fn line(&self) -> String {
        let workers: String = self.workers.iter().map(|worker| format!(" + {worker:.0}")).collect();
        let [alone, manager] = self.cores;
        format!(
            "{:.0}{workers} µs a message while a node alone takes {:.0}, {:.2} x; {manager:.2} cores for the manager, {alone:.2} for it",
            self.manager,
            self.alone,
            self.manager()
        )
    }
}

/// What a contender has relayed so far, and what its processes have used for it, in microseconds.
struct Seen {
    count: u64,
    cpu: Vec<f64>,
}

impl Seen {
    fn of(setting: &Setting) -> Result<Self> {
        let cpu = setting.used()?.iter().map(|used| used.as_secs_f64() * 1e6).collect();
        Ok(Self { count: setting.sink.count()?, cpu })
    }

    /// What each process has used since then.
    fn used_since(&self, before: &Self) -> impl Iterator<Item = f64> {
        self.cpu.iter().zip(&before.cpu).map(|(after, before)| after - before)
    }

    /// What each process took for a message since then, in which there were to be so many messages at least.
    fn each_since(&self, before: &Self, least: u64) -> Result<Vec<f64>> {
        let messages = self.count - before.count;
        ensure!(
            messages >= least.max(1),
            "one relayed {messages} messages while the other relayed all: too few to compare"
        );
        let each = relay::each(1, messages);
        Ok(self.used_since(before).map(|used| used * each).collect())
    }
}

/// One look at both.
struct Both {
    alone: Seen,
    cluster: Seen,
    at: Instant,
}

impl Both {
    fn now(alone: &Setting, cluster: &Setting) -> Result<Self> {
        Ok(Self { alone: Seen::of(alone)?, cluster: Seen::of(cluster)?, at: Instant::now() })
    }
}

/// Sends so many messages to each of both at once, which have warmed up, and measures from when both are at it until somebody has nothing
/// left to send.
///
/// # Errors
/// A sender failed, both stalled, one did next to nothing, a count or CPU cannot be read, or we were interrupted.
pub(super) fn measure(
    alone: &Setting,
    cluster: &Setting,
    first: First,
    messages: u64,
    interrupt: &Interrupt,
) -> Result<AtOnce> {
    let counts = || -> Result<[u64; 2]> { Ok([alone.sink.count()?, cluster.sink.count()?]) };
    let start = counts()?;
    let order = if first == First::Alone { [alone, cluster] } else { [cluster, alone] };
    let mut sources = order[0].load(messages)?;
    sources.extend(order[1].load(messages)?);
    let (mut before, mut last) = (None, (start, Instant::now()));
    loop {
        interrupt.pause(LOOK_EVERY)?;
        let counts = counts()?;
        if counts != last.0 {
            last = (counts, Instant::now());
        } else if last.1.elapsed() > PATIENCE_WITH_A_STALL {
            bail!("the sinks got {counts:?} messages and then no more");
        }
        let has_ended = relay::has_one_ended(&mut sources)?;
        match &before {
            None if counts.iter().zip(start).all(|(count, start)| count - start >= messages / RAMP_PART) => {
                before = Some(Both::now(alone, cluster)?);
            }
            None if has_ended => bail!("one was through before the other had begun"),
            Some(before) if has_ended => {
                return AtOnce::between(before, &Both::now(alone, cluster)?, messages / LEAST_PART);
            }
            _ => {}
        }
    }
}

/// What was measured, as a table, if anything was: for each cluster its turns, and the manager's ratio to a node alone that was measured
/// before or after it.
pub(super) fn table<'t>(
    taken: impl Iterator<Item = (&'static str, &'t [AtOnce], Option<Median>)>,
) -> Option<String> {
    let lines: String = taken.filter(|(_, turns, _)| !turns.is_empty()).map(line).collect();
    let head = "| at the same time | node | CPU µs a message | x a node alone | x one after the other |\n|---|---|--:|--:|--:|";
    (!lines.is_empty()).then(|| head.to_owned() + &lines)
}

fn line((name, turns, apart): (&'static str, &[AtOnce], Option<Median>)) -> String {
    let of = |pick: &dyn Fn(&AtOnce) -> f64, digits| {
        relay::spread(Median::of(turns.iter().map(pick).collect()), digits)
    };
    let (alone, manager) = (of(&|turn| turn.alone, 0), of(&|turn| turn.manager, 0));
    let (ratio, all) = (of(&AtOnce::manager, 2), of(&AtOnce::all, 2));
    let apart = apart.map_or_else(|| "–".into(), |apart| relay::spread(apart, 2));
    let mut lines = format!(
        "\n| {name} | a node alone | {alone} | | |\n| {name} | manager | {manager} | {ratio} | {apart} |"
    );
    for place in 0..turns[0].workers.len() {
        let worker = of(&|turn| turn.workers[place], 0);
        lines += &format!("\n| {name} | worker {} | {worker} | | |", place + 1);
    }
    lines + &format!("\n| {name} | all of the cluster | | {all} | |")
}

/// The window begins once each has relayed one part in so many.
const RAMP_PART: u64 = 20;

/// In the window each has to relay one part in so many at least.
const LEAST_PART: u64 = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn seen(count: u64, cpu: &[f64]) -> Seen {
        Seen { count, cpu: cpu.to_vec() }
    }

    #[test]
    fn each_process_is_held_against_the_node_alone_by_what_its_own_contender_relayed() {
        let at = Instant::now();
        let before = Both { alone: seen(50, &[5e6]), cluster: seen(10, &[1e6, 2e6, 3e6]), at };
        let after = |count, at| Both { alone: seen(150, &[6e6]), cluster: seen(count, &[3e6, 3e6, 4e6]), at };
        let until = at + Duration::from_secs(4);
        let taken = AtOnce::between(&before, &after(110, until), 100).expect("both relayed enough");
        assert_eq!((taken.alone, taken.manager, &taken.workers[..]), (1e4, 2e4, &[1e4, 1e4][..]));
        assert_eq!((taken.manager(), taken.all(), taken.cores), (2.0, 4.0, [0.25, 0.5]));
        let error = AtOnce::between(&before, &after(60, until), 100).map(drop).expect_err("it is half");
        assert!(error.to_string().starts_with("one relayed 50 messages"), "{error}");
    }
}
