//! `posthouse nodes drain`

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use base::HostName;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use queue::Reason;

use crate::{
    api::{ChangeNodeRequest, NodeAction, NodeEntry, Presence, QueueQuery, Wanted},
    commands::{ask::Ask, plain},
    control::Client,
    failure::Failure,
    output::{self, Form},
};

/// Let a node finish what it has and give it nothing more, so that it can be stopped
///
/// Its `/readyz` says no from now on, so that a load balancer brings it no more mail. At a terminal this waits until nothing is
/// left; Ctrl-C ends the wait, and the node goes on draining. `posthouse nodes resume` takes it back. Ends with 1 if the node was
/// lost with what it had.
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
            let maybe = maybe_done(&client, &node).await?;
            match form {
                Form::Json => Ok(output::json(&node)),
                Form::Text => text(&node, maybe),
            }
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
        bar.set_message(silence(&node));
        tokio::time::sleep(LOOK).await;
        let nodes = client.nodes().await?.nodes;
        let still = nodes.into_iter().find(|other| other.key == node.key);
        node = still.unwrap_or(NodeEntry { wanted: Wanted::Removed, ..node });
    }
    bar.finish_and_clear();
    Ok(node)
}

/// How many works a node that has nothing left may have delivered before it, or a former process of it, was lost with them.
async fn maybe_done(client: &Client, node: &NodeEntry) -> Result<u64, Failure> {
    if node.left() > 0 {
        return Ok(0);
    }
    let reason = Some(Reason::PossiblyDone.word().to_owned());
    let query = QueueQuery { works: Some(u32::MAX), reason, ..QueueQuery::default() };
    let works = client.queue(&query).await?.works;
    Ok(works.iter().filter(|work| work.lost_by.as_deref() == Some(&node.name)).count() as u64)
}

/// What became of it; a failure if the node is gone, since nobody knows what it did with what it had.
fn text(node: &NodeEntry, maybe: u64) -> Result<String, Failure> {
    let name = &node.name;
    let maybe = match maybe {
        0 => String::new(),
        works => format!("{} may have been delivered by it", output::count(works, "work")),
    };
    let see = format!("`posthouse mail queue --reason {}` shows which", Reason::PossiblyDone.word());
    let silent = output::duration(Duration::from_secs(node.heard_seconds.unwrap_or(0)));
    Ok(match node.wanted {
        Wanted::Draining if node.left() == 0 && node.presence == Presence::Gone => {
            let lost = format!(
                "{name} is lost and not drained: it has been silent for {silent}, and what it had goes elsewhere"
            );
            return Err(match maybe.is_empty() {
                true => Failure::world(lost),
                false => Failure::world(format!("{lost}; {maybe}")).hint(see),
            });
        }
        Wanted::Draining if node.left() == 0 => {
            let drained = format!("{name} is drained: it has nothing left, and can be stopped.\n");
            match maybe.is_empty() {
                true => drained,
                false => format!("{drained}{maybe} before it started anew: {see}.\n"),
            }
        }
        Wanted::Draining => format!(
            "{name} is draining: {} left{}. `posthouse nodes show {name}` tells how far it is.\n",
            output::count(node.left(), "work"),
            silence(node)
        ),
        Wanted::Removed => format!("{name} was removed meanwhile.\n"),
        Wanted::Active | Wanted::Cordoned | Wanted::Quarantined => {
            format!("{name} is no longer drained: somebody wants something else of it.\n")
        }
    })
}

/// What stands beside the bar: nothing, as long as the node is heard.
fn silence(node: &NodeEntry) -> String {
    let silent = output::duration(Duration::from_secs(node.heard_seconds.unwrap_or(0)));
    match node.presence {
        Presence::Suspect => format!("; it has been silent for {silent}"),
        Presence::Gone => format!("; it is gone: silent for {silent}"),
        Presence::Expected => "; it has not been heard since the manager's start".into(),
        Presence::Never | Presence::Away | Presence::Alive | Presence::Returning => String::new(),
    }
}

fn bar(works: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} works finished{msg}");
    ProgressBar::new(works).with_style(style.expect("it names what a bar has"))
}

#[cfg(test)]
mod tests {
    use super::{super::state::example, *};

    #[test]
    fn a_drained_node_can_be_stopped_and_one_with_works_cannot_yet() {
        let node = |wanted, held| NodeEntry { wanted, held, ..example("mx2") };
        let done = |node: &NodeEntry, maybe| text(node, maybe).expect("it is there");
        let said = done(&node(Wanted::Draining, 0), 0);
        assert_eq!(said, "mx2 is drained: it has nothing left, and can be stopped.\n");
        let said = done(&node(Wanted::Draining, 0), 1);
        let anew = "\n1 work may have been delivered by it before it started anew: `posthouse mail queue --reason possibly-done` ";
        assert!(said.contains(anew), "{said}");
        let left = done(&node(Wanted::Draining, 12), 0);
        assert!(left.starts_with("mx2 is draining: 12 works left. "), "{left}");
        assert!(done(&node(Wanted::Active, 12), 0).contains("no longer drained"));
    }

    #[test]
    fn a_node_that_is_lost_is_not_drained() {
        let node = |presence, held| NodeEntry {
            wanted: Wanted::Draining,
            presence,
            held,
            heard_seconds: Some(17),
            ..example("mx2")
        };
        let left = text(&node(Presence::Suspect, 1), 0).expect("it may come back");
        assert!(left.starts_with("mx2 is draining: 1 work left; it has been silent for 17s. "), "{left}");
        let lost = "mx2 is lost and not drained: it has been silent for 17s, and what it had goes elsewhere";
        let failure = text(&node(Presence::Gone, 0), 0).expect_err("it is gone");
        assert_eq!((failure.error(), failure.what_to_do()), (lost, None));
        let failure = text(&node(Presence::Gone, 0), 1).expect_err("it is gone");
        assert_eq!(failure.error(), format!("{lost}; 1 work may have been delivered by it"));
        assert_eq!(failure.what_to_do(), Some("`posthouse mail queue --reason possibly-done` shows which"));
    }
}
