//! `posthouse nodes resume`

use base::HostName;
use clap::Args;

use super::state::state;
use crate::{
    api::{ChangeNodeRequest, NodeAction, NodeEntry},
    commands::ask::Ask,
    failure::Failure,
    output::{self, Form},
};

/// Give a node works again that was cordoned or drained, or let one in again that was quarantined
#[derive(Debug, Args)]
pub(in crate::commands) struct Resume {
    /// The node's name
    #[arg(value_name = "NAME")]
    name: HostName,
    #[command(flatten)]
    ask: Ask,
}

impl Resume {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        self.ask.run(async |client| {
            let node =
                client.change_node(&self.name, NodeAction::Resume, &ChangeNodeRequest::default()).await?.node;
            Ok(match self.ask.form() {
                Form::Json => output::json(&node),
                Form::Text => text(&node),
            })
        })
    }
}

fn text(node: &NodeEntry) -> String {
    match state(node) {
        active if active == "active" => format!("{} is given works again.\n", node.name),
        state => format!("{} may be given works again; for now it is: {state}.\n", node.name),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::state::example, *};
    use crate::api::Presence;

    #[test]
    fn what_keeps_a_node_from_works_is_said() {
        assert_eq!(text(&example("mx2")), "mx2 is given works again.\n");
        let unseen = NodeEntry { presence: Presence::Never, ..example("mx2") };
        assert_eq!(text(&unseen), "mx2 may be given works again; for now it is: never seen.\n");
    }
}
