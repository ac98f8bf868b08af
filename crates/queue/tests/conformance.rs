//! The conformance suite, stamped on every provider of the queue.

use std::{path::Path, sync::Arc, time::Duration};

use base::Clock;
use queue::{
    Memory, Queue, Spool,
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
