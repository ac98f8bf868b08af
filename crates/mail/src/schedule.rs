//! What may go now: lanes, sites, turns and pauses. A pure state; it is told the time and what happens, and says what is to begin.
//!
//! A work's way through it:
//!
//! ```text
//! arrival ──► paused? ──► parked, until the pause ends
//!    │           its time has not come ──► due
//!    ▼
//!  lane (a domain): where does its mail go? ──► asked, if nobody knows
//!    │                                          refused, if it goes nowhere
//!    ▼
//!  site: ready, by priority, then by account in turn
//!    │      rests, connections, throttles
//!    ▼
//!  its turn among the sites ──► a burst, while there are slots
//! ```
//!
//! Wherever something changes for works that wait (a pause ends, an answer comes, the configuration is another), their tickets are
//! taken out and their arrivals handled again: there is one way in.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use base::Timestamp;
use cluster::placement::{Keepers, NodeIndex};
use queue::{Arrival, Reason, Ticket};

use store::settings::{Pause, PauseId};

use self::{adopted::Adopted, placing::Unplaced};
use crate::{
    Config, Depths,
    due::Due,
    fair,
    lanes::{Goes, Lanes},
    pause, policy,
    resolver::{MailHosts, NoWay},
    site::{Cost, Key, Looked, Ready, Site, Stands, Used, Way},
    turns::{Class, Served, Turns},
    why::Waits,
};

/// Domains that are asked for at once.
const LOOKUPS: usize = 200;
/// Hosts count at least this long, whatever their answer says: or a busy site would be looked up all the time.
const SHORTEST: Duration = Duration::from_secs(60);
/// Works that are looked at, or refused, in one go.
const AT_ONCE: usize = 100;
/// What waits is looked at this often at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is not used any more is forgotten this often.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Something to be begun.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) what: What,
    pub(crate) works: Vec<Ticket>,
}

/// What is to be done with works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// They are to be delivered.
    Deliver(Slot),
    /// Their mail goes nowhere.
    Refuse(NoWay),
    /// They may be too old, or their senders want to know that they wait.
    Look,
}

/// Whether nothing could be begun since something last was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HeldUp {
    #[default]
    No,
    Yes,
}

/// The right to deliver one burst; it goes back with what the burst came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    served: Served,
    /// The node that took all of it in, as far as that is known.
    pub(crate) origin: Option<NodeIndex>,
    /// Whether it has to go where a connection is kept.
    pub(crate) keepers: Keepers,
    pub(crate) cost: Cost,
    pub(crate) key: Arc<Key>,
}

/// What the dispatcher knows.
#[derive(Debug)]
pub(crate) struct Schedule {
    config: Arc<Config>,
    due: Due,
    lanes: Lanes,
    sites: Vec<Option<Site>>,
    free: Vec<usize>,
    by_key: HashMap<Arc<Key>, usize>,
    turns: Turns,
    /// When a site that could not begin may.
    later: BinaryHeap<Reverse<(Timestamp, usize)>>,
    pauses: Arc<[Pause]>,
    /// Works that wait for the end of a pause, by its number.
    parked: BTreeMap<PauseId, Vec<Ready>>,
    /// Works whose arrivals are to be handled again.
    again: VecDeque<Ticket>,
    refused: Vec<(NoWay, Ticket)>,
    held_up: HeldUp,
    unplaced: Unplaced,
    adopted: Adopted,
    overdue: Vec<Ticket>,
    look_at: u32,
    looked: Timestamp,
    forgot: Timestamp,
}

impl Schedule {
    pub(crate) fn new(config: Arc<Config>, now: Timestamp) -> Self {
        Self {
            config,
            due: Due::default(),
            lanes: Lanes::default(),
            sites: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            turns: Turns::new(),
            later: BinaryHeap::new(),
            pauses: Arc::new([]),
            parked: BTreeMap::new(),
            again: VecDeque::new(),
            refused: Vec::new(),
            held_up: HeldUp::No,
            unplaced: Unplaced::default(),
            adopted: Adopted::default(),
            overdue: Vec::new(),
            look_at: u32::MAX,
            looked: now,
            forgot: now,
        }
    }

