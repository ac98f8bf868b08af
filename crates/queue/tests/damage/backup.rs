//! A copy that was taken while the spool was busy opens as a spool of one moment, with nothing damaged in it.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use base::MessageId;
use queue::{
    conformance,
    files::{Disk, SimulatedDisk},
    spool::{Piece, Snapshot},
};

use super::bench::{Bench, body_of, message, open};

/// Writes pieces below a folder as a restore does.
fn copy(pieces: &[Piece], to: &Disk) {
    for piece in pieces {
        let path = Path::new("/spool").join(&piece.name);
        to.create_dir(path.parent().expect("it is in a folder")).expect("the disk works");
        // A body file that was copied while it grew is copied again.
        let _ = to.remove(&path);
        let file = to.create(&path).expect("the disk works");
        let mut at = 0;
        // In odd bites, so that others write in between.
        let mut bytes = vec![0; 3001];
        loop {
            let read = piece.read_at(&mut bytes, at).expect("the disk works");
            if read == 0 {
                break;
            }
            file.write_at(&bytes[..read], at).expect("the disk works");
            at += read as u64;
        }
        assert_eq!(at, piece.len);
        let rest = usize::try_from(piece.file_len - piece.len).expect("it is short");
        file.write_at(&vec![0; rest], at).expect("the disk works");
    }
}

/// Ends every second of these messages.
async fn end_some(bench: &Bench, rest: &mut BTreeSet<MessageId>) {
    for (number, arrival) in bench.arrivals().into_iter().enumerate() {
        if number.is_multiple_of(2)
            && let Some(leased) = bench.lease(&arrival).await
        {
            leased.lease.conclude(conformance::done()).expect("it is concluded");
            rest.remove(&arrival.work.message);
        }
    }
    bench.queue.settled().await.expect("the disk works");
}

async fn publish_some(bench: &Bench, count: usize, into: &mut BTreeSet<MessageId>) {
    for number in 0..count {
        let mut message = message(100, 900);
        if number.is_multiple_of(10) {
            // Too long for a segment: it has a file of its own.
            let mut body = bench.queue.body(message.message, 20_000);
            body.write(&body_of(message.message, 20_000)).await.expect("the disk works");
            message.body = body.finish().await.expect("the disk works");
        }
        into.insert(message.message);
        bench.queue.publish(vec![message]).await.expect("it is published");
    }
}

fn bodies(disk: &SimulatedDisk) -> usize {
    disk.paths().iter().filter(|path| path.extension().is_some_and(|kind| kind == "body")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_busy_spool_holds_all_that_was_published_before_its_moment() {
    let bench = Arc::new(open(SimulatedDisk::default()));
    let mut waiting = BTreeSet::new();
    publish_some(&bench, 150, &mut waiting).await;
    end_some(&bench, &mut waiting).await;
    bench.confirm_all();

    let copied = SimulatedDisk::default();
    let mut snapshot: Snapshot = bench.queue.snapshot().unwrap();
    copy(&snapshot.whole().unwrap(), &copied.disk());
    publish_some(&bench, 150, &mut waiting).await;
    end_some(&bench, &mut waiting).await;
    bench.confirm_all();
    copy(&snapshot.whole().unwrap(), &copied.disk());

    // While the rest is copied, others publish and end.
    let stop = Arc::new(AtomicBool::new(false));
    let busy = tokio::spawn({
        let (bench, stop) = (bench.clone(), stop.clone());
        async move {
            let mut late = BTreeSet::new();
            while !stop.load(Ordering::SeqCst) {
                publish_some(&bench, 20, &mut late).await;
                end_some(&bench, &mut late).await;
            }
        }
    });
    let before = waiting.clone();
    let (pieces, sequence) = snapshot.rest().unwrap();
    copy(&pieces, &copied.disk());
    stop.store(true, Ordering::SeqCst);
    busy.await.unwrap();
    assert!(sequence > 300, "{sequence}");

    let restored = open(copied.after_kill());
    assert_eq!(restored.queue.damage(), []);
    let found: BTreeSet<MessageId> = restored.statuses().into_keys().collect();
    // What ended while the rest was copied may be there or not; nothing else is missing.
    let still = bench.statuses();
    let missing: Vec<_> = before.iter().filter(|id| !found.contains(id) && still.contains_key(id)).collect();
    assert!(missing.is_empty() && found.len() >= 100, "{} found, missing {missing:?}", found.len());
    restored.look_at_all().await;
    assert_eq!(restored.queue.damage(), []);
}

#[tokio::test]
async fn what_has_ended_is_kept_as_long_as_it_is_being_copied() {
    let bench = open(SimulatedDisk::default());
    let mut waiting = BTreeSet::new();
    publish_some(&bench, 200, &mut waiting).await;
    let snapshot = bench.queue.snapshot().unwrap();
    let (segments, files) = (bench.queue.stats().segments, bodies(&bench.disk));
    assert!(segments > 3 && files == 20, "{segments} segments, {files} bodies");
    for arrival in bench.arrivals() {
        let leased = bench.lease(&arrival).await.unwrap();
        leased.lease.conclude(conformance::done()).unwrap();
    }
    bench.queue.settled().await.unwrap();
    // Whatever the collector does about these ends, it has looked by the time that it has looked again.
    bench.confirm_all();
    bench.publish(0, 100).await;
    bench.confirm_all();
    assert!(bench.queue.stats().segments >= segments && bodies(&bench.disk) == files);
    drop(snapshot);
    bench
        .until("what has ended to be gone", |bench| {
            bench.queue.stats().segments < segments && bodies(&bench.disk) == 0
        })
        .await;
}
