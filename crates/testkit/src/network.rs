//! Networks of a test's own, with hosts that can be cut off: each host is a network namespace, joined to two bridges that
//! are in a namespace as well. Over the *outside* hosts reach this process, with its clients and next hops; over the *inside*
//! only each other. It takes root.
//!
//! Namespaces have no names here: each lives as long as a process that waits for the end of its standard input, so that
//! nothing stays behind when the test ends, be it that it is killed. What lies in a namespace ends with it.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    os::fd::AsFd,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{namespaces, process, tools};

/// What joins hosts; gone when it is dropped, and the last of them.
#[derive(Debug)]
pub struct Network(Arc<Hub>);

#[derive(Debug)]
struct Hub {
    /// Where the bridges are.
    space: Namespace,
    /// Which of the networks of this machine it is.
    number: u16,
    /// How many hosts it has had.
    hosts: AtomicU8,
}

/// A host of a network; gone when it is dropped.
#[derive(Debug)]
pub struct Host {
    hub: Arc<Hub>,
    /// Its number in the network, from 0.
    at: u8,
    space: Namespace,
}

/// Which way nothing goes any more over the inside of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Neither way: the cable is pulled.
    Both,
    /// It hears nobody, and is heard.
    Deaf,
    /// Nobody hears it, and it hears.
    Mute,
}

/// So many networks fit into 198.18.0.0/16, which is for measurements and never routed (RFC 2544, appendix C.2.2).
const NETWORKS: u16 = 4096;
/// Most hosts of one of them.
const HOSTS: u8 = 12;
/// Where a host's own number is added, inside and outside; before it is this process.
const FIRST: u8 = 2;
/// Numbers that are tried until one is free.
const TRIES: usize = 100;

/// From where hosts and this process send over the outside.
pub const ANYBODY: &str = "198.18.0.0/16";

impl Network {
    /// A network without hosts; none, with a line that says so, where this machine has no network namespaces for us: then
    /// stories are played over loopback.
    ///
    /// # Panics
    /// If it cannot be set up, also where this machine is known to have network namespaces.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(space) = Namespace::start() else {
            namespaces::Namespace::Net.is_missing_for("a network of its own", "over loopback");
            return None;
        };
        space.run(BRIDGES);
        let number = claim(&space);
        Some(Self(Arc::new(Hub { space, number, hosts: AtomicU8::new(0) })))
    }

    /// One more host.
    ///
    /// # Panics
    /// If it cannot be set up, or there are too many.
    #[must_use]
    pub fn host(&self) -> Host {
        let at = self.0.hosts.fetch_add(1, Ordering::SeqCst);
        assert!(at < HOSTS, "a network has {HOSTS} hosts at most");
        let space = Namespace::start().expect("there was one before");
        join(&self.0.space, &space, self.0.number, at);
        Host { hub: self.0.clone(), at, space }
    }
}

impl Host {
    /// Its address among the hosts.
    #[must_use]
    pub fn inside(&self) -> Ipv4Addr {
        inside(self.at)
    }

    /// Its address for this process.
    #[must_use]
    pub fn outside(&self) -> Ipv4Addr {
        outside(self.hub.number, FIRST + self.at)
    }

    /// The address of this process for it.
    #[must_use]
    pub fn us(&self) -> Ipv4Addr {
        outside(self.hub.number, FIRST - 1)
    }

    /// The file of its namespace.
    pub(crate) fn path(&self) -> String {
        self.space.path()
    }

    /// Does something here, in a thread of its own; the sockets that it makes stay here.
    ///
    /// # Panics
    /// If it does.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let space = File::open(self.path()).expect("its process lives");
        let here = || {
            let entered = move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network));
            entered.expect("who made it may enter it");
            act()
        };
        thread::scope(|scope| scope.spawn(here).join()).expect("it does not panic")
    }

    /// Cuts its inside. One cut at a time.
    ///
    /// # Panics
    /// If it cannot be cut.
    pub fn cut(&self, cut: Cut) {
        let (hub, at) = (&self.hub.space, self.at);
        match cut {
            Cut::Both => hub.run(&format!("ip link set inside{at} down")),
            Cut::Deaf => self.space.run(&drops("inside")),
            Cut::Mute => hub.run(&drops(&format!("inside{at}"))),
        }
    }

    /// Mends its inside, however it was cut.
    ///
    /// # Panics
    /// If it cannot be mended.
    pub fn heal(&self) {
        let (hub, at) = (&self.hub.space, self.at);
        self.space.run(&passes("inside"));
        hub.run(&format!("{} && ip link set inside{at} up", passes(&format!("inside{at}"))));
    }

    /// The ports here from which a connection to this one is open.
    ///
    /// # Panics
    /// If they cannot be listed.
    #[must_use]
    pub fn connections(&self, to: u16) -> BTreeSet<u16> {
        let listed = self.space.ask(&format!("ss -tnH state established dport = :{to}"));
        let port = |line: &str| line.split_whitespace().nth(2)?.rsplit_once(':')?.1.parse().ok();
        listed.lines().filter_map(port).collect()
    }

    /// Breaks the connections from this port: both sides hear that they were reset.
    ///
    /// # Panics
    /// If they cannot be broken.
    pub fn reset(&self, from: u16) {
        self.space.run(&format!("ss -K sport = :{from}"));
    }
}

