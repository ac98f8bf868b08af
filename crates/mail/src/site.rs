//! A site: what one set of hosts takes, with all that bounds it. Pure; it is told the time.

use std::sync::Arc;

use base::{NextHop, Timestamp};
use cluster::placement::{Keepers, NodeIndex};
use queue::Ticket;
use serde::{Deserialize, Serialize};

use crate::{
    burst::BURST,
    destination::Rule,
    fair::{Account, Fair},
    keeping::{Keeping, Kept, Which},
    patience::Patience,
    reach::{Contact, Reach},
    resolver::Exchange,
    throttle::Throttle,
};

/// How mail gets to a site.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// To a next hop that is set up.
    Hop(NextHop),
    /// To the mail hosts of its domains, in this order.
    Hosts(Arc<[Exchange]>),
}

/// What tells sites apart: domains with the same way and the same rule are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) way: Way,
    pub(crate) rule: Rule,
}

/// A work that may go when the site's limits let it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) ticket: Ticket,
    /// When it is to be looked at though it has not gone: it is too old, or its sender wants to know; in seconds since 1970.
    pub(crate) look_at: u32,
    /// When its time came, in seconds since 1970.
    pub(crate) since: u32,
}

/// Where a work stands among those of its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    /// Behind those that came before it.
    Last,
    /// Before those whose time came later: it had its turn, and its node was lost.
    ByAge,
}

/// What keeps a site from beginning something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bar {
    /// It answers nobody.
    Rests,
    /// All connections that it may have are in use.
    Connections,
    /// Too many connections in a minute.
    ConnectsPerMinute,
    /// Too many messages in a minute.
    MessagesPerMinute,
    /// Too many bytes in a minute.
    BytesPerMinute,
}

/// Accounts of which a site looks for works that need not wait for their node.
const LOOKED_AT: usize = 4;
/// Most accounts for which a site stands among those to be served; what others have there goes with theirs.
const STANDS_FOR: usize = 16;

#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) key: Arc<Key>,
    /// Works whose time has come, by priority, the highest first.
    ready: Vec<(u8, Fair<Ready>)>,
    /// Whose turn it was last.
    served: Option<Account>,
    pub(crate) running: usize,
    /// Connections that are believed to be kept for the next burst.
    keeping: Keeping,
    /// The nodes that use a connection, each as often as it does, and whether they may keep it.
    using: Vec<(NodeIndex, Keeps)>,
    /// How long works wait for one of those that had them first.
    patience: Patience,
    pub(crate) reach: Reach,
    connects: Option<Throttle>,
    messages: Option<Throttle>,
    bytes: Option<Throttle>,
    /// Accounts for which it stands among those to be served.
    stands_for: Vec<Account>,
    /// When it will stand there again, if something keeps it from that now.
    pub(crate) later: Option<Timestamp>,
    /// Until when the answer counts that named its hosts.
    pub(crate) known_until: Option<Timestamp>,
}

/// What placement needs to know of a work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Bytes of its message.
    pub(crate) size: u32,
    /// The node that has its body in memory, if one does.
    pub(crate) origin: Option<NodeIndex>,
}

/// A burst that is being taken.
#[derive(Debug, Default)]
struct Taken {
    works: Vec<Ticket>,
    /// Bytes of the message of each.
    sizes: Vec<u32>,
    /// Where the first of them came in.
    origin: Option<Option<NodeIndex>>,
    more: More,
    /// Turns in which what came first was to wait.
    waits: usize,
}

/// Whether what comes next may go with a burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum More {
    #[default]
    Perhaps,
    /// It came in by another node.
    ForAnother,
}

/// What a delivery came to, as far as its site is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) contact: Contact,
    /// Connections that were opened.
    pub(crate) opened: u32,
    /// Whether its connection is kept for the next one.
    pub(crate) keeps: Keeps,
}

/// Whether a connection is kept for the next burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Keeps {
    Connection,
    Nothing,
}

/// What a burst was charged for when it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Nothing before it has a node.
    pub(crate) means: Option<Means>,
    /// Bytes of the message of each of its works, in their order.
    pub(crate) sizes: Vec<u32>,
}

/// How a burst gets to its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Means {
    /// The node that attempts it.
    node: NodeIndex,
    pub(crate) charged: Charged,
    /// Whether its connection may be kept for the next burst.
    pub(crate) then: Keeps,
    /// The kept connection that it takes, or takes the place of.
    took: Option<Kept>,
}

/// What a burst was charged for its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charged {
    /// A connection that has to be opened.
    Connect,
    /// One that is kept.
    Reuse,
}

