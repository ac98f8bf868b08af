//! The cluster's certificate authority, at the manager.
//!
//! A certificate says that its key was in the registry when it was made, and no more: the registry is asked at each
//! handshake. So certificates live short, and there are no lists of revoked ones.
//!
//! * takes: a node's public key, its id and its role
//! * does: signs a certificate for a week
//! * gives: the certificate, and the pin that workers know the authority by

mod pin;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use base::{NodeId, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ED25519, PublicKeyData, SanType, SignatureAlgorithm,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::identity::{
    CERTIFICATE_LIFE, KeyFileError, PublicKey, SigningError, make_key, params, read, read_key, write,
};

pub use pin::{Pin, PinError};

/// What a node is in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It has the registry, the settings and the spool.
    Manager,
    /// It works for the manager.
    Worker,
}

/// A certificate that the authority gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The node's certificate, and behind it the authority's.
    pub chain: Vec<CertificateDer<'static>>,
    /// When it ends, to the second.
    pub not_after: Timestamp,
}

/// The authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pin: Pin,
}

impl Authority {
    /// The authority that is kept in the directory `dir`; it is made if there is none.
    ///
    /// # Errors
    /// Its files cannot be read or made, or are not those of one authority.
    pub fn open_or_make(dir: &Path, now: Timestamp) -> Result<Self, AuthorityError> {
        let (key_path, path) = (dir.join(KEY), dir.join(CERTIFICATE));
        let text = read(&path)?;
        let key = match read_key(&key_path)? {
            Some(key) => key,
            // A new key would be another authority, and nobody would believe it.
            None if text.is_some() => return Err(AuthorityError::NoKey { key: key_path, certificate: path }),
            None => make_key(&key_path)?,
        };
        let pin = Pin::of_spki(&key.subject_public_key_info());
        let certificate = match text {
            Some(text) => CertificateDer::from_pem_slice(text.as_bytes())
                .ok()
                .filter(|certificate| pin_of(certificate) == Some(pin))
                .ok_or(AuthorityError::NotOurs { path })?,
            // The first start, or one that was cut short before it: the pin is of the key alone.
            None => {
                let made = own_params(now)?.self_signed(&key).map_err(SigningError)?;
                write(&path, &made.pem())?;
                made.into()
            }
        };
        Ok(Self { issuer: Issuer::new(own_params(now)?, key), certificate, pin })
    }

    /// The pin of the authority that is kept in the directory `dir`; nothing if there is none. Nothing is made.
    ///
    /// # Errors
    /// Its certificate cannot be read.
    pub fn pin_in(dir: &Path) -> Result<Option<Pin>, AuthorityError> {
        let path = dir.join(CERTIFICATE);
        let Some(text) = read(&path)? else { return Ok(None) };
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok();
        let pin = certificate.and_then(|certificate| pin_of(&certificate));
        pin.map(Some).ok_or(AuthorityError::NotOurs { path })
    }

    /// What a worker is told, so that it knows this authority.
    #[must_use]
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Gives a node a certificate for its key, for 7 days. Whether the registry has the key is for the caller to ask.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn issue(
        &self,
        role: Role,
        id: NodeId,
        key: &PublicKey,
        now: Timestamp,
    ) -> Result<Certificate, SigningError> {
        let (kind, name, usages) = match role {
            Role::Manager => (
                "manager",
                MANAGER_NAME.to_owned(),
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            ),
            // Without the server's usage, or a worker could pass as the manager.
            Role::Worker => {
                ("worker", format!("{id}.node.posthouse.internal"), vec![ExtendedKeyUsagePurpose::ClientAuth])
            }
        };
        let mut params = params(&format!("{kind} {id}"), now, CERTIFICATE_LIFE)?;
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().map_err(SigningError)?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        let issued = params.signed_by(&ForeignKey(key.to_bytes()), &self.issuer).map_err(SigningError)?;
        Ok(Certificate {
            chain: vec![issued.into(), self.certificate.clone()],
            not_after: Timestamp::from_micros((now + CERTIFICATE_LIFE).micros() / 1_000_000 * 1_000_000),
        })
    }
}

