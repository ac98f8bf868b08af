//! A worker's side of the cluster: it dials its manager, brings what it takes in, and attempts what it is given.
//!
//! * takes: the manager's address and pin, what the doors take in
//! * does: keeps a link, holds back what the manager has not answered, asks before each point of no return
//! * gives: assignments to the trades; a publisher to the doors
//!
//! `connect` keeps the link up, `streams` drives it; `desk` and `offers` keep what must be said again over the next one; `reach`
//! says when there is none that anybody can wait for.

mod assignment;
mod bodies;
mod connect;
pub(crate) mod desk;
mod line;
pub(crate) mod offers;
mod reach;
mod streams;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::{Duration, Instant},
};

use base::{Clock, Offset, Shutdown};
use parking_lot::Mutex;
use queue::{Boot, Publisher};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use self::{assignment::Assignment, connect::Trouble, reach::OutOfReach};
use self::{
    desk::Desk,
    offers::{AtManager, Cache, Offers},
};
use crate::{
    authority::{Certificate, Pin},
    boot_time,
    fence::Fence,
    identity::Identity,
    tls::{ClientTls, NotAdmitted},
    wire::{self, wanted},
};

/// What a worker is set up with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its manager listens: a host and a port.
    pub manager: String,
    /// What the manager's authority is checked by.
    pub pin: Pin,
    /// Its own name, if its configuration says one; the manager has the last word.
    pub name: Option<String>,
    /// Its own EHLO name.
    pub ehlo: String,
    /// Where it takes mail in.
    pub doors: Vec<String>,
    /// Of the program.
    pub version: String,
    /// How many works it will have at once.
    pub credit_works: u32,
    /// How many bytes of them.
    pub credit_bytes: u64,
    /// How many bytes of what it took in it keeps in memory.
    pub cache_bytes: u64,
    /// How long a message may wait for the manager's answer.
    pub hold: Duration,
}

/// Who attempts what this node is given.
pub trait Hands: Send + Sync + std::fmt::Debug {
    /// Attempts works; it must not wait for that.
    fn attempt(&self, assignment: Assignment);
}

/// A worker's side of the cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Worker(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    options: Options,
    identity: Identity,
    boot: Boot,
    tls: ClientTls,
    clock: Clock,
    offset: Offset,
    certificate: Mutex<Option<Certified>>,
    fence: Mutex<Fence>,
    /// How often the manager was dialled.
    links: AtomicU64,
    /// The number of the last beat, over all links.
    beats: AtomicU64,
    /// Steps of the runtime, which the beats tell.
    steps: AtomicU64,
    desk: Mutex<Desk>,
    offers: Mutex<Offers>,
    cache: Mutex<Cache>,
    hands: OnceLock<Arc<dyn Hands>>,
    state: watch::Sender<State>,
    /// What was refused at the door, and is to be told; what does not fit is not.
    refusals: mpsc::Sender<wire::Refusal>,
    to_tell: tokio::sync::Mutex<mpsc::Receiver<wire::Refusal>>,
    leaving: CancellationToken,
}

/// A certificate, and when the next one is asked for.
#[derive(Clone, Debug)]
struct Certified {
    certificate: Certificate,
    renew: base::Timestamp,
}

/// How the worker stands with its manager.
#[derive(Clone, Debug)]
pub struct State {
    /// Whether there is a link.
    pub link: Link,
    /// The name under which it is registered; empty before the first welcome.
    pub name: Arc<str>,
    /// The manager's name.
    pub manager: Arc<str>,
    /// What the operator wants of it.
    pub wanted: wanted::State,
    /// The manager's disk takes no more mail.
    pub full: bool,
}

/// Whether a worker has a link to its manager.
#[derive(Clone, Debug)]
pub enum Link {
    /// It has.
    Up {
        /// Since when.
        since: Instant,
    },
    /// It has not.
    Away {
        /// Since when.
        since: Instant,
        /// Why the last try came to nothing; empty before the first.
        why: Arc<str>,
    },
    /// It has not, and its manager has said that it will not have this node. That counts until there is a link again.
    Refused {
        /// Since when there is none.
        since: Instant,
        /// What the manager said.
        why: Arc<str>,
        /// What has become of it there, if it is that.
        told: Option<NotAdmitted>,
    },
}

