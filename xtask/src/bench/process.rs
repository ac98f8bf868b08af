//! Processes that end with the value that stands for them, and Ctrl-C.

use std::{
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, kill_process, pidfd_open, setrlimit},
};

/// A process that we started; asked to end, then made to, when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    /// Starts a process, in a group of its own so that Ctrl-C reaches it through us alone.
    ///
    /// # Errors
    /// It cannot be run.
    pub(crate) fn start(name: &'static str, mut command: Command) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        command.process_group(0).stdin(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot run {name}"))?;
        Ok(Self { name, child })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// Makes sure that it still runs.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn expect_running(&mut self) -> Result<()> {
        match self.ended()? {
            Some(status) => bail!("{} has ended ({status}); see what it printed", self.name),
            None => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = kill_process(self.pid(), Signal::TERM);
        wait_for_end(self.pid(), PATIENCE_WITH_AN_END);
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            eprintln!("xtask: {} did not end when asked to, so it is killed", self.name);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits until a process has ended, at most for `patience`; whether it has is for the caller to see.
pub(crate) fn wait_for_end(pid: Pid, patience: Duration) {
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let limit = Timespec::try_from(patience).ok();
    // Ended, timed out or interrupted: the caller looks anyway.
    let _ = poll(&mut [PollFd::new(&handle, PollFlags::IN)], limit.as_ref());
}

/// Ctrl-C and SIGTERM, which end a wait, so that what was started is ended in order.
pub(crate) struct Interrupt(Receiver<()>);

impl Interrupt {
    /// Catches the signals from here on.
    ///
    /// # Errors
    /// The handlers cannot be set.
    pub(crate) fn catch() -> Result<Self> {
        let mut signals = signal_hook::iterator::Signals::new(signal_hook::consts::TERM_SIGNALS)
            .context("cannot catch Ctrl-C")?;
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for _ in signals.forever() {
                if sender.send(()).is_err() {
                    return;
                }
            }
        });
        Ok(Self(receiver))
    }

    /// Returns after `time`.
    ///
    /// # Errors
    /// At once when interrupted.
    pub(crate) fn pause(&self, time: Duration) -> Result<()> {
        match self.0.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(anyhow!("interrupted")),
        }
    }

    /// Looks every `every` until `fact` gives something.
    ///
    /// # Errors
    /// `fact` failed, or gave nothing within `patience`, or we were interrupted.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        every: Duration,
        patience: Duration,
        mut fact: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = fact()? {
                return Ok(found);
            }
            if start.elapsed() > patience {
                bail!("{what}: not within {} s", patience.as_secs());
            }
            self.pause(every)?;
        }
    }
}

/// Lets us, and what we start, hold as many open files as the machine allows, up to a bound.
///
/// # Errors
/// The limit cannot be set.
pub(crate) fn raise_open_files() -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = OPEN_FILES.min(maximum.unwrap_or(OPEN_FILES));
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
            .context("cannot raise the limit of open files")?;
    }
    Ok(())
}

/// How long a process may take to end by itself.
const PATIENCE_WITH_AN_END: Duration = Duration::from_secs(40);

const OPEN_FILES: u64 = 65_536;
