//! What can go wrong with a queue.

use std::{io, sync::Arc};

/// The queue could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// The node is stopping, or the queue has failed and takes nothing more.
    #[error("the queue is closed")]
    Closed,
    /// What was published or concluded breaks a limit of the queue.
    #[error("too large for the queue: {0}")]
    TooLarge(String),
    /// The node that keeps the queue cannot be reached.
    #[error("the manager cannot be reached")]
    Away,
    /// There is no room on the disk.
    #[error("no space left for the spool")]
    NoSpace,
    /// What is stored is not what was written.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The disk failed.
    #[error("the disk failed: {0}")]
    Disk(Arc<io::Error>),
    /// The directory is not ours to use.
    #[error("{0}")]
    Refused(String),
}

impl From<io::Error> for QueueError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            io::ErrorKind::UnexpectedEof => Self::Damaged("a file is shorter than it was".into()),
            _ => Self::Disk(Arc::new(error)),
        }
    }
}
