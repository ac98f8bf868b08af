//! The conformance suite, stamped on every provider of the queue.

use std::{path::Path, sync::Arc, time::Duration};

use base::{Clock, Timestamp, WorkId};
use queue::{
    Boot, Change, Claim, Concluded, Epoch, Holder, Kind, Memory, Publication, Queue, Reason, Resumed, Spool,
    conformance::{arrival, conclusion, done, lease, message},
    files::{Call, Disk, SimulatedDisk},
    spool::Options,
};

fn small() -> Options {
    Options { segment_size: 4 << 20, inline_body: 64 << 10, recent_bytes: 1 << 20, ..Options::default() }
}

queue::conformance!(memory, || {
    (
        super::Queue::new(super::Arc::new(super::Memory::new(
            super::Clock::system(),
            super::Duration::from_secs(900),
        ))),
        (),
    )
});

queue::conformance!(spool_on_a_simulated_disk, || {
    let disk = super::SimulatedDisk::default().disk();
    let spool = super::Spool::open(disk, super::Path::new("/spool"), super::Clock::system(), super::small());
    (super::Queue::new(spool.expect("an empty spool opens")), ())
});

queue::conformance!(spool_on_a_real_disk, || {
    let dir = tempfile::tempdir().expect("there is room for temporary files");
    let spool = super::Spool::open(super::Disk::real(), dir.path(), super::Clock::system(), super::small());
    (super::Queue::new(spool.expect("an empty spool opens")), dir)
});

// Nothing is kept in memory, so every lease reads from the disk.
queue::conformance!(spool_without_memory, || {
    let disk = super::SimulatedDisk::default().disk();
    let options = super::Options { recent_bytes: 0, ..super::small() };
    let spool = super::Spool::open(disk, super::Path::new("/spool"), super::Clock::system(), options);
    (super::Queue::new(spool.expect("an empty spool opens")), ())
});

#[tokio::test]
async fn what_waited_before_a_restart_is_told_at_once_also_behind_much_that_has_ended() {
    let disk = SimulatedDisk::default();
    let queue = open(&disk);
    for _ in 0..20 {
        queue.publish(vec![message("example.com")]).await.expect("it is published");
        let arrival = arrival(&queue).await;
        let leased = lease(&queue, Holder::Here, &arrival).await.expect("nobody holds it");
        leased.lease.conclude(done()).expect("it is concluded");
    }
    queue.publish(vec![message("example.net")]).await.expect("it is published");
    let queue = open(&disk.after_kill());
    tokio::time::timeout(Duration::from_secs(5), queue.arrived(Kind::Mail)).await.expect("it is told");
    let mut arrivals = Vec::new();
    queue.take_arrivals(Kind::Mail, 1, &mut arrivals);
    assert_eq!(arrivals.iter().map(|arrival| &*arrival.lane).collect::<Vec<_>>(), ["example.net"]);
}

#[tokio::test]
async fn what_was_found_at_the_start_is_told_once_whatever_happened_to_it_meanwhile() {
    let disk = SimulatedDisk::default();
    let queue = open(&disk);
    let messages: Vec<_> = (0..4).map(|_| message("example.com")).collect();
    let works: Vec<WorkId> = messages.iter().map(|m| WorkId { message: m.message, index: 0 }).collect();
    queue.publish(messages).await.expect("they are published");
    queue.change(vec![works[0]], Change::Hold).await.expect("it is held");
    let queue = open(&disk.after_kill());
    for change in [Change::Hold, Change::Release] {
        queue.change(vec![works[1]], change).await.expect("it is changed");
    }
    queue.cancel(vec![works[2]], Clock::system().now()).await.expect("it is cancelled");
    let new = message("example.net");
    let new_work = WorkId { message: new.message, index: 0 };
    queue.publish(vec![new]).await.expect("it is published");
    let mut arrivals = Vec::new();
    while {
        let before = arrivals.len();
        queue.take_arrivals(Kind::Mail, 1, &mut arrivals);
        arrivals.len() > before
    } {}
    let mut told: Vec<WorkId> = arrivals.iter().map(|arrival| arrival.work).collect();
    told.sort_unstable();
    let mut expected = vec![works[1], works[3], new_work];
    expected.sort_unstable();
    assert_eq!(told, expected);
    assert!(arrivals.iter().all(|arrival| queue.is_current(arrival.ticket)));
    queue.change(vec![works[0]], Change::Release).await.expect("it is released");
    assert_eq!(arrival(&queue).await.work, works[0]);
}

