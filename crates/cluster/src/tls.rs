//! The one port between nodes: TLS 1.3, with both sides proving their keys.
//!
//! ALPN tells the two protocols apart. To **join**, a node shows a certificate of its own making; on the **link** it shows
//! one that the authority issued. On both the registry is asked for the node's key, at each handshake: certificates are
//! but caches, so sessions are never resumed.
//!
//! A client of TLS 1.3 is done before the server has looked at its certificate (RFC 8446, section 4.4), so a refusal would
//! meet it at its first read. Hence the server sends a greeting of one byte once it has let the node in, and a connection
//! is there for the client when it has read that byte.
//!
//! * takes: a stream, and on the manager the registry
//! * does: the handshake, within a deadline
//! * gives: an encrypted stream and whose it is, or why not

mod client;
mod server;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use base::Clock;
use rustls::{
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs},
    time_provider::TimeProvider,
};
use rustls_pki_types::UnixTime;

use crate::identity::{PublicKey, SigningError};

pub use client::{ClientTls, ConnectError, Credential};
pub use server::{AcceptError, Peer, ServerTls};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// A node asks for a certificate.
    Join,
    /// A node works.
    Link,
}

impl Protocol {
    /// Its name in TLS (ALPN, RFC 7301).
    #[must_use]
    pub fn name(self) -> &'static [u8] {
        match self {
            Self::Join => JOIN_PROTOCOL,
            Self::Link => LINK_PROTOCOL,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Join => "join",
            Self::Link => "link",
        })
    }
}

/// Who is let in. It is asked at each handshake, of keys that have been proven, and must answer at once, from memory.
///
/// A key may be removed between the answer and the first word on the connection. So whoever accepts connections notes one
/// first, asks again, and on a removal closes what is noted.
pub trait Registry: Send + Sync + fmt::Debug {
    /// Whether the node with this key is let in now.
    ///
    /// # Errors
    /// It is not; the node is told why.
    fn admits(&self, key: &PublicKey) -> Result<(), NotAdmitted>;
}

/// Why a node is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotAdmitted {
    /// Nobody has added its key.
    #[error("the manager does not know this node's key")]
    Unknown,
    /// It was removed from the cluster.
    #[error("the manager has removed this node")]
    Removed,
    /// Two processes seem to have its key.
    #[error("the manager has quarantined this node: two processes seem to run with its key")]
    Quarantined,
}

/// TLS cannot be set up: our bug, or a key that is none.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// What the library says.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
    /// Our own certificate cannot be made.
    #[error(transparent)]
    Signing(#[from] SigningError),
}

/// The name of the protocol to join with.
pub const JOIN_PROTOCOL: &[u8] = b"posthouse-join/1";
/// The name of the protocol to work with.
pub const LINK_PROTOCOL: &[u8] = b"posthouse-link/1";
/// What the server says when it has let a node in.
const GREETING: u8 = 1;

/// Our clock, for the validity of certificates.
#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.now().millis())))
    }
}

/// The cryptography, said and not taken from the process's default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What a verifier says to a signature of TLS 1.2, which is not spoken here.
fn not_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
}
