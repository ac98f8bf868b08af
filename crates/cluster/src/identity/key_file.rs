//! Files of keys and certificates: there whole or not at all, and private.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rcgen::{KeyPair, PKCS_ED25519};

/// A file of a key or a certificate cannot be used. Each is one plain line.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be made, read or written.
    #[error("{} cannot be used: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not there.
    #[error("there is no key in {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It holds something else, or a part.
    #[error("{} does not hold an Ed25519 private key", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// No key can be made, which is a fault of this machine's randomness.
    #[error("no key can be made: {0}")]
    Unmakeable(rcgen::Error),
}

impl KeyFileError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unusable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run this as the user that the node runs as".into())
            }
            Self::Unusable { .. } | Self::Unmakeable(_) => None,
            Self::Missing { .. } => Some("start the node once: it makes its key at its first start".into()),
            Self::NotAKey { path } => Some(format!(
                "restore {} from a backup, or remove it for a new key, which the manager must be given",
                path.display()
            )),
        }
    }
}

/// Reads a private key; nothing if there is no file. One that others can read is reported in the log and used, since a
/// node that does not start helps nobody.
pub(crate) fn read_key(path: &Path) -> Result<Option<KeyPair>, KeyFileError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let mode = fs::metadata(path).map_err(|e| unusable(path, e))?.mode();
    if mode & 0o077 != 0 {
        tracing::warn!(
            file = %path.display(),
            mode = format!("{:o}", mode & 0o777),
            "others can read this private key: take that from them with chmod 600"
        );
    }
    let key = KeyPair::from_pkcs8_pem_and_sign_algo(&text, &PKCS_ED25519);
    key.map(Some).map_err(|_| KeyFileError::NotAKey { path: path.to_owned() })
}

/// Makes a private key and keeps it at `path`.
pub(crate) fn make_key(path: &Path) -> Result<KeyPair, KeyFileError> {
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(KeyFileError::Unmakeable)?;
    write(path, &key.serialize_pem())?;
    Ok(key)
}

/// Reads a file; nothing if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, KeyFileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(String::new())),
        Err(error) => Err(unusable(path, error)),
    }
}

/// Writes a file that only its owner can read, under another name first: it is there whole or not at all.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), KeyFileError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let replace = || -> io::Result<()> {
        // What a crash has left may be readable by others, and opening it would keep that so.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    replace().map_err(|e| unusable(path, e))
}

fn unusable(path: &Path, source: io::Error) -> KeyFileError {
    KeyFileError::Unusable { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_private_and_the_same_when_it_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        assert!(read_key(&path).unwrap().is_none());
        // What a crash has left does not stay, and does not lend its mode.
        let left = folder.path().join("node.key.new");
        fs::write(&left, "half").unwrap();
        let made = make_key(&path).unwrap();
        assert!(!left.exists());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_key(&path).unwrap().unwrap().serialize_der(), made.serialize_der());
    }

    #[test]
    fn a_key_that_others_can_read_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        make_key(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_key(&path).unwrap().is_some());
    }

    #[test]
    fn what_is_not_an_ed25519_key_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
        for text in ["", "nonsense", other.as_str()] {
            fs::write(&path, text).unwrap();
            let error = read_key(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::NotAKey { .. }), "{error}");
            assert!(error.hint().unwrap().contains("restore"));
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read_key(&path), Err(KeyFileError::NotAKey { .. })));
        let error = read_key(folder.path()).unwrap_err();
        assert!(matches!(error, KeyFileError::Unusable { .. }), "{error}");
    }
}
