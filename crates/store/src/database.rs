//! A database file of ours: made private, and told from those of others and of newer programs.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use rusqlite::{
    Connection, OpenFlags, Transaction, TransactionBehavior,
    backup::{Backup, StepResult},
};

use crate::{Error, Result, error::Which};

/// What there is to know of one of our files, in whatever version.
pub(crate) struct Database {
    pub(crate) which: Which,
    /// What tells it from the SQLite files of others (`PRAGMA application_id`).
    pub(crate) application_id: i64,
    /// The newest version of its tables that this program knows (`PRAGMA user_version`): 1 and one for each upgrade.
    pub(crate) schema_version: i64,
    /// What is said to a new file before anything is in it.
    pub(crate) shape: &'static str,
    /// What is said to a connection that writes.
    pub(crate) habits: &'static str,
    /// What makes the tables of version 1.
    pub(crate) tables: &'static str,
    /// What makes each next version of the one before, from version 1 on. A new file goes the same way, so that it
    /// cannot differ from one that was upgraded.
    pub(crate) upgrades: &'static [&'static str],
}

/// How long to wait for a lock that only a backup or an SQL shell can hold.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// So many pages are copied between two words on progress.
const COPIED_AT_ONCE: i32 = 256;

enum Found {
    Empty,
    /// Of this version.
    Ours(i64),
}

impl Database {
    /// Opens a file for writing; a new one gets the tables, and an older one those of this version.
    pub(crate) fn open_for_writing(&self, path: &Path) -> Result<Connection> {
        self.make_private(path)?;
        let connection = Connection::open(path).map_err(|e| self.error(path, e))?;
        let run = |sql: &str| connection.execute_batch(sql).map_err(|e| self.error(path, e));
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| self.error(path, e))?;
        let found = self.check(path, &connection)?;
        if matches!(found, Found::Empty) {
            run(self.shape)?;
        }
        run(self.habits)?;
        let sql = match found {
            Found::Empty => {
                let tables = format!("{} PRAGMA application_id = {};", self.tables, self.application_id);
                Some(tables + &self.upgrades.concat())
            }
            Found::Ours(version) => self.upgrades_from(version),
        };
        if let Some(sql) = sql {
            // In one transaction: a crash leaves the file as it was.
            let version = self.schema_version;
            let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)
                .map_err(|e| self.error(path, e))?;
            run(&format!("{sql} PRAGMA user_version = {version}"))?;
            transaction.commit().map_err(|e| self.error(path, e))?;
        }
        Ok(connection)
    }

    /// Opens a file for reading only; it must be there.
    pub(crate) fn open_for_reading(&self, path: &Path) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|e| self.error(path, e))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| self.error(path, e))?;
        match self.check(path, &connection)? {
            Found::Ours(_) => Ok(connection),
            Found::Empty => Err(Error::Foreign { which: self.which, path: path.to_owned() }),
        }
    }

    /// Copies a file as it stands at one moment, while others write it; `to` must not be there yet. In between, `progress`
    /// is told how many bytes are copied.
    pub(crate) fn copy(&self, from: &Path, to: &Path, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let source = self.open_for_reading(from)?;
        self.make_private(to)?;
        let copy = |progress: &mut dyn FnMut(u64)| -> rusqlite::Result<()> {
            // Within one transaction all pages are of one moment, and a writer does not make the copy begin again.
            let source = source.unchecked_transaction()?;
            let page: i64 = source.query_row("PRAGMA page_size", [], |row| row.get(0))?;
            source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            let mut target = Connection::open(to)?;
            let backup = Backup::new(&source, &mut target)?;
            while backup.step(COPIED_AT_ONCE)? == StepResult::More {
                let state = backup.progress();
                let done = i64::from(state.pagecount - state.remaining);
                progress((done * page).cast_unsigned());
            }
            Ok(())
        };
        copy(progress).map_err(|e| self.error(to, e))
    }

    /// What SQLite said of the file at `path`.
    pub(crate) fn error(&self, path: &Path, error: rusqlite::Error) -> Error {
        Error::at(self.which, path, error)
    }

    /// Makes the file, unless it is there, so that only its owner can read it; what SQLite makes beside it follows suit.
    fn make_private(&self, path: &Path) -> Result<()> {
        let mut options = OpenOptions::new();
        let made = options.write(true).create(true).truncate(false).mode(0o600).open(path);
        made.map(drop).map_err(|source| Error::Unmakeable {
            which: self.which,
            path: path.to_owned(),
            source,
        })
    }

    /// What makes the newest version of an older one; nothing for the newest.
    fn upgrades_from(&self, version: i64) -> Option<String> {
        let done = usize::try_from(version.max(1) - 1).ok()?;
        self.upgrades.get(done..).filter(|left| !left.is_empty()).map(<[&str]>::concat)
    }

    fn check(&self, path: &Path, connection: &Connection) -> Result<Found> {
        let number = |sql: &str| {
            connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|e| self.error(path, e))
        };
        let tables = number("SELECT count(*) FROM sqlite_schema")?;
        let application = number("PRAGMA application_id")?;
        let found = number("PRAGMA user_version")?;
        let (which, path) = (self.which, path.to_owned());
        if tables == 0 && application == 0 && found == 0 {
            return Ok(Found::Empty);
        }
        if application != self.application_id {
            return Err(Error::Foreign { which, path });
        }
        if found > self.schema_version {
            return Err(Error::Newer { which, path, found, known: self.schema_version });
        }
        Ok(Found::Ours(found))
    }
}
