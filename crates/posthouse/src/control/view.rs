//! What a node lets others see and ask.

use std::{future::Future, sync::Arc};

use base::MessageId;
use bytes::Bytes;

use crate::{
    api::{
        ApiError, DamagedPlace, LogQuery, LogRecord, MessageStory, QueueQuery, QueueReport, Readiness,
        ReloadReport, SendAnswer, SendRequest, StatusReport,
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

    /// Reads the configuration again: all of it counts, or nothing changes.
    fn reload(self: Arc<Self>) -> impl Future<Output = Result<ReloadReport, ApiError>> + Send;

    /// The size up to which a message is taken, in bytes.
    fn max_message(&self) -> usize;

    /// Whether the node takes mail in.
    fn readiness(&self) -> Readiness;

    /// The metrics in the text format of Prometheus.
    fn metrics(&self) -> String;
}
