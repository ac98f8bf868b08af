//! Relay by a cluster: null, Postfix, standalone, in at the manager and in at the workers, each once in every turn; and each cluster once more
//! while a node alone relays as well.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    super::{
        LOOK_EVERY,
        load::{Load, Sink},
        measure::Median,
        postfix::Postfix,
        posthouse::Posthouse,
        process::{Interrupt, Process},
        server::{self, Server},
        targets::Verdict,
    },
    Part,
    at_once::{self, AtOnce, First},
    group::{Group, Shape},
    link::Links,
};

/// Who relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    Null,
    Postfix,
    Standalone,
    AtManager,
    AtWorkers,
}

impl Contender {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Postfix => "Postfix",
            Self::Standalone => "standalone",
            Self::AtManager => "a: in at the manager",
            Self::AtWorkers => "b: in at the workers",
        }
    }

    /// Messages of a run without the option: such as take each some seconds.
    fn messages(self) -> u64 {
        if self == Self::Postfix { 8_000 } else { 40_000 }
    }

    fn is_cluster(self) -> bool {
        matches!(self, Self::AtManager | Self::AtWorkers)
    }

    fn file(self) -> &'static str {
        match self {
            Self::AtManager => "cluster.placement = 'round-robin'",
            Self::AtWorkers => "cluster.placement = 'intake-first'",
            Self::Null | Self::Postfix | Self::Standalone => "",
        }
    }
}

/// What is measured, and how.
pub(super) struct Relay<'r> {
    /// The program.
    pub(super) program: &'r Path,
    /// How many turns.
    pub(super) runs: u32,
    /// Messages of a run, for all alike.
    pub(super) messages: Option<u64>,
    /// Which parts.
    pub(super) parts: &'r [Part],
    /// More options for `posthouse up`.
    pub(super) up: &'r [String],
}

/// What one contender did in each turn.
pub(super) struct Figures {
    contender: Contender,
    samples: Vec<Sample>,
    at_once: Vec<AtOnce>,
}

impl Figures {
    fn of(contender: Contender) -> Self {
        Self { contender, samples: Vec::new(), at_once: Vec::new() }
    }
}

/// What one contender did in one turn.
struct Sample {
    rate: f64,
    /// Its processes, the manager first.
    nodes: Vec<Share>,
    /// Bytes over the links for each byte of the messages.
    link: Option<f64>,
}

/// What one process had of it.
#[derive(Clone, Copy)]
struct Share {
    /// CPU for each message of all, in microseconds.
    cpu: f64,
    /// What it delivered each second, where it says so.
    rate: Option<f64>,
}

impl Sample {
    fn cpu(&self) -> f64 {
        self.nodes.iter().map(|node| node.cpu).sum()
    }
}

/// A contender that was started.
pub(super) struct Setting {
    server: Running,
    /// Where mail comes in, and over how many sessions.
    doors: Vec<(u16, u32)>,
    pub(super) sink: Sink,
}

enum Running {
    Nothing,
    One(Box<dyn Server>),
    Group(Box<Group>),
}

impl Setting {
    fn servers(&self) -> Vec<&dyn Server> {
        match &self.server {
            Running::Nothing => Vec::new(),
            Running::One(server) => vec![&**server],
            Running::Group(group) => group.nodes().map(|node| -> &dyn Server { node }).collect(),
        }
    }

    fn group(&self) -> Option<&Group> {
        if let Running::Group(group) = &self.server { Some(group) } else { None }
    }

    /// The CPU that each of its processes has used, the manager first.
    pub(super) fn used(&self) -> Result<Vec<Duration>> {
        self.servers().iter().map(|server| server.meter().used(server.process().pid())).collect()
    }

    fn links(&self) -> Result<Option<Links>> {
        self.group().map(|group| Links::at(group.link)?.expect_some()).transpose()
    }

    /// Starts to send so many messages, the same number to each door and none of the rest; returns who sends.
    ///
    /// # Errors
    /// smtp-source cannot be run.
    pub(super) fn load(&self, messages: u64) -> Result<Vec<Process>> {
        let doors = u64::try_from(self.doors.len()).context("too many doors")?;
        let send = |(port, sessions): &(u16, u32)| {
            Load { bytes: BYTES, sessions: *sessions, messages: messages / doors }.send(*port)
        };
        self.doors.iter().map(send).collect()
    }
}