    /// Works have come to wait.
    pub(crate) fn arrived(&mut self, arrivals: impl Iterator<Item = Arrival>, now: Timestamp) {
        for arrival in arrivals {
            self.arrive(&arrival, now);
        }
    }

    fn arrive(&mut self, arrival: &Arrival, now: Timestamp) {
        let until = match arrival.reason {
            // What cannot be read now cannot be let expire either.
            Reason::Unreadable | Reason::Exhausted => arrival.not_before,
            _ => arrival.not_before.min(arrival.expires),
        };
        if until > now {
            return self.due.add(until, arrival.ticket);
        }
        if arrival.expires <= now {
            return self.overdue.push(arrival.ticket);
        }
        let config = &self.config;
        let (lane, is_new) = self.lanes.lane(&arrival.lane, now);
        let rule = || config.delivery.rule(&arrival.lane, None);
        let look_at = if is_new { lane.warned_after(rule().delay_warning) } else { lane.warn_after() };
        let since = seconds(arrival.first_due.max(arrival.not_before));
        let ready = Ready { ticket: arrival.ticket, look_at: look_at.of(arrival, now), since };
        let paused = self
            .pauses
            .iter()
            .find(|pause| pause::is_on(pause, now) && pause::holds(pause, &arrival.lane, &arrival.account));
        if let Some(pause) = paused {
            self.look_at = self.look_at.min(ready.look_at);
            return self.parked.entry(pause.id).or_default().push(ready);
        }
        match lane.goes(now) {
            Goes::To(site) => self.ready(site, arrival, ready, now),
            Goes::Nowhere(why) => self.refused.push((why, arrival.ticket)),
            Goes::Unknown => match policy::route(&arrival.lane, &self.config) {
                Some(hop) => {
                    let way = Way::Hop(hop.clone());
                    let site = self.site(&arrival.lane, way, None, now);
                    self.ready(site, arrival, ready, now);
                }
                None => {
                    self.look_at = self.look_at.min(ready.look_at);
                    self.lanes.ask(&arrival.lane, fair::account(&arrival.account), ready);
                }
            },
        }
    }

    /// The number of the site for a domain's mail, which is made if there is none.
    fn site(&mut self, domain: &str, way: Way, known_until: Option<Timestamp>, now: Timestamp) -> usize {
        let mx = match &way {
            Way::Hop(_) => None,
            Way::Hosts(hosts) => hosts.first().map(|host| &*host.name),
        };
        let rule = self.config.delivery.rule(domain, mx);
        let key = Key { rule, way };
        let number = match self.by_key.get(&key) {
            Some(number) => *number,
            None => {
                let site = Site::new(key);
                let key = site.key.clone();
                let number = self.free.pop().unwrap_or_else(|| {
                    self.sites.push(None);
                    self.sites.len() - 1
                });
                self.sites[number] = Some(site);
                self.by_key.insert(key, number);
                number
            }
        };
        let site = self.sites[number].as_mut().expect("it was just found or made");
        site.known_until = known_until.max(site.known_until.filter(|_| known_until.is_some()));
        self.lanes.goes_to(domain, number, known_until, now);
        self.count_adopted(domain, number, now);
        number
    }

    fn ready(&mut self, number: usize, arrival: &Arrival, ready: Ready, now: Timestamp) {
        let Some(site) = &mut self.sites[number] else { return };
        let stands = if arrival.reason == Reason::HolderGone { Stands::ByAge } else { Stands::Last };
        site.add(arrival.priority, fair::account(&arrival.account), ready, stands);
        self.look_at = self.look_at.min(ready.look_at);
        self.queue_up(number, now);
    }

    /// Lets a site stand among those to be served, if it may begin something.
    fn queue_up(&mut self, number: usize, now: Timestamp) {
        let Some(site) = &mut self.sites[number] else { return };
        if site.is_idle() || self.unplaced.why(number).is_some() {
            return;
        }
        match site.bar(now) {
            None => {
                site.later = None;
                let class = class_of(site, now);
                for account in site.stand() {
                    self.turns.stand(class, account, number);
                }
            }
            Some((_, Some(until))) => {
                if site.later != Some(until) {
                    site.later = Some(until);
                    self.later.push(Reverse((until, number)));
                }
            }
            // The end of one of its deliveries lets it stand again.
            Some((_, None)) => site.later = None,
        }
    }

