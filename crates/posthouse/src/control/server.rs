//! The node's side of the control socket.

use std::{error::Error, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{
        DefaultBodyLimit, Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    response::IntoResponse,
    routing::{delete, get, post},
};
use http_body_util::LengthLimitError;

use super::{EXPECTED, NodeView, lines::Lines};
use crate::api::{
    AddNodeRequest, ApiError, ChangeNodeRequest, ChangedNode, ConfigurationReport, DamagedPlace, ErrorKind,
    LogQuery, LogRecord, MessageStory, NodeAction, NodeEntry, NodesReport, PauseEntry, PauseRequest,
    QueueQuery, QueueReport, ReloadReport, SendAnswer, SendRequest, StatusReport, SuppressAnswer,
    SuppressRequest, SuppressedPage, SuppressedQuery, TakeoverAnswer, UnsuppressAnswer, UnsuppressRequest,
    WorkWhy, WorksRequest,
};

/// What the control socket answers.
pub fn router<V: NodeView>(view: Arc<V>) -> Router {
    Router::new()
        .route("/v1/status", get(status::<V>))
        .route("/v1/queue", get(queue::<V>))
        .route("/v1/messages", post(send::<V>))
        .route("/v1/messages/{id}", get(message::<V>))
        .route("/v1/log", get(log::<V>))
        .route("/v1/configuration", get(configuration::<V>))
        .route("/v1/damage", get(damage::<V>))
        .route("/v1/works", post(works::<V>))
        .route("/v1/why/{id}", get(why::<V>))
        .route("/v1/pauses", get(pauses::<V>).post(pause::<V>))
        .route("/v1/pauses/{id}", delete(resume::<V>))
        .route("/v1/suppressed", get(suppressed::<V>).post(suppress::<V>).delete(unsuppress::<V>))
        .route("/v1/nodes", get(nodes::<V>).post(add_node::<V>))
        .route("/v1/nodes/{name}/{action}", post(change_node::<V>))
        .route("/v1/takeover", post(takeover::<V>))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .route("/v1/backup", get(backup::<V>))
        .route("/v1/reload", post(reload::<V>))
        .fallback(async || ApiError::new(ErrorKind::NotFound, "there is no such path"))
        .with_state(view)
}

/// The longest request that is no message: 10,000 addresses of the longest kind.
const MAX_REQUEST: usize = 8 << 20;

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

/// Lines of JSON, the last of which is the end.
async fn works<V: NodeView>(
    State(view): State<Arc<V>>,
    request: Result<Json<WorksRequest>, JsonRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Json(request) = request.map_err(|e| invalid(e.body_text()))?;
    Ok(Body::new(Lines(view.works(request)?)))
}

async fn why<V: NodeView>(State(view): State<Arc<V>>, Path(id): Path<String>) -> Answer<Vec<WorkWhy>> {
    view.why(id).await.map(Json)
}

async fn pauses<V: NodeView>(State(view): State<Arc<V>>) -> Json<Vec<PauseEntry>> {
    Json(view.pauses())
}

async fn pause<V: NodeView>(
    State(view): State<Arc<V>>,
    request: Result<Json<PauseRequest>, JsonRejection>,
) -> Answer<PauseEntry> {
    let Json(request) = request.map_err(|e| invalid(e.body_text()))?;
    view.pause(request).await.map(Json)
}

async fn resume<V: NodeView>(State(view): State<Arc<V>>, Path(id): Path<String>) -> Answer<PauseEntry> {
    let id = id.parse().map_err(|_| invalid(format!("\"{id}\" is not the number of a pause")))?;
    view.resume(id).await.map(Json)
}

async fn suppressed<V: NodeView>(
    State(view): State<Arc<V>>,
    query: Result<Query<SuppressedQuery>, QueryRejection>,
) -> Answer<SuppressedPage> {
    let Query(query) = query.map_err(|e| invalid(e.body_text()))?;
    view.suppressed(query).await.map(Json)
}

async fn suppress<V: NodeView>(
    State(view): State<Arc<V>>,
    request: Result<Json<SuppressRequest>, JsonRejection>,
) -> Answer<SuppressAnswer> {
    let Json(request) = request.map_err(|e| invalid(e.body_text()))?;
    view.suppress(request).await.map(Json)
}

async fn unsuppress<V: NodeView>(
    State(view): State<Arc<V>>,
    request: Result<Json<UnsuppressRequest>, JsonRejection>,
) -> Answer<UnsuppressAnswer> {
    let Json(request) = request.map_err(|e| invalid(e.body_text()))?;
    view.unsuppress(request).await.map(Json)
}

async fn nodes<V: NodeView>(State(view): State<Arc<V>>) -> Answer<NodesReport> {
    view.nodes().await.map(Json)
}

async fn add_node<V: NodeView>(
    State(view): State<Arc<V>>,
    request: Result<Json<AddNodeRequest>, JsonRejection>,
) -> Answer<NodeEntry> {
    let Json(request) = request.map_err(|e| invalid(e.body_text()))?;
    view.add_node(request).await.map(Json)
}

async fn change_node<V: NodeView>(
    State(view): State<Arc<V>>,
    Path((name, word)): Path<(String, String)>,
    request: Result<Json<ChangeNodeRequest>, JsonRejection>,
) -> Answer<ChangedNode> {
    let Json(request) = request.map_err(|e| invalid(e.body_text()))?;
    let action = NodeAction::ALL.into_iter().find(|action| action.word() == word);
    let action = action.ok_or_else(|| invalid(format!("\"{word}\" is nothing that is done to a node")))?;
    view.change_node(name, action, request).await.map(Json)
}

async fn takeover<V: NodeView>(State(view): State<Arc<V>>) -> Answer<TakeoverAnswer> {
    view.takeover().map(Json)
}

/// The archive; its head says about how many bytes will come.
async fn backup<V: NodeView>(State(view): State<Arc<V>>) -> Result<impl IntoResponse, ApiError> {
    let stream = view.backup().await?;
    Ok(([(EXPECTED, stream.expected.to_string())], Body::new(stream)))
}

async fn damage<V: NodeView>(State(view): State<Arc<V>>) -> Json<Vec<DamagedPlace>> {
    Json(view.damage())
}

async fn configuration<V: NodeView>(State(view): State<Arc<V>>) -> Json<ConfigurationReport> {
    Json(view.configuration().await)
}

async fn reload<V: NodeView>(State(view): State<Arc<V>>) -> Answer<ReloadReport> {
    view.reload().await.map(Json)
}

async fn send<V: NodeView>(
    State(view): State<Arc<V>>,
    Query(pairs): Query<Vec<(String, String)>>,
    message: Body,
) -> Answer<SendAnswer> {
    let request = SendRequest::from_pairs(pairs).map_err(invalid)?;
    // The limit is that of the moment, which a layer of the router would not know.
    let message = axum::body::to_bytes(message, view.max_message()).await.map_err(|error| {
        let is_too_long = error.source().is_some_and(<dyn Error>::is::<LengthLimitError>);
        if is_too_long {
            ApiError::new(ErrorKind::Refused, "the message is larger than this node takes")
                .hint("limits.message is the size up to which messages are taken")
        } else {
            ApiError::new(ErrorKind::Invalid, format!("the message did not come whole: {error}"))
        }
    })?;
    view.send(request, message).await.map(Json)
}

fn invalid(error: String) -> ApiError {
    ApiError::new(ErrorKind::Invalid, error)
}
