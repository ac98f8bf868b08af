//! A worker: doors and attempts, with its manager's queue. Its disk holds its identity only.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base::{Clock, NodeId, Shutdown, Timestamp};
use cluster::{
    identity::Identity,
    worker::{LINK, Link, Options, State, Worker as ToManager},
};
use mail::Worker;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    FACE, FACES_END, NodeError, Source,
    data::{self, DataDir},
    limits, metrics, pulse, reload,
    reload::{Mail, Reload, Socket},
    settings, spawn_face,
};
use crate::{
    api::{
        ApiError, ConfigurationReport, Rates, Readiness, RecordsStatus, ReloadReport, Role, SpoolStatus,
        StatusReport, WorkerStatus,
    },
    config::{Config, HostName, ListenAddress},
    control::{ControlSocket, NodeView},
    listen::{Bound, ListenError, bind, listen},
};

/// A running worker.
#[derive(Debug)]
struct Node {
    view: Arc<View>,
    upkeep: Shutdown,
    faces: Shutdown,
    _data: DataDir,
}

/// A look at a worker.
#[derive(Debug)]
pub(super) struct View {
    id: NodeId,
    link: ToManager,
    mail: Arc<Worker>,
    reload: Reload,
    started: Timestamp,
    since: std::time::Instant,
    stopping: std::sync::atomic::AtomicBool,
}

/// How long the manager may take to hear of what was attempted, and of the goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

impl Node {
    async fn start(config: Config, source: Source) -> Result<Self, NodeError> {
        let dir = config.data_dir()?;
        let data = DataDir::open(&dir)?;
        if dir.join(data::SPOOL).exists() {
            return Err(NodeError::HasMail { path: dir });
        }
        let identity = Identity::open_or_make(&dir, data.id())
            .map_err(|error| NodeError::cluster(&error, error.hint()))?;
        let descriptors = limits::raise_descriptors();
        // Nobody is let in before the manager has said what time it is, and what this node is called.
        let bound = |address: &ListenAddress| bind("smtp.listen", *address);
        let doors = config.smtp.listen.iter().map(bound).collect::<Result<Vec<_>, _>>()?;
        let smtp: Vec<SocketAddr> = doors.iter().map(Bound::local).collect();
        let console = listen("console.listen", config.console.listen)?;
        let control = ControlSocket::open(&dir)?;
        let (upkeep, faces) = (Shutdown::new(), Shutdown::new());
        let link = ToManager::new(options(&config, &smtp)?, &identity);
        let mail = Worker::start(settings::mail(&config, descriptors), &link, &upkeep)?;
        tracing::info!(
            key = %identity.public_key(),
            id = %data.id(),
            ?smtp,
            console = %console.local_addr()?,
            "the worker is running; senders are let in once its manager, which needs to know this key, has let it in"
        );
        let mails = Mail::Worker(mail.clone());
        let reload = Reload::new(source, mails, faces.clone(), descriptors, config);
        let view = Arc::new(View {
            id: data.id(),
            started: Clock::system().now(),
            since: std::time::Instant::now(),
            stopping: std::sync::atomic::AtomicBool::new(false),
            mail,
            link,
            reload,
        });
        let doors = doors.into_iter().map(Socket::Bound).collect();
        view.reload.open(&view, doors, console).await;
        spawn_face(&faces, control.serve(view.clone(), faces.clone()));
        Ok(Self { view, upkeep, faces, _data: data })
    }

    /// Stops in order: no more mail in, what was begun is finished and told, goodbye.
    async fn stop(self) {
        let view = &self.view;
        view.stopping.store(true, std::sync::atomic::Ordering::SeqCst);
        let grace = view.reload.grace().await;
        // Nothing more is given to us while sessions end.
        let (leave, stop) = (view.link.leave(grace + GOODBYE), view.mail.stop(grace));
        tokio::join!(leave, stop);
        self.upkeep.stop();
        // A manager that is away hears no goodbye; it finds out.
        let _ = self.upkeep.ended(LINK, GOODBYE).await;
        self.faces.stop();
        let _ = self.faces.ended(FACE, FACES_END).await;
    }
}

