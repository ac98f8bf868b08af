//! The control socket and the console, with a node that only says what it was told to say.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::Duration,
};

use base::{MessageId, NodeId, Shutdown, Timestamp, WorkId};
use bytes::Bytes;
use posthouse::{
    api::{
        ApiError, ChangedKey, ConfigurationReport, DamagedPlace, Destination, DiskRoom, Earnest, ErrorKind,
        LogQuery, LogRecord, MessageStory, Moment, PauseEntry, PauseRequest, QueueQuery, QueueReport, Rates,
        Readiness, RecordsStatus, ReloadReport, Reloaded, Role, Selector, SendAnswer, SendRequest,
        SpoolStatus, StatusReport, SuppressAnswer, SuppressRequest, SuppressedPage, SuppressedQuery,
        UnsuppressAnswer, UnsuppressRequest, WorkAction, WorkWhy, WorksReport, WorksRequest,
    },
    backup,
    config::{Config, ListenAddress},
    console,
    control::{Client, ClientError, ControlSocket, NodeView, SocketError, socket_path},
    listen::listen,
};
use store::records::{Conclusion, Duplicate, Entry, Outcome, Reception, Record, Source, What};
use tempfile::TempDir;
use tokio::{
    sync::mpsc::{Receiver, channel},
    task::JoinHandle,
};

const ID: &str = "0195b3c4d5e67f808182838485868788";
const MAX_MESSAGE: usize = 4 << 20;

#[derive(Default)]
struct Puppet {
    asked: Mutex<Vec<String>>,
    sent: Mutex<Bytes>,
}

impl Puppet {
    fn note(&self, what: impl Into<String>) {
        self.asked.lock().expect("no test panics with it").push(what.into());
    }

    fn last(&self) -> String {
        self.asked.lock().expect("no test panics with it").last().cloned().unwrap_or_default()
    }
}

impl NodeView for Puppet {
    async fn configuration(&self) -> ConfigurationReport {
        configuration()
    }

    async fn status(&self) -> Result<StatusReport, ApiError> {
        Ok(status())
    }

    async fn queue(&self, query: QueueQuery) -> Result<QueueReport, ApiError> {
        self.note(format!("{query:?}"));
        let destination = Destination {
            domain: "example.net".into(),
            works: 1,
            recipients: 2,
            oldest: Moment(Timestamp::from_millis(1_795_000_000_000)),
            next_attempt: None,
            last_reply: Some("450 4.2.0 busy".into()),
            possibly_done: 0,
        };
        let destinations =
            if query.domain.as_deref() == Some("empty.example") { vec![] } else { vec![destination] };
        Ok(QueueReport { destinations, ..QueueReport::default() })
    }

    async fn message(&self, id: MessageId) -> Result<MessageStory, ApiError> {
        let unknown = || {
            ApiError::new(ErrorKind::NotFound, format!("no message {id} is known"))
                .hint("`posthouse mail log` lists them")
        };
        let records = if id.to_string() == ID { vec![accepted(id), delivered(id)] } else { vec![] };
        MessageStory::tell(id, records, Vec::new()).ok_or_else(unknown)
    }

    async fn log(&self, query: LogQuery) -> Result<Vec<LogRecord>, ApiError> {
        self.note(format!("{query:?}"));
        let id = ID.parse().expect("it is an id");
        Ok(vec![delivered(id).into(), accepted(id).into()])
    }

    async fn send(&self, request: SendRequest, message: Bytes) -> Result<SendAnswer, ApiError> {
        self.note(format!("{request:?}"));
        *self.sent.lock().expect("no test panics with it") = message;
        Ok(SendAnswer { id: ID.parse().expect("it is an id"), recipients: 2 })
    }

    fn works(&self, request: WorksRequest) -> Result<Receiver<WorksReport>, ApiError> {
        self.note(format!("{request:?}"));
        let (lines, receiver) = channel(4);
        let report =
            |works, finished| WorksReport { works, recipients: 7, done: works, finished, error: None };
        lines.try_send(report(4096, false)).expect("there is room");
        lines.try_send(report(5000, true)).expect("there is room");
        Ok(receiver)
    }

