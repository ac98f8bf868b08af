//! How answers are shown: aligned tables for people, JSON for programs.

mod table;

use std::{
    io::{self, Write},
    time::Duration,
};

use base::HumanDuration;
use serde::Serialize;

pub(crate) use table::{Align, Table};

use crate::api::Moment;

/// For whom an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Prints to standard output. That its reader has gone, as `head` does, is no failure.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// A JSON document.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("our shapes have text keys and no failing parts") + "\n"
}

/// A JSON object on a line of its own.
pub(crate) fn json_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our shapes have text keys and no failing parts") + "\n"
}

/// A duration in its two largest units: `3d 4h`.
pub(crate) fn duration(duration: Duration) -> String {
    let whole = HumanDuration(Duration::from_secs(duration.as_secs())).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// So many of something, whose plural ends in s.
pub(crate) fn count(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A time to the second in UTC, as people read it.
pub(crate) fn time(at: Moment) -> String {
    let text = at.to_string();
    text.get(..19).map_or(text.clone(), |seconds| seconds.replace('T', " "))
}

/// A sender, or what stands for none.
pub(crate) fn sender(address: &str) -> String {
    if address.is_empty() { "<>".into() } else { address.to_owned() }
}
