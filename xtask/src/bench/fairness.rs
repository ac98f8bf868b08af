//! `cargo xtask bench fairness`: what healthy domains get while 50,000 messages wait for others, and whether one message of a small sender waits
//! behind those of a bulk sender.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;

use super::{
    machine, names, own_net,
    paced::Paced,
    posthouse,
    process::{self, Interrupt, Process},
    report,
    taker::{self, Taker},
    targets::Verdict,
};
use crate::{
    place,
    step::{command, step},
};

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// Messages that wait for others.
    #[arg(long, default_value_t = 50_000)]
    waiting: usize,
    /// Messages to healthy domains.
    #[arg(long, default_value_t = 20_000)]
    healthy: usize,
    /// More options for `posthouse up`.
    #[arg(last = true)]
    up: Vec<String>,
}

/// Measures, and prints the tables as Markdown.
///
/// # Errors
/// Something could not be run, or a target was missed.
pub(crate) fn run(options: &Options) -> Result<()> {
    own_net::enter()?;
    let interrupt = Interrupt::catch()?;
    process::raise_open_files()?;
    fs::create_dir_all(place::bench()).context("cannot make target/bench")?;
    step("build", posthouse::build)?;
    machine::warn_if_busy();
    let bench = Bench { options, interrupt: &interrupt };
    let most = bench.healthy_rate(None, None)?;
    let alone = bench.healthy_rate(Some(most / 2.0), None)?;
    let mut lines = vec![
        "| while | offered/s | delivered/s |\n|---|--:|--:|".to_owned(),
        format!("| nothing else, as fast as it goes | – | {most:.0} |"),
        format!("| nothing else | {:.0} | {alone:.0} |", most / 2.0),
    ];
    let mut verdicts = Vec::new();
    for burden in BURDENS {
        let rate = bench.healthy_rate(Some(most / 2.0), Some(burden))?;
        lines.push(format!(
            "| {} wait for {} | {:.0} | {rate:.0} |",
            options.waiting,
            burden.name,
            most / 2.0
        ));
        verdicts.push(Verdict::at_least(burden.name, "of the rate alone", rate / alone, PART));
    }
    verdicts.push(bench.small_sender()?);
    let method = format!(
        "{} messages to {HEALTHY_DOMAINS} healthy domains, offered at half of what the node delivers at most, while {} wait; over MX, in a network \
         of the bench's own. Delivered: from when the first was offered to when the last was taken.",
        options.healthy, options.waiting
    );
    report::print(&method, &[lines.join("\n")], &verdicts)
}

/// What else waits.
#[derive(Clone, Copy)]
struct Burden {
    name: &'static str,
    recipient: fn(usize) -> String,
}

const BURDENS: [Burden; 3] = [
    Burden {
        name: "a domain whose packets are dropped",
        recipient: |number| format!("u{number}@dropped.example"),
    },
    Burden {
        name: "a domain that accepts and is silent",
        recipient: |number| format!("u{number}@silent.example"),
    },
    Burden { name: "as many distinct dead domains", recipient: |number| format!("u@d{number}.dead.example") },
];

fn healthy(number: usize) -> String {
    format!("u{number}@h{}.healthy.example", number % HEALTHY_DOMAINS)
}

/// Where the mail host of a domain is.
fn address(domain: &str) -> Ipv4Addr {
    let first = domain.split('.').next().unwrap_or_default();
    match domain {
        // Nobody answers in this network.
        "dropped.example" => Ipv4Addr::new(10, 255, 0, 1),
        "silent.example" => SILENT,
        _ if domain.ends_with(".dead.example") => {
            let number: u32 = first.trim_start_matches('d').parse().unwrap_or(0);
            Ipv4Addr::from(Ipv4Addr::new(10, 1, 0, 0).to_bits() + number)
        }
        _ => Ipv4Addr::LOCALHOST,
    }
}

struct Bench<'b> {
    options: &'b Options,
    interrupt: &'b Interrupt,
}

/// A node with its next hops.
struct Setting {
    _process: Process,
    smtp: SocketAddr,
    taker: Taker,
    _data: tempfile::TempDir,
}

