//! `posthouse nodes drain`

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use base::HostName;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    api::{ChangeNodeRequest, NodeAction, NodeEntry, Wanted},
    commands::{ask::Ask, plain},
    control::Client,
    failure::Failure,
    output::{self, Form},
};

/// Let a node finish what it has and give it nothing more, so that it can be stopped
///
/// Its `/readyz` says no from now on, so that a load balancer brings it no more mail. At a terminal this waits until nothing is
/// left; Ctrl-C ends the wait, and the node goes on draining. `posthouse nodes resume` takes it back.
#[derive(Debug, Args)]
pub(in crate::commands) struct Drain {
    /// The node's name
    #[arg(value_name = "NAME")]
    name: HostName,
    /// Why, for those who come later
    #[arg(long, value_name = "TEXT", default_value = "")]
    why: String,
    /// Do not wait
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    ask: Ask,
}

/// How often it is looked what is left.
const LOOK: Duration = Duration::from_millis(500);

impl Drain {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        let form = self.ask.form();
        let waits = !self.no_wait && form == Form::Text && io::stderr().is_terminal();
        self.ask.run(async |client| {
            let request = ChangeNodeRequest { why: self.why };
            let node = client.change_node(&self.name, NodeAction::Drain, &request).await?.node;
            let node = if waits && node.left() > 0 { wait(&client, node).await? } else { node };
            Ok(match form {
                Form::Json => output::json(&node),
                Form::Text => text(&node),
            })
        })
    }
}

/// Waits until a node has nothing left, or is no more drained.
async fn wait(client: &Client, mut node: NodeEntry) -> Result<NodeEntry, Failure> {
    let line = plain(&format!("{} is draining. Ctrl-C ends the wait; it goes on draining.", node.name));
    writeln!(io::stderr(), "{line}")?;
    let bar = bar(node.left());
    while node.left() > 0 && node.wanted == Wanted::Draining {
        // What it was given just before may come to light only now.
        let length = bar.length().unwrap_or(0).max(node.left());
        bar.set_length(length);
        bar.set_position(length - node.left());
        tokio::time::sleep(LOOK).await;
        let nodes = client.nodes().await?.nodes;
        let still = nodes.into_iter().find(|other| other.key == node.key);
        node = still.unwrap_or(NodeEntry { wanted: Wanted::Removed, ..node });
    }
    bar.finish_and_clear();
    Ok(node)
}

fn text(node: &NodeEntry) -> String {
    let name = &node.name;
    match node.wanted {
        Wanted::Draining if node.left() == 0 => {
            format!("{name} is drained: it has nothing left, and can be stopped.\n")
        }
        Wanted::Draining => format!(
            "{name} is draining: {} left. `posthouse nodes show {name}` tells how far it is.\n",
            output::count(node.left(), "work")
        ),
        Wanted::Removed => format!("{name} was removed meanwhile.\n"),
        Wanted::Active | Wanted::Cordoned | Wanted::Quarantined => {
            format!("{name} is no longer drained: somebody wants something else of it.\n")
        }
    }
}

fn bar(works: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} works finished");
    ProgressBar::new(works).with_style(style.expect("it names what a bar has"))
}

#[cfg(test)]
mod tests {
    use super::{super::state::example, *};

    #[test]
    fn a_drained_node_can_be_stopped_and_one_with_works_cannot_yet() {
        let node = |wanted, held| NodeEntry { wanted, held, ..example("mx2") };
        let done = text(&node(Wanted::Draining, 0));
        assert_eq!(done, "mx2 is drained: it has nothing left, and can be stopped.\n");
        let left = text(&node(Wanted::Draining, 12));
        assert!(left.starts_with("mx2 is draining: 12 works left."), "{left}");
        assert!(text(&node(Wanted::Active, 12)).contains("no longer drained"));
    }
}
