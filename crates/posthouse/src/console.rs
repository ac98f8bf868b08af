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

use crate::{
    api::{Readiness, Role, StatusReport, WorkerStatus},
    control::NodeView,
};

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
    let (name, state, role) = match view.status().await {
        Ok(status) => {
            let role = role_of(&status);
            (status.name, state_of(&status.readiness), role)
        }
        Err(error) => ("Posthouse".to_owned(), error.to_string(), String::new()),
    };
    Html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{name} - Posthouse</title>\n\
         <h1>{name}</h1>\n<p>A node of Posthouse {version}, {state}.</p>\n<p>{role}</p>\n<ul>\n\
         <li><a href=\"/healthz\">/healthz</a>: the process lives\n\
         <li><a href=\"/readyz\">/readyz</a>: it takes mail in\n\
         <li><a href=\"/metrics\">/metrics</a>: its counters, for Prometheus\n</ul>\n</html>\n",
        name = escape(&name),
        state = escape(&state),
        version = env!("CARGO_PKG_VERSION"),
    ))
}

/// What it is to others, and where there is more: one line of HTML.
fn role_of(status: &StatusReport) -> String {
    match (status.role, &status.worker) {
        (Role::Worker, worker) => format!(
            "{} Its manager has the queue. More with <code>posthouse status</code> here, and with <code>posthouse mail queue</code> there.",
            escape(&whose(&worker.clone().unwrap_or_default()))
        ),
        (Role::Manager, _) => {
            "It is a manager, and keeps the queue for its workers. More with <code>posthouse status</code>, \
             <code>posthouse mail queue</code> and <code>posthouse nodes list</code>."
                .to_owned()
        }
        (Role::Standalone, _) => {
            "It stands alone. More with <code>posthouse status</code> and <code>posthouse mail queue</code>."
                .to_owned()
        }
    }
}

/// Whose worker it is, and whether it is linked.
fn whose(WorkerStatus { manager, away, .. }: &WorkerStatus) -> String {
    let of = match manager.as_str() {
        "" => "It is a worker, which its manager has not let in yet".to_owned(),
        manager => format!("It is a worker of {manager}"),
    };
    match away.as_deref() {
        None => format!("{of}, and is linked to it."),
        Some("") => format!("{of}, and has no link to it."),
        Some(why) => format!("{of}, and has no link to it: {why}."),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_says_whose_it_is_and_whether_it_is_linked() {
        let whose = |manager: &str, away: Option<&str>| {
            let (manager, away) = (manager.to_owned(), away.map(str::to_owned));
            whose(&WorkerStatus { manager, away, ..WorkerStatus::default() })
        };
        assert_eq!(whose("mx1", None), "It is a worker of mx1, and is linked to it.");
        assert_eq!(
            whose("mx1", Some("it is removed")),
            "It is a worker of mx1, and has no link to it: it is removed."
        );
        assert_eq!(
            whose("", Some("")),
            "It is a worker, which its manager has not let in yet, and has no link to it."
        );
    }
}
