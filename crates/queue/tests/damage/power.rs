//! A sync that fails, and then the power: every promise is kept, and nothing more is promised.

use std::collections::BTreeSet;

use base::MessageId;
use queue::{
    Queue, QueueError, Status, conformance,
    files::{Call, Fault, SimulatedDisk, When},
};

use crate::bench::{Bench, body_of, bytes_of, message, open, segments, work_of};

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
async fn publish(queue: Queue, sizes: usize, is_expected: fn(&QueueError) -> bool) -> Vec<MessageId> {
    let mut stored = Vec::new();
    for n in 0..12 {
        match publish_one(&queue, sizes * n % 7000, sizes * n % 11_000).await {
            Ok(id) => stored.push(id),
            Err(error) => {
                assert!(is_expected(&error), "{error}");
                break;
            }
        }
    }
    stored
}

/// A message whose body comes as a stream: the longer ones lie in files of their own.
async fn publish_one(queue: &Queue, header: usize, body: usize) -> Result<MessageId, QueueError> {
    let mut message = message(header, 0);
    let id = message.message;
    let mut writer = queue.body(id, 0);
    for chunk in body_of(id, body).chunks(3000) {
        writer.write(chunk).await?;
    }
    message.body = writer.finish().await?;
    queue.publish(vec![message]).await?;
    Ok(id)
}

async fn work(bench: &Bench, is_expected: fn(&QueueError) -> bool) -> Promised {
    let publisher = |n: usize| tokio::spawn(publish(bench.queue.clone(), 900 + n * 111, is_expected));
    let publishers: Vec<_> = (0..8).map(publisher).collect();
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
        let mut promised = work(&bench, |error| matches!(error, QueueError::Disk(_))).await;
        let late = message(1, 1);
        let id = late.message;
        match bench.queue.publish(vec![late]).await {
            // What fails after it may be yet to come.
            Ok(_) => promised.there.extend([id]),
            Err(error) => {
                assert!(matches!(error, QueueError::Disk(_)) && bench.queue.health().is_err(), "{error:?}");
            }
        }
        // A sync that fails while a segment is made or freed harms nobody: what is there was synced before.
        if bench.queue.health().is_err() {
            let published = bench.queue.publish(vec![message(1, 1)]).await;
            assert!(matches!(published, Err(QueueError::Disk(_))), "{published:?}");
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

#[tokio::test(flavor = "multi_thread")]
async fn whichever_call_fails_and_however_every_promise_is_kept() {
    let faults = [
        (Call::Write, Fault::Short),
        (Call::Write, Fault::Broken),
        (Call::Write, Fault::Full),
        (Call::Create, Fault::Full),
        (Call::Create, Fault::Broken),
        (Call::Sync, Fault::Full),
        (Call::Sync, Fault::Broken),
        (Call::SyncDir, Fault::Broken),
        (Call::Remove, Fault::Broken),
    ];
    for (call, fault) in faults {
        let mut met = 0;
        for after in 0..12 {
            let bench = open(SimulatedDisk::default());
            bench.disk.fail(call, fault, When::After(after));
            let before = bench.disk.calls(call);
            let promised =
                work(&bench, |error| matches!(error, QueueError::Disk(_) | QueueError::NoSpace)).await;
            met += usize::from(bench.disk.calls(call) > before + after);
            for seed in 0..4 {
                let bench = open(bench.disk.after_power_loss(&mut fastrand::Rng::with_seed(seed)));
                compare(&bench, &promised);
                bench.look_at_all().await;
                compare(&bench, &promised);
            }
            let bench = open(bench.disk.after_kill());
            compare(&bench, &promised);
            bench.publish(10, 10).await;
        }
        assert!(met > 0 || call == Call::Remove, "no {call:?} was there to fail");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_that_flips_on_the_way_from_the_disk_never_passes_for_what_was_written() {
    let bench = open(SimulatedDisk::default());
    let mut stored = Vec::new();
    for n in 0..20 {
        stored.push(bench.publish(n * 50, n * 300).await);
    }
    let disk = bench.close().await;
    let mut hit = 0;
    for one_in in [2, 5, 20] {
        let bench = open(disk.after_kill());
        bench.disk.fail(Call::Read, Fault::Flip, When::OneIn(one_in));
        // Who is given a header or a body is given the true one; the others are set aside.
        bench.look_at_all().await;
        bench.disk.mend();
        let statuses = bench.statuses();
        assert!(stored.iter().all(|id| statuses.contains_key(id)), "{statuses:?}");
        hit += statuses.values().filter(|status| **status == Status::SetAside).count();
    }
    assert!(hit > 0, "no bit was hit");
}
