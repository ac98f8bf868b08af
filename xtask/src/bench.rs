//! `cargo xtask bench`: Posthouse measured against targets, and against others in the same run, so that ratios count and the machine does not.

mod cluster;
mod fairness;
mod former;
mod idle;
mod load;
mod machine;
mod measure;
mod meter;
mod names;
mod own_net;
mod paced;
mod postfix;
mod posthouse;
mod process;
mod recover;
mod relay;
mod report;
mod scale;
mod server;
mod taker;
mod targets;
mod waiting;

use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Relay: smtp-source → server → smtp-sink over loopback, `250` after sync, against targets.
    Relay(relay::Options),
    /// Recovery: from kill -9 with a million works to the first attempt, and what a work takes of memory.
    Recover(recover::Options),
    /// Scale: ten million works against one million.
    Scale(scale::Options),
    /// Fairness: what healthy domains get while others are dead, silent or throttled.
    Fairness(fairness::Options),
    /// Cluster: what a manager and its workers cost and do beside a node alone, and when one of them dies.
    Cluster(cluster::Options),
}

/// Measures, and prints tables in Markdown.
///
/// # Errors
/// Something could not be run, or a target was missed.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Relay(options) => relay::run(options),
        Bench::Recover(options) => recover::run(options),
        Bench::Scale(options) => scale::run(options),
        Bench::Fairness(options) => fairness::run(options),
        Bench::Cluster(options) => cluster::run(options),
    }
}

/// How often a file or a counter is looked at while a fact is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(2);
