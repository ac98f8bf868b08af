//! What operators do and ask about the nodes of a cluster, at its manager, and what a worker was told of itself.

use std::time::Duration;

use cluster::{
    identity::{PublicKey, PublicKeyError},
    manager::{AddError, Manager, NodeReport, StateError},
    membership::Liveness,
    tls::NotAdmitted,
    worker::Link,
};
use store::settings::NodeState;

use super::View;
use crate::{
    api::{
        AddNodeRequest, ApiError, ChangedNode, ErrorKind, ManagerEntry, NodeAction, NodeEntry, NodesReport,
        Presence, TakeoverAnswer, Wanted, unknown_node,
    },
    config::AfterLoss,
    control::NodeView,
};

impl View {
    pub(super) async fn all_nodes(&self) -> Result<NodesReport, ApiError> {
        let manager = self.manager()?;
        let config = self.reload_state().config().await;
        let doors = self.reload_state().doors().await;
        let held: usize = self.queue.boots().into_iter().map(|(_, held)| held).sum();
        Ok(NodesReport {
            manager: ManagerEntry {
                name: config.name.as_str().to_owned(),
                node_id: self.id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                readiness: self.readiness(),
                pin: manager.pin().to_string(),
                link: config.cluster.listen.to_string(),
                ehlo: config.smtp.hostname.as_str().to_owned(),
                doors: doors.iter().map(ToString::to_string).collect(),
                // What is leased and not to another node is here.
                works: self.queue.stats().leased.saturating_sub(held) as u64,
            },
            frozen_seconds: manager.frozen_for().map(whole_seconds),
            nodes: manager.nodes().into_iter().map(entry).collect(),
        })
    }

    pub(super) async fn register_node(&self, request: AddNodeRequest) -> Result<NodeEntry, ApiError> {
        let manager = self.manager()?.clone();
        let key: PublicKey = request
            .key
            .parse()
            .map_err(|error: PublicKeyError| ApiError::new(ErrorKind::Invalid, error.to_string()))?;
        let name = request.name.as_str().to_owned();
        blocking(move || {
            manager.add_key(&name, &key).map_err(cannot_add)?;
            find(&manager, &name)
        })
        .await
    }

    pub(super) async fn change_registered(
        &self,
        name: &str,
        action: NodeAction,
        why: String,
    ) -> Result<ChangedNode, ApiError> {
        let manager = self.manager()?.clone();
        if self.is_own_name(name) {
            let error = format!("{name} is the manager itself: `nodes {}` is for its workers", action.word());
            return Err(ApiError::new(ErrorKind::Refused, error).hint(
                "cluster.attempts = \"workers\" lets it attempt nothing; `mail pause` lets mail wait",
            ));
        }
        let timing = self.reload_state().config().await.cluster;
        let name = name.to_owned();
        blocking(move || {
            let node = find(&manager, &name)?;
            let state = match action {
                NodeAction::Cordon => NodeState::Cordoned,
                NodeAction::Drain => NodeState::Draining,
                NodeAction::Resume => NodeState::Active,
                NodeAction::Remove => NodeState::Removed,
            };
            if !manager.set_state(&node.name, state, &why).map_err(cannot_change)? {
                return Err(unknown(&manager, &name));
            }
            tracing::info!(node = node.name, wish = action.word(), why, "something else is wanted of a node");
            if action != NodeAction::Remove {
                let node = find(&manager, &name)?;
                return Ok(ChangedNode { node, elsewhere_seconds: None, after_loss_seconds: None });
            }
            // The registry does not show it any more: this is how it was, but for what is wanted of it.
            let node = NodeEntry { wanted: Wanted::Removed, why: String::new(), linked: false, ..node };
            let holds = node.held > 0;
            let heard = Duration::from_secs(node.heard_seconds.unwrap_or(0));
            let elsewhere = whole_seconds(timing.gone.0.saturating_sub(heard));
            Ok(ChangedNode {
                node,
                elsewhere_seconds: holds.then_some(elsewhere),
                after_loss_seconds: match timing.after_loss {
                    AfterLoss::Resend(time) => holds.then_some(time.0.as_secs()),
                    AfterLoss::Wait => None,
                },
            })
        })
        .await
    }

    pub(super) fn end_freeze(&self) -> Result<TakeoverAnswer, ApiError> {
        Ok(TakeoverAnswer { was_frozen: self.manager()?.takeover() })
    }

