//! Suppressions: addresses that no mail is sent to.

use std::sync::atomic::Ordering;

use base::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::{Settings, cut};
use crate::{Error, Result};

/// The most addresses that are suppressed: so many take about 1 GiB of disk.
pub const MAX_SUPPRESSIONS: u64 = 10_000_000;
/// The most addresses of one change, or of one page of the list.
pub const MAX_SUPPRESSED_AT_ONCE: usize = 10_000;

/// An address that no mail is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// The address, its domain in lower case.
    pub address: String,
    /// When it ends by itself; nothing: by hand alone.
    pub until: Option<Timestamp>,
    /// Why; may be empty.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

/// What an operator wants suppressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSuppression {
    /// The address.
    pub address: String,
    /// Until when, unless by hand alone.
    pub until: Option<Timestamp>,
    /// Why; what is longer than 1,000 bytes is cut.
    pub why: String,
}

/// What became of addresses that were to be suppressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suppressed {
    /// They were not before.
    pub new: u64,
    /// They were, and have the new end and reason.
    pub changed: u64,
}

/// A page of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suppressions {
    /// The addresses, in the order of their letters.
    pub page: Vec<Suppression>,
    /// What to ask for the next page after; nothing: this is the last.
    pub next: Option<String>,
}

impl Settings {
    /// Suppresses addresses, at most [`MAX_SUPPRESSED_AT_ONCE`]: all of them or none. Those whose time is over are forgotten.
    ///
    /// # Errors
    /// There are too many, now or in all, or the settings cannot be written.
    pub fn suppress(&self, new: &[NewSuppression], now: Timestamp) -> Result<Suppressed> {
        if new.len() > MAX_SUPPRESSED_AT_ONCE {
            return Err(Error::TooMuch(format!(
                "{} addresses are too many for one change: give {MAX_SUPPRESSED_AT_ONCE} at a time",
                new.len()
            )));
        }
        if self.suppressed.load(Ordering::SeqCst) + new.len() as u64 > MAX_SUPPRESSIONS {
            return Err(Error::TooMuch(format!("at most {MAX_SUPPRESSIONS} addresses can be suppressed")));
        }
        let (done, count) = self.with(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM suppression WHERE until <= ?", [now.micros()])?;
            let before = count(&transaction)?;
            write(&transaction, new, now)?;
            let after = count(&transaction)?;
            transaction.commit()?;
            let added = after.saturating_sub(before);
            Ok((Suppressed { new: added, changed: (new.len() as u64).saturating_sub(added) }, after))
        })?;
        self.suppressed.store(count, Ordering::SeqCst);
        Ok(done)
    }

    /// Ends the suppression of addresses, in any case; returns how many were suppressed.
    ///
    /// # Errors
    /// The settings cannot be written.
    pub fn unsuppress(&self, addresses: &[String]) -> Result<u64> {
        let (ended, count) = self.with(|connection| {
            let transaction = connection.transaction()?;
            let mut ended = 0;
            for address in addresses {
                let mut delete = transaction.prepare_cached("DELETE FROM suppression WHERE key = ?")?;
                ended += delete.execute([key(address)])? as u64;
            }
            let left = count(&transaction)?;
            transaction.commit()?;
            Ok((ended, left))
        })?;
        self.suppressed.store(count, Ordering::SeqCst);
        Ok(ended)
    }

    /// Which of these addresses no mail is sent to, each with its place among them. Letters count the same in either case.
    ///
    /// # Errors
    /// The settings cannot be read.
    pub fn suppressed<'a>(
        &self,
        addresses: impl IntoIterator<Item = &'a str>,
        now: Timestamp,
    ) -> Result<Vec<(usize, Suppression)>> {
        if self.suppressed.load(Ordering::SeqCst) == 0 {
            return Ok(Vec::new());
        }
        self.with(|connection| {
            let mut select = connection
                .prepare_cached("SELECT * FROM suppression WHERE key = ? AND (until IS NULL OR until > ?)")?;
            let mut found = Vec::new();
            for (place, address) in addresses.into_iter().enumerate() {
                let suppression = select.query_row((key(address), now.micros()), read).optional()?;
                found.extend(suppression.map(|suppression| (place, suppression)));
            }
            Ok(found)
        })
    }

    /// A page of the addresses that no mail is sent to, from behind `after`; empty for the first.
    ///
    /// # Errors
    /// The settings cannot be read.
    pub fn suppressions(&self, after: &str, max: usize, now: Timestamp) -> Result<Suppressions> {
        let max = max.clamp(1, MAX_SUPPRESSED_AT_ONCE);
        let page: Vec<Suppression> = self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM suppression WHERE key > ? AND (until IS NULL OR until > ?) ORDER BY key LIMIT ?",
                )?
                .query_map((key(after), now.micros(), i64::try_from(max).unwrap_or(i64::MAX)), read)?
                .collect()
        })?;
        let next = page.last().filter(|_| page.len() == max).map(|last| key(&last.address));
        Ok(Suppressions { page, next })
    }

    /// How many addresses are suppressed.
    #[must_use]
    pub fn suppression_count(&self) -> u64 {
        self.suppressed.load(Ordering::SeqCst)
    }

    pub(super) fn count_suppressions(&self) -> Result<u64> {
        self.with(|connection| count(connection))
    }
}

fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = connection.query_row("SELECT count(*) FROM suppression", [], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

fn write(connection: &Connection, new: &[NewSuppression], now: Timestamp) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO suppression (key, address, until, why, since) VALUES (:key, :address, :until, :why, :since)
        ON CONFLICT (key) DO UPDATE SET until = excluded.until, why = excluded.why",
    )?;
    for suppression in new {
        insert.execute(named_params! {
            ":key": key(&suppression.address),
            ":address": with_lower_domain(&suppression.address),
            ":until": suppression.until.map(Timestamp::micros),
            ":why": cut(&suppression.why),
            ":since": now.micros(),
        })?;
    }
    Ok(())
}

/// What an address is found by. RFC 5321, section 2.4, lets hosts tell `Anna` from `anna`; who asked for no more mail
/// means both.
fn key(address: &str) -> String {
    address.to_ascii_lowercase()
}

fn with_lower_domain(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
        None => address.to_owned(),
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Suppression> {
    Ok(Suppression {
        address: row.get("address")?,
        until: row.get::<_, Option<i64>>("until")?.map(Timestamp::from_micros),
        why: row.get("why")?,
        since: Timestamp::from_micros(row.get("since")?),
    })
}
