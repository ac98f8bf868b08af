//! What the spool has found damaged.

use std::path::{Path, PathBuf};

use queue::{files::Disk, spool};

use super::{Finding, Running};
use crate::api::DamagedPlace;

const CHECK: &str = "spool";
/// So many findings are shown one by one.
const SHOWN: usize = 20;

pub(super) async fn check(data_dir: &Path, running: Option<&Running>) -> Vec<Finding> {
    match running {
        Some(running) => match running.client.damage().await {
            Ok(damage) => findings(&damage, running.status.spool.segments),
            Err(error) => vec![Finding::problem(CHECK, error.to_string())],
        },
        None => of_stopped(data_dir.join("spool")).await,
    }
}

/// Reads the spool of a node that does not run.
async fn of_stopped(dir: PathBuf) -> Vec<Finding> {
    if !dir.join("segments").is_dir() {
        return vec![Finding::skipped(CHECK, format!("there is none at {} yet", dir.display()))];
    }
    let inspected = tokio::task::spawn_blocking(move || spool::inspect(&Disk::real(), &dir)).await;
    match inspected.expect("the spool is read without panics") {
        Ok(found) => {
            let places = found.damage.into_iter().map(DamagedPlace::from);
            findings(&places.collect::<Vec<_>>(), found.segments as u64)
        }
        Err(error) => vec![Finding::problem(CHECK, error.to_string())],
    }
}

fn findings(damage: &[DamagedPlace], segments: u64) -> Vec<Finding> {
    if damage.is_empty() {
        return vec![Finding::ok(CHECK, format!("all of {segments} segments can be read"))];
    }
    let advice =
        "the rest works: look at the disk, and at what is set aside with `posthouse mail queue --all`";
    let mut findings: Vec<Finding> = damage
        .iter()
        .take(SHOWN)
        .map(|place| {
            Finding::problem(CHECK, format!("segment {} at {}: {}", place.segment, place.offset, place.what))
        })
        .collect();
    if damage.len() > SHOWN {
        findings.push(Finding::problem(CHECK, format!("{} more places are damaged", damage.len() - SHOWN)));
    }
    if let Some(last) = findings.pop() {
        findings.push(last.advice(advice));
    }
    findings
}
