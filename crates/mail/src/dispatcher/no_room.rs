//! On a full disk nothing is begun whose outcome could not be written down, and once there is room, all of it.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use base::{Clock, ManualClock, Shutdown, WorkId};
use queue::{
    Body, Conclusion, Holder, Kind, Queue, QueueError, Spool, conformance, files::SimulatedDisk,
    spool::Options,
};
use rusqlite::Connection;
use store::settings::{About, NewPause, Settings};
use testkit::Peer;

use crate::{Config, Delivery, Gateway, Handling, Submission, Waits};

const SEGMENT: usize = 64 << 10;
/// What never happens is a failure after this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gateway whose spool lies on a disk that can be full, and what its mail goes to.
struct Bench {
    disk: SimulatedDisk,
    queue: Queue,
    clock: ManualClock,
    gateway: Arc<Gateway>,
    peer: Peer,
    dir: tempfile::TempDir,
    _shutdown: Shutdown,
}

impl Bench {
    /// All mail is paused for an hour.
    fn start() -> Self {
        let (disk, peer) = (SimulatedDisk::default(), Peer::willing());
        let clock = ManualClock::at(Clock::system().now());
        let dir = tempfile::tempdir().expect("a folder can be made");
        let options = Options {
            segment_size: SEGMENT,
            inline_body: 8 << 10,
            warn_free: 0,
            min_free: 0,
            ..Options::default()
        };
        let spool = Spool::open(disk.disk(), Path::new("/spool"), clock.clock(), options).expect("it opens");
        let queue = Queue::new(spool);
        let settings = Arc::new(Settings::open(dir.path().join("settings")).expect("they open"));
        let until = Some(clock.clock().now() + HOUR);
        let pause = NewPause { about: About::All, until, why: "a test".into(), by: "a test".into() };
        settings.pause(&pause, clock.clock().now()).expect("it is written");
        let smarthost = Some(peer.address().to_string().parse().expect("it is a next hop"));
        let delivery = Delivery { smarthost, ..Delivery::for_tests() };
        let config = Config { delivery, ..Config::for_tests() };
        let log = dir.path().join("log");
        let shutdown = Shutdown::new();
        let gateway = Gateway::start(config, &queue, &log, &settings, clock.clock(), None, &shutdown);
        let gateway = gateway.expect("it starts");
        Self { disk, queue, clock, gateway, peer, dir, _shutdown: shutdown }
    }

    /// The message log takes nothing until the lock is dropped, and so no segment is free again.
    fn lock_log(&self) -> Connection {
        let log = Connection::open(self.dir.path().join("log")).expect("it opens");
        log.busy_timeout(PATIENCE).expect("it can wait");
        log.execute_batch("BEGIN IMMEDIATE").expect("the log is between two batches at times");
        log
    }

    async fn submit(&self, expire: Option<Duration>) -> WorkId {
        let submission = Submission {
            sender: String::new(),
            recipients: vec!["someone@example.com".into()],
            text: b"Subject: it waits\n\nfor room\n".to_vec(),
            handling: Handling { expire, ..Handling::default() },
        };
        let message = self.gateway.submit(submission).await.expect("there is room for it");
        WorkId { message, index: 0 }
    }

    /// Publishes what is not mail, until it is refused or there is enough of it.
    async fn fill(&self, body: usize, most: usize) {
        for _ in 0..most {
            let mut run = conformance::message("example.com");
            run.kind = Kind::Run;
            run.body = Body::Memory(vec![7; body].into());
            match self.queue.publish(vec![run]).await {
                Ok(_) => {}
                Err(QueueError::NoSpace) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Ends what is not mail, with much to be said of each, until no more is to be begun.
    async fn end_runs(&self) {
        let mut runs = Vec::new();
        self.queue.take_arrivals(Kind::Run, usize::MAX, &mut runs);
        for run in runs {
            if !self.queue.may_begin() {
                return;
            }
            let leased = self.queue.lease(Holder::Here, vec![run.ticket]).await;
            for leased in leased {
                let wordy = Conclusion { record: vec![7; SEGMENT - 12_000].into(), ..conformance::done() };
                leased.lease.conclude(wordy).expect("it is taken");
            }
            // Until the writer has tried.
            let _ = self.queue.settled().await;
        }
        panic!("all of it was written down");
    }

    /// Lets time go on until something is so.
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", self.gateway.dispatcher().depths());
            self.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn waits(&self, work: WorkId) -> Waits {
        self.gateway.why(work).await.expect("it can be read").expect("it waits").1
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_begins_and_nothing_expires_until_there_is_room() {
    let bench = Bench::start();
    let (goes, too_old) = (bench.submit(None).await, bench.submit(Some(HOUR / 2)).await);
    let log = bench.lock_log();
    bench.fill(10, 60).await;
    bench.disk.limit_to(bench.disk.used());
    bench.fill(7000, usize::MAX).await;
    assert!(bench.queue.may_begin());
    bench.end_runs().await;

    // The pause ends and a message is too old.
    bench.clock.advance(HOUR + HOUR);
    let depths = |bench: &Bench| bench.gateway.dispatcher().depths();
    bench.until("the pause is over", |bench| depths(bench).paused == 0 && depths(bench).ready == 1).await;
    assert_eq!(bench.waits(goes).await, Waits::NoRoom);
    assert_eq!(bench.waits(too_old).await, Waits::NoRoom);
    assert_eq!((bench.peer.count(), depths(&bench).running), (0, 0));

    bench.disk.limit_to(u64::MAX);
    bench.until("it at the peer", |bench| bench.peer.count() == 1).await;
    bench
        .until("both have ended", |bench| {
            [goes, too_old].into_iter().all(|work| bench.queue.info(work).is_none())
        })
        .await;
    bench
        .until("both are counted", |bench| {
            let ends = bench.gateway.counters().totals();
            (ends.delivered, ends.expired) == (1, 1)
        })
        .await;
    drop(log);
    bench.gateway.stop(PATIENCE).await;
}
