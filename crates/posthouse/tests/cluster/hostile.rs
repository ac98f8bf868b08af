//! A node whose key is registered and that means harm: what it can make the manager keep, and that the others work on meanwhile.

use std::{net::SocketAddr, time::Duration};

use base::{Clock, NodeId};
use bytes::{BufMut as _, Bytes, BytesMut};
use cluster::{
    authority::{Authority, Certificate, Role},
    identity::Identity,
    tls::{ClientTls, Credential},
    wire,
};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use prost::Message;
use tempfile::TempDir;
use testkit::{Cluster, Peer, Session, cluster::Stranger, node::word, text, until};
use tokio::{
    net::TcpStream,
    runtime::Runtime,
    task::{JoinHandle, JoinSet},
};

use crate::cluster;

const MIB: usize = 1 << 20;
/// What one key may cost the manager, as docs/CLUSTER.md says.
const BOUND: usize = 536 * MIB;
/// Connections of one node that the manager bears.
const CONNECTIONS: usize = 8;
/// Streams of each kind that are opened on each of them, and where all are of one kind.
const EACH: usize = 12;
const ALL: usize = 60;
/// What does not move for so long does not move.
const STILL: Duration = Duration::from_secs(3);
/// Long, where it must not matter.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node of our own.
struct Hostile {
    runtime: Runtime,
    tls: ClientTls,
    certificate: Certificate,
    stranger: Stranger,
    manager: SocketAddr,
    _folder: TempDir,
}

type Stream = (SendStream<Bytes>, ResponseFuture);
/// A connection, and what was answered on it.
type Asked = (SendRequest<Bytes>, Vec<http::Response<RecvStream>>);

/// A link over which works are given.
struct Attempts {
    given: RecvStream,
    done: SendStream<Bytes>,
    link: (SendRequest<Bytes>, (SendStream<Bytes>, RecvStream)),
    beats: (JoinHandle<()>, ResponseFuture),
}

impl Hostile {
    fn registered(cluster: &Cluster) -> Self {
        let folder = TempDir::new().expect("a folder");
        let identity = Identity::open_or_make(folder.path(), NodeId::generate()).expect("a new one");
        let (key, now) = (identity.public_key(), Clock::system().now());
        let _added = cluster.manager.command(&["nodes", "add-key", &key.to_string(), "--name", "mx9"]).done();
        // It would have asked for this over the port.
        let authority = Authority::open_or_make(cluster.manager.setup().data_dir().as_path(), now);
        let authority = authority.expect("the manager has one");
        let certificate = authority.issue(Role::Worker, identity.id(), &key, now).expect("it can be signed");
        let tls = ClientTls::new(authority.pin(), &identity, Clock::system());
        let runtime = Runtime::new().expect("threads");
        Self {
            runtime,
            tls,
            certificate,
            stranger: cluster.stranger(9),
            manager: cluster.link(),
            _folder: folder,
        }
    }

    /// A connection; of each stream on it so much is taken as nobody reads.
    async fn connect(&self) -> SendRequest<Bytes> {
        let stream = self.stranger.dial(self.manager).expect("it listens");
        stream.set_nonblocking(true).expect("it is open");
        let stream = TcpStream::from_std(stream).expect("there is a runtime");
        let stream = self.tls.connect(stream, Credential::Issued(&self.certificate.chain), PATIENCE).await;
        let (client, connection) =
            h2::client::handshake(stream.expect("it is let in")).await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        client.ready().await.expect("there is room")
    }

    /// A link, as any node makes it: its control stream, welcomed.
    async fn link(&self, client: &mut SendRequest<Bytes>) -> (SendStream<Bytes>, RecvStream) {
        let hello = wire::Hello {
            oldest: wire::OLDEST_PROTOCOL,
            newest: wire::PROTOCOL,
            boot: vec![0; 16].into(),
            node: vec![7; 16].into(),
            credit_works: 1000,
            credit_bytes: 1 << 30,
            ..wire::Hello::default()
        };
        let hello = wire::WorkerWord { word: Some(wire::worker_word::Word::Hello(hello)) };
        let (mut control, answer) = open(client, "Control");
        say(&mut control, framed(&hello)).await;
        let mut words = answer.await.expect("it is answered").into_body();
        words.data().await.expect("a welcome").expect("it comes");
        (control, words)
    }

