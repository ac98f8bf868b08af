//! Reading the file: what is wrong is named with the line and the right form.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Config,
    keys::{self, did_you_mean},
    shape,
};

/// The file that is read when none is named, if it is there.
pub const DEFAULT_FILE: &str = "/etc/posthouse/posthouse.toml";

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The configuration cannot be used. Each is one plain line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML, or a value is not what its key takes.
    #[error("{}:{line}: {}{message}", path.display(), key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
    Value {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, if the file can be read that far.
        key: Option<String>,
        /// What is wrong, and what is right.
        message: String,
    },
    /// The file has a key that does not exist.
    #[error("{}:{line}: there is no key \"{key}\"{}", path.display(), did_you_mean(meant.as_deref()))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The key that was probably meant.
        meant: Option<String>,
    },
}

impl Config {
    /// Reads the file at `path`; keys that it does not name have their default.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, has a key that does not exist or a value that its key
    /// does not take.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let read = || {
            if std::fs::metadata(path)?.len() > MAX_BYTES {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
            }
            std::fs::read_to_string(path)
        };
        let text = read().map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// The configuration in `text`, which stands in the file at `path`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let document = DeTable::parse(text).map_err(|e| wrong_value(path, text, None, &e))?;
        if let Some(misfit) = shape::misfit(text, document.get_ref()) {
            return Err(ConfigError::Value {
                path: path.to_owned(),
                line: line_of(text, misfit.at),
                key: Some(misfit.key),
                message: one_line(&misfit.message),
            });
        }
        unknown_key(path, text, document.get_ref(), "")?;
        toml::from_str(text).map_err(|e| wrong_value(path, text, Some(document.get_ref()), &e))
    }
}

fn wrong_value(path: &Path, text: &str, table: Option<&DeTable<'_>>, error: &toml::de::Error) -> ConfigError {
    let span = error.span().unwrap_or_default();
    ConfigError::Value {
        path: path.to_owned(),
        line: line_of(text, span.start),
        key: table.and_then(|table| key_at(table, &span)),
        message: one_line(error.message()),
    }
}

/// The text without what would break its line; it may quote the file.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// The path of the key whose value holds `span`.
fn key_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let (key, value) = table.iter().find(|(_, value)| holds(value, span))?;
    let key = key.get_ref();
    let within = inner_tables(value).find_map(|table| key_at(table, span));
    Some(within.map_or_else(|| key.to_string(), |within| format!("{key}.{within}")))
}

/// Whether a value, or for a table something in it, stands where `span` is.
fn holds(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
    let own = value.span();
    (own.start <= span.start && span.end <= own.end)
        || inner_tables(value).any(|table| table.iter().any(|(_, value)| holds(value, span)))
}

fn unknown_key(path: &Path, text: &str, table: &DeTable<'_>, at: &str) -> Result<(), ConfigError> {
    let names = keys::names_in(at);
    for (key, value) in table.iter() {
        let name: &str = key.get_ref();
        let full = keys::below(at, name);
        if !names.contains(&name) {
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                line: line_of(text, key.span().start),
                meant: keys::meant(at, name),
                key: one_line(&full),
            });
        }
        for table in inner_tables(value) {
            unknown_key(path, text, table, &full)?;
        }
    }
    Ok(())
}

/// The table that a value is, or those that it is an array of.
fn inner_tables<'a, 'i>(value: &'a Spanned<DeValue<'i>>) -> impl Iterator<Item = &'a DeTable<'i>> {
    let values = match value.get_ref() {
        DeValue::Array(array) => array.iter().collect(),
        _ => vec![value],
    };
    values.into_iter().filter_map(|value| match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    })
}
