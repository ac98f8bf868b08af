//! The manager: who is let in, who gets what, who is gone, and how it starts anew.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use base::WorkId;
use queue::{Arrival, Boot, Holder, Kind, Queue};
use tokio_util::sync::CancellationToken;

use super::{
    Rules,
    adoption::Turns,
    errand::{Giving, Job, Serving},
    intake::Batch,
    network::{Packet, Side, Way},
    scene::{Hops, Moments},
    store::{Crash, Note, Store, WRITTEN_WITHIN},
    timing,
    world::{CALM, Event, LocalClock, MILLI, SECOND, World, short},
};
use crate::{
    manager::{
        errands,
        member::{Give, Linked, Member},
        withdrawn::Withdrawn,
    },
    membership::{Change, Grants, Heard, Moment, checked::Checked},
    wire::{self, Given},
};

pub(super) struct Manager {
    pub(super) store: Store,
    /// From one start to the next end.
    pub(super) reign: Option<Reign>,
    /// How often it has started.
    pub(super) starts: u32,
    pub(super) clock: LocalClock,
    /// Until when its process stands still.
    pub(super) stands: u64,
}

/// All that the manager knows while it runs.
pub(super) struct Reign {
    pub(super) queue: Queue,
    pub(super) membership: Checked,
    pub(super) members: BTreeMap<Boot, Arc<Member>>,
    pub(super) nodes: BTreeMap<usize, Incarnations>,
    pub(super) links: BTreeMap<u64, Linking>,
    pub(super) servings: BTreeMap<u64, Serving>,
    pub(super) giving: BTreeMap<u64, Giving>,
    /// What nodes have come back with.
    pub(super) adoptions: BTreeMap<Boot, Turns>,
    /// What waits, as far as it was told.
    waiting: BTreeMap<WorkId, Arrival>,
    /// What is to be acknowledged after the next sync.
    pub(super) heard: Vec<(Arc<Member>, wire::Item)>,
    /// What nodes have offered and withdrawn, until it is synced.
    pub(super) batches: Vec<Batch>,
    /// What was withdrawn, as far as this process knows.
    pub(super) withdrawn: Withdrawn,
    /// When the next sync is due, if one is.
    sync: Option<u64>,
}

#[derive(Default)]
pub(super) struct Incarnations {
    pub(super) current: Option<Boot>,
    /// With the latest link that there was when it was superseded.
    pub(super) older: VecDeque<(Boot, u64)>,
    /// The latest link over which it said hello.
    pub(super) latest: u64,
}

/// A link as the manager has it.
pub(super) struct Linking {
    pub(super) member: Arc<Member>,
    pub(super) number: u64,
    pub(super) end: CancellationToken,
    /// The member's number of it, once its stream is open, and when that ends.
    pub(super) work: Option<(u64, CancellationToken)>,
    /// How many adoptions must be over before its works are heard of.
    pub(super) after: u64,
}

/// Silence is judged this often.
const TICK: u64 = 100 * MILLI;
/// It is looked this often what may go.
const DISPATCH: u64 = 50 * MILLI;

impl World {
    pub(super) fn reign(&mut self) -> &mut Reign {
        self.manager.reign.as_mut().expect("the manager runs")
    }

    pub(super) fn moment(&self) -> Moment {
        self.manager.clock.moment(self.now)
    }

    pub(super) async fn start_manager(&mut self) {
        self.manager.starts += 1;
        self.manager.store.open().await;
        let (queue, now) = (self.manager.store.queue(), self.moment());
        let mut membership = Checked::new(timing(self.rules), self.rules.fault(), now);
        let boots = queue.boots();
        for (boot, _) in boots.iter().filter(|_| self.rules != Rules::ExpectsNobody) {
            membership.expect(*boot, now);
        }
        self.manager.reign = Some(Reign {
            queue,
            membership,
            members: BTreeMap::new(),
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            servings: BTreeMap::new(),
            giving: BTreeMap::new(),
            adoptions: BTreeMap::new(),
            waiting: BTreeMap::new(),
            heard: Vec::new(),
            batches: Vec::new(),
            withdrawn: Withdrawn::default(),
            sync: None,
        });
        if self.rules == Rules::ForgetGrantsOnRestart {
            for (boot, _) in boots {
                self.take_back(boot).await;
            }
        }
        let starts = self.manager.starts;
        self.at(self.now, Event::Tick(starts));
        self.at(self.now, Event::Dispatch(starts));
    }

