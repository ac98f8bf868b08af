//! Whether a worker can reach its manager, and is let in.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use super::{Finding, Patient, Running};
use crate::config::Role;

const CHECK: &str = "manager";
/// How long the manager may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn check(patient: &Patient, running: Option<&Running>) -> Vec<Finding> {
    let cluster = &patient.config.cluster;
    let mut findings = Vec::new();
    if let Err(wrong) = cluster.check(patient.config.limits.message) {
        findings.push(Finding::problem(CHECK, wrong));
    }
    if cluster.role == Role::Worker
        && let Some(manager) = &cluster.manager
    {
        findings.push(reach(patient, &manager.0).await);
    }
    findings.extend(running.and_then(link));
    findings
}

/// Whether somebody listens where the manager should. The keys are not looked at: that is the node's business.
async fn reach(patient: &Patient, manager: &base::NextHop) -> Finding {
    let addresses = match mail::hop_addresses(&patient.mail_config(), manager).await {
        Ok(addresses) => addresses,
        Err(error) => return Finding::problem(CHECK, error).advice("correct cluster.manager or --manager"),
    };
    let mut failures = Vec::new();
    for address in addresses {
        match connect(address).await {
            Ok(()) => return Finding::ok(CHECK, format!("somebody listens on {address} (cluster.manager)")),
            Err(error) => failures.push(format!("{address}: {error}")),
        }
    }
    Finding::problem(CHECK, format!("the manager cannot be reached: {}", failures.join("; "))).advice(
        "is it running, with --link on an address that this machine can reach, and is its port open in between?",
    )
}

async fn connect(address: SocketAddr) -> io::Result<()> {
    let silent = || io::Error::other(format!("silent for {} seconds", PATIENCE.as_secs()));
    timeout(PATIENCE, TcpStream::connect(address)).await.map_err(|_| silent())?.map(drop)
}

/// What a worker that runs says of its link.
fn link(running: &Running) -> Option<Finding> {
    let worker = running.status.worker.as_ref()?;
    Some(match &worker.away {
        Some(why) => Finding::problem(CHECK, format!("the worker has no link to its manager: {why}")).advice(
            "the manager lets in what `posthouse nodes list` shows, and a worker trusts the pin that `posthouse identity show` shows there",
        ),
        None => Finding::ok(CHECK, format!("the worker is linked to {}", worker.manager)),
    })
}
