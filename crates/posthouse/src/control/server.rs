//! The node's side of the control socket.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, Path, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::StatusCode,
    routing::{get, post},
};
use bytes::Bytes;

use super::NodeView;
use crate::api::{
    ApiError, ErrorKind, LogQuery, LogRecord, MessageStory, QueueQuery, QueueReport, SendAnswer, SendRequest,
    StatusReport,
};

/// What the control socket answers. `max_message` is the size up to which a message is taken.
pub fn router<V: NodeView>(view: Arc<V>, max_message: usize) -> Router {
    Router::new()
        .route("/v1/status", get(status::<V>))
        .route("/v1/queue", get(queue::<V>))
        .route("/v1/messages", post(send::<V>))
        .route("/v1/messages/{id}", get(message::<V>))
        .route("/v1/log", get(log::<V>))
        .fallback(async || ApiError::new(ErrorKind::NotFound, "there is no such path"))
        .layer(DefaultBodyLimit::max(max_message))
        .with_state(view)
}

type Answer<T> = Result<Json<T>, ApiError>;

async fn status<V: NodeView>(State(view): State<Arc<V>>) -> Answer<StatusReport> {
    view.status().await.map(Json)
}

async fn queue<V: NodeView>(
    State(view): State<Arc<V>>,
    query: Result<Query<QueueQuery>, QueryRejection>,
) -> Answer<QueueReport> {
    let Query(query) = query.map_err(|e| invalid(e.body_text()))?;
    view.queue(query).await.map(Json)
}

async fn message<V: NodeView>(State(view): State<Arc<V>>, Path(id): Path<String>) -> Answer<MessageStory> {
    let id = id.parse().map_err(|e: base::IdError| invalid(e.to_string()))?;
    view.message(id).await.map(Json)
}

async fn log<V: NodeView>(
    State(view): State<Arc<V>>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Answer<Vec<LogRecord>> {
    let Query(query) = query.map_err(|e| invalid(e.body_text()))?;
    view.log(query).await.map(Json)
}

async fn send<V: NodeView>(
    State(view): State<Arc<V>>,
    Query(pairs): Query<Vec<(String, String)>>,
    message: Result<Bytes, BytesRejection>,
) -> Answer<SendAnswer> {
    let request = SendRequest::from_pairs(pairs).map_err(invalid)?;
    let message = message.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(ErrorKind::Refused, "the message is larger than this node takes")
                .hint("limits.message is the size up to which messages are taken")
        }
        _ => ApiError::new(ErrorKind::Invalid, format!("the message did not come whole: {}", e.body_text())),
    })?;
    view.send(request, message).await.map(Json)
}

fn invalid(error: String) -> ApiError {
    ApiError::new(ErrorKind::Invalid, error)
}
