//! A cluster beside a node alone, both at the same time: what disturbs the machine disturbs both, so that what they cost can be held against
//! each other. One after the other, the same program differs from itself by a fifth.

use std::time::Instant;

use anyhow::{Result, bail, ensure};

use super::{
    super::{LOOK_EVERY, measure::Median, process::Interrupt},
    relay::{self, Contender, PATIENCE_WITH_A_STALL, Setting},
};

/// What both took, in the time in which both relayed.
pub(super) struct Beside {
    alone: f64,
    /// The processes of the cluster, the manager first.
    nodes: Vec<f64>,
}

impl Beside {
    /// The manager's CPU for each CPU of the node alone.
    pub(super) fn manager(&self) -> f64 {
        self.nodes.first().map_or(0.0, |manager| manager / self.alone)
    }

    /// The CPU of the whole cluster for each CPU of the node alone.
    pub(super) fn all(&self) -> f64 {
        self.nodes.iter().sum::<f64>() / self.alone
    }

    pub(super) fn line(&self) -> String {
        let nodes = self.nodes.iter().map(|node| format!("{node:.0}")).collect::<Vec<_>>().join(" + ");
        format!("{nodes} µs a message beside {:.0} of a node alone, {:.2} x", self.alone, self.manager())
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

    /// What each process took for a message since then.
    fn since(&self, before: &Self) -> Result<Vec<f64>> {
        let messages = self.count - before.count;
        ensure!(messages > 0, "one was through before the other was warm: give --messages more");
        let each = relay::each(1, messages);
        Ok(self.cpu.iter().zip(&before.cpu).map(|(after, before)| (after - before) * each).collect())
    }
}

/// Sends the same to both at once, and measures from when both have had the warm-up until one has all.
///
/// # Errors
/// A sender failed, both stalled, or we were interrupted.
pub(super) fn measure(
    alone: &Setting,
    cluster: &Setting,
    (warm_up, messages): (u64, u64),
    interrupt: &Interrupt,
) -> Result<Beside> {
    let all = warm_up + messages;
    let mut sources = alone.load(all)?;
    sources.extend(cluster.load(all)?);
    let (mut before, mut last) = (None, (0, Instant::now()));
    loop {
        interrupt.pause(LOOK_EVERY)?;
        relay::expect_no_failure(&mut sources)?;
        let counts = [alone.sink.count()?, cluster.sink.count()?];
        let sum = counts.iter().sum::<u64>();
        if sum > last.0 {
            last = (sum, Instant::now());
        } else if last.1.elapsed() > PATIENCE_WITH_A_STALL {
            bail!("the sinks got {counts:?} of {all} messages each and then no more");
        }
        match &before {
            None if counts.iter().all(|count| *count >= warm_up) => {
                before = Some((Seen::of(alone)?, Seen::of(cluster)?));
            }
            Some((alone_before, cluster_before)) if counts.iter().any(|count| count + TAIL >= all) => {
                let alone = Seen::of(alone)?.since(alone_before)?;
                let nodes = Seen::of(cluster)?.since(cluster_before)?;
                return Ok(Beside { alone: alone.iter().sum(), nodes });
            }
            _ => {}
        }
    }
}

/// What was measured, as a table, if anything was.
pub(super) fn table<'b>(taken: impl Iterator<Item = (Contender, &'b [Beside])>) -> Option<String> {
    let lines: String = taken.filter(|(_, beside)| !beside.is_empty()).map(line).collect();
    let head = "| at the same time | a node alone | manager | workers together |\n|---|--:|--:|--:|";
    (!lines.is_empty()).then(|| head.to_owned() + &lines)
}

fn line((contender, beside): (Contender, &[Beside])) -> String {
    let of = |pick: &dyn Fn(&Beside) -> f64| relay::spread(Median::of(beside.iter().map(pick).collect()), 0);
    let alone = of(&|beside| beside.alone);
    let manager = of(&|beside| beside.nodes.first().copied().unwrap_or_default());
    let workers = of(&|beside| beside.nodes.iter().skip(1).sum());
    format!("\n| {}, CPU µs a message | {alone} | {manager} | {workers} |", contender.name())
}

/// So many messages before one has all it is over: then some of its sessions have nothing left to send.
const TAIL: u64 = 50;