/// What another node was given, in a spool that is opened again after a crash of the process: three works held and a fourth
/// committed.
async fn given_and_killed() -> (SimulatedDisk, Vec<(WorkId, Epoch)>) {
    let disk = SimulatedDisk::default();
    let queue = open(&disk);
    let mut given = Vec::new();
    for _ in 0..4 {
        queue.publish(vec![message("example.com")]).await.expect("it is published");
        let arrival = arrival(&queue).await;
        let leased = lease(&queue, Holder::Node(BOOT), &arrival).await.expect("nobody holds it");
        given.push((leased.info.work, leased.lease.epoch()));
        if given.len() == 4 {
            let (committing, _) = leased.lease.commit().await.expect("the lease runs");
            std::mem::forget(committing);
        } else {
            std::mem::forget(leased.lease);
        }
    }
    queue.settled().await.expect("the disk works");
    (disk.after_kill(), given)
}

const BOOT: Boot = Boot(77);

/// Nothing is kept for a message log, so segments are free as soon as they may be.
fn open(disk: &SimulatedDisk) -> Queue {
    let options = Options { kept_for_log: 0, ..small() };
    let spool = Spool::open(disk.disk(), Path::new("/spool"), Clock::system(), options);
    Queue::new(spool.expect("the spool opens"))
}

/// Does all works that may be leased now, and returns them.
async fn do_all(queue: &Queue) -> Vec<WorkId> {
    do_all_of(queue, "").await
}

/// Does all of a lane, or of all lanes.
async fn do_all_of(queue: &Queue, lane: &str) -> Vec<WorkId> {
    let mut arrivals = Vec::new();
    queue.take_arrivals(Kind::Mail, 100, &mut arrivals);
    let mut all = Vec::new();
    for arrival in arrivals.into_iter().filter(|arrival| arrival.lane.starts_with(lane)) {
        if let Some(leased) = lease(queue, Holder::Here, &arrival).await {
            all.push(leased.info.work);
            leased.lease.conclude(done()).expect("it is concluded");
        }
    }
    all.sort_unstable();
    all
}

#[tokio::test]
async fn what_another_node_holds_is_withheld_after_a_restart_until_it_comes_back() {
    let (disk, given) = given_and_killed().await;
    let queue = open(&disk);
    assert_eq!(queue.boots(), [(BOOT, 4)]);
    queue.publish(vec![message("example.net")]).await.expect("it is published");
    assert_eq!(do_all(&queue).await.len(), 1, "all else flows at once");
    let foreign = queue.resume(Boot(78), given.clone(), &[]).await;
    assert!(foreign.iter().all(|resumed| matches!(resumed.claim, Claim::Over(_))));
    assert!(do_all(&queue).await.is_empty());
    // It has not heard of the first two, and its permit for the fourth has reached it.
    let resumed = queue.resume(BOOT, vec![given[2], given[3]], &[]).await;
    let mut unheard = [given[0].0, given[1].0];
    unheard.sort_unstable();
    assert_eq!(do_all(&queue).await, unheard);
    assert_eq!(resumed.len(), 2);
    for resumed in resumed {
        let concluded = match resumed.claim {
            Claim::Lease(lease) => {
                assert_eq!(resumed.info.work, given[2].0);
                let (committing, remaining) = lease.commit().await.expect("its lease runs again");
                assert_eq!(remaining.count(), 1);
                committing.conclude(done())
            }
            Claim::Committing(committing) => {
                assert_eq!(resumed.info.work, given[3].0);
                committing.conclude(done())
            }
            Claim::Over(_) => panic!("nobody has taken it back"),
        };
        assert_eq!(concluded.expect("it is concluded"), Concluded::Applied);
    }
    queue.settled().await.expect("the disk works");
    assert_eq!(queue.boots(), []);
}

#[tokio::test]
async fn a_node_that_has_a_work_under_two_leases_has_it_again_under_the_latest_only() {
    let (disk, given) = given_and_killed().await;
    let queue = open(&disk);
    let older = Epoch { incarnation: 1, counter: 1 };
    let both = given.iter().flat_map(|(work, latest)| [(*work, older), (*work, *latest)]).collect();
    let resumed = queue.resume(BOOT, both, &[]).await;
    assert_eq!(resumed.len(), 8);
    for Resumed { claim, info, .. } in resumed {
        assert_eq!(matches!(claim, Claim::Over(_)), info.lease == Some(older));
    }
}

