//! `cargo xtask bench relay`: the machine alone, Postfix and Posthouse, measured in one run.
//!
//! Each contender relays from smtp-source to smtp-sink over loopback, with its queue on the file system of
//! this checkout and `250` after sync. The sink's own counter says when the last message has arrived, for
//! all alike; CPU is counted until the server is quiet again, so that nothing put off goes uncounted.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::{
    former,
    idle::{self, Idle},
    load::{Load, Sink},
    machine,
    measure::{self, Entrant, Figures, Row},
    postfix::Postfix,
    posthouse::{self, Posthouse},
    process::{self, Interrupt},
    report,
    server::Server,
    targets,
};
use crate::{foreign, place, step::step};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Message sizes in KiB; 10 brings the row with 100 sessions along.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100")]
    sizes: Vec<u64>,
    /// Runs per figure, and twice as many in turns with a former release; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Messages per run, for all alike; without it, as many as take each some seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(100..))]
    messages: Option<u64>,
    /// Measure only these.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "null,postfix,posthouse")]
    only: Vec<Contender>,
    /// Measure a former release in turns with this one: its program, or the git revision to build it from.
    #[arg(long, value_name = "BINARY|REV")]
    former: Option<String>,
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
    /// A former release of Posthouse, in turns with this one; see `--former`.
    #[value(skip)]
    Former,
    /// This checkout, built for release.
    Posthouse,
}

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Postfix => "Postfix",
            Self::Former => "former",
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
    let mut former = None;
    if let Some(name) = &options.former {
        step("former", || {
            former = Some(former::program(name)?);
            Ok("ok".into())
        })?;
    }
    machine::warn_if_busy();
    let mut taken = Taken::default();
    let outcome = take(options, former.as_deref(), &mut taken, &interrupt);
    let verdicts = targets::judge(&taken.figures, taken.idle.as_ref());
    println!("{}", report::markdown(&taken.figures, &verdicts, options.runs)?);
    outcome?;
    report::expect_all(&verdicts)
}

/// What was measured so far: printed also where a later measurement fails.
#[derive(Default)]
struct Taken {
    figures: Vec<Figures>,
    idle: Option<Idle>,
}

fn take(options: &Options, former: Option<&Path>, taken: &mut Taken, interrupt: &Interrupt) -> Result<()> {
    if !options.idle {
        for row in ROWS.iter().filter(|row| options.sizes.contains(&row.kib)) {
            for contender in &options.only {
                let start = |contender| {
                    let program = former.filter(|_| contender == Contender::Former).map(Path::to_owned);
                    entrant(contender, &program.unwrap_or_else(posthouse::program), *row, options, interrupt)
                };
                if former.is_some() && *contender == Contender::Posthouse {
                    let both = [Contender::Former, Contender::Posthouse];
                    taken.figures.extend(measure::in_turns(both, start, *row, options.runs, interrupt)?);
                } else {
                    let entrant = start(*contender)?;
                    taken.figures.push(measure::alone(&entrant, *row, options.runs, interrupt)?);
                }
            }
        }
    }
    if options.measures_posthouse() {
        taken.idle = Some(idle::measure(&options.up, interrupt)?);
    }
    Ok(())
}

fn entrant(
    contender: Contender,
    posthouse: &Path,
    row: Row,
    options: &Options,
    interrupt: &Interrupt,
) -> Result<Entrant> {
    let sink = Sink::start(interrupt)?;
    let server: Option<Box<dyn Server>> = match contender {
        Contender::Null => None,
        Contender::Postfix => Some(Box::new(Postfix::start(sink.port(), interrupt)?)),
        Contender::Former | Contender::Posthouse => {
            Some(Box::new(Posthouse::start(posthouse, sink.port(), &options.up, interrupt)?))
        }
    };
    let messages = options.messages.unwrap_or_else(|| row.messages(contender));
    let load = Load { bytes: row.kib * 1024, sessions: row.sessions, messages };
    Ok(Entrant { contender, server, sink, load })
}

/// The rows of the table.
const ROWS: [Row; 4] = [
    Row { kib: 1, sessions: 20 },
    Row { kib: 10, sessions: 20 },
    Row { kib: 10, sessions: 100 },
    Row { kib: 100, sessions: 20 },
];
