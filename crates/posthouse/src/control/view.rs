//! What a node lets others see and ask.

use std::{future::Future, sync::Arc};

use base::MessageId;
use bytes::Bytes;
use tokio::sync::mpsc::Receiver;

use crate::{
    api::{
        ApiError, DamagedPlace, LogQuery, LogRecord, MessageStory, PauseEntry, PauseRequest, QueueQuery,
        QueueReport, Readiness, ReloadReport, SendAnswer, SendRequest, StatusReport, SuppressAnswer,
        SuppressRequest, SuppressedPage, SuppressedQuery, UnsuppressAnswer, UnsuppressRequest, WorkWhy,
        WorksReport, WorksRequest,
    },
    backup,
};

/// A running node, as the control socket and the console see it. Nothing here waits for mail to move.
pub trait NodeView: Send + Sync + 'static {
    /// How the node is.
    fn status(&self) -> impl Future<Output = Result<StatusReport, ApiError>> + Send;

    /// What waits.
    fn queue(&self, query: QueueQuery) -> impl Future<Output = Result<QueueReport, ApiError>> + Send;

    /// All that is known of a message.
    fn message(&self, id: MessageId) -> impl Future<Output = Result<MessageStory, ApiError>> + Send;

    /// The records that are asked for, the newest first.
    fn log(&self, query: LogQuery) -> impl Future<Output = Result<Vec<LogRecord>, ApiError>> + Send;

    /// Takes a message in; it is on disk and synced when this returns.
    fn send(
        &self,
        request: SendRequest,
        message: Bytes,
    ) -> impl Future<Output = Result<SendAnswer, ApiError>> + Send;

    /// Copies all that the node keeps, as an archive.
    fn backup(&self) -> impl Future<Output = Result<backup::Stream, ApiError>> + Send;

    /// What of the spool was found damaged, at the start and since.
    fn damage(&self) -> Vec<DamagedPlace>;

    /// Counts works, or does something to them, and tells how far it has come.
    fn works(&self, request: WorksRequest) -> Result<Receiver<WorksReport>, ApiError>;

    /// Why a work, or each work of a message, waits.
    fn why(&self, id: String) -> impl Future<Output = Result<Vec<WorkWhy>, ApiError>> + Send;

    /// What is paused.
    fn pauses(&self) -> Vec<PauseEntry>;

    /// Lets mail wait from now on.
    fn pause(&self, request: PauseRequest) -> impl Future<Output = Result<PauseEntry, ApiError>> + Send;

    /// Ends a pause.
    fn resume(&self, id: i64) -> impl Future<Output = Result<PauseEntry, ApiError>> + Send;

    /// Addresses that no mail is sent to.
    fn suppressed(
        &self,
        query: SuppressedQuery,
    ) -> impl Future<Output = Result<SuppressedPage, ApiError>> + Send;

    /// Sends no mail to some addresses any more.
    fn suppress(
        &self,
        request: SuppressRequest,
    ) -> impl Future<Output = Result<SuppressAnswer, ApiError>> + Send;

    /// Sends mail to some addresses again.
    fn unsuppress(
        &self,
        request: UnsuppressRequest,
    ) -> impl Future<Output = Result<UnsuppressAnswer, ApiError>> + Send;

    /// Reads the configuration again: all of it counts, or nothing changes.
    fn reload(self: Arc<Self>) -> impl Future<Output = Result<ReloadReport, ApiError>> + Send;

    /// The size up to which a message is taken, in bytes.
    fn max_message(&self) -> usize;

    /// Whether the node takes mail in.
    fn readiness(&self) -> Readiness;

    /// The metrics in the text format of Prometheus.
    fn metrics(&self) -> String;
}
