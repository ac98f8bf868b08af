//! What an attempt is given, and what it tells: plain values, so that it can run on another node.

use std::{fmt, net::SocketAddr};

use base::{NextHop, Timestamp, WorkId};
use queue::Recipients;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor},
};
use smtp::{
    Address, Needs, Reply, ReversePath,
    client::{Missing, Stage},
};

use crate::{envelope::Dots, site::Keeps, tls::TlsLevel};

/// Most works that go over one connection in one go.
pub(crate) const BURST: usize = 20;

/// Works that may start now, for one next hop, over one connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Burst {
    pub(crate) hop: Hop,
    pub(crate) items: Vec<Item>,
    /// Whether its connection may be kept for the next burst.
    pub(crate) then: Keeps,
}

/// A next hop, resolved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hop {
    /// What its connections are kept under.
    pub(crate) name: String,
    /// To be tried in this order.
    pub(crate) hosts: Vec<Host>,
    /// Most messages over one connection.
    pub(crate) messages_per_connection: Option<u32>,
    /// How much of TLS is asked of the hosts.
    pub(crate) tls: TlsLevel,
}

impl Hop {
    /// Whether a connection that has carried so many messages may carry `more`.
    pub(crate) fn lets_carry(&self, carried: u32, more: usize) -> bool {
        let all = u32::try_from(more).unwrap_or(u32::MAX).saturating_add(carried);
        self.messages_per_connection.is_none_or(|most| all <= most)
    }

    /// Whether one of its hosts has this address.
    pub(crate) fn leads_to(&self, address: Option<SocketAddr>) -> bool {
        address.is_some_and(|address| self.hosts.iter().any(|host| host.addresses.contains(&address)))
    }
}

/// A host that may take the mail for a next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Host {
    /// Its name, or its address, with the port.
    pub(crate) name: NextHop,
    /// To be tried in this order.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// One work of a burst; the attempt calls it by its place in the burst.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) work: WorkId,
    pub(crate) sender: ReversePath,
    /// The recipients that have not ended, by their numbers.
    pub(crate) recipients: Vec<(u8, Address)>,
    pub(crate) size: u64,
    pub(crate) dots: Dots,
    pub(crate) needs: Needs,
}

/// What an attempt tells of one work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tried {
    pub(crate) at: Timestamp,
    /// The host that was tried last, with its port.
    pub(crate) host: String,
    /// The address that was spoken to.
    pub(crate) address: Option<SocketAddr>,
    /// One for each of the item's recipients, by their numbers; none if it was not sent to the end.
    #[serde(deserialize_with = "no_more_than_recipients")]
    pub(crate) results: Vec<(u8, TriedRecipient)>,
}

/// Longest name of a host that is believed: a domain has 255 bytes at most (RFC 1035, section 2.3.4), and a port follows.
const MAX_HOST: usize = 255 + ":65535".len();

/// Reads results, and stops where there are more than a work has recipients: two bytes on a link may take a hundred here.
fn no_more_than_recipients<'de, D: Deserializer<'de>>(
    words: D,
) -> Result<Vec<(u8, TriedRecipient)>, D::Error> {
    struct Results;
    impl<'de> Visitor<'de> for Results {
        type Value = Vec<(u8, TriedRecipient)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} results at most", queue::MAX_RECIPIENTS)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Self::Value, A::Error> {
            let mut results = Vec::new();
            while let Some(result) = words.next_element()? {
                if results.len() == usize::from(queue::MAX_RECIPIENTS) {
                    return Err(serde::de::Error::invalid_length(results.len() + 1, &self));
                }
                results.push(result);
            }
            Ok(results)
        }
    }
    words.deserialize_seq(Results)
}

impl Tried {
    /// Of a work that was not sent to the end: its lease was over, or somebody else had delivered it by then.
    pub(crate) fn unsent(at: Timestamp) -> Self {
        Self { at, host: String::new(), address: None, results: Vec::new() }
    }

    /// Whether it can be of a work with so many recipients: it tells of each once at most, and its host's name is no longer than one can
    /// be.
    pub(crate) fn can_be_of(&self, recipients: usize) -> bool {
        let mut told = Recipients::default();
        let is_new = |number: u8| {
            let before = told;
            told = told.with(Recipients::only(number));
            told != before
        };
        self.host.len() <= MAX_HOST
            && self.results.iter().all(|(number, _)| usize::from(*number) < recipients)
            && self.results.iter().map(|(number, _)| *number).all(is_new)
    }

    /// Whether it was not sent to the end, so that nobody can have got it.
    pub(crate) fn is_unsent(&self) -> bool {
        self.results.is_empty()
    }

    /// Whether there was no attempt, because the machine had nothing left for one.
    pub(crate) fn is_exhausted(&self) -> bool {
        let is = |result: &TriedRecipient| {
            matches!(result, TriedRecipient::Broken { trouble: Trouble::Exhausted, .. })
        };
        !self.results.is_empty() && self.results.iter().all(|(_, result)| is(result))
    }
}

/// What an attempt tells of one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TriedRecipient {
    /// The next hop said so.
    Reply { stage: Stage, reply: Reply },
    /// The next hop cannot carry the message.
    Unsupported(Missing),
    /// The next hop takes no message of this size, but this many bytes.
    TooBig(u64),
    /// It broke off.
    Broken { stage: Stage, trouble: Trouble, text: String },
}

/// How an attempt broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Trouble {
    /// There was no connection.
    Connect,
    /// The next hop kept silent.
    Timeout,
    /// The connection was lost.
    Lost,
    /// It cannot do TLS, without which it gets no mail.
    NoTls,
    /// TLS came to nothing.
    Tls,
    /// The next hop did not keep to the protocol.
    Protocol,
    /// Our own copy of the message is not what was stored.
    Damaged,
    /// This machine has no descriptor or no memory left for a connection.
    Exhausted,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{decode, encode};

    fn tried(numbers: impl IntoIterator<Item = u8>) -> Tried {
        let results = numbers.into_iter().map(|number| (number, TriedRecipient::TooBig(0))).collect();
        Tried { results, ..Tried::unsent(Timestamp::default()) }
    }

    #[test]
    fn no_more_is_read_of_an_attempt_than_a_work_can_have() {
        let read = |tried: &Tried| decode::<Tried>(&encode(tried)).map(|tried| tried.results.len());
        assert_eq!(read(&tried(0..queue::MAX_RECIPIENTS)), Ok(usize::from(queue::MAX_RECIPIENTS)));
        read(&tried(0..=queue::MAX_RECIPIENTS)).expect_err("one is too many");
        let many = Tried { results: vec![(0, TriedRecipient::TooBig(0)); 1 << 20], ..tried([]) };
        read(&many).expect_err("a million are");
    }

    #[test]
    fn an_attempt_tells_of_each_recipient_of_its_work_once() {
        let can_be = |numbers: &[u8]| tried(numbers.iter().copied()).can_be_of(2);
        assert!(can_be(&[]) && can_be(&[1]) && can_be(&[1, 0]));
        assert!(!can_be(&[0, 2]) && !can_be(&[0, 1, 0]));
        let at = |host: String| Tried { host, ..tried([0]) };
        assert!(at("h".repeat(MAX_HOST)).can_be_of(1) && !at("h".repeat(MAX_HOST + 1)).can_be_of(1));
    }
}
