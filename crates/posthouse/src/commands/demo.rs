//! `posthouse demo`

use base::HumanDuration;
use clap::Args;

use crate::{
    config::{Config, ListenAddress, Log, LogLevel},
    demo::{self, Ending, Form, Options},
    failure::Failure,
    logging, output, runtime,
};

/// Show a cluster at work: throw-away data, a built-in sink, sample traffic, and workers that you kill
///
/// A manager and its workers listen on the loopback address only, and nothing leaves this machine. At a terminal, any key kills
/// a worker with kill -9: what it had is taken over, and it is started again; `q`, or Ctrl-C, ends the demo and shows
/// the sums. Elsewhere a worker is killed halfway. Ends with 1 if anything was lost.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// The manager takes mail in here; another port is taken if this one is not free
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:2525")]
    smtp: ListenAddress,
    /// How many workers there are beside the manager
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=8))]
    workers: u16,
    /// Sample messages a second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// End after this time by itself
    #[arg(long, value_name = "TIME")]
    lasts: Option<HumanDuration>,
    /// Show how it stands once a second as a line of JSON
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Failure> {
        logging::start(Log { level: LogLevel::Warn, ..Config::default().log });
        let options = Options {
            smtp: self.smtp,
            workers: self.workers.into(),
            rate: self.rate,
            lasts: self.lasts.map(|time| time.0),
            form: if self.json { Form::Json } else { Form::Text },
        };
        runtime::run(async move {
            match demo::run(options).await? {
                Ending::Good => Ok(()),
                Ending::Lost(lost) => {
                    Err(Failure::world(format!("{} lost", output::count(lost, "recipient")))
                        .hint("this must not happen; please report it with what `posthouse drill` says"))
                }
            }
        })?
    }
}
