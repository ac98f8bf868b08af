//! The frame: what is written and recovered as one.
//!
//! | bytes | what (little-endian) |
//! |---|---|
//! | 0–3 | CRC-32 of bytes 4 to 39 and of the operations, seeded with the low half of the segment's nonce |
//! | 4–7 | the high half of the nonce, mixed with a constant: where a frame may start |
//! | 8–15 | sequence: one more than the frame before |
//! | 16–23 | synced: every frame up to this sequence was synced when this one was written |
//! | 24–27 | length of the operations |
//! | 28–31 | length of their words (the head section) |
//! | 32–35 | length of their bodies (the body section) |
//! | 36–39 | CRC-32 of the words, seeded with the high half of the nonce |
//! | 40– | operations, words, bodies; then zeros up to a multiple of 8 |
//!
//! A body's own CRC stands in its operation, because a body may lie in a file as well. The nonce is random per use of
//! a segment and never leaves it, so that nothing of an older use, nor anything that a sender
//! wrote into a body, can pass for a frame.

use bytes::Bytes;
use crc32fast::Hasher;

use crate::op::Op;

/// Length of a frame's header, in bytes.
pub(super) const HEADER: usize = 40;
/// Frames start at multiples of this.
pub(super) const ALIGN: usize = 8;
const MARK: u32 = 0x504f_5354;

/// A segment's secret for this use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nonce(pub(super) u64);

impl Nonce {
    fn low(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn mark(self) -> u32 {
        self.high() ^ MARK
    }

    /// A CRC-32 that only this use of the segment makes.
    pub(super) fn crc(self, bytes: &[u8]) -> u32 {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finalize()
    }

    /// The same for bytes that come in pieces.
    pub(super) fn hasher(self) -> Hasher {
        Hasher::new_with_initial(self.high())
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sequence: u64,
    pub(super) synced: u64,
    pub(super) ops_len: u32,
    pub(super) head_len: u32,
    pub(super) body_len: u32,
    pub(super) head_crc: u32,
}

impl Header {
    /// The header as it is written before `ops`.
    pub(super) fn encode(&self, nonce: Nonce, ops: &[u8]) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[4..8].copy_from_slice(&nonce.mark().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.synced.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.ops_len.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.head_len.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.head_crc.to_le_bytes());
        let crc = crc(nonce, &bytes[4..], ops);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header and the operations at the start of `bytes`, if they are whole and of this use.
    pub(super) fn decode(nonce: Nonce, bytes: &[u8]) -> Option<(Self, &[u8])> {
        let header = bytes.get(..HEADER)?;
        let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        if u32_at(4) != nonce.mark() {
            return None;
        }
        let this = Self {
            sequence: u64_at(8),
            synced: u64_at(16),
            ops_len: u32_at(24),
            head_len: u32_at(28),
            body_len: u32_at(32),
            head_crc: u32_at(36),
        };
        let ops = bytes.get(HEADER..HEADER.checked_add(this.ops_len as usize)?)?;
        (crc(nonce, &header[4..], ops) == u32_at(0)).then_some((this, ops))
    }

    /// How long the operations behind this header are, if it may be one.
    pub(super) fn ops_len_of(nonce: Nonce, header: &[u8; HEADER]) -> Option<usize> {
        let len = u32::from_le_bytes(header[24..28].try_into().expect("four bytes"));
        (header[4..8] == nonce.mark().to_le_bytes()).then_some(len as usize)
    }

    /// Length of header, operations and words.
    pub(super) fn front_len(&self) -> usize {
        HEADER + self.ops_len as usize + self.head_len as usize
    }

    /// Length of the whole frame, with the zeros behind it.
    pub(super) fn frame_len(&self) -> usize {
        (self.front_len() + self.body_len as usize).next_multiple_of(ALIGN)
    }
}

fn crc(nonce: Nonce, header: &[u8], ops: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(nonce.low());
    hasher.update(header);
    hasher.update(ops);
    hasher.finalize()
}

/// The operations of a frame.
pub(super) fn decode_ops(bytes: &[u8]) -> Option<Vec<Op>> {
    postcard::from_bytes(bytes).ok()
}

/// Adds the operations of a frame to `ops`, with names that stay where they are, and returns how many; none of them if one cannot be read.
pub(super) fn borrow_ops<'b>(bytes: &'b [u8], ops: &mut Vec<Op<&'b str>>) -> Option<usize> {
    let before = ops.len();
    let mut read = || {
        let (count, mut rest) = postcard::take_from_bytes::<usize>(bytes).ok()?;
        for _ in 0..count {
            let (op, behind) = postcard::take_from_bytes(rest).ok()?;
            ops.push(op);
            rest = behind;
        }
        Some(count)
    };
    let count = read();
    if count.is_none() {
        ops.truncate(before);
    }
    count
}

/// Bytes for which room is made for an operation to begin with.
const USUAL_LEN: usize = 128;

/// The operations as they are written.
pub(super) fn encode_ops(ops: &[Op]) -> Vec<u8> {
    let room = Vec::with_capacity(ops.len() * USUAL_LEN);
    postcard::to_extend(ops, room).expect("operations are plain data")
}

/// An operation with its words, and where its body starts, counted from the frame's start.
pub(super) type Part = (Op, Bytes, usize);

/// The front of a frame as it was read back.
pub(super) fn decode_front(nonce: Nonce, front: &Bytes) -> Option<(Header, Vec<Part>)> {
    let (header, ops) = Header::decode(nonce, front)?;
    let head_end = header.front_len();
    if head_end > front.len() {
        return None;
    }
    let head = front.slice(HEADER + ops.len()..head_end);
    if nonce.crc(&head) != header.head_crc {
        return None;
    }
    let mut words_at: usize = 0;
    let mut body_at = head_end;
    let parts = decode_ops(ops)?.into_iter().map(|op| {
        let words_len = usize::try_from(op.words_len()).ok()?;
        let words = words_at..words_at.checked_add(words_len).filter(|end| *end <= head.len())?;
        words_at = words.end;
        let body = body_at;
        body_at += usize::try_from(op.body_len()).ok()?;
        Some((op, head.slice(words), body))
    });
    Some((header, parts.collect::<Option<Vec<_>>>()?))
}

#[cfg(test)]
mod tests {
    use base::{MessageId, Timestamp, WorkId};

