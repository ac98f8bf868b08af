//! What can go wrong with a file of ours, and what an operator does about it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use rusqlite::ErrorCode;

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// [`records`](crate::records).
    MessageLog,
    /// [`settings`](crate::settings).
    Settings,
}

impl Which {
    /// What starting without the file means.
    fn without(self) -> &'static str {
        match self {
            Self::MessageLog => "a new log is made and mail is not touched",
            Self::Settings => "new settings are made, without the pauses and suppressed addresses of these",
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MessageLog => "message log",
            Self::Settings => "settings",
        })
    }
}

/// A file cannot be opened, read or written. Each is one plain line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is of another program, or no database at all.
    #[error(
        "{} is not the {which} of a Posthouse: move it away, or choose another data directory; at the next start {}",
        path.display(),
        which.without()
    )]
    Foreign {
        /// Which one it should be.
        which: Which,
        /// The file.
        path: PathBuf,
    },
    /// The file is ours and broken.
    #[error(
        "the {which} {} is damaged: move it and the -wal and -shm files beside it away and start again; {} ({source})",
        path.display(),
        which.without()
    )]
    Damaged {
        /// Which one.
        which: Which,
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file was written by a newer Posthouse.
    #[error(
        "the {which} {} has schema version {found} and this Posthouse knows up to {known}: \
         run the newer Posthouse again, or move the file away",
        path.display()
    )]
    Newer {
        /// Which one.
        which: Which,
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// The file cannot be made.
    #[error("the {which} {} cannot be made: {source}", path.display())]
    Unmakeable {
        /// Which one.
        which: Which,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be opened, read or written now.
    #[error("the {which} {}: {source}", path.display())]
    Sql {
        /// Which one.
        which: Which,
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// It is over a limit.
    #[error("{0}")]
    TooMuch(String),
}

/// What the operations of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Names the file and tells damage from the rest.
    pub(crate) fn at(which: Which, path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::Foreign { which, path },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { which, path, source },
            _ => Self::Sql { which, path, source },
        }
    }
}
