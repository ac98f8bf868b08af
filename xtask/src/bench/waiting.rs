//! Nodes with many works that wait: a data directory is filled, its process killed, the page cache dropped, and a node started on it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::process::ExitStatusExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    load, meter, paced, posthouse,
    process::{Interrupt, Process},
};
use crate::{
    place,
    step::{Note, command, run},
};

/// What waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// How many messages, of one recipient each.
    pub(crate) works: u64,
    /// Bytes of each.
    pub(crate) bytes: u64,
    /// How often each was deferred: state records.
    pub(crate) deferrals: u32,
}

/// What a start took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// From the start of the process to the first connection to the next hop.
    pub(crate) first_attempt: Duration,
    /// Resident memory once all had been taken in.
    pub(crate) memory: u64,
    /// The most that it was until then.
    pub(crate) peak: u64,
}

/// Builds the program and the one that fills directories, for release.
///
/// # Errors
/// They do not build.
pub(crate) fn build() -> Result<Note> {
    posthouse::build()?;
    run(&mut command("cargo", &["build", "--release", "--package", "mail", "--example", "fill"]))?;
    Ok("ok".into())
}

/// Makes sure that the disk holds so many bytes more.
///
/// # Errors
/// It does not.
pub(crate) fn expect_room(bytes: u64) -> Result<()> {
    let disk = rustix::fs::statvfs(place::bench())?;
    let free = disk.f_bavail * disk.f_frsize;
    if free < bytes {
        bail!("this needs {} GiB of disk, and {} GiB are free", bytes >> 30, free >> 30);
    }
    Ok(())
}

impl Waiting {
    /// Bytes that it may take on disk, with what its frames and records add.
    pub(crate) fn on_disk(&self) -> u64 {
        self.works * (self.bytes + 700 + 500 * u64::from(self.deferrals))
    }

    /// A data directory with it, left behind by a process that was killed.
    ///
    /// # Errors
    /// It cannot be filled.
    pub(crate) fn fill(&self) -> Result<TempDir> {
        let data = tempfile::Builder::new().prefix("waiting-").tempdir_in(place::bench())?;
        let program = place::root().join("target/release/examples/fill");
        let mut fill = command(&program.display().to_string(), &[]);
        fill.arg(data.path());
        fill.args([self.works, self.bytes, u64::from(self.deferrals)].map(|number| number.to_string()));
        let start = Instant::now();
        let status = fill.status().context("cannot run the example that fills")?;
        if status.signal() != Some(Signal::KILL.as_raw()) {
            bail!("the example that fills did not come to its end ({status})");
        }
        eprintln!("xtask filled with {} works in {:.0} s", self.works, start.elapsed().as_secs_f64());
        Ok(data)
    }
}

/// Forgets what the system has read of files, where it lets us.
///
/// # Errors
/// Nobody but root may.
pub(crate) fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").context("only root can drop the page cache")
}

/// A node on a data directory whose next hop takes connections and says nothing.
pub(crate) struct Node {
    process: Process,
    smtp: SocketAddr,
}

/// What a purge took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purge {
    pub(crate) took: Duration,
    /// How much more memory was resident at most than before, in bytes.
    pub(crate) grew: u64,
    /// How long a message that came meanwhile took at most.
    pub(crate) longest_wait: Duration,
}

impl Node {
    /// Starts it with a cold cache; returns what that took. It runs on.
    ///
    /// # Errors
    /// It does not come to an attempt, if `works` wait; or it cannot be measured.
    pub(crate) fn start(data: &Path, works: u64, interrupt: &Interrupt) -> Result<(Self, Start)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let hop = listener.local_addr()?;
        let connections = accept(listener);
        let (smtp, console) = (load::free_port()?, load::free_port()?);
        let mut up = command(&posthouse::program().display().to_string(), &["up", "--data-dir"]);
        up.arg(data).args(["--log-level", "error", "--stop-grace", "0s"]);
        up.args(["--smtp", &format!("127.0.0.1:{smtp}")]);
        up.args(["--smarthost", &hop.to_string(), "--console", &format!("127.0.0.1:{console}")]);
        drop_caches()?;
        let start = Instant::now();
        let mut process = Process::start("posthouse", up)?;
        let first_attempt = interrupt.wait_for("the first attempt", PATIENCE_STEP, PATIENCE, || {
            process.expect_running()?;
            let nothing_waits = works == 0 && posthouse::is_ready(console);
            Ok(connections.try_recv().ok().or(nothing_waits.then(Instant::now)))
        })?;
        let node = Self { process, smtp: SocketAddr::from((Ipv4Addr::LOCALHOST, smtp)) };
        node.rest(interrupt)?;
        let memory = meter::resident(node.process.pid())?;
        let start = Start {
            first_attempt: first_attempt.duration_since(start),
            memory,
            peak: meter::peak(node.process.pid())?,
        };
        eprintln!(
            "xtask {works} works: first attempt after {:.2} s, {} MiB of memory, {} at most",
            start.first_attempt.as_secs_f64(),
            start.memory >> 20,
            start.peak >> 20
        );
        Ok((node, start))
    }

    /// Cancels all that waits by the command line, while messages come in.
    ///
    /// # Errors
    /// It does not work, or cannot be measured.
    pub(crate) fn purge(&self, data: &Path) -> Result<Purge> {
        let pid = self.process.pid();
        let before = meter::resident(pid)?;
        meter::forget_peak(pid)?;
        let (stop, smtp) = (Arc::new(AtomicBool::new(false)), self.smtp);
        let probe = thread::spawn({
            let stop = stop.clone();
            move || paced::longest_wait(smtp, &stop)
        });
        let start = Instant::now();
        let program = posthouse::program().display().to_string();
        let mut cancel = command(&program, &["mail", "cancel", "--all", "--yes", "--data-dir"]);
        let cancelled = run(cancel.arg(data));
        let took = start.elapsed();
        stop.store(true, Ordering::Relaxed);
        let longest_wait = probe.join().map_err(|_| anyhow!("the probe panicked"))??;
        cancelled?;
        let grew = meter::peak(pid)?.saturating_sub(before);
        eprintln!(
            "xtask purge in {:.2} s, {} KiB more, {longest_wait:.0?} at most for a message",
            took.as_secs_f64(),
            grew >> 10
        );
        Ok(Purge { took, grew, longest_wait })
    }

    /// Waits until it has done what it does at its start.
    fn rest(&self, interrupt: &Interrupt) -> Result<()> {
        let mut quiet = 0;
        let mut before = meter::cpu(self.process.pid())?;
        for _ in 0..WINDOWS {
            interrupt.pause(WINDOW)?;
            let after = meter::cpu(self.process.pid())?;
            quiet = if after.saturating_sub(before) < RESTING { quiet + 1 } else { 0 };
            if quiet == QUIET_WINDOWS {
                return Ok(());
            }
            before = after;
        }
        bail!("the node is not quiet after {} s", WINDOW.as_secs() * u64::from(WINDOWS))
    }
}

/// Takes connections and keeps them; tells when each came.
fn accept(listener: TcpListener) -> Receiver<Instant> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut kept: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming().flatten() {
            kept.push(stream);
            if sender.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    receiver
}

const PATIENCE_STEP: Duration = Duration::from_millis(2);

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// The CPU is looked at this often; a window with less than [`RESTING`] of it is quiet.
const WINDOW: Duration = Duration::from_secs(1);
const RESTING: Duration = Duration::from_millis(30);
const QUIET_WINDOWS: u32 = 3;
const WINDOWS: u32 = 120;
