//! The real program as a process: started, asked, killed, started again.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    Setup, process,
    tools::{self, Ran},
    wait::{PATIENCE, locked, pass, settled, until},
};

/// What a node says when it is there, and what a worker says.
const RUNNING: [&str; 2] = ["the node is running", "the worker is running"];

/// A running node; killed when dropped.
#[derive(Debug)]
pub struct Node {
    setup: Setup,
    running: Running,
}

#[derive(Debug)]
struct Running {
    child: Child,
    lines: Arc<Lines>,
    smtp: SocketAddr,
    console: SocketAddr,
}

/// What the process has written to standard error so far.
#[derive(Debug, Default)]
struct Lines {
    written: Mutex<Written>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

impl Running {
    /// Starts the program; what it did if it ended before it ran.
    fn start(setup: &Setup) -> Result<Self, Ran> {
        let mut command = setup.command();
        command.arg("--json").stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let lines = Arc::new(Lines::default());
        let (stderr, writer) = (child.stderr.take().expect("it is piped"), lines.clone());
        thread::spawn(move || writer.read(stderr));
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        // From here on the process ends with the value, whatever it has to say.
        let mut running = Self { child, lines, smtp: unknown, console: unknown };
        let Some(line) = running.lines.wait_for_one(&RUNNING) else {
            let code = process::ended(&mut running.child, "the node").code();
            return Err(Ran { code, stdout: String::new(), stderr: running.lines.all() });
        };
        let line: Value = serde_json::from_str(&line).expect("each line is an object");
        let address = |field: &str| {
            let text = line[field].as_str().unwrap_or_default().trim_matches(['[', ']']);
            text.parse().unwrap_or_else(|_| panic!("no address in {field} of {line}"))
        };
        (running.smtp, running.console) = (address("smtp"), address("console"));
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, by itself or by the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let written = locked(&self.lines.written);
            let from = written.lines.len().saturating_sub(SHOWN);
            eprintln!("the node's last lines:\n{}", written.lines[from..].join("\n"));
        }
    }
}

/// Lines of the node that a failed test shows.
const SHOWN: usize = 40;

