//! The one writer of the message log.

use std::{
    ffi::c_int,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Statement, ToSql, Transaction, TransactionBehavior, ffi,
    hooks::{CheckpointMode, Wal},
    types::Null,
};

use super::{
    Outcome, Record, Result, What,
    names::Names,
    schema::{COLUMNS, LOG},
};
use crate::database::BUSY_TIMEOUT;

/// Rows a statement inserts at once. Measured: 10 cost a third less than one each, 50 no less.
const ROWS: usize = 10;

/// So many pages of the write-ahead log are checkpointed: 16 MiB let pages that are written often be copied once.
const CHECKPOINT_AT: c_int = 2048;

/// How long to wait for who reads before the write-ahead log can begin anew.
const FOR_READERS: Duration = Duration::from_millis(250);

/// How far the projector has read the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The spool that was read.
    pub spool: u128,
    /// The sequence number of the last frame that was read.
    pub sequence: u64,
}

/// The message log, opened for writing. One at a time, on a thread that may block.
#[derive(Debug)]
pub struct Records {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    names: Names,
    insert_rows: String,
    insert_row: String,
    /// The last record that forgetting has looked at since this log was opened.
    pub(super) passed: i64,
    syncs: Syncs,
}

/// Whether the write-ahead log holds nothing that a sync could pass over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syncs {
    Trusted,
    /// One has failed, or may have in the process before: what it was to write may be gone, and a later one would say nothing of it.
    Doubtful,
}

impl Records {
    /// Opens the log in the file at `path` and makes it if there is none.
    ///
    /// # Errors
    /// The file is foreign, damaged, newer than this program, or cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let connection = LOG.open_for_writing(&path)?;
        connection.wal_hook(Some(checkpoint));
        Ok(Self {
            path,
            connection,
            names: Names::default(),
            insert_rows: insert(ROWS),
            insert_row: insert(1),
            passed: 0,
            syncs: Syncs::Doubtful,
        })
    }

    /// Writes a batch and how far the projector has come with it, in one transaction.
    ///
    /// A record that is already there is ignored. When this returns, the batch survives a crash of
    /// the process; [`make_durable`](Self::make_durable) makes it survive a power loss.
    ///
    /// # Errors
    /// Nothing of the batch was written, and the position is the former one; or all was, and the disk failed behind it. Either way it can be
    /// written again.
    pub fn write(&mut self, batch: &[Record<&str>], position: Position) -> Result<()> {
        let written = self.try_write(batch, position);
        if written.is_err() {
            self.names.forget();
        }
        self.hear(written)
    }

    /// What SQLite said. After a failure of the disk no sync is trusted.
    pub(super) fn hear<T>(&mut self, said: rusqlite::Result<T>) -> Result<T> {
        if said.as_ref().is_err_and(is_io) {
            self.syncs = Syncs::Doubtful;
        }
        said.map_err(|e| LOG.error(&self.path, e))
    }

    /// How far the projector has come; nothing in a new log.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn position(&self) -> Result<Option<Position>> {
        self.connection
            .query_row("SELECT spool, sequence FROM position", [], |row| {
                Ok(Position {
                    spool: u128::from_be_bytes(row.get(0)?),
                    sequence: row.get::<_, i64>(1)?.cast_unsigned(),
                })
            })
            .optional()
            .map_err(|e| LOG.error(&self.path, e))
    }

    /// Makes all that was written so far survive a power loss.
    ///
    /// Commits are not synced one by one (`synchronous = NORMAL`), they are appended to the
    /// write-ahead log in order. One tiny commit with `synchronous = FULL` syncs that log, and with
    /// it every frame before its own; what had left the log earlier was synced into the database by
    /// the checkpoint that took it out (<https://sqlite.org/pragma.html#pragma_synchronous>). Unlike
    /// a checkpoint this neither waits for readers nor is cut short by them.
    ///
    /// After a sync that failed, and after a start, this is not enough: then all that the write-ahead log holds is first written anew,
    /// into the database, and the log begins anew.
    ///
    /// # Errors
    /// It is not known to be durable; segments of the spool must not be recycled on its account.
    pub fn make_durable(&mut self) -> Result<()> {
        let done = match self.syncs {
            Syncs::Trusted => self.sync(),
            Syncs::Doubtful => self.rewrite().and_then(|()| self.sync()),
        };
        if done.is_ok() {
            self.syncs = Syncs::Trusted;
        }
        self.hear(done)
    }

    fn sync(&self) -> rusqlite::Result<()> {
        let synced = self
            .connection
            .execute_batch("PRAGMA synchronous = FULL; UPDATE position SET one = one WHERE one = 1");
        let back = self.connection.execute_batch("PRAGMA synchronous = NORMAL");
        synced.and(back)
    }

    /// Moves all of the write-ahead log into the database, and empties it, once nobody reads from it
    /// (<https://sqlite.org/pragma.html#pragma_wal_checkpoint>).
    fn rewrite(&self) -> rusqlite::Result<()> {
        // Whoever reads for long is not waited for: this is tried again.
        self.connection.busy_timeout(FOR_READERS)?;
        let is_busy =
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        let is_busy = is_busy?;
        if is_busy {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None));
        }
        Ok(())
    }

    fn try_write(&mut self, batch: &[Record<&str>], position: Position) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (tens, rest) = batch.split_at(batch.len() - batch.len() % ROWS);
        for rows in tens.chunks(ROWS) {
            insert_rows(&transaction, &mut self.names, &self.insert_rows, rows)?;
        }
        for row in rest.chunks(1) {
            insert_rows(&transaction, &mut self.names, &self.insert_row, row)?;
        }
        transaction
            .prepare_cached("REPLACE INTO position (one, spool, sequence) VALUES (1, ?, ?)")?
            .execute((position.spool.to_be_bytes(), position.sequence.cast_signed()))?;
        transaction.commit()
    }
}