    /// A domain's mail hosts are known, or why not.
    pub(crate) fn answered(&mut self, domain: &str, answer: MailHosts, now: Timestamp) {
        let waiting = self.lanes.answered(domain);
        let MailHosts { found, until } = answer;
        match found {
            // Meanwhile the configuration may have come to say where it goes.
            _ if policy::route(domain, &self.config).is_some() => {}
            Ok(hosts) => {
                self.site(domain, Way::Hosts(hosts), Some(until.max(now + SHORTEST)), now);
            }
            Err(why) => self.lanes.goes_nowhere(domain, why, until, now),
        }
        self.again.extend(waiting);
    }

    /// A delivery has ended.
    pub(crate) fn ended(&mut self, slot: &Slot, used: Used, now: Timestamp, spread: f64) {
        let Served { site: number, account, class } = slot.served;
        self.turns.end(class, account);
        if let Some(site) = &mut self.sites[number] {
            site.ended(used, slot.cost.means, now, spread);
            self.queue_up(number, now);
        }
    }

    /// Does what the time asks for, before something is begun.
    pub(crate) fn prepare(&mut self, now: Timestamp) {
        if std::mem::take(&mut self.held_up) == HeldUp::Yes {
            // Meanwhile there may be somewhere to go.
            self.again.extend(self.refused.drain(..).map(|(_, ticket)| ticket));
        }
        self.keep_up(now);
    }

    /// The next burst that is to begin now. `look` tells what placement needs to know of a work, or that its ticket is a thing of
    /// the past.
    pub(crate) fn next(&mut self, now: Timestamp, look: &dyn Fn(Ticket) -> Option<Looked>) -> Option<Begin> {
        while !self.unplaced.is_enough()
            && let Some(served) = self.turns.next()
        {
            let burst = self.burst(served, now, look);
            if burst.is_some() {
                return burst;
            }
        }
        None
    }

    /// A burst goes from this node, though it would `rather` have gone from that one.
    pub(crate) fn placed(
        &mut self,
        slot: &mut Slot,
        node: NodeIndex,
        rather: Option<NodeIndex>,
        now: Timestamp,
    ) {
        if let Some(site) = &mut self.sites[slot.served.site] {
            site.placed(&mut slot.cost, node, rather, now);
        }
    }

    /// What is to be done besides: with works that go nowhere, and with those that are to be looked at.
    pub(crate) fn asides(&mut self) -> Vec<Begin> {
        let mut begun = Vec::new();
        self.set_apart(&mut begun);
        begun
    }

    /// Begins nothing now, and does what the time asks for all the same.
    pub(crate) fn hold_up(&mut self, now: Timestamp) {
        self.held_up = HeldUp::Yes;
        self.keep_up(now);
    }

    fn keep_up(&mut self, now: Timestamp) {
        self.unplaced.ask();
        while let Some(due) = self.due.take(now) {
            self.again.extend(due);
        }
        self.wake_sites(now);
        self.look(now);
        self.forget(now);
    }

    /// Whether there are such works as [`again`](Self::again) takes.
    pub(crate) fn has_again(&self) -> bool {
        !self.again.is_empty()
    }

    /// Works whose arrivals are to be handled again, some at a time.
    pub(crate) fn again(&mut self, most: usize) -> Vec<Ticket> {
        let some = self.again.len().min(most);
        let some = self.again.drain(..some).collect();
        if self.again.is_empty() {
            self.again = VecDeque::new();
        }
        some
    }

    /// Domains that are to be looked up now.
    pub(crate) fn ask(&mut self) -> Vec<Arc<str>> {
        self.lanes.next_to_ask(LOOKUPS)
    }

    fn wake_sites(&mut self, now: Timestamp) {
        while let Some(Reverse((until, number))) = self.later.peek().copied()
            && until <= now
        {
            self.later.pop();
            if let Some(site) = &mut self.sites[number]
                && site.later == Some(until)
            {
                site.later = None;
                self.queue_up(number, now);
            }
        }
    }

