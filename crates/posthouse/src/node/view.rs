//! What the node lets others see and ask.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use base::{Clock, MessageId, NodeId, Timestamp, WorkId};
use bytes::Bytes;
use mail::{Gateway, Submission, SubmissionError, Waiting};
use queue::{Queue, QueueError, WorkInfo};
use store::records::{self, Reader};
use tokio::sync::mpsc::Receiver;

use super::{
    by_hand, metrics,
    rates::Sampler,
    reload::Reload,
    waiting::{self, Sum},
};
use crate::{
    api::{
        AddNodeRequest, ApiError, ChangeNodeRequest, ChangedNode, ConfigurationReport, DamagedPlace,
        Destination, ErrorKind, LogQuery, LogRecord, MessageStory, NodeAction, NodeEntry, NodesReport,
        PauseEntry, PauseRequest, QueueQuery, QueueReport, QueuedWork, Readiness, RecordsStatus,
        ReloadReport, Role, SendAnswer, SendRequest, SpoolStatus, StatusReport, SuppressAnswer,
        SuppressRequest, SuppressedPage, SuppressedQuery, TakeoverAnswer, UnsuppressAnswer,
        UnsuppressRequest, WorkWhy, WorksReport, WorksRequest,
    },
    backup::{self, Whole},
    control::NodeView,
};

/// A look at a node.
#[derive(Debug)]
pub struct View {
    id: NodeId,
    pub(super) queue: Queue,
    pub(super) gateway: Arc<Gateway>,
    /// The other nodes, if this one is their manager.
    pub(super) cluster: Option<cluster::manager::Manager>,
    sampler: Arc<Sampler>,
    reload: Reload,
    log: PathBuf,
    pub(super) clock: Clock,
    started: Timestamp,
    since: Instant,
    stopping: AtomicBool,
    /// There is one backup at a time.
    backup: Arc<tokio::sync::Mutex<()>>,
}

/// Destinations whose last reply is read back for a list.
const REPLIES: usize = 1000;

impl View {
    #[expect(clippy::too_many_arguments, reason = "all of them are what a node is made of")]
    pub(super) fn new(
        id: NodeId,
        queue: Queue,
        gateway: Arc<Gateway>,
        cluster: Option<cluster::manager::Manager>,
        sampler: Arc<Sampler>,
        reload: Reload,
        log: PathBuf,
        clock: Clock,
    ) -> Self {
        Self {
            id,
            queue,
            gateway,
            cluster,
            sampler,
            reload,
            log,
            started: clock.now(),
            clock,
            since: Instant::now(),
            stopping: AtomicBool::new(false),
            backup: Arc::default(),
        }
    }

    /// The node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The other nodes, if this one is their manager.
    pub(super) fn cluster(&self) -> Option<&cluster::manager::Manager> {
        self.cluster.as_ref()
    }

    /// What of the node can change while it runs.
    pub(super) fn reload_state(&self) -> &Reload {
        &self.reload
    }

    /// From now on the node is not ready.
    pub(super) fn stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Asks the message log, on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(Reader) -> records::Result<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        let log = self.log.clone();
        let answer = tokio::task::spawn_blocking(move || ask(Reader::open(log)?)).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(ApiError::new(ErrorKind::Failed, error.to_string())),
            Err(_) => Err(ApiError::new(ErrorKind::Failed, "the node is stopping")),
        }
    }

    /// What the message log takes on disk, with what SQLite has not moved into it yet.
    fn log_bytes(&self) -> u64 {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        size(&self.log) + size(&self.log.with_extension("sqlite-wal"))
    }

    /// A work that waits, unless it has ended meanwhile.
    async fn queued(&self, work: WorkId) -> Option<QueuedWork> {
        let info = self.queue.info(work)?;
        match self.gateway.inspect(work).await {
            Ok(waiting) => Some(self.describe(waiting?)),
            Err(error) => Some(self.describe_unreadable(&info, &error)),
        }
    }

    fn describe(&self, waiting: Waiting) -> QueuedWork {
        let Waiting { info, header, recipients, state } = waiting;
        let last = state.waiting.first().map(|(_, trouble)| trouble.reply.to_string());
        QueuedWork {
            id: info.work.to_string(),
            domain: info.lane.to_string(),
            sender: header.sender.as_str().to_owned(),
            recipients: recipients.iter().map(|to| to.as_str().to_owned()).collect(),
            size: header.size,
            accepted: info.work.message.time().into(),
            attempts: info.attempts,
            reason: if info.lease.is_some() { "in-delivery".into() } else { info.reason.word().into() },
            lost_by: self.lost_by(&info),
            next_attempt: Self::next_attempt(&info),
            last_reply: last,
        }
    }

    /// A work whose words cannot be read is shown all the same.
    fn describe_unreadable(&self, info: &WorkInfo, error: &QueueError) -> QueuedWork {
        QueuedWork {
            id: info.work.to_string(),
            domain: info.lane.to_string(),
            sender: String::new(),
            recipients: Vec::new(),
            size: 0,
            accepted: info.work.message.time().into(),
            attempts: info.attempts,
            reason: info.reason.word().into(),
            lost_by: self.lost_by(info),
            next_attempt: Self::next_attempt(info),
            last_reply: Some(error.to_string()),
        }
    }

    /// What the node is called that was lost and may have delivered a work.
    fn lost_by(&self, info: &WorkInfo) -> Option<String> {
        self.cluster.as_ref()?.name_of(info.lost_by?)
    }

    fn next_attempt(info: &WorkInfo) -> Option<crate::api::Moment> {
        waiting::is_to_be_tried(info.status, info.lease).then(|| info.not_before.into())
    }

    /// What waits for one destination.
    async fn destination(&self, sum: Sum, reply: Reply) -> Destination {
        let last_reply = match (reply, sum.tried) {
            (Reply::Asked, Some((_, work))) => self.queued(work).await.and_then(|work| work.last_reply),
            _ => None,
        };
        Destination {
            domain: sum.domain.to_string(),
            works: sum.works,
            recipients: sum.recipients,
            oldest: sum.oldest.into(),
            next_attempt: sum.next.map(Into::into),
            last_reply,
            possibly_done: sum.possibly_done,
        }
    }
}

