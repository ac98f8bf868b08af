//! What can go wrong with the message log, and what an operator does about it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// The message log cannot be opened, read or written. Each is one plain line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is of another program, or no database at all.
    #[error(
        "{} is not a message log of Posthouse: move it away, or choose another data directory; \
         a new log is made at the next start and mail is not touched",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is ours and broken.
    #[error(
        "the message log {} is damaged: move it and the -wal and -shm files beside it away and start \
         again; a new log is made and mail is not touched ({source})",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file was written by a newer Posthouse.
    #[error(
        "the message log {} has schema version {found} and this Posthouse knows up to {known}: \
         run the newer Posthouse again, or move the log away",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The file cannot be made.
    #[error("the message log {} cannot be made: {source}", path.display())]
    Unmakeable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be opened, read or written now.
    #[error("the message log {}: {source}", path.display())]
    Sql {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl Error {
    /// Names the file and tells damage from the rest.
    pub(super) fn at(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::Foreign { path },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, source },
            _ => Self::Sql { path, source },
        }
    }
}
