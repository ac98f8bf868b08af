//! `cargo xtask bench recover`: a node with a million works that was killed is there again, and what each work takes of memory.

use std::fs;

use anyhow::{Context, Result};
use clap::Args;

use super::{
    machine,
    process::{self, Interrupt},
    report,
    targets::Verdict,
    waiting::{self, Node, Start, Waiting},
};
use crate::{place, step::step};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Works that wait, at the most; a tenth of them is the other end of the slope.
    #[arg(long, default_value_t = 1_000_000)]
    works: u64,
}

/// Measures, and prints the tables as Markdown.
///
/// # Errors
/// Something could not be run, or a target was missed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let interrupt = Interrupt::catch()?;
    process::raise_open_files()?;
    fs::create_dir_all(place::bench()).context("cannot make target/bench")?;
    step("build", waiting::build)?;
    machine::warn_if_busy();
    let waiting = |works| Waiting { works, bytes: 1024, deferrals: 3 };
    waiting::expect_room(waiting(options.works).on_disk())?;
    let (mut starts, mut purge) = (Vec::new(), None);
    for works in [options.works / 10, options.works] {
        let data = waiting(works).fill()?;
        let (node, start) = Node::start(data.path(), works, &interrupt)?;
        starts.push((works, start));
        if works == options.works {
            purge = Some(node.purge(data.path())?);
        }
    }
    let purge = purge.context("nothing was purged")?;
    let slope = slope(starts[0], starts[1]);
    let seconds = starts[1].1.first_attempt.as_secs_f64();
    let verdicts = [
        Verdict::at_most(&format!("{} works", options.works), "s to the first attempt", seconds, SECONDS),
        Verdict::at_most("memory from a tenth to all", "bytes a work", slope, BYTES),
        Verdict::at_most("a purge of all", "MiB more", mib(purge.grew), PURGE_MIB),
        Verdict::at_most(
            "meanwhile",
            "ms for a message until its 250",
            purge.longest_wait.as_secs_f64() * 1e3,
            PURGE_MS,
        ),
    ];
    let took = format!("`posthouse mail cancel --all --yes` then took {:.1} s.", purge.took.as_secs_f64());
    report::print(METHOD, &[table(&starts), took], &verdicts)
}

/// Bytes of memory that each work more takes.
#[expect(clippy::cast_precision_loss, reason = "memory and counts are far below 2^52")]
pub(crate) fn slope((fewer, small): (u64, Start), (more, large): (u64, Start)) -> f64 {
    (large.memory as f64 - small.memory as f64) / (more - fewer) as f64
}

/// What starts took, as a table.
pub(crate) fn table(starts: &[(u64, Start)]) -> String {
    let head =
        "| works | to the first attempt, s | memory, MiB | at most until then, MiB |\n|--:|--:|--:|--:|";
    let lines = starts.iter().map(|(works, start)| {
        let Start { first_attempt, memory, peak } = start;
        format!("\n| {works} | {:.2} | {} | {} |", first_attempt.as_secs_f64(), memory >> 20, peak >> 20)
    });
    head.to_owned() + &lines.collect::<String>()
}

const METHOD: &str = "Messages of 1 KiB with one work each, deferred three times, at 1,000 domains; filled through the queue's API in mail's \
own words, killed with signal 9, page cache dropped. The next hop takes connections and says nothing. Memory: resident, once the start is done.";

/// As a bench shows it.
#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A purge may take so much memory, and hold a message up for so long.
const PURGE_MIB: f64 = 16.0;
const PURGE_MS: f64 = 500.0;
const SECONDS: f64 = 5.0;
const BYTES: f64 = 300.0;
