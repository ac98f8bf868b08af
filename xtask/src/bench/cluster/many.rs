//! Many links that are idle: what they cost their manager.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    super::{load::Sink, process::Interrupt, server::Server, targets::Verdict},
    group::{Group, Shape},
};

/// Links so many workers, each a process with an identity of its own, and measures the manager while nothing happens.
///
/// # Errors
/// One does not start, or is not let in.
pub(super) fn idle(
    program: &Path,
    nodes: u32,
    up: &[String],
    interrupt: &Interrupt,
) -> Result<(String, Vec<Verdict>)> {
    let sink = Sink::start(interrupt)?;
    let shape = Shape { program, workers: 0, next_hop: sink.port(), file: "", level: "warn", up };
    let mut group = Group::of_manager(&shape, interrupt)?;
    let outcome = (1..=nodes).try_for_each(|number| {
        interrupt.pause(Duration::ZERO)?;
        group.add(&shape, usize::try_from(number)?, [0, 0])
    });
    let measured = outcome.and_then(|()| at_rest(&group, nodes, interrupt));
    // All end at the same time, not one after the other.
    for worker in &group.workers {
        worker.ask_to_end();
    }
    let (percent, memory) = measured?;
    let text = format!(
        "{NAME}: {nodes} links, each of a process of its own (`posthouse up --role worker`); {percent:.2} % of a core and {} MiB at the \
         manager over {} s in which nothing happens.",
        memory >> 20,
        WATCHED.as_secs(),
    );
    eprintln!("xtask {text}");
    Ok((text, vec![Verdict::at_most(NAME, "% of a core at the manager", percent, PERCENT)]))
}

/// The part of a core in percent, and the memory, that the manager takes.
fn at_rest(group: &Group, nodes: u32, interrupt: &Interrupt) -> Result<(f64, u64)> {
    interrupt.wait_for("all are linked", LOOK, PATIENCE, || {
        Ok((linked(group)? >= nodes as usize).then_some(()))
    })?;
    interrupt.pause(SETTLE)?;
    let used = || group.manager.meter().used(group.manager.process().pid());
    let before = used()?;
    interrupt.pause(WATCHED)?;
    let used = used()? - before;
    anyhow::ensure!(linked(group)? >= nodes as usize, "a link broke meanwhile");
    let memory = group.manager.meter().memory(group.manager.process().pid())?;
    Ok((100.0 * used.as_secs_f64() / WATCHED.as_secs_f64(), memory))
}

fn linked(group: &Group) -> Result<usize> {
    let report: Value = serde_json::from_str(&group.manager.ask(&["nodes", "list", "--json"])?)?;
    let nodes = report["nodes"].as_array().context("`posthouse nodes list` shows no nodes")?;
    Ok(nodes.iter().filter(|node| node["linked"] == true).count())
}

const NAME: &str = "e: idle links";

const PERCENT: f64 = 5.0;

/// How long the manager is watched, and how long it is left alone before.
const WATCHED: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(5);

const LOOK: Duration = Duration::from_secs(1);

const PATIENCE: Duration = Duration::from_secs(120);
