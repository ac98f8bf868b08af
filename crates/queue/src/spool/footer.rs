//! The footer of a segment that takes no more: its frames' headers and operations again, in one piece, so that a start need not read
//! the whole segment.

use super::{
    frame::{HEADER, Header, Nonce},
    scan::{Contents, Found},
    segment::Trailer,
};
use crate::{QueueError, files::File};

/// A footer that is being gathered.
#[derive(Debug, Default)]
pub(super) struct Footer {
    /// All of it but for what is [`Large`].
    bytes: Vec<u8>,
    large: Vec<Large>,
    len: usize,
}

/// Operations that are not held, but read back once the footer is written.
#[derive(Debug)]
struct Large {
    /// Where they belong in the bytes of the footer.
    at: usize,
    /// Where they stand in the segment.
    offset: u64,
    len: usize,
}

/// Operations longer than this are not held: those of a purge would fill half a segment. A message's or an outcome's are shorter.
const HELD: usize = 2 << 10;

impl Footer {
    /// Its length when it is written.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a frame that stands at `offset`.
    pub(super) fn add(&mut self, offset: u32, header: &[u8; HEADER], ops: &[u8]) {
        self.bytes.extend_from_slice(&offset.to_le_bytes());
        self.bytes.extend_from_slice(header);
        if ops.len() > HELD {
            let offset = u64::from(offset) + HEADER as u64;
            self.large.push(Large { at: self.bytes.len(), offset, len: ops.len() });
        } else {
            self.bytes.extend_from_slice(ops);
        }
        self.len += size_of::<u32>() + HEADER + ops.len();
    }

    /// Writes it into its segment, whose frames are all written, and returns its CRC.
    pub(super) fn write(&self, file: &File, nonce: Nonce, mut at: u64) -> Result<u32, QueueError> {
        let mut hasher = nonce.hasher();
        let mut put = |bytes: &[u8]| {
            hasher.update(bytes);
            file.write_at(bytes, at).inspect(|()| at += bytes.len() as u64)
        };
        let mut from = 0;
        for large in &self.large {
            put(&self.bytes[from..large.at])?;
            // If these are damaged by now, their own CRC says so.
            put(&file.read_exact_at(large.len, large.offset)?)?;
            from = large.at;
        }
        put(&self.bytes[from..])?;
        Ok(hasher.finalize())
    }

    /// Begins anew, for the next segment.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.large.clear();
        self.len = 0;
    }
}

/// All frames of a segment that takes no more, from its footer; nothing if it has no whole one.
pub(super) fn read(nonce: Nonce, trailer: Trailer, footer: &[u8]) -> Option<Vec<Found>> {
    if nonce.crc(footer) != trailer.footer_crc {
        return None;
    }
    let mut frames = Vec::new();
    let mut at = 0;
    while at < footer.len() {
        let offset = u32::from_le_bytes(*footer[at..].first_chunk::<4>()?);
        let (header, ops) = Header::decode(nonce, &footer[at + 4..])?;
        let ops_at = at + 4 + HEADER;
        at = ops_at + ops.len();
        frames.push(Found { offset, header, ops_at, contents: Contents::Unread });
    }
    Some(frames)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::files::SimulatedDisk;

    #[test]
    fn what_was_not_held_is_read_back() {
        let disk = SimulatedDisk::default().disk();
        let file = disk.create(Path::new("/segment")).expect("there is room");
        let nonce = Nonce(0x1234_5678_9abc_def0);
        let mut footer = Footer::default();
        let mut at = 0;
        for (len, sequence) in [(10, 1), (HELD + 1, 2), (HELD, 3), (3 * HELD, 4)] {
            let ops = vec![7; len];
            let ops_len = u32::try_from(len).expect("it is short");
            let header = Header { sequence, synced: 0, ops_len, head_len: 0, body_len: 0, head_crc: 0 };
            let encoded = header.encode(nonce, &ops);
            file.write_at(&[&encoded[..], &ops].concat(), at).expect("there is room");
            footer.add(u32::try_from(at).expect("it is short"), &encoded, &ops);
            at += header.frame_len() as u64;
        }
        assert!(footer.bytes.len() < 2 * HELD);
        let footer_crc = footer.write(&file, nonce, at).expect("there is room");
        let bytes = file.read_exact_at(footer.len(), at).expect("it was written");
        let trailer = Trailer { footer_at: at, footer_len: footer.len() as u64, last: 4, footer_crc };
        let found = read(nonce, trailer, &bytes).expect("it is whole");
        let found: Vec<_> =
            found.iter().map(|found| (found.header.sequence, found.ops(&bytes).len())).collect();
        assert_eq!(found, [(1, 10), (2, HELD + 1), (3, HELD), (4, 3 * HELD)]);
    }
}
