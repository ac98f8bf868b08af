//! How a link begins: the hello, who is refused, and what a node that comes back still has.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Instant};

use queue::Boot;
use store::settings::{Node, NodeState};
use tokio::sync::mpsc;

use super::{
    Incarnations, Members, Shared,
    incarnations::{OLDER, Other, Place},
    listen::Caller,
    member::{Begun, Facts, Member, Overtaken},
    serve::Goodbye,
};
use crate::{
    boot_time,
    identity::PublicKey,
    load::Load,
    placement::NodeIndex,
    tls::{Peer, Registry as _},
    wire::{
        self, Hello, MOST_HELD, ManagerWord, OLDEST_PROTOCOL, PROTOCOL, Refused, WHOLE, Wanted, Welcome,
        refused::Reason, wanted,
    },
};

/// Most works that a node may want at once, and bytes that it may want or keep.
const MOST_CREDIT: u32 = 50_000;
const MOST_BYTES: u64 = 64 << 30;
/// How much is kept of what a node says of itself: characters of a text, and addresses.
const MOST_TEXT: usize = 255;
const MOST_DOORS: usize = 100;

/// Why what a process says does not count any more.
const OVERTAKEN: &str = "a later link of this node has overtaken this one";
const OUTLIVED: &str = "a newer process of this node has come since this one's connection was made";
/// Why a node is taken for two.
const RETURNED: &str = "a boot that a newer one had superseded came back: two processes run with its key";
const COPIED: &str = "two processes dial in turn as the same boot: one was copied while it ran";

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
        caller: Caller,
        hello: &Hello,
        control: mpsc::Sender<ManagerWord>,
    ) -> Result<Welcomed, Refused> {
        let key = caller.peer.key;
        self.registry.admits(&key).map_err(|error| refused(Reason::Removed, error.to_string()))?;
        let node = self.registry.find(&key);
        let node =
            node.ok_or_else(|| refused(Reason::Removed, "the manager does not know this node".into()))?;
        let boot = check(hello)?;
        self.check_name(caller, hello, &node)?;
        let (member, begun) = self.incarnate(caller, boot, hello, &node, control)?;
        if let Err(error) = self.registry.admits(&key) {
            // It was removed meanwhile, and whoever did so may have missed this link.
            begun.end.cancel();
            self.membership.lock().sent_away(member.boot);
            self.ended(&member, begun.number, Goodbye::NotSaid);
            return Err(refused(Reason::Removed, error.to_string()));
        }
        let now = self.clock.now();
        self.note_seen(&member, hello, now);
        self.freed.notify_one();
        tracing::info!(node = node.name, %boot, held = works(&hello.held), "a node has come");
        let timing = self.options.timing;
        self.look_at_credits(caller, hello, &node);
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

    /// Says so if a node takes less at once than one message may have.
    fn look_at_credits(&self, caller: Caller, hello: &Hello, node: &Node) {
        let Some(longest) = self.trade.get().map(|trade| trade.longest()) else { return };
        let takes = hello.credit_bytes;
        if takes < longest
            && let Some(unsaid) =
                self.scant.may_say(caller.address.ip(), Some(caller.peer.key), Instant::now())
        {
            tracing::warn!(
                node = node.name,
                takes,
                longest,
                unsaid,
                "a node's cluster.credit-bytes are less than limits.message here: it gets what is longer only when it has nothing else"
            );
        }
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

    fn check_name(&self, caller: Caller, hello: &Hello, node: &Node) -> Result<(), Refused> {
        if hello.name.is_empty() || hello.name.eq_ignore_ascii_case(&node.name) {
            return Ok(());
        }
        let key = caller.peer.key;
        if self.registry.is_taken(&hello.name, &key) {
            let text = format!(
                "the name {} is taken by another node; this one is registered as {}: set `name` so, or to none",
                hello.name, node.name
            );
            return Err(refused(Reason::NameTaken, text));
        }
        if let Some(unsaid) = self.misnamed.may_say(caller.address.ip(), Some(key), Instant::now()) {
            let says = short(&hello.name);
            tracing::warn!(
                says,
                unsaid,
                "a node calls itself otherwise than it is registered; it goes by {}",
                node.name
            );
        }
        Ok(())
    }

    /// Finds or makes the member of this boot, and links it. A newer boot of a node supersedes the older; an older that returns is a
    /// clone, if it has lived since: what it has said before may come only now.
    fn incarnate(
        self: &Arc<Self>,
        caller: Caller,
        boot: Boot,
        hello: &Hello,
        node: &Node,
        control: mpsc::Sender<ManagerWord>,
    ) -> Result<(Arc<Member>, Begun), Refused> {
        let key = caller.peer.key;
        let mut members = self.members.lock();
        let Members { by_boot, nodes, last } = &mut *members;
        if by_boot.get(&boot).is_some_and(|member| member.key != key) {
            return Err(refused(Reason::Other, "another node has this boot".into()));
        }
        let incarnations = nodes.entry(key).or_insert_with(|| {
            *last += 1;
            // The one that was here before this manager's start.
            let before = node.boot.map(|boot| Boot(u128::from_be_bytes(boot)));
            Incarnations::new(NodeIndex(*last), boot, before)
        });
        match incarnations.judge(boot, caller.since) {
            Ok(()) => {}
            Err(Other::Outlived) => return Err(refused(Reason::Superseded, OUTLIVED.into())),
            Err(Other::Returned) => {
                let current = incarnations.current.and_then(|current| by_boot.get(&current));
                let other = current.and_then(|member| member.address());
                drop(members);
                return Err(self.quarantine(caller, node, other, RETURNED));
            }
        }
        // Each takes room until it is gone.
        let boots = by_boot.values().filter(|member| member.key == key).count();
        if boots >= OLDER && !by_boot.contains_key(&boot) {
            let why = "this node has started anew too often in a short time";
            return Err(refused(Reason::Other, why.into()));
        }
        let begins = || self.begins(incarnations, key, boot, hello, &node.name);
        let member = by_boot.entry(boot).or_insert_with(begins).clone();
        match member.greeted(hello.link, caller.since) {
            Ok(()) => {}
            Err(Overtaken::OnTheWay) => return Err(refused(Reason::Superseded, OVERTAKEN.into())),
            Err(Overtaken::ByACopy) => {
                drop(members);
                return Err(self.quarantine(caller, node, member.address(), COPIED));
            }
        }
        let place = incarnations.take_place(boot, caller.since);
        if let Place::After(current) = place {
            tracing::info!(node = node.name, old = %current, new = %boot, "a node has started anew");
            if let Some(old) = by_boot.get(&current) {
                old.cut();
            }
            self.membership.lock().superseded(current, boot, boot_time::now());
        }
        // It may have been registered under another name, and its configuration read again, since its last hello.
        member.rename(&node.name);
        member.says(facts(hello), caller.address);
        let begun = member.link(control, &hello.held);
        let mut membership = self.membership.lock();
        if place != Place::Kept {
            membership.reinstated(boot);
        }
        membership.joined(boot, boot_time::now());
        Ok((member, begun))
    }

    /// A boot of a node begins, with what its hello says that it takes.
    fn begins(
        &self,
        incarnations: &Incarnations,
        key: PublicKey,
        boot: Boot,
        hello: &Hello,
        name: &str,
    ) -> Arc<Member> {
        let Incarnations { node, waiting, counters, .. } = incarnations;
        self.origins.lock().begin(*node, hello.cache_bytes.min(MOST_BYTES));
        let (works, bytes) = (hello.credit_works.min(MOST_CREDIT), hello.credit_bytes.min(MOST_BYTES));
        let load = Load::new(*node, works, bytes);
        Member::new(*node, key, boot, name, facts(hello), load, (waiting.clone(), counters.clone()))
    }

    /// Two processes have the same key: neither is let in until an operator has looked.
    fn quarantine(
        self: &Arc<Self>,
        Caller { peer: Peer { key, .. }, address, .. }: Caller,
        node: &Node,
        other: Option<SocketAddr>,
        why: &'static str,
    ) -> Refused {
        tracing::error!(
            node = node.name,
            %address,
            other = other.map(tracing::field::display),
            "{why}; the node is quarantined. Stop the copy, give it a data directory of its own, then `posthouse nodes resume {}`",
            node.name
        );
        self.registry.quarantine(&key);
        self.cut(&key);
        let (shared, name, now) = (self.clone(), node.name.clone(), self.clock.now());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = shared.registry.note_quarantine(&key, why, now) {
                tracing::error!(node = name, %error, "the quarantine cannot be noted; it counts until the manager starts anew");
            }
        });
        refused(Reason::Clone, "two processes seem to run with this node's key: it is quarantined".into())
    }

    /// Sends a node away: ends its links.
    pub(super) fn cut(&self, key: &PublicKey) {
        for member in self.members.lock().by_boot.values().filter(|member| member.key == *key) {
            self.membership.lock().sent_away(member.boot);
            member.cut();
        }
    }
}

