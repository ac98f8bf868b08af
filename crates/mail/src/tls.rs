//! TLS to hosts: how much of it is asked for, who is believed, and which hosts have shown that they cannot (RFC 3207, RFC 7435).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::WebPkiServerVerifier,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::lately::Lately;

/// How long a host that failed at TLS is spoken to in the clear.
const PLAIN_FOR: Duration = Duration::from_secs(10 * 60);

/// How much of TLS is asked of a host before it gets mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TlsLevel {
    /// None, whatever it offers.
    Off,
    /// What it can do. Its certificate is not looked at, and where TLS fails, mail goes in the clear.
    #[default]
    Opportunistic,
    /// TLS, with whatever certificate.
    Require,
    /// TLS, with a certificate for the host's name by somebody who is trusted.
    Verify,
}

/// How mail goes out under TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// How much of it.
    pub level: TlsLevel,
    /// A file with the certificates (PEM) of those who are trusted; none: whom this machine trusts.
    pub roots: Option<PathBuf>,
}

/// Whom to trust, and the setting that it was made of.
pub(crate) type Trusted = (Option<PathBuf>, Arc<ClientConfig>);

/// What handshakes need.
#[derive(Debug)]
pub(crate) struct Handshakes {
    provider: Arc<CryptoProvider>,
    anybody: Arc<ClientConfig>,
    /// Whom to trust, made of the setting that was seen last.
    trusting: Mutex<Option<Trusted>>,
    /// Hosts that failed at TLS.
    pub(crate) fruitless: Lately,
}

impl Handshakes {
    /// For a node that trusts those of `roots` where certificates count.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn new(tls: &Tls) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let anybody = Anybody(provider.signature_verification_algorithms.supported_schemes());
        let handshakes = Self {
            anybody: client(&provider, Arc::new(anybody)).map_err(|error| error.to_string())?,
            provider,
            trusting: Mutex::default(),
            fruitless: Lately::new(PLAIN_FOR),
        };
        if let Some(trusted) = handshakes.read(tls)? {
            handshakes.trust_from_now_on(trusted);
        }
        Ok(handshakes)
    }

    /// Reads who is trusted, where that counts.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn read(&self, tls: &Tls) -> Result<Option<Trusted>, String> {
        let counts = tls.roots.is_some() || tls.level == TlsLevel::Verify;
        let read = || Ok((tls.roots.clone(), self.trust(tls.roots.as_deref())?));
        counts.then(read).transpose()
    }

    /// Handshakes from now on go by what was read.
    pub(crate) fn trust_from_now_on(&self, trusted: Trusted) {
        *self.trusting.lock() = Some(trusted);
    }

    /// Goes on under TLS with a host of this name; the error is what was wrong, in words.
    pub(crate) async fn shake(
        &self,
        stream: TcpStream,
        host: String,
        (level, roots): (TlsLevel, Option<&Path>),
        patience: Duration,
    ) -> Result<TlsStream<TcpStream>, String> {
        let client = match level {
            TlsLevel::Verify => self.trusting(roots)?,
            TlsLevel::Off | TlsLevel::Opportunistic | TlsLevel::Require => self.anybody.clone(),
        };
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        match timeout(patience, TlsConnector::from(client).connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(crate::connection::plain(&error)),
            Err(_) => Err(format!("no end of the handshake within {} s", patience.as_secs())),
        }
    }

    fn trusting(&self, roots: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
        let mut made = self.trusting.lock();
        if let Some((made_of, client)) = &*made
            && made_of.as_deref() == roots
        {
            return Ok(client.clone());
        }
        let client = self.trust(roots)?;
        *made = Some((roots.map(Path::to_owned), client.clone()));
        Ok(client)
    }

    fn trust(&self, roots: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
        let verifier: Arc<dyn ServerCertVerifier> = match roots {
            Some(file) => {
                let unreadable =
                    |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", file.display());
                let mut trusted = RootCertStore::empty();
                for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unreadable(&error))? {
                    let certificate = certificate.map_err(|error| unreadable(&error))?;
                    trusted.add(certificate).map_err(|error| unreadable(&error))?;
                }
                WebPkiServerVerifier::builder_with_provider(trusted.into(), self.provider.clone())
                    .build()
                    .map_err(|error| unreadable(&error))?
            }
            None => Arc::new(Verifier::new(self.provider.clone()).map_err(|error| error.to_string())?),
        };
        client(&self.provider, verifier).map_err(|error| error.to_string())
    }
}

fn client(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<Arc<ClientConfig>, Error> {
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(Arc::new(config))
}

/// Believes whoever answers: where no certificate is asked for, one that is looked at would only send mail in the clear that could
/// have gone under TLS (RFC 7435, section 3).
#[derive(Debug)]
struct Anybody(Vec<SignatureScheme>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