#[tokio::test]
async fn what_another_node_held_waits_again_once_it_is_gone_also_after_another_restart() {
    let (disk, given) = given_and_killed().await;
    let queue = open(&disk);
    let until = Clock::system().now() + Duration::from_secs(900);
    queue.take_back(BOOT, until);
    let mut arrivals = Vec::new();
    queue.take_arrivals(Kind::Mail, 100, &mut arrivals);
    assert_eq!(arrivals.len(), 4);
    assert_eq!(queue.info(given[3].0).expect("it waits").not_before, until);
    assert_eq!(queue.info(given[3].0).expect("it waits").reason, Reason::PossiblyDone);
    // It comes back all the same, and has delivered one of them: that counts.
    for resumed in queue.resume(BOOT, vec![given[2]], &[]).await {
        let Claim::Over(over) = resumed.claim else { panic!("it was taken back") };
        assert_eq!(over.conclude(done()).expect("it is heard"), Concluded::Late);
    }
    queue.settled().await.expect("the disk works");
    let queue = open(&disk.after_kill());
    assert_eq!(queue.boots(), []);
    let committed = queue.info(given[3].0).expect("it waits");
    assert_eq!(committed.reason, Reason::PossiblyDone);
    assert!(committed.not_before > Clock::system().now(), "it may have been done, so it waits");
    assert_eq!(queue.info(given[0].0).expect("it waits").not_before, Timestamp::default());
    assert!(queue.info(given[2].0).is_none(), "a late word counts");
    // It has again what waits for it, though what it may have done stays marked until it says so.
    assert_eq!(committed.lost_by, Some(BOOT));
    let resumed = queue.resume(BOOT, vec![given[3]], &[]).await.remove(0);
    let Claim::Committing(committing) = resumed.claim else { panic!("nobody has had it since") };
    assert_eq!(committing.conclude(conclusion(Vec::new())).expect("it is heard"), Concluded::Applied);
    // Its node is back over another link before that is synced, and says it again.
    let again = queue.resume(BOOT, vec![given[3]], &[]).await.remove(0);
    let Claim::Over(again) = again.claim else { panic!("it is concluded") };
    assert_eq!(again.conclude(conclusion(Vec::new())).expect("it is heard"), Concluded::Ignored);
    queue.settled().await.expect("the disk works");
    assert_eq!(queue.info(given[3].0).expect("it waits").reason, Reason::Deferred);
}

/// A work that a node has committed, and its lease.
async fn committed_by(queue: &Queue, boot: Boot) -> (WorkId, Epoch) {
    let leased = lease(queue, Holder::Node(boot), &arrival(queue).await).await.expect("nobody holds it");
    let under = (leased.info.work, leased.lease.epoch());
    let (committing, _) = leased.lease.commit().await.expect("its lease runs");
    std::mem::forget(committing);
    under
}

#[tokio::test]
async fn a_node_that_comes_back_has_again_what_waits_for_it_and_nothing_that_others_have_had() {
    let queue = open(&SimulatedDisk::default());
    queue.publish(vec![message("example.com")]).await.expect("it is published");
    let under = committed_by(&queue, BOOT).await;
    let soon = || Clock::system().now() + Duration::from_secs(60);
    queue.take_back(BOOT, soon());
    assert_eq!(arrival(&queue).await.reason, Reason::PossiblyDone);
    assert!(matches!(queue.resume(Boot(78), vec![under], &[]).await[0].claim, Claim::Over(_)));
    let Resumed { claim, info, .. } = queue.resume(BOOT, vec![under], &[]).await.remove(0);
    assert_eq!((info.reason, queue.boots()), (Reason::New, vec![(BOOT, 1)]), "as when it was given");
    // It is lost once more, and its work is another's meanwhile, or held by hand.
    queue.take_back(BOOT, Timestamp::default());
    drop(claim);
    let mine = lease(&queue, Holder::Here, &arrival(&queue).await).await.expect("its time has come");
    assert!(matches!(queue.resume(BOOT, vec![under], &[]).await[0].claim, Claim::Over(_)));
    drop(mine);
    arrival(&queue).await;
    assert_eq!(queue.change(vec![under.0], Change::Hold).await.expect("it is written"), 1);
    assert!(matches!(queue.resume(BOOT, vec![under], &[]).await[0].claim, Claim::Over(_)));
    assert_eq!(queue.change(vec![under.0], Change::Release).await.expect("it is written"), 1);
    // Whatever it says, it ends the wait.
    let resumed = queue.resume(BOOT, vec![under], &[]).await.remove(0);
    let Claim::Committing(committing) = resumed.claim else { panic!("nobody has done anything with it") };
    assert_eq!(committing.conclude(conclusion(Vec::new())).expect("it is heard"), Concluded::Applied);
    queue.settled().await.expect("the disk works");
    let waits = queue.info(under.0).expect("it waits");
    assert_eq!((waits.reason, waits.attempts, waits.lost_by), (Reason::Deferred, 1, None));
    assert!(matches!(queue.resume(BOOT, vec![under], &[]).await[0].claim, Claim::Over(_)));
}

