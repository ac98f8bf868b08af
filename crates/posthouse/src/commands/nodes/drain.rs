//! `posthouse nodes drain`

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use base::HostName;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use queue::Reason;
use serde::Serialize;

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
/// left; Ctrl-C ends the wait, and the node goes on draining. `posthouse nodes resume` takes it back. Ends with 1 if the node is
/// gone and was seen to have something until then, or may have delivered what it was lost with.
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

/// What became of it.
#[derive(Debug, Serialize)]
struct Drained {
    #[serde(flatten)]
    node: NodeEntry,
    outcome: Outcome,
    /// Works that it, or a former process of it, may have delivered before it was lost with them.
    possibly_done: u64,
}

/// How a drain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    /// It has something left.
    Draining,
    /// It has nothing left, and may be gone by now.
    Drained,
    /// It is gone, and had something.
    Lost,
    /// Somebody wants something else of it.
    CalledOff,
    /// Somebody has removed it.
    Removed,
}

/// What a node was seen to have just before it had nothing left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Had {
    /// Nothing, or it was not waited for.
    Nothing,
    Works,
}

impl Drain {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        let form = self.ask.form();
        let waits = !self.no_wait && form == Form::Text && io::stderr().is_terminal();
        self.ask.run(async |client| {
            let request = ChangeNodeRequest { why: self.why };
            let node = client.change_node(&self.name, NodeAction::Drain, &request).await?.node;
            let (node, had) = match waits && node.left() > 0 {
                true => (wait(&client, node).await?, Had::Works),
                false => (node, Had::Nothing),
            };
            let possibly_done = possibly_done(&client, &node.name).await?;
            let drained = Drained::new(node, had, possibly_done);
            match (form, drained.loss()) {
                (Form::Json, None) => Ok(output::json(&drained)),
                (Form::Json, Some(loss)) => {
                    output::print(&output::json(&drained))?;
                    Err(loss)
                }
                (Form::Text, None) => Ok(drained.text()),
                (Form::Text, Some(loss)) => Err(loss),
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

/// How many works a node may have delivered before it, or a former process of it, was lost with them.
async fn possibly_done(client: &Client, name: &str) -> Result<u64, Failure> {
    let reason = Some(Reason::PossiblyDone.word().to_owned());
    let report = client.queue(&QueueQuery { reason, ..QueueQuery::default() }).await?;
    Ok(report.possibly_done_by.get(name).copied().unwrap_or(0))
}

impl Drained {
    fn new(node: NodeEntry, had: Had, possibly_done: u64) -> Self {
        let outcome = match node.wanted {
            Wanted::Draining if node.left() > 0 => Outcome::Draining,
            // What was seen until the end was taken back from it: had it been finished, the wait had been over before.
            Wanted::Draining
                if node.presence == Presence::Gone && (had == Had::Works || possibly_done > 0) =>
            {
                Outcome::Lost
            }
            Wanted::Draining => Outcome::Drained,
            Wanted::Removed => Outcome::Removed,
            Wanted::Active | Wanted::Cordoned | Wanted::Quarantined => Outcome::CalledOff,
        };
        Self { node, outcome, possibly_done }
    }

    /// That it is lost, if it is: nobody knows what it did with what it had.
    fn loss(&self) -> Option<Failure> {
        if self.outcome != Outcome::Lost {
            return None;
        }
        let (name, silent) = (&self.node.name, silent(&self.node));
        let lost = format!(
            "{name} is lost and not drained: it has been silent for {silent}, and what it had goes elsewhere"
        );
        Some(match self.maybe() {
            None => Failure::world(lost),
            Some(maybe) => Failure::world(format!("{lost}; {maybe}")).hint(see()),
        })
    }

    fn text(&self) -> String {
        let (name, left) = (&self.node.name, self.node.left());
        match self.outcome {
            Outcome::Draining => format!(
                "{name} is draining: {} left{}. `posthouse nodes show {name}` tells how far it is.\n",
                output::count(left, "work"),
                silence(&self.node)
            ),
            Outcome::Drained | Outcome::Lost => {
                let so = match self.node.presence {
                    Presence::Gone => format!("is gone: silent for {}", silent(&self.node)),
                    _ => "can be stopped".to_owned(),
                };
                let maybe = self.maybe();
                let maybe = maybe.map(|maybe| format!("{maybe} when it was lost: {}.\n", see()));
                format!("{name} is drained: it has nothing left, and {so}.\n{}", maybe.unwrap_or_default())
            }
            Outcome::Removed => format!("{name} was removed meanwhile.\n"),
            Outcome::CalledOff => {
                format!("{name} is no longer drained: somebody wants something else of it.\n")
            }
        }
    }

    fn maybe(&self) -> Option<String> {
        let works = Some(self.possibly_done).filter(|works| *works > 0)?;
        Some(format!("{} may have been delivered by it", output::count(works, "work")))
    }
}

fn see() -> String {
    format!("`posthouse mail queue --reason {}` shows which", Reason::PossiblyDone.word())
}

fn silent(node: &NodeEntry) -> String {
    output::duration(Duration::from_secs(node.heard_seconds.unwrap_or(0)))
}

/// What stands beside the bar: nothing, as long as the node is heard.
fn silence(node: &NodeEntry) -> String {
    match node.presence {
        Presence::Suspect => format!("; it has been silent for {}", silent(node)),
        Presence::Gone => format!("; it is gone: silent for {}", silent(node)),
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
        let said = |wanted, held, possibly_done| {
            let node = NodeEntry { wanted, held, ..example("mx2") };
            let drained = Drained::new(node, Had::Works, possibly_done);
            assert_eq!(drained.loss(), None, "it is there");
            drained.text()
        };
        let drained = "mx2 is drained: it has nothing left, and can be stopped.\n";
        assert_eq!(said(Wanted::Draining, 0, 0), drained);
        let maybe = "1 work may have been delivered by it when it was lost: `posthouse mail queue --reason \
                     possibly-done` shows which.\n";
        assert_eq!(said(Wanted::Draining, 0, 1), format!("{drained}{maybe}"));
        let left = said(Wanted::Draining, 12, 0);
        assert!(left.starts_with("mx2 is draining: 12 works left. "), "{left}");
        assert!(said(Wanted::Active, 12, 0).contains("no longer drained"));
    }

    fn silent_node(presence: Presence, held: u64) -> NodeEntry {
        NodeEntry { wanted: Wanted::Draining, presence, held, heard_seconds: Some(17), ..example("mx2") }
    }

    #[test]
    fn a_node_that_is_gone_is_lost_if_it_had_something_and_drained_if_it_had_not() {
        let left = Drained::new(silent_node(Presence::Suspect, 1), Had::Nothing, 0);
        assert_eq!((left.outcome, left.loss()), (Outcome::Draining, None), "it may come back");
        let said = left.text();
        assert!(said.starts_with("mx2 is draining: 1 work left; it has been silent for 17s. "), "{said}");
        let gone = |had, possibly_done| Drained::new(silent_node(Presence::Gone, 0), had, possibly_done);
        let drained = gone(Had::Nothing, 0);
        assert_eq!((drained.outcome, drained.loss()), (Outcome::Drained, None));
        assert_eq!(drained.text(), "mx2 is drained: it has nothing left, and is gone: silent for 17s.\n");
        let lost = "mx2 is lost and not drained: it has been silent for 17s, and what it had goes elsewhere";
        let failure = gone(Had::Works, 0).loss().expect("it is gone");
        assert_eq!((failure.error(), failure.what_to_do()), (lost, None));
        for had in [Had::Nothing, Had::Works] {
            let failure = gone(had, 1).loss().expect("it is gone");
            assert_eq!(failure.error(), format!("{lost}; 1 work may have been delivered by it"));
            assert_eq!(
                failure.what_to_do(),
                Some("`posthouse mail queue --reason possibly-done` shows which")
            );
        }
    }

    #[test]
    fn programs_are_told_how_it_stands_and_what_may_have_been_delivered() {
        for (presence, held, possibly_done, outcome) in [
            (Presence::Alive, 2, 0, "draining"),
            (Presence::Alive, 0, 1, "drained"),
            (Presence::Gone, 0, 0, "drained"),
            (Presence::Gone, 0, 20_000, "lost"),
        ] {
            let drained = Drained::new(silent_node(presence, held), Had::Nothing, possibly_done);
            let said: serde_json::Value = serde_json::from_str(&output::json(&drained)).expect("it is JSON");
            assert_eq!((&said["name"], &said["outcome"]), (&"mx2".into(), &outcome.into()), "{said}");
            assert_eq!(said["possibly_done"], possibly_done, "{said}");
        }
    }
}
