//! Mail servers of others, from Debian's packages, which `cargo xtask test` unpacks and never installs: each runs in a
//! mount namespace of its own, as if it were installed there, and relays all it takes to one next hop.

mod exim;
mod opensmtpd;
mod postfix;

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
};

use tempfile::TempDir;

use crate::{namespaces::Namespace, process, tools, wait::until};

/// Which mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Postfix.
    Postfix,
    /// OpenSMTPD, the portable one.
    OpenSmtpd,
    /// Exim 4.
    Exim,
}

/// A running mail server that relays to one next hop, and refuses recipients whose names begin with `no`; ended when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

/// What a server is to be told, in its own words.
#[derive(Debug)]
struct Wishes {
    listen: SocketAddr,
    next_hop: SocketAddr,
}

/// How a server is set up.
#[derive(Debug)]
struct Recipe {
    /// The package that it was unpacked from.
    package: &'static str,
    /// Its files, by their paths.
    files: Vec<(&'static str, String)>,
    /// Users that it needs, with their numbers; each has a group of its name and number.
    users: &'static [(&'static str, u32)],
    /// Folders that lie on disk.
    disk: &'static [&'static str],
    /// The script that becomes the server.
    start: &'static str,
}

impl Server {
    /// Starts a server of this kind; none, with a line that says so, where this machine has no mount namespaces for us.
    ///
    /// # Panics
    /// If it does not come to listen, or is not unpacked, or gets no namespaces though the machine gives them.
    #[must_use]
    pub fn start(kind: Kind, next_hop: SocketAddr) -> Option<Self> {
        if !Namespace::mounts_are_given() {
            Namespace::Mount.is_missing_for(&format!("{kind:?}"), "skipped");
            return None;
        }
        let listen = address_of_our_own();
        let wishes = Wishes { listen, next_hop };
        let recipe = match kind {
            Kind::Postfix => postfix::recipe(&wishes),
            Kind::OpenSmtpd => opensmtpd::recipe(&wishes),
            Kind::Exim => exim::recipe(&wishes),
        };
        let folder = TempDir::new().expect("there is a temporary folder");
        recipe.write(folder.path());
        let child = recipe.command(folder.path()).spawn().expect("unshare is there");
        let mut server = Self { child, address: listen, folder };
        until(&format!("{kind:?} to listen"), || {
            let ended = server.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "{kind:?} ended: {ended:?}");
            TcpStream::connect(listen).ok()
        });
        Some(server)
    }

    /// Where it takes mail.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        process::ended(&mut self.child, "a server of others");
        if thread::panicking() {
            show_logs(&self.folder.path().join("disk/var/log"));
        }
    }
}

/// The first process of the namespace, with which all others in it end: when the server ends, or when we let go of its standard input, be
/// it that we are killed.
const FIRST: &str = "trap 'exit 1' TERM; { sh \"$@\" </dev/null; kill -TERM 1; } & read -r end";

/// Shows the last lines of all that a server has said.
fn show_logs(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            show_logs(&path);
        } else {
            let log = fs::read(&path).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
            eprintln!("the last lines of {}:\n{last}", path.display());
        }
    }
}

/// What a server writes to its standard output and error, below its folder.
const OUTPUT: &str = "disk/var/log/output";

/// Lines of a server that a failed test shows.
const SHOWN: usize = 60;

impl Recipe {
    fn write(&self, folder: &Path) {
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("the folder is ours");
            fs::write(path, text).expect("the folder is ours");
        };
        let configuration = folder.join("configuration");
        for (path, text) in &self.files {
            write(configuration.join(path), text);
        }
        write(configuration.join("start"), self.start);
        write(
            configuration.join("etc/passwd"),
            &self.with_users("/etc/passwd", |name, number| {
                format!("{name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n")
            }),
        );
        write(
            configuration.join("etc/group"),
            &self.with_users("/etc/group", |name, number| format!("{name}:x:{number}:\n")),
        );
        for place in ["view", "disk/var/log"] {
            fs::create_dir_all(folder.join(place)).expect("the folder is ours");
        }
        for place in self.disk {
            fs::create_dir_all(folder.join("disk").join(place)).expect("the folder is ours");
        }
    }

    /// A list of the machine's users or groups, with the server's own.
    fn with_users(&self, list: &str, line: impl Fn(&str, u32) -> String) -> String {
        let host = fs::read_to_string(list).expect("every machine has one");
        let is_ours = |line: &str| self.users.iter().any(|(name, _)| line.split(':').next() == Some(name));
        let kept = host.lines().filter(|line| !is_ours(line)).map(|line| format!("{line}\n"));
        kept.chain(self.users.iter().map(|(name, number)| line(name, *number))).collect()
    }

    fn command(&self, folder: &Path) -> Command {
        let unpacked = tools::folder().join(self.package);
        assert!(unpacked.exists(), "{} is missing: run cargo xtask test --only tools", self.package);
        let log = File::create(folder.join(OUTPUT)).expect("the folder is ours");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "sh", "-c", FIRST, "sh"]);
        command
            .arg(tools::folder().join("bin/beside"))
            .arg(unpacked)
            .arg(folder.join("configuration"))
            .arg(folder);
        command.stdin(Stdio::piped()).stdout(log.try_clone().expect("it is open")).stderr(log);
        command
    }
}

/// An address of loopback that belongs to this process alone, with a port that it has not used before.
fn address_of_our_own() -> SocketAddr {
    static PORTS: AtomicU16 = AtomicU16::new(2525);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let port = PORTS.fetch_add(1, Ordering::SeqCst);
    SocketAddr::from((Ipv4Addr::new(127, 64 + high, middle, low), port))
}
