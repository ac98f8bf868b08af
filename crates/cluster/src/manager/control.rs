//! How a link begins: the hello, who is refused, and what a node that comes back still has.

use std::{collections::BTreeMap, sync::Arc};

use base::{NodeId, WorkId};
use queue::{Boot, Epoch, Resumed};
use store::settings::{Node, NodeState};
use tokio::sync::mpsc;

use super::{
    Incarnations, Members, OLDER, Shared,
    errand::Errand,
    errands::{Item, Stage},
    member::{Begun, Facts, Give, Member},
};
use crate::{
    boot_time,
    identity::PublicKey,
    load::Load,
    placement::NodeIndex,
    wire::{
        self, Hello, ManagerWord, OLDEST_PROTOCOL, PROTOCOL, Refused, WHOLE, Wanted, Welcome,
        refused::Reason, wanted,
    },
};

/// Most works that a node may say it has: more than any node takes.
const MOST_HELD: usize = 100_000;
/// Most works that a node may want at once.
const MOST_CREDIT: u32 = 50_000;

/// A node that is let in.
pub(super) struct Welcomed {
    pub(super) member: Arc<Member>,
    pub(super) begun: Begun,
    pub(super) welcome: Welcome,
}

impl Shared {
    /// A node says hello.
    pub(super) fn hello(
        self: &Arc<Self>,
        key: PublicKey,
        hello: &Hello,
        control: mpsc::Sender<ManagerWord>,
    ) -> Result<Welcomed, Refused> {
        let node = self.registry.find(&key).filter(|node| node.state != NodeState::Removed);
        let node =
            node.ok_or_else(|| refused(Reason::Removed, "the manager does not know this node".into()))?;
        let boot = check(hello)?;
        self.check_name(&key, hello, &node)?;
        let member = self.incarnate(key, boot, hello, &node)?;
        let now = self.clock.now();
        let id = NodeId::from_bytes(hello.node[..].try_into().unwrap_or_default());
        if let Err(error) = self.registry.seen(&key, id, boot, now) {
            tracing::warn!(node = node.name, %error, "it cannot be noted that the node was here");
        }
        let begun = member.link(control, &hello.held);
        self.membership.lock().joined(boot, boot_time::now());
        self.freed.notify_one();
        tracing::info!(node = node.name, %boot, held = hello.held.len(), "a node has come");
        let timing = self.options.timing;
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let welcome = Welcome {
            protocol: PROTOCOL.min(hello.newest),
            name: node.name.clone(),
            now_micros: now.micros(),
            manager: self.options.name.clone(),
            heartbeat_micros: micros(timing.heartbeat),
            lease_micros: micros(timing.lease),
            wanted: Some(self.wanted(&node)),
        };
        Ok(Welcomed { member, begun, welcome })
    }

    /// What the operator wants of a node, and whether there is room for more mail.
    pub(super) fn wanted(&self, node: &Node) -> Wanted {
        let state = match node.state {
            NodeState::Cordoned => wanted::State::Cordoned,
            NodeState::Draining => wanted::State::Draining,
            NodeState::Active | NodeState::Quarantined | NodeState::Removed => wanted::State::Active,
        };
        Wanted { state: state.into(), full: self.queue.room() == queue::Room::Full }
    }

    fn check_name(&self, key: &PublicKey, hello: &Hello, node: &Node) -> Result<(), Refused> {
        if hello.name.is_empty() || hello.name.eq_ignore_ascii_case(&node.name) {
            return Ok(());
        }
        if self.registry.is_taken(&hello.name, key) {
            let text = format!(
                "the name {} is taken by another node; this one is registered as {}: set `name` so, or to none",
                hello.name, node.name
            );
            return Err(refused(Reason::NameTaken, text));
        }
        tracing::warn!(
            says = hello.name,
            "a node calls itself otherwise than it is registered; it goes by {}",
            node.name
        );
        Ok(())
    }

    /// Finds or makes the member of this boot. A newer boot of a node supersedes the older; an older that returns is a clone.
    fn incarnate(
        &self,
        key: PublicKey,
        boot: Boot,
        hello: &Hello,
        node: &Node,
    ) -> Result<Arc<Member>, Refused> {
        let mut members = self.members.lock();
        let Members { by_boot, nodes, last } = &mut *members;
        let incarnations = nodes.entry(key).or_insert_with(|| {
            *last += 1;
            Incarnations { node: NodeIndex(*last), current: None, older: std::collections::VecDeque::new() }
        });
        if incarnations.older.contains(&boot) {
            drop(members);
            return Err(self.quarantine(&key, node));
        }
        if let Some(current) = incarnations.current {
            if current == boot {
                return Ok(by_boot.get(&boot).expect("the current boot has its member").clone());
            }
            tracing::info!(node = node.name, old = %current, new = %boot, "a node has started anew");
            incarnations.older.push_back(current);
            if incarnations.older.len() > OLDER {
                incarnations.older.pop_front();
            }
            if let Some(old) = by_boot.get(&current) {
                old.cut();
            }
            let mut membership = self.membership.lock();
            membership.superseded(current, boot, boot_time::now());
            membership.reinstated(boot);
        }
        incarnations.current = Some(boot);
        let load = Load::new(incarnations.node, hello.credit_works.min(MOST_CREDIT), hello.credit_bytes);
        let facts = Facts {
            version: hello.version.clone(),
            ehlo: hello.ehlo.clone(),
            doors: hello.doors.iter().take(100).cloned().collect(),
        };
        let member = Member::new(incarnations.node, key, boot, &node.name, facts, load);
        by_boot.insert(boot, member.clone());
        self.origins.lock().begin(incarnations.node, hello.cache_bytes);
        Ok(member)
    }

