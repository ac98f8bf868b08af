//! What may happen to a node.

use std::{
    collections::BTreeMap,
    env, fmt,
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use testkit::{Node, wait};

/// Something that happens to a node; afterwards it runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// kill -9.
    Kill,
    /// kill -9, and once more while it starts.
    KillTwice,
    /// It is stopped in order.
    Stop,
    /// It is frozen for a while.
    Freeze,
    /// It may open no more files for a while.
    NoFiles,
    /// Its disk is full for a while; only where it has a small one of its own.
    FullDisk,
    /// A sync fails, so that it gives up; where strace is there.
    FailedSync,
}

const ALL: [Fault; 7] = [
    Fault::Kill,
    Fault::KillTwice,
    Fault::Stop,
    Fault::Freeze,
    Fault::NoFiles,
    Fault::FullDisk,
    Fault::FailedSync,
];

/// Says that the folder for temporary files lies on a small disk, which may be filled.
const SMALL_DISK: &str = "POSTHOUSE_SOAK_SMALL_DISK";

impl Fault {
    pub(super) fn any(random: &mut fastrand::Rng) -> Self {
        let possible: Vec<Self> = ALL.into_iter().filter(|fault| fault.is_possible()).collect();
        random.choice(possible).expect("a kill is possible")
    }

    fn is_possible(self) -> bool {
        match self {
            Self::FullDisk => env::var_os(SMALL_DISK).is_some(),
            Self::FailedSync => Path::new(STRACE).exists(),
            _ => true,
        }
    }

    pub(super) fn happen(self, node: &mut Node, random: &mut fastrand::Rng) {
        let a_while = Duration::from_millis(random.u64(200..2500));
        match self {
            Self::Kill => {
                node.kill();
            }
            Self::KillTwice => {
                node.kill();
                node.restart_and_kill(Duration::from_millis(random.u64(..150)));
            }
            Self::Stop => node.stop(),
            Self::Freeze => {
                signal(node, Signal::STOP);
                wait::pass(a_while);
                signal(node, Signal::CONT);
            }
            Self::NoFiles => {
                let before = limit_files(node, Some(random.u64(3..60)));
                wait::pass(a_while);
                assert!(node.is_running(), "a want of descriptors has ended the node");
                limit_files(node, before);
            }
            Self::FullDisk => {
                let ballast = node.setup().folder().join("ballast");
                fill(&ballast);
                wait::pass(a_while);
                fs::remove_file(ballast).expect("it is ours");
            }
            Self::FailedSync => fail_a_sync(node),
        }
        if !node.is_running() {
            node.restart();
        }
    }
}

fn pid(node: &Node) -> Pid {
    i32::try_from(node.id()).ok().and_then(Pid::from_raw).expect("a child has an id")
}

fn signal(node: &Node, signal: Signal) {
    kill_process(pid(node), signal).expect("it is our child");
}

/// Limits the open files of a node; returns what the limit was.
fn limit_files(node: &Node, most: Option<u64>) -> Option<u64> {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: most, maximum };
    prlimit(Some(pid(node)), Resource::Nofile, limit).expect("it is our child").current
}

/// Writes until there is no room.
fn fill(ballast: &Path) {
    let mut file = File::create(ballast).expect("there is a name for it");
    let block = vec![1; 1 << 20];
    for len in [block.len(), 4096] {
        while file.write_all(&block[..len]).is_ok() {}
    }
}

/// Makes the next sync of a node fail, and waits until it has given up.
fn fail_a_sync(node: &mut Node) {
    let mut strace = Command::new(STRACE);
    strace.args([
        "-f",
        "-qq",
        "-e",
        "trace=fdatasync",
        "-e",
        "inject=fdatasync:error=EIO:when=1",
        "-o",
        "/dev/null",
    ]);
    strace
        .arg("-p")
        .arg(node.id().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut strace = strace.spawn().expect("it is there");
    let failed = !node.ended().success();
    // It ends with what it has traced.
    strace.wait().expect("it is our child");
    assert!(failed, "a node whose sync failed says so");
}

const STRACE: &str = "/usr/bin/strace";

/// How often each has happened.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<Fault, usize>);

impl Counts {
    pub(super) fn add(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    /// How many there were.
    pub(super) fn all(&self) -> usize {
        self.0.values().sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} faults:", self.all())?;
        self.0.iter().try_for_each(|(fault, count)| write!(f, " {fault:?} {count}"))
    }
}
