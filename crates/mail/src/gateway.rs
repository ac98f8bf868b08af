//! The gateway: the mail trade of one node, put together, started and stopped.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use base::{Clock, MessageId, Shutdown, WorkId};
use queue::{Boot, Position, Queue, QueueError, WorkInfo};
use smtp::Address;
use store::{
    records::{self, Records},
    settings::Settings,
};
use tokio::net::TcpListener;

use crate::{
    Config, Counters, Live, MessageHeader, Submission, SubmissionError, WorkState,
    attempts::{Attempts, Files},
    away::Adopts,
    bounce::Bounces,
    delivery::Delivery,
    dispatcher,
    doors::{Door, Doors},
    envelope::{Detail, WordsError, decode},
    intake::Intake,
    log,
    refusals::{Refusal, Refusals},
    resolver::Resolver,
    retention::Retention,
};

/// How often silent sessions and unused connections are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// The dispatcher, as a stop knows it.
const DISPATCHER: &str = "dispatcher";
/// How long the message log may take to catch up at a stop.
const LOG_END: Duration = Duration::from_secs(30);

/// The mail trade of a node, running.
#[derive(Debug)]
pub struct Gateway {
    queue: Queue,
    settings: Arc<Settings>,
    doors: Arc<Doors>,
    attempts: Arc<Attempts>,
    /// Stops what sends mail out.
    dispatch: Shutdown,
    dispatcher: dispatcher::Handle,
    projector: parking_lot::Mutex<Option<JoinHandle<()>>>,
    /// What takes over the mail of nodes that come back.
    adopts: Arc<Adopts>,
}

/// The gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The message log cannot be used.
    #[error(transparent)]
    Records(#[from] records::Error),
    /// The queue cannot be read.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Those who are trusted to sign certificates cannot be read.
    #[error("delivery.tls.roots: {0}")]
    Tls(String),
    /// A thread could not be had.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

/// A work that waits, with what mail knows of it.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// What the queue knows.
    pub info: WorkInfo,
    /// The words of its message.
    pub header: MessageHeader,
    /// Its recipients that have not ended.
    pub recipients: Vec<Address>,
    /// What its latest attempt came to.
    pub state: WorkState,
}

impl Gateway {
    /// Starts the gateway: the log first, then what sends. Its doors are opened one by one, with [`open`](Self::open).
    ///
    /// # Errors
    /// If the message log or a thread cannot be had; then nothing was started.
    pub fn start(
        config: Config,
        queue: &Queue,
        log: &Path,
        settings: &Arc<Settings>,
        clock: Clock,
        cluster: Option<cluster::manager::Manager>,
        shutdown: &Shutdown,
    ) -> Result<Arc<Self>, GatewayError> {
        let config = Live::new(config);
        let counters = Arc::new(Counters::default());
        let attempts = Attempts::new(&config, counters.clone(), clock.clone()).map_err(GatewayError::Tls)?;
        let retention = Retention::new(config.clone(), clock.clone(), counters.clone());
        let (refusals, refused) = Refusals::to_log();
        let projector =
            start_projector(queue, log.to_owned(), retention, refused, config.now().node.clone())?;
        let intake = Arc::new(Intake {
            refusals: refusals.clone(),
            config: config.clone(),
            publisher: queue.clone().into(),
            clock: clock.clone(),
            counters: counters.clone(),
            pauses: parking_lot::Mutex::new(settings.pauses(clock.now())?.into()),
            settings: Some(settings.clone()),
        });
        let delivery = Arc::new(Delivery {
            queue: queue.clone(),
            counters,
            bounces: Bounces { intake: intake.clone(), clock: clock.clone() },
            resolver: Resolver::new(config.clone(), clock.clone()),
            attempts: attempts.clone(),
            cluster,
            config,
            clock,
        });
        let (dispatcher, orders) = dispatcher::handle();
        let gateway = Arc::new(Self {
            queue: queue.clone(),
            settings: settings.clone(),
            doors: Doors::new(intake, shutdown),
            attempts,
            dispatch: shutdown.child(),
            adopts: Arc::new(Adopts { delivery: delivery.clone(), refusals, dispatcher: dispatcher.clone() }),
            dispatcher,
            projector: parking_lot::Mutex::new(Some(projector)),
        });
        gateway.dispatcher.set_pauses(gateway.pauses());
        let (dispatch, activity) = (gateway.dispatch.clone(), gateway.dispatch.activity(DISPATCHER));
        tokio::spawn(async move {
            dispatcher::run(delivery, orders, dispatch).await;
            drop(activity);
        });
        tokio::spawn(sweep(gateway.doors.clone(), gateway.attempts.clone()));
        Ok(gateway)
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(crate) fn intake(&self) -> &Intake {
        self.doors.intake()
    }

    pub(crate) fn dispatcher(&self) -> &dispatcher::Handle {
        &self.dispatcher
    }

    /// Whether any node would take a work now.
    pub(crate) fn has_room(&self) -> bool {
        self.adopts.delivery.has_room()
    }

    /// What the node of a boot is called, if that is known.
    pub(crate) fn name_of(&self, boot: Boot) -> Option<String> {
        self.adopts.delivery.cluster.as_ref()?.name_of(boot)
    }

    /// What takes over the mail that other nodes have and come back with.
    #[must_use]
    pub fn trade(&self) -> Arc<dyn cluster::manager::Trade> {
        self.adopts.clone()
    }

    /// Takes mail in on a socket, from now on until the door is dropped or the gateway stops.
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

    /// Puts another configuration in the place of the one that counts.
    ///
    /// What has begun goes on as it began: a session keeps the limits of its protocol, a message and an attempt all of it.
    pub fn configure(&self, config: Config) {
        self.doors.configure(&config);
        self.intake().config.replace(config);
    }

    /// The configuration that counts now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.intake().config.now()
    }