#[tokio::test]
async fn whoever_listened_to_a_lost_node_takes_nothing_from_whoever_listens_since_it_is_back() {
    for is_late in [false, true] {
        let queue = open(&SimulatedDisk::default());
        queue.publish(vec![message("example.com")]).await.expect("it is published");
        let leased =
            lease(&queue, Holder::Node(BOOT), &arrival(&queue).await).await.expect("nobody holds it");
        let under = (leased.info.work, leased.lease.epoch());
        let (former, _) = leased.lease.commit().await.expect("its lease runs");
        queue.take_back(BOOT, Timestamp::from_micros(i64::MAX));
        let (late, early) = if is_late { (Some(former), None) } else { (None, Some(former)) };
        drop(early);
        let again = queue.resume(BOOT, vec![under], &[]).await.remove(0);
        let Claim::Committing(again) = again.claim else { panic!("nobody has had it since") };
        drop(late);
        assert_eq!(queue.boots(), [(BOOT, 1)]);
        if is_late {
            assert_eq!(again.conclude(conclusion(Vec::new())).expect("it is heard"), Concluded::Applied);
            continue;
        }
        drop(again);
        assert_eq!(queue.boots(), [], "nobody listens any more");
    }
}

#[tokio::test]
async fn what_a_node_has_said_is_heard_again_before_it_is_synced() {
    let queue = open(&SimulatedDisk::default());
    queue.publish(vec![message("example.com")]).await.expect("it is published");
    let arrival = arrival(&queue).await;
    let leased = lease(&queue, Holder::Node(BOOT), &arrival).await.expect("nobody holds it");
    let under = (leased.info.work, leased.lease.epoch());
    assert!(queue.resume(BOOT, vec![under], &[]).await.is_empty(), "whoever leased it listens");
    assert_eq!(leased.lease.conclude(done()).expect("it is heard"), Concluded::Applied);
    let again = queue.resume(BOOT, vec![under], &[]).await.remove(0);
    let Claim::Over(again) = again.claim else { panic!("it is concluded") };
    assert_eq!(again.conclude(done()).expect("it is heard"), Concluded::Ignored);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the writer has this time to begin too early")]
async fn what_is_published_together_shares_a_sync() {
    let disk = SimulatedDisk::default();
    let queue = open(&disk);
    queue.publish(vec![message("example.com")]).await.expect("it is published");
    let rests = async {
        let mut before = 0;
        // Segments are made ready as well.
        while disk.calls(Call::Sync) != std::mem::replace(&mut before, disk.calls(Call::Sync)) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), rests).await.expect("the disk rests");
    let mut shared = 0;
    for _ in 0..20 {
        let syncs = disk.calls(Call::Sync);
        let [one, other] = queue.together(|| {
            let one = queue.publish(vec![message("example.com")]);
            std::thread::sleep(Duration::from_millis(1));
            [Box::pin(one), Box::pin(queue.publish(vec![message("example.com")]))]
        });
        one.await.expect("it is published");
        other.await.expect("it is published");
        shared += u64::from(disk.calls(Call::Sync) == syncs + 1);
    }
    // On a busy machine what is put in between may take longer than anything waits for it.
    assert!(shared >= 10, "{shared} of 20");
    assert_eq!(queue.stats().works, 41);
}

#[tokio::test]
async fn a_segment_that_says_who_holds_what_stays_until_that_is_over() {
    let disk = SimulatedDisk::default();
    let queue = open(&disk);
    queue.publish(vec![message("example.com")]).await.expect("it is published");
    let arrival = arrival(&queue).await;
    // What it says of itself and what says who has it stand in different segments.
    much_comes_and_ends(&queue).await;
    let leased = lease(&queue, Holder::Node(BOOT), &arrival).await.expect("nobody holds it");
    much_comes_and_ends(&queue).await;
    let (committing, _) = leased.lease.commit().await.expect("the lease runs");
    much_comes_and_ends(&queue).await;
    queue.settled().await.expect("the disk works");
    assert!(queue.stats().free_segments > 0, "segments are used again");
    std::mem::forget(committing);
    let queue = open(&disk.after_kill());
    assert_eq!(queue.boots(), [(BOOT, 1)]);
    queue.take_back(BOOT, Timestamp::default());
    assert_eq!(queue.info(leased.info.work).expect("it waits").reason, Reason::PossiblyDone);
}

async fn much_comes_and_ends(queue: &Queue) {
    for _ in 0..40 {
        let mut large = message("example.net");
        let mut body = queue.body(large.message, 0);
        body.write(&vec![7; 60 << 10]).await.expect("there is room");
        large.body = body.finish().await.expect("there is room");
        let another =
            || Publication { message: base::MessageId::generate(Clock::system().now()), ..large.clone() };
        queue.publish((0..8).map(|_| another()).collect()).await.expect("it is published");
        do_all_of(queue, "example.net").await;
    }
}