    /// A link that beats and takes what it is given.
    fn attempts(&self) -> Attempts {
        self.runtime.block_on(async {
            let mut client = self.connect().await;
            let link = self.link(&mut client).await;
            let (mut beats, answered) = open(&mut client, "Heartbeat");
            // A stream that nothing is said on yet is answered all the same.
            let beating = tokio::spawn(async move {
                for number in 1.. {
                    let beat = wire::Beat { number, progress: number, ..wire::Beat::default() };
                    say(&mut beats, framed(&beat)).await;
                    tokio::time::sleep(STILL / 10).await;
                }
            });
            let (done, given) = open(&mut client, "Work");
            let given = given.await.expect("it is linked").into_body();
            Attempts { given, done, link: (client, link), beats: (beating, answered) }
        })
    }
}

/// The first that it is given.
async fn grant(given: &mut RecvStream) -> wire::Grant {
    loop {
        let words = given.data().await.expect("it is given something").expect("it comes");
        let given = wire::Given::decode(&words[5..]).expect("it is not long");
        if let Some(grant) = given.grants.into_iter().next() {
            return grant;
        }
    }
}

fn open(client: &mut SendRequest<Bytes>, kind: &str) -> Stream {
    let request = http::Request::post(format!("http://manager/posthouse.link.v1.Link/{kind}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        // Sixteen zeros.
        .header("posthouse-boot-bin", "AAAAAAAAAAAAAAAAAAAAAA")
        .body(())
        .expect("it is a request");
    let (answer, stream) = client.send_request(request, false).expect("the connection is there");
    (stream, answer)
}

/// A message as it goes over a stream.
fn framed(message: &impl Message) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.encoded_len()).expect("it is short"));
    message.encode(&mut framed).expect("there is room");
    framed.freeze()
}

/// The head of a message of this length, and nothing of it.
fn head(len: usize) -> Bytes {
    let len = u32::try_from(len).expect("it is short").to_be_bytes();
    Bytes::copy_from_slice(&[&[0], &len[..]].concat())
}

/// Says this as fast as it is taken, and no more once nothing is taken any more.
async fn say(stream: &mut SendStream<Bytes>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let capacity = std::future::poll_fn(|context| stream.poll_capacity(context));
        let Ok(Some(Ok(capacity))) = tokio::time::timeout(STILL, capacity).await else { return };
        if stream.send_data(bytes.split_to(capacity.min(bytes.len())), false).is_err() {
            return;
        }
    }
}

/// Asks for the body of what it is given over as many streams as there may be, and reads none of them.
async fn ask_again_and_again(hostile: &Hostile, mut given: RecvStream) -> Vec<Asked> {
    let grant = grant(&mut given).await;
    let item = Some(wire::Item { errand: grant.errand, item: 0 });
    let wanted = framed(&wire::BodyWanted { boot: vec![0; 16].into(), item });
    let mut asked = Vec::new();
    // One connection has the link.
    for _ in 1..CONNECTIONS {
        let mut client = hostile.connect().await;
        let mut answers = Vec::new();
        for _ in 0..ALL {
            let (mut stream, answer) = open(&mut client, "Body");
            // One that is refused is over before all is said.
            let _ = stream.send_data(wanted.clone(), true);
            answers.extend(answer.await);
        }
        asked.push((client, answers));
    }
    // What nobody takes is on its way as far as it gets.
    tokio::time::sleep(STILL).await;
    asked
}

/// Why a stream was refused; nothing if it was not.
async fn refusal(answer: ResponseFuture) -> Option<String> {
    let answer = tokio::time::timeout(STILL, answer).await.ok()?.ok()?;
    Some(answer.headers().get("grpc-message")?.to_str().expect("it is text").to_owned())
}

/// Whether a body was begun to be sent: who is refused is answered to the end at once.
fn is_body(answer: &http::Response<RecvStream>) -> bool {
    !answer.headers().contains_key("grpc-status")
}

/// A worker, and a manager that attempts nothing itself.
fn cluster_of_workers(peer: &Peer) -> Cluster {
    Cluster::with(env!("CARGO_BIN_EXE_posthouse"), 1, "cluster.attempts = 'workers'", |setup| {
        setup.to(peer).flag("--retry", "100ms,300ms")
    })
}

/// Mail goes through the cluster, from a worker to the peer.
fn works(cluster: &Cluster, recipient: &str) {
    let mut session = Session::open(cluster.workers[0].smtp());
    session.envelope("a@example.org", &[recipient]);
    assert_eq!(session.data(&text::message("meanwhile", 1000)).code, 250);
    let records = cluster.manager.records_of(recipient, 2);
    assert_eq!(word(&records[1], "what"), "delivered");
}