/// When to ask for the next certificate: 50 to 80 % through the life of one made at `issued_at`. `spread`, from 0 to 1,
/// is random for each node, so that they do not all ask at once.
#[must_use]
pub fn renewal(issued_at: Timestamp, spread: f64) -> Timestamp {
    let spread = if spread.is_nan() { 0.5 } else { spread.clamp(0.0, 1.0) };
    issued_at + CERTIFICATE_LIFE.mul_f64(0.5 + 0.3 * spread)
}

/// The authority's files are not those of one authority, or cannot be used. Each is one plain line.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// There is a certificate and no key.
    #[error("{} is there and the key {} is not", certificate.display(), key.display())]
    NoKey {
        /// The key's file.
        key: PathBuf,
        /// The certificate's.
        certificate: PathBuf,
    },
    /// The certificate is not that of the key.
    #[error("{} does not hold the certificate of the key beside it", path.display())]
    NotOurs {
        /// The certificate's file.
        path: PathBuf,
    },
    /// The certificate cannot be made.
    #[error(transparent)]
    Signing(#[from] SigningError),
}

impl AuthorityError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(KeyFileError::NotAKey { path }) => {
                Some(format!("restore {} from a backup; workers believe no other key", path.display()))
            }
            Self::File(error) => error.hint(),
            Self::NoKey { key, certificate } => Some(format!(
                "restore {} from a backup; or remove {} for a new authority, which every worker must be given the pin of",
                key.display(),
                certificate.display()
            )),
            Self::NotOurs { path } => {
                Some(format!("remove {}: it is made again from the key, and the pin stays", path.display()))
            }
            Self::Signing(_) => None,
        }
    }
}

/// The pin of a certificate's key; nothing if it is no certificate.
///
/// It is read by the parser that TLS verifies with: where two parsers disagree, a forged certificate could show the one
/// the right key and the other its own.
pub(crate) fn pin_of(certificate: &CertificateDer<'_>) -> Option<Pin> {
    let parsed = rustls::server::ParsedCertificate::try_from(certificate).ok()?;
    Some(Pin::of_spki(&parsed.subject_public_key_info()))
}