    use super::*;
    use crate::op::{Cancel, Untold};

    #[test]
    fn operations_are_the_same_whoever_holds_their_names() {
        let message = MessageId::generate(Timestamp::default());
        let work = WorkId { message, index: 3 };
        let cancel = Cancel { at: Timestamp::default(), works: vec![(work, crate::Recipients::only(2))] };
        let ops = vec![Op::Cancel(cancel), Op::Untold(Vec::<Untold>::new()), Op::Remember(Vec::new())];
        let encoded = encode_ops(&ops);
        let mut borrowed = Vec::new();
        assert_eq!(borrow_ops(&encoded, &mut borrowed), Some(3));
        assert_eq!(decode_ops(&encoded).as_ref(), Some(&ops));
        assert_eq!(format!("{borrowed:?}"), format!("{ops:?}"));
        assert_eq!(borrow_ops(&encoded[..encoded.len() - 1], &mut borrowed), None);
        assert_eq!(borrowed.len(), 3, "half a frame is nothing");
    }

    #[test]
    fn a_frame_is_read_only_with_its_own_nonce_and_only_whole() {
        let nonce = Nonce(0x1234_5678_9abc_def0);
        let header = Header { sequence: 7, synced: 6, ops_len: 3, head_len: 0, body_len: 0, head_crc: 0 };
        let mut bytes = header.encode(nonce, b"ops").to_vec();
        bytes.extend_from_slice(b"ops");
        assert_eq!(Header::decode(nonce, &bytes), Some((header, &b"ops"[..])));
        for other in [Nonce(nonce.0 ^ 1), Nonce(nonce.0 ^ 1 << 40)] {
            assert_eq!(Header::decode(other, &bytes), None);
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert_eq!(Header::decode(nonce, &flipped), None, "byte {at}");
            assert_eq!(Header::decode(nonce, &bytes[..at]), None);
        }
    }
}
