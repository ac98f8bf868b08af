//! Steps of a chore: a line each, with the time it took.

use std::{
    io::{BufRead, BufReader, IsTerminal, Read},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::place;

/// How a step ended, in a word or two for its line.
pub(crate) type Note = String;

/// Runs one step and prints its line.
///
/// # Errors
/// What the step failed with.
pub(crate) fn step(name: &str, work: impl FnOnce() -> Result<Note>) -> Result<()> {
    let start = Instant::now();
    let outcome = work();
    let note = match &outcome {
        Ok(note) => note.clone(),
        Err(error) => format!("FAILED: {error:#}"),
    };
    eprintln!("xtask {name:<7} {:>6.1} s  {note}", start.elapsed().as_secs_f64());
    outcome.map(drop)
}

/// `program` with `arguments`, to be run in the root of the checkout.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(place::root()).stdin(Stdio::null());
    command
}

/// Runs a command whose output goes where ours goes.
///
/// # Errors
/// It cannot be run, or it says that it failed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", show(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", show(command));
    }
    Ok(())
}

/// Runs a command and returns what it wrote to standard output; its errors go where ours go.
///
/// # Errors
/// It cannot be run, or it says that it failed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {}", show(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", show(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a command can be run and says that all is well; its output is dropped.
pub(crate) fn works(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Which of its two outputs a command reports on.
#[derive(Clone, Copy)]
pub(crate) enum Report {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Runs a command, passes its report on line by line, and shows each line to `read`.
///
/// # Errors
/// It cannot be run, or it says that it failed.
pub(crate) fn run_reading(command: &mut Command, report: Report, mut read: impl FnMut(&str)) -> Result<()> {
    match report {
        Report::Out => command.stdout(Stdio::piped()),
        Report::Err => command.stderr(Stdio::piped()),
    };
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.spawn().with_context(|| format!("cannot run {}", show(command)))?;
    let stdout = child.stdout.take().map(|out| Box::new(out) as Box<dyn Read>);
    let stderr = child.stderr.take().map(|err| Box::new(err) as Box<dyn Read>);
    let lines = BufReader::new(stdout.or(stderr).expect("one of the two was piped just now")).lines();
    for line in lines.map_while(Result::ok) {
        eprintln!("{line}");
        read(&line);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} failed ({status})", show(command));
    }
    Ok(())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
