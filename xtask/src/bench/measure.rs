//! One figure: a contender under one load, several runs, the median.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{
    LOOK_EVERY,
    load::{Load, Sink},
    meter,
    process::Interrupt,
    relay::Contender,
    server::{self, Server},
};
use crate::place;

/// A row of the table: what every contender is measured at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Size of a message in KiB.
    pub(crate) kib: u64,
    /// Sessions that the source keeps.
    pub(crate) sessions: u32,
}

impl Row {
    /// How many messages take some seconds.
    pub(crate) fn messages(self, contender: Contender) -> u64 {
        match (contender, self.kib) {
            (Contender::Postfix, 0..100) => 8_000,
            (Contender::Postfix, _) => 4_000,
            (_, 0..10) => 80_000,
            (_, 10..100) => 40_000,
            (_, _) => 10_000,
        }
    }
}

/// What a contender did in one row.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Who.
    pub(crate) contender: Contender,
    /// At what.
    pub(crate) row: Row,
    /// Messages in each run.
    pub(crate) messages: u64,
    /// Messages delivered per second.
    pub(crate) rate: Median,
    /// The rate of each run as a part of the other contender's in the same turn; nothing where it ran alone.
    pub(crate) beside: Option<Median>,
    /// What the server cost; nothing in the null run.
    pub(crate) cost: Option<Cost>,
}

/// What a server used.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    /// CPU per message in microseconds.
    pub(crate) cpu: Median,
    /// Bytes written to the device per message, the file system's own included.
    pub(crate) written: Option<Median>,
    /// Memory of all its processes in bytes after the last run.
    pub(crate) memory: u64,
    /// How the CPU was counted.
    pub(crate) method: &'static str,
}

/// The middle of several runs, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Median {
    /// The middle one, or the mean of the middle two.
    pub(crate) value: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Median {
    /// The median of `runs`, of which there is at least one.
    pub(crate) fn of(mut runs: Vec<f64>) -> Self {
        runs.sort_by(f64::total_cmp);
        let (low, high) = (runs[(runs.len() - 1) / 2], runs[runs.len() / 2]);
        Self { value: f64::midpoint(low, high), min: runs[0], max: runs[runs.len() - 1] }
    }
}

/// A contender, ready to run.
pub(crate) struct Entrant {
    /// Who.
    pub(crate) contender: Contender,
    /// Its server; nothing in the null run.
    pub(crate) server: Option<Box<dyn Server>>,
    /// What its messages end in.
    pub(crate) sink: Sink,
    /// What it is given in each run.
    pub(crate) load: Load,
}

/// Runs one contender `runs` times after a warm-up.
///
/// # Errors
/// Something ended, stalled, or was interrupted.
pub(crate) fn alone(entrant: &Entrant, row: Row, runs: u32, interrupt: &Interrupt) -> Result<Figures> {
    warm_up(entrant, interrupt)?;
    let samples: Result<Vec<_>> = (1..=runs).map(|run| one_run(entrant, row, run, interrupt)).collect();
    figures(entrant, row, &samples?)
}

/// Runs two contenders in turns, each as often first as second: `runs` times either way. Each run is a warm-up and a run of a server
/// that was just started, because one start is some hundredths faster than another of the same program.
///
/// # Errors
/// Something did not start, ended, stalled, or was interrupted.
pub(crate) fn in_turns(
    both: [Contender; 2],
    start: impl Fn(Contender) -> Result<Entrant>,
    row: Row,
    runs: u32,
    interrupt: &Interrupt,
) -> Result<Vec<Figures>> {
    let mut samples = [Vec::new(), Vec::new()];
    let mut entrants = [None, None];
    for run in 1..=2 * runs {
        let order = if run % 2 == 1 { [0, 1] } else { [1, 0] };
        for place in order {
            let entrant = entrants[place].insert(start(both[place])?);
            warm_up(entrant, interrupt)?;
        }
        for place in order {
            let entrant = entrants[place].as_ref().expect("it was started");
            samples[place].push(one_run(entrant, row, run, interrupt)?);
        }
    }
    let rates =
        samples[1].iter().zip(&samples[0]).map(|(ours, its): (&Sample, &Sample)| ours.rate / its.rate);
    let beside = [None, Some(Median::of(rates.collect()))];
    let each = entrants.iter().flatten().zip(&samples).zip(beside);
    each.map(|((entrant, samples), beside)| Ok(Figures { beside, ..figures(entrant, row, samples)? }))
        .collect()
}

