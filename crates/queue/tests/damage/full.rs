//! A full disk: publishers are told, and what nobody waits for is kept until there is room.

use queue::{QueueError, conformance, files::SimulatedDisk};

use crate::bench::{Bench, SEGMENT, message, now, open};

/// Publishes until the disk is full.
async fn fill(bench: &Bench) -> usize {
    bench.disk.limit_to(bench.disk.used().max(3 * SEGMENT as u64));
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

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_publishers_are_told_and_conclusions_wait_for_room() {
    let bench = open(SimulatedDisk::default());
    let stored = fill(&bench).await;
    assert!(stored > 5);
    let mut arrivals = bench.arrivals();
    assert_eq!(arrivals.len(), stored);
    // Conclusions with so much to say that they do not fit either.
    let mut concluded = 0;
    for arrival in arrivals.drain(..5) {
        let leased = bench.lease(&arrival).await.expect("nobody holds it");
        let conclusion = queue::Conclusion { record: vec![7; 9000].into(), ..conformance::done() };
        leased.lease.conclude(conclusion).expect("it is taken");
        concluded += 1;
    }
    let settled = bench.queue.settled().await;
    assert!(matches!(settled, Err(QueueError::NoSpace)), "what waits for room is not settled: {settled:?}");
    let cancelled = bench.queue.cancel(vec![arrivals[0].work], now()).await;
    assert!(matches!(cancelled, Err(QueueError::NoSpace)), "{cancelled:?}");
    assert_eq!(bench.queue.stats().works, stored);
    let again = bench.arrivals().pop().expect("what could not be cancelled waits again");
    assert_eq!(again.work, arrivals[0].work);
    // Nothing is lost if it ends now, and nothing happened of what did not fit.
    assert_eq!(open(bench.disk.after_kill()).statuses().len(), stored);
    bench.disk.limit_to(u64::MAX);
    let begun = std::time::Instant::now();
    while bench.queue.settled().await.is_err() {
        assert!(begun.elapsed() < crate::bench::PATIENCE);
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.queue.stats().works, stored - concluded);
    bench.publish(100, 7000).await;
    let bench = open(bench.disk.after_kill());
    assert_eq!(bench.statuses().len(), stored - concluded + 1);
    assert!(bench.spool.damage().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_finds_no_room_leaves_no_file() {
    let bench = open(SimulatedDisk::default());
    fill(&bench).await;
    let files = bench.disk.paths().len();
    let mut writer = bench.queue.body(message(0, 0).message, 0);
    let written = writer.write(&vec![1; 600_000]).await;
    assert!(matches!(written, Err(QueueError::NoSpace)), "{written:?}");
    drop(writer);
    // One that has its file, but whose publication finds no room.
    let mut large = message(10_000, 0);
    bench.disk.limit_to(bench.disk.used() + 20_000);
    let mut writer = bench.queue.body(large.message, 0);
    writer.write(&vec![1; 10_000]).await.expect("there is room");
    large.body = writer.finish().await.expect("there is room");
    assert_eq!(bench.disk.paths().len(), files + 1);
    let refused = bench.queue.publish(vec![large]).await;
    assert!(matches!(refused, Err(QueueError::NoSpace)), "{refused:?}");
    bench.until("its file is removed", |bench| bench.disk.paths().len() == files).await;
}
