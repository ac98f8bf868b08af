//! The configuration, and whether a node runs by it.

use super::{Finding, Patient, Running};
use crate::api::Readiness;

const CONFIGURATION: &str = "configuration";
const NODE: &str = "node";

pub(super) fn check(patient: &Patient, running: Option<&Running>) -> Vec<Finding> {
    let read = match &patient.file {
        Some(file) => format!("{} can be used", file.display()),
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
