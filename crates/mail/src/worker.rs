//! The mail trade of a worker: doors and attempts. Its queue is its manager's.

use std::{sync::Arc, time::Duration};

use base::Shutdown;
use cluster::worker::{Assignment, Hands, Worker as Link};
use parking_lot::Mutex;
use queue::{BodySource, LeaseOver, Recipients};
use tokio::net::TcpListener;

use crate::{
    Config, Counters, Door, GatewayError, Live,
    attempt::Home,
    attempts::{Attempts, Files},
    burst::{Burst, Tried},
    doors::Doors,
    envelope::{decode, encode},
    gateway::sweep,
    intake::Intake,
    refusals::Refusals,
};

/// The mail trade of a worker, running.
#[derive(Debug)]
pub struct Worker {
    doors: Arc<Doors>,
    attempts: Arc<Attempts>,
    /// The attempts that are under way.
    under_way: Shutdown,
    /// What the manager calls this node.
    name: Mutex<Option<String>>,
}

/// How long a burst that cannot be read is kept from other nodes.
const UNREADABLE_FOR: Duration = Duration::from_secs(5);
/// An attempt, as a stop knows it.
const ATTEMPT: &str = "attempt";

impl Worker {
    /// Starts it. Its doors are opened one by one, with [`open`](Self::open); what it is given over the link it attempts.
    ///
    /// # Errors
    /// Those who are trusted to sign certificates cannot be read.
    pub fn start(config: Config, link: &Link, shutdown: &Shutdown) -> Result<Arc<Self>, GatewayError> {
        let config = Live::new(config);
        let counters = Arc::new(Counters::default());
        let attempts = Attempts::new(&config, counters.clone(), link.clock()).map_err(GatewayError::Tls)?;
        let intake = Arc::new(Intake {
            refusals: Refusals::Link(link.clone()),
            config,
            publisher: link.publisher(),
            clock: link.clock(),
            counters: counters.clone(),
            settings: None,
            pauses: Mutex::new(Arc::new([])),
        });
        let doors = Doors::new(intake, shutdown);
        tokio::spawn(sweep(doors.clone(), attempts.clone()));
        let worker = Arc::new(Self {
            doors,
            attempts: attempts.clone(),
            under_way: shutdown.child(),
            name: Mutex::default(),
        });
        let tasks = Tasks { attempts, counters, under_way: worker.under_way.clone() };
        link.run(Arc::new(tasks), shutdown);
        Ok(worker)
    }

    /// Takes mail in on a socket, from now on until the door is dropped or the worker stops.
    #[must_use]
    pub fn open(&self, socket: TcpListener) -> Door {
        self.doors.open(socket)
    }

    /// Reads the files that a configuration names. Nothing changes by that.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn read(&self, config: &Config) -> Result<Files, GatewayError> {
        self.attempts.read(config).map_err(GatewayError::Tls)
    }

    /// From now on what was read of files counts.
    pub fn take(&self, files: Files) {
        self.attempts.take(files);
    }

    /// Puts another configuration in the place of the one that counts. What the manager calls this node stays.
    pub fn configure(&self, config: Config) {
        self.doors.configure(&config);
        let config = match &*self.name.lock() {
            Some(node) => Config { node: node.clone(), ..config },
            None => config,
        };
        self.doors.intake().config.replace(config);
    }

    /// From now on the node is called so in records, because its manager calls it so.
    pub fn rename(&self, name: &str) {
        if name.is_empty() || self.config().node == name {
            return;
        }
        *self.name.lock() = Some(name.to_owned());
        self.configure(Config::clone(&self.config()));
    }

    /// The configuration that counts now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.doors.intake().config.now()
    }

    /// Lets nobody in any more, and waits until the sessions have ended and what was begun is through, both for `grace` at most.
    pub async fn stop(&self, grace: Duration) {
        let going_out = async {
            if let Err(running) = self.under_way.ended(ATTEMPT, grace).await {
                tracing::warn!(running, "attempts are given up; the manager has them made elsewhere");
            }
        };
        tokio::join!(self.doors.stop(grace), going_out);
        self.attempts.goodbyes().await;
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.doors.intake().counters
    }

    /// Sessions that are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.doors.sessions()
    }

    /// Why no session is let in, or no message taken, now; nothing if there is room.
    #[must_use]
    pub fn no_room(&self) -> Option<&'static str> {
        self.doors.no_room()
    }

    /// Connections that are kept for the next message.
    #[must_use]
    pub fn kept_connections(&self) -> usize {
        self.attempts.kept_connections()
    }

    /// Attempts under way.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.under_way.running().iter().find(|(label, _)| *label == ATTEMPT).map_or(0, |(_, count)| *count)
    }
}

/// Attempts what the manager gives.
#[derive(Debug)]
struct Tasks {
    attempts: Arc<Attempts>,
    counters: Arc<Counters>,
    under_way: Shutdown,
}

impl Hands for Tasks {
    fn attempt(&self, assignment: Assignment) {
        let (attempts, activity) = (self.attempts.clone(), self.under_way.activity(ATTEMPT));
        let counters = self.counters.clone();
        tokio::spawn(async move {
            let burst = match decode::<Burst>(&assignment.burst) {
                Ok(burst) if burst.items.len() == assignment.works.len() => burst,
                Ok(_) => return tracing::error!("the manager gives a burst whose works do not fit it"),
                Err(error) => {
                    tracing::error!(%error, "a burst of the manager cannot be read; update this node");
                    // It goes back, but not to come again at once.
                    return tokio::time::sleep(UNREADABLE_FOR).await;
                }
            };
            let mut home = Away { assignment: &assignment, counters: &counters };
            let finished = attempts.run(&burst, &mut home).await;
            assignment.end(encode(&finished));
            drop(activity);
        });
    }
}

/// The works' home, over the link.
struct Away<'a> {
    assignment: &'a Assignment,
    counters: &'a Counters,
}

impl Home for Away<'_> {
    fn body(&self, item: usize) -> BodySource {
        self.assignment.works[item].1.clone()
    }

    async fn commit(&mut self, item: usize) -> Result<Recipients, LeaseOver> {
        self.assignment.commit(item).await
    }

    async fn tell(&mut self, item: usize, tried: Tried) {
        self.counters.tried(&tried);
        self.assignment.tell(item, encode(&tried));
    }
}