fn own_params(now: Timestamp) -> Result<CertificateParams, SigningError> {
    let mut params = params(NAME, now, LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// A key whose private half is elsewhere.
struct ForeignKey([u8; 32]);

impl PublicKeyData for ForeignKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

/// The authority's name.
const NAME: &str = "Posthouse cluster";
/// The name that the manager's certificate is for, wherever the manager is.
pub const MANAGER_NAME: &str = "manager.posthouse.internal";
/// The files.
const KEY: &str = "ca.key";
const CERTIFICATE: &str = "ca.pem";
/// How long the authority's certificate lives.
const LIFE: Duration = Duration::from_hours(10 * 365 * 24);

#[cfg(test)]
mod tests {
    use std::fs;

    use x509_parser::prelude::{GeneralName, X509Certificate};

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_millis(1_795_000_000_123)
    }

    fn parse<'a>(der: &'a CertificateDer<'_>) -> X509Certificate<'a> {
        x509_parser::parse_x509_certificate(der).unwrap().1
    }

    #[test]
    fn the_authority_outlives_the_process_and_its_pin_the_certificate() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Authority::pin_in(folder.path()).unwrap(), None);
        let made = Authority::open_or_make(folder.path(), now()).unwrap();
        assert_eq!(Authority::pin_in(folder.path()).unwrap(), Some(made.pin()));
        let later = now() + Duration::from_hours(1);
        let again = Authority::open_or_make(folder.path(), later).unwrap();
        assert_eq!((again.pin(), again.certificate()), (made.pin(), made.certificate()));
        let certificate = parse(made.certificate());
        assert_eq!(certificate.subject().to_string(), "CN=Posthouse cluster");
        assert!(certificate.is_ca());
        assert_eq!(certificate.validity().not_before.timestamp(), 1_795_000_000 - 48 * 3600);
        assert_eq!(made.pin(), Pin::of_spki(certificate.public_key().raw));

        fs::remove_file(folder.path().join(CERTIFICATE)).unwrap();
        assert_eq!(Authority::open_or_make(folder.path(), later).unwrap().pin(), made.pin());
    }

    #[test]
    fn an_authority_whose_key_is_lost_or_another_is_not_replaced() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Authority::open_or_make(folder.path(), now()).unwrap();
        Authority::open_or_make(other.path(), now()).unwrap();
        fs::copy(other.path().join(CERTIFICATE), folder.path().join(CERTIFICATE)).unwrap();
        let error = Authority::open_or_make(folder.path(), now()).unwrap_err();
        assert!(matches!(error, AuthorityError::NotOurs { .. }), "{error}");
        fs::write(folder.path().join(CERTIFICATE), "nonsense").unwrap();
        assert!(matches!(Authority::pin_in(folder.path()), Err(AuthorityError::NotOurs { .. })));
        let error = Authority::open_or_make(folder.path(), now()).unwrap_err();
        assert!(error.hint().unwrap().contains("the pin stays"), "{error}");
        fs::remove_file(folder.path().join(KEY)).unwrap();
        let error = Authority::open_or_make(folder.path(), now()).unwrap_err();
        assert!(matches!(error, AuthorityError::NoKey { .. }), "{error}");
        assert!(!folder.path().join(KEY).exists());
    }

    #[test]
    fn a_certificate_names_the_role_and_lives_for_a_week() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_make(folder.path(), now()).unwrap();
        let (id, key) = (NodeId::generate(), PublicKey::from_bytes([7; 32]));
        let hex_name = format!("{id}.node.posthouse.internal");
        let mut serials = Vec::new();
        for (role, name, serves) in
            [(Role::Manager, MANAGER_NAME, true), (Role::Worker, hex_name.as_str(), false)]
        {
            let issued = authority.issue(role, id, &key, now()).unwrap();
            assert_eq!(issued.chain[1], *authority.certificate());
            let certificate = parse(&issued.chain[0]);
            assert_eq!(PublicKey::from_spki(certificate.public_key().raw), Some(key));
            let names = certificate.subject_alternative_name().unwrap().unwrap();
            assert_eq!(names.value.general_names, [GeneralName::DNSName(name)]);
            let usages = certificate.extended_key_usage().unwrap().unwrap().value;
            assert_eq!((usages.server_auth, usages.client_auth, usages.any), (serves, true, false));
            assert!(!certificate.is_ca());
            let life = certificate.validity();
            assert_eq!(life.not_before.timestamp(), 1_795_000_000 - 48 * 3600);
            assert_eq!(life.not_after.timestamp() * 1_000_000, issued.not_after.micros());
            assert_eq!(life.not_after.timestamp(), 1_795_000_000 + 7 * 24 * 3600);
            serials.push(certificate.raw_serial().to_vec());
        }
        assert_eq!(serials[0].len(), 16);
        assert_ne!(serials[0], serials[1]);
    }

    #[test]
    fn the_next_certificate_is_asked_for_between_half_and_four_fifths_of_a_life() {
        let day = Duration::from_hours(24);
        assert_eq!(renewal(now(), 0.0), now() + day.mul_f64(3.5));
        let latest = renewal(now(), 1.0).since(now());
        assert!(latest.abs_diff(day.mul_f64(5.6)) < Duration::from_millis(1), "{latest:?}");
        assert_eq!(renewal(now(), 7.0), renewal(now(), 1.0));
        assert!(renewal(now(), f64::NAN) > renewal(now(), 0.0));
    }
}
