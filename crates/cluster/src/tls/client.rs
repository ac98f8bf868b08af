//! A worker's side: whether it is the manager, and whether that lets us in.

use std::{io, sync::Arc, time::Duration};

use base::Clock;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{GREETING, NotAdmitted, Protocol, Time, TlsError, not_tls12, provider};
use crate::{
    authority::{MANAGER_NAME, Pin, pin_of},
    identity::Identity,
};

/// What a node shows of itself; the protocol follows from it.
#[derive(Clone, Copy, Debug)]
pub enum Credential<'a> {
    /// A certificate of its own making, to join.
    SelfSigned,
    /// The chain that the authority issued, for the link.
    Issued(&'a [CertificateDer<'static>]),
}

impl Credential<'_> {
    /// The protocol to show it on.
    #[must_use]
    pub fn protocol(self) -> Protocol {
        match self {
            Self::SelfSigned => Protocol::Join,
            Self::Issued(_) => Protocol::Link,
        }
    }
}

/// A worker's TLS.
#[derive(Debug)]
pub struct ClientTls {
    identity: Identity,
    clock: Clock,
    verifier: Arc<PinVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ClientTls {
    /// Makes ready to connect to the manager whose authority has the pin.
    #[must_use]
    pub fn new(pin: Pin, identity: &Identity, clock: Clock) -> Self {
        let provider = provider();
        let verifier = Arc::new(PinVerifier { pin, provider: provider.clone() });
        Self { identity: identity.clone(), clock, verifier, provider }
    }

    /// Connects to the manager at the other end of a stream. When it returns, the manager is proven to be the right one
    /// and has let us in: its greeting is read.
    ///
    /// # Errors
    /// It is another, it does not let us in, or there is nobody within the deadline.
    pub async fn connect<S>(
        &self,
        stream: S,
        credential: Credential<'_>,
        deadline: Duration,
    ) -> Result<TlsStream<S>, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.config(credential)?;
        match tokio::time::timeout(deadline, handshake(stream, config, credential.protocol())).await {
            Ok(done) => done,
            Err(_) => Err(ConnectError::Deadline(deadline)),
        }
    }

    pub(super) fn config(&self, credential: Credential<'_>) -> Result<ClientConfig, TlsError> {
        let chain = match credential {
            Credential::SelfSigned => vec![self.identity.self_signed(self.clock.now())?],
            Credential::Issued(chain) => chain.to_vec(),
        };
        let time = Arc::new(Time(self.clock.clone()));
        let mut config = ClientConfig::builder_with_details(self.provider.clone(), time)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier.clone())
            .with_client_auth_cert(chain, self.identity.private_key_der())?;
        config.alpn_protocols = vec![credential.protocol().name().to_vec()];
        // The manager gives no tickets; what an impostor gives is not kept.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

async fn handshake<S>(
    stream: S,
    config: ClientConfig,
    protocol: Protocol,
) -> Result<TlsStream<S>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(MANAGER_NAME).expect("it is a DNS name");
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await.map_err(ConnectError::of_stranger)?;
    if stream.get_ref().1.alpn_protocol() != Some(protocol.name()) {
        return Err(ConnectError::NoProtocol);
    }
    let mut greeting = [0];
    stream.read_exact(&mut greeting).await.map_err(ConnectError::of_manager)?;
    if greeting != [GREETING] {
        return Err(ConnectError::NoProtocol);
    }
    Ok(stream)
}

/// There is no connection to the manager. Each is one plain line.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It is another cluster's manager, or somebody in between.
    #[error("the manager there is not the one whose pin was given: its pin is {seen}")]
    WrongPin {
        /// The pin of what answered.
        seen: Pin,
    },
    /// It shows the right authority, and not that it is its manager.
    #[error("what answers there cannot prove that it is the manager: {0}")]
    NotManager(CertificateError),
    /// The manager's certificate is good at another time.
    #[error(
        "the manager's certificate is not valid at this machine's time, so one of the two clocks is wrong: {0}"
    )]
    Clock(CertificateError),
    /// The manager does not let us in.
    #[error(transparent)]
    Refused(NotAdmitted),
    /// Our certificate is not good now; joining gives a new one.
    #[error("the manager says that this node's certificate is not valid now")]
    Expired,
    /// Our certificate is of another authority; joining gives a new one.
    #[error("the manager says that this node's certificate is of another authority")]
    OtherAuthority,
    /// It is something else, or a version that does not understand us.
    #[error("what answers there is no manager of Posthouse, or one of another version")]
    NoProtocol,
    /// It does not speak TLS.
    #[error("what answers there does not speak TLS")]
    NotTls,
    /// The handshake went wrong otherwise.
    #[error("the handshake with the manager failed: {0}")]
    Tls(rustls::Error),
    /// It did not answer in time.
    #[error("the manager did not answer within {0:?}")]
    Deadline(Duration),
    /// The connection broke.
    #[error("the connection to the manager broke: {0}")]
    Network(io::Error),
    /// Our own certificate cannot be used.
    #[error(transparent)]
    Setup(#[from] TlsError),
}

impl ConnectError {
    /// An error before the other side has proven to be the manager. What it says, anyone on the way may have said, so it
    /// does not count as an answer of the manager's: nobody else can tell a node that it is removed.
    fn of_stranger(error: io::Error) -> Self {
        let error = match error.downcast::<rustls::Error>() {
            Ok(error) => error,
            Err(error) => return Self::Network(error),
        };
        match error {
            rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
            | rustls::Error::NoApplicationProtocol => Self::NoProtocol,
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::InvalidCertificate(error) => Self::of_certificate(error),
            error => Self::Tls(error),
        }
    }

    /// What is wrong with the other side's certificate.
    fn of_certificate(error: CertificateError) -> Self {
        match &error {
            CertificateError::Other(OtherError(other)) => match other.downcast_ref() {
                Some(WrongPin(seen)) => Self::WrongPin { seen: *seen },
                None => Self::NotManager(error),
            },
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Clock(error),
            _ => Self::NotManager(error),
        }
    }

    /// An error of the manager, which has looked at our certificate by now.
    fn of_manager(error: io::Error) -> Self {
        let error = match error.downcast::<rustls::Error>() {
            Ok(error) => error,
            Err(error) => return Self::Network(error),
        };
        let rustls::Error::AlertReceived(alert) = error else { return Self::Tls(error) };
        match alert {
            AlertDescription::AccessDenied => Self::Refused(NotAdmitted::Unknown),
            AlertDescription::CertificateRevoked => Self::Refused(NotAdmitted::Removed),
            AlertDescription::CertificateUnknown => Self::Refused(NotAdmitted::Quarantined),
            AlertDescription::CertificateExpired => Self::Expired,
            AlertDescription::UnknownCA => Self::OtherAuthority,
            _ => Self::Tls(error),
        }
    }
}

/// No certificate had the pin; that of what seemed to be the authority.
#[derive(Debug, thiserror::Error)]
#[error("the authority's pin is {0}")]
struct WrongPin(Pin);

/// Believes the authority that has the pin, and whom that has given the manager's name.
#[derive(Debug)]
struct PinVerifier {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(root) = intermediates.iter().find(|certificate| pin_of(certificate) == Some(self.pin))
        else {
            let last = intermediates.last().unwrap_or(end_entity);
            return Err(match pin_of(last) {
                Some(seen) => CertificateError::Other(OtherError(Arc::new(WrongPin(seen)))).into(),
                None => CertificateError::BadEncoding.into(),
            });
        };
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        not_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    /// All that there are, so that it is the pin that a stranger fails at.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
