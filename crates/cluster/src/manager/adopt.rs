//! What a node has that comes back, and this manager does not know of: its own from before the start, or what was taken back from it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use base::WorkId;
use queue::{Claim, Epoch, Resumed, Status, Under};

use super::{
    Shared,
    errand::Errand,
    errands::{Item, Stage},
    member::{Give, Member},
};
use crate::{
    load::Share,
    placement::Amount,
    wire::{self, WHOLE},
};

/// A work of an errand that was presented: its number there, and under which lease.
#[derive(Clone, Copy, Debug)]
struct Presented {
    item: u32,
    work: WorkId,
    epoch: Epoch,
}

/// After this time a node whose works could not be read presents them again.
const HEARD_AGAIN: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(10) };

impl Shared {
    /// Takes over what a node has presented over a link. What it says of that is heard afterwards only.
    pub(super) async fn adopt(self: &Arc<Self>, member: &Arc<Member>, link: u64, foreign: Vec<wire::Held>) {
        let mut errands: BTreeMap<u64, Vec<Presented>> = BTreeMap::new();
        let mut kept = Vec::new();
        for held in foreign {
            let work = held.work.as_ref().and_then(|work| WorkId::try_from(work).ok());
            let under = work.zip(held.epoch.map(Epoch::from)).filter(|_| held.item != WHOLE);
            // What could not be read of it is the node's still; or another link has brought it meanwhile.
            if member.errands(|errands| errands.knows(held.errand)) {
                kept.extend(under);
                continue;
            }
            let items = errands.entry(held.errand).or_default();
            items.extend(under.map(|(work, epoch)| Presented { item: held.item, work, epoch }));
        }
        let works = errands.values().flatten().map(|presented| (presented.work, presented.epoch)).collect();
        let mut resumed: HashMap<Under, Resumed> = HashMap::new();
        for one in self.queue.resume(member.boot, works, &kept).await {
            resumed.insert((one.info.work, one.info.lease.unwrap_or_default()), one);
        }
        // Those of an errand that goes on wait until it has ended: then the node presents them as nobody's.
        let mut deaf = member.errands(|errands| errands.deaf());
        for (number, presented) in errands {
            deaf += self.adopt_errand((member, link), number, &presented, &mut resumed);
        }
        if deaf == 0 {
            return;
        }
        tracing::warn!(
            node = %member.name(),
            works = deaf,
            "works of a node cannot be read now; its link begins anew in {} s, and they are tried again",
            HEARD_AGAIN.as_secs()
        );
        let member = member.clone();
        tokio::spawn(async move {
            tokio::time::sleep(HEARD_AGAIN).await;
            member.cut();
        });
    }

    /// Takes over an errand; returns how many of its works cannot be read now.
    fn adopt_errand(
        self: &Arc<Self>,
        (member, link): (&Arc<Member>, u64),
        number: u64,
        presented: &[Presented],
        resumed: &mut HashMap<Under, Resumed>,
    ) -> usize {
        let mut deaf = 0;
        let most = presented.iter().map(|presented| presented.item + 1).max().unwrap_or(0);
        let mut items: Vec<Item> = (0..most).map(|_| Item::none()).collect();
        let mut taken = Vec::with_capacity(presented.len());
        for Presented { item, work, epoch } in presented {
            let at = *item as usize;
            let Some(resumed) = resumed.remove(&(*work, *epoch)) else {
                // It has ended or is damaged; or it could not be read, and is heard of when the node comes again: also when it is another's by
                // now, for the node may have delivered it.
                if self.queue.info(*work).is_some_and(|info| info.status != Status::SetAside) {
                    items[at].stage = Stage::Deaf;
                    deaf += 1;
                }
                continue;
            };
            items[at] =
                Item { body: resumed.body.clone(), stage: self.stage_of(member, number, *item, &resumed) };
            taken.push((at, resumed));
        }
        let Some(trade) = self.trade.get().filter(|_| !items.is_empty()) else {
            // Whatever it was, it has ended.
            member.give(Give::Heard(wire::Item { errand: number, item: WHOLE }));
            return deaf;
        };
        // What it had is others' by now, if it is gone since.
        let Some(words) = member.take_over(link, number, items) else { return 0 };
        // The node has less room for others until it is through with these.
        let works = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        let bytes = taken.iter().map(|(_, resumed)| resumed.body.size()).sum();
        let share = Some(Share::take(&member.load, None, Amount { works, bytes }, &self.freed));
        let errand = Errand { number, member: member.clone(), shared: self.clone(), words, _share: share };
        trade.adopt(errand, taken);
        deaf
    }

