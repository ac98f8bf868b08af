//! A program that runs beside a test: what it has said so far, and how to interrupt it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    process,
    tools::{self, Ran},
    wait::{locked, until},
};

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
}

/// Runs the program that its arguments name at a new terminal, to which goes what comes in, and back.
const AT_TERMINAL: &str = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/// What was read of a stream, line by line.
#[derive(Debug)]
struct Lines {
    read: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let read = Arc::new(Mutex::new(String::new()));
        let writer = read.clone();
        let reader = thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                *locked(&writer) += &(line + "\n");
            }
        });
        Self { read, reader: Some(reader) }
    }

    fn line_with(&self, part: &str) -> Option<String> {
        locked(&self.read).lines().find(|line| line.contains(part)).map(str::to_owned)
    }

    /// All of it, once the stream has ended.
    fn whole(&mut self) -> String {
        self.reader.take().into_iter().for_each(|reader| reader.join().expect("it only reads"));
        std::mem::take(&mut *locked(&self.read))
    }
}

impl Program {
    /// Starts it, without standard input.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        Self::run(command.stdin(Stdio::null()))
    }

    /// Starts it at a terminal of its own, as if a person sat before it; both of its streams come as one.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn at_terminal(command: &Command) -> Self {
        let mut terminal = tools::system("python3");
        terminal.args(["-c", AT_TERMINAL]).arg(command.get_program()).args(command.get_args());
        terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::run(terminal.stdin(Stdio::piped()))
    }

    fn run(command: &mut Command) -> Self {
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the program starts");
        let stdin = child.stdin.take();
        let stdout = Lines::of(child.stdout.take().expect("it is piped"));
        let stderr = Lines::of(child.stderr.take().expect("it is piped"));
        Self { child, stdin, stdout, stderr }
    }

    /// Types something at its terminal.
    ///
    /// # Panics
    /// If it has none, or has ended.
    pub fn types(&mut self, text: &str) {
        let terminal = self.stdin.as_mut().expect("it was started at one");
        terminal.write_all(text.as_bytes()).expect("it is read");
    }

    /// Waits for a whole line with this in it, on either stream, and returns it.
    ///
    /// # Panics
    /// If it does not come.
    #[must_use]
    pub fn said(&self, part: &str) -> String {
        until(&format!("{part:?} from the program"), || {
            self.stdout.line_with(part).or_else(|| self.stderr.line_with(part))
        })
    }

    /// Interrupts it, as Ctrl-C does.
    ///
    /// # Panics
    /// If it is not there any more.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Tells it that its terminal is closed.
    ///
    /// # Panics
    /// If it is not there any more.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a child has an id"), signal).expect("it is our child");
    }

    /// Waits for its end, and returns what it did.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn ended(mut self) -> Ran {
        let code = process::ended(&mut self.child, "the program").code();
        Ran { code, stdout: self.stdout.whole(), stderr: self.stderr.whole() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already, by itself or by the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
