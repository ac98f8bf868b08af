//! The tables of the message log, and the checks on opening a file.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};

use super::{Error, Result};

/// The newest version of the tables that this program knows (`PRAGMA user_version`).
pub const SCHEMA_VERSION: i64 = 1;

/// What tells our file from the SQLite files of others (`PRAGMA application_id`): "PHrl".
const APPLICATION_ID: i64 = 0x5048_726c;

/// How long to wait for a lock that only a backup or an SQL shell can hold.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The columns of a record, in the order of the table.
pub(super) const COLUMNS: [&str; 23] = [
    "message",
    "work",
    "recipient",
    "kind",
    "epoch",
    "at",
    "node",
    "sender",
    "address",
    "size",
    "source",
    "client",
    "helo",
    "protocol",
    "outcome",
    "reason",
    "remote_host",
    "remote_address",
    "reply",
    "attempt",
    "until",
    "delay",
    "duplicate",
];

// The table has a row id of its own: rows are appended in the order of the log, so the newest
// come first without an index on time, and appending is the cheapest insert there is. The unique
// key is the one index; it starts with the message's id, which grows with time.
// Measured: 3.1 us of CPU a message with one reception and one end (examples/records.rs), as much
// as a table clustered on the key costs, which would give no order of time.
const TABLES: &str = "
    CREATE TABLE name (
        id INTEGER PRIMARY KEY,
        text TEXT NOT NULL UNIQUE
    );
    CREATE TABLE record (
        id INTEGER PRIMARY KEY,
        message BLOB NOT NULL,      -- 16 bytes
        work INTEGER NOT NULL,      -- which work of the message, from 0
        recipient INTEGER NOT NULL, -- which recipient of the work, from 0
        kind INTEGER NOT NULL,      -- 1 reception, 2 attempt, 3 end
        epoch INTEGER NOT NULL,     -- of receptions 0
        at INTEGER NOT NULL,        -- microseconds since 1970, as all times here
        node INTEGER,               -- name.id
        sender TEXT,                -- of receptions, up to protocol
        address TEXT,
        size INTEGER,
        source INTEGER,             -- 1 smtp, 2 control, 3 dsn
        client TEXT,
        helo TEXT,
        protocol TEXT,
        outcome INTEGER,            -- of attempts and ends, from here on: 1 deferred, 2 delivered,
                                    -- 3 failed, 4 expired, 5 cancelled, 6 lost
        reason INTEGER,             -- name.id
        remote_host INTEGER,        -- name.id
        remote_address TEXT,
        reply TEXT,
        attempt INTEGER,
        until INTEGER,
        delay INTEGER,              -- microseconds since intake
        duplicate INTEGER,          -- 1: the recipient may have got it twice
        UNIQUE (message, work, recipient, kind, epoch)
    );
    CREATE TABLE position (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        spool BLOB NOT NULL,
        sequence INTEGER NOT NULL
    );
";

/// Opens the log for writing; a new file gets the tables.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection> {
    make_private(path)?;
    let connection = Connection::open(path).map_err(|e| Error::at(path, e))?;
    prepare(path, &connection)?;
    Ok(connection)
}

/// Makes the file, unless it is there, so that only its owner can read it; what SQLite makes beside it follows suit.
fn make_private(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    let made = options.write(true).create(true).truncate(false).mode(0o600).open(path);
    made.map(drop).map_err(|source| Error::Unmakeable { path: path.to_owned(), source })
}

/// Opens the log for reading only; it must be there.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| Error::at(path, e))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| Error::at(path, e))?;
    match check(path, &connection)? {
        Found::Ours => Ok(connection),
        Found::Empty => Err(Error::Foreign { path: path.to_owned() }),
    }
}

enum Found {
    Empty,
    Ours,
}

fn check(path: &Path, connection: &Connection) -> Result<Found> {
    let number =
        |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|e| Error::at(path, e));
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let application = number("PRAGMA application_id")?;
    let found = number("PRAGMA user_version")?;
    if tables == 0 && application == 0 && found == 0 {
        return Ok(Found::Empty);
    }
    if application != APPLICATION_ID {
        return Err(Error::Foreign { path: path.to_owned() });
    }
    if found > SCHEMA_VERSION {
        return Err(Error::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION });
    }
    Ok(Found::Ours)
}

fn prepare(path: &Path, connection: &Connection) -> Result<()> {
    let run = |sql: &str| connection.execute_batch(sql).map_err(|e| Error::at(path, e));
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| Error::at(path, e))?;
    let found = check(path, connection)?;
    if matches!(found, Found::Empty) {
        run("PRAGMA page_size = 8192")?;
    }
    // A log of 16 MiB between two checkpoints lets pages that are written often be copied once.
    run("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 2048;
         PRAGMA cache_size = -16384")?;
    if matches!(found, Found::Empty) {
        run(&format!(
            "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID};
             PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
        ))?;
    }
    Ok(())
}
