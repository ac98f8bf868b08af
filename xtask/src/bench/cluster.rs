//! `cargo xtask bench cluster`: what a manager with workers costs and does beside a node alone, and what happens when one of them dies.

mod group;
mod link;
mod node;
mod relay;

use std::fs;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

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
    /// Messages of a run of a and b, for all alike; without it, as many as take each some seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(100..))]
    messages: Option<u64>,
    /// More options for `posthouse up`.
    #[arg(last = true)]
    up: Vec<String>,
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
    step("build", posthouse::build)?;
    machine::warn_if_busy();
    let mut taken = Taken::default();
    let outcome = take(options, &mut taken, &interrupt);
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

fn take(options: &Options, taken: &mut Taken, interrupt: &Interrupt) -> Result<()> {
    let Options { only, runs, messages, up } = options;
    if only.contains(&Part::A) || only.contains(&Part::B) {
        let relay = relay::Relay { runs: *runs, messages: *messages, parts: only, up };
        relay.measure(&mut taken.relay, interrupt)?;
    }
    Ok(())
}

impl Taken {
    fn print(&self) -> Result<()> {
        let mut verdicts = relay::judge(&self.relay);
        verdicts.extend(self.verdicts.iter().cloned());
        let mut tables = self.tables.clone();
        if !self.relay.is_empty() {
            tables.insert(0, relay::table(&self.relay));
        }
        report::print(METHOD, &tables, &verdicts)
    }
}

const METHOD: &str = "Load tools and all nodes on the same cores, loopback, 10 KiB, 20 kept sessions in all; a manager and two workers. Each \
contender is started anew, warmed up and measured once in every turn; medians of the turns, and of their ratios. Delivered: by the sink's counter, \
from first connect to last message; of a node by its own counter. CPU: each process with what it started, until queue and CPU are quiet. On the \
link: TCP's own count at the manager's port, both ways.";
