//! The conformance suite, stamped on every provider of the queue.

use std::{path::Path, sync::Arc, time::Duration};

use base::{Clock, WorkId};
use queue::{
    Change, Holder, Kind, Memory, Queue, Spool,
    conformance::{arrival, done, lease, message},
    files::{Disk, SimulatedDisk},
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
    let open = |disk: &SimulatedDisk| {
        let spool = Spool::open(disk.disk(), Path::new("/spool"), Clock::system(), small());
        Queue::new(spool.expect("the spool opens"))
    };
    let queue = open(&disk);
    for _ in 0..20 {
        queue.publish(vec![message("example.com")]).await.expect("it is published");
        let arrival = arrival(&queue).await;
        let leased = lease(&queue, Holder(1), &arrival).await.expect("nobody holds it");
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
    let open = |disk: &SimulatedDisk| {
        let spool = Spool::open(disk.disk(), Path::new("/spool"), Clock::system(), small());
        Queue::new(spool.expect("the spool opens"))
    };
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
