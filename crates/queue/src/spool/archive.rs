//! Tales read back from the segments, for a reader that was away or fell behind.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use super::{
    Shared,
    frame::{HEADER, Header, decode_front},
    scan,
    segment::{DATA_START, Segment},
};
use crate::{
    QueueError,
    feed::{Archive, Tale, tell},
};

impl Archive for Shared {
    fn read(&self, after: u64, until: u64, max: usize) -> Result<(Vec<Tale>, u64), QueueError> {
        let segments: Vec<Arc<Segment>> = self.segments.lock().values().cloned().collect();
        let mut reading = Reading { after, until, max, tales: Vec::new() };
        for segment in segments {
            let last = segment.sealed.lock().map_or(u64::MAX, |sealed| sealed.last);
            if last <= after || segment.after >= until {
                continue;
            }
            reading.until = until.min(last);
            reading.segment(&segment)?;
            if let Some(at) = reading.full_at() {
                return Ok((reading.tales, at));
            }
        }
        Ok((reading.tales, until))
    }

    fn confirmed(&self, sequence: u64) {
        // What is not synced was told to nobody; a log that says otherwise is of another time.
        let sequence = sequence.min(self.synced.load(Ordering::SeqCst));
        self.confirmed.fetch_max(sequence, Ordering::SeqCst);
        self.collector.wake();
    }
}

/// Enough for the front of most frames, in bytes.
const READ_AT_ONCE: usize = 2048;

struct Reading {
    after: u64,
    until: u64,
    max: usize,
    tales: Vec<Tale>,
}

/// Whether to read on.
enum Next {
    /// At this place.
    At(u64),
    /// There is no frame here.
    Gap,
    Enough,
}

impl Reading {
    /// The frame up to which all is told, once there are enough tales.
    fn full_at(&self) -> Option<u64> {
        let last = self.tales.last()?;
        (self.tales.len() >= self.max).then_some(last.sequence)
    }

    /// Tells what a segment's frames say, from header to header; behind a damaged place it searches for the next.
    fn segment(&mut self, segment: &Segment) -> Result<(), QueueError> {
        let end = segment.file.size()?;
        let mut at = DATA_START as u64;
        loop {
            match self.frame(segment, at, end)? {
                Next::At(next) => at = next,
                Next::Enough => return Ok(()),
                Next::Gap => return self.rest(segment, at),
            }
        }
    }

    fn frame(&mut self, segment: &Segment, at: u64, end: u64) -> Result<Next, QueueError> {
        let mut front = vec![0; READ_AT_ONCE];
        let read = segment.file.read_at(&mut front, at)?;
        front.truncate(read);
        let Some(start) = front.first_chunk::<HEADER>() else { return Ok(Next::Enough) };
        let Some(ops_len) = Header::ops_len_of(segment.nonce, start) else { return Ok(Next::Gap) };
        if at + (HEADER + ops_len) as u64 > end {
            return Ok(Next::Gap);
        }
        if HEADER + ops_len > front.len() {
            front = segment.file.read_exact_at(HEADER + ops_len, at)?;
        }
        let Some((header, _)) = Header::decode(segment.nonce, &front) else { return Ok(Next::Gap) };
        if header.sequence > self.until {
            return Ok(Next::Enough);
        }
        if header.sequence > self.after {
            let len = header.front_len();
            if len > front.len() {
                front = segment.file.read_exact_at(len, at)?;
            }
            self.tell(segment, &header, &Bytes::copy_from_slice(&front[..len]));
        }
        if header.sequence == self.until || self.full_at().is_some() {
            return Ok(Next::Enough);
        }
        Ok(Next::At(at + header.frame_len() as u64))
    }

    fn tell(&mut self, segment: &Segment, header: &Header, front: &Bytes) {
        // A frame whose words are damaged was reported when the spool was opened.
        let Some((_, parts)) = decode_front(segment.nonce, front) else { return };
        for (op, words, _) in parts {
            tell(header.sequence, &op, &words, &mut self.tales);
        }
    }

    /// Tells what can be read behind a damaged place.
    fn rest(&mut self, segment: &Segment, from: u64) -> Result<(), QueueError> {
        let len = usize::try_from(segment.file.size()?.saturating_sub(from)).unwrap_or(usize::MAX);
        let bytes = Bytes::from(segment.file.read_exact_at(len, from)?);
        for found in scan::frames(segment.nonce, &bytes, 0) {
            if found.header.sequence > self.until || self.full_at().is_some() {
                break;
            }
            if found.header.sequence > self.after {
                let start = found.offset as usize;
                let end = (start + found.header.front_len()).min(bytes.len());
                self.tell(segment, &found.header, &bytes.slice(start..end));
            }
        }
        Ok(())
    }
}
