//! The port: handshakes, bounded in number and time, and what is spoken after them.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
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
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
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
/// Handshakes at once; who comes while there are so many waits in the system's queue.
const HANDSHAKES: usize = 64;
/// Of these so many from one address, so that one stranger does not keep all others out.
const OF_ONE_ADDRESS: usize = 16;
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
    Join { _turn: (OwnedSemaphorePermit, Handshake) },
    /// Whoever works: as one of its node's.
    Link(Connection),
}

impl Proven {
    fn new(
        stream: TlsStream<BufReader<TcpStream>>,
        peer: Caller,
        registry: &Arc<Registry>,
        turn: (OwnedSemaphorePermit, Handshake),
    ) -> Result<Self, NotAdmitted> {
        Ok(match peer.peer.protocol {
            Protocol::Join => {
                let ends = Box::pin(tokio::time::sleep(HANDSHAKE));
                Self { stream, peer, ends, counts: Counts::Join { _turn: turn } }
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
        let address = (std::net::Ipv4Addr::LOCALHOST, 1).into();
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
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let by_address = Arc::new(Mutex::new(HashMap::<IpAddr, usize>::new()));
    let (refusals, crowds) = (Arc::new(Seldom::default()), Arc::new(Seldom::default()));
    loop {
        let Ok(turn) = handshakes.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = shutdown.stopping() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken at the link's port");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let since = Instant::now();
        // Who has many begun that came to nothing yet is let go, and comes again if he means it.
        let Some(begun) = Handshake::begin(&by_address, address.ip()) else { continue };
        // Without it small words would wait for company; a socket that refuses is broken anyhow.
        let _ = stream.set_nodelay(true);
        let (shared, joins, links) = (shared.clone(), joins.clone(), links.clone());
        let (refusals, crowds) = (refusals.clone(), crowds.clone());
        tokio::spawn(async move {
            let proven = match shared.tls.accept(BufReader::with_capacity(READ, stream), HANDSHAKE).await {
                Ok((stream, peer)) => {
                    Proven::new(stream, Caller { peer, address, since }, &shared.registry, (turn, begun))
                        .map_err(|error| (Some(peer.key), error.to_string()))
                }
                Err(error) => Err((error.key(), error.to_string())),
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

/// A handshake of somebody at an address.
struct Handshake {
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Handshake {
    fn begin(by_address: &Arc<Mutex<HashMap<IpAddr, usize>>>, address: IpAddr) -> Option<Self> {
        let mut counts = by_address.lock();
        let count = counts.entry(address).or_default();
        if *count >= OF_ONE_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Self { by_address: by_address.clone(), address })
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut counts = self.by_address.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
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
