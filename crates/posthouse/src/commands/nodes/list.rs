//! `posthouse nodes list`

use std::time::Duration;

use clap::Args;

use super::state::{heard, or_none, readiness, state};
use crate::{
    api::{NodeEntry, NodesReport, Wanted},
    commands::ask::Ask,
    failure::Failure,
    output::{self, Align, Form, Table},
};

/// Show the manager and its nodes: who is there, what is wanted of them, what they have
#[derive(Debug, Args)]
pub(in crate::commands) struct List {
    #[command(flatten)]
    ask: Ask,
}

impl List {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        self.ask.run(async |client| {
            let report = client.nodes().await?;
            Ok(match self.ask.form() {
                Form::Json => output::json(&report),
                Form::Text => text(&report),
            })
        })
    }
}

fn text(report: &NodesReport) -> String {
    let NodesReport { manager, frozen_seconds, nodes } = report;
    let left = Align::Left;
    let mut table = Table::new([left, left, left, Align::Right, Align::Right, left, left]);
    table.header(["NAME", "ROLE", "STATE", "HEARD", "WORKS", "VERSION", "DOORS"]);
    table.row([
        manager.name.clone(),
        "manager".into(),
        readiness(&manager.readiness).into(),
        "-".into(),
        manager.works.to_string(),
        manager.version.clone(),
        or_none(&manager.doors.join(", ")),
    ]);
    for node in nodes {
        table.row([
            node.name.clone(),
            "worker".into(),
            wish(node),
            heard(node),
            node.left().to_string(),
            or_none(&node.version),
            or_none(&node.doors.join(", ")),
        ]);
    }
    let mut text = table.text();
    if let Some(seconds) = frozen_seconds {
        text += &format!(
            "\nMany nodes fell silent together, probably because of our own network: for {} more nothing is taken back \
             from them.\n`posthouse nodes takeover` ends that.\n",
            output::duration(Duration::from_secs(*seconds))
        );
    }
    for node in nodes.iter().filter(|node| node.wanted == Wanted::Quarantined) {
        text += &format!(
            "\n{0} is quarantined: two processes have its key, and neither is let in. Stop the copy and give it a data directory of \
             its own;\nthen `posthouse nodes resume {0}`. Or `posthouse nodes remove {0}`, if it is to go.\n",
            node.name
        );
    }
    if nodes.is_empty() {
        text += &format!(
            "\nNo worker is registered. On the machine of one, `posthouse identity show --key` prints its key; then, here:\n  \
             posthouse nodes add-key KEY --name NAME\n\
             and there, with the address of this manager ({} is what it listens on):\n  \
             posthouse up --role worker --manager HOST:PORT --pin {}\n",
            manager.link, manager.pin
        );
    }
    text
}

/// How a node stands, with what the operator has said why.
fn wish(node: &NodeEntry) -> String {
    match node.wanted {
        Wanted::Cordoned | Wanted::Draining if !node.why.is_empty() => {
            format!("{}: {}", state(node), node.why)
        }
        _ => state(node),
    }
}

#[cfg(test)]
mod tests {
    use base::NodeId;

    use super::{super::state::example, *};
    use crate::api::{ManagerEntry, Presence, Readiness};

    fn report(nodes: Vec<NodeEntry>) -> NodesReport {
        let manager = ManagerEntry {
            name: "mx1".into(),
            node_id: NodeId::from_bytes([7; 16]),
            version: "0.1.0".into(),
            readiness: Readiness::Ready,
            pin: "sha256:00".into(),
            link: "192.0.2.1:7025".into(),
            ehlo: "mx1.example.com".into(),
            doors: vec!["192.0.2.1:25".into()],
            works: 7,
        };
        NodesReport { manager, frozen_seconds: None, nodes }
    }

    #[test]
    fn the_manager_comes_first_and_each_node_has_a_line() {
        let gone = NodeEntry { presence: Presence::Gone, heard_seconds: Some(127), ..example("mx3") };
        let unseen = NodeEntry {
            wanted: Wanted::Cordoned,
            presence: Presence::Never,
            heard_seconds: None,
            version: String::new(),
            doors: Vec::new(),
            ..example("mx4")
        };
        let why = "new disk".to_owned();
        let drained = NodeEntry { wanted: Wanted::Draining, why, ..example("mx5") };
        let mut report = report(vec![NodeEntry { works: 12, ..example("mx2") }, gone, unseen, drained]);
        let shown = "\
            NAME  ROLE     STATE                     HEARD  WORKS  VERSION  DOORS\n\
            mx1   manager  active                        -      7  0.1.0    192.0.2.1:25\n\
            mx2   worker   active                   1s ago     12  0.1.0    192.0.2.2:25, [2001:db8::2]:25\n\
            mx3   worker   gone 2m 7s            2m 7s ago      0  0.1.0    192.0.2.2:25, [2001:db8::2]:25\n\
            mx4   worker   cordoned, never seen          -      0  -        -\n\
            mx5   worker   drained: new disk        1s ago      0  0.1.0    192.0.2.2:25, [2001:db8::2]:25\n";
        assert_eq!(text(&report), shown);
        report.frozen_seconds = Some(45);
        let frozen = text(&report);
        assert!(frozen.contains("for 45s more") && frozen.contains("`posthouse nodes takeover`"), "{frozen}");
    }

    #[test]
    fn a_quarantined_node_says_what_to_do() {
        let node = NodeEntry { wanted: Wanted::Quarantined, ..example("mx2") };
        let shown = text(&report(vec![node, example("mx3")]));
        assert!(shown.contains("\nmx2 is quarantined: two processes have its key"), "{shown}");
        assert!(shown.contains("`posthouse nodes resume mx2`") && !shown.contains("resume mx3"), "{shown}");
    }

    #[test]
    fn an_empty_list_says_what_to_do() {
        let shown = text(&report(Vec::new()));
        assert_eq!(shown.lines().count(), 7, "{shown}");
        for part in
            ["identity show --key", "nodes add-key KEY --name NAME", "--pin sha256:00", "192.0.2.1:7025"]
        {
            assert!(shown.contains(part), "{shown}");
        }
    }
}