impl Relay<'_> {
    fn contenders(&self) -> Vec<Contender> {
        let mut all = vec![Contender::Null, Contender::Postfix, Contender::Standalone];
        let parts = [(Part::A, Contender::AtManager), (Part::B, Contender::AtWorkers)];
        all.extend(parts.iter().filter(|(part, _)| self.parts.contains(part)).map(|(_, each)| *each));
        all
    }

    /// Measures each contender once in every turn; what was measured so far stays when a later one fails.
    ///
    /// # Errors
    /// Something did not start, ended, stalled, or was interrupted.
    pub(super) fn measure(&self, taken: &mut Vec<Figures>, interrupt: &Interrupt) -> Result<()> {
        let mut order = self.contenders();
        taken.extend(order.iter().copied().map(Figures::of));
        for run in 1..=self.runs {
            for contender in &order {
                let figures = taken.iter_mut().find(|figures| figures.contender == *contender);
                let figures = figures.context("it has its place")?;
                let sample = self.one_run(*contender, interrupt)?;
                eprintln!("xtask {:<20} run {run}: {}", contender.name(), sample.line());
                figures.samples.push(sample);
                if contender.is_cluster() {
                    let at_once = self.at_once(*contender, First::of(run), interrupt)?;
                    eprintln!("xtask {:<20} run {run}: {}", contender.name(), at_once.line());
                    figures.at_once.push(at_once);
                }
            }
            // Each as often before the others as after them.
            order.reverse();
        }
        Ok(())
    }

    fn one_run(&self, contender: Contender, interrupt: &Interrupt) -> Result<Sample> {
        let setting = self.start(contender, interrupt)?;
        let messages = self.messages.unwrap_or_else(|| contender.messages());
        send(&setting, messages / WARM_UP_PART, interrupt)?;
        send(&setting, messages, interrupt)
    }

    /// A cluster and a node alone, at the same time; each has warmed up for itself.
    fn at_once(&self, contender: Contender, first: First, interrupt: &Interrupt) -> Result<AtOnce> {
        let messages = self.messages.unwrap_or_else(|| contender.messages());
        let warm = |contender| {
            let setting = self.start(contender, interrupt)?;
            send(&setting, messages / WARM_UP_PART, interrupt)?;
            Ok::<_, anyhow::Error>(setting)
        };
        let (alone, cluster) = match first {
            First::Alone => (warm(Contender::Standalone)?, warm(contender)?),
            First::Cluster => {
                let cluster = warm(contender)?;
                (warm(Contender::Standalone)?, cluster)
            }
        };
        at_once::measure(&alone, &cluster, first, messages, interrupt)
    }

    fn start(&self, contender: Contender, interrupt: &Interrupt) -> Result<Setting> {
        let sink = Sink::start(interrupt)?;
        let server = match contender {
            Contender::Null => Running::Nothing,
            Contender::Postfix => Running::One(Box::new(Postfix::start(sink.port(), interrupt)?)),
            Contender::Standalone => {
                Running::One(Box::new(Posthouse::start(self.program, sink.port(), self.up, interrupt)?))
            }
            Contender::AtManager | Contender::AtWorkers => {
                let shape = Shape {
                    program: self.program,
                    workers: WORKERS,
                    next_hop: sink.port(),
                    file: contender.file(),
                    level: "warn",
                    up: self.up,
                };
                Running::Group(Box::new(Group::start(&shape, interrupt)?))
            }
        };
        let doors = match &server {
            Running::Nothing => vec![(sink.port(), SESSIONS)],
            Running::One(server) => vec![(server.port(), SESSIONS)],
            Running::Group(group) if contender == Contender::AtWorkers => {
                group.doors().into_iter().map(|port| (port, SESSIONS_A_WORKER)).collect()
            }
            Running::Group(group) => vec![(group.manager.port(), SESSIONS)],
        };
        Ok(Setting { server, doors, sink })
    }
}

