//! The nodes of the demo and what happens to them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    api::{Presence, Readiness},
    fleet::{Account, Fleet, FleetError, Look, Member, Sums},
};

/// The nodes, and what has happened to them.
#[derive(Debug)]
pub(super) struct Scene {
    fleet: Fleet,
    account: Arc<Account>,
    /// Workers that were killed, and when.
    down: Vec<(Arc<Member>, Instant)>,
    last_kill: Option<Instant>,
    last: Option<Look>,
    /// What was believed of each worker, and how many works it had.
    believed: HashMap<String, (Presence, u64)>,
    events: Vec<Event>,
}

/// Something that happened to a node.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Event {
    pub(super) seconds: f64,
    pub(super) what: String,
}

/// How long a worker stays down: it is gone after four seconds, and what it may have delivered is tried again two later.
const DOWN: Duration = Duration::from_secs(8);

impl Scene {
    pub(super) fn new(fleet: Fleet, account: Arc<Account>) -> Self {
        let (down, believed, events) = (Vec::new(), HashMap::new(), Vec::new());
        Self { fleet, account, down, last_kill: None, last: None, believed, events }
    }

    pub(super) fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    pub(super) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// When a worker was killed last.
    pub(super) fn last_kill(&self) -> Option<Instant> {
        self.last_kill
    }

    /// What happened since this was asked last.
    pub(super) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Recipients in the queue.
    pub(super) fn queued(&self) -> u64 {
        self.last.as_ref().map_or(0, |look| look.status.queued)
    }

    /// Recipients that seem to be lost now.
    pub(super) fn lost(&self) -> u64 {
        self.last.as_ref().map_or(0, |look| look.lost)
    }

    pub(super) fn sums(&self) -> Sums {
        self.account.sums()
    }

    /// Kills a worker, any that runs.
    pub(super) fn kill(&mut self) -> Result<(), FleetError> {
        let running: Vec<Arc<Member>> =
            self.fleet.workers().iter().filter(|worker| !worker.is_down()).cloned().collect();
        let Some(worker) = fastrand::choice(&running) else {
            self.happens("all workers are down already".into());
            return Ok(());
        };
        worker.kill()?;
        let works = self.believed.get(worker.name()).map_or(0, |(_, works)| *works);
        self.happens(format!("{} is killed with kill -9; it had about {works} works", worker.name()));
        self.down.push((worker.clone(), Instant::now()));
        self.last_kill = Some(Instant::now());
        Ok(())
    }

    /// Looks at the nodes, and starts again those that have been down for long enough.
    pub(super) async fn look(&mut self) -> Result<(), FleetError> {
        self.fleet.check()?;
        let look = self.fleet.look(&self.account).await?;
        for node in &look.nodes.nodes {
            let (before, had) = self.believed.get(&node.name).copied().unwrap_or((node.presence, 0));
            let words = match node.presence {
                presence if presence == before => None,
                Presence::Suspect => Some("is silent: it gets no more work".to_owned()),
                Presence::Gone => Some(format!("is gone: what it had ({had} works) goes to the others")),
                Presence::Alive => Some("is back and gets work again".to_owned()),
                Presence::Returning | Presence::Never | Presence::Away | Presence::Expected => None,
            };
            words.into_iter().for_each(|words| self.happens(format!("{} {words}", node.name)));
            // What it had counts from before: a node that is gone has nothing any more.
            self.believed.insert(node.name.clone(), (node.presence, node.left()));
        }
        self.last = Some(look);
        let (due, down): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.down).into_iter().partition(|(_, since)| since.elapsed() >= DOWN);
        self.down = down;
        for (worker, _) in due {
            worker.start()?;
            self.happens(format!("{} is started again", worker.name()));
        }
        Ok(())
    }

    /// How a node stands, in a word or two; by its number in the fleet.
    pub(super) fn state(&self, number: usize) -> String {
        let member = &self.fleet.members()[number];
        let Some(look) = &self.last else { return "starts".into() };
        let believed = if number == 0 {
            match look.nodes.manager.readiness {
                Readiness::Ready => "active",
                Readiness::NotReady(_) => "not ready",
            }
        } else {
            let node = look.nodes.nodes.iter().find(|node| node.name == member.name());
            node.map_or("unknown", |node| word(node.presence))
        };
        match member.is_down() {
            true if self.down.iter().any(|(killed, _)| killed.name() == member.name()) => {
                format!("killed ({believed})")
            }
            true => "stopped".into(),
            false => believed.into(),
        }
    }

    fn happens(&mut self, what: String) {
        self.events.push(Event { seconds: self.account.now().as_secs_f64(), what });
    }
}

fn word(presence: Presence) -> &'static str {
    match presence {
        Presence::Never => "never seen",
        Presence::Away => "away",
        Presence::Expected => "expected",
        Presence::Alive => "active",
        Presence::Suspect => "suspect",
        Presence::Gone => "gone",
        Presence::Returning => "returning",
    }
}