/// Checkpoints the write-ahead log once it is long. SQLite itself would pass over that the disk has failed at it.
fn checkpoint(wal: &Wal, pages: c_int) -> rusqlite::Result<()> {
    if pages < CHECKPOINT_AT {
        return Ok(());
    }
    match wal.checkpoint_v2(CheckpointMode::PASSIVE) {
        // The commit stands all the same, and is written again.
        Err(error) if is_io(&error) => Err(error),
        _ => Ok(()),
    }
}

fn is_io(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
}

fn insert(rows: usize) -> String {
    let row = format!("({})", ["?"; COLUMNS.len()].join(","));
    format!("INSERT OR IGNORE INTO record ({}) VALUES {}", COLUMNS.join(","), vec![row; rows].join(","))
}

fn insert_rows(
    transaction: &Transaction<'_>,
    names: &mut Names,
    sql: &str,
    rows: &[Record<&str>],
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(sql)?;
    let mut row = Row { statement: &mut statement, bound: 0 };
    for record in rows {
        row.bind_record(transaction, names, record)?;
    }
    statement.raw_execute()?;
    Ok(())
}

/// Binds values one after the other, in the order of [`COLUMNS`].
struct Row<'a, 'c> {
    statement: &'a mut Statement<'c>,
    bound: usize,
}

impl Row<'_, '_> {
    fn bind(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.bound += 1;
        self.statement.raw_bind_parameter(self.bound, value)
    }

    fn skip(&mut self, columns: usize) -> rusqlite::Result<()> {
        (0..columns).try_for_each(|_| self.bind(Null))
    }

