//! A command's side of the control socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use base::{HostName, MessageId};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response,
    body::Incoming,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use super::{EXPECTED, socket_path};
use crate::api::{
    AddNodeRequest, ApiError, ChangeNodeRequest, ChangedNode, ConfigurationReport, DamagedPlace, LogQuery,
    LogRecord, MessageStory, NodeAction, NodeEntry, NodesReport, PauseEntry, PauseRequest, QueueQuery,
    QueueReport, ReloadReport, SendAnswer, SendRequest, StatusReport, SuppressAnswer, SuppressRequest,
    SuppressedPage, SuppressedQuery, TakeoverAnswer, UnsuppressAnswer, UnsuppressRequest, WorkWhy,
    WorksReport, WorksRequest,
};

/// How long a node may take to answer. A large message takes its time to be synced.
const PATIENCE: Duration = Duration::from_secs(120);

/// The longest answer that is taken.
const MAX_ANSWER: usize = 256 << 20;

/// Asks the node that owns a data directory; a connection per question.
#[derive(Clone, Debug)]
pub struct Client {
    data_dir: PathBuf,
}

/// The node did not do what it was asked. Each is one plain line; [`hint`](Self::hint) says more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody answers.
    #[error("no node is running on {}", data_dir.display())]
    NotRunning {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The node is another user's.
    #[error("you may not speak to the node on {}: its socket belongs to another user", data_dir.display())]
    NotAllowed {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The node did not answer in time.
    #[error("the node on {} has not answered for {} seconds", data_dir.display(), PATIENCE.as_secs())]
    Silent {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The connection failed.
    #[error("cannot speak to the node on {}: {source}", data_dir.display())]
    Connection {
        /// The data directory.
        data_dir: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The node said no.
    #[error("{0}")]
    Refused(ApiError),
}

impl ClientError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotRunning { data_dir } => Some(format!(
                "start one with `posthouse up --data-dir {0}`, or name the data directory of the one that runs \
                 with --data-dir",
                data_dir.display()
            )),
            Self::NotAllowed { .. } => Some("run the command as the user of the node, or as root".into()),
            Self::Silent { .. } => Some("its lines on standard error say what it is doing".into()),
            Self::Connection { .. } => None,
            Self::Refused(error) => error.hint.clone(),
        }
    }
}

impl Client {
    /// Asks the node that owns `data_dir`.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    /// How the node is.
    ///
    /// # Errors
    /// As for every question: no node answers, or it says no.
    pub async fn status(&self) -> Result<StatusReport, ClientError> {
        self.ask(Method::GET, "/v1/status".into(), Bytes::new()).await
    }