/// All that comes in by this interface is lost.
fn drops(interface: &str) -> String {
    format!(
        "nft 'add table netdev {interface}; add chain netdev {interface} lost {{ type filter hook ingress device {interface} \
         priority 0; policy drop; }}'"
    )
}

/// All that comes in by this interface is there again, whether it was lost or not.
fn passes(interface: &str) -> String {
    format!("nft 'add table netdev {interface}; delete table netdev {interface}'")
}

const BRIDGES: &str = "ip link set lo up
    for side in inside outside; do ip link add name $side type bridge; ip link set $side up; done";

/// Takes a number that no other network of this machine has, and joins this process by it.
fn claim(hub: &Namespace) -> u16 {
    for _ in 0..TRIES {
        let number = fastrand::u16(..NETWORKS);
        let name = format!("posthouse{number}");
        let id = hub.child.id().to_string();
        let mut add = tools::system("ip");
        add.args(["link", "add", "name", &name, "type", "veth", "peer", "name", "root", "netns", &id]);
        let ran = tools::run(&mut add, b"");
        if ran.code == Some(0) {
            hub.run("ip link set root master outside up");
            let here = outside(number, FIRST - 1);
            let script = format!("ip address add {here}/28 dev {name} && ip link set {name} up");
            let _ = tools::run(tools::system("sh").args(["-euc", &script]), b"").done();
            return number;
        }
        // Somebody has this number: the name is the claim.
        assert!(ran.stderr.contains("File exists"), "no network can be made: {}", ran.stderr);
    }
    panic!("no number for a network is free; `ip link` shows who has them");
}

/// Joins a host to both bridges.
fn join(hub: &Namespace, host: &Namespace, number: u16, at: u8) {
    let id = host.child.id();
    hub.run(&format!(
        "for side in inside outside; do
            ip link add name ${{side}}{at} type veth peer name $side netns {id}
            ip link set ${{side}}{at} master $side up
        done"
    ));
    host.run(&format!(
        "ip link set lo up
        ip address add {}/24 dev inside
        ip address add {}/28 dev outside
        for side in inside outside; do ip link set $side up; done",
        inside(at),
        outside(number, FIRST + at),
    ));
}

/// The same in all networks, which have no inside in common.
fn inside(at: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 19, 0, FIRST + at)
}

fn outside(number: u16, last: u8) -> Ipv4Addr {
    let [high, low] = (number * 16).to_be_bytes();
    Ipv4Addr::new(198, 18, high, low + last)
}

/// A network namespace, as long as its process lives.
#[derive(Debug)]
struct Namespace {
    child: Child,
}

impl Namespace {
    /// A new one; none where we get none.
    fn start() -> Option<Self> {
        let mut holder = Command::new("unshare");
        holder.args(["--net", "sh", "-c", "echo there && exec cat"]);
        holder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = holder.spawn().expect("unshare is there (package util-linux)");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        // It ends without the line where there is no namespace for it.
        let read = BufReader::new(stdout).read_line(&mut line);
        let space = Self { child };
        (read.is_ok() && line == "there\n").then_some(space)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.child.id())
    }

    /// Runs a script in it.
    fn run(&self, script: &str) {
        let _ = self.ask(script);
    }

    /// Runs a script in it; returns what it printed.
    fn ask(&self, script: &str) -> String {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).args(["sh", "-euc", script]);
        let ran = tools::run(&mut command, b"");
        assert_eq!(
            ran.code,
            Some(0),
            "{script}: {} (cargo xtask test --only tools sets up ip and nft)",
            ran.stderr
        );
        ran.stdout
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        process::ended(&mut self.child, "the process of a namespace");
    }
}
