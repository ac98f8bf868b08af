//! What the spool has found damaged.

use std::path::Path;

use super::{Finding, Running};

const CHECK: &str = "spool";
/// So many findings are shown one by one.
const SHOWN: usize = 20;

pub(super) async fn check(data_dir: &Path, running: Option<&Running>) -> Vec<Finding> {
    let Some(running) = running else {
        let spool = data_dir.join("spool");
        return vec![if spool.exists() {
            Finding::skipped(CHECK, "it is read when a node starts; ask again while one runs")
        } else {
            Finding::skipped(CHECK, format!("there is none in {} yet", data_dir.display()))
        }];
    };
    let damage = match running.client.damage().await {
        Ok(damage) => damage,
        Err(error) => return vec![Finding::problem(CHECK, error.to_string())],
    };
    if damage.is_empty() {
        return vec![Finding::ok(
            CHECK,
            format!("all of {} segments can be read", running.status.spool.segments),
        )];
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
