//! What the tests of damage share: a spool on a simulated disk, and what it holds.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use base::{Clock, MessageId, Timestamp, WorkId};
use bytes::Bytes;
use queue::{
    Arrival, Body, Holder, Kind, Leased, Position, Publication, Queue, QueueError, Spool, Status,
    conformance, files::SimulatedDisk, spool::Options,
};

pub(crate) const SEGMENT: usize = 64 << 10;
pub(crate) const ME: Holder = Holder::Here;
/// What never happens is a failure after this time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) disk: SimulatedDisk,
    pub(crate) spool: Arc<Spool>,
    pub(crate) queue: Queue,
}

pub(crate) fn options() -> Options {
    Options {
        segment_size: SEGMENT,
        inline_body: 8 << 10,
        recent_bytes: 0,
        warn_free: 0,
        min_free: 0,
        ..Options::default()
    }
}

pub(crate) fn try_open(disk: SimulatedDisk) -> Result<Bench, QueueError> {
    try_open_with(disk, options())
}

pub(crate) fn try_open_with(disk: SimulatedDisk, options: Options) -> Result<Bench, QueueError> {
    let spool = Spool::open(disk.disk(), Path::new("/spool"), Clock::system(), options)?;
    Ok(Bench { queue: Queue::new(spool.clone()), spool, disk })
}

pub(crate) fn open(disk: SimulatedDisk) -> Bench {
    try_open(disk).expect("the spool opens")
}

/// A message with a header and a body of its own.
pub(crate) fn message(header: usize, body: usize) -> Publication {
    let mut message = conformance::message("example.com");
    message.header = format!("{}{}", message.message, "h".repeat(header)).into();
    message.body = Body::Memory(body_of(message.message, body));
    message
}

pub(crate) fn body_of(message: MessageId, len: usize) -> Bytes {
    message.to_bytes().iter().rev().cycle().take(len).copied().collect()
}

pub(crate) fn work_of(message: MessageId) -> WorkId {
    WorkId { message, index: 0 }
}

impl Bench {
    pub(crate) async fn publish(&self, header: usize, body: usize) -> MessageId {
        let message = message(header, body);
        let id = message.message;
        self.queue.publish(vec![message]).await.expect("it is published");
        id
    }

    /// What waits, by message.
    pub(crate) fn statuses(&self) -> BTreeMap<MessageId, Status> {
        let works = conformance::all(&self.queue).into_iter();
        works.map(|work| (work.message, self.queue.info(work).expect("it was just found").status)).collect()
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        self.queue.take_arrivals(Kind::Mail, usize::MAX, &mut arrivals);
        arrivals
    }

    pub(crate) async fn lease(&self, arrival: &Arrival) -> Option<Leased> {
        self.queue.lease(ME, vec![arrival.ticket]).await.pop()
    }

    /// Leases all that waits, looks at it and gives it back; what is damaged is set aside by that.
    pub(crate) async fn look_at_all(&self) {
        for arrival in self.arrivals() {
            let Some(leased) = self.lease(&arrival).await else { continue };
            let message = arrival.work.message;
            assert!(
                leased.words.header.starts_with(message.to_string().as_bytes()),
                "the header of {message}"
            );
            let body = conformance::read(&leased.body).await.expect("it was proven whole");
            assert_eq!(body, body_of(message, body.len()), "the body of {message}");
        }
    }

    /// Reads the whole feed and confirms it.
    pub(crate) fn confirm_all(&self) {
        let mut feed = self.queue.feed(Position::default()).expect("it is this spool's");
        loop {
            let (tales, position) = feed.next(1, 1000, Duration::ZERO).expect("it can be read");
            if tales.is_empty() {
                return feed.confirm(position);
            }
        }
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}");
            tokio::task::yield_now().await;
        }
    }

    /// Closes the spool, and returns the disk.
    pub(crate) async fn close(self) -> SimulatedDisk {
        self.queue.close().await.expect("the disk works");
        self.disk.after_kill()
    }
}

/// The files of all segments, in order of their slots.
pub(crate) fn segments(disk: &SimulatedDisk) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|path| path.extension().is_some_and(|end| end == "segment")).collect()
}

/// The bytes of a file.
pub(crate) fn bytes_of(disk: &SimulatedDisk, path: &Path) -> Vec<u8> {
    let mut copy = Vec::new();
    disk.tamper(path, |bytes| copy.clone_from(bytes));
    copy
}

/// Where some bytes are, in which segment's file.
pub(crate) fn find(disk: &SimulatedDisk, wanted: &[u8]) -> (PathBuf, usize) {
    let found = segments(disk).into_iter().find_map(|path| {
        let bytes = bytes_of(disk, &path);
        let at = bytes.windows(wanted.len()).position(|window| window == wanted)?;
        Some((path, at))
    });
    found.expect("it is somewhere on the disk")
}

/// The moment now.
pub(crate) fn now() -> Timestamp {
    Clock::system().now()
}

/// A closed spool of several segments: messages that wait, and messages that ended; all of it proven to have
/// been synced by what was written later.
pub(crate) async fn filled() -> (SimulatedDisk, Vec<MessageId>, Vec<MessageId>) {
    let bench = open(SimulatedDisk::default());
    let (mut waiting, mut ended) = (Vec::new(), Vec::new());
    for n in 0..40 {
        let id = bench.publish(n * 40, n * 200).await;
        if n % 4 == 3 {
            bench.queue.cancel(vec![work_of(id)], now()).await.expect("it is cancelled");
            ended.push(id);
        } else {
            waiting.push(id);
        }
    }
    let bench = open(bench.close().await);
    bench.queue.settled().await.expect("the disk works");
    (bench.close().await, waiting, ended)
}
