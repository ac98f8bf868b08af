//! The manager: who is let in, who gets what, who is gone, and how it starts anew.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use base::WorkId;
use queue::{Arrival, Boot, Holder, Kind, Queue, Resumed};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    AFTER_LOSS, Rules,
    errand::{Giving, Job, Serving},
    errands::{Errands, Item},
    member::{Facts, Give, Linked, Member},
    network::{Packet, Side, Way},
    store::{Crash, Note, Store},
    timing,
    world::{Event, LocalClock, MILLI, SECOND, World, short},
};
use crate::{
    identity::PublicKey,
    load::Load,
    membership::{Change, Grants, Heard, Membership, Moment},
    placement::NodeIndex,
    wire::{self, Given, Held, WHOLE},
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
    queue: Queue,
    membership: Membership,
    pub(super) members: BTreeMap<Boot, Arc<Member>>,
    nodes: BTreeMap<usize, Incarnations>,
    links: BTreeMap<u64, Linking>,
    pub(super) servings: BTreeMap<u64, Serving>,
    pub(super) giving: BTreeMap<u64, Giving>,
    /// What a link is still to be welcomed for.
    adopting: BTreeMap<u64, Adopting>,
    /// What waits, as far as it was told.
    waiting: BTreeMap<WorkId, Arrival>,
    /// What is to be acknowledged after the next sync.
    pub(super) heard: Vec<(Arc<Member>, wire::Item)>,
    /// What was acknowledged: the word of it may be lost with its link.
    acknowledged: BTreeSet<(u64, u32)>,
    /// When the next sync is due, if one is.
    sync: Option<u64>,
}

#[derive(Default)]
struct Incarnations {
    current: Option<Boot>,
    older: VecDeque<Boot>,
    /// The latest link over which it said hello.
    latest: u64,
}

/// A link as the manager has it.
struct Linking {
    member: Arc<Member>,
    number: u64,
    end: CancellationToken,
    work: Option<(mpsc::Receiver<Give>, CancellationToken)>,
}

/// What a node has come back with.
struct Adopting {
    member: Arc<Member>,
    errands: BTreeMap<u64, Vec<(u32, WorkId)>>,
    resuming: Resuming,
}

/// What was resumed: it may have to be read from the disk.
enum Resuming {
    Under(Pin<Box<dyn Future<Output = Vec<Resumed>>>>),
    Done(Vec<Resumed>),
}

/// Silence is judged this often.
const TICK: u64 = 100 * MILLI;
/// It is looked this often what may go.
const DISPATCH: u64 = 50 * MILLI;
/// What is put is synced after this time at the latest.
const SYNCED_WITHIN: u64 = 45 * MILLI;
/// So many works a node has at once, at most.
const CREDIT: usize = 6;
/// So many works go together, at most.
const TOGETHER: usize = 3;

impl World {
    pub(super) fn reign(&mut self) -> &mut Reign {
        self.manager.reign.as_mut().expect("the manager runs")
    }

    fn moment(&self) -> Moment {
        self.manager.clock.moment(self.now)
    }

