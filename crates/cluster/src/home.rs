//! A manager in a test, with its port open, and workers that dial it.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use base::{ByteSize, Clock, ManualClock, MessageId, NodeId, Shutdown, Timestamp};
use bytes::Bytes;
use parking_lot::Mutex;
use queue::{
    Body, Kind, Memory, NewWork, Publication, Queue, Repeat, Resumed, Spool, files::SimulatedDisk, spool,
};
use store::settings::Settings;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    authority::Authority,
    identity::{Identity, PublicKey},
    manager::{self, Errand, Manager, Trade, Works},
    membership::Timing,
    placement::Policy,
    wire,
    worker::{Assignment, Hands, Link, Options, Worker},
};

/// The longest message that the manager takes.
pub(crate) const LONGEST: ByteSize = ByteSize::mib(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);
/// Long, where it must not matter.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Home {
    pub(crate) manager: Manager,
    /// The manager's; it goes by hand.
    pub(crate) clock: ManualClock,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    settings: Arc<Settings>,
    identity: Identity,
    folder: Arc<TempDir>,
}

#[derive(Debug, Default)]
pub(crate) struct Keeps(Mutex<Vec<Errand>>);

impl Trade for Keeps {
    fn adopt(&self, errand: Errand, _: Vec<(usize, Resumed)>) {
        self.0.lock().push(errand);
    }

    fn brought(&self, _: u64) {}

    fn longest(&self) -> u64 {
        LONGEST.0
    }

    fn refused(&self, _: &str, _: wire::Refusal) {}
}

#[derive(Debug)]
struct Passes(mpsc::UnboundedSender<Assignment>);

impl Hands for Passes {
    fn attempt(&self, assignment: Assignment) {
        let _ = self.0.send(assignment);
    }
}

impl Home {
    pub(crate) async fn new(timing: Timing) -> Self {
        let queue = Queue::new(Arc::new(Memory::new(Clock::system(), Duration::ZERO)));
        Self::with(timing, queue, Arc::new(Keeps::default())).await
    }

    /// One with this queue, whose trade takes over what nodes come back with.
    pub(crate) async fn with(timing: Timing, queue: Queue, trade: Arc<dyn Trade>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let settings = Settings::open(folder.path().join("settings.db")).expect("a new file");
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let identity = identity(&folder, "manager");
        Self::start(socket, timing, (queue, trade), (Arc::new(settings), identity, Arc::new(folder)))
    }