    async fn why(&self, id: String) -> Result<Vec<WorkWhy>, ApiError> {
        Err(ApiError::new(ErrorKind::NotFound, format!("nothing of {id} waits")))
    }

    fn pauses(&self) -> Vec<PauseEntry> {
        Vec::new()
    }

    async fn pause(&self, request: PauseRequest) -> Result<PauseEntry, ApiError> {
        let PauseRequest { about, until, why, by } = request;
        Ok(PauseEntry { id: 7, about, since: Moment(Timestamp::default()), until, why, by })
    }

    async fn resume(&self, id: i64) -> Result<PauseEntry, ApiError> {
        Err(ApiError::new(ErrorKind::NotFound, format!("there is no pause {id}")))
    }

    async fn suppressed(&self, query: SuppressedQuery) -> Result<SuppressedPage, ApiError> {
        self.note(format!("{query:?}"));
        Ok(SuppressedPage::default())
    }

    async fn suppress(&self, request: SuppressRequest) -> Result<SuppressAnswer, ApiError> {
        Ok(SuppressAnswer { new: request.addresses.len() as u64, changed: 0 })
    }

    async fn unsuppress(&self, request: UnsuppressRequest) -> Result<UnsuppressAnswer, ApiError> {
        Ok(UnsuppressAnswer { ended: request.addresses.len() as u64 })
    }

    async fn backup(&self) -> Result<backup::Stream, ApiError> {
        Err(ApiError::new(ErrorKind::Unavailable, "a backup is being taken already"))
    }

    fn damage(&self) -> Vec<DamagedPlace> {
        vec![DamagedPlace { segment: 7, offset: 8192, what: "a frame is torn".into() }]
    }

    async fn reload(self: Arc<Self>) -> Result<ReloadReport, ApiError> {
        let key = |key: &str, needs_restart| ChangedKey {
            key: key.into(),
            old: None,
            new: Some("\"4MiB\"".into()),
            needs_restart,
        };
        let changes = vec![key("limits.message", false), key("spool.segment", true)];
        Ok(ReloadReport { outcome: Reloaded::Refused, changes })
    }

    fn max_message(&self) -> usize {
        MAX_MESSAGE
    }

    fn readiness(&self) -> Readiness {
        Readiness::NotReady("the spool is being read".into())
    }

    fn metrics(&self) -> String {
        "posthouse_accepted_total 3\n".into()
    }
}

fn configuration() -> ConfigurationReport {
    let text = "smtp.listen = ['192.0.2.1:25']\ncluster.role = 'manager'\ndelivery.retry = ['1m', '5m']\n\
                [[delivery.route]]\ndomain = 'example.com'\nnext-hop = 'a.example:25'\n";
    let counts = Config::parse(Path::new("posthouse.toml"), text).expect("it is right");
    ConfigurationReport { counts, changed: vec!["smtp.listen".into()], unreadable: Some("why".into()) }
}

fn status() -> StatusReport {
    StatusReport {
        name: "mx1".into(),
        node_id: NodeId::from_bytes([7; 16]),
        version: "0.1.0".into(),
        role: Role::Standalone,
        readiness: Readiness::Ready,
        started: Moment(Timestamp::from_millis(1_795_000_000_000)),
        uptime_seconds: 3723,
        accepted: 12,
        delivered: 8,
        deferred: 3,
        bounced: 1,
        expired: 0,
        queued: 3,
        queued_works: 2,
        sessions: 20,
        connections: 4,
        rates: Rates { accepted: 1.25, ..Rates::default() },
        spool: SpoolStatus {
            segments: 1,
            free_segments: 1,
            bytes: 128 << 20,
            disk_free: 3 << 30,
            room: DiskRoom::Enough,
        },
        records: RecordsStatus { behind: 5, bytes: 3 << 20, lost: 0 },
        worker: None,
    }
}

fn record(id: MessageId, what: What<String>) -> Entry {
    Entry {
        record: Record {
            work: WorkId { message: id, index: 0 },
            recipient: 0,
            at: Timestamp::from_millis(1_795_000_000_123),
            node: "mx1".into(),
            what,
        },
        sender: "a@example.com".into(),
        recipient: "b@example.net".into(),
    }
}

