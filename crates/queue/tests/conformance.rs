//! The conformance suite, stamped on every provider of the queue.

use std::{path::Path, sync::Arc, time::Duration};

use base::Clock;
use queue::{
    Holder, Kind, Memory, Queue, Spool,
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
