//! The message log: one record per thing that happened to one recipient.
//!
//! Records are a projection of the spool: a projector reads what was synced there, in order, and
//! writes it here in batches together with how far it has read ([`Position`]), in one transaction.
//! After a crash it reads again from that position; what is already here is ignored, because a
//! record is unique on work, recipient number, kind and, for attempts and ends, epoch.
//!
//! * takes: batches of borrowed [`Record`]s from one thread ([`Records`], the only writer)
//! * does: keeps them in one table, in the order in which they were written
//! * forgets: what is too old or too much, a little at a time ([`Retention`])
//! * gives: the story of a message, a search, and counts ([`Reader`], any number of them)

mod names;
mod reader;
mod record;
mod retention;
mod schema;
mod writer;

pub use crate::{Error, Result};

/// Copies the log as it stands at one moment, while it is written; `to` must not be there yet. `progress` is told from time
/// to time how many bytes are copied.
///
/// # Errors
/// The log cannot be read, or the copy not be written.
pub fn copy(from: &Path, to: &Path, progress: &mut dyn FnMut(u64)) -> Result<()> {
    schema::LOG.copy(from, to, progress)
}
use std::path::Path;

pub use reader::{Counts, Entry, Filter, Reader};
pub use record::{
    Conclusion, Duplicate, Happened, Kind, Outcome, OwnedRecord, Reception, Record, Refusal, Source, What,
};
pub use retention::{Because, Forgotten, Retention};
pub use schema::SCHEMA_VERSION;
pub use writer::{Position, Records};
