//! The node: its parts put together in one place, started from the inside out and stopped in reverse.
//!
//! identity and lock → spool → mail: log, dispatch, doors → control socket and console

mod by_hand;
mod cluster;
pub(crate) mod data;
pub(crate) mod limits;
mod metrics;
mod nodes;
mod pulse;
mod rates;
mod reload;
pub(crate) mod settings;
mod view;
mod waiting;
mod worker;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use ::cluster::identity::Identity;
use base::{Clock, Shutdown};
use mail::{Gateway, GatewayError};
use queue::{Queue, QueueError, Spool, files::Disk, spool::Options};
use store::settings::Settings;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use data::DataDir;
pub use data::DataError;
use rates::Sampler;
pub use reload::Source;
use reload::{Mail, Reload, Socket};
pub use view::View;

use crate::{
    config::{Config, DataDirError, ListenAddress, Role},
    control::{ControlSocket, SocketError},
    listen::{ListenError, listen},
};

/// The node could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// There is no data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A port cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The control socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The spool cannot be used, or has failed.
    #[error("the spool: {0}")]
    Spool(#[from] QueueError),
    /// The mail trade could not start.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The system refused something.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
    /// The node cannot be one of several.
    #[error("{error}")]
    Cluster {
        /// Why.
        error: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A worker was started where mail lies.
    #[error("{} holds the mail of a node that has a queue of its own; a worker has none", path.display())]
    HasMail {
        /// The data directory.
        path: PathBuf,
    },
}

impl NodeError {
    fn cluster(error: &dyn std::fmt::Display, hint: Option<String>) -> Self {
        Self::Cluster { error: error.to_string(), hint }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Data(error) => error.hint(),
            Self::Cluster { hint, .. } => hint.clone(),
            Self::HasMail { .. } => Some(
                "choose another directory for the worker with --data-dir; this one goes on as it was without --role worker".into(),
            ),
            Self::Listen(error) => Some(error.hint()),
            Self::Spool(QueueError::NoSpace) => Some("make room on the disk, then start the node again".into()),
            Self::Spool(QueueError::Disk(_)) => Some(
                "look at the disk (`dmesg`, `smartctl`); what was answered with 250 is safe as far as it was synced"
                    .into(),
            ),
            Self::DataDir(_) | Self::Socket(_) | Self::Spool(_) | Self::Gateway(_) | Self::System(_) => None,
        }
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    view: Arc<View>,
    queue: Queue,
    gateway: Arc<Gateway>,
    /// Ends what looks at the node from time to time.
    upkeep: Shutdown,
    faces: Shutdown,
    smtp: Vec<SocketAddr>,
    console: SocketAddr,
    link: Option<SocketAddr>,
    _data: DataDir,
}

/// How often the node looks whether its spool still works.
const WATCH: Duration = Duration::from_millis(500);
/// How long the console and the control socket may take to end.
const FACES_END: Duration = Duration::from_secs(2);

impl Node {
    /// Starts a node with a configuration that can be read again from `source`.
    ///
    /// # Errors
    /// A part of it cannot start; those that had started are ended.
    pub async fn start(config: Config, source: Source) -> Result<Self, NodeError> {
        let dir = config.data_dir()?;
        let data = DataDir::open(&dir)?;
        let identity = Identity::open_or_make(&dir, data.id())
            .map_err(|error| NodeError::cluster(&error, error.hint()))?;
        let descriptors = limits::raise_descriptors();
        let listening = |address: &ListenAddress| listen("smtp.listen", *address);
        let doors = config.smtp.listen.iter().map(listening).collect::<Result<Vec<_>, _>>()?;
        let smtp = doors.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
        let console = listen("console.listen", config.console.listen)?;
        let link = match config.cluster.role {
            Role::Manager => Some(listen("cluster.listen", config.cluster.listen)?),
            Role::Standalone | Role::Worker => None,
        };
        let link_address = link.as_ref().map(TcpListener::local_addr).transpose()?;
        let console_address = console.local_addr()?;
        let control = ControlSocket::open(&dir)?;
        let clock = Clock::system();
        let (queue, took) = open_queue(&dir, &config, &clock)?;
        let upkeep = Shutdown::new();
        let log = dir.join(data::MESSAGE_LOG);
        let settings = settings::mail(&config, descriptors);
        let wishes = Arc::new(Settings::open(dir.join(data::SETTINGS)).map_err(GatewayError::from)?);
        let manager = match &link {
            Some(_) => Some(cluster::start(&config, (&dir, &identity), &queue, &wishes, &clock, &upkeep)?),
            None => {
                // Whoever stands alone now hears of no node again.
                for (boot, held) in queue.boots() {
                    tracing::warn!(%boot, held, "what another node had is attempted here");
                    queue.take_back(boot, clock.now() + config.cluster.after_loss.time());
                }
                None
            }
        };
        let gateway =
            Gateway::start(settings, &queue, &log, &wishes, clock.clone(), manager.clone(), &upkeep)?;
        // Nothing refuses to start any more: what does is to be the only line.
        tracing::info!(works = queue.stats().works, ?took, "the spool is ready");
        if let (Some(manager), Some(link)) = (&manager, link) {
            manager.listen(link, gateway.trade(), &upkeep);
        }
        let sampler = Sampler::start(gateway.clone(), upkeep.clone());
        let faces = Shutdown::new();
        let reload = Reload::new(source, Mail::Gateway(gateway.clone()), faces.clone(), descriptors, config);
        let view = Arc::new(View::new(
            data.id(),
            queue.clone(),
            gateway.clone(),
            manager,
            sampler,
            reload,
            log,
            clock,
        ));
        let doors = doors.into_iter().map(Socket::Listening).collect();
        view.reload_state().open(&view, doors, console).await;
        spawn_face(&faces, control.serve(view.clone(), faces.clone()));
        Ok(Self {
            view,
            queue,
            gateway,
            upkeep,
            faces,
            smtp,
            console: console_address,
            link: link_address,
            _data: data,
        })
    }

    /// Where it takes mail by SMTP.
    #[must_use]
    pub fn smtp(&self) -> &[SocketAddr] {
        &self.smtp
    }

    /// Where it answers health checks and metrics.
    #[must_use]
    pub fn console(&self) -> SocketAddr {
        self.console
    }

    /// What it lets others see.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Returns only when the node cannot go on.
    pub async fn failed(&self) -> QueueError {
        loop {
            tokio::time::sleep(WATCH).await;
            if let Err(error) = self.queue.health() {
                return error;
            }
        }
    }

    /// Stops it in order: no more mail in, none out, the spool, the log, and last what lets others see it.
    ///
    /// # Errors
    /// The spool could not be closed as it should.
    pub async fn stop(self) -> Result<(), NodeError> {
        self.view.stopping();
        self.gateway.stop(self.view.reload_state().grace().await).await;
        let closed = self.queue.close().await;
        self.gateway.log_is_written().await;
        self.upkeep.stop();
        self.faces.stop();
        // One that hangs is cut off by the end of the process.
        let _ = self.faces.ended(FACE, FACES_END).await;
        Ok(closed?)
    }
}

const FACE: &str = "face";

fn spawn_face(faces: &Shutdown, serve: impl Future<Output = io::Result<()>> + Send + 'static) {
    let activity = faces.activity(FACE);
    tokio::spawn(async move {
        if let Err(error) = serve.await {
            tracing::error!(%error, "the control socket or the console cannot go on");
        }
        drop(activity);
    });
}

/// The queue as it was left, and how long it took to read it.
fn open_queue(dir: &Path, config: &Config, clock: &Clock) -> Result<(Queue, Duration), NodeError> {
    let options = Options {
        segment_size: config.spool.segment.bytes(),
        warn_free: config.spool.warn_free.0,
        min_free: config.spool.min_free.0,
        after_loss: config.cluster.after_loss.time(),
        ..Options::default()
    };
    let began = Instant::now();
    let queue = Queue::new(Spool::open(Disk::real(), &dir.join(data::SPOOL), clock.clone(), options)?);
    Ok((queue, began.elapsed()))
}

/// Runs a node until it is told to stop; SIGHUP has it read its configuration again, from `source`.
///
/// # Errors
/// It could not start, or had to stop.
pub async fn run(config: Config, source: Source) -> Result<(), NodeError> {
    if config.cluster.role == Role::Worker {
        return worker::run(config, source).await;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let node = Node::start(config, source).await?;
    tracing::info!(smtp = ?node.smtp(), console = %node.console(), id = %node.view().id(), "the node is running");
    if let (Some(link), Some(manager)) = (node.link, node.view.cluster()) {
        tracing::info!(%link, pin = %manager.pin(), "the node is a manager; its workers are started with this pin");
    }
    let pulse = pulse::start(node.view.clone(), node.upkeep.clone());
    let failure = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            _ = hang_up.recv() => reload::on_signal(node.view.reload_state(), &node.view).await,
            error = node.failed() => break Some(error),
        }
    };
    tracing::info!("the node is stopping");
    pulse.stopping();
    let stopped = node.stop().await;
    match failure {
        Some(error) => Err(error.into()),
        None => stopped,
    }
}