fn options(config: &Config, smtp: &[SocketAddr]) -> Result<Options, NodeError> {
    let section = &config.cluster;
    let (Some(manager), Some(pin)) = (&section.manager, section.pin) else {
        return Err(NodeError::Cluster {
            error: "a worker needs cluster.manager and cluster.pin".into(),
            hint: None,
        });
    };
    // The host's name is what a node is called that nobody has named.
    let name = (config.name != HostName::default()).then(|| config.name.as_str().to_owned());
    Ok(Options {
        manager: manager.0.to_string(),
        pin: pin.0,
        name,
        ehlo: config.smtp.hostname.as_str().to_owned(),
        doors: smtp.iter().map(ToString::to_string).collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        credit_works: section.credit_works.number(),
        credit_bytes: section.credit_bytes.0,
        cache_bytes: section.cache.0,
        hold: section.hold.0,
    })
}

/// Goes by what the manager says: what this node is called, and with its first link that senders are let in. Returns only if they cannot be.
async fn follow_manager(view: Arc<View>) -> ListenError {
    let mut changes = view.link.changes();
    loop {
        let State { name, link, .. } = changes.borrow_and_update().clone();
        view.mail.rename(&name);
        if matches!(link, Link::Up { .. })
            && !view.reload.lets_in()
            && let Err(error) = view.reload.let_in().await
        {
            return error;
        }
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

impl NodeView for View {
    async fn status(&self) -> Result<StatusReport, ApiError> {
        let counters = self.mail.counters();
        let state = self.link.state();
        let totals = counters.totals();
        Ok(StatusReport {
            name: self.mail.config().node.clone(),
            node_id: self.id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: Role::Worker,
            readiness: self.readiness(),
            started: self.started.into(),
            uptime_seconds: self.since.elapsed().as_secs(),
            accepted: totals.accepted,
            delivered: totals.delivered,
            deferred: totals.deferred,
            bounced: totals.bounced,
            expired: totals.expired,
            queued: 0,
            queued_works: 0,
            sessions: self.mail.sessions() as u64,
            connections: (self.mail.kept_connections() + self.mail.attempts()) as u64,
            rates: Rates::default(),
            spool: SpoolStatus::default(),
            records: RecordsStatus::default(),
            worker: Some(WorkerStatus {
                manager: state.manager.to_string(),
                away: match &state.link {
                    Link::Up { .. } => None,
                    Link::Away { why, .. } | Link::Refused { why, .. } => Some(why.to_string()),
                },
                told: super::nodes::told(&state.link),
                doors: self.reload.doors().await.iter().map(ToString::to_string).collect(),
                works: self.link.works() as u64,
                waiting: self.link.waiting() as u64,
            }),
        })
    }

    async fn configuration(&self) -> ConfigurationReport {
        self.reload.report().await
    }

    async fn reload(self: Arc<Self>) -> Result<ReloadReport, ApiError> {
        self.reload.reload(&self).await
    }

    fn max_message(&self) -> usize {
        self.mail.config().limits.session.message.len()
    }

    fn readiness(&self) -> Readiness {
        if self.stopping.load(std::sync::atomic::Ordering::SeqCst) {
            return Readiness::NotReady("the node is stopping".into());
        }
        if !self.reload.lets_in() {
            return Readiness::NotReady("its manager has not let it in since its start".into());
        }
        if let Some(why) = self.link.out_of_reach() {
            return Readiness::NotReady(why.to_string());
        }
        if let Some(why) = self.mail.no_room() {
            return Readiness::NotReady(why.into());
        }
        let state = self.link.state();
        if state.full {
            return Readiness::NotReady("the manager's disk is full".into());
        }
        if state.wanted == cluster::wire::wanted::State::Draining {
            return Readiness::NotReady("it is being drained".into());
        }
        Readiness::Ready
    }

    fn metrics(&self) -> String {
        metrics::of_worker(&self.mail, &self.link, &self.readiness())
    }
}

/// Runs a worker until it is told to stop.
///
/// # Errors
/// It could not start.
pub(super) async fn run(config: Config, source: Source) -> Result<(), NodeError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let node = Node::start(config, source).await?;
    let pulse = pulse::start(node.view.clone(), node.upkeep.clone());
    let mut following = std::pin::pin!(follow_manager(node.view.clone()));
    let outcome = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            _ = hang_up.recv() => reload::on_signal(&node.view.reload, &node.view).await,
            error = &mut following => break Err(error.into()),
        }
    };
    tracing::info!("the worker is stopping");
    pulse.stopping();
    node.stop().await;
    outcome
}
