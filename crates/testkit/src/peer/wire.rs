//! The bytes of a conversation, in the clear or under TLS, and who the peer says it is.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// A certificate with its key, signed by an authority that was made for it alone.
#[derive(Clone)]
pub struct Identity {
    config: Arc<ServerConfig>,
    authority: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// For a host of this name.
    ///
    /// # Panics
    /// If no key can be made.
    #[must_use]
    pub fn of(host: &str) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).expect("it has no names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "An authority for tests");
        let signer = KeyPair::generate().expect("there is a key");
        let root = authority.self_signed(&signer).expect("it is signed");
        let issuer = Issuer::new(authority, signer);
        let key = KeyPair::generate().expect("there is a key");
        let own = CertificateParams::new([host.to_owned()]).expect("it is a name");
        let certificate = own.signed_by(&key, &issuer).expect("it is signed");
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("there are versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)
            .expect("the key is that of the certificate");
        Self { config: Arc::new(config), authority: root.pem() }
    }

    /// The certificate of its authority (PEM).
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

/// What a conversation is held over.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Wire {
    /// The same under TLS, with a client that is about to begin its handshake.
    pub(super) fn secured(&self, identity: &Identity) -> io::Result<Self> {
        let connection = ServerConnection::new(identity.config.clone()).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, self.tcp().try_clone()?);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self::Tls(stream.into()))
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    pub(super) fn end(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            // The client may be gone.
            let _ = stream.conn.complete_io(&mut stream.sock);
        }
        let _ = self.tcp().shutdown(Shutdown::Both);
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
