//! The manager's side: who is let in.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use base::{Clock, NodeId};
use parking_lot::RwLock;
use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore,
    ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls13_signature},
    server::{
        Acceptor, ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SigningKey},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{
    GREETING, JOIN_PROTOCOL, LINK_PROTOCOL, NotAdmitted, Protocol, Registry, Time, TlsError, not_tls12,
    provider,
};
use crate::{
    authority::{Authority, Role},
    identity::{Identity, PublicKey, SigningError},
};

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node's key, which it has proven and the registry has admitted.
    pub key: PublicKey,
    /// What it came for.
    pub protocol: Protocol,
}

/// The manager's TLS.
#[derive(Debug)]
pub struct ServerTls {
    authority: Arc<Authority>,
    registry: Arc<dyn Registry>,
    clock: Clock,
    id: NodeId,
    key: PublicKey,
    signer: Arc<dyn SigningKey>,
    certificate: Arc<OwnCertificate>,
    /// The rules for certificates that the authority issued.
    issued: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ServerTls {
    /// Makes ready to let nodes in, with a certificate for the manager.
    ///
    /// # Errors
    /// TLS cannot be set up with this authority or this key.
    pub fn new(
        authority: Arc<Authority>,
        identity: &Identity,
        registry: Arc<dyn Registry>,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        let provider = provider();
        let signer = provider.key_provider.load_private_key(identity.private_key_der())?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone())?;
        let issued = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let issued = issued.build().map_err(|e| rustls::Error::General(e.to_string()))?;
        let (id, key) = (identity.id(), identity.public_key());
        let own = authority.issue(Role::Manager, id, &key, clock.now())?;
        let own = CertifiedKey::new(own.chain, signer.clone());
        let certificate = Arc::new(OwnCertificate(RwLock::new(Arc::new(own))));
        Ok(Self { authority, registry, clock, id, key, signer, certificate, issued, provider })
    }

    /// Gives the manager its next certificate; handshakes from now on show it. When it is time,
    /// [`renewal`](crate::authority::renewal) says.
    ///
    /// # Errors
    /// It cannot be signed; the one before stays.
    pub fn renew(&self) -> Result<(), SigningError> {
        let own = self.authority.issue(Role::Manager, self.id, &self.key, self.clock.now())?;
        *self.certificate.0.write() = Arc::new(CertifiedKey::new(own.chain, self.signer.clone()));
        Ok(())
    }

    /// The certificate that the manager shows now.
    #[cfg(test)]
    pub(crate) fn shown(&self) -> CertificateDer<'static> {
        self.certificate.0.read().cert[0].clone()
    }

    /// Lets a node in, or tells it why not. The stream that it returns has carried the greeting.
    ///
    /// # Errors
    /// The node is not let in, or does not do its part within the deadline.
    pub async fn accept<S>(&self, stream: S, deadline: Duration) -> Result<(TlsStream<S>, Peer), AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match tokio::time::timeout(deadline, self.handshake(stream)).await {
            Ok(done) => done,
            Err(_) => Err(AcceptError::Deadline(deadline)),
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<(TlsStream<S>, Peer), AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut start =
            LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(AcceptError::of)?;
        let Some(protocol) = wanted(&start.client_hello()) else {
            // The library has no alert for a client that names no protocol at all.
            start.io.write_all(&NO_APPLICATION_PROTOCOL).await.map_err(AcceptError::Network)?;
            start.io.shutdown().await.map_err(AcceptError::Network)?;
            return Err(AcceptError::NoProtocol);
        };
        let verifier = Arc::new(Verifier {
            protocol,
            issued: self.issued.clone(),
            registry: self.registry.clone(),
            provider: self.provider.clone(),
            proven: OnceLock::new(),
        });
        let config = self.config(protocol, verifier.clone()).map_err(AcceptError::Tls)?;
        let mut stream = match start.into_stream(Arc::new(config)).into_fallible().await {
            Ok(stream) => stream,
            Err((error, mut stream)) => {
                // The alert is on its way. That the other side does not listen is no news.
                stream.shutdown().await.ok();
                return Err(match verifier.proven.get() {
                    Some((key, Err(why))) => AcceptError::Refused { key: *key, protocol, why: *why },
                    _ => AcceptError::of(error),
                });
            }
        };
        let Some((key, Ok(()))) = verifier.proven.get() else {
            return Err(AcceptError::Tls(rustls::Error::NoCertificatesPresented));
        };
        stream.write_all(&[GREETING]).await.map_err(AcceptError::of)?;
        stream.flush().await.map_err(AcceptError::of)?;
        Ok((stream, Peer { key: *key, protocol }))
    }

    /// A configuration of its own for each handshake, so that the verifier can say afterwards whom it saw.
    fn config(&self, protocol: Protocol, verifier: Arc<Verifier>) -> Result<ServerConfig, rustls::Error> {
        let time = Arc::new(Time(self.clock.clone()));
        let mut config = ServerConfig::builder_with_details(self.provider.clone(), time)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.certificate.clone());
        config.alpn_protocols = vec![protocol.name().to_vec()];
        // A resumed session would pass by the registry.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// A connection came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The other side did not do its part in time.
    #[error("the handshake was not done within {0:?}")]
    Deadline(Duration),
    /// The other side wants to speak something else.
    #[error("it asked for none of our protocols")]
    NoProtocol,
    /// The node has proven its key and is not let in.
    #[error("the node with the key {} is not let in to {protocol}: {why}", key.fingerprint())]
    Refused {
        /// Its key.
        key: PublicKey,
        /// What it came for.
        protocol: Protocol,
        /// Why.
        why: NotAdmitted,
    },
    /// The certificate is not good, or its key was not proven.
    #[error("its certificate is not accepted: {0}")]
    Certificate(CertificateError),
    /// The other side does not believe that this is the manager that it was told of.
    #[error(
        "a node there expects another pin than this manager's, which `posthouse identity show --pin` prints here"
    )]
    OtherPin,
    /// The handshake went wrong otherwise.
    #[error("the handshake failed: {0}")]
    Tls(rustls::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Network(io::Error),
}

