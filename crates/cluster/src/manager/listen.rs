//! The port: handshakes, bounded in number and time, and what is spoken after them.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use base::Shutdown;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::Connected};

use super::{
    Shared,
    bounds::{Bounded, SMALL},
    registry::{Connection, Registry, Room},
    seldom::Seldom,
    serve::Service,
};
use crate::{
    tls::{NotAdmitted, Peer, Protocol},
    wire::{CONNECTION_WINDOW, FRAME, READ, STREAM_WINDOW, joining_server::JoiningServer},
};

/// How long a node may take for its handshake, and one that asks for a certificate for that.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once. For whoever comes while there are so many, the oldest of the network that has most is ended: a node needs a moment for
/// its own, a stranger who says nothing takes all the time there is.
const HANDSHAKES: usize = 64;
/// Of these so many from one network; for one more its own oldest is ended.
const OF_ONE_NETWORK: usize = 16;
/// How long to wait when no connection can be taken, because descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);
/// A connection on which nothing is heard is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Streams at once on a connection; more wait with whoever wants them.
const STREAMS: u32 = 64;
/// Who wants a certificate has one question, which takes much less than this.
const QUESTION: u32 = 64 << 10;

/// A connection whose node is proven.
pub(super) struct Proven {
    stream: TlsStream<BufReader<TcpStream>>,
    peer: Caller,
    /// Once this is over, so is the connection.
    ends: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// What it counts as for as long as it is here.
    counts: Counts,
}

/// What a connection counts as.
enum Counts {
    /// Whoever asks for a certificate: as one in a handshake still.
    Join { _begun: Handshake },
    /// Whoever works: as one of its node's.
    Link(Connection),
}

impl Proven {
    fn new(
        stream: TlsStream<BufReader<TcpStream>>,
        peer: Caller,
        registry: &Arc<Registry>,
        begun: Handshake,
    ) -> Result<Self, NotAdmitted> {
        Ok(match peer.peer.protocol {
            Protocol::Join => {
                let ended = begun.ended.clone();
                let ends = Box::pin(async move {
                    let _ = tokio::time::timeout(HANDSHAKE, ended.cancelled()).await;
                });
                Self { stream, peer, ends, counts: Counts::Join { _begun: begun } }
            }
            Protocol::Link => {
                let connection = registry.connected(&peer.peer.key)?;
                let ends = Box::pin(connection.ends.clone().cancelled_owned());
                Self { stream, peer, ends, counts: Counts::Link(connection) }
            }
        })
    }
}

/// Who speaks on a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) peer: Peer,
    pub(super) address: SocketAddr,
    /// When the connection was taken. Its process has lived since: it has answered in the handshake.
    pub(super) since: Instant,
}

#[cfg(test)]
impl Caller {
    /// Whoever has this key, on a connection that is made now.
    pub(super) fn of(key: crate::identity::PublicKey) -> Self {
        let address = (Ipv4Addr::LOCALHOST, 1).into();
        Self { peer: Peer { key, protocol: Protocol::Link }, address, since: Instant::now() }
    }
}

/// Lets nodes in until the node stops.
pub(super) fn start(socket: TcpListener, shared: Arc<Shared>, shutdown: Shutdown) {
    let (joins, to_join) = mpsc::channel::<io::Result<Proven>>(HANDSHAKES);
    let (links, to_link) = mpsc::channel::<io::Result<Proven>>(HANDSHAKES);
    let service = Service(shared.clone());
    let link = Bounded::new(service.clone());
    let server = |window: u32, streams| {
        Server::builder()
            .initial_stream_window_size(window.min(STREAM_WINDOW))
            .initial_connection_window_size(window)
            .max_frame_size(window.min(FRAME))
            .max_concurrent_streams(streams)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .tcp_nodelay(true)
    };
    let stop = |shutdown: &Shutdown| {
        let shutdown = shutdown.clone();
        async move { shutdown.stopping().await }
    };
    let (stop_join, stop_link) = (stop(&shutdown), stop(&shutdown));
    let join = server(QUESTION, 1)
        .add_service(JoiningServer::new(service).max_decoding_message_size(SMALL))
        .serve_with_incoming_shutdown(ReceiverStream::new(to_join), stop_join);
    let link = server(CONNECTION_WINDOW, STREAMS)
        .add_service(link)
        .serve_with_incoming_shutdown(ReceiverStream::new(to_link), stop_link);
    tokio::spawn(said(join));
    tokio::spawn(said(link));
    tokio::spawn(accept(socket, shared, joins, links, shutdown));
}

async fn said(serve: impl Future<Output = Result<(), tonic::transport::Error>>) {
    if let Err(error) = serve.await {
        tracing::error!(%error, "the link's port cannot go on");
    }
}

