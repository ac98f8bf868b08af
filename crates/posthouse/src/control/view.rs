//! What a node lets others see and ask.

use std::{future::Future, sync::Arc};

use base::MessageId;
use bytes::Bytes;
use tokio::sync::mpsc::Receiver;

use crate::{
    api::{
        AddNodeRequest, ApiError, ChangeNodeRequest, ChangedNode, ConfigurationReport, DamagedPlace,
        ErrorKind, LogQuery, LogRecord, MessageStory, NodeAction, NodeEntry, NodesReport, PauseEntry,
        PauseRequest, QueueQuery, QueueReport, Readiness, ReloadReport, SendAnswer, SendRequest,
        StatusReport, SuppressAnswer, SuppressRequest, SuppressedPage, SuppressedQuery, TakeoverAnswer,
        UnsuppressAnswer, UnsuppressRequest, WorkWhy, WorksReport, WorksRequest,
    },
    backup,
};

/// The answer of a node that has no queue.
fn elsewhere() -> ApiError {
    ApiError::new(
        ErrorKind::Refused,
        "this node is a worker: queue, log, settings and nodes are its manager's",
    )
    .hint("give the command on the manager; `posthouse status` names it")
}

/// A running node, as the control socket and the console see it. Nothing here waits for mail to move.
pub trait NodeView: Send + Sync + 'static {
    /// How the node is.
    fn status(&self) -> impl Future<Output = Result<StatusReport, ApiError>> + Send;

    /// What waits.
    fn queue(&self, _query: QueueQuery) -> impl Future<Output = Result<QueueReport, ApiError>> + Send {
        async { Err(elsewhere()) }
    }

    /// All that is known of a message.
    fn message(&self, _id: MessageId) -> impl Future<Output = Result<MessageStory, ApiError>> + Send {
        async { Err(elsewhere()) }
    }

    /// The records that are asked for, the newest first.
    fn log(&self, _query: LogQuery) -> impl Future<Output = Result<Vec<LogRecord>, ApiError>> + Send {
        async { Err(elsewhere()) }
    }

    /// Takes a message in; it is on disk and synced when this returns.
    fn send(
        &self,
        _request: SendRequest,
        _message: Bytes,
    ) -> impl Future<Output = Result<SendAnswer, ApiError>> + Send {
        async { Err(elsewhere()) }
    }

    /// Copies all that the node keeps, as an archive.
    fn backup(&self) -> impl Future<Output = Result<backup::Stream, ApiError>> + Send {
        async { Err(elsewhere()) }
    }

    /// What of the spool was found damaged, at the start and since.
    fn damage(&self) -> Vec<DamagedPlace> {
        Vec::new()
    }

    /// Counts works, or does something to them, and tells how far it has come.
    fn works(&self, _request: WorksRequest) -> Result<Receiver<WorksReport>, ApiError> {
        Err(elsewhere())
    }

    /// Why a work, or each work of a message, waits.
    fn why(&self, _id: String) -> impl Future<Output = Result<Vec<WorkWhy>, ApiError>> + Send {
        async { Err(elsewhere()) }
    }

    /// What is paused.
    fn pauses(&self) -> Vec<PauseEntry> {
        Vec::new()
    }

    /// Lets mail wait from now on.
    fn pause(&self, _request: PauseRequest) -> impl Future<Output = Result<PauseEntry, ApiError>> + Send {
        async { Err(elsewhere()) }
    }

    /// Ends a pause.
    fn resume(&self, _id: i64) -> impl Future<Output = Result<PauseEntry, ApiError>> + Send {
        async { Err(elsewhere()) }
    }

    /// Addresses that no mail is sent to.
    fn suppressed(
        &self,
        _query: SuppressedQuery,
    ) -> impl Future<Output = Result<SuppressedPage, ApiError>> + Send {
        async { Err(elsewhere()) }
    }

    /// Sends no mail to some addresses any more.
    fn suppress(
        &self,
        _request: SuppressRequest,
    ) -> impl Future<Output = Result<SuppressAnswer, ApiError>> + Send {
        async { Err(elsewhere()) }
    }

    /// Sends mail to some addresses again.
    fn unsuppress(
        &self,
        _request: UnsuppressRequest,
    ) -> impl Future<Output = Result<UnsuppressAnswer, ApiError>> + Send {
        async { Err(elsewhere()) }
    }

    /// The nodes that are registered, and what is known of them.
    fn nodes(&self) -> impl Future<Output = Result<NodesReport, ApiError>> + Send {
        async { Err(elsewhere()) }
    }

    /// Lets a node in from now on.
    fn add_node(&self, _request: AddNodeRequest) -> impl Future<Output = Result<NodeEntry, ApiError>> + Send {
        async { Err(elsewhere()) }
    }

    /// Changes what is wanted of a node.
    fn change_node(
        &self,
        _name: String,
        _action: NodeAction,
        _request: ChangeNodeRequest,
    ) -> impl Future<Output = Result<ChangedNode, ApiError>> + Send {
        async { Err(elsewhere()) }
    }

    /// Ends a freeze: what silent nodes had goes elsewhere.
    fn takeover(&self) -> Result<TakeoverAnswer, ApiError> {
        Err(elsewhere())
    }

    /// The configuration that the node runs by.
    fn configuration(&self) -> impl Future<Output = ConfigurationReport> + Send;

    /// Reads the configuration again: all of it counts, or nothing changes.
    fn reload(self: Arc<Self>) -> impl Future<Output = Result<ReloadReport, ApiError>> + Send;

    /// The size up to which a message is taken, in bytes.
    fn max_message(&self) -> usize;

    /// Whether the node takes mail in.
    fn readiness(&self) -> Readiness;

    /// The metrics in the text format of Prometheus.
    fn metrics(&self) -> String;
}