    fn stage_of(&self, member: &Member, errand: u64, item: u32, resumed: &Resumed) -> Stage {
        match &resumed.claim {
            Claim::Lease(_) => Stage::Given,
            Claim::Committing(_) => Stage::Permitted(resumed.info.remaining),
            Claim::Over(_) => {
                member.give(Give::Over(wire::Item { errand, item }));
                Stage::Lapsed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base::Timestamp;
    use bytes::Bytes;
    use parking_lot::Mutex;
    use queue::{
        Holder, Kind, Leased, Queue,
        files::{Call, Fault, SimulatedDisk, When},
    };
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        home::{Home, publication, queue_on, until},
        manager::{Grant, Granted, Trade, Word, control::Welcomed, listen::Caller, tests::registered},
        membership::Timing,
        worker::{Assignment, Worker},
    };

    /// Keeps the errands with works, as mail does, and counts all.
    #[derive(Debug, Default)]
    struct Adopts {
        all: Mutex<Vec<usize>>,
        errands: Mutex<Vec<Errand>>,
    }

    impl Trade for Adopts {
        fn adopt(&self, errand: Errand, works: Vec<(usize, Resumed)>) {
            self.all.lock().push(works.len());
            if !works.is_empty() {
                self.errands.lock().push(errand);
                // Its claim is for the test's whole life.
                std::mem::forget(works);
            }
        }

        fn brought(&self, _: u64) {}

        fn longest(&self) -> u64 {
            0
        }

        fn refused(&self, _: &str, _: wire::Refusal) {}
    }

    /// So many messages, leased to a node.
    async fn leased(queue: &Queue, holder: Holder, count: u8) -> Vec<Leased> {
        for message in 0..count {
            let body = queue::Body::Memory(Bytes::from_static(b"text"));
            let publication = publication(message, Timestamp::from_millis(1), body);
            queue.publish(vec![publication]).await.expect("there is room");
        }
        let mut arrivals = Vec::new();
        while arrivals.len() < usize::from(count) {
            queue.arrived(Kind::Mail).await;
            queue.take_arrivals(Kind::Mail, usize::from(count), &mut arrivals);
        }
        queue.lease(holder, arrivals.into_iter().map(|arrival| arrival.ticket).collect()).await
    }

    /// A node with two works of one errand, and the queue as it is after a kill of its manager.
    struct Killed {
        home: Home,
        trade: Arc<Adopts>,
        worker: Worker,
        assignment: Assignment,
        boot: queue::Boot,
        disk: SimulatedDisk,
        queue: Queue,
    }

    impl Killed {
        async fn new() -> Self {
            let (disk, trade) = (SimulatedDisk::default(), Arc::new(Adopts::default()));
            let queue = queue_on(&disk);
            let home = Home::with(Timing::default(), queue.clone(), trade.clone()).await;
            let worker = home.worker("mx2");
            let mut assignments = home.run(&worker, &base::Shutdown::new()).await;
            let shared = &home.manager.0;
            let member = shared.members.lock().by_boot.values().next().expect("it is linked").clone();
            let leased = leased(&queue, Holder::Node(member.boot), 2).await;
            let works = leased.iter().map(|leased| Granted {
                work: leased.info.work,
                epoch: leased.info.lease.expect("it is leased"),
                body: leased.body.clone(),
            });
            let grant = Grant { kind: Kind::Mail, burst: Bytes::new(), works: works.collect() };
            let errand = Errand::give(shared, &member, grant).await.expect("there is a link");
            let assignment = assignments.recv().await.expect("it is given");
            queue.settles().await.expect("it is on the disk who has it");
            let disk = disk.after_kill();
            // They go with that manager, and give nothing back.
            std::mem::forget((errand, leased));
            let boot = member.boot;
            Self { home, trade, worker, assignment, boot, queue: queue_on(&disk), disk }
        }

        /// Starts a manager with the queue; the node comes back to it.
        async fn restarted(&self) -> Home {
            let before = self.home.manager.0.members.lock().by_boot.values().next().cloned();
            let home = self.home.restarted(Timing::default(), self.queue.clone(), self.trade.clone()).await;
            before.expect("it was linked").cut();
            home
        }

        /// How many works were taken over each time, 0 of an errand of which none could be read.
        fn all(&self) -> Vec<usize> {
            self.trade.all.lock().clone()
        }

        async fn tells(&self) {
            self.assignment.tell(0, Bytes::from_static(b"well"));
            until("it comes again and again", || self.all().len() > 2).await;
            assert!(self.all().iter().all(|works| *works == 0), "nothing of it can be heard");
            assert_eq!(self.worker.works(), 2, "it keeps what it has said");
            self.disk.mend();
            until("it is taken over", || self.all().last() == Some(&2)).await;
            let mut errand = self.trade.errands.lock().pop().expect("it is kept");
            assert_eq!(errand.next().await, Some(Word::Told(0, Bytes::from_static(b"well"))));
            errand.heard(0);
            until("the node need not keep it any more", || self.worker.works() < 2).await;
        }
    }

    #[tokio::test]
    async fn what_a_node_says_of_works_that_could_not_be_read_is_heard_over_a_later_link() {
        let killed = Killed::new().await;
        killed.disk.fail(Call::Read, Fault::Broken, When::From(0));
        let _home = killed.restarted().await;
        killed.tells().await;
    }

    #[tokio::test]
    async fn what_a_node_says_is_heard_later_also_of_works_that_were_taken_from_it() {
        let killed = Killed::new().await;
        killed.queue.take_back(killed.boot, Timestamp::default());
        killed.disk.fail(Call::Read, Fault::Broken, When::From(0));
        let _home = killed.restarted().await;
        killed.tells().await;
    }

    #[tokio::test]
    async fn what_could_not_be_read_is_the_nodes_while_the_rest_of_its_errand_goes_on() {
        let killed = Killed::new().await;
        killed.disk.fail(Call::Read, Fault::Broken, When::After(0));
        let _home = killed.restarted().await;
        until("one can be read", || killed.all() == [1]).await;
        let before = killed.worker.links();
        until("it comes again and again", || killed.worker.links() > before + 2).await;
        assert_eq!(killed.queue.boots(), [(killed.boot, 2)], "nobody else is given the other one");
        assert_eq!(killed.all(), [1]);
        drop(killed.trade.errands.lock().pop());
        until("the other one is taken over", || killed.all() == [1, 1]).await;
    }

    #[tokio::test]
    async fn what_is_damaged_is_set_aside_and_the_node_need_not_keep_what_it_says_of_it() {
        let killed = Killed::new().await;
        killed.disk.fail(Call::Read, Fault::Flip, When::From(0));
        let _home = killed.restarted().await;
        until("it has come", || killed.all() == [0]).await;
        killed.assignment.tell(0, Bytes::from_static(b"well"));
        until("it may forget that", || killed.worker.works() == 1).await;
        assert_eq!(killed.queue.boots(), [], "nobody has them");
        assert_eq!(killed.queue.stats().works, 2);
    }

    #[test]
    fn what_a_node_came_with_is_not_taken_over_once_it_is_gone() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(1).build().expect("a runtime");
        runtime.block_on(async {
            let (disk, boot) = (SimulatedDisk::default(), queue::Boot(1));
            let queue = queue_on(&disk);
            let leased = leased(&queue, Holder::Node(boot), 2).await;
            queue.settles().await.expect("it is on the disk who has it");
            let (queue, trade) = (queue_on(&disk.after_kill()), Arc::new(Adopts::default()));
            let held = (0..).zip(leased).map(|(item, one)| {
                let (work, epoch) = (one.info.work.into(), one.lease.epoch().into());
                // It gives nothing back.
                std::mem::forget(one);
                wire::Held { errand: 7, item, work: Some(work), epoch: Some(epoch) }
            });
            let home = Home::with(Timing::default(), queue.clone(), trade.clone()).await;
            let (shared, (key, hello)) = (&home.manager.0, registered(&home));
            let hello = wire::Hello { held: held.collect(), ..hello };
            let comes = || shared.hello(Caller::of(key), &hello, mpsc::channel(1).0).expect("it is let in");
            let (read, to_read) = std::sync::mpsc::channel::<()>();
            tokio::task::spawn_blocking(move || to_read.recv());
            let Welcomed { member, begun, .. } = comes();
            let leaving = async {
                assert_eq!(queue.boots(), [(boot, 2)]);
                shared.leave(&member);
                drop(read);
            };
            tokio::join!(shared.adopt(&member, begun.number, begun.foreign), leaving);
            assert_eq!((trade.all.lock().len(), member.errands(|errands| errands.len())), (0, 0));
            assert_eq!((queue.boots().len(), queue.stats().works), (0, 2), "they are others'");
            let Welcomed { member, begun, .. } = comes();
            shared.adopt(&member, begun.number, begun.foreign).await;
            assert_eq!(*trade.all.lock(), [2], "it is there after all");
        });
    }
}
