//! A cluster and a node alone that relay at the same time: what disturbs the machine disturbs both, so that what they cost can be held against
//! each other. One after the other, the same program differs from itself by a fifth.

use std::time::{Duration, Instant};

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
    /// Each is as often first as second.
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

    /// What each process took for a message since then, in which there were to be so many messages at least.
    fn since(&self, before: &Self, least: u64) -> Result<Vec<f64>> {
        let messages = self.count - before.count;
        ensure!(
            messages >= least.max(1),
            "one relayed {messages} messages while the other relayed all: too few to compare"
        );
        let each = relay::each(1, messages);
        Ok(self.cpu.iter().zip(&before.cpu).map(|(after, before)| (after - before) * each).collect())
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
                before = Some((Seen::of(alone)?, Seen::of(cluster)?, Instant::now()));
            }
            None if has_ended => bail!("one was through before the other had begun"),
            Some((alone_before, cluster_before, since)) if has_ended => {
                let took = since.elapsed();
                let least = messages / LEAST_PART;
                let of_alone = Seen::of(alone)?;
                let of_cluster = Seen::of(cluster)?;
                let cores = [cores(&of_alone, alone_before, took), cores(&of_cluster, cluster_before, took)];
                let of_alone = of_alone.since(alone_before, least)?;
                let of_cluster = of_cluster.since(cluster_before, least)?;
                let ([alone], [manager, workers @ ..]) = (&of_alone[..], &of_cluster[..]) else {
                    bail!("these are not a node alone and a cluster")
                };
                return Ok(AtOnce { alone: *alone, manager: *manager, workers: workers.to_vec(), cores });
            }
            _ => {}
        }
    }
}

/// Cores that the first process of a contender has had.
fn cores(after: &Seen, before: &Seen, took: Duration) -> f64 {
    let used = after.cpu.iter().zip(&before.cpu).map(|(after, before)| after - before).next();
    used.unwrap_or_default() / (took.as_secs_f64() * 1e6)
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
