//! The segment: a file of fixed length that holds frames, and is used again when nothing in it is needed.
//!
//! | bytes | what (little-endian) |
//! |---|---|
//! | 0–4095, 4096–8191 | two copies of the header |
//! | 8192– | frames, one behind the other |
//! | … | when it is full or left: the footer, all frames' headers and operations again |
//! | last 48 | the trailer: where the footer is |
//!
//! Header: magic, format, state, spool id, number, nonce, `after` (the sequence before its first frame), `until` (the last
//! one that counts, once a recovery or the collector has found that), CRC-32 of these. Numbers rise with every use. What a
//! recovery cuts off does not count, though it is still there: it is beyond `until`, and beyond the `after` of
//! the segment that the recovery begins.

use std::{cmp::Reverse, sync::Arc};

use parking_lot::Mutex;

use super::frame::Nonce;
use crate::{QueueError, files::File};

/// The version of everything in the spool's directory.
pub const FORMAT: u32 = 1;
/// Where frames start.
pub(super) const DATA_START: usize = 8192;
/// How much of a file tells what it is, in bytes.
pub(super) const LOOKED_AT: usize = 2 * DATA_START;
/// Length of the trailer, in bytes.
pub(super) const TRAILER: usize = 48;
const HEADER_LEN: usize = 68;
/// In different blocks of the disk, so that one bad block leaves the other.
const COPIES: [usize; 2] = [0, 4096];
const MAGIC: &[u8; 8] = b"phspool\n";
const TRAILER_MAGIC: u64 = 0x7068_656e_6421_0a0a;

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) spool: u128,
    pub(super) number: u32,
    pub(super) nonce: Nonce,
    pub(super) after: u64,
    pub(super) until: u64,
    pub(super) state: SegmentState,
}

/// The `until` of a segment that is being written, or was left in order.
pub(super) const OPEN_END: u64 = u64::MAX;

/// Whether a segment is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SegmentState {
    Used = 1,
    Free = 2,
}

/// What the first bytes of a file tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FoundHeader {
    Ours(SegmentHeader),
    /// Only begun to be made.
    Blank,
    /// Both copies are damaged.
    Damaged,
    /// Not a segment, or of a format that this version does not know.
    Foreign(String),
}

impl SegmentHeader {
    /// The header of a file that was made and not used yet.
    pub(super) fn unused(spool: u128) -> Self {
        Self { spool, number: 0, nonce: Nonce(0), after: 0, until: 0, state: SegmentState::Free }
    }

    /// The first [`DATA_START`] bytes of the segment.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut one = Vec::with_capacity(HEADER_LEN);
        one.extend_from_slice(MAGIC);
        one.extend_from_slice(&FORMAT.to_le_bytes());
        one.extend_from_slice(&(self.state as u32).to_le_bytes());
        one.extend_from_slice(&self.spool.to_le_bytes());
        one.extend_from_slice(&u64::from(self.number).to_le_bytes());
        one.extend_from_slice(&self.nonce.0.to_le_bytes());
        one.extend_from_slice(&self.after.to_le_bytes());
        one.extend_from_slice(&self.until.to_le_bytes());
        one.extend_from_slice(&crc32fast::hash(&one).to_le_bytes());
        let mut bytes = vec![0; DATA_START];
        for at in COPIES {
            bytes[at..at + HEADER_LEN].copy_from_slice(&one);
        }
        bytes
    }

    /// What a file is whose first [`LOOKED_AT`] bytes are these.
    pub(super) fn decode(bytes: &[u8]) -> FoundHeader {
        let is_blank = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        if is_blank(bytes) {
            return FoundHeader::Blank;
        }
        // Where there are frames there was a header.
        if is_blank(bytes.get(..DATA_START).unwrap_or(bytes)) {
            return FoundHeader::Damaged;
        }
        let copies = COPIES.map(|at| bytes.get(at..at + HEADER_LEN).unwrap_or_default());
        if copies.iter().all(|copy| !copy.starts_with(MAGIC)) {
            return FoundHeader::Foreign("it does not begin as a segment does".into());
        }
        let mut valid: Vec<&[u8]> = copies.into_iter().filter(|copy| is_whole(copy)).collect();
        valid.sort_by_key(|copy| (u64_at(copy, 32), u32_at(copy, 12), Reverse(u64_at(copy, 56))));
        let Some(copy) = valid.pop() else {
            return match copies.map(|copy| copy.get(8..12).map(|_| u32_at(copy, 8))) {
                [Some(one), Some(two)] if one == two && one != FORMAT => other_format(one),
                _ => FoundHeader::Damaged,
            };
        };
        if u32_at(copy, 8) != FORMAT {
            return other_format(u32_at(copy, 8));
        }
        let Ok(number) = u32::try_from(u64_at(copy, 32)) else { return FoundHeader::Damaged };
        FoundHeader::Ours(Self {
            spool: u128::from_le_bytes(copy[16..32].try_into().expect("sixteen bytes")),
            number,
            nonce: Nonce(u64_at(copy, 40)),
            after: u64_at(copy, 48),
            until: u64_at(copy, 56),
            state: if u32_at(copy, 12) == SegmentState::Free as u32 {
                SegmentState::Free
            } else {
                SegmentState::Used
            },
        })
    }
}

