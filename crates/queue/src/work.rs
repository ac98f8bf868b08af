//! The nouns: what is published, what waits, and how it ends.

use std::{fmt, sync::Arc};

use base::{MessageId, Timestamp, WorkId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Boot, Epoch, body::Body};

/// Which trade a work belongs to; each trade is given only its own arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A message's recipients at one domain.
    Mail,
    /// One run of a job.
    Run,
}

/// A message with its works, published as one.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Chosen by the publisher, so that it can repeat a publication whose answer it lost.
    pub message: MessageId,
    /// Which trade.
    pub kind: Kind,
    /// When it was taken in.
    pub at: Timestamp,
    /// The trade's own words about the message, opaque to the queue; at most [`MAX_HEADER`] bytes.
    pub header: Bytes,
    /// What all its works share.
    pub body: Body,
    /// At least one, at most [`MAX_WORKS`].
    pub works: Vec<NewWork>,
    /// Whether the publisher may say the same again.
    pub repeat: Repeat,
}

/// Longest header, detail or state, in bytes.
pub const MAX_HEADER: usize = 256 << 10;
/// Most works of one message.
pub const MAX_WORKS: usize = 4096;
/// Most recipients of one work, as many as [`Recipients`] has bits.
pub const MAX_RECIPIENTS: u8 = 128;

/// Longest name of a lane, an account or a need, in bytes: as long as a domain may be (RFC 5321, section 4.5.3.1.2), and its dot.
pub const MAX_NAME: usize = 256;
/// Most needs of a work.
pub const MAX_NEEDS: usize = 64;

/// Whether a publisher may publish the same message twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Repeat {
    /// It never does: the id is fresh and its answer cannot be lost.
    Never,
    /// It may: the id is remembered until [`REMEMBERED_FOR`](crate::REMEMBERED_FOR) after the end.
    Possible,
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is stored, and synced.
    Stored,
    /// An earlier publication of this id is stored, and synced; this one changed nothing.
    AlreadyHave,
}

/// One work of a publication.
#[derive(Clone, Debug)]
pub struct NewWork {
    /// What dispatch groups by: a destination domain, or a queue of jobs; at most [`MAX_NAME`] bytes.
    pub lane: Arc<str>,
    /// Who caused it, for fairness: a user, or a client network; at most [`MAX_NAME`] bytes.
    pub account: Arc<str>,
    /// Higher goes first.
    pub priority: u8,
    /// Not to be attempted before.
    pub not_before: Timestamp,
    /// Too old from then on.
    pub expires: Timestamp,
    /// How many recipients: 1 to [`MAX_RECIPIENTS`].
    pub recipients: u8,
    /// What the node that attempts it must have, as `key=value` (source IP, pool, label, tool): at most [`MAX_NEEDS`] of at most
    /// [`MAX_NAME`] bytes.
    pub needs: Vec<Arc<str>>,
    /// The trade's own words about this work, opaque to the queue; at most [`MAX_HEADER`] bytes.
    pub detail: Bytes,
}

/// Why a work is where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// Just published.
    New,
    /// Published with a time before which it must not start.
    Scheduled,
    /// An attempt did not end it; the trade's state says what happened.
    Deferred,
    /// Its holder gave it back untouched.
    GivenBack,
    /// Its holder's lease ran out before the point of no return.
    HolderGone,
    /// Its holder vanished past the point of no return: it may have been done.
    PossiblyDone,
    /// Somebody asked for it: released, retried now or rescheduled by hand.
    ByHand,
    /// Its stored form is damaged, or its delivery limit is used up.
    Damaged,
    /// Its trade holds it back because somebody asked for that, until a time or until he says otherwise.
    Paused,
    /// The disk did not give it; it is read again later.
    Unreadable,
    /// The machine had nothing left to attempt it with.
    Exhausted,
}

impl Reason {
    /// The word that records and lists carry.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Scheduled => "scheduled",
            Self::Deferred => "deferred",
            Self::GivenBack => "given-back",
            Self::HolderGone => "holder-gone",
            Self::PossiblyDone => "possibly-done",
            Self::ByHand => "by-hand",
            Self::Damaged => "damaged",
            Self::Paused => "paused",
            Self::Unreadable => "unreadable",
            Self::Exhausted => "exhausted",
        }
    }
}

/// Whether a work that nobody holds may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// It goes when its time has come.
    Waiting,
    /// Somebody holds it back until it is released.
    Held,
    /// It cannot go: visible, and released by hand once mended.
    SetAside,
}

