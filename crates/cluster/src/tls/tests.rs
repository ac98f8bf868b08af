//! Over real sockets, since what matters is which alert arrives before the end of the connection.

use std::collections::HashMap;

use base::{ManualClock, NodeId, Timestamp};
use parking_lot::Mutex;
use rustls::{
    ClientConfig, HandshakeKind, ServerConfig,
    client::{ResolvesClientCert, Resumption},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::{
    authority::{Authority, Certificate, MANAGER_NAME, Role},
    identity::Identity,
};

/// Long, where it must not matter.
const DEADLINE: Duration = Duration::from_secs(20);
/// Short, where it is waited for.
const SOON: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
struct Known {
    keys: Mutex<HashMap<PublicKey, Result<(), NotAdmitted>>>,
    asked: Mutex<Vec<PublicKey>>,
}

impl Registry for Known {
    fn admits(&self, key: &PublicKey) -> Result<(), NotAdmitted> {
        self.asked.lock().push(*key);
        self.keys.lock().get(key).copied().unwrap_or(Err(NotAdmitted::Unknown))
    }
}

/// A manager and a worker, each with a clock of its own.
struct Cluster {
    folder: TempDir,
    authority: Arc<Authority>,
    registry: Arc<Known>,
    server: ServerTls,
    server_clock: ManualClock,
    worker: Identity,
    client: ClientTls,
    client_clock: ManualClock,
}

type Served = Result<Peer, AcceptError>;
type Connected = Result<(), ConnectError>;

impl Cluster {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let now = Timestamp::from_millis(1_795_000_000_000);
        let (server_clock, client_clock) = (ManualClock::at(now), ManualClock::at(now));
        let authority = Arc::new(authority(&folder, "manager"));
        let manager = identity(&folder, "manager");
        let worker = identity(&folder, "worker");
        let registry = Arc::new(Known::default());
        let server =
            ServerTls::new(authority.clone(), &manager, registry.clone(), server_clock.clock()).unwrap();
        let client = ClientTls::new(authority.pin(), &worker, client_clock.clock());
        let cluster =
            Self { folder, authority, registry, server, server_clock, worker, client, client_clock };
        cluster.says(Ok(()));
        cluster
    }

    /// What the registry says of the worker from now on.
    fn says(&self, answer: Result<(), NotAdmitted>) {
        self.registry.keys.lock().insert(self.worker.public_key(), answer);
    }

    fn issue(&self) -> Certificate {
        let now = self.server_clock.clock().now();
        self.authority.issue(Role::Worker, self.worker.id(), &self.worker.public_key(), now).unwrap()
    }

    fn advance(&self, by: Duration) {
        self.server_clock.advance(by);
        self.client_clock.advance(by);
        self.server.renew().unwrap();
    }

    /// One connection; if both let it come to be, a word goes each way.
    async fn meet(&self, client: &ClientTls, credential: Credential<'_>) -> (Served, Connected) {
        let (near, far) = sockets().await;
        let server = async {
            let (mut stream, peer) = self.server.accept(near, DEADLINE).await?;
            assert_eq!(stream.read_u8().await.unwrap(), b'?');
            stream.write_all(b"!").await.unwrap();
            stream.shutdown().await.unwrap();
            Ok(peer)
        };
        let client = async {
            let mut stream = client.connect(far, credential, DEADLINE).await?;
            stream.write_all(b"?").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'!');
            Ok(())
        };
        tokio::join!(server, client)
    }

    async fn join(&self) -> (Served, Connected) {
        self.meet(&self.client, Credential::SelfSigned).await
    }

    async fn link(&self, certificate: &Certificate) -> (Served, Connected) {
        self.meet(&self.client, Credential::Issued(&certificate.chain)).await
    }
}

fn authority(folder: &TempDir, name: &str) -> Authority {
    let dir = folder.path().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    Authority::open_or_make(&dir, Timestamp::from_millis(1_795_000_000_000)).unwrap()
}

fn identity(folder: &TempDir, name: &str) -> Identity {
    let dir = folder.path().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    Identity::open_or_make(&dir, NodeId::generate()).unwrap()
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, far)
}

fn manager_name() -> ServerName<'static> {
    ServerName::try_from(MANAGER_NAME).unwrap()
}

