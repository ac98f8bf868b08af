//! Who a node is: its id and the key that it proves itself with.
//!
//! * takes: the data directory
//! * does: makes the key at the first start and keeps it there
//! * gives: the public key for the manager's registry, and a certificate of the node's own for joining

mod key_file;
mod public_key;

use std::{path::Path, sync::Arc, time::Duration};

use base::{NodeId, Timestamp};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _, SerialNumber};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub use key_file::KeyFileError;
pub(crate) use key_file::{make_key, read, read_key, write};
pub use public_key::{PublicKey, PublicKeyError};

/// A node's id and its key. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    id: NodeId,
    key: Arc<KeyPair>,
}

impl Identity {
    /// The identity of the node whose data directory `dir` is; its key is made if there is none.
    ///
    /// # Errors
    /// The key's file cannot be read or made, or holds something else.
    pub fn open_or_make(dir: &Path, id: NodeId) -> Result<Self, KeyFileError> {
        let path = dir.join(KEY);
        let key = match read_key(&path)? {
            Some(key) => key,
            None => make_key(&path)?,
        };
        Ok(Self { id, key: Arc::new(key) })
    }

    /// The identity of the node whose data directory `dir` is; nothing is made.
    ///
    /// # Errors
    /// The key's file is not there, cannot be read, or holds something else.
    pub fn read(dir: &Path, id: NodeId) -> Result<Self, KeyFileError> {
        let path = dir.join(KEY);
        let key = read_key(&path)?.ok_or(KeyFileError::Missing { path })?;
        Ok(Self { id, key: Arc::new(key) })
    }

    /// The id of the node's data directory.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// What others know the node by.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        let spki = self.key.subject_public_key_info();
        PublicKey::from_spki(&spki).expect("only Ed25519 keys are made and read")
    }

    /// The private key, in PKCS#8.
    #[must_use]
    pub fn private_key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// A certificate that the node gives itself to join with. It says nothing but the key; it is dated as issued ones
    /// are, since a worker's clock may be off.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn self_signed(&self, now: Timestamp) -> Result<CertificateDer<'static>, SigningError> {
        let mut params = params(&format!("node {}", self.id), now, CERTIFICATE_LIFE)?;
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.self_signed(&*self.key).map_err(SigningError)?.into())
    }
}

/// A certificate cannot be made, which is our bug or a fault of this machine.
#[derive(Debug, thiserror::Error)]
#[error("a certificate cannot be made: {0}")]
pub struct SigningError(pub(crate) rcgen::Error);

/// What each of our certificates has: a name, a random serial number, and a life that begins before `now`.
pub(crate) fn params(name: &str, now: Timestamp, life: Duration) -> Result<CertificateParams, SigningError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| SigningError(rcgen::Error::RingUnspecified))?;
    // Positive, and of the same length always (RFC 5280, section 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let epoch = || rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch() + seconds(now - BACKDATED);
    params.not_after = epoch() + seconds(now + life);
    Ok(params)
}

/// Whole seconds since 1970 began, within the years that a certificate can name.
fn seconds(at: Timestamp) -> Duration {
    const YEAR_9999: u64 = 253_370_764_800;
    Duration::from_secs((at.millis() / 1000).min(YEAR_9999))
}

/// The file of the node's private key.
const KEY: &str = "node.key";
/// How long a node's certificate lives from when it was made.
pub(crate) const CERTIFICATE_LIFE: Duration = Duration::from_hours(7 * 24);
/// How long before it was made a certificate begins to be good: a node's clock may be off by so much.
const BACKDATED: Duration = Duration::from_hours(48);

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_millis(1_795_000_000_000)
    }

    #[test]
    fn a_node_keeps_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let id = NodeId::generate();
        let error = Identity::read(folder.path(), id).unwrap_err();
        assert!(matches!(error, KeyFileError::Missing { .. }), "{error}");
        assert!(error.hint().unwrap().contains("start the node once"));
        let made = Identity::open_or_make(folder.path(), id).unwrap();
        let again = Identity::open_or_make(folder.path(), id).unwrap();
        let read = Identity::read(folder.path(), id).unwrap();
        assert_eq!((again.public_key(), read.public_key()), (made.public_key(), made.public_key()));
        assert_eq!((read.id(), read.private_key_der()), (id, made.private_key_der()));
    }

    #[test]
    fn a_certificate_of_its_own_holds_the_key_and_is_dated_back() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::open_or_make(folder.path(), NodeId::generate()).unwrap();
        let der = identity.self_signed(now()).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(PublicKey::from_spki(certificate.public_key().raw), Some(identity.public_key()));
        let life = certificate.validity();
        assert_eq!(life.not_before.timestamp(), 1_795_000_000 - 48 * 3600);
        assert_eq!(life.not_after.timestamp(), 1_795_000_000 + 7 * 24 * 3600);
        assert_eq!(certificate.subject().to_string(), format!("CN=node {}", identity.id()));
        // A clock that was never set, or that is far ahead, does not make it fail.
        for now in [Timestamp::from_micros(-5), Timestamp::from_micros(i64::MAX)] {
            identity.self_signed(now).unwrap();
        }
    }
}