/// What a node says of itself.
fn facts(hello: &Hello) -> Facts {
    Facts {
        version: short(&hello.version),
        ehlo: short(&hello.ehlo),
        doors: hello.doors.iter().take(MOST_DOORS).map(|door| short(door)).collect(),
    }
}

/// As much of what a node says of itself as is shown.
fn short(text: &str) -> String {
    text.chars().take(MOST_TEXT).collect()
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
    if !is_bearable(&hello.held) {
        return Err(refused(Reason::Other, "the node says that it has more than any node takes".into()));
    }
    if hello.node.len() != 16 {
        return Err(refused(Reason::Other, "a node's id has 16 bytes".into()));
    }
    wire::boot(&hello.boot).map_err(|malformed| refused(Reason::Other, malformed.to_string()))
}

/// How many works a node has; it says its errands as well.
fn works(held: &[wire::Held]) -> usize {
    held.iter().filter(|held| held.item != WHOLE).count()
}

/// Whether a node can have all this. Room is made for each errand up to its highest item.
fn is_bearable(held: &[wire::Held]) -> bool {
    let mut most: HashMap<u64, usize> = HashMap::new();
    for held in held.iter().filter(|held| held.item != WHOLE) {
        let items = most.entry(held.errand).or_default();
        *items = (*items).max(held.item as usize + 1);
    }
    let items = most.into_values().fold(0, usize::saturating_add);
    held.len() <= MOST_HELD && items <= MOST_HELD
}

fn refused(reason: Reason, text: String) -> Refused {
    Refused { reason: reason.into(), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errands_of_a_node_are_no_works_of_its() {
        let held = [WHOLE, 0, 1].map(|item| wire::Held { errand: 7, item, ..wire::Held::default() });
        assert_eq!(works(&held), 2);
    }

    #[test]
    fn a_node_has_no_more_than_any_node_takes_however_it_counts() {
        let most = u32::try_from(MOST_HELD).expect("it is not many");
        let held = |errand, item| wire::Held { errand, item, ..wire::Held::default() };
        let all: Vec<_> = (0..most).map(|item| held(1, item)).collect();
        assert!(is_bearable(&all));
        assert!(!is_bearable(&[&all[..], &[held(2, WHOLE)]].concat()));
        let sparse: Vec<_> = (0..100).map(|errand| held(errand, most / 100 - 1)).collect();
        assert!(is_bearable(&sparse));
        assert!(!is_bearable(&[&sparse[..], &[held(100, 0)]].concat()));
        assert!(!is_bearable(&[held(1, WHOLE - 1)]));
    }
}
