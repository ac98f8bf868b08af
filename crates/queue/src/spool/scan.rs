//! Reading a segment from front to end, and judging what is missing: a torn tail, or a damaged middle.

use bytes::Bytes;

use super::{
    frame::{ALIGN, HEADER, Header, Nonce, decode_front},
    segment::{DATA_START, TRAILER, Trailer},
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

/// All frames in the bytes of a segment, also behind places where none can be read.
pub(super) fn frames(number: u32, nonce: Nonce, bytes: &Bytes) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut at = DATA_START;
    let end = bytes.len().saturating_sub(TRAILER);
    while at + HEADER <= end {
        match frame_at(number, nonce, bytes, at) {
            Some(frame) if found.last().is_none_or(|last| last.header.sequence < frame.header.sequence) => {
                // A frame whose body was torn says how long it is, but what lies in there may be older or newer
                // frames' bytes only if it was never whole: then nothing behind it counts either.
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

/// Sorts out what counts. `frames` stand in order of their segments; `ends` tells for each segment its number, the
/// sequence before its first frame, and whether all of its frames are known to be there.
///
/// Frames that are missing or torn, yet were synced as a later frame proves, are damage; all else from the first gap
/// on was never promised to anybody and is cut.
pub(super) fn judge(frames: Vec<Found>, starts: &[(u32, u64)]) -> (Vec<Found>, Vec<Damage>) {
    let proven = frames.iter().map(|frame| frame.header.synced).max().unwrap_or(0);
    let mut kept: Vec<Found> = Vec::with_capacity(frames.len());
    let mut damage = Vec::new();
    let mut expected = None;
    let mut previous = None;
    for frame in frames {
        // Segments that were used again leave gaps between those that remain.
        if previous != Some(frame.segment) {
            let start =
                starts.iter().find(|(number, _)| *number == frame.segment).map(|(_, after)| after + 1);
            let follows = previous.is_some_and(|previous| previous + 1 == frame.segment);
            expected = if follows { expected.max(start) } else { start };
            previous = Some(frame.segment);
        }
        let sequence = frame.header.sequence;
        if let Some(missing) = expected.filter(|missing| *missing < sequence) {
            if missing > proven {
                break;
            }
            damage.push(Damage {
                segment: frame.segment,
                offset: frame.offset.into(),
                what: format!("records {missing} to {} before this place cannot be read", sequence - 1),
            });
        }
        if frame.contents == Contents::Damaged {
            if sequence > proven {
                break;
            }
            damage.push(Damage {
                segment: frame.segment,
                offset: frame.offset.into(),
                what: format!("the contents of record {sequence} are not what was written"),
            });
        }
        expected = Some(sequence + 1);
        kept.push(frame);
    }
    (kept, damage)
}