    /// Begins what a site has, now that it is its turn.
    fn burst(
        &mut self,
        served: Served,
        now: Timestamp,
        look: &dyn Fn(Ticket) -> Option<Looked>,
    ) -> Option<Begin> {
        let Served { site: number, account, class } = served;
        // The number may be another site's by now.
        let site = self.sites[number].as_mut()?;
        if !site.stood(account) {
            return None;
        }
        if self.unplaced.why(number).is_some() {
            // It stands there again when a node is free.
            return None;
        }
        if site.known_until.is_some_and(|until| until <= now) {
            self.ask_again(number);
            return None;
        }
        let is_now = class_of(site, now);
        if site.bar(now).is_some() || (is_now != class && !self.turns.may(is_now, account)) {
            // It answers no more since it came to stand there, or cannot begin more.
            self.queue_up(number, now);
            return None;
        }
        let keepers = site.keepers(now);
        let (works, origin, cost) = site.take(now, look, &keepers);
        if works.is_empty() {
            self.queue_up(number, now);
            return None;
        }
        site.running += 1;
        let served = Served { class: is_now, ..served };
        self.turns.begin(is_now, account);
        let slot = Slot { served, origin, keepers, cost, key: site.key.clone() };
        self.queue_up(number, now);
        Some(Begin { what: What::Deliver(slot), works })
    }

    /// The answers that named a site's hosts count no more: its domains are looked up again before it is served.
    fn ask_again(&mut self, number: usize) {
        if let Some(site) = &mut self.sites[number] {
            site.take_all(&mut self.again);
        }
    }

    /// Finds what is too old, or whose sender is to be told, among all that waits.
    fn look(&mut self, now: Timestamp) {
        let seconds = seconds(now);
        let ended: Vec<PauseId> =
            self.pauses.iter().filter(|pause| !pause::is_on(pause, now)).map(|pause| pause.id).collect();
        if !ended.is_empty() {
            self.pauses = self.pauses.iter().filter(|pause| pause::is_on(pause, now)).cloned().collect();
            self.unpark(&ended);
        }
        let jumped = now < self.looked;
        if self.look_at > seconds || (now.since(self.looked) < LOOK_EVERY && !jumped) {
            return;
        }
        self.looked = now;
        let mut next = self.lanes.take_overdue(seconds, &mut self.overdue).unwrap_or(u32::MAX);
        for site in self.sites.iter_mut().flatten() {
            site.take_overdue(seconds, &mut self.overdue);
            next = next.min(site.next_look().unwrap_or(u32::MAX));
        }
        for parked in self.parked.values_mut() {
            parked.retain(|ready| {
                let overdue = ready.look_at <= seconds;
                if overdue {
                    self.overdue.push(ready.ticket);
                }
                !overdue
            });
            next = next.min(parked.iter().map(|ready| ready.look_at).min().unwrap_or(u32::MAX));
        }
        self.look_at = next;
    }

    /// What is not to be delivered goes in bursts of its own.
    fn set_apart(&mut self, begun: &mut Vec<Begin>) {
        for works in self.overdue.chunks(AT_ONCE) {
            begun.push(Begin { what: What::Look, works: works.to_vec() });
        }
        self.overdue.clear();
        for (why, ticket) in self.refused.drain(..) {
            match begun.last_mut() {
                // Those that waited for one answer come one behind the other.
                Some(Begin { what: What::Refuse(same), works }) if *same == why && works.len() < AT_ONCE => {
                    works.push(ticket);
                }
                _ => begun.push(Begin { what: What::Refuse(why), works: vec![ticket] }),
            }
        }
    }

    /// Forgets sites and lanes that nobody uses.
    fn forget(&mut self, now: Timestamp) {
        if now.since(self.forgot) < FORGET_EVERY && now >= self.forgot {
            return;
        }
        self.forgot = now;
        let mut freed = Vec::new();
        for number in 0..self.sites.len() {
            if self.sites[number].as_ref().is_some_and(|site| site.is_forgettable(now))
                && let Some(site) = self.sites[number].take()
            {
                self.by_key.remove(&site.key);
                freed.push(number);
            }
        }
        let waits = |site: &Site| site.ready_count() > 0;
        let sites: Vec<Option<bool>> = self.sites.iter().map(|site| site.as_ref().map(waits)).collect();
        self.lanes.forget(now, |site| sites[site]);
        // No lane goes there any more: another site may have the number.
        self.free.append(&mut freed);
    }