#[tokio::test]
async fn a_registered_node_gets_in_by_both_protocols() {
    let cluster = Cluster::new();
    let key = cluster.worker.public_key();
    let (served, connected) = cluster.join().await;
    connected.unwrap();
    assert_eq!(served.unwrap(), Peer { key, protocol: Protocol::Join });
    let (served, connected) = cluster.link(&cluster.issue()).await;
    connected.unwrap();
    assert_eq!(served.unwrap(), Peer { key, protocol: Protocol::Link });
    assert_eq!(*cluster.registry.asked.lock(), [key, key]);
}

#[tokio::test]
async fn who_is_not_admitted_is_told_why_on_both_protocols() {
    let cluster = Cluster::new();
    let certificate = cluster.issue();
    for why in [NotAdmitted::Unknown, NotAdmitted::Removed, NotAdmitted::Quarantined] {
        cluster.says(Err(why));
        for (served, connected) in [cluster.join().await, cluster.link(&certificate).await] {
            assert!(matches!(connected, Err(ConnectError::Refused(told)) if told == why), "{connected:?}");
            let key = cluster.worker.public_key();
            assert!(
                matches!(served, Err(AcceptError::Refused { key: k, why: w, .. }) if (k, w) == (key, why)),
                "{served:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_removal_counts_from_the_next_handshake_on() {
    let cluster = Cluster::new();
    let certificate = cluster.issue();
    cluster.link(&certificate).await.1.unwrap();
    cluster.says(Err(NotAdmitted::Removed));
    let error = cluster.link(&certificate).await.1.unwrap_err();
    assert!(matches!(error, ConnectError::Refused(NotAdmitted::Removed)), "{error}");
    cluster.says(Ok(()));
    cluster.link(&certificate).await.1.unwrap();
}

#[tokio::test]
async fn a_session_is_never_resumed() {
    let cluster = Cluster::new();
    let certificate = cluster.issue();
    let mut config = cluster.client.config(Credential::Issued(&certificate.chain)).unwrap();
    // A client that would.
    config.resumption = Resumption::in_memory_sessions(8);
    let connector = TlsConnector::from(Arc::new(config));
    for _ in 0..2 {
        let (near, far) = sockets().await;
        let client = async {
            let mut stream = connector.connect(manager_name(), far).await.unwrap();
            stream.read_u8().await.unwrap();
            stream.get_ref().1.handshake_kind()
        };
        let (served, kind) = tokio::join!(cluster.server.accept(near, DEADLINE), client);
        served.unwrap();
        assert_eq!(kind, Some(HandshakeKind::Full));
    }
    assert_eq!(cluster.registry.asked.lock().len(), 2);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_the_link_and_joining_gives_the_next() {
    let cluster = Cluster::new();
    let certificate = cluster.issue();
    cluster.advance(Duration::from_hours(7 * 24 - 1));
    cluster.link(&certificate).await.1.unwrap();
    cluster.advance(Duration::from_hours(2));
    let (served, connected) = cluster.link(&certificate).await;
    assert!(matches!(connected, Err(ConnectError::Expired)), "{connected:?}");
    assert!(matches!(served, Err(AcceptError::Certificate(_))), "{served:?}");
    let (served, connected) = cluster.join().await;
    connected.unwrap();
    served.unwrap();
    cluster.link(&cluster.issue()).await.1.unwrap();
}

#[tokio::test]
async fn a_clock_may_be_off_by_almost_two_days_and_is_named_where_it_is_off_by_more() {
    let cluster = Cluster::new();
    let start = cluster.client_clock.clock().now();
    for hours in [47, 0] {
        cluster.client_clock.set(start - Duration::from_hours(hours));
        cluster.join().await.1.unwrap();
        cluster.client_clock.set(start + Duration::from_hours(hours));
        cluster.join().await.1.unwrap();
    }
    cluster.link(&cluster.issue()).await.1.unwrap();
    for now in [start - Duration::from_hours(49), start + Duration::from_hours(7 * 24 + 1)] {
        cluster.client_clock.set(now);
        let error = cluster.join().await.1.unwrap_err();
        assert!(matches!(error, ConnectError::Clock(_)), "{error}");
    }
}

#[tokio::test]
async fn another_manager_is_told_by_its_pin() {
    let cluster = Cluster::new();
    let other = authority(&cluster.folder, "other").pin();
    let client = ClientTls::new(other, &cluster.worker, cluster.client_clock.clock());
    let (served, connected) = cluster.meet(&client, Credential::SelfSigned).await;
    let seen = cluster.authority.pin();
    assert!(matches!(connected, Err(ConnectError::WrongPin { seen: s }) if s == seen), "{connected:?}");
    assert!(connected.unwrap_err().to_string().ends_with(&seen.to_string()));
    assert!(matches!(served, Err(AcceptError::OtherPin)), "{served:?}");
    assert_eq!(*cluster.registry.asked.lock(), [], "it has learnt nothing of us");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_on_the_link() {
    let cluster = Cluster::new();
    let other = authority(&cluster.folder, "other");
    let (id, key) = (cluster.worker.id(), cluster.worker.public_key());
    let mut certificate = other.issue(Role::Worker, id, &key, cluster.server_clock.clock().now()).unwrap();
    let (served, connected) = cluster.link(&certificate).await;
    assert!(matches!(connected, Err(ConnectError::OtherAuthority)), "{connected:?}");
    assert!(matches!(served, Err(AcceptError::Certificate(_))), "{served:?}");
    // To show the right authority beside it does not help, and neither does a certificate of one's own.
    certificate.chain[1] = cluster.authority.certificate().clone();
    assert!(cluster.link(&certificate).await.0.is_err());
    let now = cluster.client_clock.clock().now();
    certificate.chain = vec![cluster.worker.self_signed(now).unwrap()];
    assert!(cluster.link(&certificate).await.0.is_err());
    assert_eq!(*cluster.registry.asked.lock(), []);
}

/// Shows a certificate and signs with another key.
#[derive(Debug)]
struct Thief(Arc<CertifiedKey>);

impl ResolvesClientCert for Thief {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_lets_nobody_in() {
    let cluster = Cluster::new();
    let thief = identity(&cluster.folder, "thief");
    let signer = provider().key_provider.load_private_key(thief.private_key_der()).unwrap();
    let issued = cluster.issue();
    for credential in [Credential::SelfSigned, Credential::Issued(&issued.chain)] {
        let mut config = cluster.client.config(credential).unwrap();
        let stolen = CertifiedKey::new(issued.chain.clone(), signer.clone());
        config.client_auth_cert_resolver = Arc::new(Thief(Arc::new(stolen)));
        let error = cluster.raw(config).await;
        assert!(matches!(error, AcceptError::Certificate(rustls::CertificateError::BadSignature)), "{error}");
    }
    assert_eq!(*cluster.registry.asked.lock(), [], "it has learnt nothing of the registry");
}

impl Cluster {
    /// A client of some other making, which is refused.
    async fn raw(&self, config: ClientConfig) -> AcceptError {
        let (near, far) = sockets().await;
        let connector = TlsConnector::from(Arc::new(config));
        let client = async {
            let mut stream = connector.connect(manager_name(), far).await?;
            stream.read_u8().await
        };
        let (served, answer) = tokio::join!(self.server.accept(near, DEADLINE), client);
        let error = answer.unwrap_err().downcast::<rustls::Error>().unwrap();
        assert!(matches!(error, rustls::Error::AlertReceived(_)), "{error}");
        served.map(|(_, peer)| peer).unwrap_err()
    }

    /// What our client says of a server that has this certificate and key, and whose greeting is as given.
    async fn against(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: &Identity,
        greeting: &[u8],
    ) -> ConnectError {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key.private_key_der())
            .unwrap();
        config.alpn_protocols = vec![JOIN_PROTOCOL.to_vec()];
        let (near, far) = sockets().await;
        let server = async {
            let mut stream = TlsAcceptor::from(Arc::new(config)).accept(near).await.ok()?;
            stream.write_all(greeting).await.ok()?;
            stream.flush().await.ok()?;
            Some(stream)
        };
        let client = self.client.connect(far, Credential::SelfSigned, SOON);
        // What the server returns is open until the client is done.
        let (connected, _open) = tokio::join!(client, server);
        connected.map(drop).unwrap_err()
    }
}

#[tokio::test]
async fn a_worker_cannot_pass_as_the_manager() {
    let cluster = Cluster::new();
    let mut chain = cluster.issue().chain;
    let error = cluster.against(chain.clone(), &cluster.worker, &[GREETING]).await;
    assert!(matches!(error, ConnectError::NotManager(_)), "{error}");
    // Nor with the authority's certificate behind one of its own, nor without it.
    chain[0] = cluster.worker.self_signed(cluster.client_clock.clock().now()).unwrap();
    let error = cluster.against(chain.clone(), &cluster.worker, &[GREETING]).await;
    assert!(matches!(error, ConnectError::NotManager(_)), "{error}");
    chain.truncate(1);
    let error = cluster.against(chain, &cluster.worker, &[GREETING]).await;
    assert!(matches!(error, ConnectError::WrongPin { .. }), "{error}");
}

#[tokio::test]
async fn a_manager_that_does_not_greet_has_not_let_us_in() {
    let cluster = Cluster::new();
    let manager = identity(&cluster.folder, "manager");
    let now = cluster.server_clock.clock().now();
    let chain =
        cluster.authority.issue(Role::Manager, manager.id(), &manager.public_key(), now).unwrap().chain;
    let error = cluster.against(chain.clone(), &manager, &[]).await;
    assert!(matches!(error, ConnectError::Deadline(SOON)), "{error}");
    let error = cluster.against(chain, &manager, b"x").await;
    assert!(matches!(error, ConnectError::NoProtocol), "{error}");
}

#[tokio::test]
async fn a_client_that_asks_for_no_protocol_of_ours_is_told() {
    let cluster = Cluster::new();
    for names in [vec![], vec![b"h2".to_vec(), b"posthouse-link/9".to_vec()]] {
        let mut config = cluster.client.config(Credential::SelfSigned).unwrap();
        config.alpn_protocols = names;
        let error = cluster.raw(config).await;
        assert!(matches!(error, AcceptError::NoProtocol), "{error}");
    }
}

#[tokio::test]
async fn who_says_nothing_or_half_of_it_is_let_go_at_the_deadline() {
    let cluster = Cluster::new();
    // The begin of a long record is half of something.
    for words in [&b""[..], &[22, 3, 1, 0x20, 0, 1]] {
        let (near, mut far) = sockets().await;
        far.write_all(words).await.unwrap();
        let error = cluster.server.accept(near, SOON).await.map(drop).unwrap_err();
        assert!(matches!(error, AcceptError::Deadline(SOON)), "{error}");
    }
    let (_near, far) = sockets().await;
    let error = cluster.client.connect(far, Credential::SelfSigned, SOON).await.map(drop).unwrap_err();
    assert!(matches!(error, ConnectError::Deadline(SOON)), "{error}");
}

#[tokio::test]
async fn what_is_not_tls_is_told_from_what_is_broken() {
    let cluster = Cluster::new();
    let (near, mut far) = sockets().await;
    far.write_all(b"EHLO mx1.example.com\r\n").await.unwrap();
    let error = cluster.server.accept(near, DEADLINE).await.map(drop).unwrap_err();
    assert!(matches!(error, AcceptError::Tls(rustls::Error::InvalidMessage(_))), "{error}");
    let (near, far) = sockets().await;
    drop(far);
    let error = cluster.server.accept(near, DEADLINE).await.map(drop).unwrap_err();
    assert!(matches!(error, AcceptError::Network(_)), "{error}");

    let connect = |far| cluster.client.connect(far, Credential::SelfSigned, DEADLINE);
    let (mut near, far) = sockets().await;
    near.write_all(b"220 mx1.example.com ESMTP\r\n").await.unwrap();
    let error = connect(far).await.map(drop).unwrap_err();
    assert!(matches!(error, ConnectError::NotTls), "{error}");
    let (near, far) = sockets().await;
    drop(near);
    let error = connect(far).await.map(drop).unwrap_err();
    assert!(matches!(error, ConnectError::Network(_)), "{error}");
}

#[tokio::test]
async fn who_is_not_the_manager_cannot_say_that_a_node_is_removed() {
    let cluster = Cluster::new();
    // certificate_revoked, access_denied, certificate_expired: in the clear, as anyone on the way can send them.
    for alert in [44, 49, 45] {
        let (mut near, far) = sockets().await;
        near.write_all(&[21, 3, 3, 0, 2, 2, alert]).await.unwrap();
        let error =
            cluster.client.connect(far, Credential::SelfSigned, DEADLINE).await.map(drop).unwrap_err();
        assert!(matches!(error, ConnectError::Tls(rustls::Error::AlertReceived(_))), "{error}");
    }
}