    /// What waits.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn queue(&self, query: &QueueQuery) -> Result<QueueReport, ClientError> {
        self.ask(Method::GET, with_query("/v1/queue", query), Bytes::new()).await
    }

    /// All that is known of a message.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn message(&self, id: MessageId) -> Result<MessageStory, ClientError> {
        self.ask(Method::GET, format!("/v1/messages/{id}"), Bytes::new()).await
    }

    /// The records that are asked for, the newest first.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn log(&self, query: &LogQuery) -> Result<Vec<LogRecord>, ClientError> {
        self.ask(Method::GET, with_query("/v1/log", query), Bytes::new()).await
    }

    /// Gives a message to the node; it is on disk and synced when this returns.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn send(&self, request: &SendRequest, message: Bytes) -> Result<SendAnswer, ClientError> {
        self.ask(Method::POST, with_query("/v1/messages", &request.to_pairs()), message).await
    }

    /// Counts works or does something to them; `progress` hears how far it has come, and the last word is returned.
    ///
    /// # Errors
    /// As [`status`](Self::status); or it broke off, and what was done before stays done.
    pub async fn works(
        &self,
        request: &WorksRequest,
        mut progress: impl FnMut(&WorksReport),
    ) -> Result<WorksReport, ClientError> {
        let silent = |_| ClientError::Silent { data_dir: self.data_dir.clone() };
        let asked = self.request(Method::POST, "/v1/works".into(), json(request));
        let mut body = tokio::time::timeout(PATIENCE, asked).await.map_err(silent)??.into_body();
        let mut rest = Vec::new();
        while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame()).await.map_err(silent)? {
            let frame = frame.map_err(|e| self.broken(e))?;
            rest.extend_from_slice(&frame.into_data().unwrap_or_default());
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let report: WorksReport = serde_json::from_slice(&line).map_err(|e| self.broken(e))?;
                match report {
                    WorksReport { error: Some(error), .. } => return Err(ClientError::Refused(error)),
                    report if report.finished => return Ok(report),
                    report => progress(&report),
                }
            }
        }
        Err(self.broken("it broke off in the middle; what was done stays done"))
    }

    /// Why a work, or each work of a message, waits.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn why(&self, id: &str) -> Result<Vec<WorkWhy>, ClientError> {
        self.ask(Method::GET, format!("/v1/why/{id}"), Bytes::new()).await
    }

    /// What is paused.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn pauses(&self) -> Result<Vec<PauseEntry>, ClientError> {
        self.ask(Method::GET, "/v1/pauses".into(), Bytes::new()).await
    }

    /// Lets mail wait.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn pause(&self, request: &PauseRequest) -> Result<PauseEntry, ClientError> {
        self.ask(Method::POST, "/v1/pauses".into(), json(request)).await
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn resume(&self, id: i64) -> Result<PauseEntry, ClientError> {
        self.ask(Method::DELETE, format!("/v1/pauses/{id}"), Bytes::new()).await
    }

    /// Addresses that no mail is sent to.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn suppressed(&self, query: &SuppressedQuery) -> Result<SuppressedPage, ClientError> {
        self.ask(Method::GET, with_query("/v1/suppressed", query), Bytes::new()).await
    }

    /// Has no mail sent to some addresses any more.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn suppress(&self, request: &SuppressRequest) -> Result<SuppressAnswer, ClientError> {
        self.ask(Method::POST, "/v1/suppressed".into(), json(request)).await
    }

    /// Has mail sent to some addresses again.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn unsuppress(&self, request: &UnsuppressRequest) -> Result<UnsuppressAnswer, ClientError> {
        self.ask(Method::DELETE, "/v1/suppressed".into(), json(request)).await
    }

    /// The nodes of the cluster, of a manager.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn nodes(&self) -> Result<NodesReport, ClientError> {
        self.ask(Method::GET, "/v1/nodes".into(), Bytes::new()).await
    }

    /// Lets a node in from now on.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn add_node(&self, request: &AddNodeRequest) -> Result<NodeEntry, ClientError> {
        self.ask(Method::POST, "/v1/nodes".into(), json(request)).await
    }

    /// Changes what is wanted of a node.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn change_node(
        &self,
        name: &HostName,
        action: NodeAction,
        request: &ChangeNodeRequest,
    ) -> Result<ChangedNode, ClientError> {
        self.ask(Method::POST, format!("/v1/nodes/{name}/{}", action.word()), json(request)).await
    }

    /// Ends a freeze: what silent nodes had goes elsewhere.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn takeover(&self) -> Result<TakeoverAnswer, ClientError> {
        self.ask(Method::POST, "/v1/takeover".into(), Bytes::new()).await
    }

    /// Has the node copy all that it keeps: about how many bytes will come, and the archive.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn backup(&self) -> Result<(u64, Incoming), ClientError> {
        let asked = self.request(Method::GET, "/v1/backup".into(), Bytes::new());
        let answer = tokio::time::timeout(PATIENCE, asked)
            .await
            .map_err(|_| ClientError::Silent { data_dir: self.data_dir.clone() })??;
        let expected = answer.headers().get(EXPECTED).and_then(|bytes| bytes.to_str().ok()?.parse().ok());
        Ok((expected.unwrap_or(0), answer.into_body()))
    }

    /// What of the spool was found damaged, at the node's start and since.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn damage(&self) -> Result<Vec<DamagedPlace>, ClientError> {
        self.ask(Method::GET, "/v1/damage".into(), Bytes::new()).await
    }

    /// The configuration that the node runs by.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn configuration(&self) -> Result<ConfigurationReport, ClientError> {
        self.ask(Method::GET, "/v1/configuration".into(), Bytes::new()).await
    }

    /// The number of the node's process; nothing if nobody answers, or the system does not say.
    pub async fn process(&self) -> Option<i32> {
        UnixStream::connect(socket_path(&self.data_dir)).await.ok()?.peer_cred().ok()?.pid()
    }

    /// Has the node read its configuration again.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub async fn reload(&self) -> Result<ReloadReport, ClientError> {
        self.ask(Method::POST, "/v1/reload".into(), Bytes::new()).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: Bytes,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Silent { data_dir: self.data_dir.clone() }),
        }
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let answer = self.request(method, path, body).await?;
        let body =
            Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|e| self.broken(e))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|e| self.broken(e))
    }

    /// The node's answer, if it is yes.
    async fn request(
        &self,
        method: Method,
        path: String,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream =
            UnixStream::connect(socket_path(&self.data_dir)).await.map_err(|e| self.unreachable(e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(e))?;
        // It ends with the answer, or with the command.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "posthouse")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| self.broken(e))?;
        let answer = sender.send_request(request).await.map_err(|e| self.broken(e))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body =
            Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|e| self.broken(e))?;
        match serde_json::from_slice(&body.to_bytes()) {
            Ok(error) => Err(ClientError::Refused(error)),
            Err(_) => Err(self.broken(format!("it answered {status}"))),
        }
    }

    fn unreachable(&self, error: io::Error) -> ClientError {
        let data_dir = self.data_dir.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { data_dir }
            }
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed { data_dir },
            _ => self.broken(error),
        }
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Connection { data_dir: self.data_dir.clone(), source: source.into() }
    }
}

fn json(request: &impl Serialize) -> Bytes {
    serde_json::to_vec(request).expect("our shapes have text keys and no failing parts").into()
}

fn with_query(path: &str, query: &impl Serialize) -> String {
    let query = serde_urlencoded::to_string(query).expect("queries are flat: names and texts or numbers");
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}
