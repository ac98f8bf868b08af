//! `cargo xtask bench scale`: ten times as many works start in about ten times the time, and take no more memory each.

use std::fs;

use anyhow::{Context, Result};
use clap::Args;

use super::{
    machine,
    process::{self, Interrupt},
    recover, report,
    targets::Verdict,
    waiting::{self, Node, Start, Waiting},
};
use crate::{place, step::step};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Works that wait, at the most; they are held against a tenth of them.
    #[arg(long, default_value_t = 10_000_000)]
    works: u64,
    /// Bytes of each message: small, so that more disks have room.
    #[arg(long, default_value_t = 128)]
    bytes: u64,
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
    let waiting = |works| Waiting { works, bytes: options.bytes, deferrals: 0 };
    waiting::expect_room(waiting(options.works).on_disk())?;
    let mut starts: Vec<(u64, Start)> = Vec::new();
    for works in [0, options.works / 10, options.works] {
        let data = waiting(works).fill()?;
        let (node, start) = Node::start(data.path(), works, &interrupt)?;
        starts.push((works, start));
        drop(node);
    }
    let [nothing, fewer, more] = starts[..] else { unreachable!("there were three") };
    let times = more.1.first_attempt.as_secs_f64() / fewer.1.first_attempt.as_secs_f64();
    let bytes = recover::slope(nothing, more) / recover::slope(nothing, fewer);
    let place = format!("{} works", options.works);
    let verdicts = [
        Verdict::at_most(&place, "x the start of a tenth", times, TIMES),
        Verdict::at_most(&place, "x the bytes a work of a tenth", bytes, GROWTH),
    ];
    let method = format!(
        "Messages of {} bytes with one work each, at 1,000 domains; filled through the queue's API in mail's own words, killed with \
         signal 9, page cache dropped. The next hop takes connections and says nothing.",
        options.bytes
    );
    report::print(&method, &[recover::table(&starts)], &verdicts)
}

const TIMES: f64 = 12.0;
const GROWTH: f64 = 1.1;
