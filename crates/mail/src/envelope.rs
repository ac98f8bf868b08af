//! What mail writes into the queue: the words of a message, of its works, and of their conclusions.
//!
//! Each begins with a byte that says how the rest is written, so that a later version can read what an earlier one
//! left in the spool. All versions are postcard, a compact serde encoding; the order of fields is the format. A message's header and a
//! work's state are written in version 2, and read in version 1 too; all else is in version 1.

use std::net::SocketAddr;

use base::{RetryPlan, Timestamp};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smtp::{Address, Needs, Reply, ReversePath};

const VERSION: u8 = 1;
const VERSION_2: u8 = 2;

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
    /// How long to wait between attempts, where the message has a plan of its own.
    pub retry: Option<RetryPlan>,
}

/// A header as version 1 wrote it.
#[derive(Deserialize)]
struct HeaderV1 {
    sender: ReversePath,
    needs: Needs,
    size: u64,
    header_len: u64,
    dots: Dots,
    source: Source,
    node: String,
    client: Option<SocketAddr>,
    helo: String,
    protocol: String,
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

impl Detail {
    /// The recipients of a work of which these still wait.
    pub(crate) fn of(bytes: &[u8], remaining: queue::Recipients) -> Result<Self, WordsError> {
        let detail: Self = decode(bytes)?;
        let named = u8::try_from(detail.recipients.len()).map_or(queue::MAX_RECIPIENTS, |count| count);
        if !remaining.without(queue::Recipients::first(named)).is_empty() {
            return Err(WordsError(format!("they name {named} recipients, and others wait")));
        }
        Ok(detail)
    }
}

/// The words of a work's latest conclusion: what happened last to the recipients that wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The next hop that was tried last.
    pub remote: Remote,
    /// Why recipients wait, and since when it was so; nothing for those that have ended.
    pub waiting: Vec<(u8, Trouble)>,
    /// Whether the sender was told that they wait.
    pub warned: Warned,
}

/// A state as version 1 wrote it.
#[derive(Deserialize)]
struct StateV1 {
    remote: Remote,
    waiting: Vec<(u8, Trouble)>,
}

/// Whether the sender of a message was told that it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Warned {
    /// Not yet.
    #[default]
    No,
    /// Once, and that is enough.
    Yes,
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

impl WordsError {
    /// What can be read and makes no sense.
    pub(crate) fn of(why: &str) -> Self {
        Self(why.into())
    }
}

/// Words as they are stored.
pub(crate) fn encode<T: Serialize>(words: &T) -> Bytes {
    encode_as(VERSION, words)
}

fn encode_as<T: Serialize>(version: u8, words: &T) -> Bytes {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(version);
    postcard::to_extend(words, bytes).expect("words are plain data").into()
}

/// Words from their stored form; none are those of something that was never said.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WordsError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => plain(rest),
        Some((other, _)) => Err(unknown(*other, VERSION)),
        None => Err(WordsError("there are none".into())),
    }
}

/// Words of version 2, or of version 1, which said less.
fn decode_either<'a, Old: Deserialize<'a> + Into<New>, New: Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<New, WordsError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => plain::<Old>(rest).map(Into::into),
        Some((&VERSION_2, rest)) => plain(rest),
        Some((other, _)) => Err(unknown(*other, VERSION_2)),
        None => Err(WordsError("there are none".into())),
    }
}

fn plain<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WordsError> {
    postcard::from_bytes(bytes).map_err(|error| WordsError(error.to_string()))
}

fn unknown(version: u8, read: u8) -> WordsError {
    WordsError(format!("they are of version {version}, and this node reads up to {read}"))
}

impl State {
    /// The state that a work's words hold; empty before its first conclusion.
    ///
    /// # Errors
    /// If the words are not of a version that this one reads.
    pub fn read(words: &[u8]) -> Result<Self, WordsError> {
        if words.is_empty() { Ok(Self::default()) } else { decode_either::<StateV1, _>(words) }
    }

    /// The state as words.
    pub(crate) fn write(&self) -> Bytes {
        encode_as(VERSION_2, self)
    }
}

impl From<StateV1> for State {
    fn from(StateV1 { remote, waiting }: StateV1) -> Self {
        Self { remote, waiting, warned: Warned::No }
    }
}

impl Header {
    /// The header that a message's words hold.
    ///
    /// # Errors
    /// If the words are not of a version that this one reads.
    pub fn read(words: &[u8]) -> Result<Self, WordsError> {
        decode_either::<HeaderV1, _>(words)
    }

    /// The header as words.
    pub(crate) fn write(&self) -> Bytes {
        encode_as(VERSION_2, self)
    }
}

impl From<HeaderV1> for Header {
    fn from(old: HeaderV1) -> Self {
        let HeaderV1 { sender, needs, size, header_len, dots, source, node, client, helo, protocol } = old;
        let retry = None;
        Self { sender, needs, size, header_len, dots, source, node, client, helo, protocol, retry }
    }
}

// Its path is named because an example of this crate includes this file.
#[cfg(test)]
#[path = "envelope/fuzz.rs"]
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
        assert!(Detail::of(&bytes, queue::Recipients::first(1)).is_ok());
        assert!(Detail::of(&bytes, queue::Recipients::first(2)).is_err(), "more wait than it names");
        assert_eq!(State::read(&[]), Ok(State::default()));
    }

    #[test]
    fn what_an_earlier_version_left_is_read() {
        // As version 1 wrote them: without a retry plan, and without a word on warnings.
        let header = Header {
            sender: ReversePath::Null,
            needs: Needs::default(),
            size: 7,
            header_len: 5,
            dots: Dots::None,
            source: Source::Smtp,
            node: "mx1".into(),
            client: None,
            helo: "client".into(),
            protocol: "ESMTP".into(),
            retry: None,
        };
        let mut old = header.write().to_vec();
        assert_eq!((old[0], old.pop()), (VERSION_2, Some(0)));
        old[0] = VERSION;
        assert_eq!(Header::read(&old), Ok(header));
        let state = State { remote: Remote { host: "mx".into(), address: None }, ..State::default() };
        let mut old = state.write().to_vec();
        assert_eq!(old.pop(), Some(0));
        old[0] = VERSION;
        assert_eq!(State::read(&old), Ok(state));
        old[0] = 9;
        assert!(State::read(&old).unwrap_err().to_string().contains("version 9"));
    }
}
