//! From a next hop to a session that is ready for messages: its hosts and their addresses in turn, greeting, EHLO and
//! TLS.

use std::{io, net::SocketAddr, time::Duration};

use smtp::client::{Event, Tls};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    attempt::Tools,
    burst::{Hop, Host, Trouble},
    connection::{Cause, Connection, Failure, Peer, plain},
    exhausted::is_exhausted,
    tls::TlsLevel,
};

/// Most addresses of one host that are tried; those that nothing leads to from here cost no time and do not count.
const ADDRESSES: usize = 2;
/// How long an address that could not be reached is tried last.
pub(crate) const DEAD_FOR: Duration = Duration::from_secs(2 * 60);
/// How long a host that kept silent when commands came together is spoken to one command at a time.
pub(crate) const ONE_BY_ONE_FOR: Duration = Duration::from_secs(60 * 60);
/// No other address is tried after this time.
const OPENING_ENDS: Duration = Duration::from_secs(5 * 60);

/// Opens a session with the first host that has one for us: where it cannot be reached, or wants none, the next one is asked
/// (RFC 5321, section 5.1). Those that could not be reached of late are asked last.
pub(crate) async fn open(hop: &Hop, tools: Tools<'_>) -> Result<Connection, Failure> {
    let until = Instant::now() + OPENING_ENDS;
    let targets = hop
        .hosts
        .iter()
        .flat_map(|host| host.addresses.iter().map(move |address| Target { hop, host, address: *address }));
    let mut targets: Vec<Target<'_>> = targets.collect();
    targets.sort_by_key(|target| tools.dead.has_failed(target.address));
    let mut failure = None;
    let mut tried: Vec<&Host> = Vec::new();
    for target in targets {
        if tried.iter().filter(|host| **host == target.host).count() == ADDRESSES || Instant::now() >= until {
            continue;
        }
        match target.open(tools).await {
            Ok(mut connection) => {
                if tools.one_by_one.has_failed(target.address) {
                    connection.client.forgo_pipelining();
                }
                return Ok(connection);
            }
            Err(Unopened::Exhausted(why)) => return Err(why),
            Err(Unopened::NoWay(why)) => failure = failure.or(Some(why)),
            Err(Unopened::Failed(why) | Unopened::Tls(why)) => {
                failure = Some(why);
                tried.push(target.host);
            }
        }
    }
    Err(failure.unwrap_or_else(|| {
        let text = format!("{} has no address", hop.name);
        Failure { cause: Cause::Broke(Trouble::Connect, text), peer: Peer::default() }
    }))
}

/// Why there is no session.
enum Unopened {
    /// This machine has nothing left to open one with; no host is to blame.
    Exhausted(Failure),
    /// Nothing leads to the address from here.
    NoWay(Failure),
    Failed(Failure),
    /// It failed once TLS was begun.
    Tls(Failure),
}

/// One address of one host.
#[derive(Clone, Copy)]
struct Target<'a> {
    hop: &'a Hop,
    host: &'a Host,
    address: SocketAddr,
}