/// Why a work was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// By an operator's word.
    ByHand,
    /// Its sender was told that it is not taken, and sends it again.
    Withdrawn,
}

impl Cancelled {
    /// The stable name, for records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ByHand => "by-hand",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// How a recipient of a work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum End {
    /// Delivered, or done.
    Done,
    /// For good, not.
    Failed,
    /// Too old.
    Expired,
    /// By an operator's word.
    Cancelled,
    /// Before, by somebody else's word: of these the record of this conclusion says nothing that holds.
    Already,
}

/// A set of a work's recipients, by their numbers from 0.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Recipients(u128);

impl Recipients {
    /// No recipient.
    pub const NONE: Self = Self(0);

    /// The first `count` recipients; `count` above [`MAX_RECIPIENTS`] counts as that.
    #[must_use]
    pub fn first(count: u8) -> Self {
        match count {
            0 => Self(0),
            n if n >= MAX_RECIPIENTS => Self(u128::MAX),
            n => Self((1 << n) - 1),
        }
    }

    /// This recipient alone.
    #[must_use]
    pub fn only(number: u8) -> Self {
        Self(1u128.checked_shl(number.into()).unwrap_or(0))
    }

    /// These and those.
    #[must_use]
    pub fn with(self, those: Self) -> Self {
        Self(self.0 | those.0)
    }

    /// These but not those.
    #[must_use]
    pub fn without(self, those: Self) -> Self {
        Self(self.0 & !those.0)
    }

    /// Those of these that are among those.
    #[must_use]
    pub fn among(self, those: Self) -> Self {
        Self(self.0 & those.0)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many.
    #[must_use]
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contains(self, number: u8) -> bool {
        !self.among(Self::only(number)).is_empty()
    }

    /// These as bits, the first recipient's the lowest.
    #[must_use]
    pub fn bits(self) -> u128 {
        self.0
    }

    /// Those whose bits are set.
    #[must_use]
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// These as 32 bits, if no later one is among them.
    pub(crate) fn few(self) -> Option<u32> {
        u32::try_from(self.0).ok()
    }

    /// Their numbers, rising.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..MAX_RECIPIENTS).filter(move |number| self.contains(*number))
    }
}

impl From<u32> for Recipients {
    /// Those of the first 32 whose bits are set.
    fn from(few: u32) -> Self {
        Self(few.into())
    }
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What the holder of a lease says became of its work.
#[derive(Clone, Debug)]
pub struct Conclusion {
    /// When.
    pub at: Timestamp,
    /// The recipients that ended, and how.
    pub ends: Vec<(End, Recipients)>,
    /// What becomes of those that did not end.
    pub rest: Rest,
    /// The trade's words about the rest, kept with the work until the next conclusion: opaque, at most
    /// [`MAX_HEADER`] bytes.
    pub state: Bytes,
    /// What the message log needs: opaque to the queue, projected once this is synced.
    pub record: Bytes,
    /// Published in the same record as the conclusion that causes them.
    pub follow_ups: Vec<Publication>,
}

/// What becomes of the recipients that a conclusion did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rest {
    /// They wait and are attempted again, not before this time.
    Retry {
        /// When.
        not_before: Timestamp,
        /// Why.
        reason: Reason,
    },
    /// The same, but that nothing was attempted.
    Wait {
        /// When.
        not_before: Timestamp,
        /// Why.
        reason: Reason,
    },
    /// They wait until somebody releases them.
    Hold {
        /// Why.
        reason: Reason,
    },
}

impl Conclusion {
    /// All recipients that ended.
    #[must_use]
    pub fn ended(&self) -> Recipients {
        self.ends.iter().fold(Recipients::NONE, |all, (_, some)| all.with(*some))
    }

    /// The recipients that were delivered to.
    #[must_use]
    pub fn done(&self) -> Recipients {
        self.ends
            .iter()
            .filter(|(end, _)| *end == End::Done)
            .fold(Recipients::NONE, |all, (_, some)| all.with(*some))
    }
}

/// What became of a conclusion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concluded {
    /// It took effect as it was said.
    Applied,
    /// Its lease was over; the recipients it delivered to were marked so, the rest was ignored.
    Late,
    /// Its lease was over and nothing was left to mark.
    Ignored,
}

/// One arrival of one work, in the queue's own terms: a lease is given for the latest of a work only.
///
/// It says nothing to others and nothing after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

impl Ticket {
    /// A work's place in the index, and which arrival was its latest.
    pub(crate) fn new(place: u32, arrival: u32) -> Self {
        Self(u64::from(place) << 32 | u64::from(arrival))
    }