    /// Two processes have the same key: neither is let in until an operator has looked.
    fn quarantine(&self, key: &PublicKey, node: &Node) -> Refused {
        let why = "a boot that a newer one had superseded came back: two processes run with its key";
        tracing::error!(
            node = node.name,
            "{why}; the node is quarantined. Stop the copy, give it a data directory of its own, then `posthouse nodes resume {}`",
            node.name
        );
        if let Err(error) = self.registry.set_state(&node.name, NodeState::Quarantined, why, self.clock.now())
        {
            tracing::error!(node = node.name, %error, "the quarantine cannot be noted");
        }
        self.cut(key);
        refused(Reason::Clone, "two processes seem to run with this node's key: it is quarantined".into())
    }

    /// Ends the links of a node.
    pub(super) fn cut(&self, key: &PublicKey) {
        for member in self.members.lock().by_boot.values().filter(|member| member.key == *key) {
            member.cut();
        }
    }

    /// Takes over what a node has and this manager does not know of: its own from before the start, or what was taken back from it.
    pub(super) async fn adopt(self: Arc<Self>, member: Arc<Member>, foreign: Vec<wire::Held>) {
        let mut errands: BTreeMap<u64, Vec<(u32, WorkId, Epoch)>> = BTreeMap::new();
        for held in &foreign {
            let items = errands.entry(held.errand).or_default();
            let work = held.work.as_ref().and_then(|work| WorkId::try_from(work).ok());
            if let (Some(work), Some(epoch)) = (work, held.epoch) {
                items.push((held.item, work, epoch.into()));
            }
        }
        let works = errands.values().flatten().map(|(_, work, epoch)| (*work, *epoch)).collect();
        let mut resumed: BTreeMap<WorkId, Resumed> = BTreeMap::new();
        for one in self.queue.resume(member.boot, works).await {
            resumed.insert(one.info.work, one);
        }
        for (number, items) in errands {
            let works = items.iter().filter_map(|(item, work, _)| Some((*item, resumed.remove(work)?)));
            self.adopt_errand(&member, number, works.collect());
        }
    }

    fn adopt_errand(self: &Arc<Self>, member: &Arc<Member>, number: u64, works: Vec<(u32, Resumed)>) {
        let Some(trade) = self.trade.get().filter(|_| !works.is_empty()) else {
            // Whatever it was, it has ended.
            member.give(Give::Heard(wire::Item { errand: number, item: WHOLE }));
            return;
        };
        let most = works.iter().map(|(item, _)| *item).max().unwrap_or(0);
        let mut items: Vec<Item> = (0..=most).map(|_| Item::none()).collect();
        let mut taken = Vec::with_capacity(works.len());
        for (at, resumed) in works {
            let stage = match &resumed.claim {
                queue::Claim::Lease(_) => Stage::Given,
                queue::Claim::Committing(_) => Stage::Permitted(resumed.info.remaining),
                queue::Claim::Over(_) => {
                    member.give(Give::Over(wire::Item { errand: number, item: at }));
                    Stage::Lapsed
                }
            };
            items[at as usize] = Item { body: resumed.body.clone(), stage };
            taken.push((at as usize, resumed));
        }
        let words = member.errands(|errands| errands.open(number, items));
        let errand = Errand { number, member: member.clone(), shared: self.clone(), words };
        trade.adopt(errand, taken);
    }
}

/// What a hello must be.
fn check(hello: &Hello) -> Result<Boot, Refused> {
    if hello.oldest > PROTOCOL || hello.newest < OLDEST_PROTOCOL {
        let text = format!(
            "the manager speaks protocol {OLDEST_PROTOCOL} to {PROTOCOL}, this node {} to {}: update the older one",
            hello.oldest, hello.newest
        );
        return Err(refused(Reason::Protocol, text));
    }
    if hello.held.len() > MOST_HELD
        || hello.held.iter().any(|held| held.item > MOST_ITEM && held.item != WHOLE)
    {
        return Err(refused(Reason::Other, "the node says that it has more than any node takes".into()));
    }
    wire::boot(&hello.boot).map_err(|malformed| refused(Reason::Other, malformed.to_string()))
}

/// The highest number of an item in an errand.
const MOST_ITEM: u32 = 1000;

fn refused(reason: Reason, text: String) -> Refused {
    Refused { reason: reason.into(), text }
}
