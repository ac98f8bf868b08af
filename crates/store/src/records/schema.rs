//! The tables of the message log.

use crate::{Which, database::Database};

/// The newest version of the tables that this program knows (`PRAGMA user_version`).
pub const SCHEMA_VERSION: i64 = 1;

/// The message log's file.
pub(super) const LOG: Database = Database {
    which: Which::MessageLog,
    application_id: 0x5048_726c, // "PHrl"
    schema_version: SCHEMA_VERSION,
    // That pages can be given back costs 0.1 us of CPU a message (examples/records.rs, which says 3.6 in all).
    shape: "PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL",
    habits: "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -2048",
    tables: TABLES,
    upgrades: &[],
};

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
        kind INTEGER NOT NULL,      -- 1 reception, 2 attempt, 3 end, 4 refusal
        epoch INTEGER NOT NULL,     -- of receptions 0
        at INTEGER NOT NULL,        -- microseconds since 1970, as all times here
        node INTEGER,               -- name.id
        sender TEXT,                -- of receptions and refusals, up to protocol
        address TEXT,
        size INTEGER,
        source INTEGER,             -- 1 smtp, 2 control, 3 dsn
        client TEXT,
        helo TEXT,
        protocol TEXT,
        outcome INTEGER,            -- of attempts and ends, from here on: 1 deferred, 2 delivered,
                                    -- 3 failed, 4 expired, 5 cancelled, 6 lost;
                                    -- of refusals: 7
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