    /// The manager's process ends, and starts again after a while.
    pub(super) fn crash(&mut self, crash: Crash) {
        let within = if crash == Crash::Kill { WRITTEN_WITHIN } else { self.scene.synced_within };
        let since = self.now.saturating_sub(within);
        // While it stood still it wrote nothing.
        let since = if self.manager.stands > since { 0 } else { since };
        for note in self.manager.store.crash(crash, self.now, &mut self.random) {
            self.note("eaten", &[]);
            self.truth.eaten(note, since, self.now);
        }
        // Its leases go back to a queue that is no more.
        self.manager.reign = None;
        self.truth.crashed();
        for link in self.network.open_at(Side::Manager) {
            self.vanished(link, Side::Manager);
        }
        self.manager.stands = 0;
        let longest = if self.random.bool() { SECOND } else { 7 * SECOND };
        let again = self.now + 50 * MILLI + self.random.u64(..longest);
        self.at(again, Event::StartManager);
    }

    /// What was concluded is acknowledged after the next sync.
    pub(super) fn is_heard(&mut self, member: &Arc<Member>, item: wire::Item) {
        if self.rules == Rules::HeardBeforeSync {
            member.give(Give::Heard(item));
        } else {
            self.reign().heard.push((member.clone(), item));
            self.set_sync();
        }
    }

    /// Something was put into the queue, as one.
    pub(super) async fn put(&mut self, notes: &[Note]) {
        self.manager.store.put(notes, self.now).await;
        self.set_sync();
    }

    /// A sync becomes due, whether or not something was put.
    pub(super) fn set_sync(&mut self) {
        let at = self.now + self.random.u64(5 * MILLI..self.scene.synced_within);
        let starts = self.manager.starts;
        let reign = self.reign();
        if reign.sync.is_none() {
            reign.sync = Some(at);
            self.at(at, Event::Sync(starts));
        }
    }

    /// All that was put is synced: what was concluded by it is acknowledged.
    pub(super) async fn sync(&mut self) {
        self.reign().sync = None;
        if self.manager.store.is_unsynced() {
            self.manager.store.sync(self.now).await;
        }
        self.synced().await;
    }

    pub(super) async fn synced(&mut self) {
        self.truth.synced();
        for (member, item) in std::mem::take(&mut self.reign().heard) {
            member.give(Give::Heard(item));
        }
        self.batches_are_synced().await;
    }

    pub(super) async fn tick(&mut self) {
        let now = self.moment();
        for change in self.reign().membership.tick(now) {
            match change {
                Change::Gone(boot) => self.take_back(boot).await,
                Change::Suspected(boot) if self.rules == Rules::TakeBackAtSuspect => {
                    self.take_back(boot).await;
                }
                Change::Frozen { .. } => self.truth.counts.frozen += 1,
                Change::Suspected(_) | Change::Returned(_) | Change::Thawed(_) => {}
            }
        }
        self.at(self.now + TICK, Event::Tick(self.manager.starts));
    }

    /// An operator takes a worker out of the cluster; its next process is let in again.
    pub(super) fn sends_away(&mut self, worker: usize) {
        if let Some(reign) = &mut self.manager.reign
            && self.manager.stands <= self.now
            && let Some(boot) = reign.nodes.get(&worker).and_then(|node| node.current)
        {
            reign.membership.sent_away(boot);
            self.note("sent away", &[short(boot)]);
        }
    }

    async fn take_back(&mut self, boot: Boot) {
        let (now, wall) = (self.now, self.wall());
        self.note("taken back", &[short(boot)]);
        self.truth.counts.taken_back += 1;
        self.truth.taken_back(boot, now, wall);
        let wait = if self.rules == Rules::NoWaitAfterLoss { Duration::ZERO } else { self.scene.after_loss };
        self.reign().queue.take_back(boot, wall + wait);
        self.put(&[Note::Gone(boot)]).await;
        if let Some(member) = self.reign().members.get(&boot) {
            member.gone();
        }
    }

