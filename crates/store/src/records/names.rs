//! Words that many records share (nodes, reasons, next hops) are stored once and named by number.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};

/// How many names are remembered before the memory is emptied and filled anew.
const REMEMBERED: usize = 65_536;

/// The names that were met lately, with their numbers.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<Box<str>, i64>);

impl Names {
    /// The number of `name`, which is stored if it is new; nothing for an empty one.
    pub(super) fn number(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
        if name.is_empty() {
            return Ok(None);
        }
        if let Some(number) = self.0.get(name) {
            return Ok(Some(*number));
        }
        let known = connection
            .prepare_cached("SELECT id FROM name WHERE text = ?")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        let number = match known {
            Some(number) => number,
            None => connection.prepare_cached("INSERT INTO name (text) VALUES (?)")?.insert([name])?,
        };
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(name.into(), number);
        Ok(Some(number))
    }

    /// Forgets all, as after a transaction that did not happen.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}