impl Worker {
    /// How many links it has begun.
    #[cfg(test)]
    pub(crate) fn links(&self) -> u64 {
        self.0.links.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Sets a worker up; it dials when [`run`](Self::run) is called. Its clock goes by its manager's.
    #[must_use]
    pub fn new(options: Options, identity: &Identity) -> Self {
        let offset = Offset::default();
        let clock = Clock::following(&offset);
        let link = Link::Away { since: Instant::now(), why: "".into() };
        let state =
            State { link, name: "".into(), manager: "".into(), wanted: wanted::State::Active, full: false };
        let (refusals, to_tell) = mpsc::channel(REFUSALS);
        let mut boot = [0; 16];
        aws_lc_rs::rand::fill(&mut boot).expect("the system gives random numbers");
        let boot = Boot(u128::from_be_bytes(boot));
        Self(Arc::new(Shared {
            tls: ClientTls::new(options.pin, identity, Clock::system()),
            identity: identity.clone(),
            boot,
            clock,
            offset,
            certificate: Mutex::default(),
            // Its length is the manager's to say.
            fence: Mutex::new(Fence::new(Duration::ZERO)),
            links: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            desk: Mutex::default(),
            offers: Mutex::new(Offers::new(options.hold)),
            cache: Mutex::new(Cache::new(options.cache_bytes)),
            hands: OnceLock::new(),
            state: watch::Sender::new(state),
            refusals,
            to_tell: tokio::sync::Mutex::new(to_tell),
            leaving: CancellationToken::new(),
            options,
        }))
    }

    /// The clock of the cluster.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.0.clock.clone()
    }

    /// Where what is taken in here is published.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        Publisher::new(Arc::new(AtManager(self.0.clone())))
    }

    /// Keeps a link to the manager until the node stops; what is given over it goes to `hands`.
    pub fn run(&self, hands: Arc<dyn Hands>, shutdown: &Shutdown) {
        // A second one would be the same trade.
        let _ = self.0.hands.set(hands);
        let activity = shutdown.activity(LINK);
        let (shared, shutdown) = (self.0.clone(), shutdown.clone());
        tokio::spawn(async move {
            connect::keep(&shared, &shutdown).await;
            drop(activity);
        });
    }

    /// Takes nothing more from now on, and waits until the manager has heard of all that it had, at most for `patience`.
    pub async fn leave(&self, patience: Duration) {
        self.0.leaving.cancel();
        let through = async {
            while self.works() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(patience, through).await.is_err() {
            tracing::warn!(
                works = self.works(),
                "works are given up; the manager has them attempted elsewhere"
            );
        }
    }

    /// Tells the manager what was refused at the door, for the message log; nobody waits for that.
    pub fn refused(&self, refusal: wire::Refusal) {
        // While the manager is away, or slower than refusals come, the rest is not told.
        let _ = self.0.refusals.try_send(refusal);
    }

    /// How it stands with its manager.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.state.borrow().clone()
    }

    /// Tells of each change of how it stands.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    /// How long the manager has been silent: since the latest beat that it acknowledged was sent. Nothing before the first.
    #[must_use]
    pub fn silent(&self) -> Option<Duration> {
        self.0.silent()
    }

    /// Why what is taken in now could not be brought to the manager while its sender waits; nothing if it could.
    #[must_use]
    pub fn out_of_reach(&self) -> Option<OutOfReach> {
        self.0.out_of_reach()
    }

    /// Works that it has and that are not through.
    #[must_use]
    pub fn works(&self) -> usize {
        self.0.desk.lock().works()
    }

    /// Messages that wait for the manager's answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.offers.lock().len()
    }
}

impl Shared {
    fn silent(&self) -> Option<Duration> {
        let heard = self.fence.lock().heard()?;
        Some(boot_time::now().since(heard))
    }
}

/// Refusals that wait to be told.
const REFUSALS: usize = 1024;
/// How often it is looked whether all is through.
const LOOK: Duration = Duration::from_millis(20);
/// The link, as a stop knows it.
pub const LINK: &str = "link";
