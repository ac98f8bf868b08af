//! `posthouse drill`

use std::time::Duration;

use clap::Args;

use crate::{
    config::{Config, Log, LogLevel},
    drill::{self, Clients, Fault, Options, Outcome},
    failure::Failure,
    logging,
    output::{self, Form},
    runtime,
};

/// Prove on this machine that nothing is lost: a cluster under load whose nodes are killed, frozen and stopped
///
/// A manager and its workers run on the loopback address, in a throw-away folder. Clients send through all doors, and where one
/// is shut they go to the next. Faults happen at times that follow from the seed. In the end all that was answered with 250
/// must have come to a sink within this command, which counts each recipient of each message. Ends with 1 if something was
/// lost or still waits, or came twice though no fault explains it; then all that the nodes wrote is left, and it says where.
#[derive(Debug, Args)]
pub(super) struct Drill {
    /// How many workers there are beside the manager
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=32))]
    workers: u16,
    /// How long clients send and things happen
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(3..=86_400))]
    seconds: u64,
    /// What decides which faults happen, and when; by default any number, which is shown
    #[arg(long, value_name = "X")]
    seed: Option<u64>,
    /// Messages a second that clients send in all
    #[arg(long, value_name = "R", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Send as fast as the cluster answers, with so many sessions at a time
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    sessions: Option<u32>,
    /// Which faults may happen
    #[arg(long, value_name = "FAULT,…", value_delimiter = ',', default_values = ["kill", "freeze", "manager", "stop"])]
    faults: Vec<Fault>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Seeds that are easy to type.
const SEEDS: u64 = 1_000_000;

impl Drill {
    pub(super) fn run(self) -> Result<(), Failure> {
        logging::start(Log { level: LogLevel::Warn, ..Config::default().log });
        let options = Options {
            workers: self.workers.into(),
            lasts: Duration::from_secs(self.seconds),
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..SEEDS)),
            pace: self.sessions.map_or(Clients::Rate(self.rate), Clients::Sessions),
            faults: self.faults,
        };
        let form = if self.json { Form::Json } else { Form::Text };
        runtime::run(async move {
            let Outcome { report, left } = drill::run(options).await?;
            output::print(&match form {
                Form::Json => output::json(&report),
                Form::Text => report.text(),
            })?;
            match left {
                None => Ok(()),
                Some(folder) => Err(Failure::world(format!(
                    "{} lost, {} bounced, {} still queued, {} came twice without a reason",
                    report.lost,
                    report.bounced,
                    report.queued,
                    report.duplicated.unexplained.len()
                ))
                .hint(format!(
                    "what the nodes wrote is in {}; the same faults come again with these options and --seed {}",
                    folder.display(),
                    report.seed
                ))),
            }
        })?
    }
}