    /// What may go, goes to somebody.
    pub(super) async fn dispatch(&mut self) {
        let wall = self.wall();
        let reign = self.reign();
        let mut arrivals = Vec::new();
        reign.queue.take_arrivals(Kind::Mail, usize::MAX, &mut arrivals);
        reign.waiting.extend(arrivals.into_iter().map(|arrival| (arrival.work, arrival)));
        let due = reign.waiting.values().filter(|arrival| arrival.not_before <= wall);
        let mut due: Vec<Arrival> = due.cloned().collect();
        due.retain(|arrival| !self.is_coming(arrival.work.message));
        self.random.shuffle(&mut due);
        while !due.is_empty() {
            let room = self.grantable();
            if room.is_empty() {
                break;
            }
            let boot = room[self.random.usize(..room.len())];
            let together = due.len().min(self.random.usize(1..=self.scene.together));
            self.lease(boot, due.split_off(due.len() - together)).await;
        }
        self.at(self.now + DISPATCH, Event::Dispatch(self.manager.starts));
    }

    /// Who may be given something now.
    fn grantable(&mut self) -> Vec<Boot> {
        let credit = self.scene.credit();
        let reign = self.reign();
        let has = |boot: Boot| {
            let served = reign.servings.values().filter(|serving| serving.member.boot == boot);
            let giving = reign.giving.values().filter(|giving| giving.boot == boot);
            served.map(Serving::works).sum::<usize>() + giving.map(|giving| giving.jobs.len()).sum::<usize>()
        };
        let current = reign.nodes.values().filter_map(|node| node.current);
        let may = |boot: &Boot| {
            reign.members[boot].linked() == Linked::Yes
                && has(*boot) < credit
                && reign.membership.may_grant(*boot) == Grants::Allowed
        };
        current.filter(may).collect()
    }

    async fn lease(&mut self, boot: Boot, arrivals: Vec<Arrival>) {
        let (now, wall) = (self.now, self.wall());
        let queue = self.reign().queue.clone();
        for arrival in &arrivals {
            self.reign().waiting.remove(&arrival.work);
        }
        let tickets = arrivals.iter().map(|arrival| arrival.ticket).collect();
        let leased = queue.lease(Holder::Node(boot), tickets).await;
        let (mut jobs, mut withdrawn, mut notes, mut again) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for leased in leased {
            let epoch = leased.lease.epoch();
            self.truth.counts.leased += 1;
            let number = self.truth.leased(leased.info.work, epoch, boot, (now, wall));
            self.note("leased", &[number, super::truth::number(leased.info.work) as u64, short(boot)]);
            again += u64::from(self.has_already(boot, leased.info.work));
            notes.push(Note::Grant(epoch));
            let message = leased.info.work.message;
            if self.reign().withdrawn.has_message(message) {
                withdrawn.push((message, Job::new(leased)));
            } else {
                jobs.push(Job::new(leased));
            }
        }
        if !notes.is_empty() {
            self.put(&notes).await;
        }
        for (message, job) in withdrawn {
            self.cancels_leased(message).await;
            self.drop_jobs([job]);
        }
        if jobs.is_empty() {
            return;
        }
        self.truth.counts.again += again;
        if again > 0 && self.scene.hops == Hops::Slow {
            self.plan_crash(1).await;
        }
        // Where it goes is looked up first.
        let longest = if self.random.u8(..) < 12 { 3 * SECOND } else { 20 * MILLI };
        let at = now + self.random.u64(..longest);
        let number = self.random.u64(..);
        self.reign().giving.insert(number, Giving { boot, jobs });
        self.at(at, Event::Give(self.manager.starts, number));
    }

