//! `posthouse nodes remove`

use std::time::Duration;

use base::HostName;
use clap::Args;

use crate::{
    api::{ChangeNodeRequest, ChangedNode, NodeAction},
    commands::ask::Ask,
    failure::Failure,
    output::{self, Form},
};

/// Let a node in no more; what it still has goes elsewhere once it is gone
///
/// `posthouse nodes drain` first lets it finish. It comes back with `posthouse nodes add-key`.
#[derive(Debug, Args)]
pub(in crate::commands) struct Remove {
    /// The node's name
    #[arg(value_name = "NAME")]
    name: HostName,
    #[command(flatten)]
    ask: Ask,
}

impl Remove {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        self.ask.run(async |client| {
            let changed =
                client.change_node(&self.name, NodeAction::Remove, &ChangeNodeRequest::default()).await?;
            Ok(match self.ask.form() {
                Form::Json => output::json(&changed),
                Form::Text => text(&changed),
            })
        })
    }
}

fn text(changed: &ChangedNode) -> String {
    let ChangedNode { node, elsewhere_seconds, after_loss_seconds } = changed;
    let mut text = format!("{} is removed and let in no more.\n", node.name);
    if let Some(seconds) = elsewhere_seconds {
        let time = |seconds: u64| output::duration(Duration::from_secs(seconds));
        text += &format!(
            "It still holds {}: they go elsewhere in {}, unless takeover is frozen",
            output::count(node.held, "work"),
            time(*seconds)
        );
        text += &match after_loss_seconds {
            Some(seconds @ 1..) => {
                format!("; what it may have delivered waits for {} more.\n", time(*seconds))
            }
            Some(0) => ".\n".to_owned(),
            None => "; what it may have delivered waits for `posthouse mail retry`.\n".to_owned(),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{super::state::example, *};
    use crate::api::NodeEntry;

    #[test]
    fn what_a_removed_node_still_holds_is_said() {
        let node = NodeEntry { held: 12, ..example("mx2") };
        let mut changed = ChangedNode { node, elsewhere_seconds: Some(14), after_loss_seconds: Some(900) };
        assert_eq!(
            text(&changed),
            "mx2 is removed and let in no more.\n\
             It still holds 12 works: they go elsewhere in 14s, unless takeover is frozen; what it may have delivered \
             waits for 15m more.\n"
        );
        changed.after_loss_seconds = Some(0);
        assert!(text(&changed).ends_with("unless takeover is frozen.\n"));
        changed.after_loss_seconds = None;
        assert!(text(&changed).ends_with("waits for `posthouse mail retry`.\n"));
        changed.elsewhere_seconds = None;
        assert_eq!(text(&changed), "mx2 is removed and let in no more.\n");
    }
}
