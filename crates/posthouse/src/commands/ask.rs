//! What all commands share that ask a running node.

use std::{future::Future, path::PathBuf};

use clap::Args;

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

    /// Asks the node what `question` asks, and prints what it makes of the answer.
    pub(super) fn run<Q, F>(&self, question: Q) -> Result<(), Failure>
    where
        Q: FnOnce(Client) -> F,
        F: Future<Output = Result<String, Failure>>,
    {
        let data_dir = self.data_dir.clone().map_or_else(default_data_dir, Ok)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(question(Client::new(&data_dir)))?;
        Ok(output::print(&answer)?)
    }
}

impl From<DataDirError> for Failure {
    fn from(error: DataDirError) -> Self {
        Self::configuration(error)
    }
}
