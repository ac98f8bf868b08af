//! How a command ends: an exit code, and where it failed one plain line and a hint.

use std::{fmt, io::Write, process::ExitCode};

use crate::{config::ConfigError, control::ClientError};

/// The exit codes of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// The world did not allow it: no node runs, a port is taken, a disk is full.
    World = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The configuration is wrong.
    Configuration = 3,
    /// We have made a mistake (`EX_SOFTWARE` of sysexits.h).
    Bug = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    error: String,
    hint: Option<String>,
}

impl Failure {
    /// The world did not allow it.
    pub fn world(error: impl fmt::Display) -> Self {
        Self { exit: Exit::World, error: error.to_string(), hint: None }
    }

    /// The command line is wrong in a way that its grammar cannot tell.
    pub fn usage(error: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, error: error.to_string(), hint: None }
    }

    /// The configuration is wrong.
    pub fn configuration(error: impl fmt::Display) -> Self {
        Self { exit: Exit::Configuration, error: error.to_string(), hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What is wrong, without what to do about it.
    #[must_use]
    pub fn error(&self) -> &str {
        &self.error
    }

    /// What to do about it.
    #[must_use]
    pub fn what_to_do(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The code that the process ends with.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    /// The two lines as they are printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.error)?;
        self.hint.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let failure = Self::configuration(&error);
        match error {
            ConfigError::UnknownKey { meant: None, .. } => {
                failure.hint("docs/CONFIGURATION.md lists the keys")
            }
            _ => failure,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let failure = Self::world(&error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::world(error)
    }
}

/// Makes every panic, on whatever thread, end the process with [`Exit::Bug`] and a plain word.
pub fn exit_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("something that cannot be, was");
        let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
        // A closed standard error must not become a panic in the hook.
        let _ = writeln!(
            std::io::stderr(),
            "error: this is our bug: {what}{}\nhint: nothing that was accepted is lost; please report this line \
             with the version `posthouse --version` prints, and start again",
            place.unwrap_or_default()
        );
        end(Exit::Bug);
    }));
}

#[expect(clippy::disallowed_methods, reason = "after a panic no state can be trusted to be dropped in order")]
fn end(exit: Exit) -> ! {
    std::process::exit(i32::from(exit as u8))
}
