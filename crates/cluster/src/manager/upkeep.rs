//! What the manager does from time to time: judges silence, takes back what the lost have had, acknowledges what is synced, renews its
//! certificate.

use std::{ops::Range, sync::Arc, time::Duration};

use base::{Shutdown, Timestamp};
use queue::Boot;
use store::settings::NodeState;
use tokio::sync::mpsc;

use super::{
    Incarnations, Shared,
    member::{Give, Linked, Member},
    seen,
};
use crate::{
    authority, boot_time,
    membership::{Change, Thaw},
    wire::{self, manager_word},
};

/// Silence is judged this often at least: a tenth of the shortest heartbeat that makes sense.
const TICK: Duration = Duration::from_millis(50);
/// Most acknowledgements at once: all that come in the time of a sync, so that a node cannot say things faster than they are answered.
const AT_ONCE: usize = 1 << 20;
/// How often it is looked whether the manager's certificate must be renewed, and when it is tried again.
const CERTIFICATE: Duration = Duration::from_secs(1);
const RENEW_AGAIN: Duration = Duration::from_secs(600);

pub(super) fn start(
    shared: &Arc<Shared>,
    to_acknowledge: mpsc::UnboundedReceiver<(Arc<Member>, wire::Item)>,
    shutdown: &Shutdown,
) {
    tokio::spawn(tick(shared.clone(), shutdown.clone()));
    tokio::spawn(acknowledge(shared.clone(), to_acknowledge));
    // It was made just now.
    tokio::spawn(renew(shared.clone(), renewal(shared.clock.now()), shutdown.clone()));
    tokio::spawn(seen::note(shared.clone(), shutdown.clone()));
}

/// Whose process a boot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// What its node is called; empty if that is not known.
    pub(super) node: String,
    /// Why it is the process of its node no more, if it is not.
    pub(super) over: Option<&'static str>,
}

async fn tick(shared: Arc<Shared>, shutdown: Shutdown) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut room = shared.queue.room();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.stopping() => return,
        }
        let changes = shared.membership.lock().tick(boot_time::now());
        shared.changed(changes);
        let now = shared.queue.room();
        if std::mem::replace(&mut room, now) != now {
            shared.tell_all();
        }
    }
}

