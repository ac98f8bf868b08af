//! Reading a segment from front to end, and judging what is missing: a torn tail, or a damaged middle.

use bytes::Bytes;

use super::{
    frame::{ALIGN, HEADER, Header, Nonce, decode_front},
    segment::{TRAILER, Trailer},
};
use crate::op::{BodyRef, Op};

/// A frame that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) header: Header,
    pub(super) ops: Vec<Op>,
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

/// All frames of a segment that takes no more, from its footer; nothing if it has no whole one.
pub(super) fn footer(number: u32, nonce: Nonce, trailer: Trailer, footer: &[u8]) -> Option<Vec<Found>> {
    if nonce.crc(footer) != trailer.footer_crc {
        return None;
    }
    let mut frames = Vec::new();
    let mut rest = footer;
    while !rest.is_empty() {
        let (offset, after) = rest.split_first_chunk::<4>()?;
        let (header, ops) = Header::decode(nonce, after)?;
        frames.push(Found {
            segment: number,
            offset: u32::from_le_bytes(*offset),
            header,
            ops: super::frame::decode_ops(ops)?,
            contents: Contents::Unread,
        });
        rest = &after[HEADER + ops.len()..];
    }
    Some(frames)
}

/// What a frame adds to its segment's footer.
pub(super) fn footer_entry(footer: &mut Vec<u8>, offset: u32, header: &[u8; HEADER], ops: &[u8]) {
    footer.extend_from_slice(&offset.to_le_bytes());
    footer.extend_from_slice(header);
    footer.extend_from_slice(ops);
}

/// All frames from `start` on in the bytes of a segment, also behind places where none can be read.
pub(super) fn frames(number: u32, nonce: Nonce, bytes: &Bytes, start: usize) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut at = start;
    let end = bytes.len().saturating_sub(TRAILER);
    while at + HEADER <= end {
        match frame_at(number, nonce, bytes, at) {
            Some(frame) if found.last().is_none_or(|last| last.header.sequence < frame.header.sequence) => {
                at += frame.header.frame_len();
                found.push(frame);
            }
            _ => at += ALIGN,
        }
    }
    found
}

fn frame_at(number: u32, nonce: Nonce, bytes: &Bytes, at: usize) -> Option<Found> {
    let (header, ops) = Header::decode(nonce, &bytes[at..])?;
    let ops = super::frame::decode_ops(ops)?;
    let contents = bytes
        .get(at..at + header.front_len() + header.body_len as usize)
        .and_then(|_| decode_front(nonce, &bytes.slice(at..at + header.front_len())))
        .filter(|(_, parts)| parts.iter().all(|(op, _, body)| body_is_whole(op, &bytes[at + body..])));
    Some(Found {
        segment: number,
        offset: u32::try_from(at).ok()?,
        header,
        ops,
        contents: if contents.is_some() { Contents::Whole } else { Contents::Damaged },
    })
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

/// What was read of a segment.
#[derive(Debug)]
pub(super) struct Chapter {
    pub(super) segment: u32,
    /// The sequence before its first frame.
    pub(super) after: u64,
    pub(super) frames: Vec<Found>,
}

impl Chapter {
    /// The last sequence in it that counts.
    pub(super) fn last(&self) -> u64 {
        self.frames.last().map_or(self.after, |frame| frame.header.sequence)
    }
}

/// Sorts out what counts, and cuts off the rest; `chapters` stand in order, and all up to `proven` is known to have
/// been synced. Returns the last sequence that is taken, and what is damaged.
///
/// Frames that are missing or torn, yet were synced, are damage; all else from the first gap on was never promised to
/// anybody and is cut.
pub(super) fn judge(chapters: &mut [Chapter], proven: u64) -> (u64, Vec<Damage>) {
    let mut damage = Vec::new();
    let mut expected = 1;
    let mut previous = None;
    for at in 0..chapters.len() {
        let chapter = &mut chapters[at];
        // Segments that were used again leave gaps between those that remain.
        if previous.is_none_or(|previous: u32| previous + 1 != chapter.segment) {
            expected = chapter.after + 1;
        }
        previous = Some(chapter.segment);
        let cut = chapter.frames.iter().position(|frame| {
            let counts = examine(frame, expected, proven, &mut damage);
            if counts {
                expected = frame.header.sequence + 1;
            }
            !counts
        });
        if let Some(cut) = cut {
            chapter.frames.truncate(cut);
            for later in &mut chapters[at + 1..] {
                later.frames.clear();
            }
            break;
        }
    }
    (proven.max(expected - 1), damage)
}

/// Whether a frame counts, which it does not if itself or one before it was never synced and is not whole.
fn examine(frame: &Found, expected: u64, proven: u64, damage: &mut Vec<Damage>) -> bool {
    let sequence = frame.header.sequence;
    let damaged = |what| Damage { segment: frame.segment, offset: frame.offset.into(), what };
    if expected < sequence {
        let lost = proven.min(sequence - 1);
        if expected <= lost {
            damage.push(damaged(format!("records {expected} to {lost} before this place cannot be read")));
        }
        if lost < sequence - 1 {
            return false;
        }
    }
    if frame.contents == Contents::Damaged {
        if sequence > proven {
            return false;
        }
        damage.push(damaged(format!("the contents of record {sequence} are not what was written")));
    }
    true
}
