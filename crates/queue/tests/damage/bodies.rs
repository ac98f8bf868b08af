//! Damaged bodies: what is harmed is set aside, and nothing else waits for it.

use std::{
    future::Future,
    task::{Context, Waker},
};

use queue::{Change, QueueError, Reason, Status, conformance, files::SimulatedDisk};
use tokio::runtime::Builder;

use crate::bench::{Bench, ME, body_of, find, message, now, open, work_of};

async fn closed_and_proven(bench: Bench) -> SimulatedDisk {
    let bench = open(bench.close().await);
    bench.queue.settled().await.expect("the disk works");
    bench.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_with_a_damaged_body_is_set_aside_when_it_is_leased() {
    let bench = open(SimulatedDisk::default());
    let harmed = bench.publish(10, 4000).await;
    let whole = bench.publish(10, 4000).await;
    let disk = closed_and_proven(bench).await;
    let (path, at) = find(&disk, &body_of(harmed, 4000)[..64]);
    disk.tamper(&path, |bytes| bytes[at + 2000] ^= 1);
    let bench = open(disk);
    bench.look_at_all().await;
    assert_eq!(bench.statuses()[&harmed], Status::SetAside);
    assert_eq!(bench.statuses()[&whole], Status::Waiting);
    assert_eq!(bench.queue.info(work_of(harmed)).expect("it is visible").reason, Reason::Damaged);
    assert!(bench.spool.damage()[0].what.contains(&harmed.to_string()));
    // Somebody may release it all the same; then it is found damaged again.
    bench.queue.change(vec![work_of(harmed)], Change::Release).await.expect("the disk works");
    bench.look_at_all().await;
    assert_eq!(bench.statuses()[&harmed], Status::SetAside);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_keeps_its_segment_and_no_other() {
    let bench = open(SimulatedDisk::default());
    let harmed = bench.publish(10, 4000).await;
    let disk = closed_and_proven(bench).await;
    let (path, at) = find(&disk, &body_of(harmed, 4000)[..64]);
    disk.tamper(&path, |bytes| bytes[at + 2000] ^= 1);
    let bench = open(disk);
    let mut whole = Vec::new();
    for _ in 0..12 {
        whole.push(bench.publish(10, 4000).await);
        for _ in 0..8 {
            let id = bench.publish(10, 7000).await;
            bench.queue.cancel(vec![work_of(id)], now()).await.expect("it is cancelled");
        }
        bench.confirm_all();
    }
    bench
        .until("the others are moved together", |bench| {
            bench.confirm_all();
            bench.queue.stats().segments <= 5
        })
        .await;
    bench.look_at_all().await;
    assert_eq!(bench.statuses()[&harmed], Status::SetAside);
    assert!(whole.iter().all(|id| bench.statuses()[id] == Status::Waiting));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_proven_whole_before_its_last_chunk() {
    let bench = open(SimulatedDisk::default());
    let mut large = message(10, 0);
    let id = large.message;
    let mut writer = bench.queue.body(id, 0);
    let bytes = body_of(id, 600_000);
    writer.write(&bytes).await.expect("there is room");
    large.body = writer.finish().await.expect("there is room");
    bench.queue.publish(vec![large]).await.expect("it is published");
    let disk = bench.close().await;
    let file = disk.paths().into_iter().find(|path| path.extension().is_some_and(|end| end == "body"));
    let file = file.expect("it lies in a file");
    let bench = open(disk.after_kill());
    let leased = bench.lease(&bench.arrivals()[0]).await.expect("nobody holds it");
    assert_eq!(conformance::read(&leased.body).await.expect("it is whole"), bytes);
    disk.tamper(&file, |bytes| bytes[10] ^= 1);
    let bench = open(disk.after_kill());
    let leased = bench.lease(&bench.arrivals()[0]).await.expect("it is read only now");
    assert!(matches!(conformance::read(&leased.body).await, Err(QueueError::Damaged(_))));
    disk.tamper(&file, |bytes| bytes.truncate(1000));
    let bench = open(disk.after_kill());
    assert!(bench.lease(&bench.arrivals()[0]).await.is_none());
    assert_eq!(bench.statuses()[&id], Status::SetAside);
    disk.disk().remove(&file).expect("it is there");
    let bench = open(disk);
    assert_eq!(bench.statuses()[&id], Status::SetAside);
    assert!(bench.spool.damage()[0].what.contains("is missing"));
}

#[test]
fn a_lease_that_nobody_waited_for_is_given_back() {
    let runtime = Builder::new_multi_thread().max_blocking_threads(1).enable_all().build();
    runtime.expect("threads can be started").block_on(async {
        let bench = open(SimulatedDisk::default());
        bench.queue.publish(vec![message(10, 0)]).await.expect("it is published");
        let arrival = bench.arrivals().pop().expect("it has come");
        // Nothing can be read from the disk until the one thread for that is let go.
        let (let_go, waits) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || waits.recv());
        let wanted = vec![arrival.ticket];
        let mut leasing = Box::pin(bench.queue.lease(ME, wanted));
        let mut context = Context::from_waker(Waker::noop());
        assert!(leasing.as_mut().poll(&mut context).is_pending());
        assert_eq!(bench.queue.stats().leased, 1);
        drop(leasing);
        drop(let_go);
        assert!(busy.await.expect("no panic").is_err());
        bench.until("it is given back", |bench| bench.queue.stats().leased == 0).await;
        let again = bench.arrivals().pop().expect("it has come again");
        assert!(bench.lease(&again).await.is_some());
    });
}