impl AcceptError {
    /// The key of who is there, if it was proven.
    #[must_use]
    pub const fn key(&self) -> Option<PublicKey> {
        match self {
            Self::Refused { key, .. } => Some(*key),
            Self::Deadline(_)
            | Self::NoProtocol
            | Self::Certificate(_)
            | Self::OtherPin
            | Self::Tls(_)
            | Self::Network(_) => None,
        }
    }

    fn of(error: io::Error) -> Self {
        match error.downcast::<rustls::Error>() {
            Ok(rustls::Error::InvalidCertificate(error)) => Self::Certificate(error),
            // certificate_unknown: the alert for what a node's own check of the pin says.
            Ok(rustls::Error::AlertReceived(AlertDescription::CertificateUnknown)) => Self::OtherPin,
            Ok(error) => Self::Tls(error),
            Err(error) => Self::Network(error),
        }
    }
}

/// What a client came for; nothing if it does not say so.
fn wanted(hello: &ClientHello<'_>) -> Option<Protocol> {
    hello.alpn()?.find_map(|name| match name {
        JOIN_PROTOCOL => Some(Protocol::Join),
        LINK_PROTOCOL => Some(Protocol::Link),
        _ => None,
    })
}

/// The manager's certificate, which is replaced while connections come.
#[derive(Debug)]
struct OwnCertificate(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

/// Judges the certificate of one handshake.
#[derive(Debug)]
struct Verifier {
    protocol: Protocol,
    issued: Arc<dyn ClientCertVerifier>,
    registry: Arc<dyn Registry>,
    provider: Arc<CryptoProvider>,
    /// The key that was proven, and what the registry said of it.
    proven: OnceLock<(PublicKey, Result<(), NotAdmitted>)>,
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        key_of(end_entity)?;
        match self.protocol {
            // Whatever it says of itself: the key is what counts.
            Protocol::Join => Ok(ClientCertVerified::assertion()),
            Protocol::Link => {
                self.issued.verify_client_cert(end_entity, intermediates, now).map_err(plain_alert)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        not_tls12()
    }

    /// Asks the registry here and not with the certificate, which anyone may have seen: only who has a key learns what
    /// the registry says of it.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let valid = verify_tls13_signature(message, cert, dss, algorithms)?;
        let key = key_of(cert)?;
        let (_, admitted) = self.proven.get_or_init(|| (key, self.registry.admits(&key)));
        admitted.map(|()| valid).map_err(|why| alert_of(why).into())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// The key of a certificate, by the parser that signatures are verified with: where two parsers disagree, a forged
/// certificate could show the registry one key and prove another.
fn key_of(certificate: &CertificateDer<'_>) -> Result<PublicKey, rustls::Error> {
    let spki = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    PublicKey::from_spki(&spki).ok_or_else(|| CertificateError::BadEncoding.into())
}

/// The error whose alert tells a node why it is not let in; `ConnectError` reads it. No other error has these alerts.
fn alert_of(why: NotAdmitted) -> CertificateError {
    match why {
        // access_denied
        NotAdmitted::Unknown => CertificateError::ApplicationVerificationFailure,
        // certificate_revoked
        NotAdmitted::Removed => CertificateError::Revoked,
        // certificate_unknown
        NotAdmitted::Quarantined => CertificateError::Other(rustls::OtherError(Arc::new(why))),
    }
}

/// The error of a chain, with an alert that a node can act on.
fn plain_alert(error: rustls::Error) -> rustls::Error {
    match error {
        // All authorities have one name, so another one shows by its signature.
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => {
            CertificateError::UnknownIssuer.into()
        }
        // Its alert is taken (`alert_of`).
        rustls::Error::InvalidCertificate(CertificateError::Other(_)) => CertificateError::BadEncoding.into(),
        error => error,
    }
}

/// A fatal alert, as a record (RFC 8446, sections 5.1 and 6; RFC 7301, section 3.2).
const NO_APPLICATION_PROTOCOL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];