/// Whether a destination's last reply is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Asked,
    Spared,
}

impl NodeView for View {
    async fn status(&self) -> Result<StatusReport, ApiError> {
        let totals = self.gateway.counters().totals();
        let stats = self.queue.stats();
        Ok(StatusReport {
            name: self.gateway.config().node.clone(),
            node_id: self.id,
            version: env!("CARGO_PKG_VERSION").into(),
            role: if self.cluster.is_some() { Role::Manager } else { Role::Standalone },
            readiness: self.readiness(),
            started: self.started.into(),
            uptime_seconds: self.since.elapsed().as_secs(),
            accepted: totals.accepted,
            delivered: totals.delivered,
            deferred: totals.deferred,
            bounced: totals.bounced,
            expired: totals.expired,
            queued: stats.recipients as u64,
            queued_works: stats.works as u64,
            sessions: self.gateway.sessions() as u64,
            connections: (self.gateway.deliveries() + self.gateway.kept_connections()) as u64,
            rates: self.sampler.rates(Instant::now(), &totals),
            spool: SpoolStatus {
                segments: stats.segments as u64,
                free_segments: stats.free_segments as u64,
                bytes: stats.disk_bytes,
                disk_free: stats.disk_free,
                room: stats.room.into(),
            },
            records: RecordsStatus { behind: stats.untold, bytes: self.log_bytes(), lost: stats.lost },
            worker: None,
        })
    }

    async fn queue(&self, query: QueueQuery) -> Result<QueueReport, ApiError> {
        let reason = query.reason.as_deref().map(by_hand::reason).transpose();
        let reason = reason.map_err(|error| ApiError::new(ErrorKind::Invalid, error))?;
        let found = waiting::Waiting::walk(&self.queue, &query, reason).await.finish();
        let waiting::Found { sums, works, lost_by } = found;
        let mut report = QueueReport::default();
        for (boot, works) in lost_by {
            if let Some(node) = self.cluster.as_ref().and_then(|manager| manager.name_of(boot)) {
                *report.possibly_done_by.entry(node).or_default() += works;
            }
        }
        for (at, sum) in sums.into_iter().enumerate() {
            let reply = if at < REPLIES { Reply::Asked } else { Reply::Spared };
            report.destinations.push(self.destination(sum, reply).await);
        }
        for work in works {
            report.works.extend(self.queued(work).await);
        }
        Ok(report)
    }

