//! A sync that fails, and then the power: every promise is kept, and nothing more is promised.

use std::collections::BTreeSet;

use base::MessageId;
use queue::{
    Queue, QueueError, Status, conformance,
    files::{Call, Fault, SimulatedDisk, When},
};

use crate::bench::{Bench, bytes_of, message, open, segments, work_of};

/// So many segments a spool makes ready before it needs them.
const KEPT_READY: usize = 3;

/// What was promised.
#[derive(Default)]
struct Promised {
    there: BTreeSet<MessageId>,
    gone: BTreeSet<MessageId>,
    /// Concluded, but perhaps not synced.
    either: BTreeSet<MessageId>,
}

/// Publishes until the disk fails, at most some; returns what was stored.
async fn publish(queue: Queue, sizes: usize) -> Vec<MessageId> {
    let mut stored = Vec::new();
    for n in 0..12 {
        let message = message(sizes * n % 7000, sizes * n % 5000);
        let id = message.message;
        match queue.publish(vec![message]).await {
            Ok(_) => stored.push(id),
            Err(error) => {
                assert!(matches!(error, QueueError::Disk(_)), "{error}");
                break;
            }
        }
    }
    stored
}

async fn work(bench: &Bench) -> Promised {
    let publishers: Vec<_> =
        (0..8).map(|n| tokio::spawn(publish(bench.queue.clone(), 900 + n * 111))).collect();
    let mut promised = Promised::default();
    while !publishers.iter().all(tokio::task::JoinHandle::is_finished) {
        for arrival in bench.arrivals().into_iter().take(3) {
            let Some(leased) = bench.lease(&arrival).await else { continue };
            if leased.lease.conclude(conformance::done()).is_ok() {
                promised.either.insert(arrival.work.message);
            }
        }
        if bench.queue.settled().await.is_ok() {
            promised.gone.append(&mut promised.either);
            bench.confirm_all();
        }
    }
    for publisher in publishers {
        promised.there.extend(publisher.await.expect("no panic"));
    }
    promised.there.retain(|id| !promised.gone.contains(id) && !promised.either.contains(id));
    promised
}

fn compare(bench: &Bench, promised: &Promised) {
    assert!(bench.spool.damage().is_empty(), "{:?}", bench.spool.damage());
    let statuses = bench.statuses();
    for id in &promised.there {
        assert_eq!(statuses.get(id), Some(&Status::Waiting), "{id} was promised");
    }
    for id in &promised.gone {
        assert_eq!(statuses.get(id), None, "{id} has ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_sync_all_waiters_are_told_and_nothing_more_is_taken() {
    let mut failures = 0;
    for after in 0..60 {
        let bench = open(SimulatedDisk::default());
        bench.disk.fail(Call::Sync, Fault::Broken, When::After(after));
        let promised = work(&bench).await;
        let published = bench.queue.publish(vec![message(1, 1)]).await;
        // A sync that fails while a segment is made or freed harms nobody: what is there was synced before.
        match bench.queue.health() {
            Ok(()) => drop(published.expect("it is published")),
            Err(_) => assert!(matches!(published, Err(QueueError::Disk(_))), "{published:?}"),
        }
        failures += usize::from(bench.queue.health().is_err());
        assert_eq!(bench.disk.retried_syncs(), 0, "a sync that failed is not tried again");
        assert!(promised.gone.iter().all(|id| bench.queue.info(work_of(*id)).is_none()));
        for seed in 0..10 {
            let bench = open(bench.disk.after_power_loss(&mut fastrand::Rng::with_seed(seed)));
            compare(&bench, &promised);
            bench.look_at_all().await;
            compare(&bench, &promised);
            let fresh = bench.publish(10, 10).await;
            let bench = open(bench.disk.after_kill());
            compare(&bench, &promised);
            assert!(bench.statuses().contains_key(&fresh));
        }
    }
    assert!(failures > 20, "only {failures} of the failed syncs were the syncer's");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_during_a_failed_sync_is_not_promised_by_a_later_one() {
    let bench = open(SimulatedDisk::default());
    bench.publish(10, 10).await;
    // No segment is being made any more, so the sync that fails is one of what is published.
    bench.until("segments are kept ready", |bench| bench.queue.stats().free_segments == KEPT_READY).await;
    bench.disk.hold_syncs();
    let (first, second) = (message(10, 10), message(20, 20));
    let written = |bench: &Bench, id: MessageId| {
        let disk = bench.disk.after_kill();
        let id = id.to_string();
        segments(&disk).iter().any(|path| bytes_of(&disk, path).windows(32).any(|w| w == id.as_bytes()))
    };
    let ids = [first.message, second.message];
    let first = tokio::spawn(bench.queue.publish(vec![first]));
    bench.until("the first is written", |bench| written(bench, ids[0])).await;
    let second = tokio::spawn(bench.queue.publish(vec![second]));
    bench.until("the second is written", |bench| written(bench, ids[1])).await;
    bench.disk.fail(Call::Sync, Fault::Broken, When::After(0));
    bench.disk.release_syncs();
    for publishing in [first, second] {
        let published = publishing.await.expect("no panic");
        assert!(matches!(published, Err(QueueError::Disk(_))), "{published:?}");
    }
}
