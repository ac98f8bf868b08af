//! Pauses: mail that waits because an operator said so.

use std::fmt;

use base::{AddressPattern, DomainPattern, Timestamp};
use rusqlite::{Row, named_params, types::Type};
use serde::{Deserialize, Serialize};

use super::{Settings, cut};
use crate::{Error, Result};

/// The most pauses at one time: each is compared with all that waits.
pub const MAX_PAUSES: u64 = 1000;

/// The number of a pause; no two ever have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PauseId(pub i64);

impl fmt::Display for PauseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What is paused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "about", content = "pattern")]
pub enum About {
    /// All mail that goes out.
    All,
    /// Mail to these domains.
    Domain(DomainPattern),
    /// Mail that this account caused.
    Account(String),
    /// Mail from these senders.
    Sender(AddressPattern),
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all mail"),
            Self::Domain(domain) => write!(f, "mail to {domain}"),
            Self::Account(account) => write!(f, "mail of {account}"),
            Self::Sender(sender) => write!(f, "mail from {sender}"),
        }
    }
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Its number.
    pub id: PauseId,
    /// What is paused.
    pub about: About,
    /// When it ends by itself; nothing: by hand alone.
    pub until: Option<Timestamp>,
    /// The operator's reason; may be empty.
    pub why: String,
    /// Who paused it.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
}

/// What an operator wants paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPause {
    /// What.
    pub about: About,
    /// Until when, unless by hand alone.
    pub until: Option<Timestamp>,
    /// Why; what is longer than 1,000 bytes is cut.
    pub why: String,
    /// Who wants it.
    pub by: String,
}

impl Settings {
    /// Pauses something; what is paused already keeps its number and its begin, and gets the new end and reason.
    ///
    /// # Errors
    /// There are [`MAX_PAUSES`], or the settings cannot be written.
    pub fn pause(&self, new: &NewPause, now: Timestamp) -> Result<Pause> {
        let (about, pattern) = number_and_pattern(&new.about);
        let pause = self.with(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM pause WHERE until <= ?", [now.micros()])?;
            transaction.execute(
                "INSERT INTO pause (about, pattern, until, why, by, since)
                SELECT :about, :pattern, :until, :why, :by, :since
                WHERE (SELECT count(*) FROM pause) < :most
                    OR EXISTS (SELECT 1 FROM pause WHERE about = :about AND pattern = :pattern)
                ON CONFLICT (about, pattern) DO UPDATE
                SET until = excluded.until, why = excluded.why, by = excluded.by",
                named_params! {
                    ":about": about,
                    ":pattern": pattern,
                    ":until": new.until.map(Timestamp::micros),
                    ":why": cut(&new.why),
                    ":by": cut(&new.by),
                    ":since": now.micros(),
                    ":most": MAX_PAUSES.cast_signed(),
                },
            )?;
            let found = transaction
                .prepare("SELECT * FROM pause WHERE about = ? AND pattern = ?")?
                .query_map((about, &pattern), read)?
                .next()
                .transpose()?;
            transaction.commit()?;
            Ok(found)
        })?;
        pause.ok_or_else(|| {
            Error::TooMuch(format!(
                "there are {MAX_PAUSES} pauses already, which is the most: resume some first"
            ))
        })
    }

    /// The pauses that are not over, the oldest first.
    ///
    /// # Errors
    /// The settings cannot be read.
    pub fn pauses(&self, now: Timestamp) -> Result<Vec<Pause>> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT * FROM pause WHERE until IS NULL OR until > ? ORDER BY id")?
                .query_map([now.micros()], read)?
                .collect()
        })
    }

    /// Ends a pause; nothing if it is over or never was.
    ///
    /// # Errors
    /// The settings cannot be written.
    pub fn resume(&self, id: PauseId) -> Result<Option<Pause>> {
        self.with(|connection| {
            connection
                .prepare_cached("DELETE FROM pause WHERE id = ? RETURNING *")?
                .query_map([id.0], read)?
                .next()
                .transpose()
        })
    }
}

fn number_and_pattern(about: &About) -> (i64, String) {
    match about {
        About::All => (1, String::new()),
        About::Domain(domain) => (2, domain.to_string()),
        About::Account(account) => (3, account.clone()),
        About::Sender(sender) => (4, sender.to_string()),
    }
}

fn about(number: i64, pattern: String) -> Option<About> {
    match number {
        1 => Some(About::All),
        2 => pattern.parse().ok().map(About::Domain),
        3 => Some(About::Account(pattern)),
        4 => pattern.parse().ok().map(About::Sender),
        _ => None,
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Pause> {
    let (number, pattern): (i64, String) = (row.get("about")?, row.get("pattern")?);
    let unknown =
        || rusqlite::Error::InvalidColumnType(0, format!("about {number} {pattern}"), Type::Integer);
    Ok(Pause {
        id: PauseId(row.get("id")?),
        about: about(number, pattern.clone()).ok_or_else(unknown)?,
        until: row.get::<_, Option<i64>>("until")?.map(Timestamp::from_micros),
        why: row.get("why")?,
        by: row.get("by")?,
        since: Timestamp::from_micros(row.get("since")?),
    })
}
