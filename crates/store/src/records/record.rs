//! The record: what it says, and the numbers that stand for its words in the table.

use std::time::Duration;

use base::{Timestamp, WorkId};

/// One thing that happened to one recipient.
///
/// A recipient has one reception; it has one attempt and one end per lease, so that an answer which
/// came too late is seen beside the end that others concluded.
///
/// `S` is `&str` where records are written, so that a batch allocates nothing, and `String` where
/// they are read. An empty text means that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<S> {
    /// The work that the recipient belongs to.
    pub work: WorkId,
    /// Which recipient of the work, from 0.
    pub recipient: u16,
    /// When it happened.
    pub at: Timestamp,
    /// The name of the node where it happened.
    pub node: S,
    /// What happened.
    pub what: What<S>,
}

/// A record as it is read.
pub type OwnedRecord = Record<String>;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What<S> {
    /// The recipient was accepted.
    Reception(Reception<S>),
    /// An attempt ended, or the recipient's life did.
    Conclusion(Conclusion<S>),
    /// The recipient was refused at the door, and never became work.
    Refusal(Refusal<S>),
}

/// How a recipient was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal<S> {
    /// The envelope's sender; empty for the null sender.
    pub sender: S,
    /// The recipient's address.
    pub recipient: S,
    /// The client's address and port.
    pub client: S,
    /// What the client called itself.
    pub helo: S,
    /// What it was answered.
    pub reply: S,
}

/// How a recipient came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reception<S> {
    /// The envelope's sender; empty for the null sender.
    pub sender: S,
    /// The recipient's address.
    pub recipient: S,
    /// Bytes of the message.
    pub size: u64,
    /// Which door it came in by.
    pub source: Source,
    /// The client's address and port.
    pub client: S,
    /// What the client called itself.
    pub helo: S,
    /// The protocol as in the `Received` field: `ESMTP`, `SMTP`, ….
    pub protocol: S,
}

/// How an attempt, or the life of a recipient, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conclusion<S> {
    /// The lease under which it happened.
    pub epoch: i64,
    /// What came of it.
    pub outcome: Outcome,
    /// Why, as a short word of the trade: `reply`, `connect`, `timeout`, ….
    pub reason: S,
    /// The next hop's name.
    pub remote_host: S,
    /// The address and port that was spoken to.
    pub remote_address: S,
    /// The next hop's reply, or what was wrong.
    pub reply: S,
    /// Which attempt, from 1; 0 when there was none.
    pub attempt: u32,
    /// How long after intake.
    pub delay: Duration,
    /// Whether the recipient may have got the message twice.
    pub duplicate: Duplicate,
}

/// Which door a message came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An SMTP session.
    Smtp,
    /// The control socket.
    Control,
    /// Made by the node itself: a delivery status notification (RFC 3464).
    Dsn,
}

/// What came of an attempt or a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Not now; it will be tried again.
    Deferred {
        /// When the next attempt is due.
        until: Timestamp,
    },
    /// The next hop took it.
    Delivered,
    /// It will not be delivered.
    Failed,
    /// It was too old.
    Expired,
    /// An operator ended it, or its sender was told that it is not taken.
    Cancelled,
    /// Nobody can say: the lease ran out without word.
    Lost,
}

/// Whether a recipient may have got the message twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Duplicate {
    /// No.
    No,
    /// The attempt was past the final dot when its node crashed, so an earlier one may have succeeded.
    Possible,
}

/// The kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Accepted.
    Reception,
    /// An attempt that did not end it.
    Attempt,
    /// The end of the recipient's life.
    End,
    /// Refused at the door.
    Refusal,
}

/// What happened, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Happened {
    /// The recipient was accepted.
    Accepted,
    /// An attempt did not end it.
    Deferred,
    /// The next hop took it.
    Delivered,
    /// It will not be delivered.
    Failed,
    /// It was too old.
    Expired,
    /// An operator ended it, or its sender was told that it is not taken.
    Cancelled,
    /// Nobody can say.
    Lost,
    /// It was refused at the door.
    Refused,
}

impl Happened {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Accepted,
        Self::Deferred,
        Self::Delivered,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
        Self::Lost,
        Self::Refused,
    ];

    /// The word for it in lists, JSON and on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Deferred => "deferred",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
            Self::Refused => "refused",
        }
    }

    /// The number of the outcome in the table; a reception has 0 and stores none.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Accepted => 0,
            Self::Deferred => 1,
            Self::Delivered => 2,
            Self::Failed => 3,
            Self::Expired => 4,
            Self::Cancelled => 5,
            Self::Lost => 6,
            Self::Refused => 7,
        }
    }

    pub(super) fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|happened| happened.number() == number)
    }
}

impl std::str::FromStr for Happened {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|happened| happened.word() == word).ok_or_else(|| {
            let words = Self::ALL.map(Self::word).join(", ");
            format!("\"{word}\" is nothing that happens to a message: one of {words}")
        })
    }
}

impl<S> Record<S> {
    /// What happened, in one word.
    pub fn happened(&self) -> Happened {
        match &self.what {
            What::Reception(_) => Happened::Accepted,
            What::Conclusion(conclusion) => conclusion.outcome.happened(),
            What::Refusal(_) => Happened::Refused,
        }
    }

    /// Which kind of record this is.
    pub fn kind(&self) -> Kind {
        match &self.what {
            What::Reception(_) => Kind::Reception,
            What::Conclusion(conclusion) => conclusion.outcome.kind(),
            What::Refusal(_) => Kind::Refusal,
        }
    }
}

impl Outcome {
    /// Whether it ends a recipient's life or only an attempt.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Deferred { .. } => Kind::Attempt,
            Self::Delivered | Self::Failed | Self::Expired | Self::Cancelled | Self::Lost => Kind::End,
        }
    }

    /// The same without its details.
    #[must_use]
    pub fn happened(self) -> Happened {
        match self {
            Self::Deferred { .. } => Happened::Deferred,
            Self::Delivered => Happened::Delivered,
            Self::Failed => Happened::Failed,
            Self::Expired => Happened::Expired,
            Self::Cancelled => Happened::Cancelled,
            Self::Lost => Happened::Lost,
        }
    }

    pub(super) fn from_number(number: i64, until: Option<i64>) -> Option<Self> {
        Some(match Happened::from_number(number)? {
            Happened::Accepted | Happened::Refused => return None,
            Happened::Deferred => Self::Deferred { until: Timestamp::from_micros(until?) },
            Happened::Delivered => Self::Delivered,
            Happened::Failed => Self::Failed,
            Happened::Expired => Self::Expired,
            Happened::Cancelled => Self::Cancelled,
            Happened::Lost => Self::Lost,
        })
    }
}

impl Kind {
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Reception => 1,
            Self::Attempt => 2,
            Self::End => 3,
            Self::Refusal => 4,
        }
    }
}

impl Source {
    /// The word for it in lists and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Control => "control",
            Self::Dsn => "dsn",
        }
    }

    pub(super) fn number(self) -> i64 {
        match self {
            Self::Smtp => 1,
            Self::Control => 2,
            Self::Dsn => 3,
        }
    }

    pub(super) fn from_number(number: i64) -> Option<Self> {
        [Self::Smtp, Self::Control, Self::Dsn].into_iter().find(|source| source.number() == number)
    }
}

impl Duplicate {
    pub(super) fn number(self) -> i64 {
        match self {
            Self::No => 0,
            Self::Possible => 1,
        }
    }

    pub(super) fn from_number(number: i64) -> Self {
        if number == 0 { Self::No } else { Self::Possible }
    }
}