    fn bind_record(
        &mut self,
        connection: &Connection,
        names: &mut Names,
        record: &Record<&str>,
    ) -> rusqlite::Result<()> {
        self.bind(&record.work.message.to_bytes()[..])?;
        self.bind(record.work.index)?;
        self.bind(record.recipient)?;
        self.bind(record.kind().number())?;
        self.bind(match &record.what {
            What::Reception(_) | What::Refusal(_) => 0,
            What::Conclusion(conclusion) => conclusion.epoch,
        })?;
        self.bind(record.at.micros())?;
        self.bind(names.number(connection, record.node)?)?;
        match &record.what {
            What::Reception(reception) => {
                self.bind(reception.sender)?;
                self.bind(reception.recipient)?;
                self.bind(reception.size.cast_signed())?;
                self.bind(reception.source.number())?;
                self.bind(reception.client)?;
                self.bind(reception.helo)?;
                self.bind(reception.protocol)?;
                self.skip(9)
            }
            What::Refusal(refusal) => {
                self.bind(refusal.sender)?;
                self.bind(refusal.recipient)?;
                self.skip(2)?;
                self.bind(refusal.client)?;
                self.bind(refusal.helo)?;
                self.skip(1)?;
                self.bind(record.happened().number())?;
                self.skip(3)?;
                self.bind(refusal.reply)?;
                self.skip(4)
            }
            What::Conclusion(conclusion) => {
                self.skip(7)?;
                self.bind(conclusion.outcome.happened().number())?;
                self.bind(names.number(connection, conclusion.reason)?)?;
                self.bind(names.number(connection, conclusion.remote_host)?)?;
                self.bind(conclusion.remote_address)?;
                self.bind(conclusion.reply)?;
                self.bind(conclusion.attempt)?;
                self.bind(match conclusion.outcome {
                    Outcome::Deferred { until } => Some(until.micros()),
                    _ => None,
                })?;
                self.bind(i64::try_from(conclusion.delay.as_micros()).unwrap_or(i64::MAX))?;
                self.bind(conclusion.duplicate.number())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base::{MessageId, Timestamp, WorkId};

    use super::{super::Duplicate, *};
    use crate::records::Conclusion;

    #[test]
    fn after_a_start_and_after_a_sync_that_failed_all_is_written_anew() {
        let folder = tempfile::TempDir::new().unwrap();
        let (path, copy) = (folder.path().join("records.db"), folder.path().join("copy.db"));
        let wal = || fs::metadata(folder.path().join("records.db-wal")).unwrap().len();
        let mut records = Records::open(&path).unwrap();
        // What stands in the database itself, whatever became of the write-ahead log.
        let alone = || {
            fs::copy(&path, &copy).unwrap();
            Records::open(&copy).ok()?.position().ok()?
        };
        let position = |sequence| Position { spool: 7, sequence };
        records.write(&[], position(1)).unwrap();
        records.make_durable().unwrap();
        assert_eq!((alone(), records.syncs), (Some(position(1)), Syncs::Trusted));
        for sequence in 2..9 {
            records.write(&[], position(sequence)).unwrap();
        }
        records.make_durable().unwrap();
        assert_eq!(alone(), Some(position(1)), "now a sync of the write-ahead log is enough");
        let long = wal();

        let failed = ffi::Error::new(ffi::SQLITE_IOERR_FSYNC);
        records.hear::<()>(Err(rusqlite::Error::SqliteFailure(failed, None))).unwrap_err();
        assert_eq!(records.syncs, Syncs::Doubtful);
        // While somebody reads, even what is newest, the log cannot begin anew.
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM position").unwrap();
        records.make_durable().unwrap_err();
        assert_eq!(records.syncs, Syncs::Doubtful);
        reader.execute_batch("COMMIT").unwrap();
        records.make_durable().unwrap();
        assert_eq!((alone(), records.syncs), (Some(position(8)), Syncs::Trusted));
        assert!(wal() < long, "it has begun anew");
    }

    fn end_of(message: MessageId) -> Record<&'static str> {
        let conclusion = Conclusion {
            epoch: 1,
            outcome: Outcome::Delivered,
            reason: "dot",
            remote_host: "mx.example.net",
            remote_address: "198.51.100.7:25",
            reply: "250 2.0.0 Ok",
            attempt: 1,
            delay: Duration::ZERO,
            duplicate: Duplicate::No,
        };
        let (work, at) = (WorkId { message, index: 0 }, Timestamp::from_millis(1));
        Record { work, recipient: 0, at, node: "mx1", what: What::Conclusion(conclusion) }
    }

    #[test]
    fn a_full_log_takes_nothing_of_a_batch_and_goes_on_when_there_is_room() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut records = Records::open(folder.path().join("records.db")).unwrap();
        let pages = |records: &Records, most: u32| {
            records.connection.query_row(&format!("PRAGMA max_page_count = {most}"), [], |_| Ok(())).unwrap();
        };
        let position = |sequence| Position { spool: 7, sequence };
        let batch = |from: u64| -> Vec<MessageId> {
            (from..from + 200).map(|n| MessageId::from_bytes(u128::from(n).to_be_bytes())).collect()
        };
        let rows =
            |ids: &[MessageId]| -> Vec<Record<&'static str>> { ids.iter().map(|id| end_of(*id)).collect() };
        records.write(&rows(&batch(0)), position(1)).unwrap();
        pages(&records, 1);
        let error = records.write(&rows(&batch(200)), position(2)).unwrap_err();
        assert!(error.to_string().contains("full"), "{error}");
        assert_eq!(records.position().unwrap(), Some(position(1)));
        records.make_durable().unwrap();
        pages(&records, u32::MAX / 2);
        records.write(&rows(&batch(200)), position(2)).unwrap();
        let count: i64 =
            records.connection.query_row("SELECT count(*) FROM record", [], |row| row.get(0)).unwrap();
        assert_eq!((count, records.position().unwrap()), (400, Some(position(2))));
    }
}
