//! A segment's bytes, some at a time, read around the places that the disk does not give.

use std::ops::Range;

use bytes::Bytes;

use crate::{QueueError, files::File};

/// So many bytes are read at once.
const WINDOW: usize = 1 << 20;
/// Around a place that cannot be read, so many bytes are tried at once: a sector of most disks.
const SECTOR: usize = 4096;

/// Places in a file, in bytes from its start, that the disk does not give.
pub(super) type Gaps = Vec<Range<u64>>;

/// Some of a file's bytes; which ones follows what is asked for.
#[derive(Debug)]
pub(super) struct Window<'f> {
    file: &'f File,
    len: usize,
    start: usize,
    bytes: Bytes,
    gaps: Gaps,
}

impl<'f> Window<'f> {
    /// Of a whole file.
    ///
    /// # Errors
    /// The disk does not tell how long it is.
    pub(super) fn new(file: &'f File) -> Result<Self, QueueError> {
        let len = file.size()?;
        let len = usize::try_from(len)
            .map_err(|_| QueueError::Damaged("a segment is longer than memory".into()))?;
        Ok(Self { file, len, start: 0, bytes: Bytes::new(), gaps: Gaps::new() })
    }

    /// Length of the file.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The bytes at a place: fewer, where the file ends, and zeros, where the disk gives none.
    pub(super) fn get(&mut self, at: usize, len: usize) -> &[u8] {
        let range = self.range(at, len);
        &self.bytes[range]
    }

    /// The same, to keep.
    pub(super) fn share(&mut self, at: usize, len: usize) -> Bytes {
        let range = self.range(at, len);
        self.bytes.slice(range)
    }

    /// What could not be read so far.
    pub(super) fn into_gaps(self) -> Gaps {
        self.gaps
    }

    /// Where the bytes of a place are in those that are held; they are read if they are not.
    fn range(&mut self, at: usize, len: usize) -> Range<usize> {
        let at = at.min(self.len);
        let end = at.saturating_add(len).min(self.len);
        if at < self.start || end > self.start + self.bytes.len() {
            let wanted = (end - at).max(WINDOW.min(self.len - at));
            self.bytes = read_around(self.file, at as u64, wanted, &mut self.gaps).into();
            self.start = at;
        }
        let held = self.start + self.bytes.len();
        at.min(held) - self.start..end.min(held) - self.start
    }
}

/// Reads some bytes, fewer where the file ends. What the disk does not give are zeros, and told.
pub(super) fn read_around(file: &File, at: u64, len: usize, gaps: &mut Gaps) -> Vec<u8> {
    let mut bytes = vec![0; len];
    if let Ok(read) = file.read_at(&mut bytes, at) {
        bytes.truncate(read);
        return bytes;
    }
    bytes.fill(0);
    let mut done = 0;
    while done < len {
        let from = at + done as u64;
        let some = (SECTOR - usize::try_from(from % SECTOR as u64).unwrap_or(0)).min(len - done);
        match file.read_at(&mut bytes[done..done + some], from) {
            Ok(read) if read < some => {
                bytes.truncate(done + read);
                break;
            }
            Ok(_) => {}
            Err(_) => {
                bytes[done..done + some].fill(0);
                add(gaps, from..from + some as u64);
            }
        }
        done += some;
    }
    bytes
}

fn add(gaps: &mut Gaps, gap: Range<u64>) {
    if gaps.iter().any(|known| known.start <= gap.start && gap.end <= known.end) {
        return;
    }
    match gaps.last_mut() {
        Some(last) if last.start <= gap.start && gap.start <= last.end => last.end = last.end.max(gap.end),
        _ => gaps.push(gap),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::files::SimulatedDisk;

    #[test]
    fn any_place_reads_as_it_is_and_gaps_as_zeros() {
        let disk = SimulatedDisk::default();
        let path = Path::new("/segment");
        let file = disk.disk().create(path).expect("there is room");
        let mut random = fastrand::Rng::with_seed(5);
        let mut whole: Vec<u8> = (0..3 * WINDOW + 100).map(|_| random.u8(1..)).collect();
        file.write_at(&whole, 0).expect("there is room");
        let gaps = [5000..5001, WINDOW + 8192..WINDOW + 16384];
        for gap in &gaps {
            disk.spoil(path, gap.start as u64..gap.end as u64);
        }
        whole[4096..8192].fill(0);
        whole[WINDOW + 8192..WINDOW + 16384].fill(0);
        let mut window = Window::new(&file).expect("it is there");
        assert_eq!(window.len(), whole.len());
        for _ in 0..300 {
            let (at, len) = (random.usize(..whole.len() + 10), random.usize(..WINDOW / 3));
            let expected = &whole[at.min(whole.len())..(at + len).min(whole.len())];
            assert!(window.get(at, len) == expected && window.share(at, len) == expected, "{at} {len}");
        }
        let all = window.get(0, whole.len()) == whole;
        assert!(all);
        let mut told = window.into_gaps();
        told.sort_by_key(|gap| gap.start);
        told.dedup();
        assert!(told.contains(&(4096..8192)), "{told:?}");
    }
}
