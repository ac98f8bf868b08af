//! Forgetting what is too old or too much, a little at a time.

use std::time::Duration;

use base::Timestamp;
use rusqlite::{Connection, TransactionBehavior, named_params};

use super::{Records, Result};

/// How long records are kept, and how much of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// A message's records go once the last of them is so old; nothing: never.
    pub keep: Option<Duration>,
    /// The oldest go while all take more bytes than this; nothing: they may take what they want.
    pub max_bytes: Option<u64>,
}

/// What a step has forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Records that are gone.
    pub records: u64,
    /// Records that were looked at; fewer than asked for: there is nothing more to forget now.
    pub looked_at: usize,
    /// Why.
    pub because: Because,
}

/// Why records are forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Because {
    /// They are too old.
    #[default]
    Old,
    /// They take too much room.
    Large,
}

/// What the log takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    page: u64,
    pages: u64,
    free: u64,
}

/// Pages that are free are given back when they are more than this part of all, else new records use them.
const GIVEN_BACK_ABOVE: u64 = 8;
/// So many pages are given back at once: 4 MiB, which takes some milliseconds.
const GIVEN_BACK_AT_ONCE: u64 = 512;

impl Records {
    /// Looks at the `most` oldest records that it has not looked at, and forgets the messages of which it has seen the
    /// last one, if that is too old, or while all take too much room. A message's records go together, so that none is
    /// left without its reception.
    ///
    /// # Errors
    /// The log cannot be written; then nothing was forgotten.
    pub fn forget(&mut self, retention: Retention, now: Timestamp, most: usize) -> Result<Forgotten> {
        let forgotten = self.try_forget(retention, now, most);
        self.hear(forgotten)
    }

    /// Gives room that forgetting has left back to the file system, a little of it. Logs of before this could be done keep
    /// their size and use the room for new records.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn give_back(&mut self) -> Result<()> {
        let given_back = self.try_give_back();
        self.hear(given_back)
    }

    fn try_forget(
        &mut self,
        retention: Retention,
        now: Timestamp,
        most: usize,
    ) -> rusqlite::Result<Forgotten> {
        let is_large = match retention.max_bytes {
            Some(max) => Size::of(&self.connection)?.used() > max,
            None => false,
        };
        let (before, because) = match retention.keep {
            _ if is_large => (i64::MAX, Because::Large),
            Some(keep) => ((now - keep).micros(), Because::Old),
            None => return Ok(Forgotten::default()),
        };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let rows: Vec<(i64, i64)> = transaction
            .prepare_cached("SELECT id, at FROM record WHERE id > ? ORDER BY id LIMIT ?")?
            .query_map((self.passed, i64::try_from(most).unwrap_or(i64::MAX)), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let looked_at = rows.iter().take_while(|(_, at)| *at < before).count();
        let Some((last, _)) = looked_at.checked_sub(1).and_then(|at| rows.get(at)) else {
            return Ok(Forgotten { because, ..Forgotten::default() });
        };
        let records = transaction
            .prepare_cached(
                "DELETE FROM record WHERE message IN (
                    SELECT seen.message FROM record seen
                    WHERE seen.id > :passed AND seen.id <= :last AND NOT EXISTS (
                        SELECT 1 FROM record later
                        WHERE later.message = seen.message AND later.id > seen.id))",
            )?
            .execute(named_params! { ":passed": self.passed, ":last": last })?;
        transaction.commit()?;
        self.passed = *last;
        Ok(Forgotten { records: records as u64, looked_at, because })
    }

    fn try_give_back(&self) -> rusqlite::Result<()> {
        let size = Size::of(&self.connection)?;
        if size.free <= GIVEN_BACK_AT_ONCE || size.free <= size.pages / GIVEN_BACK_ABOVE {
            return Ok(());
        }
        // It gives back a page a step.
        let mut statement =
            self.connection.prepare(&format!("PRAGMA incremental_vacuum({GIVEN_BACK_AT_ONCE})"))?;
        let mut steps = statement.query([])?;
        while steps.next()?.is_some() {}
        Ok(())
    }
}

impl Size {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let number = |name: &str| {
            connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
        };
        Ok(Self { page: number("page_size")?, pages: number("page_count")?, free: number("freelist_count")? })
    }

    /// What records and their index take.
    fn used(self) -> u64 {
        self.page * self.pages.saturating_sub(self.free)
    }
}
