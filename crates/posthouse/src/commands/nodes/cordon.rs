//! `posthouse nodes cordon`

use base::HostName;
use clap::Args;

use crate::{
    api::{ChangeNodeRequest, NodeAction},
    commands::ask::Ask,
    failure::Failure,
    output::{self, Form},
};

/// Give a node no more works; it finishes what it has, and takes mail in as before
#[derive(Debug, Args)]
pub(in crate::commands) struct Cordon {
    /// The node's name
    #[arg(value_name = "NAME")]
    name: HostName,
    /// Why, for those who come later
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
    #[command(flatten)]
    ask: Ask,
}

impl Cordon {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        self.ask.run(async |client| {
            let request = ChangeNodeRequest { why: self.why };
            let node = client.change_node(&self.name, NodeAction::Cordon, &request).await?.node;
            Ok(match self.ask.form() {
                Form::Json => output::json(&node),
                Form::Text => format!(
                    "{0} is given no more works, until `posthouse nodes resume {0}`; it has {1} now.\n",
                    node.name,
                    output::count(node.left(), "work")
                ),
            })
        })
    }
}