    async fn message(&self, id: MessageId) -> Result<MessageStory, ApiError> {
        let (mut waiting, mut unread) = (Vec::new(), None);
        for work in self.queue.works_of(id) {
            match self.gateway.inspect(work).await {
                Ok(Some(work)) => waiting.push(self.describe(work)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%work, %error, "a waiting message cannot be shown");
                    unread = Some(error);
                }
            }
        }
        let records = self.read(move |reader| reader.message(id)).await?;
        MessageStory::tell(id, records, waiting).ok_or_else(|| match unread {
            Some(error) => ApiError::new(ErrorKind::Failed, error.to_string())
                .hint("`posthouse mail queue --all` says what is known of it"),
            None => ApiError::new(ErrorKind::NotFound, format!("there is no message {id}"))
                .hint("`posthouse mail log` lists the latest messages"),
        })
    }

    async fn log(&self, query: LogQuery) -> Result<Vec<LogRecord>, ApiError> {
        let filter = query.filter()?;
        let entries = self.read(move |reader| reader.search(&filter)).await?;
        Ok(entries.into_iter().map(LogRecord::from).collect())
    }

    async fn send(&self, request: SendRequest, message: Bytes) -> Result<SendAnswer, ApiError> {
        let recipients = request.to.len() as u64;
        let submission = Submission {
            sender: request.from,
            recipients: request.to,
            text: message.to_vec(),
            handling: mail::Handling {
                not_before: request.at.map(|at| at.0),
                priority: request.priority,
                expire: request.expire.map(|expire| expire.0),
                retry: request.retry,
            },
        };
        match self.gateway.submit(submission).await {
            Ok(id) => Ok(SendAnswer { id, recipients }),
            Err(SubmissionError::Queue(error)) => Err(ApiError::new(ErrorKind::Failed, error.to_string())),
            Err(error) => Err(ApiError::new(ErrorKind::Refused, error.to_string())),
        }
    }

    async fn backup(&self) -> Result<backup::Stream, ApiError> {
        let turn = self.backup.clone().try_lock_owned().map_err(|_| {
            ApiError::new(ErrorKind::Unavailable, "a backup is being taken already").hint("wait for its end")
        })?;
        let whole = Whole {
            data_dir: self.log.parent().unwrap_or(Path::new(".")).to_owned(),
            config: self.reload.config().await,
            id: self.id,
            queue: self.queue.clone(),
            clock: self.clock.clone(),
            _turn: turn,
        };
        backup::take(whole).map_err(|error| ApiError::new(ErrorKind::Failed, error.to_string()))
    }

    fn damage(&self) -> Vec<DamagedPlace> {
        self.queue.damage().into_iter().map(DamagedPlace::from).collect()
    }

    fn works(&self, request: WorksRequest) -> Result<Receiver<WorksReport>, ApiError> {
        self.act_on_works(request)
    }

    async fn why(&self, id: String) -> Result<Vec<WorkWhy>, ApiError> {
        self.why_it_waits(&id).await
    }

    fn pauses(&self) -> Vec<PauseEntry> {
        self.all_pauses()
    }

    async fn pause(&self, request: PauseRequest) -> Result<PauseEntry, ApiError> {
        self.begin_pause(request).await
    }

    async fn resume(&self, id: i64) -> Result<PauseEntry, ApiError> {
        self.end_pause(id).await
    }

    async fn suppressed(&self, query: SuppressedQuery) -> Result<SuppressedPage, ApiError> {
        self.suppressed_page(query).await
    }

    async fn suppress(&self, request: SuppressRequest) -> Result<SuppressAnswer, ApiError> {
        self.suppress_addresses(request).await
    }

    async fn unsuppress(&self, request: UnsuppressRequest) -> Result<UnsuppressAnswer, ApiError> {
        self.unsuppress_addresses(request).await
    }

    async fn nodes(&self) -> Result<NodesReport, ApiError> {
        self.all_nodes().await
    }

    async fn add_node(&self, request: AddNodeRequest) -> Result<NodeEntry, ApiError> {
        self.register_node(request).await
    }

    async fn change_node(
        &self,
        name: String,
        action: NodeAction,
        request: ChangeNodeRequest,
    ) -> Result<ChangedNode, ApiError> {
        self.change_registered(&name, action, request.why).await
    }

    fn takeover(&self) -> Result<TakeoverAnswer, ApiError> {
        self.end_freeze()
    }

    async fn configuration(&self) -> ConfigurationReport {
        self.reload.report().await
    }

    async fn reload(self: Arc<Self>) -> Result<ReloadReport, ApiError> {
        self.reload.reload(&self).await
    }

    fn max_message(&self) -> usize {
        self.gateway.config().limits.session.message.len()
    }

    fn readiness(&self) -> Readiness {
        if self.stopping.load(Ordering::SeqCst) {
            return Readiness::NotReady("the node is stopping".into());
        }
        match self.queue.health() {
            Ok(()) => match self.gateway.no_room() {
                None => Readiness::Ready,
                Some(why) => Readiness::NotReady(why.into()),
            },
            Err(QueueError::Closed) => Readiness::NotReady("the spool is closed".into()),
            Err(error) => Readiness::NotReady(format!("the spool has failed: {error}")),
        }
    }

    fn metrics(&self) -> String {
        metrics::text(&self.gateway, &self.queue, self.log_bytes(), self.cluster())
    }
}
