//! The writer: gives frames their sequence and place, writes them, and hands them to the syncer.

use std::{
    io::{self, IoSlice},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    Shared,
    footer::Footer,
    frame::{ALIGN, HEADER, Header},
    inbox::{Claim, Haste, Queued},
    promise::Promise,
    recovery::fresh_nonce,
    room::Room,
    segment::{DATA_START, OPEN_END, Pin, Sealed, Segment, SegmentState, TRAILER, Trailer},
};
use crate::{QueueError, feed::Tale, feed::tell, index::Place, ledger::Applied};

/// Frames that were written, for the syncer.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) applied: Vec<Applied>,
    pub(super) tales: Vec<Tale>,
    pub(super) promise: Promise,
    pub(super) last: u64,
    pub(super) haste: Option<Haste>,
    pub(super) since: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    /// Where the next frame goes.
    at: usize,
    footer: Footer,
    sequence: u64,
    /// Frames that have their place but are not written yet: they follow each other up to `at`.
    frames: Vec<Frame>,
}

#[derive(Debug)]
struct Frame {
    header: [u8; HEADER],
    queued: Queued,
    len: usize,
    padding: usize,
}

/// How long conclusions wait for room on a full disk before they are tried again.
const NO_SPACE_PAUSE: Duration = Duration::from_secs(1);

impl Writer {
    /// A writer that goes on after `sequence`, in a fresh segment.
    pub(super) fn start(shared: Arc<Shared>, sequence: u64) -> Result<Self, QueueError> {
        let segment = fresh_segment(&shared, sequence, Claim::End)?;
        segment.file.sync()?;
        Ok(Self { shared, segment, at: DATA_START, footer: Footer::default(), sequence, frames: Vec::new() })
    }

    /// Writes until the spool ends.
    pub(super) fn run(mut self) {
        while let Some(batch) = self.shared.inbox.take() {
            let awaited = batch.iter().any(|queued| queued.haste == Haste::Awaited);
            let mut written = Written::default();
            if let Err(error) = self.write(batch, &mut written) {
                for frame in self.frames.drain(..) {
                    written.promise.join(frame.queued.promise);
                }
                self.shared.fail(&error, written.promise);
                break;
            }
            if awaited && written.haste != Some(Haste::Awaited) {
                // Whoever waited was refused: there is no sync that what comes next should wait for.
                self.shared.inbox.disk_is_idle();
            }
            self.shared.syncer.hand(written);
        }
        if !self.shared.inbox.has_failed() {
            let mut written = Written::default();
            match self.seal(&mut written) {
                Ok(()) => self.shared.syncer.hand(written),
                Err(error) => {
                    tracing::warn!(%error, "the last segment could not be closed; the next start reads it in full");
                }
            }
        }
        self.shared.syncer.end();
    }

    /// Writes what fits. On a full disk whoever waits is told, and what nobody waits for is tried again, in its order.
    fn write(&mut self, batch: Vec<Queued>, written: &mut Written) -> Result<(), QueueError> {
        let mut postponed = Vec::new();
        let mut failed = None;
        for queued in batch {
            if failed.is_some() {
                written.promise.join(queued.promise);
                continue;
            }
            let room = if postponed.is_empty() {
                self.make_room(&queued, written)
            } else {
                Err(QueueError::NoSpace)
            };
            match room {
                Ok(()) => self.place(queued),
                Err(QueueError::NoSpace) if queued.haste == Haste::Unawaited => postponed.push(queued),
                Err(QueueError::NoSpace) => self.refuse(queued),
                Err(error) => {
                    written.promise.join(queued.promise);
                    failed = Some(error);
                }
            }
        }
        self.shared.inbox.postponed(postponed.iter().map(Queued::size).sum());
        if !postponed.is_empty() {
            self.shared.inbox.put_back(postponed, NO_SPACE_PAUSE);
        }
        failed.map_or_else(|| self.flush(written), Err)
    }

    /// Makes sure that a transaction fits behind what is there, and leaves as much of the reserve as it must.
    fn make_room(&mut self, queued: &Queued, written: &mut Written) -> Result<(), QueueError> {
        let shared = &self.shared;
        if shared.watch.room() == Room::Full && shared.collector.free_count() < queued.claim.leaves() {
            return Err(QueueError::NoSpace);
        }
        if self.at + self.footer.len() + queued.size() + TRAILER <= self.shared.options.segment_size {
            return Ok(());
        }
        self.roll(queued.claim, written)
    }

    /// Gives a transaction its sequence and its place.
    fn place(&mut self, queued: Queued) {
        let body_len: usize = queued.bodies.iter().map(bytes::Bytes::len).sum();
        let header = Header {
            sequence: self.sequence + 1,
            synced: self.shared.synced.load(Ordering::SeqCst),
            ops_len: short(queued.encoded.len()),
            head_len: short(queued.head.len()),
            body_len: short(body_len),
            head_crc: self.segment.nonce.crc(&queued.head),
        };
        let encoded = header.encode(self.segment.nonce, &queued.encoded);
        self.footer.add(short(self.at), &encoded, &queued.encoded);
        let len = header.frame_len();
        self.sequence += 1;
        self.at += len;
        self.frames.push(Frame {
            header: encoded,
            queued,
            len,
            padding: len - header.front_len() - body_len,
        });
    }

    fn refuse(&self, mut queued: Queued) {
        for op in &queued.ops {
            queued.promise.add_waiters(self.shared.joined(op));
        }
        queued.promise.refuse(&QueueError::NoSpace);
    }

