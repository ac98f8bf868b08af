//! What a node lets others see and ask.

use std::future::Future;

use base::MessageId;
use bytes::Bytes;

use crate::api::{
    ApiError, LogQuery, LogRecord, MessageStory, QueueQuery, QueueReport, Readiness, SendAnswer, SendRequest,
    StatusReport,
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

    /// Whether the node takes mail in.
    fn readiness(&self) -> Readiness;

    /// The metrics in the text format of Prometheus.
    fn metrics(&self) -> String;
}