impl Target<'_> {
    /// Opens a session, under TLS as far as it is asked for. A host that fails at it is spoken to in the clear where that is
    /// allowed, over another connection, and for a while from the start.
    async fn open(self, tools: Tools<'_>) -> Result<Connection, Unopened> {
        let level = self.hop.tls;
        if level != TlsLevel::Opportunistic {
            return self.session(level, tools).await;
        }
        if tools.handshakes.fruitless.has_failed(self.address) {
            return self.session(TlsLevel::Off, tools).await;
        }
        match self.session(level, tools).await {
            Err(Unopened::Tls(failure)) => {
                let (host, address) = (&self.host.name, self.address);
                tracing::info!(%host, %address, error = %failure.cause, "TLS failed; mail goes in the clear");
                tools.handshakes.fruitless.failed(address);
                self.session(TlsLevel::Off, tools).await
            }
            other => other,
        }
    }

    async fn session(self, level: TlsLevel, tools: Tools<'_>) -> Result<Connection, Unopened> {
        let mut connection = self.connect(tools).await?;
        greet(&mut connection, tools).await.map_err(Unopened::Failed)?;
        match (level, connection.client.capabilities().tls()) {
            (TlsLevel::Off, _) | (TlsLevel::Opportunistic, Tls::NotOffered) => Ok(connection),
            (TlsLevel::Require | TlsLevel::Verify, Tls::NotOffered) => {
                let text = "it does not offer TLS, without which it gets no mail".into();
                Err(Unopened::Failed(connection.failure(Trouble::NoTls, text)))
            }
            (_, Tls::Offered) => self.secure(connection, level, tools).await,
        }
    }

    async fn connect(self, tools: Tools<'_>) -> Result<Connection, Unopened> {
        let (address, patience) = (self.address, tools.timeouts.connect);
        let peer = Peer { host: self.host.name.to_string(), address: Some(address) };
        let failure = |text: String| {
            tools.counters.connect_failures.add(1);
            Failure {
                cause: Cause::Broke(Trouble::Connect, format!("{address}: {text}")),
                peer: peer.clone(),
            }
        };
        let dead = |text: String| {
            tools.dead.failed(address);
            Unopened::Failed(failure(text))
        };
        match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                tools.counters.connects.add(1);
                // Without it small writes would wait for company; a socket that refuses is broken anyhow.
                let _ = stream.set_nodelay(true);
                Ok(Connection::new(stream, peer, self.hop, tools.ehlo))
            }
            Ok(Err(error)) if is_exhausted(&error) => {
                tracing::warn!(%address, %error, "no connection can be opened; raise the limit of open files if this goes on");
                let cause = Cause::Broke(Trouble::Exhausted, plain(&error));
                Err(Unopened::Exhausted(Failure { cause, peer: peer.clone() }))
            }
            Ok(Err(error)) if leads_nowhere(&error) => Err(Unopened::NoWay(failure(plain(&error)))),
            Ok(Err(error)) => Err(dead(plain(&error))),
            Err(_) => Err(dead(format!("no answer within {} s", patience.as_secs()))),
        }
    }

    async fn secure(
        self,
        mut connection: Connection,
        level: TlsLevel,
        tools: Tools<'_>,
    ) -> Result<Connection, Unopened> {
        connection.client.start_tls();
        loop {
            match connection.next(tools.timeouts.greeting).await.map_err(Unopened::Tls)? {
                Event::Secure => break,
                Event::NotSecured(_) if level == TlsLevel::Opportunistic => {
                    tools.handshakes.fruitless.failed(self.address);
                    return Ok(connection);
                }
                Event::NotSecured(reply) => {
                    let text = format!("it will not go on under TLS, without which it gets no mail: {reply}");
                    return Err(Unopened::Failed(connection.failure(Trouble::NoTls, text)));
                }
                event => over(&connection, event).map_err(Unopened::Tls)?,
            }
        }
        let Tools { handshakes, roots, timeouts, .. } = tools;
        let shake = async |stream| {
            handshakes.shake(stream, self.host.name.host(), (level, roots), timeouts.greeting).await
        };
        let mut connection = connection.secure(shake).await.map_err(Unopened::Tls)?;
        greet(&mut connection, tools).await.map_err(Unopened::Tls)?;
        Ok(connection)
    }
}

/// Whether there is no way from here to such an address at all.
fn leads_nowhere(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable)
}

/// Waits until the host is ready for messages.
async fn greet(connection: &mut Connection, tools: Tools<'_>) -> Result<(), Failure> {
    loop {
        match connection.next(tools.timeouts.greeting).await? {
            Event::Ready(_) => return Ok(()),
            event => over(connection, event)?,
        }
    }
}

/// Whether the session ended with this event.
fn over(connection: &Connection, event: Event) -> Result<(), Failure> {
    match event {
        Event::Closed(Some(reply)) => {
            Err(Failure { cause: Cause::Said(reply), peer: connection.peer.clone() })
        }
        Event::Closed(None) => Err(connection.failure(Trouble::Lost, "the session was closed".into())),
        Event::Broken(error) => Err(connection.failure(Trouble::Protocol, error.to_string())),
        _ => Ok(()),
    }
}