impl Lines {
    fn read(&self, from: ChildStderr) {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            locked(&self.written).lines.push(line);
            self.more.notify_all();
        }
        locked(&self.written).ended = true;
        self.more.notify_all();
    }

    /// The first line with this part; nothing if the process ends without it.
    fn wait_for(&self, part: &str) -> Option<String> {
        self.wait_for_one(&[part])
    }

    /// The first line with one of these parts; nothing if the process ends without it.
    fn wait_for_one(&self, parts: &[&str]) -> Option<String> {
        let has_one = |line: &&String| parts.iter().any(|part| line.contains(part));
        let found = |written: &Written| written.lines.iter().find(has_one).cloned();
        let missing = |written: &mut Written| found(written).is_none() && !written.ended;
        let waited = self.more.wait_timeout_while(locked(&self.written), PATIENCE, missing);
        let (written, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let said = found(&written);
        assert!(
            said.is_some() || written.ended,
            "{parts:?} was not said within {PATIENCE:?}: {:?}",
            written.lines
        );
        said
    }

    fn all(&self) -> String {
        locked(&self.written).lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

impl Node {
    /// Starts it; what it did if it does not come to run.
    pub(crate) fn start(setup: Setup) -> Result<Self, Ran> {
        let running = Running::start(&setup)?;
        Ok(Self { setup, running })
    }

    /// Where it takes mail.
    #[must_use]
    pub fn smtp(&self) -> SocketAddr {
        self.running.smtp
    }

    /// Where it answers health checks and metrics.
    #[must_use]
    pub fn console(&self) -> SocketAddr {
        self.running.console
    }

    /// The number of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.running.child.id()
    }

    /// How it was set up.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Kills it as `kill -9` does. Returns when it still lived.
    ///
    /// # Panics
    /// If it is not there any more.
    pub fn kill(&mut self) -> Instant {
        let lives = self.running.child.try_wait().is_ok_and(|status| status.is_none());
        assert!(lives, "the node has ended by itself");
        let at = Instant::now();
        self.running.child.kill().expect("it is our child");
        self.running.child.wait().expect("it is our child");
        at
    }

    /// Starts it again on the same data, on other ports; it must have ended.
    ///
    /// # Panics
    /// If it does not come to run.
    pub fn restart(&mut self) {
        self.try_restart().unwrap_or_else(|ran| panic!("no node: {ran:?}"));
    }

    /// Starts it again on the same data, on other ports; it must have ended.
    ///
    /// # Errors
    /// What it did if it does not come to run.
    pub fn try_restart(&mut self) -> Result<(), Ran> {
        self.running = Running::start(&self.setup)?;
        Ok(())
    }

    /// Starts a manager again on the same data, on other ports and alone; it must have ended.
    ///
    /// # Panics
    /// If it does not come to run.
    pub fn restart_alone(&mut self) {
        self.setup.leave_out("--link");
        self.setup.set("--role", "standalone");
        self.restart();
    }

    /// Starts it again on the same data, and kills it after so long, wherever it stands by then. Returns when
    /// it still lived.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn restart_and_kill(&mut self, after: Duration) -> Instant {
        let mut command = self.setup.command();
        let mut child =
            command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
        pass(after);
        let at = Instant::now();
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
        at
    }

    /// Asks it to stop, as systemd does.
    ///
    /// # Panics
    /// If it is not there any more.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Has it read its configuration again.
    ///
    /// # Panics
    /// If it is not there any more.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Its memory in bytes (proc(5)).
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("it is a number") << 10
    }

    /// Has it stand still, as a machine does whose memory is full; it does when this returns.
    ///
    /// # Panics
    /// If it is not there any more.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let threads = PathBuf::from(format!("/proc/{}/task", self.running.child.id()));
        until("all its threads stand still", || {
            let mut threads = fs::read_dir(&threads).ok()?.flatten();
            threads.all(|thread| is_stopped(&thread.path()).unwrap_or(true)).then_some(())
        });
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If it is not there any more.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.running.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a child has an id"), signal).expect("it is our child");
    }

    /// Whether it is still there.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.running.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn ended(&mut self) -> ExitStatus {
        process::ended(&mut self.running.child, "the node")
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Panics
    /// If it does not end, or not well.
    pub fn stop(&mut self) {
        self.terminate();
        let status = self.ended();
        assert!(status.success(), "the node ended with {status}");
    }

    /// Waits for a line on its standard error, and returns it.
    ///
    /// # Panics
    /// If it does not come.
    pub fn said(&self, part: &str) -> String {
        self.running.lines.wait_for(part).unwrap_or_else(|| panic!("the node ended without {part:?}"))
    }

    /// The lines on its standard error so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        locked(&self.running.lines.written).lines.clone()
    }

    /// A field of a line on its standard error that has this part.
    ///
    /// # Panics
    /// If the line does not come, or has no such text.
    #[must_use]
    pub fn said_in(&self, part: &str, field: &str) -> String {
        let line: Value = serde_json::from_str(&self.said(part)).expect("each line is an object");
        line[field].as_str().unwrap_or_else(|| panic!("no {field} in {line}")).to_owned()
    }

    /// Runs a command against it, such as `mail queue`.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Ran {
        self.command_with(arguments, b"")
    }

    /// Runs a command against it, with standard input.
    #[must_use]
    pub fn command_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = Command::new(self.setup.program());
        tools::run(command.args(arguments).arg("--data-dir").arg(self.setup.data_dir()), input)
    }

    /// What a command with `--json` prints: an object or a list.
    ///
    /// # Panics
    /// If it fails, or prints something else.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.command(&[arguments, &["--json"]].concat()).done();
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {printed}"))
    }

    /// The whole message log, the oldest record first.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        let printed = self.command(&["mail", "log", "--json", "--limit", "100000"]).done();
        printed.lines().map(|line| serde_json::from_str(line).expect("each line is an object")).collect()
    }

    /// Waits until `posthouse status` shows this number.
    ///
    /// # Panics
    /// If it does not.
    pub fn counts(&self, field: &str, number: u64) {
        until(&format!("{number} {field}"), || (self.json(&["status"])[field] == number).then_some(()));
    }

    /// Waits until every recipient has come to an end and the message log says so; returns that.
    ///
    /// # Panics
    /// If some have not.
    #[must_use]
    pub fn quiet(&self) -> Vec<Value> {
        settled("an empty queue and a log that knows it", || {
            let status = self.json(&["status"]);
            if status["queued"] != 0 || status["records"]["behind"] != 0 {
                return Err(status.to_string());
            }
            let log = self.log();
            let accepted = log.iter().filter(|record| record["what"] == "accepted").count();
            let ends = log.iter().filter(|record| is_end(record)).count();
            // More ends than recipients are for the test to find. What was accepted before this start
            // is in the log only.
            let known = status["accepted"].as_u64() <= u64::try_from(accepted).ok();
            if known && ends >= accepted {
                return Ok(log);
            }
            Err(format!("{accepted} accepted and {ends} ended in the log; {status}"))
        })
    }

    /// The records of what happened to a recipient, the oldest first, once there are so many.
    ///
    /// # Panics
    /// If they do not come.
    #[must_use]
    pub fn records_of(&self, recipient: &str, count: usize) -> Vec<Value> {
        until(&format!("{count} records of {recipient}"), || {
            let mut records = self.log();
            records.retain(|record| record["recipient"] == recipient);
            (records.len() >= count).then_some(records)
        })
    }

    /// What an address of the console answers: the whole reply, with its head.
    ///
    /// # Panics
    /// If there is no answer.
    #[must_use]
    pub fn get(&self, path: &str) -> String {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect(self.console()).expect("the console listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("the console reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the console answers");
        answer
    }
}

/// Whether a record says how a recipient ended.
#[must_use]
pub fn is_end(record: &Value) -> bool {
    record["what"].as_str().is_some_and(|what| !["accepted", "deferred", "refused"].contains(&what))
}

/// A text field of a record.
///
/// # Panics
/// If it has none.
#[must_use]
pub fn word<'r>(record: &'r Value, field: &str) -> &'r str {
    record[field].as_str().unwrap_or_else(|| panic!("{field} is no text in {record}"))
}

/// A number field of a record.
///
/// # Panics
/// If it has none.
#[must_use]
pub fn number(record: &Value, field: &str) -> u64 {
    record[field].as_u64().unwrap_or_else(|| panic!("{field} is no number in {record}"))
}

/// Whether a thread is stopped by a signal: proc_pid_stat(5), the state stands behind the name's bracket. Nothing once it has ended.
fn is_stopped(thread: &Path) -> Option<bool> {
    let stat = fs::read_to_string(thread.join("stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.trim_start().starts_with('T'))
}
