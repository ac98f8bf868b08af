//! How a link begins at the manager: who is let in, and how what he comes back with is taken over.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use base::WorkId;
use queue::{Boot, Claim, Epoch, Resumed};
use tokio::sync::mpsc;

use super::{
    Rules,
    errand::{Job, Serving},
    manager::Linking,
    network::{Packet, Side, Way},
    scene::Moments,
    timing,
    truth::Has,
    world::{CALM, Event, MILLI, SECOND, World, short},
};
use crate::{
    identity::PublicKey,
    load::Load,
    manager::{
        errands::{Item, Stage},
        member::{Facts, Give, Member},
    },
    placement::NodeIndex,
    wire::{self, Held, WHOLE},
};

/// What a boot has come back with: one adoption after the other.
#[derive(Default)]
pub(super) struct Turns {
    waiting: VecDeque<Coming>,
    under: Vec<Adopting>,
    taken: u64,
    over: u64,
}

/// What a node has presented over a link.
struct Coming {
    link: u64,
    member: Arc<Member>,
    /// Which link of the member's it is.
    number: u64,
    foreign: Vec<Held>,
}

/// What is being taken over.
struct Adopting {
    link: u64,
    member: Arc<Member>,
    number: u64,
    errands: BTreeMap<u64, Vec<Presented>>,
    resuming: Resuming,
}

#[derive(Clone, Copy)]
struct Presented {
    item: u32,
    work: WorkId,
    epoch: Epoch,
}

/// What was resumed: it may have to be read from the disk.
enum Resuming {
    Under(Pin<Box<dyn Future<Output = Vec<Resumed>>>>),
    Done(Vec<Resumed>),
}

impl Turns {
    /// How many adoptions were asked for.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }
}

