//! Changes to the bytes of segments, by the format of docs/SPOOL.md: some leave their checksums wrong, some mend them.

use std::ops::Range;

use crc32fast::Hasher;

/// Where frames start.
const DATA: usize = 8192;
/// Length of a frame's header.
const HEADER: usize = 40;
/// Length of the trailer.
const TRAILER: usize = 48;
/// Bytes of an input that make one change.
pub(crate) const CHANGE: usize = 6;

/// One change.
#[derive(Debug)]
pub(crate) struct Change<'b> {
    bytes: &'b [u8],
}

impl<'b> Change<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes }
    }

    /// Which of so many segments it is made to.
    pub(crate) fn segment(&self, segments: usize) -> usize {
        usize::from(self.bytes[0] >> 4) % segments
    }

    /// Makes the change.
    pub(crate) fn make(&self, file: &mut Vec<u8>) {
        let [kind, number, high, low, value, mend] = *self.bytes else { return };
        if file.len() < DATA {
            return;
        }
        let frames = frames(file);
        let frame = frames.get(usize::from(number) % frames.len().max(1)).cloned();
        let place = usize::from(u16::from_be_bytes([high, low]));
        match (kind & 0x0f, frame) {
            (0..=4, Some(frame)) => {
                // Mostly in the header and the operations, which are small.
                let within = if mend & 2 == 0 { HEADER + length(file, frame.start, 24) } else { frame.len() };
                file[frame.start + place % within] ^= value;
                mend_frame(file, frame.start, mend);
            }
            (5 | 6, Some(frame)) => {
                let field = [8, 16, 24, 28, 32][usize::from(low) % 5];
                let number = [0, 1, u32::from(value), u32::MAX][usize::from(high) % 4];
                file[frame.start + field..][..4].copy_from_slice(&number.to_le_bytes());
                mend_frame(file, frame.start, mend);
            }
            (7, Some(frame)) => file[frame.start..].iter_mut().take(place).for_each(|byte| *byte = value),
            (8, Some(frame)) => {
                let other = frames[place % frames.len()].clone();
                let copy = file[other].to_vec();
                let end = (frame.start + copy.len()).min(file.len());
                file[frame.start..end].copy_from_slice(&copy[..end - frame.start]);
            }
            (9 | 10, _) => {
                file[place % 68] ^= value;
                mend_header(file, mend);
            }
            (11, _) => {
                let end = file.len();
                file[end - 1 - place % TRAILER] ^= value;
                mend_trailer(file, mend);
            }
            (12, _) => mend_footer(file, place, value, mend),
            (13, _) => file.truncate(DATA + place),
            (14, _) => file.resize(file.len() + place, value),
            _ => {
                let by = usize::from(value) * 8;
                file[DATA..].iter_mut().skip(by).for_each(|byte| *byte = byte.rotate_left(1));
            }
        }
    }
}

/// The frames of a segment, in their order, as far as one leads to the next.
fn frames(file: &[u8]) -> Vec<Range<usize>> {
    let mut frames = Vec::new();
    let mut at = DATA;
    while at + HEADER + TRAILER <= file.len() {
        let lengths = [24, 28, 32].map(|field| length(file, at, field));
        let end = lengths.into_iter().fold(at + HEADER, usize::saturating_add).saturating_add(7) / 8 * 8;
        if lengths == [0; 3] && file[at..at + 4] == [0; 4] || end > file.len() {
            break;
        }
        frames.push(at..end);
        at = end;
    }
    frames
}

fn length(file: &[u8], frame: usize, field: usize) -> usize {
    file.get(frame + field..frame + field + 4)
        .map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")) as usize)
}

/// The low and the high half of the segment's nonce.
fn nonce(file: &[u8]) -> (u32, u32) {
    let half = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    (half(40), half(44))
}

fn crc(seed: u32, parts: &[&[u8]]) -> [u8; 4] {
    let mut hasher = Hasher::new_with_initial(seed);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().to_le_bytes()
}

fn mend_frame(file: &mut [u8], at: usize, mend: u8) {
    let (low, high) = nonce(file);
    let (ops, words) = (length(file, at, 24), length(file, at, 28));
    let Some(ops_end) = (at + HEADER).checked_add(ops).filter(|end| *end <= file.len()) else { return };
    if mend & 1 == 0 {
        return;
    }
    if let Some(words) = file.get(ops_end..ops_end.saturating_add(words)) {
        let sum = crc(high, &[words]);
        file[at + 36..at + 40].copy_from_slice(&sum);
    }
    let sum = crc(low, &[&file[at + 4..at + HEADER], &file[at + HEADER..ops_end]]);
    file[at..at + 4].copy_from_slice(&sum);
}

fn mend_header(file: &mut [u8], mend: u8) {
    if mend & 1 != 0 {
        let sum = crc(0, &[&file[..64]]);
        file[64..68].copy_from_slice(&sum);
        let (first, second) = file.split_at_mut(4096);
        second[..68].copy_from_slice(&first[..68]);
    }
}

fn mend_trailer(file: &mut [u8], mend: u8) {
    if mend & 1 != 0 {
        let (_, high) = nonce(file);
        let at = file.len() - TRAILER;
        let sum = crc(high, &[&file[at..at + 44]]);
        file[at + 44..].copy_from_slice(&sum);
    }
}

fn mend_footer(file: &mut [u8], place: usize, value: u8, mend: u8) {
    let at = file.len() - TRAILER;
    let (start, len) = (length(file, at, 8), length(file, at, 16));
    let Some(end) = start.checked_add(len).filter(|end| *end <= at && len > 0) else { return };
    file[start + place % len] ^= value;
    let (_, high) = nonce(file);
    let sum = crc(high, &[&file[start..end]]);
    file[at + 32..at + 36].copy_from_slice(&sum);
    mend_trailer(file, mend);
}
