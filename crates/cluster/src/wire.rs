//! What nodes say to each other, as it goes over the link; `proto/link.proto` describes it, `generated` is made of that.

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    unused_qualifications,
    reason = "it is made by a program"
)]
mod generated;

pub(crate) mod codec;
#[cfg(test)]
mod fuzz;

use std::time::Duration;

use base::{MessageId, Timestamp, WorkId};
use queue::{Body, Boot, Kind, Publication, Repeat};

pub(crate) use codec::MOST_SAID;
pub use generated::*;

/// The protocol that this program speaks; it understands one version back.
pub const PROTOCOL: u32 = 1;
/// The oldest that it understands.
pub const OLDEST_PROTOCOL: u32 = 1;

/// Longest message of any kind that is taken, in bytes: that of a hello. One that is longer ends the link.
pub(crate) const MAX_MESSAGE: usize = 8 << 20;
/// Things go together in one message up to this length, and the last of them may pass it.
pub(crate) const AT_ONCE_BYTES: usize = 1 << 20;
/// Bodies up to this length go with their offer or grant; longer ones on a connection of their own.
pub(crate) const INLINE: usize = 64 << 10;
/// Bytes that may be on their way on a stream, and on a connection.
pub(crate) const STREAM_WINDOW: u32 = 4 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 8 << 20;
/// Longest frame that is taken (RFC 9113 section 4.2): what goes together goes in one frame, and each frame is a write.
pub(crate) const FRAME: u32 = 1 << 20;
/// So much is read from a socket at once: TLS by itself asks for a quarter of that.
pub(crate) const READ: usize = 16 << 10;
/// Longest offer, without a body that goes apart.
pub(crate) const MAX_OFFER: usize = 4 << 20;
/// Longest of what is told of a work: 128 recipients with a reply of 16 KiB each.
pub(crate) const MAX_TOLD: usize = 3 << 20;
/// A body of which for so long nothing comes, and a stream of which nothing is taken, is given up.
pub(crate) const STALLED: Duration = Duration::from_secs(60);
/// Longest piece of a body in one message, in bytes.
pub const CHUNK: usize = 256 << 10;
/// Most works and errands that a node has: more than any node takes. It says all of them in one hello.
pub(crate) const MOST_HELD: usize = 100_000;
/// The most that one of them takes of it, and what else it says takes less than this.
pub(crate) const HELD_BYTES: usize = 65;
const _: () = assert!(MOST_HELD * HELD_BYTES + AT_ONCE_BYTES < MAX_MESSAGE);
const _: () = assert!(AT_ONCE_BYTES + MAX_OFFER < MAX_MESSAGE && INLINE <= AT_ONCE_BYTES);

/// Stands for an errand itself, where an item's number is.
pub const WHOLE: u32 = u32::MAX;

/// What came over the link is not what its description says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other node says something that is not in the protocol: {0}")]
pub struct Malformed(pub &'static str);

fn sixteen(bytes: &[u8], what: &'static str) -> Result<[u8; 16], Malformed> {
    bytes.try_into().map_err(|_| Malformed(what))
}

/// A boot from its 16 bytes.
///
/// # Errors
/// There are not 16.
pub fn boot(bytes: &[u8]) -> Result<Boot, Malformed> {
    sixteen(bytes, "a boot has 16 bytes").map(|bytes| Boot(u128::from_be_bytes(bytes)))
}

/// A message's id from its 16 bytes.
///
/// # Errors
/// There are not 16.
pub fn message(bytes: &[u8]) -> Result<MessageId, Malformed> {
    sixteen(bytes, "an id has 16 bytes").map(MessageId::from_bytes)
}

/// The bytes of a boot.
#[must_use]
pub fn boot_bytes(boot: Boot) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&boot.0.to_be_bytes())
}

/// The bytes of a message's id.
#[must_use]
pub fn message_bytes(message: MessageId) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&message.to_bytes())
}

impl From<WorkId> for Work {
    fn from(work: WorkId) -> Self {
        Self { message: message_bytes(work.message), index: work.index.into() }
    }
}

impl TryFrom<&Work> for WorkId {
    type Error = Malformed;

    fn try_from(work: &Work) -> Result<Self, Malformed> {
        let index = u16::try_from(work.index).map_err(|_| Malformed("a message has 65,536 works at most"))?;
        Ok(Self { message: message(&work.message)?, index })
    }
}

impl From<queue::Epoch> for Epoch {
    fn from(epoch: queue::Epoch) -> Self {
        Self { incarnation: epoch.incarnation, counter: epoch.counter }
    }
}

impl From<Epoch> for queue::Epoch {
    fn from(epoch: Epoch) -> Self {
        Self { incarnation: epoch.incarnation, counter: epoch.counter }
    }
}

impl From<queue::Recipients> for Recipients {
    fn from(recipients: queue::Recipients) -> Self {
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).expect("64 bits are left");
        Self { low: half(recipients.bits()), high: half(recipients.bits() >> 64) }
    }
}

impl From<Recipients> for queue::Recipients {
    fn from(recipients: Recipients) -> Self {
        Self::from_bits(u128::from(recipients.high) << 64 | u128::from(recipients.low))
    }
}

/// The number of a trade on the link.
#[must_use]
pub fn kind_number(kind: Kind) -> u32 {
    match kind {
        Kind::Mail => 1,
        Kind::Run => 2,
    }
}

/// The trade with this number.
///
/// # Errors
/// There is none.
pub fn kind(number: u32) -> Result<Kind, Malformed> {
    match number {
        1 => Ok(Kind::Mail),
        2 => Ok(Kind::Run),
        _ => Err(Malformed("there is no such trade")),
    }
}

impl Offer {
    /// A publication as it is offered, and its body apart if it is larger than `inline` bytes.
    #[must_use]
    pub fn of(publication: &Publication, body: &bytes::Bytes, inline: usize) -> Self {
        let works = publication.works.iter().map(|work| NewWork {
            lane: work.lane.to_string(),
            account: work.account.to_string(),
            priority: work.priority.into(),
            not_before_micros: work.not_before.micros(),
            expires_micros: work.expires.micros(),
            recipients: work.recipients.into(),
            needs: work.needs.iter().map(ToString::to_string).collect(),
            detail: work.detail.clone(),
        });
        Self {
            message: message_bytes(publication.message),
            kind: kind_number(publication.kind),
            at_micros: publication.at.micros(),
            header: publication.header.clone(),
            works: works.collect(),
            body: if body.len() <= inline { body.clone() } else { bytes::Bytes::new() },
            until_micros: 0,
        }
    }

    /// The publication, without its body.
    ///
    /// # Errors
    /// It is none.
    pub fn publication(self) -> Result<Publication, Malformed> {
        let small = |number: u32| u8::try_from(number).map_err(|_| Malformed("a number is too large"));
        let works = self.works.into_iter().map(|work| {
            Ok(queue::NewWork {
                lane: work.lane.into(),
                account: work.account.into(),
                priority: small(work.priority)?,
                not_before: Timestamp::from_micros(work.not_before_micros),
                expires: Timestamp::from_micros(work.expires_micros),
                recipients: small(work.recipients)?,
                needs: work.needs.into_iter().map(Into::into).collect(),
                detail: work.detail,
            })
        });
        Ok(Publication {
            message: message(&self.message)?,
            kind: kind(self.kind)?,
            at: Timestamp::from_micros(self.at_micros),
            header: self.header,
            body: Body::Empty,
            works: works.collect::<Result<_, _>>()?,
            repeat: Repeat::Possible,
        })
    }
}
