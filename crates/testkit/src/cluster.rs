//! A manager and its workers, each the real program as a process, linked over this machine's loopback.

use std::net::SocketAddr;

use crate::{
    Network, Node, Peer, Setup,
    wait::{free_address, until},
};

/// A manager and its workers.
#[derive(Debug)]
pub struct Cluster {
    program: String,
    link: SocketAddr,
    network: Option<Network>,
    /// `mx1`, which keeps the queue.
    pub manager: Node,
    /// `mx2`, `mx3` and so on.
    pub workers: Vec<Node>,
}

/// Liveness for stories: a lost node is found within four seconds, and what it may have delivered waits for two.
const QUICK: &str = "
    cluster.heartbeat = '500ms'
    cluster.suspect = '1500ms'
    cluster.gone = '4s'
    cluster.lease = '3s'
    cluster.steady = '1s'
    cluster.freeze-within = '1s'
    cluster.after-loss = '2s'
    spool.segment = '4MiB'
";

/// In a network of its own any port is free.
const LINK_PORT: u16 = 7025;

impl Cluster {
    /// Starts a manager and so many workers that deliver to a peer.
    ///
    /// # Panics
    /// If they do not come to run, or to be linked.
    #[must_use]
    pub fn start(program: &str, workers: usize, peer: &Peer) -> Self {
        Self::with(program, workers, "", |setup| setup.to(peer).flag("--retry", "100ms,300ms"))
    }

    /// The same, with more in the manager's file, and a manager set up as `adapt` says.
    ///
    /// # Panics
    /// If they do not come to run, or to be linked.
    #[must_use]
    pub fn with(program: &str, workers: usize, file: &str, adapt: impl Fn(Setup) -> Setup) -> Self {
        Self::linked_by(program, workers, file, (free_address(), None), adapt)
    }

    /// A manager on the first host of a network and a worker on each of the others, linked over its inside.
    ///
    /// # Panics
    /// If they do not come to run, or to be linked, or there are not so many hosts.
    #[must_use]
    pub fn over(network: &Network, program: &str, workers: usize, file: &str, peer: &Peer) -> Self {
        let host = network.host(0);
        let link = SocketAddr::new(host.inside(), LINK_PORT);
        Self::linked_by(program, workers, file, (link, Some(network.clone())), |setup| {
            host.seat(setup).to(peer).flag("--retry", "100ms,300ms")
        })
    }

    fn linked_by(
        program: &str,
        workers: usize,
        file: &str,
        // The workers find it here again after a restart.
        (link, network): (SocketAddr, Option<Network>),
        adapt: impl Fn(Setup) -> Setup,
    ) -> Self {
        let setup = Setup::named(program, "mx1")
            .flag("--role", "manager")
            .flag("--link", link.to_string())
            .file(&quick_with(file));
        let manager = adapt(setup).start();
        let mut cluster = Self { program: program.to_owned(), link, network, manager, workers: Vec::new() };
        for _ in 0..workers {
            cluster.add();
        }
        cluster
    }

    /// Where the manager lets nodes in.
    #[must_use]
    pub fn link(&self) -> SocketAddr {
        self.link
    }

    /// What the manager's authority is known by.
    ///
    /// # Panics
    /// If the manager does not say it.
    #[must_use]
    pub fn pin(&self) -> String {
        self.manager.said_in("the node is a manager", "pin")
    }

    /// How a worker of this manager is set up that is called so.
    #[must_use]
    pub fn worker(&self, name: &str) -> Setup {
        Setup::named(&self.program, name)
            .flag("--role", "worker")
            .flag("--manager", self.link.to_string())
            .flag("--pin", self.pin())
    }

    /// Adds one more worker, and waits until it is linked.
    ///
    /// # Panics
    /// If it does not come to run, or to be linked.
    pub fn add(&mut self) {
        let name = format!("mx{}", self.workers.len() + 2);
        let mut setup = self.worker(&name);
        if let Some(network) = &self.network {
            setup = network.host(self.workers.len() + 1).seat(setup);
        }
        let worker = setup.start();
        self.introduce(&worker, &name);
        linked(&worker);
        self.workers.push(worker);
    }

    /// Registers a worker's key.
    ///
    /// # Panics
    /// If the manager does not take it.
    pub fn introduce(&self, worker: &Node, name: &str) {
        let key = key(worker);
        let _added = self.manager.command(&["nodes", "add-key", &key, "--name", name]).done();
    }

    /// What the manager shows of a node.
    ///
    /// # Panics
    /// If it shows none of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> serde_json::Value {
        self.manager.json(&["nodes", "show", name])
    }

    /// Waits until the manager shows that this is wanted or believed of a node.
    ///
    /// # Panics
    /// If it does not.
    pub fn shows(&self, name: &str, state: &str) {
        until(&format!("{name} is {state}"), || {
            let node = self.node(name);
            (node["wanted"] == state || node["presence"] == state).then_some(())
        });
    }

    /// Kills the manager, and starts it again at once.
    ///
    /// # Panics
    /// If it does not come to run.
    pub fn restart_manager(&mut self) {
        self.manager.kill();
        self.manager.restart();
    }
}

/// The file of a manager: what a story wants otherwise counts.
fn quick_with(file: &str) -> String {
    let key = |line: &str| line.split_once('=').map(|(key, _)| key.trim().to_owned());
    let wanted: Vec<_> = file.lines().filter_map(key).collect();
    let kept = QUICK.lines().filter(|line| key(line).is_none_or(|key| !wanted.contains(&key)));
    kept.chain(file.lines()).map(|line| format!("{line}\n")).collect()
}

/// A worker's public key.
///
/// # Panics
/// If it does not say it.
#[must_use]
pub fn key(worker: &Node) -> String {
    worker.said_in("the worker is running", "key")
}

/// Waits until a worker that was just started has a link, and lets senders in.
///
/// # Panics
/// If it gets none.
pub fn linked(worker: &Node) {
    worker.said("the doors are open");
}
