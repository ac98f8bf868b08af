//! What all commands share that ask a running node.

use std::{future::Future, path::PathBuf};

use clap::Args;

use super::plain;
use crate::{
    config::{DataDirError, default_data_dir},
    control::Client,
    failure::Failure,
    output::{self, Form},
};

/// Which node to ask, and how to show its answer.
#[derive(Debug, Args)]
pub(super) struct Ask {
    /// The data directory of the node; without it, the directory that `up` takes by default
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Ask {
    /// How to show the answer.
    pub(super) fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }

    /// The node to ask.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let data_dir = self.data_dir.clone().map_or_else(default_data_dir, Ok)?;
        Ok(Client::new(&data_dir))
    }

    /// Asks the node what `question` asks, and prints what it makes of the answer.
    pub(super) fn run<Q, F>(&self, question: Q) -> Result<(), Failure>
    where
        Q: FnOnce(Client) -> F,
        F: Future<Output = Result<String, Failure>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(question(self.client()?))?;
        Ok(output::print(&self.printed(answer))?)
    }

    /// The answer as it is printed. JSON has a form for control characters of its own.
    fn printed(&self, answer: String) -> String {
        match self.form() {
            Form::Json => answer,
            Form::Text => plain(&answer),
        }
    }
}

impl From<DataDirError> for Failure {
    fn from(error: DataDirError) -> Self {
        Self::configuration(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_said_does_not_command_the_terminal() {
        let said = "message from \u{1b}]0;\u{7}a\r\u{9b}2J@example.com\nis queued\n";
        let people = Ask { data_dir: None, json: false };
        assert_eq!(people.printed(said.into()), "message from ?]0;?a??2J@example.com\nis queued\n");
        let programs = Ask { data_dir: None, json: true };
        assert_eq!(programs.printed("{}\n".into()), "{}\n");
    }
}
