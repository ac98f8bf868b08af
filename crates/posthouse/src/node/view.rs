//! What the node lets others see and ask.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use base::{Clock, MessageId, NodeId, Timestamp};
use bytes::Bytes;
use mail::{Gateway, Submission, SubmissionError, Waiting};
use queue::{Queue, QueueError, WorkInfo};
use store::records::{self, Reader};

use super::{metrics, rates::Sampler};
use crate::{
    api::{
        ApiError, Destination, ErrorKind, LogQuery, LogRecord, MessageStory, QueueQuery, QueueReport,
        QueuedWork, Readiness, RecordsStatus, Role, SendAnswer, SendRequest, SpoolStatus, StatusReport,
    },
    config::Config,
    control::NodeView,
};

/// A look at a node.
#[derive(Debug)]
pub struct View {
    name: String,
    id: NodeId,
    queue: Queue,
    gateway: Arc<Gateway>,
    sampler: Arc<Sampler>,
    log: PathBuf,
    clock: Clock,
    started: Timestamp,
    since: Instant,
    stopping: AtomicBool,
}

/// Works that a list shows, unless more are asked for.
const WORKS: u32 = 100;

impl View {
    pub(super) fn new(
        config: &Config,
        id: NodeId,
        queue: Queue,
        gateway: Arc<Gateway>,
        sampler: Arc<Sampler>,
        log: PathBuf,
        clock: Clock,
    ) -> Self {
        Self {
            name: config.name.as_str().to_owned(),
            id,
            queue,
            gateway,
            sampler,
            log,
            started: clock.now(),
            clock,
            since: Instant::now(),
            stopping: AtomicBool::new(false),
        }
    }

    /// The node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
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

    async fn queued(&self, info: &WorkInfo) -> Option<QueuedWork> {
        match self.gateway.inspect(info.work).await {
            Ok(waiting) => Some(self.describe(waiting?)),
            Err(error) => Some(self.describe_unreadable(info, &error)),
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
            accepted: info.since.into(),
            attempts: info.attempts,
            reason: if info.lease.is_some() { "in-delivery".into() } else { info.reason.word().into() },
            next_attempt: self.next_attempt(&info),
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
            accepted: info.since.into(),
            attempts: info.attempts,
            reason: info.reason.word().into(),
            next_attempt: self.next_attempt(info),
            last_reply: Some(error.to_string()),
        }
    }

    fn next_attempt(&self, info: &WorkInfo) -> Option<crate::api::Moment> {
        let waits = info.lease.is_none() && info.not_before > self.clock.now();
        waits.then(|| info.not_before.into())
    }

    /// The destinations of works, those with the most first.
    async fn destinations(&self, works: &[WorkInfo]) -> Vec<Destination> {
        let mut by_domain: BTreeMap<&str, Vec<&WorkInfo>> = BTreeMap::new();
        for info in works {
            by_domain.entry(&info.lane).or_default().push(info);
        }
        let mut destinations = Vec::with_capacity(by_domain.len());
        for (domain, works) in by_domain {
            let oldest = works.iter().map(|info| info.since).min().unwrap_or_default();
            let next = works.iter().filter_map(|info| self.next_attempt(info).map(|_| info.not_before)).min();
            // The work that was tried most often knows best what is wrong.
            let tried = works.iter().filter(|info| info.attempts > 0).max_by_key(|info| info.attempts);
            let last_reply = match tried {
                Some(info) => self.queued(info).await.and_then(|work| work.last_reply),
                None => None,
            };
            destinations.push(Destination {
                domain: domain.to_owned(),
                works: works.len() as u64,
                recipients: works.iter().map(|info| u64::from(info.remaining.count())).sum(),
                oldest: oldest.into(),
                next_attempt: next.map(Into::into),
                last_reply,
            });
        }
        destinations.sort_by(|a, b| b.recipients.cmp(&a.recipients).then_with(|| a.domain.cmp(&b.domain)));
        destinations
    }
}

impl NodeView for View {
    async fn status(&self) -> Result<StatusReport, ApiError> {
        let totals = self.gateway.counters().totals();
        let stats = self.queue.stats();
        Ok(StatusReport {
            name: self.name.clone(),
            node_id: self.id,
            version: env!("CARGO_PKG_VERSION").into(),
            role: Role::Standalone,
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
            },
            records: RecordsStatus { behind: stats.untold },
        })
    }

    async fn queue(&self, query: QueueQuery) -> Result<QueueReport, ApiError> {
        let mut works = self.gateway.waiting();
        if let Some(domain) = &query.domain {
            works.retain(|info| info.lane.eq_ignore_ascii_case(domain));
        }
        let destinations = self.destinations(&works).await;
        let mut shown = Vec::new();
        let many = query.works.or(query.domain.is_some().then_some(WORKS)).unwrap_or(0);
        works.sort_by_key(|info| info.since);
        for info in works.iter().take(usize::try_from(many).unwrap_or(usize::MAX)) {
            shown.extend(self.queued(info).await);
        }
        Ok(QueueReport { destinations, works: shown })
    }

    async fn message(&self, id: MessageId) -> Result<MessageStory, ApiError> {
        let mut waiting = Vec::new();
        for work in self.gateway.works_of(id) {
            match self.gateway.inspect(work).await {
                Ok(Some(work)) => waiting.push(self.describe(work)),
                Ok(None) => {}
                Err(error) => tracing::warn!(%work, %error, "a waiting message cannot be shown"),
            }
        }
        let records = self.read(move |reader| reader.message(id)).await?;
        MessageStory::tell(id, records, waiting).ok_or_else(|| {
            ApiError::new(ErrorKind::NotFound, format!("there is no message {id}"))
                .hint("`posthouse mail log` lists the latest messages")
        })
    }

    async fn log(&self, query: LogQuery) -> Result<Vec<LogRecord>, ApiError> {
        let filter = query.filter()?;
        let entries = self.read(move |reader| reader.search(&filter)).await?;
        Ok(entries.into_iter().map(LogRecord::from).collect())
    }

    async fn send(&self, request: SendRequest, message: Bytes) -> Result<SendAnswer, ApiError> {
        let recipients = request.to.len() as u64;
        let submission = Submission { sender: request.from, recipients: request.to, text: message.to_vec() };
        match self.gateway.submit(submission).await {
            Ok(id) => Ok(SendAnswer { id, recipients }),
            Err(SubmissionError::Queue(error)) => Err(ApiError::new(ErrorKind::Failed, error.to_string())),
            Err(error) => Err(ApiError::new(ErrorKind::Refused, error.to_string())),
        }
    }

    fn readiness(&self) -> Readiness {
        if self.stopping.load(Ordering::SeqCst) {
            return Readiness::NotReady("the node is stopping".into());
        }
        match self.queue.health() {
            Ok(()) => Readiness::Ready,
            Err(QueueError::Closed) => Readiness::NotReady("the spool is closed".into()),
            Err(error) => Readiness::NotReady(format!("the spool has failed: {error}")),
        }
    }

    fn metrics(&self) -> String {
        metrics::text(&self.gateway, &self.queue)
    }
}