    /// From now on these pauses hold, and no others.
    pub(crate) fn set_pauses(&mut self, pauses: Arc<[Pause]>) {
        let old = std::mem::replace(&mut self.pauses, pauses);
        let gone: Vec<PauseId> =
            old.iter().filter(|old| !self.pauses.contains(old)).map(|pause| pause.id).collect();
        self.unpark(&gone);
        if self.pauses.iter().any(|pause| !old.contains(pause)) {
            self.handle_all_again();
        }
    }

    fn unpark(&mut self, pauses: &[PauseId]) {
        for id in pauses {
            let parked = self.parked.remove(id).unwrap_or_default();
            self.again.extend(parked.into_iter().map(|ready| ready.ticket));
        }
    }

    /// From now on this is the configuration.
    pub(crate) fn set_config(&mut self, config: Arc<Config>) {
        self.config = config;
        self.lanes.forget_all();
        self.handle_all_again();
    }

    /// Handles the arrivals of all that is ready again.
    fn handle_all_again(&mut self) {
        for site in self.sites.iter_mut().flatten() {
            site.take_all(&mut self.again);
        }
    }

    /// Somebody wants a domain's mail tried now, also where its site rests.
    pub(crate) fn wake(&mut self, domain: &str, now: Timestamp) {
        if let Some(number) = self.lanes.site_of(domain)
            && let Some(site) = &mut self.sites[number]
        {
            site.reach.wake();
            site.later = None;
            self.queue_up(number, now);
        }
    }

    /// What a work of this domain waits for, whose time has come.
    pub(crate) fn why(&self, domain: &str, account: &str, now: Timestamp) -> Waits {
        let number = self.lanes.site_of(domain);
        let Some((number, site)) = number.and_then(|number| Some((number, self.sites[number].as_ref()?)))
        else {
            return if self.lanes.is_asking(domain) { Waits::Lookup } else { Waits::Turn };
        };
        let nowhere = self.unplaced.why(number);
        match (site.bar(now), nowhere) {
            (Some((bar, until)), _) => Waits::of_bar(bar, until, site, now),
            (None, Some(nowhere)) => Waits::of_nowhere(nowhere, site, now),
            (None, None) if self.turns.may(class_of(site, now), fair::account(account)) => Waits::Turn,
            (None, None) => Waits::Slots { running: self.turns.running() },
        }
    }

    /// How long nothing will happen by itself.
    pub(crate) fn pause(&self, now: Timestamp, longest: Duration) -> Duration {
        if self.has_again() || !self.overdue.is_empty() || !self.refused.is_empty() {
            return Duration::ZERO;
        }
        let longest = if self.unplaced.is_enough() { placing::MOMENT } else { longest };
        let due = self.due.next();
        let later = self.later.peek().map(|Reverse((until, _))| *until);
        let next = due.into_iter().chain(later).min();
        next.map_or(longest, |next| next.since(now)).min(longest)
    }

    /// How much waits for what.
    pub(crate) fn depths(&self, now: Timestamp) -> Depths {
        let sites = || self.sites.iter().flatten();
        Depths {
            due: self.due.len(),
            ready: sites().map(Site::ready_count).sum(),
            paused: self.parked.values().map(Vec::len).sum(),
            asking: self.lanes.waiting(),
            sites: sites().count(),
            resting: sites().filter(|site| site.reach.rests(now).is_some()).count(),
            running: self.turns.running(),
        }
    }
}

fn class_of(site: &Site, now: Timestamp) -> Class {
    match site.reach.is_proven(now) {
        true => Class::Proven,
        false if site.reach.failures() == 0 => Class::New,
        false => Class::Failing,
    }
}

/// A moment in whole seconds since 1970.
pub(crate) fn seconds(time: Timestamp) -> u32 {
    u32::try_from(time.millis() / 1000).unwrap_or(u32::MAX)
}

mod adopted;
mod placing;
#[cfg(test)]
mod tests;