/// A manager that has grown by less than one key may cost it.
fn has_grown_little(cluster: &Cluster, before: usize) {
    let grown = cluster.manager.resident().saturating_sub(before);
    println!("the manager has grown by {} MiB", grown / MIB);
    assert!(grown < BOUND, "{} MiB", grown / MIB);
}

#[test]
fn a_node_that_begins_long_messages_and_does_not_end_them_costs_little() {
    let peer = Peer::willing();
    let cluster = cluster(1, &peer);
    let hostile = Hostile::registered(&cluster);
    let before = cluster.manager.resident();
    // The longest that are taken on each kind of stream, of which so many are opened on each connection.
    let kinds = [("Control", 8), ("Work", 4), ("Intake", 5), ("Records", 2), ("Bring", 4)];
    let junk = Bytes::from(vec![0; 8 * MIB]);
    let (mut link, _clients, refused, _streams) = hostile.runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(hostile.connect().await);
        }
        let link = hostile.link(&mut clients[0]).await;
        let (mut saying, mut asking) = (JoinSet::new(), JoinSet::new());
        for client in &mut clients {
            for (kind, len) in kinds {
                for _ in 0..EACH {
                    let (mut stream, answer) = open(client, kind);
                    let junk = junk.slice(..len * MIB - 1);
                    saying.spawn(async move {
                        say(&mut stream, head(len * MIB)).await;
                        say(&mut stream, junk).await;
                        stream
                    });
                    asking.spawn(refusal(answer));
                }
            }
        }
        let refused: Vec<String> = asking.join_all().await.into_iter().flatten().collect();
        (link, clients, refused, saying.join_all().await)
    });
    works(&cluster, "b@example.com");
    has_grown_little(&cluster, before);
    for most in [4, 16] {
        let why = format!("this node has {most} streams of this kind").replace(' ', "%20");
        assert!(refused.iter().any(|said| said.contains(&why)), "{refused:?}");
    }
    cluster.manager.said("a node has too many streams");
    // What is longer than any message is the end of its link alone.
    hostile.runtime.block_on(say(&mut link.0, head(8 * MIB + 1)));
    let said = cluster.manager.said("a node says too much at once; its link is ended");
    assert!(said.contains("mx9") && said.contains("too large"), "{said}");
    let ended = cluster.manager.said("the link to a node has ended");
    assert!(ended.contains("mx9"), "{ended}");
    works(&cluster, "c@example.com");
}

#[test]
fn a_node_that_is_given_bodies_and_does_not_read_them_costs_little() {
    let peer = Peer::willing();
    let cluster = cluster_of_workers(&peer);
    let hostile = Hostile::registered(&cluster);
    let Attempts { given, link: _link, beats, .. } = hostile.attempts();
    cluster.shows("mx9", "alive");
    let _ = cluster.manager.command(&["nodes", "cordon", "mx2"]).done();
    let mut session = Session::open(cluster.workers[0].smtp());
    session.envelope("a@example.org", &["b@example.com"]);
    assert_eq!(session.data(&text::message("large", 20 * MIB)).code, 250);
    let before = cluster.manager.resident();
    let asked = hostile.runtime.block_on(ask_again_and_again(&hostile, given));
    assert_eq!(asked.iter().flat_map(|(_, answers)| answers).filter(|answer| is_body(answer)).count(), 64);
    has_grown_little(&cluster, before);
    let _ = cluster.manager.command(&["nodes", "resume", "mx2"]).done();
    works(&cluster, "c@example.com");
    let _ = cluster.manager.command(&["nodes", "remove", "mx9"]).done();
    drop(beats);
    until("another has delivered it", || (peer.wait_for(2).len() == 2).then_some(()));
}

/// Words of an attempt, encoded, with a million results.
fn tried() -> Bytes {
    // The version of the encoding; no time, no host, no address; 2^20 results.
    let head = [1, 0, 0, 0, 0x80, 0x80, 0x40];
    // Each is the first recipient's, for whom the message is too big.
    let result = [0, 2, 0];
    [&head[..], &result.repeat(1 << 20)].concat().into()
}