    /// What comes over a link.
    pub(super) async fn hears(&mut self, link: u64, packet: Packet) {
        match packet {
            Packet::Hello(held) => self.hello(link, &held),
            Packet::Work => self.opens_work(link),
            Packet::Done(done) => self.hears_done(link, done),
            Packet::Beat(number) => self.hears_beat(link, number),
            Packet::Offers(offers) => self.hears_offers(link, offers).await,
            Packet::Closed => self.ends(link),
            _ => unreachable!("a worker does not say so"),
        }
    }

    /// A worker opens the stream for its works.
    fn opens_work(&mut self, link: u64) {
        let reign = self.reign();
        let Some(linking) = reign.links.get_mut(&link) else { return };
        linking.work = linking.member.open_stream();
        linking.after = reign.adoptions.get(&linking.member.boot).map_or(0, Turns::taken);
        if linking.work.is_none() {
            self.ends(link);
        }
    }

    fn hears_done(&mut self, link: u64, done: wire::Done) {
        let Some(Linking { member, work: Some((_, end)), .. }) = self.reign().links.get(&link) else {
            return;
        };
        if end.is_cancelled() {
            return;
        }
        let member = member.clone();
        for item in done.commits {
            if let errands::Say::Permit(remaining) = member.errands(|errands| errands.asks(&item)) {
                let remaining = remaining.map(Into::into);
                member.give(Give::Permit(wire::Permit { item: Some(item), remaining }));
            }
        }
        for told in done.told {
            let item = told.item.expect("it has one");
            self.note("told", &[item.errand, item.item.into()]);
            if member.errands(|errands| errands.tells(told)) == errands::Say::Heard {
                self.is_heard(&member, item);
            }
        }
    }

    fn hears_beat(&mut self, link: u64, number: u64) {
        let (now, wall) = (self.moment(), self.wall());
        let Some(Linking { member, .. }) = self.reign().links.get(&link) else { return };
        let boot = member.boot;
        if self.reign().membership.beat(boot, now) == Heard::Counted {
            self.send(link, Way::BeatsDown, Packet::Acknowledged(number, wall));
        }
    }

    /// A link has ended at the worker's side, or is to end.
    pub(super) fn ends(&mut self, link: u64) {
        if let Some(Linking { end, work, .. }) = self.reign().links.get(&link) {
            end.cancel();
            if let Some((_, end)) = work {
                end.cancel();
            }
        } else {
            self.close(link, Side::Manager);
        }
    }

    /// What is to be given goes over its link, and links that are to end do.
    pub(super) async fn flush(&mut self) {
        let Some(reign) = &mut self.manager.reign else { return };
        let (mut ended, mut given) = (Vec::new(), Vec::new());
        for (link, Linking { member, end, work, .. }) in &mut reign.links {
            if end.is_cancelled() || work.as_ref().is_some_and(|(_, end)| end.is_cancelled()) {
                ended.push(*link);
            } else if let Some((number, _)) = work {
                let some = member.take_given(*number);
                given.extend((some != Given::default()).then_some((*link, some)));
            }
        }
        for (link, some) in given {
            let is_worst = self.scene.moments == Moments::Worst
                && !some.heard.is_empty()
                && self.now < CALM + 5 * SECOND
                && self.random.u8(..) < 30;
            self.send(link, Way::WordsDown, Packet::Given(some));
            if is_worst {
                self.breaks(link);
            }
        }
        let now = self.moment();
        for link in ended {
            let Linking { member, number, end, work, .. } =
                self.reign().links.remove(&link).expect("it was just seen");
            end.cancel();
            if let Some((_, end)) = work {
                end.cancel();
            }
            if member.unlink(number) == Linked::No {
                self.reign().membership.closed(member.boot, now);
            }
            self.close(link, Side::Manager);
            self.gives_up_adopting(link).await;
        }
        self.set_turns();
    }

    /// Whether nothing is left at the manager.
    pub(super) fn left(&self) -> Option<String> {
        let Some(reign) = &self.manager.reign else { return Some("the manager is not up".into()) };
        let (works, boots) = (reign.queue.stats().works, reign.queue.boots().len());
        (works + boots > 0).then(|| format!("{works} works are left, {boots} nodes have something"))
    }
}
