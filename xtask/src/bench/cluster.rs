//! `cargo xtask bench cluster`: what a manager with workers costs and does beside a node alone, and what happens when one of them dies.

mod alarms;
mod at_once;
mod deaths;
mod group;
mod link;
mod many;
mod node;
mod relay;
mod senders;

use std::{
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use self::deaths::Deaths;
use super::{
    machine, posthouse,
    process::{self, Interrupt},
    report,
    targets::Verdict,
};
use crate::{foreign, place, step::step};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "a,b,c,d,e,f")]
    only: Vec<Part>,
    /// Turns of a and b; the median of each turn's ratios counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Messages of a run of a and b, for all alike; half as many go before. Without it, as many as take each some seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(100..))]
    messages: Option<u64>,
    /// Messages a second that are offered in c, d and f's takeover.
    #[arg(long, default_value_t = 1500.0, value_parser = rate)]
    rate: f64,
    /// Nodes that are idle in e.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=500))]
    nodes: u32,
    /// Minutes of full load in f without a false alarm: the target says 10.
    #[arg(long, default_value_t = 10.0, value_parser = minutes)]
    alarm_minutes: f64,
    /// Measure this program, and build none.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// More options for `posthouse up`.
    #[arg(last = true)]
    up: Vec<String>,
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, 1.0..=100_000.0)
}

fn minutes(text: &str) -> Result<f64, String> {
    within(text, 0.01..=600.0)
}

fn within(text: &str, range: RangeInclusive<f64>) -> Result<f64, String> {
    let number = text.parse::<f64>().map_err(|error| error.to_string())?;
    if range.contains(&number) { Ok(number) } else { Err(format!("not within {range:?}")) }
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Mail comes in at the manager.
    A,
    /// Mail comes in at the workers.
    B,
    /// A worker is killed under load.
    C,
    /// The manager is killed under load.
    D,
    /// 200 links that are idle.
    E,
    /// Tuned liveness: takeover, and false alarms.
    F,
}

/// Measures, and prints the tables as Markdown.
///
/// # Errors
/// Something could not be run, or a target was missed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let interrupt = Interrupt::catch()?;
    process::raise_open_files()?;
    fs::create_dir_all(place::bench()).context("cannot make target/bench")?;
    step("tools", foreign::set_up_postfix)?;
    if options.program.is_none() {
        step("build", posthouse::build)?;
    }
    // Nodes are started over minutes; all of them are to be the same program, whatever is built meanwhile.
    let folder = tempfile::Builder::new().prefix("program-").tempdir_in(place::bench())?;
    let program = folder.path().join("posthouse");
    fs::copy(options.program.clone().unwrap_or_else(posthouse::program), &program)
        .context("cannot copy the program")?;
    machine::warn_if_busy();
    let mut taken = Taken::default();
    let outcome = take(options, &program, &mut taken, &interrupt);
    let printed = taken.print();
    outcome.and(printed)
}

/// What was measured so far: printed also where a later measurement fails.
#[derive(Default)]
struct Taken {
    relay: Vec<relay::Figures>,
    tables: Vec<String>,
    verdicts: Vec<Verdict>,
}

fn take(options: &Options, program: &Path, taken: &mut Taken, interrupt: &Interrupt) -> Result<()> {
    let Options { only, runs, messages, up, rate, .. } = options;
    if only.contains(&Part::A) || only.contains(&Part::B) {
        let relay = relay::Relay { program, runs: *runs, messages: *messages, parts: only, up };
        relay.measure(&mut taken.relay, interrupt)?;
    }
    let deaths = Deaths { program, rate: *rate, up, interrupt };
    for part in [Part::C, Part::D, Part::E, Part::F].iter().filter(|part| only.contains(part)) {
        match part {
            Part::A | Part::B => {}
            Part::C => taken.add(deaths.of_a_worker(deaths::USUAL)?),
            Part::D => taken.add(deaths.of_the_manager()?),
            Part::E => taken.add(many::idle(program, options.nodes, up, interrupt)?),
            Part::F => {
                taken.add(deaths.of_a_worker(alarms::TUNED)?);
                taken.add(alarms::under_full_load(program, options.alarm_minutes, up, interrupt)?);
            }
        }
    }
    Ok(())
}

impl Taken {
    fn add(&mut self, (text, verdicts): (String, Vec<Verdict>)) {
        self.tables.push(text);
        self.verdicts.extend(verdicts);
    }

    fn print(&self) -> Result<()> {
        let mut verdicts = relay::judge(&self.relay);
        verdicts.extend(self.verdicts.iter().cloned());
        let mut tables = relay::tables(&self.relay);
        tables.extend(self.tables.iter().cloned());
        if tables.is_empty() {
            return Ok(());
        }
        report::print(METHOD, &tables, &verdicts)
    }
}

const METHOD: &str = "Load tools and all nodes on the same cores, loopback, 10 KiB, 20 kept sessions in all; a manager and two workers. Each \
contender is started anew, relays half as many messages as count, and is measured once in every turn, at 40,000 (Postfix at 8,000); medians of \
the turns, and of their ratios. Delivered: by the sink's counter, from first connect to last message; of a node by the message log. CPU: each \
process with what it started, until queue and CPU are quiet for two seconds. At the same time: a cluster and a node alone, both warm, with 20 \
sessions and the messages of a run each, from when both have relayed a twentieth until somebody has sent all; what they put off until later \
is not in it. The targets for CPU are judged by this. On the \
link: TCP's own count at the manager's port, both ways. Killed: with signal 9, while 20 sessions send to the workers at a steady rate to \
recipients of their own; lost and twice by the next hop's count.";
