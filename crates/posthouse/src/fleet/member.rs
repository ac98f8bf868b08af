//! A node of a fleet, as a process that is started, killed, frozen and started again, and ended in any case.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io,
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use super::FleetError;
use crate::{api::Readiness, control::Client};

/// A node of a fleet. Its process ends with the value.
#[derive(Debug)]
pub(crate) struct Member {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    /// What it writes to standard error.
    lines: PathBuf,
    data: PathBuf,
    door: SocketAddr,
    client: Client,
    process: Mutex<Process>,
}

#[derive(Debug)]
enum Process {
    /// It was not started, or was ended on purpose.
    Down,
    /// It was started.
    Up(Child),
    /// It was asked to stop.
    Stopping(Child),
    /// It is ended for good.
    Over,
}

/// How long a node may take to run and to be linked.
const START: Duration = Duration::from_secs(30);
/// How long it may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(20);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How often it is looked whether it does.
const GLANCE: Duration = Duration::from_millis(20);

impl Member {
    pub(super) fn new(
        name: String,
        program: PathBuf,
        arguments: Vec<OsString>,
        folder: &Path,
        data: PathBuf,
        door: SocketAddr,
    ) -> Self {
        let (lines, client) = (folder.join("stderr"), Client::new(&data));
        let process = Mutex::new(Process::Down);
        Self { name, program, arguments, lines, data, door, client, process }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its data directory.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data
    }

    /// Where it takes mail in.
    pub(crate) fn door(&self) -> SocketAddr {
        self.door
    }

    /// Asks it.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether it was ended on purpose and not started again.
    pub(crate) fn is_down(&self) -> bool {
        !matches!(*self.process.lock(), Process::Up(_))
    }

    /// Starts its process. In a group of its own: Ctrl-C is for the command, which ends its nodes when it is through with them.
    ///
    /// # Errors
    /// The system refuses, or it has been ended for good.
    pub(crate) fn start(&self) -> Result<(), FleetError> {
        let mut process = self.process.lock();
        if let Process::Over = *process {
            return Err(FleetError::Over);
        }
        let lines = OpenOptions::new().create(true).append(true).open(&self.lines)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(lines);
        *process = Process::Up(command.process_group(0).spawn()?);
        Ok(())
    }

    /// Waits until it answers and takes mail in; a worker is linked to its manager by then.
    ///
    /// # Errors
    /// It has ended, or does not come so far in time.
    pub(crate) async fn runs(&self) -> Result<(), FleetError> {
        let until = Instant::now() + START;
        loop {
            self.check()?;
            if let Ok(Ok(status)) = tokio::time::timeout(ANSWER, self.client.status()).await
                && status.readiness == Readiness::Ready
            {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(FleetError::Silent { name: self.name.clone(), words: self.last_words() });
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Whether it is as it was left.
    ///
    /// # Errors
    /// It has ended by itself.
    pub(crate) fn check(&self) -> Result<(), FleetError> {
        let mut process = self.process.lock();
        match &mut *process {
            Process::Up(child) => match child.try_wait()? {
                Some(status) => Err(FleetError::Ended {
                    name: self.name.clone(),
                    status: status.to_string(),
                    words: self.last_words(),
                }),
                None => Ok(()),
            },
            Process::Down | Process::Stopping(_) | Process::Over => Ok(()),
        }
    }

    /// Kills it, as `kill -9` does.
    ///
    /// # Errors
    /// It has ended by itself before.
    pub(crate) fn kill(&self) -> Result<(), FleetError> {
        self.check()?;
        if let Process::Up(child) = &mut *self.process.lock() {
            reap(child)?;
        }
        self.left(Process::Down);
        Ok(())
    }

    /// Lets it stand still, as a machine does whose memory is full.
    ///
    /// # Errors
    /// It has ended by itself.
    pub(crate) fn freeze(&self) -> Result<(), FleetError> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It has ended by itself.
    pub(crate) fn thaw(&self) -> Result<(), FleetError> {
        self.signal(Signal::CONT)
    }

    /// Asks it to stop, as systemd does, and waits until it has; one that does not is killed.
    ///
    /// # Errors
    /// It has ended by itself before.
    pub(crate) async fn terminate(&self) -> Result<(), FleetError> {
        self.signal(Signal::TERM)?;
        {
            let mut process = self.process.lock();
            *process = match std::mem::replace(&mut *process, Process::Down) {
                Process::Up(child) => Process::Stopping(child),
                other => other,
            };
        }
        let until = Instant::now() + STOP;
        loop {
            if let Process::Stopping(child) = &mut *self.process.lock() {
                if Instant::now() > until {
                    reap(child)?;
                }
                if child.try_wait()?.is_some() {
                    break;
                }
            } else {
                break;
            }
            tokio::time::sleep(GLANCE).await;
        }
        self.left(Process::Down);
        Ok(())
    }

    /// Ends it for good, whatever it does.
    pub(super) fn end(&self) {
        if let Process::Up(child) | Process::Stopping(child) = &mut *self.process.lock() {
            // It may have ended by itself.
            let _ = reap(child);
        }
        self.left(Process::Over);
    }

    fn signal(&self, signal: Signal) -> Result<(), FleetError> {
        self.check()?;
        if let Process::Up(child) = &*self.process.lock()
            && let Some(id) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        {
            kill_process(id, signal).map_err(io::Error::from)?;
        }
        Ok(())
    }

    /// Its process has ended; what is over stays so.
    fn left(&self, state: Process) {
        let mut process = self.process.lock();
        if !matches!(*process, Process::Over) {
            *process = state;
        }
    }

    /// The last line that it wrote.
    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.lines).unwrap_or_default();
        let last = text.lines().rfind(|line| !line.trim().is_empty());
        last.unwrap_or("it has said nothing").to_owned()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end();
    }
}

/// Kills a process and waits for its end, which then comes at once.
fn reap(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}
