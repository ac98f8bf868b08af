//! A manager and its workers, each the real program as a process: on a host of its own in a network of the story's, where
//! this machine has network namespaces for us, else on loopback.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
};

use crate::{
    Network, Node, Peer, Session, Setup, client,
    network::Host,
    wait::{free_address, until},
};

/// A manager and its workers.
#[derive(Debug)]
pub struct Cluster {
    program: String,
    link: SocketAddr,
    /// None is loopback.
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

/// On a host of its own any port is free.
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
        let network = Network::start();
        let setup = named(program, "mx1", network.as_ref());
        // The workers find it here again after a restart.
        let link = match setup.host() {
            Some(host) => (host.inside(), LINK_PORT).into(),
            None => free_address(),
        };
        let setup = setup.flag("--role", "manager").flag("--link", link.to_string()).file(&quick_with(file));
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
        self.trusting(&self.pin(), name)
    }

    /// How a worker is set up that is called so and trusts a manager with this pin.
    #[must_use]
    pub fn trusting(&self, pin: &str, name: &str) -> Setup {
        named(&self.program, name, self.network.as_ref())
            .flag("--role", "worker")
            .flag("--manager", self.link.to_string())
            .flag("--pin", pin)
    }

    /// Somebody who is no node, on a host of his own; on loopback his address ends with this, from 2.
    #[must_use]
    pub fn stranger(&self, last: u8) -> Stranger {
        match &self.network {
            Some(network) => Stranger::On(network.host()),
            None => Stranger::At(Ipv4Addr::new(127, 0, 0, last)),
        }
    }

    /// Adds one more worker, and waits until it is linked.
    ///
    /// # Panics
    /// If it does not come to run, or to be linked.
    pub fn add(&mut self) {
        let name = format!("mx{}", self.workers.len() + 2);
        let worker = self.worker(&name).start();
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

/// Somebody who is no node.
#[derive(Debug)]
pub enum Stranger {
    /// On this host of the network.
    On(Host),
    /// At this address of loopback.
    At(Ipv4Addr),
}

impl Stranger {
    /// Connects.
    ///
    /// # Errors
    /// There is no connection.
    pub fn dial(&self, to: SocketAddr) -> io::Result<TcpStream> {
        match self {
            Self::On(host) => host.run(|| TcpStream::connect(to)),
            Self::At(address) => client::dial(*address, to),
        }
    }

    /// Connects and exchanges greetings.
    ///
    /// # Panics
    /// If the server does not want him.
    #[must_use]
    pub fn open(&self, to: SocketAddr) -> Session {
        let greeted = self.dial(to).and_then(Session::greeted_over);
        greeted.unwrap_or_else(|error| panic!("no session with {to} from {self:?}: {error}"))
    }
}

/// A node of this name, on a host of its own where there is a network.
fn named(program: &str, name: &str, network: Option<&Network>) -> Setup {
    let setup = Setup::named(program, name);
    match network {
        Some(network) => setup.on(network.host()),
        None => setup,
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
