//! The socket's file: made for one user, taken over from the dead, never from the living.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use base::Shutdown;
use tokio::net::UnixListener;

use super::{NodeView, router, socket_path};

/// The longest path that fits into the address of a Unix socket (unix(7)).
const MAX_PATH: usize = 107;

/// The control socket cannot be opened. Each is one plain line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// A node runs on this data directory.
    #[error("a node is already running on {}", data_dir.display())]
    Running {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// Something that is no socket has its name.
    #[error("{} is in the way: it is not a socket, so move it away", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
    },
    /// The path does not fit.
    #[error("the path {} is too long for a socket ({MAX_PATH} bytes): use a shorter data directory", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot open the control socket {}: {source}", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A node's control socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It is gone already when someone else has cleared the data directory.
        let _ = fs::remove_file(&self.0);
    }
}

impl ControlSocket {
    /// Opens the socket of the node that owns `data_dir`. The socket of a dead node is replaced.
    ///
    /// It is made under another name and renamed once only its owner may open it, so nobody can
    /// come in before.
    ///
    /// # Errors
    /// A node is running there, or the socket cannot be made.
    pub fn open(data_dir: &Path) -> Result<Self, SocketError> {
        let path = socket_path(data_dir);
        let made = path.with_extension("new");
        if made.as_os_str().len() > MAX_PATH || path.as_os_str().len() > MAX_PATH {
            return Err(SocketError::TooLong { path });
        }
        clear(data_dir, &path)?;
        let open = || {
            remove_if_there(&made)?;
            let listener = UnixListener::bind(&made)?;
            fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
            fs::rename(&made, &path)?;
            Ok(listener)
        };
        let listener = open().map_err(|source| SocketError::Open { path: path.clone(), source })?;
        Ok(Self { listener, file: SocketFile(path) })
    }

    /// Answers what comes over the socket until the node stops.
    ///
    /// # Errors
    /// The socket fails.
    pub async fn serve<V: NodeView>(self, view: Arc<V>, stop: Shutdown) -> io::Result<()> {
        let Self { listener, file } = self;
        let served = axum::serve(listener, router(view))
            .with_graceful_shutdown(async move { stop.stopping().await })
            .await;
        drop(file);
        served
    }
}

/// Makes sure that no living node has the socket.
fn clear(data_dir: &Path, path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Open { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::InTheWay { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::Running { data_dir: data_dir.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