    pub(crate) fn place(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) fn arrival(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }
}

/// A work that has come to wait: published, deferred, given back, released, or found at the start.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Which.
    pub work: WorkId,
    /// Which of its arrivals this is.
    pub ticket: Ticket,
    /// When it was first to go: its message was taken in, or scheduled for then.
    pub first_due: Timestamp,
    /// Bytes that its message takes in the spool.
    pub size: u32,
    /// What dispatch groups by.
    pub lane: Arc<str>,
    /// Who caused it.
    pub account: Arc<str>,
    /// Higher goes first.
    pub priority: u8,
    /// Not to be attempted before.
    pub not_before: Timestamp,
    /// Too old from then on.
    pub expires: Timestamp,
    /// Attempts so far.
    pub attempts: u32,
    /// Why it waits.
    pub reason: Reason,
}

impl From<&Seen<'_>> for Arrival {
    fn from(seen: &Seen<'_>) -> Self {
        Self {
            work: seen.work,
            ticket: seen.ticket,
            first_due: seen.first_due,
            size: seen.size,
            lane: seen.lane.clone(),
            account: seen.account.clone(),
            priority: seen.priority,
            not_before: seen.not_before,
            expires: seen.expires,
            attempts: seen.attempts,
            reason: seen.reason,
        }
    }
}

/// What a list shows of a work.
#[derive(Clone, Debug)]
pub struct WorkInfo {
    /// Which.
    pub work: WorkId,
    /// Which trade.
    pub kind: Kind,
    /// When it was first to go: its message was taken in, or scheduled for then.
    pub first_due: Timestamp,
    /// What dispatch groups by.
    pub lane: Arc<str>,
    /// Who caused it.
    pub account: Arc<str>,
    /// Higher goes first.
    pub priority: u8,
    /// Not to be attempted before.
    pub not_before: Timestamp,
    /// Too old from then on.
    pub expires: Timestamp,
    /// Attempts so far.
    pub attempts: u32,
    /// Recipients that have not ended.
    pub remaining: Recipients,
    /// Whether it may go.
    pub status: Status,
    /// Why it is where it is.
    pub reason: Reason,
    /// Under which lease it is being attempted, if it is.
    pub lease: Option<Epoch>,
    /// The other node that has that lease, if it is not this process.
    pub held_by: Option<Boot>,
    /// The node that was lost and may have done it, as far as is known.
    pub lost_by: Option<Boot>,
}

/// The opaque parts of a work, as its trade stored them.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// Of the message.
    pub header: Bytes,
    /// Of the work.
    pub detail: Bytes,
    /// Of its latest conclusion; empty before the first.
    pub state: Bytes,
}

/// How far a walk through all works has come; it begins with the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub(crate) u32);

/// A work that a walk passes. What it borrows is good for the moment only.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'q> {
    /// Which.
    pub work: WorkId,
    /// Its latest arrival.
    pub ticket: Ticket,
    /// When it was first to go: its message was taken in, or scheduled for then.
    pub first_due: Timestamp,
    /// Bytes that its message takes in the spool.
    pub size: u32,
    /// What dispatch groups by.
    pub lane: &'q Arc<str>,
    /// Who caused it.
    pub account: &'q Arc<str>,
    /// Higher goes first.
    pub priority: u8,
    /// Not to be attempted before.
    pub not_before: Timestamp,
    /// Too old from then on.
    pub expires: Timestamp,
    /// Attempts so far.
    pub attempts: u32,
    /// Recipients that have not ended.
    pub remaining: Recipients,
    /// Whether it may go.
    pub status: Status,
    /// Why it is where it is.
    pub reason: Reason,
    /// Under which lease it is being attempted, if it is.
    pub lease: Option<Epoch>,
}

/// What an operator wants of waiting works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Hold them back.
    Hold,
    /// Let them go when their time has come.
    Release,
    /// Let them go at this time; with the time now, at once.
    Reschedule(Timestamp),
    /// From now on they have this priority; nothing else changes.
    Prioritise(u8),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_a_set() {
        assert_eq!(Recipients::first(0), Recipients::NONE);
        assert_eq!(Recipients::first(128).count(), 128);
        let three = Recipients::first(3);
        assert_eq!(three.iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(three.without(Recipients::only(1)).iter().collect::<Vec<_>>(), [0, 2]);
        assert!(three.among(Recipients::only(3)).is_empty());
        assert_eq!(Recipients::only(127).with(three).count(), 4);
        assert!(Recipients::only(200).is_empty());
    }
}