    /// Stops: no more sessions, then no more deliveries, those under way ended or given up after `grace`.
    pub async fn stop(&self, grace: Duration) {
        self.dispatch.stop();
        let until = Instant::now() + grace;
        let left = || until.saturating_duration_since(Instant::now());
        let going_out = async {
            // What it has begun counts as under way only once it has ended: it may be about to begin more.
            let ended = self.dispatch.ended(DISPATCHER, left()).await;
            if let Err(running) = ended.and(self.dispatch.ended("delivery", left()).await) {
                tracing::warn!(running, "deliveries are given up; they are tried again after the next start");
            }
        };
        tokio::join!(self.doors.stop(grace), going_out);
        self.attempts.goodbyes().await;
    }

    /// Waits until everything that the closed queue told is in the message log, but not for one that hangs.
    pub async fn log_is_written(&self) {
        let Some(projector) = self.projector.lock().take() else { return };
        let joined = tokio::task::spawn_blocking(move || projector.join());
        match tokio::time::timeout(LOG_END, joined).await {
            Ok(Ok(Err(_))) => tracing::error!("the projector of the message log panicked"),
            Ok(_) => {}
            Err(_) => tracing::warn!("the message log hangs; what it lacks is told at the next start"),
        }
    }

    /// The addresses that no mail is sent to, and pauses, as they are stored.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.intake().counters
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

    /// Deliveries under way.
    #[must_use]
    pub fn deliveries(&self) -> usize {
        self.dispatch.running().iter().find(|(label, _)| *label == "delivery").map_or(0, |(_, count)| *count)
    }

    /// Takes a message in that did not come by SMTP.
    ///
    /// # Errors
    /// If it breaks a rule or cannot be stored.
    pub async fn submit(&self, submission: Submission) -> Result<MessageId, SubmissionError> {
        self.intake().submit(submission).await
    }

    /// What there is to know of a work, unless it has ended.
    ///
    /// # Errors
    /// If its words cannot be read.
    pub async fn inspect(&self, work: WorkId) -> Result<Option<Waiting>, QueueError> {
        let queue = &self.queue;
        let (Some(info), Some(words)) = (queue.info(work), queue.words(work).await?) else { return Ok(None) };
        let read = || -> Result<Waiting, WordsError> {
            let detail: Detail = decode(&words.detail)?;
            let numbered = (0u8..).zip(detail.recipients);
            let remaining = numbered.filter(|(number, _)| info.remaining.contains(*number));
            Ok(Waiting {
                header: MessageHeader::read(&words.header)?,
                recipients: remaining.map(|(_, address)| address).collect(),
                state: WorkState::read(&words.state)?,
                info: info.clone(),
            })
        };
        read().map(Some).map_err(|error| QueueError::Damaged(error.to_string()))
    }
}

/// Ends what has been silent or unused for too long, from time to time, until the doors stop.
pub(crate) async fn sweep(doors: Arc<Doors>, attempts: Arc<Attempts>) {
    let mut ticks = tokio::time::interval(SWEEP);
    while !doors.are_stopping() {
        ticks.tick().await;
        doors.sweep();
        attempts.sweep();
    }
}

fn start_projector(
    queue: &Queue,
    log: PathBuf,
    retention: Retention,
    refused: std::sync::mpsc::Receiver<Refusal>,
    node: String,
) -> Result<JoinHandle<()>, GatewayError> {
    let records = Records::open(log)?;
    let at = records.position()?.map(|at| Position { spool: at.spool, sequence: at.sequence });
    let feed = queue.feed(at.unwrap_or_default())?;
    let run = move || log::project(feed, records, retention, &refused, &node);
    Ok(std::thread::Builder::new().name("message-log".into()).spawn(run)?)
}