impl Shared {
    /// Does what follows from changes in membership.
    pub(super) fn changed(&self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Suspected(boot) => {
                    let Process { node, over } = self.process(boot);
                    // Nobody waits for a word of one that is over.
                    if over.is_none() {
                        tracing::warn!(node, %boot, "a node is silent: it is granted nothing more");
                    }
                }
                Change::Gone(boot) => self.take_back(boot),
                Change::Returned(boot) => {
                    tracing::info!(node = self.process(boot).node, %boot, "a node is back");
                    self.freed.notify_one();
                }
                Change::Frozen { until, lost } => tracing::error!(
                    lost,
                    seconds = until.since(boot_time::now()).as_secs(),
                    "many nodes fell silent together, probably because of our own network: nothing is taken back from them \
                     until some return; `posthouse nodes takeover` ends the wait"
                ),
                Change::Thawed(why) => {
                    let why = match why {
                        Thaw::Heard => "they are heard again",
                        Thaw::Over => "the time is over",
                        Thaw::Operator => "an operator says so",
                    };
                    tracing::warn!("silent nodes may be judged gone again: {why}");
                }
            }
        }
    }

    /// Whose process a boot is or was.
    pub(super) fn process(&self, boot: Boot) -> Process {
        let members = self.members.lock();
        let member = members.by_boot.get(&boot);
        let is_its = |of: &Incarnations| of.knows(boot);
        let key = member.map(|member| member.key);
        let key = key.or_else(|| members.nodes.iter().find(|(_, of)| is_its(of)).map(|(key, _)| *key));
        let Some(key) = key else {
            // It may have been here before this manager's start.
            let mut nodes = self.registry.all().into_iter().map(|(_, node)| node);
            let node = nodes.find(|node| node.boot == Some(boot.0.to_be_bytes()));
            return Process { node: node.map(|node| node.name).unwrap_or_default(), over: None };
        };
        let current = members.nodes.get(&key).and_then(|of| of.current);
        let node = self.registry.find(&key);
        let over = match node.as_ref().map(|node| node.state) {
            None | Some(NodeState::Removed) => Some("its node was removed"),
            Some(NodeState::Quarantined) => Some("its node is quarantined"),
            Some(_) if current.is_some_and(|current| current != boot) => Some("its node has started anew"),
            Some(_) => None,
        };
        let name = node.map(|node| node.name).or_else(|| Some(member?.name().to_string()));
        Process { node: name.unwrap_or_default(), over }
    }

    /// A node is gone: what it had goes to others, but what it had committed waits.
    fn take_back(&self, boot: Boot) {
        let held =
            self.queue.boots().into_iter().find(|(other, _)| *other == boot).map_or(0, |(_, held)| held);
        let Process { node, over } = self.process(boot);
        match (over, held) {
            (None, 0) if self.is_drained(boot) => {
                tracing::info!(node, %boot, held, "a node that was drained is gone; it had nothing");
            }
            (None, _) => tracing::error!(
                node,
                %boot,
                held,
                "a node is gone: what it had is attempted elsewhere; what it may have delivered waits"
            ),
            (Some(why), 0) => tracing::info!(node, %boot, held, why, "a former process of a node is over"),
            (Some(why), _) => tracing::warn!(
                node,
                %boot,
                held,
                why,
                "a former process of a node is over: what it had is attempted elsewhere; what it may have delivered waits"
            ),
        }
        self.queue.take_back(boot, self.clock.now() + self.options.after_loss);
        if let Some(member) = self.member(boot) {
            member.gone();
        }
        self.forget_old();
        self.freed.notify_one();
    }

    /// Whether the node of a boot is to be given nothing more because it is to stop.
    fn is_drained(&self, boot: Boot) -> bool {
        let node = self.member(boot).and_then(|member| self.registry.find(&member.key));
        node.is_some_and(|node| node.state == NodeState::Draining)
    }

    /// A node has stopped and said so.
    pub(super) fn leave(&self, member: &Arc<Member>) {
        tracing::info!(node = %member.name(), boot = %member.boot, "a node has stopped");
        self.membership.lock().left(member.boot, boot_time::now());
        self.queue.take_back(member.boot, self.clock.now() + self.options.after_loss);
        member.gone();
        self.forget_old();
        self.freed.notify_one();
    }

    /// What a node has said need not be said again, once all that was concluded by now is synced.
    pub(super) fn to_acknowledge(&self, member: &Arc<Member>, item: wire::Item) {
        member.waiting.said();
        // Whoever acknowledges runs as long as the manager.
        let _ = self.heard.send((member.clone(), item));
    }

    /// Forgets superseded boots that hold nothing any more.
    fn forget_old(&self) {
        let mut members = self.members.lock();
        let current: Vec<Boot> = members.nodes.values().filter_map(|node| node.current).collect();
        members.by_boot.retain(|boot, member| {
            current.contains(boot)
                || member.linked() == Linked::Yes
                || member.errands(|errands| errands.len()) > 0
        });
    }

    /// Tells all nodes what is wanted of them.
    pub(super) fn tell_all(&self) {
        let members: Vec<Arc<Member>> = self.members.lock().by_boot.values().cloned().collect();
        for member in members {
            if let Some(node) = self.registry.find(&member.key) {
                member.tell(manager_word::Word::Wanted(self.wanted(&node)));
            }
        }
    }
}

/// What was concluded is acknowledged once it is synced: until then its node keeps it.
async fn acknowledge(
    shared: Arc<Shared>,
    mut to_acknowledge: mpsc::UnboundedReceiver<(Arc<Member>, wire::Item)>,
) {
    let mut some = Vec::new();
    while to_acknowledge.recv_many(&mut some, AT_ONCE).await > 0 {
        if shared.queue.settles().await.is_err() {
            // The node is about to stop; whoever is not answered says it again.
            return;
        }
        for (member, item) in some.drain(..) {
            member.give(Give::Heard(item));
            member.waiting.acknowledged();
        }
    }
}

/// For how long a certificate that is made now is shown.
fn renewal(now: Timestamp) -> Range<Timestamp> {
    now..authority::renewal(now, fastrand::f64())
}

async fn renew(shared: Arc<Shared>, mut shown: Range<Timestamp>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CERTIFICATE) => {}
            () = shutdown.stopping() => return,
        }
        let now = shared.clock.now();
        // Nor before that time: the clock was set back, and what was made by the one that was ahead may not be valid yet.
        if shown.contains(&now) {
            continue;
        }
        shown = match shared.tls.renew() {
            Ok(()) => renewal(now),
            Err(error) => {
                tracing::error!(%error, "the manager's own certificate cannot be renewed; it is tried again");
                now..now + RENEW_AGAIN
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        home::{DAY, Home, until},
        membership::Timing,
    };

    #[tokio::test]
    async fn a_manager_whose_clock_is_set_back_shows_a_certificate_that_is_valid_then() {
        let home = Home::new(Timing::default()).await;
        let now = home.clock.clock().now() - 3 * DAY;
        let is_valid = || {
            let shown = home.manager.0.tls.shown();
            let (_, shown) = x509_parser::parse_x509_certificate(&shown).expect("it is one");
            shown.validity().not_before.timestamp() * 1_000_000 <= now.micros()
        };
        assert!(!is_valid(), "it is dated back by two days");
        home.clock.set(now);
        until("it is renewed", is_valid).await;
    }
}