impl World {
    /// A node says hello.
    pub(super) fn hello(&mut self, link: u64, held: &[Held]) {
        let is_in_order = self.rules != Rules::StaleHelloCounts;
        let Some((worker, boot)) = self.network.links.get(&link).map(|link| (link.worker, link.boot)) else {
            return;
        };
        let Some(member) = self.incarnate(worker, boot, link) else {
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
        self.note("hello", &[short(boot), held.len() as u64, begun.foreign.len() as u64]);
        let (number, end) = (begun.number, begun.end);
        let linking = Linking { member: member.clone(), number, end, work: None, after: 0 };
        let reign = self.reign();
        reign.links.insert(link, linking);
        let turns = reign.adoptions.entry(boot).or_default();
        turns.taken += 1;
        turns.waiting.push_back(Coming { link, member, number, foreign: begun.foreign });
        self.begin_adoptions(boot);
    }

    /// The member of this boot; nothing if a newer one has its place. There are no clones here.
    fn incarnate(&mut self, worker: usize, boot: Boot, link: u64) -> Option<Arc<Member>> {
        let (now, latest_link, by_any) =
            (self.moment(), self.network.last(), self.rules == Rules::CloneByAnyHello);
        let reign = self.reign();
        let node = reign.nodes.entry(worker).or_default();
        if let Some((_, since)) = node.older.iter().find(|(older, _)| *older == boot) {
            if link > *since || by_any {
                self.truth.fails(format!("{} was taken for a clone of its node", short(boot)));
            }
            self.truth.counts.outlived += 1;
            return None;
        }
        if node.current == Some(boot) {
            return reign.members.get(&boot).cloned();
        }
        if node.current.is_some() && link < node.latest && !by_any {
            node.older.push_back((boot, latest_link));
            self.truth.counts.outlived += 1;
            return None;
        }
        if let Some(current) = node.current.replace(boot) {
            node.older.push_back((current, latest_link));
            if let Some(old) = reign.members.get(&current) {
                old.cut();
            }
            reign.membership.superseded(current, boot, now);
        }
        reign.membership.reinstated(boot);
        let index = NodeIndex(u16::try_from(worker).expect("there are few") + 1);
        let facts = Facts { version: String::new(), ehlo: String::new(), doors: Vec::new() };
        let key = PublicKey::from_bytes([0; 32]);
        let member = Member::new(index, key, boot, "", facts, Load::new(index, 0, 0), Default::default());
        reign.members.insert(boot, member.clone());
        Some(member)
    }

    /// Begins the next adoption of a boot, unless one is under way.
    fn begin_adoptions(&mut self, boot: Boot) {
        loop {
            let overlap = self.rules == Rules::AdoptionsOverlap;
            let turns = self.reign().adoptions.entry(boot).or_default();
            if !turns.under.is_empty() && !overlap {
                return;
            }
            let Some(coming) = turns.waiting.pop_front() else { return };
            let link = coming.link;
            let lease = u64::try_from(timing(self.rules).lease.as_millis()).expect("it is short");
            self.send(link, Way::WordsDown, Packet::Welcome(lease));
            let adopting = self.begin_adoption(coming);
            let is_worst = self.scene.moments == Moments::Worst && !adopting.errands.is_empty();
            self.reign().adoptions.entry(boot).or_default().under.push(adopting);
            // What was taken over is read from the disk.
            let longest = if is_worst || self.random.u8(..) < 50 { SECOND } else { 10 * MILLI };
            if is_worst && self.now < CALM + 3 * SECOND && self.random.bool() {
                let at = self.now + self.random.u64(..SECOND / 2);
                self.at(at, Event::Noticed(link, Side::Worker));
            }
            let at = self.now + self.random.u64(..longest);
            self.at(at, Event::Adopt(self.manager.starts, link));
        }
    }

    fn begin_adoption(&mut self, coming: Coming) -> Adopting {
        let Coming { link, member, number, foreign } = coming;
        let mut errands: BTreeMap<u64, Vec<Presented>> = BTreeMap::new();
        for held in foreign {
            if member.errands(|errands| errands.knows(held.errand)) {
                continue;
            }
            let items = errands.entry(held.errand).or_default();
            let work = held.work.as_ref().and_then(|work| WorkId::try_from(work).ok());
            if let (Some(work), Some(epoch)) = (work, held.epoch) {
                items.push(Presented { item: held.item, work, epoch: epoch.into() });
            }
        }
        let works = errands.values().flatten().map(|presented| (presented.work, presented.epoch));
        let works: Vec<(WorkId, Epoch)> = works.collect();
        let mut twice: Vec<WorkId> = works.iter().map(|(work, _)| *work).collect();
        twice.sort_unstable();
        twice.dedup();
        self.truth.counts.under_both += (works.len() - twice.len()) as u64;
        self.truth.came_back(member.boot, &works, self.wall());
        let (queue, boot, presented) = (self.reign().queue.clone(), member.boot, works.clone());
        let mut resuming: Pin<Box<dyn Future<Output = _>>> =
            Box::pin(async move { queue.resume(boot, works, &[]).await });
        let resuming = match resuming.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(resumed) => Resuming::Done(resumed),
            Poll::Pending => Resuming::Under(resuming),
        };
        for (work, epoch) in presented {
            let info = self.reign().queue.info(work);
            // The queue itself keeps it under the same lease while a late word is on its way to the disk.
            let is_its = info.is_some_and(|info| info.lease == Some(epoch) && info.held_by.is_some());
            let has = if is_its { Has::Yes } else { Has::No };
            self.truth.presented(epoch, has);
        }
        Adopting { link, member, number, errands, resuming }
    }

    /// What is being taken over that came over a link.
    fn take_adopting(&mut self, link: u64) -> Option<Adopting> {
        let turns = self.reign().adoptions.values_mut();
        turns.into_iter().find_map(|turns| {
            let at = turns.under.iter().position(|adopting| adopting.link == link)?;
            turns.over += 1;
            Some(turns.under.swap_remove(at))
        })
    }

