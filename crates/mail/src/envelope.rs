//! What mail writes into the queue: the words of a message, of its works, and of their conclusions.
//!
//! Each begins with a byte that says how the rest is written, so that a later version can read what an earlier one
//! left in the spool. Version 1 is postcard, a compact serde encoding; the order of fields is the format.

use std::net::SocketAddr;

use base::Timestamp;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smtp::{Address, Needs, Reply, ReversePath};

const VERSION: u8 = 1;

/// Which door a message came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// An SMTP session.
    Smtp,
    /// The node's own control socket.
    Control,
    /// Made by the node itself, to report what failed.
    Dsn,
}

/// The words of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Where reports go.
    pub sender: ReversePath,
    /// What its next hops must be able to do.
    pub needs: Needs,
    /// Bytes of its text, with our trace field.
    pub size: u64,
    /// Bytes of its header section.
    pub header_len: u64,
    /// Whether lines must be dot-stuffed.
    pub dots: Dots,
    /// Which door it came in by.
    pub source: Source,
    /// The name of the node that took it in.
    pub node: String,
    /// Who brought it.
    pub client: Option<SocketAddr>,
    /// What the client called itself.
    pub helo: String,
    /// How, as in the trace field: `ESMTP`, `SMTP`.
    pub protocol: String,
}

/// Whether some line of a text begins with a dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dots {
    /// No line does: the text goes out as it is.
    None,
    /// Some line does.
    Some,
}

/// The words of a work: its recipients, by their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Detail {
    pub(crate) recipients: Vec<Address>,
}

/// The words of a work's latest conclusion: what happened last to the recipients that wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The next hop that was tried last.
    pub remote: Remote,
    /// Why recipients wait, and since when it was so; nothing for those that have ended.
    pub waiting: Vec<(u8, Trouble)>,
}

/// Why a recipient was not delivered to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// In a word, for the log.
    pub reason: String,
    /// What the next hop said, or what was wrong.
    pub reply: Reply,
    /// When.
    pub at: Timestamp,
}

/// A next hop that was spoken to, or should have been.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Its name, with its port.
    pub host: String,
    /// Its address, if there was a connection.
    pub address: Option<SocketAddr>,
}

/// What a conclusion tells the message log.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordWords<'a> {
    pub(crate) node: &'a str,
    pub(crate) host: &'a str,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) attempt: u32,
    pub(crate) repeated: Repeated,
    #[serde(borrow)]
    pub(crate) recipients: Vec<RecipientWords<'a>>,
}

/// Whether an earlier attempt may have delivered already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Repeated {
    No,
    Possibly,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecipientWords<'a> {
    pub(crate) number: u8,
    pub(crate) became: Became,
    pub(crate) reason: &'a str,
    pub(crate) reply: &'a str,
}

/// What became of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Became {
    Delivered,
    Deferred { until: Timestamp },
    Failed,
    Expired,
}

/// The words in the spool are not what this version writes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the words of a message cannot be read: {0}")]
pub struct WordsError(String);

/// Words as they are stored.
pub(crate) fn encode<T: Serialize>(words: &T) -> Bytes {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(VERSION);
    postcard::to_extend(words, bytes).expect("words are plain data").into()
}

/// Words from their stored form; none are those of something that was never said.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WordsError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| WordsError(error.to_string())),
        Some((other, _)) => {
            Err(WordsError(format!("they are of version {other}, and this node reads {VERSION}")))
        }
        None => Err(WordsError("there are none".into())),
    }
}

impl State {
    /// The state that a work's words hold; empty before its first conclusion.
    ///
    /// # Errors
    /// If the words are not of this version.
    pub fn read(words: &[u8]) -> Result<Self, WordsError> {
        if words.is_empty() { Ok(Self::default()) } else { decode(words) }
    }
}

impl Header {
    /// The header that a message's words hold.
    ///
    /// # Errors
    /// If the words are not of this version.
    pub fn read(words: &[u8]) -> Result<Self, WordsError> {
        decode(words)
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_and_other_versions_are_refused() {
        let detail = Detail { recipients: vec!["a@example.com".parse().unwrap()] };
        let bytes = encode(&detail);
        assert_eq!(decode::<Detail>(&bytes), Ok(detail));
        let mut newer = bytes.to_vec();
        newer[0] = 9;
        assert!(decode::<Detail>(&newer).unwrap_err().to_string().contains("version 9"));
        assert!(decode::<Detail>(&bytes[..bytes.len() - 1]).is_err());
        assert_eq!(State::read(&[]), Ok(State::default()));
    }
}
