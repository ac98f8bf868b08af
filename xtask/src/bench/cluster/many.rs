//! Many links that are idle: what they cost their manager.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    super::{
        load::Sink,
        process::{Interrupt, Process},
        server::Server,
        targets::Verdict,
    },
    group::{Group, Shape},
};
use crate::{
    place,
    step::{command, output, run},
};

/// Links so many workers, each with an identity of its own, from one process, and measures the manager while nothing happens.
///
/// # Errors
/// One is not let in.
pub(super) fn idle(
    program: &Path,
    nodes: u32,
    up: &[String],
    interrupt: &Interrupt,
) -> Result<(String, Vec<Verdict>)> {
    let links = build()?;
    let sink = Sink::start(interrupt)?;
    let shape = Shape { program, workers: 0, next_hop: sink.port(), file: "", level: "warn", up };
    let group = Group::of_manager(&shape, interrupt)?;
    let folder = tempfile::Builder::new().prefix("links-").tempdir_in(place::bench())?;
    let with = |arguments: &[&str]| {
        let mut links = Command::new(&links);
        links.arg(folder.path()).arg(nodes.to_string()).args(arguments);
        links
    };
    let keys = output(&mut with(&[]))?;
    for (number, key) in (1..).zip(keys.lines()) {
        interrupt.pause(Duration::ZERO)?;
        group.manager.ask(&["nodes", "add-key", key, "--name", &format!("worker-{number}")])?;
    }
    let pin = group.manager.ask(&["identity", "show", "--pin"])?;
    let mut linking = Process::start(NAME, with(&[&format!("127.0.0.1:{}", group.link), &pin]))?;
    let (percent, memory) = at_rest(&group, nodes, &mut linking, interrupt)?;
    let text = format!(
        "{NAME}: {nodes} links of one process; {percent:.2} % of a core and {} MiB at the manager over {} s in which nothing happens.",
        memory >> 20,
        WATCHED.as_secs(),
    );
    eprintln!("xtask {text}");
    Ok((text, vec![Verdict::at_most(NAME, "% of a core at the manager", percent, PERCENT)]))
}

/// The process that links.
fn build() -> Result<PathBuf> {
    run(&mut command("cargo", &["build", "--release", "--package", "cluster", "--example", "links"]))?;
    Ok(place::root().join("target/release/examples/links"))
}

/// The part of a core in percent, and the memory, that the manager takes.
fn at_rest(group: &Group, nodes: u32, linking: &mut Process, interrupt: &Interrupt) -> Result<(f64, u64)> {
    interrupt.wait_for("all are linked", LOOK, PATIENCE, || {
        linking.expect_running()?;
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
