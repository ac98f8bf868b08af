//! What a node keeps in SQL: one file per aggregate, each concrete and with its own schema version.
//!
//! For now that is the message log ([`records`]) in SQLite.

pub mod records;
