//! What is written: operations on works, as they stand in the spool for ever.
//!
//! The order of variants and fields is the format (postcard, a compact serde encoding); a change of it is a new
//! [`FORMAT`](crate::spool::FORMAT). One frame of the spool carries a list of operations and is applied whole or not at
//! all. The opaque words of an operation lie apart, in the frame's head section, in the order in
//! which the operations name their lengths: for a publication its header, then for each work detail and
//! state; for a conclusion state, then record.

use std::time::Duration;

use base::{MessageId, Timestamp, WorkId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Boot, Epoch, Kind,
    work::{Cancelled, End, Reason, Recipients, Repeat, Status, Words},
};

/// How long the id of a publication that may be repeated is remembered after its end.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(600);
/// How many such ids are remembered at most; beyond it the oldest are forgotten.
pub const MAX_REMEMBERED: usize = 200_000;

/// An operation; `S` is how it holds names: its own, or borrowed from what it was read from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Op<S = String> {
    /// A message with its works comes to be, or is copied forward.
    Publish(Publish<S>),
    /// A holder says what became of a work.
    Conclude(Conclude),
    /// Where a work stands, after a change by hand.
    State(State),
    /// A range of works is cancelled, in one record.
    Cancel(Cancel),
    /// A work was given to another node.
    Grant { work: WorkId, boot: Boot, epoch: Epoch },
    /// A work's attempt passes the point of no return.
    Commit { work: WorkId, epoch: Epoch },
    /// All that a node had is taken back.
    Gone { boot: Boot },
    /// Ids of ended messages that may be published again, and until when to remember them.
    Remember(Vec<(MessageId, Timestamp)>),
    /// Records that the message log has not taken yet, copied forward.
    Untold(Vec<Untold>),
    /// A range of works is cancelled because their sender was told that they are not taken.
    Withdraw(Cancel),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Publish<S = String> {
    pub(crate) message: MessageId,
    pub(crate) kind: Kind,
    /// When it was taken in; in a copy, when its works were first to go.
    pub(crate) at: Timestamp,
    pub(crate) repeat: Repeat,
    pub(crate) origin: Origin,
    pub(crate) header_len: u32,
    pub(crate) body: BodyRef,
    pub(crate) works: Vec<PublishedWork<S>>,
}

/// How a publication came into this segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    New,
    /// Copied from an older segment, with the state of its works at that time.
    CopiedForward,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BodyRef {
    Empty,
    /// In the frame's body section.
    Inline {
        len: u32,
        crc: u32,
    },
    /// In a file named after the message and a random number, so that a repeat of the message
    /// does not write into the file of the first.
    File {
        salt: u32,
        len: u64,
        crc: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PublishedWork<S = String> {
    pub(crate) index: u16,
    pub(crate) lane: S,
    pub(crate) account: S,
    pub(crate) needs: Vec<S>,
    pub(crate) expires: Timestamp,
    pub(crate) recipients: u8,
    pub(crate) standing: Standing,
    pub(crate) detail_len: u32,
    pub(crate) state_len: u32,
}

/// Where a work stands: complete in itself, so that the latest one is all that recovery needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) remaining: Recipients,
    pub(crate) attempts: u32,
    pub(crate) not_before: Timestamp,
    pub(crate) priority: u8,
    pub(crate) status: Status,
    pub(crate) reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Conclude {
    pub(crate) work: WorkId,
    pub(crate) epoch: Epoch,
    pub(crate) at: Timestamp,
    pub(crate) ends: Vec<(End, Recipients)>,
    pub(crate) after: After,
    pub(crate) state_len: u32,
    pub(crate) record_len: u32,
}

/// What becomes of the recipients that a conclusion did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum After {
    /// None is left.
    Ended,
    /// They stand here from now on.
    Stands(Standing),
    /// The conclusion came late: they stay as they are, under whoever holds them now.
    Unchanged,
}

/// At most [`CANCELLED_AT_ONCE`] works, each with the recipients that had not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cancel {
    pub(crate) at: Timestamp,
    pub(crate) works: Vec<(WorkId, Recipients)>,
}

/// How many works one record cancels at most, so that a purge neither holds the queue up nor
/// needs much memory.
pub(crate) const CANCELLED_AT_ONCE: usize = 4096;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) work: WorkId,
    pub(crate) standing: Standing,
    pub(crate) state_len: u32,
}