fn accepted(id: MessageId) -> Entry {
    let reception = Reception {
        sender: "a@example.com".into(),
        recipient: "b@example.net".into(),
        size: 4711,
        source: Source::Smtp,
        client: "192.0.2.1:40000".into(),
        helo: "client.example".into(),
        protocol: "ESMTP".into(),
    };
    record(id, What::Reception(reception))
}

fn delivered(id: MessageId) -> Entry {
    let conclusion = Conclusion {
        epoch: 1,
        outcome: Outcome::Delivered,
        reason: "reply".into(),
        remote_host: "mx.example.net".into(),
        remote_address: "198.51.100.7:25".into(),
        reply: "250 2.0.0 Ok".into(),
        attempt: 1,
        delay: Duration::from_millis(15),
        duplicate: Duplicate::No,
    };
    record(id, What::Conclusion(conclusion))
}

/// A puppet on a control socket, until it is stopped.
struct Node {
    folder: TempDir,
    puppet: Arc<Puppet>,
    stop: Shutdown,
    served: JoinHandle<io::Result<()>>,
}

impl Node {
    fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let (puppet, stop) = (Arc::new(Puppet::default()), Shutdown::new());
        let socket = ControlSocket::open(folder.path()).expect("the socket opens");
        let served = tokio::spawn(socket.serve(puppet.clone(), stop.clone()));
        Self { folder, puppet, stop, served }
    }

    fn client(&self) -> Client {
        Client::new(self.folder.path())
    }

    /// Runs the real command against the puppet.
    async fn posthouse(&self, line: &str) -> Output {
        let folder = self.folder.path().to_owned();
        let line = line.to_owned();
        tokio::task::spawn_blocking(move || posthouse(&folder, &line)).await.expect("the command runs")
    }
}

fn posthouse(data_dir: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse"));
    command.args(line.split(' ')).arg("--data-dir").arg(data_dir);
    command.stdin(std::process::Stdio::null()).output().expect("the command runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is text")
}

#[tokio::test]
async fn every_question_comes_back_with_the_nodes_answer() {
    let node = Node::start();
    let client = node.client();
    assert_eq!(client.status().await.unwrap(), status());
    assert_eq!(client.configuration().await.unwrap(), configuration());

    let query = QueueQuery { domain: Some("example.net".into()), works: Some(10), reason: None };
    assert_eq!(client.queue(&query).await.unwrap().destinations[0].recipients, 2);
    assert_eq!(node.puppet.last(), format!("{query:?}"));

    let id = ID.parse().unwrap();
    let story = client.message(id).await.unwrap();
    assert_eq!((story.size, story.recipients[0].state.as_str()), (4711, "delivered"));
    assert_eq!(story.records, [accepted(id).into(), delivered(id).into()]);

    let query = LogQuery {
        recipient: Some("*@example.net".into()),
        sender: Some(String::new()),
        since: Some(Moment(Timestamp::from_micros(1_795_000_000_123_456))),
        what: Some("delivered".into()),
        limit: Some(7),
        ..LogQuery::default()
    };
    assert_eq!(client.log(&query).await.unwrap().len(), 2);
    assert_eq!(node.puppet.last(), format!("{query:?}"));

    let request = SendRequest {
        from: "a+b&c@example.com".into(),
        to: vec!["x@example.net".into(), "\"y, z\"@ex.net".into()],
        priority: -3,
        ..SendRequest::default()
    };
    let message = Bytes::from(vec![b'x'; 3 << 20]);
    assert_eq!(client.send(&request, message.clone()).await.unwrap().id, id);
    assert_eq!(node.puppet.last(), format!("{request:?}"));
    assert_eq!(*node.puppet.sent.lock().unwrap(), message);

    let selector = Selector {
        domain: Some("*.example.net".parse().unwrap()),
        older_than: Some("2h".parse().unwrap()),
        ..Selector::default()
    };
    let at = Moment(Timestamp::from_micros(1_795_000_000_123_456));
    let action = WorkAction::Reschedule { at };
    let request = WorksRequest { selector, action, earnest: Earnest::Act };
    let mut heard = Vec::new();
    let last = client.works(&request, |report| heard.push(report.works)).await.unwrap();
    assert_eq!((heard, last.done), (vec![4096], 5000));
    assert_eq!(node.puppet.last(), format!("{request:?}"));
    let about = store::settings::About::Sender("*@example.com".parse().unwrap());
    let pause = PauseRequest { about, until: Some(at), why: "x".into(), by: "anna".into() };
    let paused = client.pause(&pause).await.unwrap();
    assert_eq!((paused.id, paused.about, paused.until), (7, pause.about, Some(at)));
    // The puppet knows of no nodes, as a worker.
    let error = client.nodes().await.unwrap_err();
    let ClientError::Refused(refused) = &error else { panic!("{error}") };
    assert_eq!((refused.kind, error.hint().is_some()), (ErrorKind::Refused, true));
    assert!(client.takeover().await.is_err());
    let addresses = vec!["x@example.net".to_owned(); 10_000];
    let suppress = SuppressRequest { addresses: addresses.clone(), until: None, why: String::new() };
    assert_eq!(client.suppress(&suppress).await.unwrap().new, 10_000);
    assert_eq!(client.unsuppress(&UnsuppressRequest { addresses }).await.unwrap().ended, 10_000);

    node.stop.stop();
    node.served.await.unwrap().unwrap();
    assert!(!socket_path(node.folder.path()).exists());
}

