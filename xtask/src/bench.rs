//! `cargo xtask bench relay`: the machine alone, Postfix and Posthouse, measured in one run.
//!
//! Each contender relays from smtp-source to smtp-sink over loopback, with its queue on the file system of
//! this checkout and `250` after sync. The sink's own counter says when the last message has arrived, for
//! all alike; CPU is counted until the server is quiet again, so that nothing put off goes uncounted.

mod idle;
mod load;
mod machine;
mod measure;
mod meter;
mod postfix;
mod posthouse;
mod process;
mod report;
mod server;
mod targets;

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use self::{
    idle::Idle,
    load::{Load, Sink},
    measure::{Figures, Row},
    process::Interrupt,
    server::Server,
};
use crate::{foreign, place, step::step};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Message sizes in KiB; 10 brings the row with 100 sessions along.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100")]
    sizes: Vec<u64>,
    /// Runs per figure; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Messages per run, for all alike; without it, as many as take each some seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(100..))]
    messages: Option<u64>,
    /// Measure only these.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "null,postfix,posthouse")]
    only: Vec<Contender>,
    /// Measure only the memory of idle sessions.
    #[arg(long)]
    idle: bool,
    /// More options for `posthouse up`.
    #[arg(last = true)]
    up: Vec<String>,
}

impl Options {
    fn measures_posthouse(&self) -> bool {
        self.idle || self.only.contains(&Contender::Posthouse)
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contender {
    /// smtp-source straight into smtp-sink: what the machine and the tools can do.
    Null,
    /// Debian's Postfix, tuned as docs/HACKING.md says.
    Postfix,
    /// This checkout, built for release.
    Posthouse,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Postfix => "Postfix",
            Self::Posthouse => "Posthouse",
        }
    }
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
    if options.measures_posthouse() {
        step("build", posthouse::build)?;
    }
    machine::warn_if_busy();
    let mut taken = Taken::default();
    let outcome = take(options, &mut taken, &interrupt);
    let verdicts = targets::judge(&taken.figures, taken.idle.as_ref());
    println!("{}", report::markdown(&taken.figures, &verdicts, options.runs)?);
    outcome?;
    match verdicts.iter().filter(|verdict| verdict.outcome == targets::Outcome::Miss).count() {
        0 => Ok(()),
        missed => bail!("{missed} of {} targets missed", verdicts.len()),
    }
}

/// What was measured so far: printed also where a later measurement fails.
#[derive(Default)]
struct Taken {
    figures: Vec<Figures>,
    idle: Option<Idle>,
}

fn take(options: &Options, taken: &mut Taken, interrupt: &Interrupt) -> Result<()> {
    if !options.idle {
        for row in ROWS.iter().filter(|row| options.sizes.contains(&row.kib)) {
            for contender in &options.only {
                taken.figures.push(measure_one(*contender, *row, options, interrupt)?);
            }
        }
    }
    if options.measures_posthouse() {
        taken.idle = Some(idle::measure(&options.up, interrupt)?);
    }
    Ok(())
}

fn measure_one(contender: Contender, row: Row, options: &Options, interrupt: &Interrupt) -> Result<Figures> {
    let sink = Sink::start(interrupt)?;
    let server: Option<Box<dyn Server>> = match contender {
        Contender::Null => None,
        Contender::Postfix => Some(Box::new(postfix::Postfix::start(sink.port(), interrupt)?)),
        Contender::Posthouse => {
            Some(Box::new(posthouse::Posthouse::start(sink.port(), &options.up, interrupt)?))
        }
    };
    let messages = options.messages.unwrap_or_else(|| row.messages(contender));
    let load = Load { bytes: row.kib * 1024, sessions: row.sessions, messages };
    measure::measure(contender, row, &load, options.runs, server.as_deref(), &sink, interrupt)
}

/// The rows of the table.
const ROWS: [Row; 4] = [
    Row { kib: 1, sessions: 20 },
    Row { kib: 10, sessions: 20 },
    Row { kib: 10, sessions: 100 },
    Row { kib: 100, sessions: 20 },
];

/// How often a file or a counter is looked at while a fact is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(2);
