//! The operator's wishes that outlive the process: what is paused, who gets no mail, and which nodes belong to the
//! cluster.
//!
//! They change seldom and must not be lost, so each change is synced when it returns (`synchronous = FULL`).
//!
//! * takes: a change from an operator's command
//! * does: keeps it in tables of its own, a file per aggregate
//! * gives: what is paused, whether an address is suppressed, and the nodes

mod nodes;
mod pauses;
mod suppressions;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::{Result, Which, database::Database};

pub use nodes::{Added, MAX_NODE_NAME, MAX_NODES, NewNode, Node, NodeState};
pub use pauses::{About, MAX_PAUSES, NewPause, Pause, PauseId};
pub use suppressions::{
    MAX_SUPPRESSED_AT_ONCE, MAX_SUPPRESSIONS, NewSuppression, Suppressed, Suppression, Suppressions,
};

/// The newest version of the tables that this program knows.
pub const SCHEMA_VERSION: i64 = 2;

/// The settings' file.
const SETTINGS: Database = Database {
    which: Which::Settings,
    application_id: 0x5048_7365, // "PHse"
    schema_version: SCHEMA_VERSION,
    shape: "",
    habits: "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -4096",
    tables: "
        CREATE TABLE pause (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            about INTEGER NOT NULL,     -- 1 all, 2 a domain, 3 an account, 4 a sender
            pattern TEXT NOT NULL,      -- empty: all
            until INTEGER,              -- microseconds since 1970, as all times here
            why TEXT NOT NULL,
            by TEXT NOT NULL,
            since INTEGER NOT NULL,
            UNIQUE (about, pattern)
        );
        CREATE TABLE suppression (
            key TEXT PRIMARY KEY,       -- the address in lower case
            address TEXT NOT NULL,
            until INTEGER,
            why TEXT NOT NULL,
            since INTEGER NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX suppression_until ON suppression (until) WHERE until IS NOT NULL;",
    upgrades: &["
        CREATE TABLE node (
            key BLOB PRIMARY KEY,       -- the Ed25519 public key, 32 bytes
            name TEXT NOT NULL COLLATE NOCASE UNIQUE,
            id BLOB,                    -- 16 bytes; nothing before it has come
            state INTEGER NOT NULL,     -- 1 active, 2 cordoned, 3 draining, 4 quarantined, 5 removed
            since INTEGER NOT NULL,     -- when it came into that state
            added INTEGER NOT NULL,
            seen INTEGER,
            boot BLOB,                  -- 16 bytes
            why TEXT NOT NULL
        ) WITHOUT ROWID;"],
};

/// The settings of a node. Everything here may wait for the disk.
#[derive(Debug)]
pub struct Settings {
    path: PathBuf,
    connection: Mutex<Connection>,
    /// How many addresses are suppressed, so that a node that suppresses none does not look.
    suppressed: AtomicU64,
}

impl Settings {
    /// Opens the settings in the file at `path` and makes it if there is none.
    ///
    /// # Errors
    /// The file is foreign, damaged, newer than this program, or cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let connection = SETTINGS.open_for_writing(&path)?;
        let settings = Self { path, connection: Mutex::new(connection), suppressed: AtomicU64::new(0) };
        settings.suppressed.store(settings.count_suppressions()?, Ordering::SeqCst);
        Ok(settings)
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        ask(&mut self.connection.lock()).map_err(|e| SETTINGS.error(&self.path, e))
    }
}

/// Copies the settings as they stand at one moment, while they change; `to` must not be there yet.
///
/// # Errors
/// They cannot be read, or the copy not be written.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    SETTINGS.copy(from, to, &mut |_| {})
}

/// The most that is kept of a reason that an operator gives, in bytes.
const MAX_WHY: usize = 1000;

/// The reason, cut where it is too long.
fn cut(why: &str) -> &str {
    &why[..why.floor_char_boundary(MAX_WHY)]
}