#[tokio::test]
async fn a_no_comes_back_with_its_hint() {
    let node = Node::start();
    let refused = node.client().message(MessageId::from_bytes([0; 16])).await.unwrap_err();
    assert_eq!(refused.hint().as_deref(), Some("`posthouse mail log` lists them"));
    assert!(matches!(refused, ClientError::Refused(ApiError { kind: ErrorKind::NotFound, .. })), "{refused}");

    let large = Bytes::from(vec![0; MAX_MESSAGE + 1]);
    let request = SendRequest { to: vec!["x@example.net".into()], ..SendRequest::default() };
    let refused = node.client().send(&request, large).await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(ApiError { kind: ErrorKind::Refused, .. })), "{refused}");
    let nobody = SendRequest::default();
    let refused = node.client().send(&nobody, Bytes::new()).await.unwrap_err();
    assert!(refused.to_string().contains("needs a recipient"), "{refused}");
}

#[tokio::test]
async fn only_the_owner_may_open_the_socket() {
    let node = Node::start();
    let mode = fs::metadata(socket_path(node.folder.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn the_socket_of_a_living_node_is_refused_and_that_of_a_dead_one_replaced() {
    let folder = TempDir::new().unwrap();
    let path = socket_path(folder.path());
    let first = UnixListener::bind(&path).unwrap();
    let error = ControlSocket::open(folder.path()).unwrap_err();
    assert!(matches!(error, SocketError::Running { .. }), "{error}");

    // A killed process leaves the file behind, and nobody who listens.
    drop(first);
    assert!(path.exists());
    let socket = ControlSocket::open(folder.path()).unwrap();
    let stop = Shutdown::new();
    let served = tokio::spawn(socket.serve(Arc::new(Puppet::default()), stop.clone()));
    Client::new(folder.path()).status().await.unwrap();
    assert!(matches!(ControlSocket::open(folder.path()), Err(SocketError::Running { .. })));
    stop.stop();
    served.await.unwrap().unwrap();

    fs::write(&path, "not a socket").unwrap();
    assert!(matches!(ControlSocket::open(folder.path()), Err(SocketError::InTheWay { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"not a socket");
    let deep = folder.path().join("d".repeat(100));
    assert!(matches!(ControlSocket::open(&deep), Err(SocketError::TooLong { .. })));
}

#[tokio::test]
async fn commands_show_tables_or_json() {
    let node = Node::start();
    let shown = text(&node.posthouse("status").await.stdout);
    assert!(shown.starts_with("mx1 (standalone) is ready; up 1h 2m, version 0.1.0\n"), "{shown}");
    assert!(shown.contains("\naccepted     12  1.2/s\n"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_slice(&node.posthouse("status --json").await.stdout).unwrap();
    for (key, value) in [("accepted", 12), ("delivered", 8), ("deferred", 3), ("bounced", 1), ("queued", 3)] {
        assert_eq!(json[key], value, "{key}");
    }
    assert_eq!(json["ready"], true);

    let shown = text(&node.posthouse("mail queue").await.stdout);
    assert!(shown.contains("example.net      1           2"), "{shown}");
    assert_eq!(
        text(&node.posthouse("mail queue empty.example").await.stdout),
        "Nothing waits for empty.example.\n"
    );

    let shown = text(&node.posthouse(&format!("mail show {ID}.0")).await.stdout);
    assert!(shown.contains("b@example.net  delivered         1  250 2.0.0 Ok"), "{shown}");

    let shown = text(&node.posthouse("mail log --since 1h --limit 5").await.stdout);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[1].contains("accepted") && lines[2].contains("delivered"), "{shown}");
    assert!(node.puppet.last().contains("limit: Some(5)"));
    let shown = text(&node.posthouse("mail log --json").await.stdout);
    let lines: Vec<LogRecord> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[1], delivered(ID.parse().unwrap()).into());

    let line = "mail send --from a@example.com --to b@example.net --subject Hi --body Hello --json";
    let sent: SendAnswer = serde_json::from_slice(&node.posthouse(line).await.stdout).unwrap();
    assert_eq!(sent.recipients, 2);
    let message = text(&node.puppet.sent.lock().unwrap());
    assert!(message.contains("\nSubject: Hi\n") && message.ends_with("\n\nHello\n"), "{message}");

    let file = node.folder.path().join("message.eml");
    fs::write(&file, "Subject: Two\n\nlines\n").unwrap();
    let line = format!("mail send --from a@example.com --to b@example.net {}", file.display());
    let shown = text(&node.posthouse(&line).await.stdout);
    assert!(shown.starts_with(&format!("{ID} is queued for 2 recipients")), "{shown}");
    assert_eq!(text(&node.puppet.sent.lock().unwrap()), "Subject: Two\n\nlines\n");
}

#[tokio::test]
async fn a_reload_shows_each_change_and_fails_where_a_restart_is_needed() {
    let node = Node::start();
    let ran = node.posthouse("reload").await;
    assert_eq!(
        text(&ran.stdout),
        "limits.message  (none)  → \"4MiB\"\nspool.segment   (none)  → \"4MiB\"  needs a restart\n"
    );
    assert_eq!(ran.status.code(), Some(1));
    assert_eq!(
        text(&ran.stderr),
        "error: nothing was changed: spool.segment can change only with a restart\n\
         hint: restart the node, or put the former value back and reload again\n"
    );
    let ran = node.posthouse("reload --json").await;
    let report: ReloadReport = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((report.changes.len(), ran.status.code()), (2, Some(1)));
}

#[test]
fn without_a_node_a_command_says_so_and_how_to_start_one() {
    let folder = TempDir::new().unwrap();
    for line in ["status", "status --json", "mail queue", "mail log"] {
        let output = posthouse(folder.path(), line);
        let shown = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{line}: {shown}");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 2, "{shown}");
        assert_eq!(lines[0], format!("error: no node is running on {}", folder.path().display()));
        assert!(lines[1].starts_with("hint: start one with `posthouse up --data-dir "), "{shown}");
    }
    let output = posthouse(folder.path(), "mail send --from a@example.com --to b@example.net");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error: the message is empty\nhint: "));
}

#[tokio::test]
async fn the_console_answers_health_readiness_and_metrics() {
    let listener = listen("console.listen", ListenAddress::loopback(0)).unwrap();
    let address = listener.local_addr().unwrap();
    let stop = Shutdown::new();
    let served = tokio::spawn(console::serve(listener, Arc::new(Puppet::default()), stop.clone()));
    for (path, status, body) in [
        ("/healthz", "200", "ok\n"),
        ("/readyz", "503", "not ready: the spool is being read\n"),
        ("/metrics", "200", "posthouse_accepted_total 3\n"),
        ("/", "200", "<h1>mx1</h1>"),
        ("/nothing", "404", ""),
    ] {
        let answer = get(address, path).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(body),
            "{path}: {answer}"
        );
    }
    stop.stop();
    served.await.unwrap().unwrap();
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the console listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the console reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the console answers");
    answer
}
