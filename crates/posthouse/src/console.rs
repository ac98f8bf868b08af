//! The console address: health checks, metrics, and a page that says what this is.

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{Html, IntoResponse},
    routing::get,
};
use base::Shutdown;
use tokio::net::TcpListener;

use crate::{api::Readiness, control::NodeView};

/// The type of the metrics' text (Prometheus exposition format 0.0.4).
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers on the console's address until the node stops.
///
/// # Errors
/// The listener fails.
pub async fn serve<V: NodeView>(listener: TcpListener, view: Arc<V>, stop: Shutdown) -> io::Result<()> {
    axum::serve(listener, router(view)).with_graceful_shutdown(async move { stop.stopping().await }).await
}

/// What the console answers.
pub fn router<V: NodeView>(view: Arc<V>) -> Router {
    Router::new()
        .route("/", get(page::<V>))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready::<V>))
        .route("/metrics", get(metrics::<V>))
        .with_state(view)
}

async fn ready<V: NodeView>(State(view): State<Arc<V>>) -> impl IntoResponse {
    match view.readiness() {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::NotReady(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

async fn metrics<V: NodeView>(State(view): State<Arc<V>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, METRICS_TYPE)], view.metrics())
}

async fn page<V: NodeView>(State(view): State<Arc<V>>) -> impl IntoResponse {
    let (name, state) = match view.status().await {
        Ok(status) => (status.name, state_of(&status.readiness)),
        Err(error) => ("Posthouse".to_owned(), error.to_string()),
    };
    Html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{name} - Posthouse</title>\n\
         <h1>{name}</h1>\n<p>A node of Posthouse {version}, {state}.</p>\n<ul>\n\
         <li><a href=\"/healthz\">/healthz</a>: the process lives\n\
         <li><a href=\"/readyz\">/readyz</a>: it takes mail in\n\
         <li><a href=\"/metrics\">/metrics</a>: its counters, for Prometheus\n</ul>\n\
         <p>More with <code>posthouse status</code> and <code>posthouse mail queue</code>.</p>\n</html>\n",
        name = escape(&name),
        state = escape(&state),
        version = env!("CARGO_PKG_VERSION"),
    ))
}

fn state_of(readiness: &Readiness) -> String {
    match readiness {
        Readiness::Ready => "ready".into(),
        Readiness::NotReady(reason) => format!("not ready: {reason}"),
    }
}

/// The text as it stands in HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
