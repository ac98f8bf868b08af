//! `posthouse list-cluster`

use clap::Args;
use serde::Serialize;

use super::{
    ask::Ask,
    nodes::{readiness, state},
};
use crate::{
    api::{NodesReport, Readiness, Role, StatusReport, Wanted},
    failure::Failure,
    output::{self, Align, Form, Table},
};

/// Show the nodes of the cluster that this one is of, a line each
///
/// A manager knows all of them, a worker itself and its manager. `posthouse nodes list` on the manager shows more.
#[derive(Debug, Args)]
pub(super) struct ListCluster {
    #[command(flatten)]
    ask: Ask,
}

/// A node in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Line {
    name: String,
    role: Role,
    state: String,
    /// Why it is in this state, if that is known here; in a table below it, because it may be long.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Where it takes mail in, as far as is known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

impl ListCluster {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.ask.run(async |client| {
            let status = client.status().await?;
            let lines = match status.role {
                Role::Manager => of_manager(&client.nodes().await?),
                Role::Standalone | Role::Worker => of_one(&status),
            };
            Ok(match self.ask.form() {
                Form::Json => output::json(&lines),
                Form::Text => text(&lines),
            })
        })
    }
}

fn address(doors: &[String]) -> Option<String> {
    (!doors.is_empty()).then(|| doors.join(", "))
}

/// Why a node takes no mail in.
fn not_ready(readiness: &Readiness) -> Option<String> {
    match readiness {
        Readiness::Ready => None,
        Readiness::NotReady(why) => Some(why.clone()),
    }
}

/// What a manager knows.
fn of_manager(report: &NodesReport) -> Vec<Line> {
    let manager = Line {
        name: report.manager.name.clone(),
        role: Role::Manager,
        state: readiness(&report.manager.readiness).into(),
        why: not_ready(&report.manager.readiness),
        address: address(&report.manager.doors),
    };
    let workers = report.nodes.iter().map(|node| Line {
        name: node.name.clone(),
        role: Role::Worker,
        state: state(node),
        why: None,
        address: address(&node.doors),
    });
    [manager].into_iter().chain(workers).collect()
}

/// What a node knows of itself, and a worker of its manager.
fn of_one(status: &StatusReport) -> Vec<Line> {
    let worker = status.worker.as_ref();
    let away = worker.and_then(|worker| worker.away.clone());
    let told = worker.and_then(|worker| worker.told);
    let own_state = match (told, &away) {
        (Some(Wanted::Removed), _) => "removed",
        (Some(Wanted::Quarantined), _) => "quarantined",
        (_, Some(_)) => "away",
        (_, None) => readiness(&status.readiness),
    };
    let own = Line {
        name: status.name.clone(),
        role: status.role,
        state: own_state.into(),
        why: away.or_else(|| not_ready(&status.readiness)),
        address: worker.and_then(|worker| address(&worker.doors)),
    };
    let manager = worker.map(|worker| Line {
        name: if worker.manager.is_empty() { "?".into() } else { worker.manager.clone() },
        role: Role::Manager,
        state: if worker.away.is_none() { "active" } else { "away" }.into(),
        why: None,
        address: None,
    });
    manager.into_iter().chain([own]).collect()
}

fn text(lines: &[Line]) -> String {
    let mut table = Table::new([Align::Left, Align::Left, Align::Left, Align::Left]);
    table.header(["NAME", "ROLE", "STATE", "ADDRESS"]);
    for line in lines {
        let role = match line.role {
            Role::Standalone => "standalone",
            Role::Manager => "manager",
            Role::Worker => "worker",
        };
        let address = line.address.clone().unwrap_or_else(|| "-".into());
        table.row([line.name.clone(), role.into(), line.state.clone(), address]);
    }
    let mut text = table.text();
    for Line { name, state, why, .. } in lines {
        if let Some(why) = why.as_ref().filter(|why| !why.is_empty()) {
            text += &format!("\n{name} is {state}: {}\n", why.replace(char::is_control, "?"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, role: Role, state: &str, address: Option<&str>) -> Line {
        Line { name: name.into(), role, state: state.into(), why: None, address: address.map(Into::into) }
    }

    #[test]
    fn each_node_has_a_line() {
        let lines = [
            line("mx1", Role::Manager, "active", Some("192.0.2.1:25")),
            line("mx2", Role::Worker, "draining (12 works left)", Some("192.0.2.2:25")),
            line("?", Role::Manager, "away", None),
            Line { why: Some("its link\nbroke".into()), ..line("mx3", Role::Worker, "away", None) },
        ];
        let shown = "\
            NAME  ROLE     STATE                     ADDRESS\n\
            mx1   manager  active                    192.0.2.1:25\n\
            mx2   worker   draining (12 works left)  192.0.2.2:25\n\
            ?     manager  away                      -\n\
            mx3   worker   away                      -\n\
            \n\
            mx3 is away: its link?broke\n";
        assert_eq!(text(&lines), shown);
    }
}