#[test]
fn what_a_node_says_at_great_length_became_of_a_work_costs_little_and_is_not_believed() {
    let peer = Peer::willing();
    let cluster = cluster_of_workers(&peer);
    let hostile = Hostile::registered(&cluster);
    let mut attempts = hostile.attempts();
    cluster.shows("mx9", "alive");
    let _ = cluster.manager.command(&["nodes", "cordon", "mx2"]).done();
    let mut session = Session::open(cluster.workers[0].smtp());
    session.envelope("a@example.org", &["b@example.com"]);
    assert_eq!(session.data(&text::message("short", 1000)).code, 250);
    let before = cluster.manager.resident();
    hostile.runtime.block_on(async {
        let errand = grant(&mut attempts.given).await.errand;
        let told = wire::Told { item: Some(wire::Item { errand, item: 0 }), words: tried() };
        let done = wire::Done { commits: Vec::new(), told: vec![told] };
        say(&mut attempts.done, framed(&done)).await;
    });
    let said = cluster.manager.said("what a node says became of a work cannot be read");
    assert!(said.contains("mx9"), "{said}");
    let grown = cluster.manager.resident().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB", grown / MIB);
    assert_eq!(cluster.manager.records_of("b@example.com", 1).len(), 1, "nothing but that it was accepted");
    let _ = cluster.manager.command(&["nodes", "remove", "mx9"]).done();
    let _ = cluster.manager.command(&["nodes", "resume", "mx2"]).done();
    works(&cluster, "c@example.com");
    until("another has delivered it", || (peer.wait_for(2).len() == 2).then_some(()));
}

/// An offer of a message from the far future, to a recipient that it does not name.
fn offer(message: u8, at_micros: i64, account: &str) -> wire::Offer {
    let work = wire::NewWork {
        lane: "example.com".into(),
        account: account.into(),
        not_before_micros: i64::MIN,
        expires_micros: i64::MAX,
        recipients: 1,
        detail: Bytes::from_static(&[1, 0]),
        ..wire::NewWork::default()
    };
    wire::Offer {
        message: vec![message; 16].into(),
        kind: 1,
        at_micros,
        works: vec![work],
        until_micros: i64::MAX,
        ..wire::Offer::default()
    }
}

#[test]
fn words_that_make_no_sense_are_shown_as_they_can_be_and_harm_nobody() {
    let peer = Peer::willing();
    let cluster = cluster(1, &peer);
    let hostile = Hostile::registered(&cluster);
    let (_link, answers) = hostile.runtime.block_on(async {
        let mut client = hostile.connect().await;
        let link = hostile.link(&mut client).await;
        let (mut records, noted) = open(&mut client, "Records");
        let refusal = wire::Refusal {
            at_micros: i64::MAX,
            recipient: "late@example.com".into(),
            reply: "550 5.7.1 no".into(),
            ..wire::Refusal::default()
        };
        say(&mut records, framed(&wire::Refusals { refusals: vec![refusal] })).await;
        let (mut offers, answered) = open(&mut client, "Intake");
        let offered =
            vec![offer(255, i64::MAX, "far"), offer(254, 0, "far"), offer(1, 0, &"n".repeat(100_000))];
        say(&mut offers, framed(&wire::Offers { offers: offered, withdrawn: Vec::new() })).await;
        let mut answered = answered.await.expect("it is linked").into_body();
        let words = answered.data().await.expect("it is answered").expect("it comes");
        let answers = wire::Answers::decode(&words[5..]).expect("it is not long").answers;
        ((client, link, records, noted, offers, answered), answers)
    });
    let verdict = |message: u8| {
        let of = |answer: &&wire::Answer| answer.message == vec![message; 16];
        answers.iter().find(of).expect("each is answered").verdict()
    };
    assert_eq!([verdict(255), verdict(254)], [wire::answer::Verdict::Stored; 2]);
    assert_eq!(verdict(1), wire::answer::Verdict::TooLarge, "a name is limited");
    let set_aside = || {
        let works = cluster.manager.json(&["mail", "queue", "--all"]);
        (works.to_string().matches("\"reason\":\"damaged\"").count() == 2).then_some(works)
    };
    let queue = until("they cannot be read, and are set aside", set_aside).to_string();
    let ids = ["ff", "fe"].map(|byte| byte.repeat(16));
    assert!(ids.iter().all(|id| queue.contains(id)), "{queue}");
    assert!(queue.contains("9999-12-31T23:59:59.999999Z"), "{queue}");
    let refused = cluster.manager.records_of("late@example.com", 1);
    assert!(word(&refused[0], "time") < "9999", "it is of the past: {refused:?}");
    for id in &ids {
        // What cannot be read cannot be shown, and that is said.
        for show in ["why", "show"] {
            let said = cluster.manager.command(&["mail", show, id]);
            assert!(said.code == Some(1) && said.stderr.contains("cannot be read"), "{said:?}");
        }
    }
    works(&cluster, "b@example.com");
    for id in &ids {
        let _cancelled = cluster.manager.command(&["mail", "cancel", "--id", id, "--yes"]).done();
    }
}
