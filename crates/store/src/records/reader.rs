//! Reading the message log while it is written.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use base::{MessageId, Timestamp, WorkId};
use rusqlite::{Connection, OptionalExtension, Row, named_params, types::Type};

use super::{
    Conclusion, Duplicate, Happened, Outcome, OwnedRecord, Reception, Record, Refusal, Result, Source, What,
    schema::LOG,
};

/// How much later than it happened a thing may have been written and still be found by a search
/// in time: workers that were cut off report late.
const SLACK: Duration = Duration::from_secs(3600);

/// The message log, opened for reading only, on a connection of its own. It may block.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    connection: Connection,
}

/// A record, with sender and recipient from the record of its reception; empty if that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What happened.
    pub record: OwnedRecord,
    /// The envelope's sender.
    pub sender: String,
    /// The recipient's address.
    pub recipient: String,
}

/// Which records to find. Everything that is given must hold.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The recipient's address, in any case; `*` stands for anything.
    pub recipient: Option<String>,
    /// The sender's address, likewise; empty finds the null sender.
    pub sender: Option<String>,
    /// What happened at this moment or later.
    pub since: Option<Timestamp>,
    /// What happened before this moment.
    pub until: Option<Timestamp>,
    /// What happened.
    pub happened: Option<Happened>,
    /// The node where it happened, in any case.
    pub node: Option<String>,
    /// At most so many, the newest first.
    pub limit: u32,
}

/// How many records there are of each sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; Happened::ALL.len()]);

impl Counts {
    /// How many records say that this happened.
    #[must_use]
    pub fn of(&self, happened: Happened) -> u64 {
        Happened::ALL.iter().zip(self.0).find(|(each, _)| **each == happened).map_or(0, |(_, count)| count)
    }

    /// How many recipients have reached their end.
    #[must_use]
    pub fn ends(&self) -> u64 {
        let ends =
            [Happened::Delivered, Happened::Failed, Happened::Expired, Happened::Cancelled, Happened::Lost];
        ends.into_iter().map(|end| self.of(end)).sum()
    }
}

impl Default for Filter {
    /// The newest 100 records.
    fn default() -> Self {
        let (recipient, sender, node) = (None, None, None);
        Self { recipient, sender, since: None, until: None, happened: None, node, limit: 100 }
    }
}

/// A record with the words for its numbers, and sender and address from its reception.
const SELECT: &str = "
    SELECT r.message, r.work, r.recipient, r.epoch, r.at, node.text AS node,
        r.sender, r.address, r.size, r.source, r.client, r.helo, r.protocol,
        r.outcome, reason.text AS reason, host.text AS remote_host, r.remote_address, r.reply,
        r.attempt, r.until, r.delay, r.duplicate,
        coalesce(r.sender, first.sender) AS from_address,
        coalesce(r.address, first.address) AS to_address
    FROM record r
    LEFT JOIN record first
        ON r.kind <> 1 AND first.message = r.message AND first.work = r.work
        AND first.recipient = r.recipient AND first.kind = 1 AND first.epoch = 0
    LEFT JOIN name node ON node.id = r.node
    LEFT JOIN name reason ON reason.id = r.reason
    LEFT JOIN name host ON host.id = r.remote_host";