/// Sends through a contender, and waits until it has done all it had put off.
fn send(setting: &Setting, messages: u64, interrupt: &Interrupt) -> Result<Sample> {
    let (cpu_before, links_before) = (setting.used()?, setting.links()?);
    let doors = u64::try_from(setting.doors.len()).context("too many doors")?;
    let messages = messages / doors * doors;
    let took = through(setting, messages, interrupt)?;
    server::settle(&setting.servers(), interrupt)?;
    let link = match (setting.links()?, links_before) {
        (Some(after), Some(before)) => Some(each(after.since(&before)?, messages * BYTES)),
        _ => None,
    };
    let used = setting.used()?;
    // Last, because it has a cost of its own.
    let delivered = setting.group().map(|group| group.delivered(messages)).transpose()?.unwrap_or_default();
    let share = |(place, (after, before)): (usize, (&Duration, &Duration))| Share {
        cpu: (*after - *before).as_secs_f64() * 1e6 * each(1, messages),
        rate: delivered.get(place).map(|count| each(*count, 1) / took.as_secs_f64()),
    };
    let nodes = used.iter().zip(&cpu_before).enumerate().map(share).collect();
    Ok(Sample { rate: each(messages, 1) / took.as_secs_f64(), nodes, link })
}

/// How long it takes from the first connect until the sink has the last message.
fn through(setting: &Setting, messages: u64, interrupt: &Interrupt) -> Result<Duration> {
    let sink = &setting.sink;
    let target = sink.count()? + messages;
    let start = Instant::now();
    let mut sources = setting.load(messages)?;
    let mut seen = (sink.count()?, start);
    while seen.0 < target {
        interrupt.pause(LOOK_EVERY)?;
        let count = sink.count()?;
        if count > seen.0 {
            seen = (count, Instant::now());
        }
        let _ = has_one_ended(&mut sources)?;
        if seen.1.elapsed() > PATIENCE_WITH_A_STALL {
            bail!("the sink got {} of {target} messages and then no more", seen.0);
        }
    }
    for source in &mut sources {
        interrupt.wait_for("smtp-source ends", LOOK_EVERY, PATIENCE_WITH_A_STALL, || source.ended())?;
    }
    if seen.0 > target {
        bail!("the sink got {} messages twice", seen.0 - target);
    }
    Ok(seen.1.duration_since(start))
}

/// Whether somebody has sent all.
///
/// # Errors
/// One has failed.
pub(super) fn has_one_ended(sources: &mut [Process]) -> Result<bool> {
    let mut has_ended = false;
    for source in sources {
        let Some(status) = source.ended()? else { continue };
        if !status.success() {
            bail!("smtp-source failed ({status}); see what it printed");
        }
        has_ended = true;
    }
    Ok(has_ended)
}

impl Sample {
    fn line(&self) -> String {
        let cpu = self.nodes.iter().map(|node| format!("{:.0}", node.cpu)).collect::<Vec<_>>().join(" + ");
        let cpu = if cpu.is_empty() { cpu } else { format!(", {cpu} µs a message") };
        let link = self.link.map_or_else(String::new, |link| format!(", {link:.2} of the size on the link"));
        format!("{:>6.0}/s{cpu}{link}", self.rate)
    }
}

/// What was measured, as tables: each while it had the machine, and clusters while a node alone relayed as well. None without figures.
pub(super) fn tables(taken: &[Figures]) -> Vec<String> {
    let lines: String = taken.iter().filter(|figures| !figures.samples.is_empty()).map(lines).collect();
    let head = "| who | node | delivered/s | CPU µs a message |\n|---|---|--:|--:|";
    let apart = (!lines.is_empty()).then(|| head.to_owned() + &lines);
    let at_once = taken.iter().map(|figures| {
        let manager = |sample: &Sample| sample.nodes.first().map_or(f64::NAN, |node| node.cpu);
        let ratio = ratio(taken, (figures.contender, manager), (Contender::Standalone, Sample::cpu));
        (figures.contender.name(), &*figures.at_once, ratio)
    });
    apart.into_iter().chain(at_once::table(at_once)).collect()
}

/// What one contender did by what another did, one after the other in each turn.
fn ratio(
    taken: &[Figures],
    (ours, pick): (Contender, fn(&Sample) -> f64),
    (other, its): (Contender, fn(&Sample) -> f64),
) -> Option<Median> {
    let of = |contender| taken.iter().find(|figures| figures.contender == contender);
    let pairs = of(ours)?.samples.iter().zip(&of(other)?.samples);
    let ratios: Vec<f64> = pairs.map(|(a, b)| pick(a) / its(b)).collect();
    Some(ratios).filter(|ratios| !ratios.is_empty()).map(Median::of)
}

