//! `posthouse demo`

use base::HumanDuration;
use clap::Args;

use crate::{
    config::{Config, ListenAddress, Log, LogLevel},
    demo::{self, Form, Options},
    failure::Failure,
    logging,
};

/// Show a node at work: throwaway data, a built-in sink, sample traffic, a live summary
///
/// The node listens on the loopback address only, and nothing leaves this machine. Ctrl-C ends it
/// and shows the sums.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Take mail in here; another port is taken if this one is not free
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:2525")]
    smtp: ListenAddress,
    /// Sample messages a second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// End after this time by itself
    #[arg(long, value_name = "TIME")]
    lasts: Option<HumanDuration>,
    /// Show the node's status once a second as a line of JSON
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Failure> {
        logging::start(Log { level: LogLevel::Warn, ..Config::default().log });
        let options = Options {
            smtp: self.smtp,
            rate: self.rate,
            lasts: self.lasts.map(|time| time.0),
            form: if self.json { Form::Json } else { Form::Text },
        };
        super::up::on_runtime(demo::run(options))
    }
}