impl Means {
    /// Whether this node attempts it.
    #[cfg(test)]
    pub(crate) fn is_at(&self, node: NodeIndex) -> bool {
        self.node == node
    }
}

impl Site {
    pub(crate) fn new(key: Key) -> Self {
        let rule = &key.rule;
        let throttle = |rate: Option<u64>| rate.map(Throttle::new);
        Self {
            ready: Vec::new(),
            served: None,
            running: 0,
            keeping: Keeping::default(),
            using: Vec::new(),
            patience: Patience::default(),
            reach: Reach::new(rule.connections),
            connects: throttle(rule.connects_per_minute),
            messages: throttle(rule.messages_per_minute),
            bytes: throttle(rule.bytes_per_minute),
            stands_for: Vec::new(),
            later: None,
            known_until: None,
            key: Arc::new(key),
        }
    }

    pub(crate) fn add(&mut self, priority: u8, account: Account, ready: Ready, stands: Stands) {
        self.patience.look();
        let at = self.ready.partition_point(|(other, _)| *other > priority);
        if self.ready.get(at).is_none_or(|(other, _)| *other != priority) {
            self.ready.insert(at, (priority, Fair::after(self.served)));
        }
        let fair = &mut self.ready[at].1;
        match stands {
            Stands::Last => fair.push(account, ready),
            Stands::ByAge => fair.insert(account, ready, |other| other.since <= ready.since),
        }
    }

    pub(crate) fn ready_count(&self) -> usize {
        self.ready.iter().map(|(_, fair)| fair.len()).sum()
    }

