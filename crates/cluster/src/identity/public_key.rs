//! A node's public key: what the manager's registry holds, and what an operator pastes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use ssh_key::{
    HashAlg,
    public::{Ed25519PublicKey, KeyData},
};

/// An Ed25519 public key. As text it is the line that OpenSSH would print for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key as it is stored.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The key from its stored form.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// `SHA256:` and 43 characters, as `ssh-keygen -l` prints it: short enough to be compared by eye.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        KeyData::from(Ed25519PublicKey(self.0)).fingerprint(HashAlg::Sha256).to_string()
    }

    /// The key of a certificate's SubjectPublicKeyInfo in DER (RFC 8410, section 4); nothing if it is of another kind.
    pub(crate) fn from_spki(spki: &[u8]) -> Option<Self> {
        spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok().map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = ssh_key::PublicKey::from(KeyData::from(Ed25519PublicKey(self.0)));
        f.write_str(&key.to_openssh().map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

/// The text is not the public key of a node. Each is one plain line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// There is nothing.
    #[error("there is no key: paste the line that `posthouse identity show` prints")]
    Empty,
    /// It is several lines.
    #[error("that is more than one line: give one key at a time, as `posthouse identity show` prints it")]
    Lines,
    /// It is a PEM block that is, or may be, a private key.
    #[error(
        "that is the inside of a key file, which no one else must see: \
         give the line that `posthouse identity show` prints"
    )]
    KeyFile,
    /// It is a fingerprint.
    #[error(
        "that is a key's fingerprint, and the key cannot be told from it: \
         paste the line that `posthouse identity show` prints"
    )]
    Fingerprint,
    /// It is a key of another kind.
    #[error("that is an {0} key; a node's key is ssh-ed25519, as `posthouse identity show` prints it")]
    Kind(String),
    /// It is something else.
    #[error("that is not a public key: paste the line that `posthouse identity show` prints")]
    Other,
    /// Its end is missing.
    #[error("the key is cut short: paste the whole line that `posthouse identity show` prints")]
    Short,
    /// Its letters are not those of any key.
    #[error("the key has a wrong letter in it: paste the line that `posthouse identity show` prints again")]
    Damaged,
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    /// Reads a line as OpenSSH writes it; what follows the key is a comment.
    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let text = text.trim();
        if text.starts_with("-----BEGIN") {
            return Err(PublicKeyError::KeyFile);
        }
        if text.contains(['\n', '\r']) {
            return Err(PublicKeyError::Lines);
        }
        let mut words = text.split_whitespace();
        match words.next() {
            None => return Err(PublicKeyError::Empty),
            Some(KIND) => {}
            Some(word) if word.starts_with("SHA256:") => return Err(PublicKeyError::Fingerprint),
            Some(word) if is_kind(word) => return Err(PublicKeyError::Kind(word.into())),
            Some(word) if KIND.starts_with(word) => return Err(PublicKeyError::Short),
            Some(_) => return Err(PublicKeyError::Other),
        }
        let letters = words.next().unwrap_or_default();
        if letters.len() < LETTERS {
            return Err(PublicKeyError::Short);
        }
        let key = ssh_key::PublicKey::from_openssh(&format!("{KIND} {letters}"));
        let key = key.map_err(|_| PublicKeyError::Damaged)?;
        key.key_data().ed25519().map(|key| Self(key.0)).ok_or(PublicKeyError::Damaged)
    }
}

/// Whether OpenSSH calls a kind of keys so.
fn is_kind(word: &str) -> bool {
    const BEGINS: [&str; 4] = ["ssh-rsa", "ssh-dss", "ecdsa-", "sk-"];
    word.len() <= 64
        && word.bytes().all(|b| b.is_ascii_graphic())
        && BEGINS.iter().any(|b| word.starts_with(b))
}

/// What OpenSSH calls the kind of our keys.
const KIND: &str = "ssh-ed25519";
/// So many letters of base64 a key of that kind is.
const LETTERS: usize = 68;
/// What is before the key in a SubjectPublicKeyInfo: SEQUENCE { SEQUENCE { id-Ed25519 } BIT STRING }.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[cfg(test)]
mod tests {
    use super::*;

    // Made by ssh-keygen, as is its fingerprint.
    const LINE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICo8OC9I92UxbODOTsGxbThpWupQ63LMeuW7gQqfWNDH";
    const FINGERPRINT: &str = "SHA256:ldGLos9I34yhbFC0qEKAD9huE2a7NsmKN9/nJVCDAWo";

    #[test]
    fn a_key_is_read_and_written_as_openssh_writes_it() {
        let key: PublicKey = LINE.parse().unwrap();
        assert_eq!(key.to_string(), LINE);
        assert_eq!(key.fingerprint(), FINGERPRINT);
        assert_eq!(format!(" {LINE} root@mx1.example.com, the new one\r\n").parse(), Ok(key));
        assert_eq!(PublicKey::from_bytes(key.to_bytes()), key);
        let spki = [&SPKI_PREFIX[..], &key.to_bytes()].concat();
        assert_eq!(PublicKey::from_spki(&spki), Some(key));
        assert_eq!(PublicKey::from_spki(&spki[..43]), None);
    }

    #[test]
    fn a_text_that_is_no_key_of_a_node_says_what_to_do() {
        let two = format!("{LINE}\n{LINE}");
        let changed = LINE.replace("C3Nza", "C3Nzb");
        for (text, error) in [
            (" ", PublicKeyError::Empty),
            (two.as_str(), PublicKeyError::Lines),
            ("-----BEGIN PRIVATE KEY-----\nMFECA\n", PublicKeyError::KeyFile),
            (FINGERPRINT, PublicKeyError::Fingerprint),
            ("ssh-rsa AAAAB3NzaC1yc2E= anna", PublicKeyError::Kind("ssh-rsa".into())),
            ("ecdsa-sha2-nistp256 AAAA", PublicKeyError::Kind("ecdsa-sha2-nistp256".into())),
            ("mx1.example.com", PublicKeyError::Other),
            ("ssh-ed25519", PublicKeyError::Short),
            ("ssh-ed", PublicKeyError::Short),
            (&LINE[..LINE.len() - 1], PublicKeyError::Short),
            (&format!("{LINE}A"), PublicKeyError::Damaged),
            (&changed, PublicKeyError::Damaged),
        ] {
            assert_eq!(text.parse::<PublicKey>(), Err(error.clone()), "{text}");
            let line = error.to_string();
            assert!(line.contains("`posthouse identity show`") && !line.contains('\n'), "{line}");
        }
        let error = "ssh-rsa AAAA".parse::<PublicKey>().unwrap_err().to_string();
        assert!(error.starts_with("that is an ssh-rsa key; a node's key is ssh-ed25519"), "{error}");
    }
}