fn figures(entrant: &Entrant, row: Row, samples: &[Sample]) -> Result<Figures> {
    let median = |pick: fn(&Sample) -> Option<f64>| {
        samples.iter().map(pick).collect::<Option<Vec<f64>>>().map(Median::of)
    };
    let cost = match (&entrant.server, median(|sample| sample.cpu)) {
        (Some(server), Some(cpu)) => Some(Cost {
            cpu,
            written: median(|sample| sample.written),
            memory: server.meter().memory(server.process().pid())?,
            method: server.meter().method(),
        }),
        _ => None,
    };
    let rate = median(|sample| Some(sample.rate)).expect("there is at least one run");
    let messages = entrant.load.messages;
    Ok(Figures { contender: entrant.contender, row, messages, rate, beside: None, cost })
}

struct Sample {
    rate: f64,
    cpu: Option<f64>,
    written: Option<f64>,
}

fn warm_up(entrant: &Entrant, interrupt: &Interrupt) -> Result<()> {
    let load = Load { messages: entrant.load.messages / WARM_UP_PART, ..entrant.load.clone() };
    send(&load, entrant.server.as_deref(), &entrant.sink, interrupt)?;
    Ok(())
}

fn one_run(entrant: &Entrant, row: Row, run: u32, interrupt: &Interrupt) -> Result<Sample> {
    let sample = send(&entrant.load, entrant.server.as_deref(), &entrant.sink, interrupt)?;
    eprintln!(
        "xtask {:<9} {:>3} KiB, {:>3} sessions, run {run}: {:>6.0}/s{}",
        entrant.contender.name(),
        row.kib,
        row.sessions,
        sample.rate,
        sample.cpu.map_or_else(String::new, |cpu| format!(", {cpu:.0} µs a message")),
    );
    Ok(sample)
}

fn send(load: &Load, server: Option<&dyn Server>, sink: &Sink, interrupt: &Interrupt) -> Result<Sample> {
    let used = || server.map(|server| server.meter().used(server.process().pid())).transpose();
    let (cpu_before, written_before) = (used()?, meter::written(&place::bench()));
    let target = sink.count()? + load.messages;
    let start = Instant::now();
    let mut source = load.send(server.map_or(sink.port(), Server::port))?;
    let mut seen = (sink.count()?, Instant::now());
    while seen.0 < target {
        interrupt.pause(LOOK_EVERY)?;
        let count = sink.count()?;
        if count > seen.0 {
            seen = (count, Instant::now());
        }
        if let Some(status) = source.ended()?.filter(|status| !status.success()) {
            bail!("smtp-source failed ({status}); see what it printed");
        }
        if seen.1.elapsed() > PATIENCE_WITH_A_STALL {
            bail!("the sink got {} of {target} messages and then no more", seen.0);
        }
    }
    let took = seen.1.duration_since(start);
    interrupt.wait_for("smtp-source ends", LOOK_EVERY, PATIENCE_WITH_A_STALL, || source.ended())?;
    if let Some(server) = server {
        server::settle(&[server], interrupt)?;
    }
    let count = sink.count()?;
    if count > target {
        bail!("the sink got {} messages twice", count - target);
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
    let per_message = |total: u64| total as f64 / load.messages as f64;
    let cpu = used()?.zip(cpu_before).map(|(after, before)| after - before);
    let written = meter::written(&place::bench()).zip(written_before).map(|(after, before)| after - before);
    Ok(Sample {
        rate: 1.0 / (took.as_secs_f64() * per_message(1)),
        cpu: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 * per_message(1)),
        written: written.map(per_message),
    })
}

/// The warm-up sends one part in so many of a run, uncounted.
const WARM_UP_PART: u64 = 8;

const PATIENCE_WITH_A_STALL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_middle_two() {
        assert_eq!(Median::of(vec![3.0, 1.0, 2.0]), Median { value: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Median::of(vec![4.0, 1.0, 3.0, 2.0]).value, 2.5);
        assert_eq!(Median::of(vec![7.0]), Median { value: 7.0, min: 7.0, max: 7.0 });
    }
}
