//! `posthouse up`

use std::path::{Path, PathBuf};

use base::HumanDuration;
use clap::Args;

use crate::{
    config::{
        Config, DEFAULT_FILE, DomainPattern, HostName, ListenAddress, LogFormat, LogLevel, ManagerAddress,
        Network, NextHop, Pin, Role, Route, bounds,
    },
    failure::Failure,
    logging, node, runtime,
};

/// Run a node on this machine, until SIGTERM or Ctrl-C
///
/// A node needs no file. Flags go over the file, and the file over the defaults; a flag that may be
/// repeated replaces the whole list of the file.
#[derive(Clone, Debug, Default, Args)]
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
    /// What this node is: it stands alone, keeps the queue for workers, or works for a manager [key: cluster.role]
    #[arg(long, value_name = "ROLE")]
    role: Option<Role>,
    /// As a manager, let nodes in on this address [key: cluster.listen]
    #[arg(long, value_name = "IP:PORT")]
    link: Option<ListenAddress>,
    /// As a worker, work for this manager [key: cluster.manager]
    #[arg(long, value_name = "HOST:PORT")]
    manager: Option<ManagerAddress>,
    /// What the manager is known by; it shows it with `posthouse identity show` [key: cluster.pin]
    #[arg(long, value_name = "sha256:…")]
    pin: Option<Pin>,
    /// How long to wait after each attempt; the last wait repeats [key: delivery.retry]
    #[arg(long, value_name = "WAIT,WAIT,…", value_delimiter = ',')]
    retry: Vec<HumanDuration>,
    /// How old a message may grow in the queue [key: delivery.expire]
    #[arg(long, value_name = "AGE", value_parser = bounds::expire_flag)]
    expire: Option<HumanDuration>,
    /// How long deliveries and transactions under way may take when the node stops [key: stop.grace]
    #[arg(long, value_name = "TIME", value_parser = bounds::grace_flag)]
    stop_grace: Option<HumanDuration>,
    /// Write lines of this importance and above to standard error [key: log.level]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    /// The form of those lines [key: log.format]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Write those lines as JSON, one object each [key: log.format]
    #[arg(long, conflicts_with = "log_format")]
    json: bool,
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
        self.suits(self.role.unwrap_or(config.cluster.role))?;
        if !self.retry.is_empty() {
            let plan = bounds::plan(self.retry);
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
        set(&mut config.log.format, self.log_format.or(self.json.then_some(LogFormat::Json)));
        set(&mut config.cluster.role, self.role);
        set(&mut config.cluster.listen, self.link);
        config.cluster.manager = self.manager.or(config.cluster.manager);
        config.cluster.pin = self.pin.or(config.cluster.pin);
        config.cluster.check(config.limits.message).map_err(Failure::configuration)?;
        Ok(config)
    }

    /// Whether each of these flags is of use to a node of this role.
    fn suits(&self, role: Role) -> Result<(), Failure> {
        let (is_manager, is_worker) = (role == Role::Manager, role == Role::Worker);
        let say = |role: &str| format!("say --role {role}, or leave it out");
        let there = || "say it to its manager, and leave it out here".to_owned();
        let flags = [
            ("--link", self.link.is_some(), is_manager, say("manager")),
            ("--manager", self.manager.is_some(), is_worker, say("worker")),
            ("--pin", self.pin.is_some(), is_worker, say("worker")),
            ("--smarthost", self.smarthost.is_some(), !is_worker, there()),
            ("--route", !self.route.is_empty(), !is_worker, there()),
            ("--retry", !self.retry.is_empty(), !is_worker, there()),
            ("--expire", self.expire.is_some(), !is_worker, there()),
        ];
        match flags.iter().find(|(_, is_given, suits, _)| *is_given && !suits) {
            Some((flag, _, _, instead)) => {
                Err(Failure::usage(format!("{flag} is of no use to {}: {instead}", role.words())))
            }
            None => Ok(()),
        }
    }

    pub(super) fn run(self) -> Result<(), Failure> {
        let flags = self.clone();
        let config = self.config()?;
        logging::start(config.log);
        let ended = runtime::run(node::run(config, Box::new(move || flags.clone().config())))?;
        ended.map_err(|error| {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::{config::FLAGS, failure::Exit};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        up: Up,
    }

    fn config(file: &str, flags: &[&str]) -> Result<Config, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("posthouse.toml");
        std::fs::write(&path, file).unwrap();
        let named = ["up", "--config", path.to_str().unwrap()];
        Line::try_parse_from(named.iter().chain(flags)).unwrap().up.config()
    }

    #[test]
    fn flags_go_over_the_file_and_the_file_over_the_defaults() {
        let file = "
            name = 'from-file'
            smtp.listen = ['127.0.0.1:1', '127.0.0.1:2']
            delivery.expire = '2d'
            delivery.connections = 7
            relay.from = ['10.0.0.0/8']";
        let flags =
            ["--name", "from-flag", "--smtp", "127.0.0.1:3", "--retry", "1m,5m", "--route", "a.example=b:25"];
        let config = config(file, &flags).unwrap();
        assert_eq!(config.name.as_str(), "from-flag");
        assert_eq!(config.smtp.listen, ["127.0.0.1:3".parse().unwrap()]);
        assert_eq!(config.delivery.expire.to_string(), "2days");
        assert_eq!(config.delivery.connections.number(), 7);
        assert_eq!(config.relay.from, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(config.delivery.route, ["a.example=b:25".parse().unwrap()]);
        assert_eq!(Vec::from(config.delivery.retry).len(), 2);
        assert_eq!(config.limits, Config::default().limits);
    }

    #[test]
    fn a_missing_file_and_a_hopeless_plan_are_refused() {
        let up = Up { config: Some("/nowhere/posthouse.toml".into()), ..Up::default() };
        let failure = up.config().unwrap_err();
        assert_eq!(failure.exit(), Exit::Configuration);
        assert!(failure.to_string().starts_with("error: cannot read /nowhere/posthouse.toml"), "{failure}");
        for (wait, bound) in
            [("1us", "the shortest is 100ms"), ("1m,500000000000years", "the longest is 1year")]
        {
            let failure = config("", &["--retry", wait]).unwrap_err();
            assert_eq!(failure.exit(), Exit::Usage);
            assert!(failure.to_string().contains(bound), "{failure}");
        }
    }

    #[test]
    fn a_flag_takes_what_its_key_takes_and_names_what_was_probably_meant() {
        for (flag, value, message) in [
            ("--expire", "0s", "0s is not possible: write a duration from 100ms to 1year"),
            ("--stop-grace", "2h", "2h is not possible: write a duration from 0s to 1h"),
            ("--log-level", "debgu", "a similar value exists: 'debug'"),
            ("--log-format", "jsno", "a similar value exists: 'json'"),
            ("--hostname", "mx_1", "no \"_\" may be in it; write a hyphen instead"),
        ] {
            let Err(error) = Line::try_parse_from(["up", flag, value]) else { panic!("{flag} {value}") };
            assert!(error.to_string().contains(message), "{error}");
        }
        let config = config("", &["--expire", "1s", "--stop-grace", "0s"]).unwrap();
        assert_eq!((config.delivery.expire.0.as_secs(), config.stop.grace.0.as_secs()), (1, 0));
    }

    #[test]
    fn a_flag_of_another_role_is_refused_with_a_line_that_says_what_to_do() {
        let pin = format!("sha256:{}", "0".repeat(64));
        let worker = ["--role", "worker", "--manager", "mx1.example.com:7025", "--pin", &pin];
        let both = |flags: &[&'static str]| worker.iter().chain(flags).copied().collect::<Vec<_>>().join(" ");
        for (flags, message) in [
            (
                "--link 127.0.0.1:7025".into(),
                "--link is of no use to a node that stands alone: say --role manager",
            ),
            (
                "--manager mx1:7025".into(),
                "--manager is of no use to a node that stands alone: say --role worker",
            ),
            (format!("--pin {pin}"), "--pin is of no use to a node that stands alone: say --role worker"),
            (
                "--role manager --manager mx1:7025".into(),
                "--manager is of no use to a manager: say --role worker",
            ),
            (both(&["--link", "127.0.0.1:7025"]), "--link is of no use to a worker: say --role manager"),
            (both(&["--smarthost", "mx:25"]), "--smarthost is of no use to a worker: say it to its manager"),
            (both(&["--retry", "1m"]), "--retry is of no use to a worker: say it to its manager"),
        ] {
            let flags: Vec<&str> = flags.split(' ').collect();
            let failure = config("", &flags).unwrap_err();
            assert_eq!(failure.exit(), Exit::Usage, "{flags:?}");
            assert!(failure.to_string().contains(message), "{flags:?}: {failure}");
        }
        assert!(config("", &worker).is_ok());
        assert!(
            config("", &["--role", "manager", "--link", "127.0.0.1:7025", "--smarthost", "mx:25"]).is_ok()
        );
        assert!(config("cluster.role = 'manager'", &["--link", "127.0.0.1:7025"]).is_ok());
        let failure = config("cluster.manager = 'mx1:7025'", &[]).unwrap_err();
        assert_eq!(failure.exit(), Exit::Configuration);
        assert!(failure.to_string().contains("set cluster.role to \"worker\", or leave it out"), "{failure}");
    }

    #[test]
    fn the_table_of_flags_is_what_the_help_says() {
        let command = Line::command();
        let said: BTreeSet<(String, String)> = command
            .get_arguments()
            .filter_map(|flag| {
                let help = flag.get_help()?.to_string();
                let (_, key) = help.rsplit_once("[key: ")?;
                Some((key.trim_end_matches(']').to_owned(), flag.get_long()?.to_owned()))
            })
            .filter(|(_, flag)| flag != "json")
            .collect();
        let table = FLAGS.iter().map(|(key, flag)| ((*key).to_owned(), (*flag).to_owned())).collect();
        assert_eq!(said, table);
    }
}
