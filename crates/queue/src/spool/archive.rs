//! Tales read back from the segments, for a reader that was away or fell behind.

use std::{
    sync::{Arc, atomic::Ordering},
    vec,
};

use bytes::Bytes;

use super::{
    Damage, Shared,
    frame::{HEADER, Header, decode_front},
    scan::{self, Found},
    segment::{DATA_START, Pin, Segment},
    window::{Gaps, Window, read_around},
};
use crate::{
    QueueError,
    feed::{Archive, Tale, tell},
};

impl Archive for Shared {
    fn read(&self, after: u64, until: u64, max: usize) -> Result<(Vec<Tale>, u64), QueueError> {
        // What is kept for a reader that does not come on may be told forward and freed: not while it is read.
        let pinned = |segment: &Arc<Segment>| (segment.clone(), segment.pin.clone());
        let segments: Vec<(Arc<Segment>, Pin)> = self.segments.lock().values().map(pinned).collect();
        let mut tales: Vec<Tale> = Vec::new();
        for (segment, _pin) in &segments {
            let last = segment.sealed.lock().map_or(u64::MAX, |sealed| sealed.last);
            if last <= after || segment.after >= until {
                continue;
            }
            let mut walk = Walk::through(self, segment, until.min(last))?;
            while let Some(frame) = walk.next_after(after)? {
                walk.tell(&frame, &mut tales);
                if tales.len() >= max
                    && let Some(told) = tales.last()
                {
                    let at = told.sequence;
                    return Ok((tales, at));
                }
            }
        }
        Ok((tales, until))
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

/// Walks through a segment from header to header; behind a damaged place it searches for the next one.
pub(super) struct Walk<'s> {
    shared: &'s Shared,
    segment: &'s Segment,
    at: u64,
    end: u64,
    /// The last frame of interest.
    until: u64,
    /// The last frame seen.
    seen: u64,
    /// What was found behind a damaged place.
    behind: Option<vec::IntoIter<Found>>,
}

/// The front of a frame, as it was read back.
pub(super) struct Front {
    pub(super) header: Header,
    bytes: Bytes,
}

impl<'s> Walk<'s> {
    /// Through all frames up to the sequence `until`.
    pub(super) fn through(shared: &'s Shared, segment: &'s Segment, until: u64) -> Result<Self, QueueError> {
        let end = segment.file.size()?;
        Ok(Self { shared, segment, at: DATA_START as u64, end, until, seen: segment.after, behind: None })
    }

    /// The next frame whose sequence is beyond `after`. What cannot be read before it is reported.
    pub(super) fn next_after(&mut self, after: u64) -> Result<Option<Front>, QueueError> {
        let before = self.seen.max(after);
        let found = self.find_after(after)?;
        let next = found.as_ref().map_or(self.until + 1, |front| front.header.sequence);
        if before + 1 < next {
            self.report(format!("records {} to {} cannot be told to the message log", before + 1, next - 1));
        }
        self.seen = next;
        Ok(found)
    }

    /// Adds what a frame tells.
    pub(super) fn tell(&self, front: &Front, into: &mut Vec<Tale>) {
        let sequence = front.header.sequence;
        let Some((_, parts)) = decode_front(self.segment.nonce, &front.bytes) else {
            return self.report(format!("record {sequence} cannot be told to the message log"));
        };
        for (op, words, _) in parts {
            tell(sequence, &op, &words, into);
        }
    }

    fn report(&self, what: String) {
        self.shared.report(Damage { segment: self.segment.number, offset: self.at, what });
    }

    fn find_after(&mut self, after: u64) -> Result<Option<Front>, QueueError> {
        while self.behind.is_none() && self.seen < self.until {
            match self.step(after)? {
                Step::Over => {}
                Step::Found(front) if front.header.sequence > self.until => break,
                Step::Found(front) => return Ok(Some(front)),
                Step::End => break,
                Step::Gap => self.behind = Some(self.search()?.into_iter()),
            }
        }
        let until = self.until;
        let mut behind = self.behind.iter_mut().flatten();
        let found = behind.find(|found| (after + 1..=until).contains(&found.header.sequence));
        Ok(found.map(|Found { header, offset, .. }| Front {
            header,
            bytes: self.read(offset.into(), header.front_len()).into(),
        }))
    }

    fn step(&mut self, after: u64) -> Result<Step, QueueError> {
        let Self { segment, at, end, .. } = *self;
        let mut front = self.read(at, READ_AT_ONCE);
        let Some(start) = front.first_chunk::<HEADER>() else { return Ok(Step::End) };
        let Some(ops_len) = Header::ops_len_of(segment.nonce, start) else { return Ok(Step::Gap) };
        if at + (HEADER + ops_len) as u64 > end {
            return Ok(Step::Gap);
        }
        if HEADER + ops_len > front.len() {
            front = self.read(at, HEADER + ops_len);
        }
        let Some((header, _)) = Header::decode(segment.nonce, &front) else { return Ok(Step::Gap) };
        self.at += header.frame_len() as u64;
        self.seen = header.sequence;
        if header.sequence <= after {
            return Ok(Step::Over);
        }
        let len = header.front_len();
        if len > front.len() {
            front = self.read(at, len);
        }
        front.truncate(len);
        Ok(Step::Found(Front { header, bytes: front.into() }))
    }

    /// What can be read behind a damaged place.
    fn search(&self) -> Result<Vec<Found>, QueueError> {
        let mut window = Window::new(&self.segment.file)?;
        let start = usize::try_from(self.at).unwrap_or(usize::MAX);
        let (mut found, _) = scan::frames(self.segment.nonce, &mut window, start);
        // A footer lists again what was passed already.
        found.retain(|found| found.header.sequence > self.seen);
        Ok(found)
    }

    /// What the disk does not give is zeros, which are no frame.
    fn read(&self, at: u64, len: usize) -> Vec<u8> {
        read_around(&self.segment.file, at, len, &mut Gaps::new())
    }
}

/// What stands at a place.
enum Step {
    /// A frame that is not wanted.
    Over,
    Found(Front),
    /// There is no frame here.
    Gap,
    End,
}
