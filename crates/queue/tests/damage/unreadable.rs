//! Places that the disk does not give: what stands there waits or is missed, and all else goes on.

use std::path::PathBuf;

use base::MessageId;
use queue::{Change, Leased, Reason, Status, files::SimulatedDisk};

use crate::bench::{Bench, ME, SEGMENT, bytes_of, find, message, now, open, segments, try_open, work_of};

/// Three messages in the segment that was being written when the node was killed, and where each one's header stands.
async fn killed() -> (SimulatedDisk, [MessageId; 3], [(PathBuf, usize); 3]) {
    let bench = open(SimulatedDisk::default());
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(bench.publish(6000, 6000).await);
    }
    let disk = bench.disk.after_kill();
    let ids: [MessageId; 3] = ids.try_into().expect("there are three");
    let places = ids.map(|id| find(&disk, id.to_string().as_bytes()));
    (disk, ids, places)
}

fn spoil(disk: &SimulatedDisk, (path, at): &(PathBuf, usize)) {
    disk.spoil(path, *at as u64..*at as u64 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_reads_around_what_the_disk_does_not_give() {
    let (disk, [first, lost, last], places) = killed().await;
    spoil(&disk, &places[1]);
    let bench = open(disk);
    let damage = bench.spool.damage();
    assert!(damage.iter().any(|damage| damage.what.contains("does not give bytes")), "{damage:?}");
    let statuses = bench.statuses();
    assert!(statuses.contains_key(&first) && statuses.get(&lost) != Some(&Status::Waiting), "{statuses:?}");
    assert_eq!(statuses[&last], Status::Waiting, "what stands behind it was promised and is whole");
    let fresh = bench.publish(10, 10).await;
    // Another time it is readable, and then it is as if nothing had been.
    let disk = bench.close().await;
    disk.heal(&places[1].0);
    let bench = open(disk);
    assert!(bench.spool.damage().is_empty(), "{:?}", bench.spool.damage());
    let statuses = bench.statuses();
    assert!([first, lost, last, fresh].iter().all(|id| statuses[id] == Status::Waiting), "{statuses:?}");
    bench.look_at_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_place_where_nothing_was_written_is_reported_and_no_more() {
    let (disk, ids, places) = killed().await;
    disk.spoil(&places[2].0, SEGMENT as u64 - 5000..SEGMENT as u64 - 4999);
    let bench = open(disk);
    let damage = bench.spool.damage();
    assert!(damage.len() == 1 && damage[0].what.contains("does not give bytes"), "{damage:?}");
    assert!(ids.iter().all(|id| bench.statuses()[id] == Status::Waiting));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_segment_holds_counts_though_the_end_of_the_older_is_hidden() {
    let bench = open(SimulatedDisk::default());
    for _ in 0..4 {
        bench.publish(6000, 6000).await;
    }
    bench.until("segments are kept ready", |bench| bench.queue.stats().free_segments >= 3).await;
    // Both are written before anything is synced, so nothing on the disk proves either.
    bench.disk.hold_syncs();
    let mut publishing = Vec::new();
    let mut written = Vec::new();
    for (header, body) in [(1000, 5000), (6000, 6000)] {
        let message = message(header, body);
        let id = message.message;
        publishing.push(tokio::spawn(bench.queue.publish(vec![message])));
        bench.until("it is written", |bench| holds(&bench.disk.after_kill(), id)).await;
        written.push((id, find(&bench.disk.after_kill(), id.to_string().as_bytes())));
    }
    let disk = bench.disk.after_kill();
    bench.disk.release_syncs();
    let [(older, place), (newer, other)] = &written[..] else { panic!("there are two") };
    assert_ne!(place.0, other.0, "the second begins a segment");
    spoil(&disk, place);
    let bench = open(disk);
    assert_eq!(bench.statuses().get(newer), Some(&Status::Waiting));
    let disk = bench.close().await;
    disk.heal(&place.0);
    let statuses = open(disk).statuses();
    assert!(statuses.len() == 6 && statuses[older] == Status::Waiting, "{statuses:?}");
}

/// Whether a message stands somewhere on a disk.
fn holds(disk: &SimulatedDisk, id: MessageId) -> bool {
    let id = id.to_string();
    segments(disk).iter().any(|path| bytes_of(disk, path).windows(32).any(|found| found == id.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_refused_where_nobody_can_tell_what_was_written_last() {
    let (disk, _, places) = killed().await;
    spoil(&disk, &places[2]);
    let refused = try_open(disk.after_kill()).map(drop).expect_err("the end is not known").to_string();
    assert!(refused.contains("does not give bytes") && refused.contains("segment 1"), "{refused}");
    disk.heal(&places[2].0);
    assert_eq!(open(disk).statuses().len(), 3);
}

async fn lease_all(bench: &Bench) -> Vec<Leased> {
    let tickets = bench.arrivals().iter().map(|arrival| arrival.ticket).collect();
    bench.queue.lease(ME, tickets).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_read_now_waits_and_is_not_given_up() {
    let bench = open(SimulatedDisk::default());
    let (one, other) = (bench.publish(10, 4000).await, bench.publish(10, 4000).await);
    let disk = bench.close().await;
    let place = find(&disk, one.to_string().as_bytes());
    let bench = open(disk);
    spoil(&bench.disk, &place);
    let leased = lease_all(&bench).await;
    assert_eq!(leased.iter().map(|leased| leased.info.work.message).collect::<Vec<_>>(), [other]);
    drop(leased);
    let info = bench.queue.info(work_of(one)).expect("it waits");
    assert_eq!((info.status, info.reason), (Status::Waiting, Reason::Unreadable));
    assert!(info.not_before > now());
    bench.disk.heal(&place.0);
    bench.queue.change(vec![work_of(one)], Change::Reschedule(now())).await.expect("the disk works");
    let leased = lease_all(&bench).await;
    assert!(leased.iter().any(|leased| leased.info.work.message == one));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_goes_on_behind_what_the_disk_does_not_give() {
    let bench = open(SimulatedDisk::default());
    for n in 0..6 {
        bench.queue.publish(vec![message(6000, n)]).await.expect("it is published");
    }
    let disk = bench.close().await;
    let path =
        segments(&disk).into_iter().find(|path| bytes_of(&disk, path).len() > 40_000).expect("one is full");
    let bench = open(disk);
    bench.disk.spoil(&path, 20_000..20_001);
    bench.confirm_all();
    let damage = bench.spool.damage();
    assert!(
        damage.iter().any(|damage| damage.what.contains("cannot be told to the message log")),
        "{damage:?}"
    );
}