    pub(super) async fn start_manager(&mut self) {
        self.manager.starts += 1;
        self.manager.store.open();
        let (queue, now) = (self.manager.store.queue(), self.moment());
        let mut membership = Membership::new(timing(self.rules), now);
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
            adopting: BTreeMap::new(),
            waiting: BTreeMap::new(),
            heard: Vec::new(),
            acknowledged: BTreeSet::new(),
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
        for note in self.manager.store.crash(crash, self.now, &mut self.random) {
            self.note("eaten", &[]);
            self.truth.eaten(note);
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

    /// Something was put into the queue.
    pub(super) async fn put(&mut self, note: Note) {
        self.manager.store.put(note, self.now).await;
        self.set_sync();
    }

    /// A sync becomes due, whether or not something was put.
    pub(super) fn set_sync(&mut self) {
        let at = self.now + self.random.u64(5 * MILLI..SYNCED_WITHIN);
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
        self.synced();
    }

    pub(super) fn synced(&mut self) {
        self.truth.synced();
        let reign = self.reign();
        for (member, item) in std::mem::take(&mut reign.heard) {
            reign.acknowledged.insert((item.errand, item.item));
            member.give(Give::Heard(item));
        }
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

    async fn take_back(&mut self, boot: Boot) {
        let (now, wall) = (self.now, self.wall());
        self.note("taken back", &[short(boot)]);
        self.truth.counts.taken_back += 1;
        self.truth.taken_back(boot, now, wall);
        let wait = if self.rules == Rules::NoWaitAfterLoss { 0 } else { 1 };
        self.reign().queue.take_back(boot, wall + AFTER_LOSS * wait);
        self.put(Note::Gone(boot)).await;
        if let Some(member) = self.reign().members.get(&boot) {
            member.cut();
            member.errands(Errands::clear);
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
        self.random.shuffle(&mut due);
        while !due.is_empty() {
            let room = self.grantable();
            if room.is_empty() {
                break;
            }
            let boot = room[self.random.usize(..room.len())];
            let together = due.len().min(self.random.usize(1..=TOGETHER));
            self.lease(boot, due.split_off(due.len() - together)).await;
        }
        self.at(self.now + DISPATCH, Event::Dispatch(self.manager.starts));
    }

    /// Who may be given something now.
    fn grantable(&mut self) -> Vec<Boot> {
        let reign = self.reign();
        let has = |boot: Boot| {
            let served = reign.servings.values().filter(|serving| serving.member.boot == boot);
            let giving = reign.giving.values().filter(|giving| giving.boot == boot);
            served.map(Serving::works).sum::<usize>() + giving.map(|giving| giving.jobs.len()).sum::<usize>()
        };
        let current = reign.nodes.values().filter_map(|node| node.current);
        let may = |boot: &Boot| {
            reign.membership.may_grant(*boot) == Grants::Allowed
                && reign.members[boot].linked() == Linked::Yes
                && has(*boot) < CREDIT
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
        let mut jobs = Vec::new();
        for leased in leased {
            let epoch = leased.lease.epoch();
            self.truth.counts.leased += 1;
            let number = self.truth.leased(leased.info.work, epoch, boot, (now, wall));
            self.note("leased", &[number, short(boot)]);
            self.put(Note::Grant(epoch)).await;
            jobs.push(Job::new(leased));
        }
        if jobs.is_empty() {
            return;
        }
        // Where it goes is looked up first.
        let longest = if self.random.u8(..) < 12 { 3 * SECOND } else { 20 * MILLI };
        let at = now + self.random.u64(..longest);
        let number = self.random.u64(..);
        self.reign().giving.insert(number, Giving { boot, jobs });
        self.at(at, Event::Give(self.manager.starts, number));
    }

    /// What comes over a link.
    pub(super) fn hears(&mut self, link: u64, packet: Packet) {
        match packet {
            Packet::Hello(held) => self.hello(link, &held),
            Packet::Work => self.opens_work(link),
            Packet::Done(done) => self.hears_done(link, done),
            Packet::Beat(number) => self.hears_beat(link, number),
            Packet::Closed => self.ends(link),
            _ => unreachable!("a worker does not say so"),
        }
    }

    fn hello(&mut self, link: u64, held: &[Held]) {
        let is_in_order = self.rules != Rules::StaleHelloCounts;
        let Some((worker, boot)) = self.network.links.get(&link).map(|link| (link.worker, link.boot)) else {
            return;
        };
        let Some(member) = self.incarnate(worker, boot) else {
            self.truth.counts.clones += 1;
            self.send(link, Way::WordsDown, Packet::Refused);
            return self.close(link, Side::Manager);
        };
        let latest = &mut self.reign().nodes.entry(worker).or_default().latest;
        if *latest > link && is_in_order {
            self.note("stale hello", &[short(boot)]);
            return self.close(link, Side::Manager);
        }
        *latest = link;
        let begun = member.link(mpsc::channel(1).0, held);
        let now = self.moment();
        self.reign().membership.joined(boot, now);
        let mut errands: BTreeMap<u64, Vec<(u32, WorkId)>> = BTreeMap::new();
        let mut works = Vec::new();
        for held in &begun.foreign {
            let items = errands.entry(held.errand).or_default();
            let work = held.work.as_ref().and_then(|work| WorkId::try_from(work).ok());
            if let (Some(work), Some(epoch)) = (work, held.epoch) {
                items.push((held.item, work));
                works.push((work, epoch.into()));
            }
        }
        self.note("hello", &[short(boot), held.len() as u64, works.len() as u64]);
        self.truth.came_back(boot, &works, self.wall());
        let queue = self.reign().queue.clone();
        let mut resuming: Pin<Box<dyn Future<Output = _>>> =
            Box::pin(async move { queue.resume(boot, works).await });
        let resuming = match resuming.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(resumed) => Resuming::Done(resumed),
            Poll::Pending => Resuming::Under(resuming),
        };
        let linking = Linking { member: member.clone(), number: begun.number, end: begun.end, work: None };
        self.reign().links.insert(link, linking);
        self.reign().adopting.insert(link, Adopting { member, errands, resuming });
        if self.rules == Rules::HeardBeforeAdopted {
            self.welcome(link);
        }
        // What was taken over is read from the disk.
        let longest = if self.random.u8(..) < 25 { SECOND } else { 10 * MILLI };
        let at = self.now + self.random.u64(..longest);
        self.at(at, Event::Adopt(self.manager.starts, link));
    }

    /// The member of this boot; nothing if a newer one has its place.
    fn incarnate(&mut self, worker: usize, boot: Boot) -> Option<Arc<Member>> {
        let now = self.moment();
        let reign = self.reign();
        let node = reign.nodes.entry(worker).or_default();
        if node.older.contains(&boot) {
            return None;
        }
        if node.current == Some(boot) {
            return reign.members.get(&boot).cloned();
        }
        if let Some(current) = node.current.replace(boot) {
            node.older.push_back(current);
            if let Some(old) = reign.members.get(&current) {
                old.cut();
            }
            reign.membership.superseded(current, boot, now);
        }
        let index = NodeIndex(u16::try_from(worker).expect("there are few") + 1);
        let facts = Facts { version: String::new(), ehlo: String::new(), doors: Vec::new() };
        let key = PublicKey::from_bytes([0; 32]);
        let member = Member::new(index, key, boot, "", facts, Load::new(index, 0, 0));
        reign.members.insert(boot, member.clone());
        Some(member)
    }

    /// Takes over what a node has come back with, and welcomes it.
    pub(super) async fn adopt(&mut self, link: u64) {
        let Some(Adopting { member, errands, resuming }) = self.reign().adopting.remove(&link) else {
            return;
        };
        let resumed = match resuming {
            Resuming::Under(resuming) => resuming.await,
            Resuming::Done(resumed) => resumed,
        };
        let mut resumed: BTreeMap<WorkId, Resumed> =
            resumed.into_iter().map(|resumed| (resumed.info.work, resumed)).collect();
        for (number, items) in errands {
            let works = items.into_iter().filter_map(|(item, work)| Some((item, resumed.remove(&work)?)));
            self.adopt_errand(&member, number, works.collect());
        }
        if self.rules != Rules::HeardBeforeAdopted {
            self.welcome(link);
        }
    }

    fn welcome(&mut self, link: u64) {
        let lease = timing(self.rules).lease.as_millis();
        let lease = u64::try_from(lease).expect("it is short");
        self.send(link, Way::WordsDown, Packet::Welcome(lease));
    }

    fn adopt_errand(&mut self, member: &Arc<Member>, number: u64, works: Vec<(u32, Resumed)>) {
        let Some(most) = works.iter().map(|(item, _)| *item).max() else {
            member.give(Give::Heard(wire::Item { errand: number, item: WHOLE }));
            return;
        };
        let mut items: Vec<Item> = (0..=most).map(|_| Item::none()).collect();
        let mut jobs: Vec<Option<Job>> = (0..=most).map(|_| None).collect();
        for (at, resumed) in works {
            if matches!(resumed.claim, queue::Claim::Over(_)) {
                self.truth.counts.over += 1;
                member.give(Give::Over(wire::Item { errand: number, item: at }));
            } else {
                self.truth.counts.resumed += 1;
            }
            let job = Job::resumed(resumed);
            items[at as usize] = job.item();
            jobs[at as usize] = Some(job);
        }
        let words = member.errands(|errands| errands.open(number, items));
        self.reign().servings.insert(number, Serving::new(member.clone(), words, jobs));
    }

    /// A worker opens the stream for its works.
    fn opens_work(&mut self, link: u64) {
        let Some(linking) = self.reign().links.get_mut(&link) else { return };
        linking.work = linking.member.take_to_give();
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
            if let super::errands::Say::Permit(remaining) = member.errands(|errands| errands.asks(&item)) {
                let remaining = remaining.map(Into::into);
                member.give(Give::Permit(wire::Permit { item: Some(item), remaining }));
            }
        }
        for told in done.told {
            let item = told.item.expect("it has one");
            self.note("told", &[item.errand, item.item.into()]);
            let again = self.rules != Rules::AcknowledgedOnce
                && self.reign().acknowledged.contains(&(item.errand, item.item));
            if member.errands(|errands| errands.tells(told)) == super::errands::Say::Heard || again {
                member.give(Give::Heard(item));
            }
        }
    }

    fn hears_beat(&mut self, link: u64, number: u64) {
        let now = self.moment();
        let Some(Linking { member, .. }) = self.reign().links.get(&link) else { return };
        let boot = member.boot;
        if self.reign().membership.beat(boot, now) == Heard::Counted {
            self.send(link, Way::BeatsDown, Packet::Acknowledged(number));
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
        for (link, Linking { end, work, .. }) in &mut reign.links {
            if end.is_cancelled() || work.as_ref().is_some_and(|(_, end)| end.is_cancelled()) {
                ended.push(*link);
            } else if let Some((to_give, _)) = work {
                let some: Vec<Give> = std::iter::from_fn(|| to_give.try_recv().ok()).collect();
                given.extend((!some.is_empty()).then(|| (*link, together(some))));
            }
        }
        for (link, some) in given {
            self.send(link, Way::WordsDown, Packet::Given(some));
        }
        let now = self.moment();
        for link in ended {
            let Linking { member, number, end, work } =
                self.reign().links.remove(&link).expect("it was just seen");
            end.cancel();
            if let Some((_, end)) = work {
                end.cancel();
            }
            if member.unlink(number) == Linked::No {
                self.reign().membership.closed(member.boot, now);
            }
            self.close(link, Side::Manager);
            if self.rules == Rules::AdoptionGivenUp {
                self.gives_up_adopting(link).await;
            }
        }
        self.set_turns();
    }

    /// Whether a hello must wait: what this boot came back with is being taken over.
    pub(super) fn is_adopting(&self, link: u64) -> bool {
        let boot = self.network.links.get(&link).map(|link| link.boot);
        let adopting = self.manager.reign.as_ref().map(|reign| reign.adopting.values());
        self.rules != Rules::AdoptionsOverlap
            && adopting.into_iter().flatten().any(|adopting| Some(adopting.member.boot) == boot)
    }

    /// The link has ended before what its node came back with was taken over.
    async fn gives_up_adopting(&mut self, link: u64) {
        let Some(Adopting { resuming, .. }) = self.reign().adopting.remove(&link) else { return };
        self.note("adoption given up", &[link]);
        drop(resuming);
        // Whoever reads for it has come to an end.
        tokio::task::spawn_blocking(|| {}).await.expect("it does nothing");
    }

    /// Whether nothing is left at the manager.
    pub(super) fn left(&self) -> Option<String> {
        let Some(reign) = &self.manager.reign else { return Some("the manager is not up".into()) };
        let (works, boots) = (reign.queue.stats().works, reign.queue.boots().len());
        (works + boots > 0).then(|| format!("{works} works are left, {boots} nodes have something"))
    }
}

fn together(some: Vec<Give>) -> Given {
    let mut given = Given::default();
    for give in some {
        match give {
            Give::Grant(grant) => given.grants.push(grant),
            Give::Permit(permit) => given.permits.push(permit),
            Give::Heard(item) => given.heard.push(item),
            Give::Over(item) => given.over.push(item),
        }
    }
    given
}
