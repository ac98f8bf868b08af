//! Opening the ports that the configuration names.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use crate::config::{FLAGS, ListenAddress};

/// The port of a key cannot be opened. One plain line; [`hint`](Self::hint) says what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({key}): {source}")]
pub struct ListenError {
    /// The key that names the address.
    pub key: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl ListenError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let Self { key, address, .. } = self;
        let flag = FLAGS.iter().find(|(of, _)| of == key);
        let set = format!("set {key}{}", flag.map(|(_, flag)| format!(" or --{flag}")).unwrap_or_default());
        match self.source.kind() {
            io::ErrorKind::AddrInUse => format!(
                "another program has this port (`ss -ltnp 'sport = :{}'` shows which): stop it, or {set}",
                address.port()
            ),
            io::ErrorKind::AddrNotAvailable => {
                format!("this machine does not have the address {}: {set}", address.ip())
            }
            io::ErrorKind::PermissionDenied => format!(
                "ports below 1024 need the capability CAP_NET_BIND_SERVICE: {set} to a higher port, or grant it"
            ),
            _ => format!("{set} to an address of this machine and a free port"),
        }
    }
}

/// A port that is this node's and on which nobody is let in yet: whoever comes is refused, and tries another host.
#[derive(Debug)]
pub struct Bound {
    key: &'static str,
    address: SocketAddr,
    socket: TcpSocket,
}

/// Connections that may wait to be taken.
const BACKLOG: u32 = 1024;

impl Bound {
    /// The address, with the port that the system chose if it was to.
    #[must_use]
    pub const fn local(&self) -> SocketAddr {
        self.address
    }

    /// Listens from now on.
    ///
    /// # Errors
    /// Another program was bound to the port as well, and has been faster.
    pub fn listen(self) -> Result<TcpListener, ListenError> {
        let Self { key, address, socket } = self;
        socket.listen(BACKLOG).map_err(|source| ListenError { key, address, source })
    }
}

/// Takes the port of the address that `key` names.
///
/// # Errors
/// It cannot be had.
pub fn bind(key: &'static str, address: ListenAddress) -> Result<Bound, ListenError> {
    let bind = || {
        let socket = if address.0.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Connections of an earlier run that have not quite ended are no reason to wait.
        socket.set_reuseaddr(true)?;
        socket.bind(address.0)?;
        Ok(Bound { key, address: socket.local_addr()?, socket })
    };
    bind().map_err(|source| ListenError { key, address: address.0, source })
}

/// Listens on the address that `key` names.
///
/// # Errors
/// The port cannot be opened.
pub fn listen(key: &'static str, address: ListenAddress) -> Result<TcpListener, ListenError> {
    bind(key, address)?.listen()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_busy_port_is_one_line_with_the_key_and_a_hint() {
        let first = listen("smtp.listen", ListenAddress::loopback(0)).unwrap();
        let taken = ListenAddress(first.local_addr().unwrap());
        let error = bind("smtp.listen", taken).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("cannot listen on {taken} (smtp.listen): ")),
            "{error}"
        );
        assert!(error.hint().contains("another program has this port"), "{}", error.hint());
        assert!(error.hint().ends_with("stop it, or set smtp.listen or --smtp"), "{}", error.hint());
        let link = bind("cluster.listen", taken).unwrap_err();
        assert!(link.hint().ends_with("set cluster.listen or --link"), "{}", link.hint());
    }

    #[tokio::test]
    async fn a_port_that_is_bound_refuses_until_it_listens() {
        let bound = bind("smtp.listen", ListenAddress::loopback(0)).unwrap();
        let address = bound.local();
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let _listener = bound.listen().unwrap();
        TcpStream::connect(address).await.unwrap();
    }
}
