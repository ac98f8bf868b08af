//! `posthouse up`

use std::{
    path::{Path, PathBuf},
    thread,
};

use base::{HumanDuration, RetryPlan};
use clap::Args;

use crate::{
    config::{
        Config, DEFAULT_FILE, DomainPattern, HostName, ListenAddress, LogFormat, LogLevel, Network, NextHop,
        Route,
    },
    failure::Failure,
    logging, node,
};

/// Threads that a node has at least, so that a busy one does not hold up the rest.
const MIN_THREADS: usize = 2;

/// Run a node on this machine, until SIGTERM or Ctrl-C
///
/// A node needs no file. Flags go over the file, and the file over the defaults; a flag that may be
/// repeated replaces the whole list of the file.
#[derive(Debug, Default, Args)]
pub struct Up {
    /// Read the configuration from this file; by default /etc/posthouse/posthouse.toml, if it is there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep spool, log and socket in this directory [key: data-dir]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The node's name in records and lists; by default the host's [key: name]
    #[arg(long)]
    name: Option<HostName>,
    /// Receive mail by SMTP here; may be repeated [key: smtp.listen]
    #[arg(long, value_name = "IP:PORT")]
    smtp: Vec<ListenAddress>,
    /// The name in the greeting and in EHLO; by default the host's [key: smtp.hostname]
    #[arg(long, value_name = "NAME")]
    hostname: Option<HostName>,
    /// Answer health checks and metrics here [key: console.listen]
    #[arg(long, value_name = "IP:PORT")]
    console: Option<ListenAddress>,
    /// Let clients of this network send to anywhere; may be repeated [key: relay.from]
    #[arg(long, value_name = "NETWORK")]
    relay_from: Vec<Network>,
    /// Let any client send to this domain, or with `*.` to all below it; may be repeated [key: relay.to]
    #[arg(long, value_name = "DOMAIN")]
    relay_to: Vec<DomainPattern>,
    /// Hand on here all mail that has no route [key: delivery.smarthost]
    #[arg(long, value_name = "HOST:PORT")]
    smarthost: Option<NextHop>,
    /// Hand on the mail of a domain to a next hop; may be repeated [key: delivery.route]
    #[arg(long, value_name = "DOMAIN=HOST:PORT")]
    route: Vec<Route>,
    /// How long to wait after each attempt; the last wait repeats [key: delivery.retry]
    #[arg(long, value_name = "WAIT,WAIT,…", value_delimiter = ',')]
    retry: Vec<HumanDuration>,
    /// How old a message may grow in the queue [key: delivery.expire]
    #[arg(long, value_name = "AGE")]
    expire: Option<HumanDuration>,
    /// How long deliveries under way may take when the node stops [key: stop.grace]
    #[arg(long, value_name = "TIME")]
    stop_grace: Option<HumanDuration>,
    /// Write lines of this importance and above to standard error [key: log.level]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    /// The form of those lines [key: log.format]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl Up {
    /// The configuration: these flags over the file over the defaults.
    ///
    /// # Errors
    /// The file or a flag cannot be used.
    pub fn config(self) -> Result<Config, Failure> {
        let mut config = match &self.config {
            Some(file) => Config::read(file)?,
            None if Path::new(DEFAULT_FILE).exists() => Config::read(Path::new(DEFAULT_FILE))?,
            None => Config::default(),
        };
        if !self.retry.is_empty() {
            let plan = RetryPlan::try_from(self.retry);
            config.delivery.retry = plan.map_err(|e| Failure::usage(format!("--retry: {e}")))?;
        }
        config.data_dir = self.data_dir.or(config.data_dir);
        set(&mut config.name, self.name);
        set_all(&mut config.smtp.listen, self.smtp);
        set(&mut config.smtp.hostname, self.hostname);
        set(&mut config.console.listen, self.console);
        set_all(&mut config.relay.from, self.relay_from);
        set_all(&mut config.relay.to, self.relay_to);
        config.delivery.smarthost = self.smarthost.or(config.delivery.smarthost);
        set_all(&mut config.delivery.route, self.route);
        set(&mut config.delivery.expire, self.expire);
        set(&mut config.stop.grace, self.stop_grace);
        set(&mut config.log.level, self.log_level);
        set(&mut config.log.format, self.log_format);
        Ok(config)
    }

    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.config()?;
        logging::start(config.log);
        let threads = thread::available_parallelism().map_or(MIN_THREADS, usize::from).max(MIN_THREADS);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        runtime.block_on(node::run(config)).map_err(|error| {
            let failure = Failure::world(&error);
            match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })
    }
}

fn set<T>(value: &mut T, flag: Option<T>) {
    if let Some(flag) = flag {
        *value = flag;
    }
}

fn set_all<T>(values: &mut Vec<T>, flags: Vec<T>) {
    if !flags.is_empty() {
        *values = flags;
    }
}