fn lines(figures: &Figures) -> String {
    let samples = &figures.samples;
    let of = |pick: &dyn Fn(&Sample) -> Option<f64>| {
        let runs: Vec<f64> = samples.iter().filter_map(pick).collect();
        if runs.is_empty() { "–".to_owned() } else { spread(Median::of(runs), 0) }
    };
    let name = figures.contender.name();
    let nodes = samples[0].nodes.len();
    let cpu = if nodes == 0 { "–".into() } else { of(&|sample| Some(sample.cpu())) };
    let mut lines = format!("\n| {name} | all | {} | {cpu} |", of(&|sample| Some(sample.rate)));
    if nodes > 1 {
        for place in 0..nodes {
            let node = if place == 0 { "manager".into() } else { format!("worker {place}") };
            let rate = of(&|sample| sample.nodes[place].rate);
            let cpu = of(&|sample| Some(sample.nodes[place].cpu));
            lines += &format!("\n| {name} | {node} | {rate} | {cpu} |");
        }
    }
    lines
}

/// What was measured against the targets: the median of the ratios of each turn. CPU is held against a node alone that relays at the same
/// time, rates against contenders that had the machine as well.
pub(super) fn judge(taken: &[Figures]) -> Vec<Verdict> {
    let of = |contender| taken.iter().find(|figures| figures.contender == contender);
    let at_once = |who, pick: fn(&AtOnce) -> f64| {
        let ratios: Vec<f64> = of(who)?.at_once.iter().map(pick).collect();
        Some(ratios).filter(|ratios| !ratios.is_empty()).map(Median::of)
    };
    let (a, b) = (Contender::AtManager, Contender::AtWorkers);
    let (alone, postfix) = (Contender::Standalone, Contender::Postfix);
    let rate: fn(&Sample) -> f64 = |sample| sample.rate;
    let link = || {
        let runs: Vec<f64> = of(b)?.samples.iter().filter_map(|sample| sample.link).collect();
        Some(runs).filter(|runs| !runs.is_empty()).map(Median::of)
    };
    let at_most = |who: Contender, unit: &str, measured: Option<Median>, most: f64| {
        measured.map(|it| with_spread(Verdict::at_most(who.name(), unit, it.value, most), it))
    };
    let at_least = |who: Contender, unit: &str, measured: Option<Median>, least: f64| {
        measured.map(|it| with_spread(Verdict::at_least(who.name(), unit, it.value, least), it))
    };
    [
        at_most(a, "x standalone's CPU in all", at_once(a, AtOnce::all), 1.8),
        at_most(a, "x standalone's CPU at the manager", at_once(a, AtOnce::manager), 1.1),
        at_most(b, "x standalone's CPU at the manager", at_once(b, AtOnce::manager), 0.8),
        at_least(b, "x standalone's rate", ratio(taken, (b, rate), (alone, rate)), 0.55),
        at_least(b, "x Postfix's rate", ratio(taken, (b, rate), (postfix, rate)), 4.0),
        at_most(b, "x the message's size on the link", link(), 1.2),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn with_spread(verdict: Verdict, median: Median) -> Verdict {
    Verdict { measured: spread(median, 2), ..verdict }
}

pub(super) fn spread(Median { value, min, max }: Median, digits: usize) -> String {
    format!("{value:.digits$} ({min:.digits$}–{max:.digits$})")
}

/// One number in so many.
#[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
pub(super) fn each(total: u64, of: u64) -> f64 {
    total as f64 / of as f64
}

const WORKERS: usize = 2;
const BYTES: u64 = 10 * 1024;

/// Sessions in all, and those to each of two workers.
const SESSIONS: u32 = 20;
const SESSIONS_A_WORKER: u32 = 10;

/// The warm-up sends one part in so many of a run, uncounted: the spool makes its first segments, and keeps them.
const WARM_UP_PART: u64 = 2;

pub(super) const PATIENCE_WITH_A_STALL: Duration = Duration::from_secs(60);
