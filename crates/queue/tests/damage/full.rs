//! A full disk: publishers are told, what lets mail end goes on in the reserve, and so the disk empties by itself.

use queue::{
    Conclusion, Publication, Published, QueueError, Repeat, Room, conformance, files::SimulatedDisk,
    spool::Options,
};

use crate::bench::{Bench, SEGMENT, message, now, open, options, try_open_with};

/// How many segments are never used for what is new.
const RESERVE: usize = 2;

/// Publishes until the disk is full, but for what is kept back.
async fn fill(bench: &Bench) -> usize {
    bench.until("the reserve is made", |bench| bench.queue.stats().free_segments > 2).await;
    bench.disk.limit_to(bench.disk.used().max(6 * SEGMENT as u64));
    let mut count = 0;
    loop {
        match bench.queue.publish(vec![message(100, 7000)]).await {
            Ok(_) => count += 1,
            Err(error) => {
                assert!(matches!(error, QueueError::NoSpace), "{error}");
                return count;
            }
        }
    }
}

/// A conclusion with so much to say.
fn wordy(bytes: usize) -> Conclusion {
    Conclusion { record: vec![7; bytes].into(), ..conformance::done() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_empties_by_itself_and_then_takes_mail_again() {
    let bench = open(SimulatedDisk::default());
    let stored = fill(&bench).await;
    assert!(stored > 5);
    bench.until("it is seen", |bench| bench.queue.room() == Room::Full).await;
    assert_eq!(bench.queue.stats().free_segments, RESERVE, "nothing new is written there");
    for arrival in bench.arrivals() {
        let leased = bench.lease(&arrival).await.expect("nobody holds it");
        leased.lease.conclude(wordy(2000)).expect("it is taken");
    }
    bench.queue.settled().await.expect("the reserve has room for it");
    assert_eq!(bench.queue.stats().works, 0);
    bench
        .until("there is room again", |bench| {
            bench.confirm_all();
            bench.queue.room() == Room::Enough
        })
        .await;
    let id = bench.publish(100, 7000).await;
    let bench = open(bench.disk.after_kill());
    assert_eq!(bench.statuses().into_keys().collect::<Vec<_>>(), [id]);
    assert!(bench.spool.damage().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_already_is_answered_on_a_full_disk_also_after_a_restart() {
    let repeatable = |message: Publication| Publication { repeat: Repeat::Possible, ..message };
    let (stored, ended) = (repeatable(message(100, 10)), repeatable(message(100, 10)));
    let mut bench = open(SimulatedDisk::default());
    let again = vec![stored.clone(), ended.clone()];
    assert_eq!(bench.queue.publish(again.clone()).await.expect("there is room"), [Published::Stored; 2]);
    let of_ended = bench.arrivals().into_iter().find(|arrival| arrival.work.message == ended.message);
    let leased = bench.lease(&of_ended.expect("it waits")).await.expect("nobody holds it");
    leased.lease.conclude(conformance::done()).expect("it is taken");
    fill(&bench).await;
    for _ in 0..2 {
        bench.until("it is seen", |bench| bench.queue.room() == Room::Full).await;
        let answers = bench.queue.publish(again.clone()).await.expect("they need no room");
        assert_eq!(answers, [Published::AlreadyHave; 2]);
        assert!(again.iter().all(|publication| bench.queue.knows(publication.message)));
        // All of a batch or nothing, and nothing is left of it.
        let new = repeatable(message(100, 10));
        assert!(!bench.queue.knows(new.message));
        let works = bench.queue.stats().works;
        for batch in [vec![new.clone()], vec![stored.clone(), new.clone()], vec![new, ended.clone()]] {
            let refused = bench.queue.publish(batch).await;
            assert!(matches!(refused, Err(QueueError::NoSpace)), "{refused:?}");
        }
        assert_eq!(bench.queue.stats().works, works);
        let disk = bench.close().await;
        disk.limit_to(disk.used());
        bench = open(disk);
    }
    bench.disk.limit_to(u64::MAX);
    bench.until("there is room", |bench| bench.queue.room() == Room::Enough).await;
    let new = repeatable(message(100, 10));
    let answers = bench.queue.publish(vec![stored, new]).await.expect("there is room");
    assert_eq!(answers, [Published::AlreadyHave, Published::Stored]);
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_on_a_full_disk_do_not_use_the_reserve_up() {
    let mut bench = open(SimulatedDisk::default());
    let stored = fill(&bench).await;
    for _ in 0..2 * RESERVE + 1 {
        let disk = bench.close().await;
        disk.limit_to(disk.used());
        bench = open(disk);
        bench
            .until("the segment before is free again", |bench| {
                bench.confirm_all();
                bench.queue.stats().free_segments > 0
            })
            .await;
        let refused = bench.queue.publish(vec![message(100, 7000)]).await;
        assert!(matches!(refused, Err(QueueError::NoSpace)), "{refused:?}");
    }
    assert_eq!(bench.statuses().len(), stored);
    for arrival in bench.arrivals() {
        let leased = bench.lease(&arrival).await.expect("nobody holds it");
        leased.lease.conclude(conformance::done()).expect("it is taken");
    }
    bench.queue.settled().await.expect("the reserve has room for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_reserve_is_used_up_conclusions_wait_for_room_in_their_order() {
    let bench = open(SimulatedDisk::default());
    let stored = fill(&bench).await;
    let mut arrivals = bench.arrivals();
    assert_eq!(arrivals.len(), stored);
    let mut concluded = 0;
    for arrival in arrivals.drain(..stored - 1) {
        let leased = bench.lease(&arrival).await.expect("nobody holds it");
        // They take more than what is left of the open segment and the reserve together.
        leased.lease.conclude(wordy(20_000)).expect("it is taken");
        concluded += 1;
    }
    assert!(concluded * 20_000 > 4 * SEGMENT);
    let settled = bench.queue.settled().await;
    assert!(matches!(settled, Err(QueueError::NoSpace)), "what waits for room is not settled: {settled:?}");
    let cancelled = bench.queue.cancel(vec![arrivals[0].work], now()).await;
    assert!(matches!(cancelled, Err(QueueError::NoSpace)), "{cancelled:?}");
    let again = bench.arrivals().pop().expect("what could not be cancelled waits again");
    assert_eq!(again.work, arrivals[0].work);
    // Nothing is lost if it ends now, and nothing happened of what did not fit.
    bench
        .until("what was written has taken effect, and nothing else is there", |bench| {
            let waiting = bench.queue.stats().works;
            (2..stored).contains(&waiting) && open(bench.disk.after_kill()).statuses().len() == waiting
        })
        .await;
    bench.disk.limit_to(u64::MAX);
    let begun = std::time::Instant::now();
    while bench.queue.settled().await.is_err() {
        assert!(begun.elapsed() < crate::bench::PATIENCE);
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.queue.stats().works, stored - concluded);
    bench.until("there is room", |bench| bench.queue.room() == Room::Enough).await;
    bench.publish(100, 7000).await;
    let bench = open(bench.disk.after_kill());
    assert_eq!(bench.statuses().len(), stored - concluded + 1);
    assert!(bench.spool.damage().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_to_be_begun_while_what_was_concluded_waits_for_much_room() {
    let bench = open(SimulatedDisk::default());
    for _ in 0..60 {
        bench.publish(10, 10).await;
    }
    fill(&bench).await;
    assert!(bench.queue.may_begin());
    let mut arrivals = bench.arrivals().into_iter();
    while bench.queue.may_begin() {
        let arrival = arrivals.next().expect("there is an end to what memory holds");
        let leased = bench.lease(&arrival).await.expect("nobody holds it");
        leased.lease.conclude(wordy(50_000)).expect("it is taken");
        // Until the writer has tried.
        let _ = bench.queue.settled().await;
    }
    bench.disk.limit_to(u64::MAX);
    let begun = std::time::Instant::now();
    while bench.queue.settled().await.is_err() {
        assert!(begun.elapsed() < crate::bench::PATIENCE);
        tokio::task::yield_now().await;
    }
    assert!(bench.queue.may_begin());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_finds_no_room_leaves_no_file() {
    let bench = open(SimulatedDisk::default());
    fill(&bench).await;
    bench.until("it is seen", |bench| bench.queue.room() == Room::Full).await;
    let files = bench.disk.paths().len();
    bench.disk.limit_to(bench.disk.used() + 30_000);
    let mut writer = bench.queue.body(message(0, 0).message, 0);
    let written = writer.write(&vec![1; 10_000]).await;
    assert!(matches!(written, Err(QueueError::NoSpace)), "{written:?}");
    drop(writer);
    bench.until("its file is removed", |bench| bench.disk.paths().len() == files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_mark_new_mail_is_refused_while_all_else_goes_on() {
    let marks = Options { warn_free: 20 << 20, min_free: 10 << 20, ..options() };
    let bench = try_open_with(SimulatedDisk::default(), marks).expect("the spool opens");
    let id = bench.publish(10, 10).await;
    bench.until("segments are made", |bench| bench.queue.stats().free_segments > 2).await;
    let leave = |free: u64| bench.disk.limit_to(bench.disk.used() + free);
    leave(15 << 20);
    bench.until("the warning", |bench| bench.queue.room() == Room::Low).await;
    // A large body, begun while there is room, and not finished when there is none.
    let large = message(10, 0);
    let mut writer = bench.queue.body(large.message, 0);
    writer.write(&vec![1; 300_000]).await.expect("there is room");
    leave(9 << 20);
    bench.until("it is full", |bench| bench.queue.room() == Room::Full).await;
    assert_eq!(bench.queue.stats().disk_free, 9 << 20);
    let written = writer.write(&vec![1; 300_000]).await;
    assert!(matches!(written, Err(QueueError::NoSpace)), "{written:?}");
    let refused = bench.queue.publish(vec![large]).await;
    assert!(matches!(refused, Err(QueueError::NoSpace)), "{refused:?}");
    // What is there ends, and follow-ups come to be: they are part of the end.
    let arrival = bench.arrivals().pop().expect("it waits");
    let leased = bench.lease(&arrival).await.expect("nobody holds it");
    let report = message(10, 10);
    let reported = report.message;
    let conclusion = Conclusion { follow_ups: vec![report], ..conformance::done() };
    leased.lease.conclude(conclusion).expect("it is taken");
    bench.queue.settled().await.expect("the disk works");
    assert!(!bench.statuses().contains_key(&id) && bench.statuses().contains_key(&reported));
    // Just above the mark it stays; well above, it goes.
    leave(10 << 20);
    bench.until("a look", |bench| bench.queue.stats().disk_free == 10 << 20).await;
    assert_eq!(bench.queue.room(), Room::Full);
    leave(30 << 20);
    bench.until("there is room", |bench| bench.queue.room() == Room::Enough).await;
    bench.publish(10, 10).await;
}