impl Bench<'_> {
    fn set(&self) -> Result<Setting> {
        let taker = Taker::start()?;
        taker::keep_silent((SILENT, taker.port()))?;
        let names = names::serve(address)?;
        let data = tempfile::Builder::new().prefix("fairness-").tempdir_in(place::bench())?;
        let (smtp, console) = (super::load::free_port()?, super::load::free_port()?);
        let file = data.path().join("posthouse.toml");
        fs::write(
            &file,
            CONFIGURATION.replace("@PORT@", &taker.port().to_string()).replace("@NAMES@", &names.to_string()),
        )?;
        let mut up = command(&posthouse::program().display().to_string(), &["up", "--log-level", "error"]);
        up.arg("--config").arg(&file).arg("--data-dir").arg(data.path().join("data"));
        up.args(["--smtp", &format!("127.0.0.1:{smtp}"), "--console", &format!("127.0.0.1:{console}")]);
        up.args(&self.options.up);
        let mut process = Process::start("posthouse", up)?;
        self.interrupt.wait_for("posthouse is ready", super::LOOK_EVERY, PATIENCE, || {
            process.expect_running()?;
            Ok(posthouse::is_ready(console).then_some(()))
        })?;
        let smtp = SocketAddr::from((Ipv4Addr::LOCALHOST, smtp));
        Ok(Setting { _process: process, smtp, taker, _data: data })
    }

    /// How many messages a second healthy domains get.
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
    fn healthy_rate(&self, offered: Option<f64>, burden: Option<Burden>) -> Result<f64> {
        let setting = self.set()?;
        if let Some(burden) = burden {
            let bulk = Paced {
                client: BULK,
                messages: self.options.waiting,
                rate: None,
                recipient: burden.recipient,
            };
            bulk.send(setting.smtp, self.interrupt)?;
        }
        let messages = self.options.healthy;
        let load = Paced { client: Ipv4Addr::LOCALHOST, messages, rate: offered, recipient: healthy };
        let start = load.send(setting.smtp, self.interrupt)?;
        let last =
            self.interrupt.wait_for("all to healthy domains", Duration::from_millis(20), PATIENCE, || {
                let (count, last) = setting.taker.count(|recipient| recipient.ends_with(".healthy.example"));
                Ok(last.filter(|_| count >= messages))
            })?;
        let rate = messages as f64 / last.duration_since(start).as_secs_f64();
        eprintln!("xtask {:<36} {rate:.0}/s", burden.map_or("healthy domains alone", |burden| burden.name));
        Ok(rate)
    }

    /// How many messages of a bulk sender go between that of another one's coming and its going.
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench are far below 2^52")]
    fn small_sender(&self) -> Result<Verdict> {
        let setting = self.set()?;
        let to = |name: &'static str| move |recipient: &str| recipient.starts_with(name);
        let bulk = Paced {
            client: BULK,
            messages: 500,
            rate: None,
            recipient: |number| format!("bulk{number}@throttled.example"),
        };
        bulk.send(setting.smtp, self.interrupt)?;
        let wait = |what: &str, name: &'static str, count: usize| {
            self.interrupt.wait_for(what, super::LOOK_EVERY, PATIENCE, || {
                let (found, last) = setting.taker.count(to(name));
                Ok(last.filter(|_| found >= count))
            })
        };
        wait("some of the bulk sender", "bulk", 15)?;
        let small =
            Paced { client: SMALL, messages: 1, rate: None, recipient: |_| "small@throttled.example".into() };
        small.send(setting.smtp, self.interrupt)?;
        let accepted = Instant::now();
        let gone = wait("the one of the small sender", "small", 1)?;
        let between = setting.taker.all().into_iter().filter(|one| one.recipient.starts_with("bulk"));
        // One that was on its way then has arrived by now: slots are 200 ms apart.
        let from = accepted + Duration::from_millis(20);
        let before = between.filter(|one| one.at > from && one.at < gone).count();
        eprintln!("xtask a small sender's message went {:?} after it came", gone.duration_since(accepted));
        Ok(Verdict::at_most(
            "a small sender at a domain throttled to 5/s",
            "bulk messages go first",
            before as f64,
            0.0,
        ))
    }
}

/// The configuration of the node.
const CONFIGURATION: &str = "\
[dns]
servers = [\"@NAMES@\"]

[delivery]
port = @PORT@

[[delivery.destination]]
domain = \"throttled.example\"
messages-per-minute = 300
";

const HEALTHY_DOMAINS: usize = 100;
const PART: f64 = 0.9;

/// Clients of networks of their own.
const BULK: Ipv4Addr = Ipv4Addr::new(127, 50, 0, 1);
const SMALL: Ipv4Addr = Ipv4Addr::new(127, 60, 0, 1);

/// A host that takes connections and says nothing.
const SILENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

const PATIENCE: Duration = Duration::from_secs(240);