    /// The same after a restart, with the queue as it is then.
    pub(crate) async fn restarted(&self, timing: Timing, queue: Queue, trade: Arc<dyn Trade>) -> Self {
        self.shutdown.stop();
        let socket = async {
            loop {
                match TcpListener::bind(self.address).await {
                    Ok(socket) => break socket,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let socket = tokio::time::timeout(PATIENCE, socket).await.expect("the port is free again");
        let kept = (self.settings.clone(), self.identity.clone(), self.folder.clone());
        Self::start(socket, timing, (queue, trade), kept)
    }

    fn start(
        socket: TcpListener,
        timing: Timing,
        (queue, trade): (Queue, Arc<dyn Trade>),
        (settings, identity, folder): (Arc<Settings>, Identity, Arc<TempDir>),
    ) -> Self {
        // Workers check the manager's certificate by the time of this machine: it is good as it is, and as it is a week later.
        let clock = ManualClock::at(Clock::system().now() - 6 * DAY);
        let authority = Authority::open_or_make(folder.path(), clock.clock().now()).expect("it can be read");
        let options = manager::Options {
            name: "home".into(),
            timing,
            after_loss: Duration::ZERO,
            placement: Policy::default(),
            works: Works::No,
            credit_works: 0,
            credit_bytes: 0,
        };
        let shutdown = Shutdown::new();
        let credentials = (authority, &identity);
        let manager = Manager::start(options, queue, settings.clone(), credentials, clock.clock(), &shutdown);
        let manager = manager.expect("all can be read");
        let address = socket.local_addr().expect("it has one");
        manager.listen(socket, trade, &shutdown);
        Self { manager, clock, address, shutdown, settings, identity, folder }
    }

    /// A worker whose key is registered under its name.
    pub(crate) fn worker(&self, name: &str) -> Worker {
        self.worker_with(name, |_| {})
    }

    /// A worker that is set up otherwise, whose key is registered.
    pub(crate) fn worker_with(&self, name: &str, change: impl FnOnce(&mut Options)) -> Worker {
        let (worker, key) = self.stranger_with(name, change);
        self.manager.add_key(name, &key).expect("it is new");
        worker
    }

    /// A worker whose key is not registered, and the key.
    pub(crate) fn stranger(&self, name: &str) -> (Worker, PublicKey) {
        self.stranger_with(name, |_| {})
    }

    fn stranger_with(&self, name: &str, change: impl FnOnce(&mut Options)) -> (Worker, PublicKey) {
        let identity = identity(&self.folder, name);
        let mut options = Options {
            manager: self.address.to_string(),
            pin: self.manager.pin(),
            name: None,
            ehlo: String::new(),
            doors: Vec::new(),
            version: String::new(),
            credit_works: 1000,
            credit_bytes: 1 << 30,
            cache_bytes: 1 << 20,
            hold: PATIENCE,
        };
        change(&mut options);
        (Worker::new(options, &identity), identity.public_key())
    }

    /// Has a worker dial until the manager has welcomed it; what it is given comes out here.
    pub(crate) async fn run(
        &self,
        worker: &Worker,
        shutdown: &Shutdown,
    ) -> mpsc::UnboundedReceiver<Assignment> {
        let (hands, assignments) = mpsc::unbounded_channel();
        worker.run(Arc::new(Passes(hands)), shutdown);
        linked(worker).await;
        assignments
    }
}

/// A queue on a simulated disk, which keeps nothing in memory: all is read from the disk.
pub(crate) fn queue_on(disk: &SimulatedDisk) -> Queue {
    let options = spool::Options { segment_size: 4 << 20, recent_bytes: 0, ..spool::Options::default() };
    let spool = Spool::open(disk.disk(), Path::new("/spool"), Clock::system(), options);
    Queue::new(spool.expect("it can be read"))
}

/// A disk stands still until this is dropped, also by a test that fails: its queue ends only then.
pub(crate) struct StandsStill(SimulatedDisk);

impl StandsStill {
    pub(crate) fn from_now_on(disk: &SimulatedDisk) -> Self {
        disk.hold_syncs();
        Self(disk.clone())
    }
}

impl Drop for StandsStill {
    fn drop(&mut self) {
        self.0.release_syncs();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

/// Returns once a worker has a link.
pub(crate) async fn linked(worker: &Worker) {
    let mut changes = worker.changes();
    let is_linked = changes.wait_for(|state| matches!(state.link, Link::Up { .. }));
    tokio::time::timeout(PATIENCE, is_linked).await.expect("a link").expect("the worker is there");
}

/// Returns once something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"));
}

fn identity(folder: &TempDir, name: &str) -> Identity {
    let dir = folder.path().join(name);
    std::fs::create_dir(&dir).expect("it is new");
    Identity::open_or_make(&dir, NodeId::generate()).expect("it is new")
}

/// A message with one recipient and this body; its id is made of the number.
pub(crate) fn publication(number: u8, at: Timestamp, body: Body) -> Publication {
    let work = NewWork {
        lane: "example.com".into(),
        account: "".into(),
        priority: 0,
        not_before: Timestamp::default(),
        expires: Timestamp::from_micros(i64::MAX),
        recipients: 1,
        needs: Vec::new(),
        detail: Bytes::new(),
    };
    Publication {
        message: MessageId::from_bytes([number; 16]),
        kind: Kind::Mail,
        at,
        header: Bytes::new(),
        body,
        works: vec![work],
        repeat: Repeat::Possible,
    }
}