    /// Writes the frames that have their place.
    fn flush(&mut self, written: &mut Written) -> Result<(), QueueError> {
        let padding = [0; ALIGN];
        let mut slices = Vec::with_capacity(self.frames.len() * 5);
        for Frame { header, queued, padding: pad, .. } in &self.frames {
            slices.extend([IoSlice::new(header), IoSlice::new(&queued.encoded), IoSlice::new(&queued.head)]);
            slices.extend(queued.bodies.iter().map(|body| IoSlice::new(body)));
            slices.push(IoSlice::new(&padding[..*pad]));
        }
        let len: usize = self.frames.iter().map(|frame| frame.len).sum();
        let mut at = self.at - len;
        self.segment.file.write_slices_at(&slices, at as u64)?;
        drop(slices);
        let mut sequence = self.sequence - self.frames.len() as u64;
        for frame in self.frames.drain(..) {
            sequence += 1;
            let front = HEADER + frame.queued.encoded.len() + frame.queued.head.len();
            let place = Place { segment: self.segment.number, offset: short(at), len: short(front) };
            at += frame.len;
            written.note(frame.queued, sequence, place, short(frame.len));
        }
        written.touch(&self.segment);
        Ok(())
    }

    /// Leaves this segment for a fresh one.
    fn roll(&mut self, claim: Claim, written: &mut Written) -> Result<(), QueueError> {
        self.flush(written).map_err(has_failed)?;
        let next = fresh_segment(&self.shared, self.sequence, claim)?;
        // From here on the next one says where this one ends: nothing more may come into it.
        self.seal(written).map_err(has_failed)?;
        self.segment = next;
        self.at = DATA_START;
        Ok(())
    }

    /// Writes the footer, behind which the segment takes no more.
    fn seal(&mut self, written: &mut Written) -> Result<(), QueueError> {
        let nonce = self.segment.nonce;
        let trailer = Trailer {
            footer_at: self.at as u64,
            footer_len: self.footer.len() as u64,
            last: self.sequence,
            footer_crc: self.footer.write(&self.segment.file, nonce, self.at as u64)?,
        };
        self.segment
            .file
            .write_at(&trailer.encode(nonce), (self.shared.options.segment_size - TRAILER) as u64)?;
        self.footer.clear();
        *self.segment.sealed.lock() = Some(Sealed::at(self.sequence));
        written.touch(&self.segment);
        Ok(())
    }
}

impl Written {
    fn note(&mut self, queued: Queued, sequence: u64, place: Place, size: u32) {
        self.last = sequence;
        if queued.haste == Haste::Awaited {
            self.haste = Some(Haste::Awaited);
        }
        self.since = self.since.or(Some(queued.since));
        self.promise.join(queued.promise);
        let mut at = 0;
        for op in queued.ops {
            let len = usize::try_from(op.words_len()).expect("it is in memory");
            let words = queued.head.slice(at..at + len);
            at += len;
            tell(sequence, &op, &words, &mut self.tales);
            self.applied.push(Applied { op, place, size, head: words });
        }
    }

    fn touch(&mut self, segment: &Arc<Segment>) {
        if self.segments.last().is_none_or(|last| last.number != segment.number) {
            self.segments.push(segment.clone());
        }
    }

    /// Adds what was written later.
    pub(super) fn join(&mut self, later: Self) {
        for segment in &later.segments {
            self.touch(segment);
        }
        self.applied.extend(later.applied);
        self.tales.extend(later.tales);
        self.promise.join(later.promise);
        self.last = self.last.max(later.last);
        self.haste = self.haste.or(later.haste);
        self.since = self.since.or(later.since);
    }
}

/// A segment ready to be written to, with its header written but not synced: its first frames' sync does that.
fn fresh_segment(shared: &Shared, after: u64, claim: Claim) -> Result<Arc<Segment>, QueueError> {
    let free = shared.collector.take_free(shared, claim.leaves())?;
    let number = shared.last_number.fetch_add(1, Ordering::SeqCst) + 1;
    let nonce = fresh_nonce()?;
    let segment = Segment {
        number,
        nonce,
        after,
        file: free.file,
        name: free.name,
        sealed: Mutex::new(None),
        pin: Pin::default(),
    };
    let header = segment.header(shared.spool, OPEN_END, SegmentState::Used);
    segment.file.write_at(&header.encode(), 0).map_err(|error| has_failed(error.into()))?;
    let segment = Arc::new(segment);
    shared.segments.lock().insert(number, segment.clone());
    Ok(segment)
}

/// A segment has had its room since it was made. A disk that has none for it all the same, as where each write is a copy, has failed.
fn has_failed(error: QueueError) -> QueueError {
    match error {
        QueueError::NoSpace => QueueError::Disk(Arc::new(io::ErrorKind::StorageFull.into())),
        other => other,
    }
}

/// What a segment has to give, in bytes.
pub(super) fn room(segment_size: usize) -> usize {
    segment_size - DATA_START - TRAILER
}

/// The most that one transaction may take.
pub(super) fn fits(queued: &Queued, segment_size: usize) -> Result<(), QueueError> {
    let room = room(segment_size);
    if queued.size() > room {
        return Err(QueueError::TooLarge(format!(
            "{} bytes in one batch; a segment takes {room}",
            queued.size()
        )));
    }
    Ok(())
}

/// A length or place within a segment.
fn short(n: usize) -> u32 {
    u32::try_from(n).expect("a segment is shorter than 4 GiB")
}