    /// What a node has come back with is read, and taken over.
    pub(super) async fn adopt(&mut self, link: u64) {
        let Some(Adopting { member, number: link, errands, resuming, .. }) = self.take_adopting(link) else {
            return;
        };
        let mut resumed = match resuming {
            Resuming::Under(resuming) => resuming.await,
            Resuming::Done(resumed) => resumed,
        };
        // They come in no order.
        resumed.sort_unstable_by_key(|one| one.info.lease.map(|epoch| self.truth.attempt(epoch)));
        for (number, presented) in errands {
            self.adopt_errand((&member, link), number, &presented, &mut resumed);
        }
        self.begin_adoptions(member.boot);
    }

    fn adopt_errand(
        &mut self,
        (member, link): (&Arc<Member>, u64),
        number: u64,
        presented: &[Presented],
        resumed: &mut Vec<Resumed>,
    ) {
        let by_work = self.rules == Rules::AdoptedByWork;
        let most = presented.iter().map(|presented| presented.item + 1).max().unwrap_or(0);
        if most == 0 {
            member.give(Give::Heard(wire::Item { errand: number, item: WHOLE }));
            return;
        }
        let mut items: Vec<Item> = (0..most).map(|_| Item::none()).collect();
        let mut jobs: Vec<Option<Job>> = (0..most).map(|_| None).collect();
        for Presented { item, work, epoch } in presented.iter().copied() {
            let is_it = |one: &Resumed| one.info.work == work && (by_work || one.info.lease == Some(epoch));
            let Some(found) = resumed.iter().position(is_it) else {
                if self.reign().queue.info(work).is_some_and(|info| info.lease == Some(epoch)) {
                    items[item as usize].stage = Stage::Deaf;
                }
                continue;
            };
            let resumed = resumed.swap_remove(found);
            if matches!(resumed.claim, Claim::Over(_)) {
                self.truth.counts.over += 1;
                member.give(Give::Over(wire::Item { errand: number, item }));
            } else {
                self.truth.counts.resumed += 1;
            }
            let job = Job::resumed(resumed);
            self.note("adopted", &[number, item.into(), self.truth.attempt(job.epoch)]);
            items[item as usize] = job.item();
            jobs[item as usize] = Some(job);
        }
        let nobody = jobs.iter().all(Option::is_none);
        let Some(words) = member.take_over(link, number, items) else {
            // It is gone since.
            return self.drop_jobs(jobs.into_iter().flatten());
        };
        self.reign().servings.insert(number, Serving::new(member.clone(), words, jobs));
        if nobody {
            self.finish(number);
        }
    }

    /// Whether it may be heard what comes over a link of works: not while what its node came back with is taken over.
    pub(super) fn may_hear(&self, link: u64) -> bool {
        let Some(reign) = &self.manager.reign else { return true };
        let Some(linking) = reign.links.get(&link) else { return true };
        let Some(turns) = reign.adoptions.get(&linking.member.boot) else { return true };
        match self.rules {
            Rules::HeardBeforeAdopted => true,
            Rules::AdoptionsOverlap => turns.under.iter().all(|adopting| adopting.link != link),
            _ => turns.over >= linking.after,
        }
    }

    /// A link has ended: who waited for his turn to come back over it does not wait any more.
    pub(super) async fn gives_up_adopting(&mut self, link: u64) {
        for turns in self.reign().adoptions.values_mut() {
            let before = turns.waiting.len();
            turns.waiting.retain(|coming| coming.link != link);
            turns.over += (before - turns.waiting.len()) as u64;
        }
        if self.rules != Rules::AdoptionGivenUp {
            return;
        }
        let Some(Adopting { member, resuming, .. }) = self.take_adopting(link) else { return };
        self.note("adoption given up", &[link]);
        drop(resuming);
        // Whoever reads for it has come to an end.
        tokio::task::spawn_blocking(|| {}).await.expect("it does nothing");
        self.begin_adoptions(member.boot);
    }
}
