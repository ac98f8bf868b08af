//! How a node is to be started: with which flags, in which environment, and where.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{
    network::{self, Host},
    node::Node,
    peer::Peer,
    tools::{self, Ran},
    wait::free_address,
};

/// How a node is to be started.
#[derive(Debug)]
pub struct Setup {
    program: PathBuf,
    folder: TempDir,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    /// What the program is started by, and becomes.
    within: Vec<String>,
    /// Where it runs; none is this process's own.
    host: Option<Host>,
    ports: Ports,
}

/// Where the addresses stand that a node listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    /// In flags, for free ports, unless the test gives its own.
    Flags,
    /// In the file.
    File,
}

/// On a host of its own any port is free.
const DOOR: u16 = 25;

impl Setup {
    /// A node of this program, on free ports of this machine, with a data directory of its own.
    ///
    /// # Panics
    /// If there is no temporary folder.
    #[must_use]
    pub fn new(program: &str) -> Self {
        Self::named(program, "mx1")
    }

    /// The same, under a name of its own.
    ///
    /// # Panics
    /// If there is no temporary folder.
    #[must_use]
    pub fn named(program: &str, name: &str) -> Self {
        let folder = TempDir::new().expect("there is a temporary folder");
        let setup = Self {
            program: program.into(),
            folder,
            flags: Vec::new(),
            variables: Vec::new(),
            within: Vec::new(),
            host: None,
            ports: Ports::Flags,
        };
        setup.flag("--name", name).flag("--hostname", format!("{name}.example.org")).file("")
    }

    /// With a flag; one that may be repeated adds to those before.
    #[must_use]
    pub fn flag(mut self, flag: &str, value: impl Into<String>) -> Self {
        self.flags.extend([flag.to_owned(), value.into()]);
        self
    }

    /// With a variable in its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// On a machine whose clock is off by this, such as `+1d` (faketime(1)); what counts from its boot goes right.
    ///
    /// # Panics
    /// If faketime is not there.
    #[must_use]
    pub fn clock_off(self, by: &str) -> Self {
        self.variable("LD_PRELOAD", tools::faketime().display().to_string())
            .variable("FAKETIME", by)
            .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }

    /// Started by these words, before which stand those that are given later. They have to end in the program, as the same process.
    #[must_use]
    pub fn within(mut self, words: &[&str]) -> Self {
        self.within.splice(0..0, words.iter().map(ToString::to_string));
        self
    }

    /// On this host: its doors are on the outside, from where anybody may send, unless the test gives others.
    #[must_use]
    pub fn on(mut self, host: Host) -> Self {
        self = self.within(&["nsenter", &format!("--net={}", host.path()), "--"]);
        self.host = Some(host);
        self
    }

    /// The host that it runs on.
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// With a door for mail that is at the same port at each start.
    #[must_use]
    pub fn lasting_door(self) -> Self {
        let door = match &self.host {
            Some(host) => (host.outside(), DOOR).into(),
            None => free_address(),
        };
        self.flag("--smtp", door.to_string())
    }

    /// With the addresses that its file says, not on ports that the system chooses.
    #[must_use]
    pub fn ports_of_the_file(mut self) -> Self {
        self.ports = Ports::File;
        self
    }

    /// With this peer as its smarthost, which listens where its host reaches it.
    #[must_use]
    pub fn to(self, peer: &Peer) -> Self {
        let address = self.host.as_ref().map_or_else(|| peer.address(), |host| peer.also_at(host.us()));
        self.flag("--smarthost", address.to_string())
    }

    /// With this text in its `posthouse.toml`.
    ///
    /// # Panics
    /// If the file cannot be written.
    #[must_use]
    pub fn file(self, text: &str) -> Self {
        fs::write(self.folder.path().join("posthouse.toml"), text).expect("the folder is ours");
        self
    }

    /// Gives a flag another value, or gives it at all.
    pub(crate) fn set(&mut self, flag: &str, value: &str) {
        match self.flags.iter().position(|other| other == flag) {
            Some(at) => value.clone_into(&mut self.flags[at + 1]),
            None => self.flags.extend([flag.to_owned(), value.to_owned()]),
        }
    }

    /// Gives a flag no more.
    pub(crate) fn leave_out(&mut self, flag: &str) {
        if let Some(at) = self.flags.iter().position(|other| other == flag) {
            self.flags.drain(at..at + 2);
        }
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// The folder in which everything of the node lies, and files of a test may.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The node's data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts the node.
    ///
    /// # Panics
    /// If it does not come to run.
    #[must_use]
    pub fn start(self) -> Node {
        Node::start(self).unwrap_or_else(|ran| panic!("no node: {ran:?}"))
    }

    /// Starts the node, which is expected to end by itself.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn fail(&self) -> Ran {
        tools::run(&mut self.command(), b"")
    }

    /// What starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = match self.within.split_first() {
            Some((first, others)) => {
                let mut command = Command::new(first);
                command.args(others).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.arg("up").args(&self.flags).arg("--config").arg(self.folder.path().join("posthouse.toml"));
        command.arg("--data-dir").arg(self.data_dir());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let doors = self.host.as_ref().map_or(Ipv4Addr::LOCALHOST, Host::outside);
        for ports in ["--smtp", "--console"] {
            if self.ports == Ports::Flags && !self.flags.iter().any(|flag| flag == ports) {
                command.arg(ports).arg(format!("{doors}:0"));
            }
        }
        if self.host.is_some() && !self.says_who_may_send() {
            command.args(["--relay-from", network::ANYBODY]);
        }
        command
    }

    fn says_who_may_send(&self) -> bool {
        let file = fs::read_to_string(self.folder.path().join("posthouse.toml"));
        file.expect("it was written").contains("relay.from")
    }
}
