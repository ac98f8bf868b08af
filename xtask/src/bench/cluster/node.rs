//! One node of a cluster as a process: started, watched by what it says, killed, started again.

use std::{
    fs,
    io::{BufRead, BufReader, PipeReader},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::super::{
    LOOK_EVERY, load,
    meter::Meter,
    posthouse,
    process::{Interrupt, Process, wait_for_end},
    server::Server,
};
use crate::{
    place,
    step::{command, output},
};

/// How a node is started.
#[derive(Clone)]
pub(super) struct Plan {
    /// The program.
    pub(super) program: PathBuf,
    /// What it is called.
    pub(super) name: String,
    /// Options of `posthouse up` beside those that each node has.
    pub(super) flags: Vec<String>,
    /// What stands in its file.
    pub(super) file: String,
    /// Where it takes mail in and answers health checks; zero: the system chooses.
    pub(super) ports: [u16; 2],
}

/// A running node. Ended, and its data removed, when dropped.
pub(super) struct Node {
    process: Process,
    meter: Meter,
    lines: Lines,
    plan: Plan,
    data: TempDir,
}

/// What a node has said so far, and when.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<Line>>>);

/// A line of a node.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// When it was read.
    pub(super) at: Instant,
    /// What it says.
    pub(super) text: String,
}

/// A folder for a node that was not started yet.
///
/// # Errors
/// It cannot be made.
pub(super) fn data(name: &str) -> Result<TempDir> {
    let prefix = format!("cluster-{name}-");
    tempfile::Builder::new().prefix(&prefix).tempdir_in(place::bench()).context("no folder for a node")
}

impl Node {
    /// Starts a node on its data, and does not wait for it.
    ///
    /// # Errors
    /// It cannot be run.
    pub(super) fn start(plan: Plan, data: TempDir) -> Result<Self> {
        let (meter, lines) = (Meter::new(&plan.name), Lines::default());
        let process = spawn(&plan, &data, &meter, &lines)?;
        Ok(Self { process, meter, lines, plan, data })
    }

    /// Waits until it takes mail in; a worker is linked by then.
    ///
    /// # Errors
    /// It has ended, or is not ready in good time.
    pub(super) fn wait_until_ready(&mut self, interrupt: &Interrupt) -> Result<()> {
        let what = format!("{} is ready", self.plan.name);
        interrupt.wait_for(&what, LOOK_EVERY, load::PATIENCE_WITH_A_START, || {
            self.process.expect_running()?;
            Ok(posthouse::is_ready(self.plan.ports[1]).then_some(()))
        })
    }

    /// Kills it as `kill -9` does; returns when.
    ///
    /// # Errors
    /// It has ended by itself.
    pub(super) fn kill(&mut self) -> Result<Instant> {
        self.process.expect_running()?;
        let at = Instant::now();
        kill_process(self.process.pid(), Signal::KILL)?;
        wait_for_end(self.process.pid(), load::PATIENCE_WITH_A_START);
        ensure!(self.process.ended()?.is_some(), "{} does not end", self.plan.name);
        Ok(at)
    }

    /// Starts it again after a kill, on the same data and ports; does not wait for it.
    ///
    /// # Errors
    /// It cannot be run.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.process = spawn(&self.plan, &self.data, &self.meter, &self.lines)?;
        Ok(())
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.plan.name
    }

    /// What it has said.
    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Waits for a line with this part that came after an instant.
    ///
    /// # Errors
    /// The node has ended, or does not say it in good time.
    pub(super) fn wait_for_line(
        &mut self,
        part: &str,
        after: Instant,
        interrupt: &Interrupt,
    ) -> Result<Line> {
        let what = format!("{} says {part:?}", self.plan.name);
        interrupt.wait_for(&what, LOOK_EVERY, load::PATIENCE_WITH_A_START, || {
            self.process.expect_running()?;
            Ok(self.lines.all(part).into_iter().find(|line| line.at >= after))
        })
    }

    /// What a command of the program prints about it.
    ///
    /// # Errors
    /// The command fails.
    pub(super) fn ask(&self, words: &[&str]) -> Result<String> {
        ask(&self.plan.program, &self.data, words)
    }

    /// What `posthouse status` says.
    ///
    /// # Errors
    /// It does not run.
    pub(super) fn status(&self) -> Result<Value> {
        serde_json::from_str(&self.ask(&["status", "--json"])?).context("`posthouse status` is not JSON")
    }
}

impl Server for Node {
    fn port(&self) -> u16 {
        self.plan.ports[0]
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn queue_is_empty(&self) -> Result<bool> {
        Ok(self.status()?["queued"].as_u64().context("`posthouse status` does not say what is queued")? == 0)
    }
}

impl Lines {
    fn read(&self, from: PipeReader, name: &str) {
        for text in BufReader::new(from).lines().map_while(Result::ok) {
            let at = Instant::now();
            if !text.contains(" INFO ") {
                eprintln!("xtask {name}: {text}");
            }
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Line { at, text });
        }
    }

    /// All lines with this part.
    pub(super) fn all(&self, part: &str) -> Vec<Line> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| line.text.contains(part)).cloned().collect()
    }
}

/// What a command of the program prints about a node with this data.
///
/// # Errors
/// The command fails.
pub(super) fn ask(program: &Path, data: &TempDir, words: &[&str]) -> Result<String> {
    let mut ask = command(&program.display().to_string(), words);
    Ok(output(ask.arg("--data-dir").arg(data_dir(data)))?.trim().to_owned())
}

fn spawn(plan: &Plan, data: &TempDir, meter: &Meter, lines: &Lines) -> Result<Process> {
    let file = data.path().join("posthouse.toml");
    fs::write(&file, &plan.file).context("cannot write a node's file")?;
    let mut up = meter.command(&plan.program);
    up.arg("up").arg("--config").arg(&file).arg("--data-dir").arg(data_dir(data));
    up.args(["--name", &plan.name]);
    for (flag, port) in ["--smtp", "--console"].iter().zip(plan.ports) {
        up.args([flag, &*format!("127.0.0.1:{port}")]);
    }
    up.args(&plan.flags);
    let (reader, writer) = std::io::pipe()?;
    up.stderr(writer);
    let process = Process::start("posthouse", up)?;
    let (lines, name) = (lines.clone(), plan.name.clone());
    thread::spawn(move || lines.read(reader, &name));
    Ok(process)
}

/// Beside the node's file.
fn data_dir(data: &TempDir) -> PathBuf {
    data.path().join("data")
}
