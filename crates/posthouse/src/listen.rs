//! Opening the ports that the configuration names.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::config::ListenAddress;

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
        // Each of these keys has a flag of the name of its table.
        let set = format!("set {key} or --{}", key.split('.').next().unwrap_or(key));
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

/// Listens on the address that `key` names.
///
/// # Errors
/// The port cannot be opened.
pub async fn listen(key: &'static str, address: ListenAddress) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address.0).await.map_err(|source| ListenError { key, address: address.0, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_busy_port_is_one_line_with_the_key_and_a_hint() {
        let first = listen("smtp.listen", ListenAddress::loopback(0)).await.unwrap();
        let taken = ListenAddress(first.local_addr().unwrap());
        let error = listen("smtp.listen", taken).await.unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("cannot listen on {taken} (smtp.listen): ")),
            "{error}"
        );
        assert!(error.hint().contains("another program has this port"), "{}", error.hint());
    }
}