    fn manager(&self) -> Result<&Manager, ApiError> {
        self.cluster().ok_or_else(|| {
            ApiError::new(ErrorKind::Refused, "this node is not a manager")
                .hint("start it with `posthouse up --role manager` to have other nodes work for it")
        })
    }

    fn is_own_name(&self, name: &str) -> bool {
        self.gateway.config().node.eq_ignore_ascii_case(name)
    }
}

/// Does what waits for the disk, on a thread that may.
async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let answer = tokio::task::spawn_blocking(ask).await;
    answer.unwrap_or_else(|_| Err(ApiError::new(ErrorKind::Failed, "the node is stopping")))
}

fn find(manager: &Manager, name: &str) -> Result<NodeEntry, ApiError> {
    let mut nodes = manager.nodes().into_iter();
    let node = nodes.find(|node| node.name.eq_ignore_ascii_case(name));
    node.map(entry).ok_or_else(|| unknown(manager, name))
}

fn unknown(manager: &Manager, name: &str) -> ApiError {
    unknown_node(name, manager.nodes().iter().map(|node| node.name.as_str()))
}

fn cannot_change(error: StateError) -> ApiError {
    let text = error.to_string();
    match error {
        StateError::Quarantined(name) => ApiError::new(ErrorKind::Refused, text).hint(format!(
            "once the copy has stopped, `posthouse nodes resume {name}` lets the node in again"
        )),
        StateError::Store(_) => ApiError::new(ErrorKind::Failed, text),
    }
}

fn cannot_add(error: AddError) -> ApiError {
    let text = error.to_string();
    match error {
        AddError::OwnName(_) => {
            ApiError::new(ErrorKind::Refused, text).hint("choose another name for the node")
        }
        AddError::OwnKey => ApiError::new(ErrorKind::Refused, text).hint(
            "run `posthouse identity show --key` on the machine of the worker, and give what it prints",
        ),
        AddError::KeyKnown(name) => ApiError::new(ErrorKind::Refused, text)
            .hint(format!("to give it another name, `posthouse nodes remove {name}` first")),
        AddError::NameTaken { name, .. } => ApiError::new(ErrorKind::Refused, text).hint(format!(
            "choose another name; or, if that node is no more, `posthouse nodes remove {name}` first"
        )),
        AddError::Store(store::Error::TooMuch(_)) => ApiError::new(ErrorKind::Refused, text),
        AddError::Store(_) => ApiError::new(ErrorKind::Failed, text),
    }
}

/// What a worker without a link was told that its manager has made of it.
pub(super) fn told(link: &Link) -> Option<Wanted> {
    let Link::Refused { told, .. } = link else { return None };
    match (*told)? {
        NotAdmitted::Unknown => None,
        NotAdmitted::Removed => Some(Wanted::Removed),
        NotAdmitted::Quarantined => Some(Wanted::Quarantined),
    }
}

fn entry(node: NodeReport) -> NodeEntry {
    NodeEntry {
        key: node.key.to_string(),
        fingerprint: node.key.fingerprint(),
        wanted: match node.state {
            NodeState::Active => Wanted::Active,
            NodeState::Cordoned => Wanted::Cordoned,
            NodeState::Draining => Wanted::Draining,
            NodeState::Quarantined => Wanted::Quarantined,
            NodeState::Removed => Wanted::Removed,
        },
        presence: match node.liveness {
            None if node.seen.is_none() => Presence::Never,
            None => Presence::Away,
            Some(Liveness::Expected) => Presence::Expected,
            Some(Liveness::Alive) => Presence::Alive,
            Some(Liveness::Suspect { .. }) => Presence::Suspect,
            Some(Liveness::Gone { .. }) => Presence::Gone,
            Some(Liveness::Returning { .. }) => Presence::Returning,
        },
        // Silence of what is only expected counts from the manager's start, at which nobody was heard.
        heard_seconds: node
            .heard
            .filter(|_| node.liveness != Some(Liveness::Expected))
            .map(|heard| heard.as_secs()),
        name: node.name,
        why: node.why,
        linked: node.linked,
        added: node.added.into(),
        connected: node.seen.map(Into::into),
        version: node.version,
        ehlo: node.ehlo,
        doors: node.doors,
        works: node.works.into(),
        bytes: node.bytes,
        held: node.held as u64,
        brought: node.brought,
        granted: node.granted,
    }
}

/// Whole seconds, rounded up: what is still to wait is never said to be nothing.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
