//! Reading a segment from front to end, and judging what is missing: a torn tail, or a damaged middle.

use super::{
    frame::{ALIGN, HEADER, Header, Nonce, decode_front, decode_ops},
    segment::TRAILER,
    window::Window,
};
use crate::op::{BodyRef, Op};

/// A frame that was found in some bytes of its segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) offset: u32,
    pub(super) header: Header,
    /// Where its operations start in those bytes.
    pub(super) ops_at: usize,
    pub(super) contents: Contents,
}

/// Whether a frame's words and bodies are what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    Whole,
    Damaged,
    /// Found in a footer: to be checked when they are read.
    Unread,
}

impl Found {
    /// The encoded operations in the bytes that the frame was found in.
    pub(super) fn ops<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        bytes.get(self.ops_at..self.ops_at + self.header.ops_len as usize).unwrap_or_default()
    }
}

/// All frames from `start` on in a segment, also behind places where none can be read, and their operations, one behind the other.
pub(super) fn frames(nonce: Nonce, window: &mut Window<'_>, start: usize) -> (Vec<Found>, Vec<u8>) {
    let (mut found, mut ops): (Vec<Found>, Vec<u8>) = (Vec::new(), Vec::new());
    let end = window.len().saturating_sub(TRAILER);
    let mut at = start;
    while at + HEADER <= end {
        match frame_at(nonce, window, at, &mut ops) {
            Some(frame) if found.last().is_none_or(|last| last.header.sequence < frame.header.sequence) => {
                at += frame.header.frame_len();
                found.push(frame);
            }
            _ => at += ALIGN,
        }
    }
    (found, ops)
}

/// The frame at a place, if there is one; its operations are added to `all`.
fn frame_at(nonce: Nonce, window: &mut Window<'_>, at: usize, all: &mut Vec<u8>) -> Option<Found> {
    let ops_len = Header::ops_len_of(nonce, window.get(at, HEADER).first_chunk()?)?;
    let (header, ops) = Header::decode(nonce, window.get(at, HEADER.checked_add(ops_len)?))?;
    decode_ops(ops)?;
    let ops_at = all.len();
    all.extend_from_slice(ops);
    let len = header.front_len() + header.body_len as usize;
    let frame = window.share(at, len);
    let is_whole = frame.len() == len
        && decode_front(nonce, &frame.slice(..header.front_len()))
            .is_some_and(|(_, parts)| parts.iter().all(|(op, _, body)| body_is_whole(op, &frame[*body..])));
    let contents = if is_whole { Contents::Whole } else { Contents::Damaged };
    Some(Found { offset: u32::try_from(at).ok()?, header, ops_at, contents })
}

fn body_is_whole(op: &Op, bytes: &[u8]) -> bool {
    match op {
        Op::Publish(publish) => match publish.body {
            BodyRef::Inline { len, crc } => {
                bytes.get(..len as usize).is_some_and(|body| crate::body::checksum(body) == crc)
            }
            BodyRef::Empty | BodyRef::File { .. } => true,
        },
        _ => true,
    }
}

/// What was found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// In which segment.
    pub segment: u32,
    /// Where in it, in bytes from its start.
    pub offset: u64,
    /// What, for people.
    pub what: String,
}

/// Sorts out what counts, and cuts off the rest; it is shown all frames in the order of their segments.
///
/// Frames that are missing or torn, yet were synced, are damage; all else from the first gap on was never promised to
/// anybody and is cut.
#[derive(Debug)]
pub(super) struct Judge {
    /// All up to this sequence is known to have been synced.
    proven: u64,
    expected: u64,
    segment: u32,
    counts: Counts,
    pub(super) damage: Vec<Damage>,
}

/// Whether a frame counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    Yes,
    /// Itself or one before it was never synced and is not whole.
    No,
}

impl Judge {
    pub(super) fn new(proven: u64) -> Self {
        Self { proven, expected: 1, segment: 0, counts: Counts::Yes, damage: Vec::new() }
    }

    /// The frames that follow are of this segment, which begins after a sequence.
    pub(super) fn begin(&mut self, segment: u32, after: u64) {
        // Segments that were used again leave gaps between those that remain.
        if self.counts == Counts::Yes && self.segment.checked_add(1) != Some(segment) {
            self.expected = after + 1;
        }
        self.segment = segment;
    }

    pub(super) fn examine(&mut self, frame: &Found) -> Counts {
        if self.counts == Counts::Yes {
            self.counts = self.examine_next(frame);
        }
        if self.counts == Counts::Yes {
            self.expected = frame.header.sequence + 1;
        }
        self.counts
    }

    fn examine_next(&mut self, frame: &Found) -> Counts {
        let Self { proven, expected, segment, .. } = *self;
        let sequence = frame.header.sequence;
        let damaged = |what| Damage { segment, offset: frame.offset.into(), what };
        if expected < sequence {
            let lost = proven.min(sequence - 1);
            if expected <= lost {
                self.damage
                    .push(damaged(format!("records {expected} to {lost} before this place cannot be read")));
            }
            if lost < sequence - 1 {
                return Counts::No;
            }
        }
        if frame.contents == Contents::Damaged {
            if sequence > proven {
                return Counts::No;
            }
            self.damage.push(damaged(format!("the contents of record {sequence} are not what was written")));
        }
        Counts::Yes
    }

    /// The last sequence that is taken.
    pub(super) fn last(&self) -> u64 {
        self.proven.max(self.expected - 1)
    }
}
