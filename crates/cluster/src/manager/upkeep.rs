//! What the manager does from time to time: judges silence, takes back what the lost have had, acknowledges what is synced, renews its
//! certificate.

use std::{sync::Arc, time::Duration};

use base::Shutdown;
use tokio::sync::mpsc;

use super::{
    Shared,
    member::{Give, Linked, Member},
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
    tokio::spawn(renew(shared.clone(), shutdown.clone()));
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
                    let name = self.name_of(boot);
                    tracing::warn!(node = name, %boot, "a node is silent: it is granted nothing more");
                }
                Change::Gone(boot) => self.take_back(boot),
                Change::Returned(boot) => {
                    tracing::info!(node = self.name_of(boot), %boot, "a node is back");
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

    fn name_of(&self, boot: queue::Boot) -> String {
        self.member(boot).map(|member| member.name().to_string()).unwrap_or_default()
    }

    /// A node is gone: what it had goes to others, but what it had committed waits.
    fn take_back(&self, boot: queue::Boot) {
        let held =
            self.queue.boots().into_iter().find(|(other, _)| *other == boot).map_or(0, |(_, held)| held);
        tracing::error!(
            node = self.name_of(boot),
            %boot,
            held,
            "a node is gone: what it had is attempted elsewhere; what it may have delivered waits"
        );
        self.queue.take_back(boot, self.clock.now() + self.options.after_loss);
        if let Some(member) = self.member(boot) {
            member.gone();
        }
        self.forget_old();
        self.freed.notify_one();
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

    /// Forgets superseded boots that hold nothing any more.
    fn forget_old(&self) {
        let mut members = self.members.lock();
        let current: Vec<queue::Boot> = members.nodes.values().filter_map(|node| node.current).collect();
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
        }
    }
}

async fn renew(shared: Arc<Shared>, shutdown: Shutdown) {
    let mut at = authority::renewal(shared.clock.now(), fastrand::f64());
    loop {
        tokio::select! {
            () = tokio::time::sleep(CERTIFICATE) => {}
            () = shutdown.stopping() => return,
        }
        let now = shared.clock.now();
        if now < at {
            continue;
        }
        at = match shared.tls.renew() {
            Ok(()) => authority::renewal(now, fastrand::f64()),
            Err(error) => {
                tracing::error!(%error, "the manager's own certificate cannot be renewed; it is tried again");
                now + RENEW_AGAIN
            }
        };
    }
}
