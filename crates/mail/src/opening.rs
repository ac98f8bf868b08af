//! From a next hop to a session that is ready for messages: its hosts and their addresses in turn, greeting and EHLO.

use std::{io, net::SocketAddr, time::Duration};

use smtp::client::Event;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    attempt::Tools,
    burst::{Hop, Trouble},
    connection::{Cause, Connection, Failure, Peer, plain},
};

/// Most addresses of one host that are tried; those that nothing leads to from here cost no time and do not count.
const ADDRESSES: usize = 2;
/// No other address is tried after this time.
const OPENING_ENDS: Duration = Duration::from_secs(5 * 60);

/// Opens a session with the first host that has one for us: where it cannot be reached, or wants none, the next one is asked
/// (RFC 5321, section 5.1).
pub(crate) async fn open(hop: &Hop, tools: Tools<'_>) -> Result<Connection, Failure> {
    let until = Instant::now() + OPENING_ENDS;
    let text = format!("{} has no address", hop.name);
    let mut failure = Failure { cause: Cause::Broke(Trouble::Connect, text), peer: Peer::default() };
    for host in &hop.hosts {
        let mut tried = 0;
        for address in &host.addresses {
            if tried == ADDRESSES || Instant::now() >= until {
                break;
            }
            let peer = Peer { host: host.name.to_string(), address: Some(*address) };
            let (way, opened) = session(hop, *address, peer, tools).await;
            match opened {
                Ok(connection) => return Ok(connection),
                Err(why) => failure = why,
            }
            tried += usize::from(way == Way::Exists);
        }
    }
    Err(failure)
}

/// Whether anything leads to an address from here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Exists,
    None,
}

async fn session(
    hop: &Hop,
    address: SocketAddr,
    peer: Peer,
    tools: Tools<'_>,
) -> (Way, Result<Connection, Failure>) {
    let patience = tools.timeouts.connect;
    let text = match timeout(patience, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            tools.counters.connects.add(1);
            // Without it small writes would wait for company; a socket that refuses is broken anyhow.
            let _ = stream.set_nodelay(true);
            let mut connection = Connection::new(stream, peer, &hop.ehlo);
            return (Way::Exists, greet(&mut connection, tools).await.map(|()| connection));
        }
        Ok(Err(error)) => {
            if [io::ErrorKind::NetworkUnreachable, io::ErrorKind::AddrNotAvailable].contains(&error.kind()) {
                let text = format!("{address}: {}", plain(&error));
                return (Way::None, Err(Failure { cause: Cause::Broke(Trouble::Connect, text), peer }));
            }
            format!("{address}: {}", plain(&error))
        }
        Err(_) => format!("{address}: no answer within {} s", patience.as_secs()),
    };
    tools.counters.connect_failures.add(1);
    (Way::Exists, Err(Failure { cause: Cause::Broke(Trouble::Connect, text), peer }))
}

/// Greeting and EHLO.
async fn greet(connection: &mut Connection, tools: Tools<'_>) -> Result<(), Failure> {
    loop {
        match connection.next(tools.timeouts.greeting).await? {
            Event::Ready(_) => return Ok(()),
            Event::Closed(Some(reply)) => {
                return Err(Failure { cause: Cause::Said(reply), peer: connection.peer.clone() });
            }
            Event::Closed(None) => {
                return Err(connection.failure(Trouble::Lost, "the session was closed".into()));
            }
            Event::Broken(error) => return Err(connection.failure(Trouble::Protocol, error.to_string())),
            // Of messages nothing was said yet.
            Event::NeedInput | Event::SendBody { .. } | Event::Done { .. } => {}
        }
    }
}
