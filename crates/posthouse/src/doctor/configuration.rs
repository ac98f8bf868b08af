//! The configuration, and whether a node runs by it.

use super::{Finding, Patient, Running};
use crate::api::{ConfigurationReport, Readiness};

const CONFIGURATION: &str = "configuration";
const NODE: &str = "node";

pub(super) fn check(patient: &Patient, running: Option<&Running>) -> Vec<Finding> {
    let read = match &patient.file {
        Some(file) => format!("{} can be used", file.display()),
        None if running.is_some() => "there is no file; what the node was started with counts".into(),
        None => "there is no file; the defaults count".into(),
    };
    let mut findings = vec![Finding::ok(CONFIGURATION, read)];
    if patient.config.smtp.listen.is_empty() {
        findings.push(Finding::warning(CONFIGURATION, "smtp.listen is empty: no mail comes in by SMTP"));
    }
    if patient.config.relay.from.iter().any(|network| network.to_string().ends_with("/0")) {
        findings.push(
            Finding::problem(CONFIGURATION, "relay.from lets everybody send to anywhere: an open relay")
                .advice("name only networks that you trust in relay.from"),
        );
    }
    findings.extend(running.and_then(|running| running.configuration.as_ref()).and_then(unlike_the_file));
    findings.push(match running {
        None => Finding::skipped(NODE, format!("no node runs on {}", patient.data_dir.display())),
        Some(running) => match &running.status.readiness {
            Readiness::Ready => Finding::ok(NODE, format!("{} is running and ready", running.status.name)),
            Readiness::NotReady(why) => {
                Finding::problem(NODE, format!("{} is running and not ready: {why}", running.status.name))
            }
        },
    });
    findings
}

/// That a running node would take another configuration with a reload.
fn unlike_the_file(report: &ConfigurationReport) -> Option<Finding> {
    let ConfigurationReport { changed, unreadable, .. } = report;
    if let Some(why) = unreadable {
        return Some(
            Finding::warning(CONFIGURATION, format!("the node could not be started again so: {why}"))
                .advice("correct it before the next restart or reload"),
        );
    }
    (!changed.is_empty()).then(|| {
        Finding::warning(CONFIGURATION, format!("the node runs by other values of {}", changed.join(", ")))
            .advice("`posthouse reload` lets the file count, or says what needs a restart")
    })
}
