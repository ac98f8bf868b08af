//! What a node keeps in SQL: one file per aggregate, each concrete.
//!
//! Two SQLite files, each with its own schema version: the message log ([`records`]), a projection that mail never waits
//! for, and the operator's wishes ([`settings`]).

mod database;
mod error;
pub mod records;
pub mod settings;

pub use error::{Error, Result, Which};
