//! `[log]`: what the node writes to standard error.

use serde::{Deserialize, Serialize};

/// How much is written, and in which form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Log {
    /// The least important lines to write.
    pub level: LogLevel,
    /// Lines for people or for programs.
    pub format: LogFormat,
}

/// How important a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// What needs an operator now.
    Error,
    /// What may need one soon.
    Warn,
    /// What an operator may want to know.
    #[default]
    Info,
    /// What explains a decision.
    Debug,
    /// Everything.
    Trace,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
