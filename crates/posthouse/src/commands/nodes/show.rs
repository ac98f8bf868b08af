//! `posthouse nodes show`

use base::{ByteSize, HostName};
use clap::Args;

use super::state::{heard, or_none, readiness, state};
use crate::{
    api::{ManagerEntry, Moment, NodeEntry, NodesReport, Readiness, unknown_node},
    commands::ask::Ask,
    control::ClientError,
    failure::Failure,
    output::{self, Align, Form, Table},
};

/// Show all there is to know of a node
#[derive(Debug, Args)]
pub(in crate::commands) struct Show {
    /// The node's name
    #[arg(value_name = "NAME")]
    name: HostName,
    #[command(flatten)]
    ask: Ask,
}

impl Show {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        self.ask.run(async |client| {
            let NodesReport { manager, nodes, .. } = client.nodes().await?;
            let is_meant = |name: &str| name.eq_ignore_ascii_case(self.name.as_str());
            if is_meant(&manager.name) {
                return Ok(match self.ask.form() {
                    Form::Json => output::json(&manager),
                    Form::Text => of_manager(&manager),
                });
            }
            let Some(node) = nodes.iter().find(|node| is_meant(&node.name)) else {
                let known = nodes.iter().map(|node| node.name.as_str()).chain([manager.name.as_str()]);
                return Err(ClientError::Refused(unknown_node(self.name.as_str(), known)).into());
            };
            Ok(match self.ask.form() {
                Form::Json => output::json(node),
                Form::Text => text(node),
            })
        })
    }
}

fn of_manager(manager: &ManagerEntry) -> String {
    let state = match &manager.readiness {
        Readiness::Ready => readiness(&manager.readiness).to_owned(),
        Readiness::NotReady(why) => format!("{}: {why}", readiness(&manager.readiness)),
    };
    rows([
        ("name", manager.name.clone()),
        ("role", "manager".into()),
        ("state", state),
        ("node id", manager.node_id.to_string()),
        ("pin", manager.pin.clone()),
        ("link", manager.link.clone()),
        ("version", manager.version.clone()),
        ("EHLO name", manager.ehlo.clone()),
        ("doors", or_none(&manager.doors.join(", "))),
        ("works", manager.works.to_string()),
    ])
}

fn text(node: &NodeEntry) -> String {
    let time = |at: Moment| format!("{} UTC", output::time(at));
    let works = match node.works {
        0 => "0".to_owned(),
        works => format!("{works} of {}", ByteSize::kib(node.bytes.div_ceil(1 << 10))),
    };
    rows([
        ("name", node.name.clone()),
        ("role", "worker".into()),
        ("state", state(node)),
        ("why", node.why.clone()),
        ("key", node.key.clone()),
        ("fingerprint", node.fingerprint.clone()),
        ("added", time(node.added)),
        ("connected", node.connected.map_or_else(|| "never".into(), time)),
        ("heard", heard(node)),
        ("link", if node.linked { "up" } else { "none" }.into()),
        ("version", or_none(&node.version)),
        ("EHLO name", or_none(&node.ehlo)),
        ("doors", or_none(&node.doors.join(", "))),
        ("works", works),
        ("holds", output::count(node.held, "work")),
        ("brought", since_start(node.brought, "message")),
        ("was given", since_start(node.granted, "work")),
    ])
}

fn since_start(count: u64, what: &str) -> String {
    format!("{} since the manager's start", output::count(count, what))
}

/// A line each, but for those that have nothing to say.
fn rows<const N: usize>(rows: [(&str, String); N]) -> String {
    let mut table = Table::new([Align::Left, Align::Left]);
    for (label, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        table.row([label.to_owned(), value]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::{super::state::example, *};
    use crate::api::Wanted;

    #[test]
    fn a_node_is_shown_whole() {
        let node =
            NodeEntry { wanted: Wanted::Draining, works: 12, bytes: 70_000, held: 13, ..example("mx2") };
        let shown = "\
            name         mx2\n\
            role         worker\n\
            state        draining (13 works left)\n\
            key          ssh-ed25519 AAAA\n\
            fingerprint  SHA256:abc\n\
            added        2026-11-18 11:06:40 UTC\n\
            connected    2026-11-18 11:07:40 UTC\n\
            heard        1s ago\n\
            link         up\n\
            version      0.1.0\n\
            EHLO name    mx2.example.com\n\
            doors        192.0.2.2:25, [2001:db8::2]:25\n\
            works        12 of 69KiB\n\
            holds        13 works\n\
            brought      4100 messages since the manager's start\n\
            was given    3900 works since the manager's start\n";
        assert_eq!(text(&node), shown);
        let why = "two processes have its key".to_owned();
        let shown = text(&NodeEntry { wanted: Wanted::Quarantined, why, ..node });
        assert!(shown.contains("\nwhy          two processes have its key\n"), "{shown}");
    }
}
