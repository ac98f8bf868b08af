//! Programs of others: where they are, and how to run them.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::process;

/// What a program of others did.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ran {
    /// What it wrote to standard output, if it did what it was asked.
    ///
    /// # Panics
    /// If its exit code is not 0.
    #[must_use]
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a program, with `input` as its standard input.
///
/// # Panics
/// If it cannot be run or does not end in time.
#[must_use]
pub fn run(command: &mut Command, input: &[u8]) -> Ran {
    let output = process::run(command, input);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A program that `cargo xtask test` sets up below `target/foreign`, such as `swaks`.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn foreign(name: &str) -> Command {
    let path = folder().join("bin").join(name);
    assert!(path.exists(), "{name} is missing: run cargo xtask test --only tools");
    Command::new(path)
}

/// Where `cargo xtask test` sets up programs of others.
pub(crate) fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    env::var_os("POSTHOUSE_FOREIGN").map_or(root.join("target/foreign"), PathBuf::from)
}

/// A program of the system, such as `curl`.
///
/// # Panics
/// If it is not in `PATH`.
#[must_use]
pub fn system(name: &str) -> Command {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
    let found = found.unwrap_or_else(|| panic!("{name} is missing: run cargo xtask test --only tools"));
    Command::new(found)
}

/// The library of faketime, which is to be loaded before others.
///
/// # Panics
/// If it is not there.
pub(crate) fn faketime() -> PathBuf {
    let path = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", env::consts::ARCH);
    assert!(Path::new(&path).exists(), "faketime is missing: run cargo xtask test --only tools");
    path.into()
}

/// Runs a script in Python, with arguments and standard input; returns what it printed.
///
/// # Panics
/// If it fails.
#[must_use]
pub fn python(script: &str, arguments: &[&str], input: &[u8]) -> String {
    run(system("python3").args(["-c", script]).args(arguments), input).done()
}
