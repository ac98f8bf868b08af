//! A manager and its workers over this machine's loopback.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    super::{load, process::Interrupt, server::Server},
    node::{self, Node, Plan},
};

/// What a group is made of.
pub(super) struct Shape<'s> {
    /// The program.
    pub(super) program: &'s Path,
    /// How many workers.
    pub(super) workers: usize,
    /// Where the manager has all mail handed on.
    pub(super) next_hop: u16,
    /// What stands in the file of each node; what concerns the group counts at the manager.
    pub(super) file: &'s str,
    /// From which importance on nodes say what they do.
    pub(super) level: &'s str,
    /// More options for all nodes.
    pub(super) up: &'s [String],
}

/// A manager and its workers, linked.
pub(super) struct Group {
    /// Workers end first: they say goodbye to their manager.
    pub(super) workers: Vec<Node>,
    /// The node that keeps the queue.
    pub(super) manager: Node,
    /// The manager's port for nodes.
    pub(super) link: u16,
}

impl Group {
    /// Starts them and waits until all are ready.
    ///
    /// # Errors
    /// One does not start.
    pub(super) fn start(shape: &Shape<'_>, interrupt: &Interrupt) -> Result<Self> {
        let mut group = Self::of_manager(shape, interrupt)?;
        for number in 1..=shape.workers {
            group.add(shape, number, [load::free_port()?, load::free_port()?])?;
        }
        for worker in &mut group.workers {
            worker.wait_until_ready(interrupt)?;
        }
        Ok(group)
    }

    /// Starts the manager alone.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn of_manager(shape: &Shape<'_>, interrupt: &Interrupt) -> Result<Self> {
        let link = load::free_port()?;
        let mut flags = flags(shape);
        flags.extend(["--role", "manager", "--link"].map(str::to_owned));
        flags.extend([
            format!("127.0.0.1:{link}"),
            "--smarthost".into(),
            format!("127.0.0.1:{}", shape.next_hop),
        ]);
        let plan = Plan {
            program: shape.program.to_owned(),
            name: "manager".into(),
            flags,
            file: shape.file.to_owned(),
            ports: [load::free_port()?, load::free_port()?],
        };
        let mut manager = Node::start(plan, node::data("manager")?)?;
        manager.wait_until_ready(interrupt)?;
        Ok(Self { workers: Vec::new(), manager, link })
    }

    /// Registers a worker and starts it; does not wait for it.
    ///
    /// # Errors
    /// The manager does not take it, or it cannot be run.
    pub(super) fn add(&mut self, shape: &Shape<'_>, number: usize, ports: [u16; 2]) -> Result<()> {
        let name = format!("worker-{number}");
        let data = node::data(&name)?;
        let key = node::ask(shape.program, &data, &["identity", "show", "--key"])?;
        self.manager.ask(&["nodes", "add-key", &key, "--name", &name])?;
        let pin = self.manager.ask(&["identity", "show", "--pin"])?;
        let mut flags = flags(shape);
        flags.extend(["--role", "worker", "--pin", &pin, "--manager"].map(str::to_owned));
        flags.push(format!("127.0.0.1:{}", self.link));
        let plan =
            Plan { program: shape.program.to_owned(), name, flags, file: shape.file.to_owned(), ports };
        self.workers.push(Node::start(plan, data)?);
        Ok(())
    }

    /// All nodes, the manager first.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(&self.manager).chain(&self.workers)
    }

    /// How many of the last messages each node has delivered by the message log, the manager first.
    ///
    /// # Errors
    /// The log says something else.
    pub(super) fn delivered(&self, messages: u64) -> Result<Vec<u64>> {
        let limit = messages.to_string();
        let text = self.manager.ask(&["mail", "log", "--json", "--what", "delivered", "--limit", &limit])?;
        let mut counts = vec![0; 1 + self.workers.len()];
        for line in text.lines() {
            let record: Value = serde_json::from_str(line).context("`posthouse mail log` is not JSON")?;
            let place = self.nodes().position(|node| record["node"] == node.name());
            counts[place.with_context(|| format!("no node has delivered {line}"))?] += 1;
        }
        Ok(counts)
    }

    /// Whether the message log says of a recipient that it may have come twice.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn has_marked(&self, recipient: &str) -> Result<bool> {
        let ask = ["mail", "log", "--json", "--what", "delivered", "--recipient", recipient];
        let text = self.manager.ask(&ask)?;
        let records = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>();
        let records = records.context("`posthouse mail log` is not JSON")?;
        Ok(records.iter().any(|record| record["possible_duplicate"] == true))
    }

    /// The doors of the workers.
    pub(super) fn doors(&self) -> Vec<u16> {
        self.workers.iter().map(Server::port).collect()
    }

    /// Waits until nothing is queued any more.
    ///
    /// # Errors
    /// Something stays.
    pub(super) fn wait_until_empty(&self, interrupt: &Interrupt) -> Result<()> {
        interrupt.wait_for("the queue is empty", LOOK_AT_THE_QUEUE, PATIENCE_WITH_THE_QUEUE, || {
            Ok(self.manager.queue_is_empty()?.then_some(()))
        })
    }
}

fn flags(shape: &Shape<'_>) -> Vec<String> {
    let own = ["--relay-from", "127.0.0.0/8", "--log-level", shape.level];
    own.map(str::to_owned).into_iter().chain(shape.up.iter().cloned()).collect()
}

/// A command is run each time.
const LOOK_AT_THE_QUEUE: Duration = Duration::from_millis(250);

const PATIENCE_WITH_THE_QUEUE: Duration = Duration::from_secs(120);