    /// Whether nothing waits for it.
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty()
    }

    /// Lets it stand for each account that has something here, and returns those for which it did not yet.
    pub(crate) fn stand(&mut self) -> Vec<Account> {
        let mut new = Vec::new();
        for account in self.ready.iter().flat_map(|(_, fair)| fair.accounts()) {
            if self.stands_for.len() == STANDS_FOR {
                break;
            }
            if !self.stands_for.contains(&account) {
                self.stands_for.push(account);
                new.push(account);
            }
        }
        new
    }

    /// It is served; says whether it stood there for that account.
    pub(crate) fn stood(&mut self, account: Account) -> bool {
        let place = self.stands_for.iter().position(|other| *other == account);
        place.map(|place| self.stands_for.swap_remove(place)).is_some()
    }

    /// What keeps it from beginning a burst now, and until when, where that is known.
    pub(crate) fn bar(&self, now: Timestamp) -> Option<(Bar, Option<Timestamp>)> {
        if let Some(until) = self.reach.rests(now) {
            return Some((Bar::Rests, Some(until)));
        }
        if self.running >= self.allowed_connections() {
            return Some((Bar::Connections, None));
        }
        if let Some(until) = self.patience.until(now) {
            return Some((Bar::Connections, Some(until)));
        }
        let throttled = |throttle: &Option<Throttle>, bar| {
            let until = throttle.as_ref()?.next(now)?;
            Some((bar, Some(until)))
        };
        // While nothing is owed, what is kept may be used.
        let in_debt = self.connects.as_ref().and_then(|connects| connects.in_debt_until(now));
        let connects = match in_debt {
            Some(until) => Some((Bar::ConnectsPerMinute, Some(until))),
            None if self.keeping.count(Which::Usable, now) == 0 => {
                throttled(&self.connects, Bar::ConnectsPerMinute)
            }
            None => None,
        };
        connects
            .or_else(|| throttled(&self.messages, Bar::MessagesPerMinute))
            .or_else(|| throttled(&self.bytes, Bar::BytesPerMinute))
    }

    /// Connections that it may have at once now.
    pub(crate) fn allowed_connections(&self) -> usize {
        self.reach.allowed(self.key.rule.connections)
    }

    /// Connections that are open, or may be: those in use and those that are kept.
    pub(crate) fn open(&self, now: Timestamp) -> usize {
        self.running + self.keeping.count(Which::Open, now)
    }

    /// When its throttle lets the next connection be opened, if that is not now.
    pub(crate) fn next_connect(&self, now: Timestamp) -> Option<Timestamp> {
        self.connects.as_ref()?.next(now)
    }

    /// Whether the next burst has to go where a connection is kept: it has as many as it may, or none more may be opened in this minute.
    pub(crate) fn keepers(&self, now: Timestamp) -> Keepers {
        let is_full = self.open(now) >= self.key.rule.connections;
        let Some(connects) = &self.connects else {
            return if is_full { Keepers::Only(self.keeping.nodes(Which::Open, now)) } else { Keepers::Any };
        };
        let usable = self.keeping.nodes(Which::Usable, now);
        match (is_full || connects.allowed(now) == 0, usable.is_empty()) {
            (true, true) => Keepers::Only(self.keeping.nodes(Which::Open, now)),
            (true, false) => Keepers::Only(usable),
            (false, true) => Keepers::Any,
            (false, false) => Keepers::First(usable),
        }
    }

    /// Takes the next burst, says of what kind it is, and charges for it. All of it came in by the same node, as far as `look` knows; it says too how
    /// long a message is, or that its ticket is a thing of the past. If the burst has to go to one of a few nodes, what came in by these is
    /// preferred, and what came in by others may wait a moment.
    pub(crate) fn take(
        &mut self,
        now: Timestamp,
        look: &dyn Fn(Ticket) -> Option<Looked>,
        keepers: &Keepers,
    ) -> (Vec<Ticket>, Option<NodeIndex>, Cost) {
        let most = self.messages.as_ref().map_or(BURST as u64, |throttle| throttle.allowed(now));
        let most = most.min(self.key.rule.messages_per_connection.unwrap_or(u32::MAX).into());
        let most = usize::try_from(most).unwrap_or(BURST).min(BURST);
        let mut taken = Taken::default();
        while taken.works.len() < most
            && taken.more == More::Perhaps
            && self.bytes.as_ref().is_none_or(|throttle| throttle.allowed(now) > 0)
            && !self.ready.is_empty()
        {
            self.take_turn(most, &mut taken, look, keepers, now);
        }
        self.patience.went(&taken.works, now);
        if let Some(messages) = &mut self.messages {
            messages.charge(taken.works.len() as u64, now);
        }
        (taken.works, taken.origin.flatten(), Cost { means: None, sizes: taken.sizes })
    }

    /// Takes what the account whose turn it is has for the burst; what came in by another node goes another time.
    fn take_turn(
        &mut self,
        most: usize,
        taken: &mut Taken,
        look: &dyn Fn(Ticket) -> Option<Looked>,
        keepers: &Keepers,
        now: Timestamp,
    ) {
        let Some((_, fair)) = self.ready.first_mut() else { return };
        // One account's turn at a time: one by one with bytes to watch.
        let at_once = if self.bytes.is_some() { 1 } else { most - taken.works.len() };
        let mut some = Vec::new();
        fair.take(at_once, &mut some);
        let served = fair.served();
        let some = some.into_iter().filter_map(|ready| Some((ready, look(ready.ticket)?)));
        let some: Vec<(Ready, Looked)> = some.collect();
        if taken.origin.is_none() {
            taken.origin = origin_of_next(&some, keepers, &self.using, &mut self.patience, now);
        }
        let mut others = Vec::new();
        for (ready, Looked { size, origin }) in some {
            if taken.origin != Some(origin) {
                others.push(ready);
                continue;
            }
            taken.works.push(ready.ticket);
            taken.sizes.push(size);
            if let Some(bytes) = &mut self.bytes {
                bytes.charge(size.into(), now);
            }
        }
        if let Some(account) = served.filter(|_| !others.is_empty()) {
            fair.put_back(account, others);
            // Where one account's works wait for their node, those of another may be of one that is free.
            taken.waits += usize::from(taken.works.is_empty());
            if !taken.works.is_empty() || taken.waits == fair.accounts().take(LOOKED_AT).count() {
                taken.more = More::ForAnother;
            }
        }
        self.served = served;
        if fair.is_empty() {
            self.ready.remove(0);
        }
    }

    /// A burst goes from this node: charges for a connection if none is kept there. If it would `rather` have gone from another, which
    /// has fewer of the connections that the site may have, it gives its own up for that one.
    pub(crate) fn placed(
        &mut self,
        cost: &mut Cost,
        node: NodeIndex,
        rather: Option<NodeIndex>,
        now: Timestamp,
    ) {
        let took = self.keeping.take(node, now);
        let charged = match took {
            Some(kept) if kept.is(Which::Usable, now) => Charged::Reuse,
            _ => Charged::Connect,
        };
        if let (Charged::Connect, Some(connects)) = (charged, &mut self.connects) {
            connects.charge(1, now);
        }
        let then = match (rather, charged) {
            // One that has to be opened for this burst is not closed behind it.
            (Some(rather), Charged::Reuse) if self.is_to_change(node, rather, now) => Keeps::Nothing,
            _ => Keeps::Connection,
        };
        self.using.push((node, then));
        cost.means = Some(Means { node, charged, then, took });
    }

    /// Whether a burst's connection is to become another node's, which has fewer. All that is given up already counts as that node's, and for
    /// each of them one may be opened: else too many would be.
    fn is_to_change(&self, from: NodeIndex, to: NodeIndex, now: Timestamp) -> bool {
        let given_up = self.using.iter().filter(|(_, then)| *then == Keeps::Nothing).count();
        let may_open = self.connects.as_ref().is_none_or(|connects| connects.allowed(now) > given_up as u64);
        let stays = |node| {
            let in_use = self.using.iter().filter(|using| **using == (node, Keeps::Connection)).count();
            in_use + self.keeping.count_at(node, now)
        };
        may_open && stays(to) + given_up < stays(from)
    }

    /// Works that were charged for, with messages of so many bytes, go another time.
    pub(crate) fn uncharge_works(&mut self, sizes: &[u32]) {
        if let Some(messages) = &mut self.messages {
            messages.refund(sizes.len() as u64);
        }
        if let Some(bytes) = &mut self.bytes {
            sizes.iter().for_each(|size| bytes.refund((*size).into()));
        }
    }

    /// A burst has ended.
    pub(crate) fn ended(&mut self, used: Used, means: Option<Means>, now: Timestamp, spread: f64) {
        self.running -= 1;
        self.patience.look();
        let place =
            means.and_then(|means| self.using.iter().position(|using| *using == (means.node, means.then)));
        place.map(|place| self.using.swap_remove(place));
        let paid = u32::from(means.is_some_and(|means| means.charged == Charged::Connect));
        if let Some(connects) = &mut self.connects {
            connects.charge(used.opened.saturating_sub(paid).into(), now);
            connects.refund(paid.saturating_sub(used.opened).into());
        }
        match (used.keeps, &used.contact, means) {
            (Keeps::Connection, _, Some(means)) => self.keeping.add(means.node, now),
            // Where a host has gone, what was kept may be of no use any more.
            (Keeps::Nothing, Contact::Failed(_), _) => self.keeping.distrust(now),
            // It delivered nothing.
            (Keeps::Nothing, Contact::None, Some(Means { took: Some(kept), .. })) if used.opened == 0 => {
                self.keeping.put_back(kept);
            }
            _ => {}
        }
        self.reach.heard(used.contact, self.key.rule.connections, &self.key.rule.retry, now, spread);
    }

    /// Takes out what is to be looked at by now.
    pub(crate) fn take_overdue(&mut self, now_seconds: u32, into: &mut Vec<Ticket>) {
        self.take_out(|ready| ready.look_at <= now_seconds, into);
    }

    /// Takes out all that is ready.
    pub(crate) fn take_all(&mut self, into: &mut impl Extend<Ticket>) {
        self.take_out(|_| true, into);
    }

    fn take_out(&mut self, out: impl Fn(&Ready) -> bool, into: &mut impl Extend<Ticket>) {
        let mut taken = Vec::new();
        for (_, fair) in &mut self.ready {
            fair.take_out(|_, ready| out(ready), &mut taken);
        }
        self.ready.retain(|(_, fair)| !fair.is_empty());
        into.extend(taken.into_iter().map(|(_, ready)| ready.ticket));
    }

    /// When the next one is to be looked at, in seconds since 1970.
    pub(crate) fn next_look(&self) -> Option<u32> {
        self.ready.iter().flat_map(|(_, fair)| fair.iter()).map(|ready| ready.look_at).min()
    }

    /// Whether it can be forgotten: nothing waits, nothing runs, and there is nothing to remember.
    pub(crate) fn is_forgettable(&self, now: Timestamp) -> bool {
        let unused =
            |throttle: &Option<Throttle>| throttle.as_ref().is_none_or(|throttle| throttle.is_unused(now));
        self.open(now) == 0
            && self.ready.is_empty()
            && self.reach.is_forgettable(now)
            && unused(&self.connects)
            && unused(&self.messages)
            && unused(&self.bytes)
    }
}

/// Where the works of a burst came in that is made of these; nothing if they wait.
fn origin_of_next(
    some: &[(Ready, Looked)],
    keepers: &Keepers,
    using: &[(NodeIndex, Keeps)],
    patience: &mut Patience,
    now: Timestamp,
) -> Option<Option<NodeIndex>> {
    let near: &[NodeIndex] = match keepers {
        Keepers::Any => &[],
        Keepers::First(nodes) | Keepers::Only(nodes) => nodes,
    };
    let is_near = |(_, looked): &&(Ready, Looked)| looked.origin.is_some_and(|origin| near.contains(&origin));
    if let Some((_, looked)) = some.iter().find(is_near) {
        return Some(looked.origin);
    }
    let (ready, Looked { origin, .. }) = some.first()?;
    let is_busy = matches!(keepers, Keepers::Only(_))
        && origin.is_some_and(|origin| using.contains(&(origin, Keeps::Connection)));
    if is_busy && patience.waits(ready.ticket, now) { None } else { Some(*origin) }
}
