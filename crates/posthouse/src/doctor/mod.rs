//! The doctor: looks at what a node needs of its machine, and says what to do.
//!
//! A file per thing that is looked at. Nothing is changed, but for a file that is written and removed to time the disk, and
//! nothing goes out of this machine unless the operator names a domain or a host, save questions to the name servers, and a
//! connection of a worker to its manager.

mod clock;
mod configuration;
mod disk;
mod limits;
mod manager;
mod names;
mod outbound;
mod permissions;
mod ports;
mod spool;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    api::{ConfigurationReport, StatusReport},
    config::{Config, Role},
    control::Client,
    node::settings,
};

/// What the doctor looks at.
#[derive(Debug)]
pub struct Patient {
    /// The configuration of the file, by which the node would start without flags.
    pub config: Config,
    /// Where the configuration was read; nothing: from the defaults alone.
    pub file: Option<PathBuf>,
    /// The node's data directory.
    pub data_dir: PathBuf,
    /// A domain that mail shall go to.
    pub domain: Option<String>,
    /// A host and port to connect to.
    pub outbound: Option<base::NextHop>,
}

impl Patient {
    /// The configuration as the mail trade takes it.
    fn mail_config(&self) -> mail::Config {
        settings::mail(&self.config, usize::MAX)
    }
}

/// What was found at one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub verdict: Verdict,
    /// In a line.
    pub finding: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It could not be looked at, or was not asked for.
    Skipped,
    /// It may become a problem.
    Warning,
    /// The node cannot do its duty, or not safely.
    Problem,
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl Finding {
    fn new(check: &str, verdict: Verdict, finding: impl Into<String>) -> Self {
        Self { check: check.into(), verdict, finding: finding.into(), advice: None }
    }

    fn ok(check: &str, finding: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, finding)
    }

    fn skipped(check: &str, finding: impl Into<String>) -> Self {
        Self::new(check, Verdict::Skipped, finding)
    }

    fn warning(check: &str, finding: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warning, finding)
    }

    fn problem(check: &str, finding: impl Into<String>) -> Self {
        Self::new(check, Verdict::Problem, finding)
    }

    /// Adds what to do about it.
    fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// The node on the patient's data directory, if one runs.
#[derive(Debug)]
struct Running {
    client: Client,
    status: StatusReport,
    /// What it runs by; nothing where it is of another version and does not say.
    configuration: Option<ConfigurationReport>,
    /// Its process.
    process: Option<i32>,
}

/// Looks at everything. Of a node that runs it is asked what it runs by: flags, and the file as it was read, count there.
pub async fn examine(mut patient: Patient) -> Vec<Finding> {
    let client = Client::new(&patient.data_dir);
    let running = match client.status().await {
        Ok(status) => Some(Running {
            process: client.process().await,
            configuration: client.configuration().await.ok(),
            status,
            client,
        }),
        Err(_) => None,
    };
    let running = running.as_ref();
    if let Some(report) = running.and_then(|running| running.configuration.as_ref()) {
        patient.config = report.counts.clone();
    }
    let patient = &patient;
    let mut findings = configuration::check(patient, running);
    findings.extend(permissions::check(&patient.data_dir));
    findings.extend(disk::check(&patient.data_dir, &patient.config.spool));
    // The queue is the manager's.
    if patient.config.cluster.role != Role::Worker {
        findings.extend(spool::check(&patient.data_dir, running).await);
    }
    findings.extend(ports::check(&patient.config, running));
    findings.extend(limits::check(&patient.config, running));
    findings.extend(manager::check(patient, running).await);
    findings.push(clock::check());
    findings.extend(names::check(patient).await);
    findings.push(outbound::check(patient).await);
    findings
}
