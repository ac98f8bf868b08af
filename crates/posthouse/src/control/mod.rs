//! The control socket: how commands on the same machine speak to the node.
//!
//! HTTP/1.1 over a Unix socket in the data directory, which only the node's user may open.

mod client;
mod lines;
mod server;
mod socket;
mod view;

use std::path::{Path, PathBuf};

pub use client::{Client, ClientError};
pub use server::router;
pub use socket::{ControlSocket, SocketError};
pub use view::NodeView;

/// The header that says about how many bytes an answer has.
const EXPECTED: &str = "posthouse-expected-bytes";

/// The socket of the node whose data directory is `data_dir`.
#[must_use]
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("posthouse.sock")
}
