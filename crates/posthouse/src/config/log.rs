//! `[log]`: what the node writes to standard error.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::keys::did_you_mean;

/// How much is written, and in which form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Log {
    /// The least important lines to write.
    pub level: LogLevel,
    /// Lines for people or for programs.
    pub format: LogFormat,
}

/// How important a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(try_from = "String", rename_all = "kebab-case")]
pub enum LogLevel {
    /// What needs an operator now.
    Error,
    /// What may need one soon.
    Warn,
    /// What an operator may want to know.
    #[default]
    Info,
    /// What explains a decision.
    Debug,
    /// Everything.
    Trace,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(try_from = "String", rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl TryFrom<String> for LogLevel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        one_of(&text)
    }
}

impl TryFrom<String> for LogFormat {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        one_of(&text)
    }
}

/// The variant that has this name, which is the same in the file and as a flag.
pub(super) fn one_of<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let values = T::value_variants().iter().filter_map(T::to_possible_value);
        let names: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
        let meant = base::nearest(text, names.iter().map(String::as_str));
        format!("\"{text}\" is not one of {}{}", names.join(", "), did_you_mean(meant))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_none_finds_the_nearest() {
        assert_eq!(LogFormat::try_from("json".to_owned()), Ok(LogFormat::Json));
        let wrong = |text: &str| LogLevel::try_from(text.to_owned()).unwrap_err();
        assert_eq!(
            wrong("debgu"),
            "\"debgu\" is not one of error, warn, info, debug, trace; did you mean \"debug\"?"
        );
        assert_eq!(wrong("verbosely"), "\"verbosely\" is not one of error, warn, info, debug, trace");
    }
}