impl Reader {
    /// Opens the log in the file at `path`, which must be there.
    ///
    /// # Errors
    /// The file is missing, foreign, damaged, or newer than this program.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let connection = LOG.open_for_reading(&path)?;
        Ok(Self { path, connection })
    }

    /// The story of a message: all its records, in the order of time.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn message(&self, id: MessageId) -> Result<Vec<Entry>> {
        self.entries(
            &format!("{SELECT} WHERE r.message = :message ORDER BY r.at, r.id"),
            named_params! { ":message": &id.to_bytes()[..] },
        )
    }

    /// The records that `filter` asks for, the one written last first.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn search(&self, filter: &Filter) -> Result<Vec<Entry>> {
        let first = match filter.since {
            Some(since) => self.first_written_after(since - SLACK)?,
            None => 0,
        };
        let last = match filter.until {
            Some(until) => self.first_written_after(until + SLACK)?,
            None => i64::MAX,
        };
        self.entries(
            &format!(
                "{SELECT}
                WHERE r.id BETWEEN :first AND :last
                    AND r.at >= :since AND r.at < :until
                    AND (:happened IS NULL OR coalesce(r.outcome, 0) = :happened)
                    AND (:node IS NULL OR lower(node.text) = lower(:node))
                    AND (:recipient IS NULL OR lower(to_address) GLOB :recipient)
                    AND (:sender IS NULL OR lower(from_address) GLOB :sender)
                ORDER BY r.id DESC LIMIT :limit"
            ),
            named_params! {
                ":first": first,
                ":last": last,
                ":since": filter.since.map_or(i64::MIN, Timestamp::micros),
                ":until": filter.until.map_or(i64::MAX, Timestamp::micros),
                ":happened": filter.happened.map(Happened::number),
                ":node": filter.node,
                ":recipient": filter.recipient.as_deref().map(glob),
                ":sender": filter.sender.as_deref().map(glob),
                ":limit": filter.limit,
            },
        )
    }

    /// How many records there are of each sort. Reads the whole log.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn counts(&self) -> Result<Counts> {
        self.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT coalesce(outcome, 0), count(*) FROM record GROUP BY outcome")?;
            let mut counts = Counts::default();
            for row in statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))? {
                let (number, count) = row?;
                for (happened, sum) in Happened::ALL.into_iter().zip(&mut counts.0) {
                    if happened.number() == number {
                        *sum = count.cast_unsigned();
                    }
                }
            }
            Ok(counts)
        })
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        read(&self.connection).map_err(|e| LOG.error(&self.path, e))
    }

    fn entries(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<Entry>> {
        self.read(|connection| connection.prepare_cached(sql)?.query_map(parameters, entry)?.collect())
    }

    /// The first row that was written for a moment at or after `at`, near enough: rows are appended
    /// in about the order of time, so halving finds the place without an index on time.
    fn first_written_after(&self, at: Timestamp) -> Result<i64> {
        self.read(|connection| {
            let bounds = "SELECT coalesce(min(id), 0), coalesce(max(id), -1) + 1 FROM record";
            let (mut low, mut high): (i64, i64) =
                connection.query_row(bounds, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let mut probe = connection.prepare_cached("SELECT at FROM record WHERE id >= ? LIMIT 1")?;
            while low < high {
                let middle = low + (high - low) / 2;
                match probe.query_row([middle], |row| row.get::<_, i64>(0)).optional()? {
                    Some(found) if found < at.micros() => low = middle + 1,
                    _ => high = middle,
                }
            }
            Ok(low)
        })
    }
}

/// The pattern as SQLite's GLOB takes it, where only `*` is special.
fn glob(pattern: &str) -> String {
    pattern.to_ascii_lowercase().replace('[', "[[]").replace('?', "[?]")
}

/// A text of the row; empty if the reception or the name that it stands in is missing.
fn text(row: &Row<'_>, column: &str) -> rusqlite::Result<String> {
    Ok(row.get::<_, Option<String>>(column)?.unwrap_or_default())
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let what = match row.get("outcome")? {
        None => What::Reception(reception(row)?),
        Some(outcome) if Happened::from_number(outcome) == Some(Happened::Refused) => {
            What::Refusal(refusal(row)?)
        }
        Some(outcome) => What::Conclusion(conclusion(row, outcome)?),
    };
    Ok(Entry {
        record: Record {
            work: WorkId { message: MessageId::from_bytes(row.get("message")?), index: row.get("work")? },
            recipient: row.get("recipient")?,
            at: Timestamp::from_micros(row.get("at")?),
            node: text(row, "node")?,
            what,
        },
        sender: text(row, "from_address")?,
        recipient: text(row, "to_address")?,
    })
}

fn reception(row: &Row<'_>) -> rusqlite::Result<Reception<String>> {
    let source = row.get("source")?;
    Ok(Reception {
        sender: row.get("sender")?,
        recipient: row.get("address")?,
        size: row.get::<_, i64>("size")?.cast_unsigned(),
        source: Source::from_number(source).ok_or_else(|| unknown("source", source))?,
        client: row.get("client")?,
        helo: row.get("helo")?,
        protocol: row.get("protocol")?,
    })
}

fn refusal(row: &Row<'_>) -> rusqlite::Result<Refusal<String>> {
    Ok(Refusal {
        sender: row.get("sender")?,
        recipient: row.get("address")?,
        client: row.get("client")?,
        helo: row.get("helo")?,
        reply: row.get("reply")?,
    })
}

fn conclusion(row: &Row<'_>, outcome: i64) -> rusqlite::Result<Conclusion<String>> {
    let until = row.get("until")?;
    Ok(Conclusion {
        epoch: row.get("epoch")?,
        outcome: Outcome::from_number(outcome, until).ok_or_else(|| unknown("outcome", outcome))?,
        reason: text(row, "reason")?,
        remote_host: text(row, "remote_host")?,
        remote_address: row.get("remote_address")?,
        reply: row.get("reply")?,
        attempt: row.get("attempt")?,
        delay: Duration::from_micros(row.get::<_, i64>("delay")?.cast_unsigned()),
        duplicate: Duplicate::from_number(row.get("duplicate")?),
    })
}

/// A number in the table that no version of the schema gives a meaning.
fn unknown(column: &str, number: i64) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(0, format!("{column} {number}"), Type::Integer)
}