fn other_format(format: u32) -> FoundHeader {
    FoundHeader::Foreign(format!("it has format {format}, and this version reads format {FORMAT}"))
}

fn is_whole(copy: &[u8]) -> bool {
    copy.starts_with(MAGIC) && crc32fast::hash(&copy[..HEADER_LEN - 4]) == u32_at(copy, HEADER_LEN - 4)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The end of a segment that was left: where its footer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) footer_at: u64,
    pub(super) footer_len: u64,
    pub(super) last: u64,
    pub(super) footer_crc: u32,
}

impl Trailer {
    pub(super) fn encode(&self, nonce: Nonce) -> [u8; TRAILER] {
        let mut bytes = [0; TRAILER];
        bytes[..8].copy_from_slice(&(TRAILER_MAGIC ^ nonce.0).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.footer_at.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.footer_len.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.last.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.footer_crc.to_le_bytes());
        let crc = nonce.crc(&bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(nonce: Nonce, bytes: &[u8]) -> Option<Self> {
        let whole = bytes.len() == TRAILER
            && u64_at(bytes, 0) == TRAILER_MAGIC ^ nonce.0
            && u32_at(bytes, 44) == nonce.crc(&bytes[..44]);
        whole.then(|| Self {
            footer_at: u64_at(bytes, 8),
            footer_len: u64_at(bytes, 16),
            last: u64_at(bytes, 24),
            footer_crc: u32_at(bytes, 32),
        })
    }
}

/// A segment in use.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) nonce: Nonce,
    pub(super) after: u64,
    pub(super) file: File,
    pub(super) name: String,
    /// Where its frames end and which is the last, once it takes no more.
    pub(super) sealed: Mutex<Option<Sealed>>,
    /// Held by everyone who reads from it.
    pub(super) pin: Pin,
}

/// Keeps a segment from being used again.
pub(super) type Pin = Arc<()>;

/// How a segment ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub(super) last: u64,
    pub(super) tales: Tales,
}

/// Where the tales of a segment are that the message log has not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tales {
    /// Here, as far as they are not confirmed.
    Here,
    /// In later segments, or given up.
    Forward,
}

impl Sealed {
    /// It takes no more, and this is its last frame.
    pub(super) fn at(last: u64) -> Self {
        Self { last, tales: Tales::Here }
    }
}

impl Segment {
    /// Its header, as it is written when its end is known.
    pub(super) fn header(&self, spool: u128, until: u64, state: SegmentState) -> SegmentHeader {
        let Self { number, nonce, after, .. } = *self;
        SegmentHeader { spool, number, nonce, after, until, state }
    }

    /// The front of a frame, as it was written.
    pub(super) fn read_front(&self, offset: u32, len: u32) -> Result<bytes::Bytes, QueueError> {
        Ok(self.file.read_exact_at(len as usize, u64::from(offset))?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(number: u32, state: SegmentState) -> SegmentHeader {
        SegmentHeader { spool: 77, number, nonce: Nonce(99), after: 12, until: OPEN_END, state }
    }

    #[test]
    fn a_header_survives_damage_to_either_copy() {
        let ours = header(3, SegmentState::Used);
        let bytes = ours.encode();
        assert_eq!(SegmentHeader::decode(&bytes), FoundHeader::Ours(ours));
        for at in [20, 4096 + 20] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(SegmentHeader::decode(&damaged), FoundHeader::Ours(ours));
        }
        let mut both = bytes;
        both[20] ^= 1;
        both[4116] ^= 1;
        assert_eq!(SegmentHeader::decode(&both), FoundHeader::Damaged);
    }

    #[test]
    fn a_half_written_header_counts_for_the_newer_use() {
        let (old, new) = (header(3, SegmentState::Free), header(9, SegmentState::Used));
        let mut bytes = old.encode();
        bytes[..4096].copy_from_slice(&new.encode()[..4096]);
        assert_eq!(SegmentHeader::decode(&bytes), FoundHeader::Ours(new));
    }

    #[test]
    fn what_is_not_ours_is_said_to_be_foreign() {
        assert_eq!(SegmentHeader::decode(&[0; DATA_START]), FoundHeader::Blank);
        assert!(matches!(SegmentHeader::decode(&[b'x'; DATA_START]), FoundHeader::Foreign(_)));
        let mut newer = header(1, SegmentState::Used).encode();
        for at in COPIES {
            newer[at + 8] = 9;
            let crc = crc32fast::hash(&newer[at..at + HEADER_LEN - 4]);
            newer[at + HEADER_LEN - 4..at + HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
        }
        assert!(
            matches!(SegmentHeader::decode(&newer), FoundHeader::Foreign(why) if why.contains("format 9"))
        );
    }
}