async fn accept(
    socket: TcpListener,
    shared: Arc<Shared>,
    joins: mpsc::Sender<io::Result<Proven>>,
    links: mpsc::Sender<io::Result<Proven>>,
    shutdown: Shutdown,
) {
    let handshakes = Arc::new(Handshakes::default());
    let (refusals, crowds) = (Arc::new(Seldom::default()), Arc::new(Seldom::default()));
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = shutdown.stopping() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(unsaid) = refusals.may_say(Ipv4Addr::UNSPECIFIED.into(), None, Instant::now()) {
                    tracing::warn!(%error, unsaid, "no connection can be taken at the link's port");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let since = Instant::now();
        let begun = handshakes.begin(address.ip());
        // Without it small words would wait for company; a socket that refuses is broken anyhow.
        let _ = stream.set_nodelay(true);
        let (shared, joins, links) = (shared.clone(), joins.clone(), links.clone());
        let (refusals, crowds) = (refusals.clone(), crowds.clone());
        tokio::spawn(async move {
            let accepting = shared.tls.accept(BufReader::with_capacity(READ, stream), HANDSHAKE);
            let proven = match begun.ended.run_until_cancelled(accepting).await {
                Some(Ok((stream, peer))) => {
                    Proven::new(stream, Caller { peer, address, since }, &shared.registry, begun)
                        .map_err(|error| (Some(peer.key), error.to_string()))
                }
                Some(Err(error)) => Err((error.key(), error.to_string())),
                None => Err((None, "it had not said who it is when too many others came".into())),
            };
            match proven {
                Ok(proven) => {
                    let to = match &proven.counts {
                        Counts::Join { .. } => joins,
                        Counts::Link(connection) => {
                            if connection.room == Room::No
                                && let key = proven.peer.peer.key
                                && let Some(unsaid) = crowds.may_say(address.ip(), Some(key), Instant::now())
                            {
                                let key = key.fingerprint();
                                tracing::warn!(%address, key, unsaid, "a node has too many connections; its oldest is ended");
                            }
                            links
                        }
                    };
                    // A server that is gone takes nobody.
                    let _ = to.send(Ok(proven)).await;
                }
                Err((key, error)) => {
                    shared.counters.refused.fetch_add(1, Ordering::Relaxed);
                    if let Some(unsaid) = refusals.may_say(address.ip(), key, Instant::now()) {
                        tracing::info!(%address, error, unsaid, "not let in at the link's port");
                    }
                }
            }
        });
    }
}

/// Who has begun a handshake and is not through with it.
#[derive(Debug, Default)]
struct Handshakes(Mutex<Begun>);

#[derive(Debug, Default)]
struct Begun {
    next: u64,
    /// In the order in which they came: of which network each is, and how it is ended.
    all: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

/// A handshake of somebody.
struct Handshake {
    all: Arc<Handshakes>,
    number: u64,
    /// Others need its place.
    ended: CancellationToken,
}

impl Handshakes {
    fn begin(self: &Arc<Self>, address: IpAddr) -> Handshake {
        let network = network(address);
        let mut begun = self.0.lock();
        if begun.count(network) >= OF_ONE_NETWORK {
            begun.end_oldest_of(network);
        } else if begun.all.len() >= HANDSHAKES {
            let networks = begun.all.values().map(|(network, _)| *network);
            if let Some(most) = networks.max_by_key(|network| begun.count(*network)) {
                begun.end_oldest_of(most);
            }
        }
        let (number, ended) = (begun.next, CancellationToken::new());
        begun.next += 1;
        begun.all.insert(number, (network, ended.clone()));
        Handshake { all: self.clone(), number, ended }
    }
}

impl Begun {
    fn count(&self, network: IpAddr) -> usize {
        self.all.values().filter(|(other, _)| *other == network).count()
    }

    fn end_oldest_of(&mut self, network: IpAddr) {
        let oldest = self.all.iter().find(|(_, (other, _))| *other == network).map(|(number, _)| *number);
        if let Some((_, ended)) = oldest.and_then(|oldest| self.all.remove(&oldest)) {
            ended.cancel();
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.0.lock().all.remove(&self.number);
    }
}

/// What an address belongs to as far as one stranger is concerned: of IPv6 that is a subnet, a /64 (RFC 4291,
/// section 2.5.4).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Connected for Proven {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.peer
    }
}

impl AsyncRead for Proven {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ends.as_mut().poll(context).is_ready() {
            // Whoever asks again is answered alike.
            this.ends = Box::pin(std::future::poll_fn(|_| Poll::Ready(())));
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Proven {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_whoever_comes_last_the_oldest_of_those_who_are_most_makes_place() {
        let all = Arc::new(Handshakes::default());
        let from = |n: u32| all.begin(Ipv4Addr::from_bits(n).into());
        let mut begun: Vec<Handshake> = (0..63).map(from).collect();
        begun.push(from(62));
        let is_over = |one: &Handshake| one.ended.is_cancelled();
        assert!(!begun.iter().any(is_over));
        let last = from(64);
        assert!(is_over(&begun[62]) && begun.iter().filter(|one| is_over(one)).count() == 1);
        drop(begun.remove(40));
        let next = from(65);
        assert!(begun.iter().filter(|one| is_over(one)).count() == 1, "one had gone by itself");
        drop((begun, last, next));
        assert!(all.0.lock().all.is_empty());
    }

    #[test]
    fn one_network_has_a_part_of_them_and_its_latest_may_go_on() {
        let all = Arc::new(Handshakes::default());
        let begin = |text: &str| all.begin(text.parse().expect("it is an address"));
        let going_on = |begun: &[Handshake]| begun.iter().filter(|one| !one.ended.is_cancelled()).count();
        let begun: Vec<_> = (0..20).map(|n| begin(&format!("2001:db8:0:7:{n}::{n}"))).collect();
        assert_eq!((going_on(&begun), going_on(&begun[4..])), (OF_ONE_NETWORK, OF_ONE_NETWORK));
        let _another = begin("2001:db8:0:8::1");
        let mapped: Vec<_> = (0..20).map(|_| begin("::ffff:192.0.2.1")).collect();
        let same = begin("192.0.2.1");
        assert_eq!((going_on(&mapped), going_on(&begun)), (OF_ONE_NETWORK - 1, OF_ONE_NETWORK));
        assert!(!same.ended.is_cancelled());
    }
}
