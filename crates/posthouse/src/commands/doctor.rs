//! `posthouse doctor`

use std::path::{Path, PathBuf};

use base::NextHop;
use clap::Args;

use crate::{
    config::{Config, DEFAULT_FILE},
    doctor::{Finding, Patient, Verdict, examine},
    failure::Failure,
    output::{self, Align, Table},
};

/// Look at what a node needs of this machine, running or not, and say what to do
///
/// Ports, names, clock, disk, limits, permissions, the spool and the configuration. Nothing is changed. Ends with 1 if there
/// is a problem. Run it as the user of the node, or as root.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The data directory of the node; without it, the one that the configuration or `up` takes
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The configuration; by default /etc/posthouse/posthouse.toml, if it is there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Look up where mail for this domain goes, and connect to its mail hosts
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// Connect to this host, such as mx.example.com:25
    #[arg(long, value_name = "HOST:PORT")]
    outbound: Option<NextHop>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self) -> Result<(), Failure> {
        let default = Path::new(DEFAULT_FILE);
        let file = self.config.or_else(|| default.exists().then(|| default.to_owned()));
        let mut config = match &file {
            Some(file) => Config::read(file)?,
            None => Config::default(),
        };
        config.data_dir = self.data_dir.or(config.data_dir);
        let data_dir = config.data_dir()?;
        let patient = Patient { config, file, data_dir, domain: self.domain, outbound: self.outbound };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let findings = runtime.block_on(examine(patient));
        output::print(&if self.json { output::json(&findings) } else { super::plain(&text(&findings)) })?;
        let problems = findings.iter().filter(|finding| finding.verdict == Verdict::Problem).count() as u64;
        match problems {
            0 => Ok(()),
            _ => Err(Failure::world(output::count(problems, "problem"))),
        }
    }
}

fn text(findings: &[Finding]) -> String {
    let mut table = Table::new([Align::Left, Align::Left, Align::Left]);
    for finding in findings {
        table.row([finding.verdict.word().into(), finding.check.clone(), finding.finding.clone()]);
        if let Some(advice) = &finding.advice {
            table.row([String::new(), String::new(), format!("  → {advice}")]);
        }
    }
    table.text()
}