/// A tale that the reader of the feed has not taken yet, copied forward with its words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Untold {
    /// Words: the header, then each work's detail.
    Published {
        message: MessageId,
        kind: Kind,
        at: Timestamp,
        header_len: u32,
        works: Vec<UntoldWork>,
    },
    /// Words: the record.
    Concluded {
        work: WorkId,
        epoch: Epoch,
        at: Timestamp,
        record_len: u32,
    },
    Cancelled {
        work: WorkId,
        at: Timestamp,
        remaining: Recipients,
    },
    /// A late word, which counts for these alone. Words: the record.
    Late {
        work: WorkId,
        epoch: Epoch,
        at: Timestamp,
        only: Recipients,
        record_len: u32,
    },
    /// Its sender was told that it is not taken.
    Withdrawn {
        work: WorkId,
        at: Timestamp,
        remaining: Recipients,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UntoldWork {
    pub(crate) index: u16,
    pub(crate) recipients: u8,
    pub(crate) detail_len: u32,
}

/// What a tale that is carried forward takes besides its words, about, in bytes.
const UNTOLD_TAKES: u64 = 48;

impl<S> Op<S> {
    /// Works are cancelled.
    pub(crate) fn cancel(cancel: Cancel, why: Cancelled) -> Self {
        match why {
            Cancelled::ByHand => Self::Cancel(cancel),
            Cancelled::Withdrawn => Self::Withdraw(cancel),
        }
    }

    /// The length of its words in the head section.
    pub(crate) fn words_len(&self) -> u64 {
        match self {
            Self::Publish(publish) => {
                let works = publish.works.iter().map(|w| u64::from(w.detail_len) + u64::from(w.state_len));
                u64::from(publish.header_len) + works.sum::<u64>()
            }
            Self::Conclude(conclude) => u64::from(conclude.state_len) + u64::from(conclude.record_len),
            Self::State(state) => u64::from(state.state_len),
            Self::Untold(untold) => untold.iter().map(Untold::words_len).sum(),
            Self::Cancel(_)
            | Self::Withdraw(_)
            | Self::Grant { .. }
            | Self::Commit { .. }
            | Self::Gone { .. }
            | Self::Remember(_) => 0,
        }
    }

    /// The length of its bodies in the body section.
    pub(crate) fn body_len(&self) -> u64 {
        match self {
            Self::Publish(Publish { body: BodyRef::Inline { len, .. }, .. }) => u64::from(*len),
            _ => 0,
        }
    }
}

impl Untold {
    /// What it takes in a segment, about, in bytes.
    pub(crate) fn size(&self) -> u64 {
        UNTOLD_TAKES + self.words_len()
    }

    /// The length of its words in the head section.
    pub(crate) fn words_len(&self) -> u64 {
        match self {
            Self::Published { header_len, works, .. } => {
                u64::from(*header_len) + works.iter().map(|work| u64::from(work.detail_len)).sum::<u64>()
            }
            Self::Concluded { record_len, .. } | Self::Late { record_len, .. } => u64::from(*record_len),
            Self::Cancelled { .. } | Self::Withdrawn { .. } => 0,
        }
    }
}

impl<S> Publish<S> {
    /// When its works were first to go. Of a copy's works only the next time is known.
    pub(crate) fn first_due(&self) -> Timestamp {
        let scheduled = self.works.iter().map(|work| work.standing.not_before).min();
        match self.origin {
            Origin::New => scheduled.map_or(self.at, |scheduled| scheduled.max(self.at)),
            Origin::CopiedForward => self.at,
        }
    }

    /// Takes this publication's words out of its part of the head section.
    pub(crate) fn words(&self, head: &Bytes) -> MessageWords {
        let mut at = 0;
        let mut take = |len: u32| {
            let start = at;
            at += len as usize;
            head.slice(start..at)
        };
        let header = take(self.header_len);
        let works =
            self.works.iter().map(|work| (work.index, take(work.detail_len), take(work.state_len))).collect();
        MessageWords { header, works }
    }
}

/// The opaque words of a publication.
#[derive(Clone, Debug)]
pub(crate) struct MessageWords {
    pub(crate) header: Bytes,
    /// Index, detail, state.
    pub(crate) works: Vec<(u16, Bytes, Bytes)>,
}

impl MessageWords {
    pub(crate) fn of(&self, index: u16) -> Option<Words> {
        let (_, detail, state) = self.works.iter().find(|(at, ..)| *at == index)?;
        Some(Words { header: self.header.clone(), detail: detail.clone(), state: state.clone() })
    }
}
