//! Opening a spool: every segment is read, what counts is applied, and what is damaged is reported.
//!
//! It goes through the segments twice. From the newest to the oldest it learns how much of each was synced, and where it ends: that
//! takes the trailers, and the segments without. Then it reads them from the oldest to the newest and applies what counts, while
//! the next one is being read. So it holds a few segments at a time, however many there are.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, mpsc},
};

use base::{MessageId, WorkId};
use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    footer,
    frame::{HEADER, Header, Nonce, borrow_ops, decode_front},
    scan::{Contents, Counts, Damage, Found, Judge, frames},
    segment::{DATA_START, OPEN_END, Pin, Sealed, Segment, SegmentHeader, TRAILER, Trailer},
    survey::{FreeSegment, Survey, survey},
    window::{Gaps, Window},
};
use crate::{
    QueueError,
    body::BodyFolder,
    files::{Disk, File},
    granted::Granted,
    index::{Effects, Index, Place},
    op::{BodyRef, Op},
};

/// What was recovered.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) spool: u128,
    pub(super) index: Index,
    /// What other nodes held.
    pub(super) granted: Granted,
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) free: Vec<FreeSegment>,
    /// The last sequence that counts.
    pub(super) last: u64,
    /// The highest number of any segment, used or free.
    pub(super) last_number: u32,
    pub(super) damage: Vec<Damage>,
}

/// How many segments are read ahead of the one that is being applied.
const READ_AHEAD: usize = 1;

/// How many frames are decoded together, before they are applied.
const TOGETHER: usize = 32;

/// Reads all there is.
pub(super) fn recover(
    disk: &Disk,
    dir: &Path,
    bodies: &BodyFolder,
    segment_size: usize,
) -> Result<Recovered, QueueError> {
    let Survey { spool, used, free, last_number, last_free, mut damage } =
        survey(disk, dir, segment_size as u64)?;
    let spool = spool.unwrap_or_else(|| fastrand::u128(..));
    let (sources, proven) = learn(used, last_free)?;
    let mut replay = Replay::new(proven);
    let endings = read_ahead(&sources, |chapter| replay.chapter(&chapter))?;
    let mut index = replay.index;
    index.recovered();
    damage.append(&mut replay.judge.damage);
    let segments =
        sources.into_iter().zip(endings).map(|(source, ending)| source.into_segment(spool, ending));
    let segments = segments.collect::<Result<_, _>>()?;
    set_missing_bodies_aside(&mut index, bodies, &mut damage)?;
    report(&damage);
    Ok(Recovered {
        spool,
        index,
        granted: replay.granted,
        segments,
        free,
        last: replay.judge.last().max(last_free),
        last_number,
        damage,
    })
}

fn report(damage: &[Damage]) {
    for Damage { segment, offset, what } in damage {
        tracing::error!(segment, offset, "spool damaged: {what}");
    }
    if !damage.is_empty() {
        tracing::error!(
            places = damage.len(),
            "all other mail goes on; what can be told of the damaged is held with the reason \"damaged\" (`posthouse mail \
             queue --all`); keep a copy of the spool before you remove anything, and look at the disk"
        );
    }
}

/// A segment in use, as it was found.
struct Source {
    header: SegmentHeader,
    file: File,
    name: String,
    /// The last sequence that may count.
    limit: u64,
    known_by: KnownBy,
}

/// How a segment's frames become known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownBy {
    /// Its footer, which lists them all.
    Footer(Trailer),
    /// Reading it: what was cut off must not count later either.
    Scan,
}

/// What was read of a segment.
struct Chapter {
    segment: u32,
    /// The sequence before its first frame.
    after: u64,
    known_by: KnownBy,
    frames: Vec<Found>,
    /// Where their operations are.
    bytes: Vec<u8>,
    /// What the disk did not give.
    gaps: Gaps,
}

/// How a segment ends.
#[derive(Clone, Copy, Debug)]
struct Ending {
    /// The last sequence in it that counts.
    last: u64,
    known_by: KnownBy,
    reading: Reading,
}

/// Whether the disk gave all of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Whole,
    WithGaps,
}

/// Looks at segments from the newest to the oldest: the newer ones prove how much of the older was synced, and begin where
/// the older ended. Returns them from the oldest to the newest, and the sequence up to which all was synced.
fn learn(
    mut used: Vec<(SegmentHeader, File, String)>,
    last_free: u64,
) -> Result<(Vec<Source>, u64), QueueError> {
    used.sort_by_key(|(header, ..)| std::cmp::Reverse(header.number));
    let mut proven = last_free;
    let mut sources = Vec::with_capacity(used.len());
    let mut limit = OPEN_END;
    for (header, file, name) in used {
        limit = limit.min(header.until);
        let trailer = believed(&header, &file, proven)?;
        let known_by = trailer.map_or(KnownBy::Scan, KnownBy::Footer);
        let source = Source { header, file, name, limit, known_by };
        // What a believed footer lists says nothing that is not proven already.
        if known_by == KnownBy::Scan {
            let Chapter { frames, gaps, .. } = source.read()?;
            proven = frames.iter().map(|frame| frame.header.synced).fold(proven, u64::max);
            if let Some(gap) = gaps.last() {
                if sources.is_empty() && !is_end_known(&source, &frames, &gaps) {
                    return Err(unknown_end(source.header.number, gap));
                }
                // A tail that is torn can be read: what stands behind a gap counts, and what stood in it is missed.
                let behind = frames.last().filter(|frame| u64::from(frame.offset) > gap.start);
                let here = behind.map(|frame| frame.header.sequence);
                // Where a newer segment follows, it tells how far this one went.
                proven = proven.max(here.unwrap_or(if sources.is_empty() { 0 } else { limit }));
            }
            write_again(&source.file, frames.iter().filter(|frame| frame.header.sequence > proven))?;
        }
        source.file.sync()?;
        sources.push(source);
        limit = limit.min(header.after);
    }
    sources.reverse();
    Ok((sources, proven))
}

/// Whether it can be told where a segment ends of which the disk does not give some places: its last frame is whole, and behind it
/// no other one begins.
fn is_end_known(source: &Source, frames: &[Found], gaps: &Gaps) -> bool {
    let (last, next) = frames.last().map_or((DATA_START as u64, DATA_START as u64), |frame| {
        (frame.offset.into(), u64::from(frame.offset) + frame.header.frame_len() as u64)
    });
    let Ok(start) = source.file.read_exact_at(HEADER, next) else {
        // The segment is full.
        return source.file.size().is_ok_and(|size| next + HEADER as u64 > size);
    };
    let touches = gaps.iter().any(|gap| gap.start < next + HEADER as u64 && last < gap.end);
    let is_mark =
        start.first_chunk().is_some_and(|start| Header::ops_len_of(source.header.nonce, start).is_some());
    !touches && !is_mark
}

/// Where the last segment ends cannot be told, so nothing can be written behind it.
fn unknown_end(segment: u32, gap: &std::ops::Range<u64>) -> QueueError {
    let std::ops::Range { start, end } = gap;
    QueueError::from(std::io::Error::other(format!(
        "it does not give bytes {start} to {end} of segment {segment}, the newest of the spool, and nothing readable follows them; try \
         again, or copy the spool to another disk with a tool that reads around bad places"
    )))
}

/// Makes sure of frames that nothing proves to be synced before they are believed.
///
/// They may stand in the page cache only. A sync alone would not help there: after one that failed the system takes
/// them for written, and says yes to the next without having done anything.
fn write_again<'f>(file: &File, frames: impl Iterator<Item = &'f Found>) -> Result<(), QueueError> {
    for frame in frames {
        let offset = u64::from(frame.offset);
        let mut bytes = vec![0; frame.header.frame_len()];
        let read = file.read_at(&mut bytes, offset)?;
        file.write_at(&bytes[..read], offset)?;
    }
    Ok(())
}

/// A segment's trailer, if all that its footer lists is known to have been synced.
fn believed(header: &SegmentHeader, file: &File, proven: u64) -> Result<Option<Trailer>, QueueError> {
    let Some(trailer_at) = file.size()?.checked_sub(TRAILER as u64) else { return Ok(None) };
    // Where the disk does not give it, all is read.
    let Ok(bytes) = file.read_exact_at(TRAILER, trailer_at) else { return Ok(None) };
    let trailer = Trailer::decode(header.nonce, &bytes);
    Ok(trailer.filter(|trailer| {
        let end = trailer.footer_at.checked_add(trailer.footer_len);
        trailer.last <= proven && end.is_some_and(|end| end <= trailer_at)
    }))
}

impl Source {
    /// The frames of the segment that may count: from its footer, if that is believed and whole.
    fn read(&self) -> Result<Chapter, QueueError> {
        let SegmentHeader { number, nonce, after, .. } = self.header;
        let chapter = |known_by, mut frames: Vec<Found>, bytes, gaps| {
            frames.retain(|frame| frame.header.sequence <= self.limit);
            Chapter { segment: number, after, known_by, frames, bytes, gaps }
        };
        if let KnownBy::Footer(trailer) = self.known_by
            && let Ok(bytes) = self.file.read_exact_at(in_memory(trailer.footer_len)?, trailer.footer_at)
            && let Some(found) = footer::read(nonce, trailer, &bytes)
        {
            return Ok(chapter(self.known_by, found, bytes, Gaps::new()));
        }
        let mut window = Window::new(&self.file)?;
        let (frames, ops) = frames(nonce, &mut window, DATA_START);
        Ok(chapter(KnownBy::Scan, frames, ops, window.into_gaps()))
    }

    /// The segment as it is from now on.
    fn into_segment(self, spool: u128, ending: Ending) -> Result<Arc<Segment>, QueueError> {
        let Self { header, file, name, limit, .. } = self;
        let last = ending.last.min(limit);
        // What a gap hides may be readable another time: then it counts.
        let is_end_known = ending.known_by == KnownBy::Scan && ending.reading == Reading::Whole;
        if is_end_known && header.until != last {
            file.write_at(&SegmentHeader { spool, until: last, ..header }.encode(), 0)?;
            file.sync()?;
        }
        Ok(Arc::new(Segment {
            number: header.number,
            nonce: header.nonce,
            after: header.after,
            file,
            name,
            sealed: Mutex::new(Some(Sealed::at(last))),
            pin: Pin::default(),
        }))
    }
}

fn in_memory(len: u64) -> Result<usize, QueueError> {
    usize::try_from(len).map_err(|_| QueueError::Damaged("a segment is longer than memory".into()))
}

/// Reads segments on a thread of its own, and shows them in their order.
fn read_ahead(
    sources: &[Source],
    mut show: impl FnMut(Chapter) -> Ending,
) -> Result<Vec<Ending>, QueueError> {
    std::thread::scope(|scope| {
        let (sender, chapters) = mpsc::sync_channel(READ_AHEAD);
        std::thread::Builder::new().name("spool-reader".into()).spawn_scoped(scope, move || {
            for source in sources {
                let read = source.read();
                let failed = read.is_err();
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        })?;
        chapters.into_iter().map(|chapter| chapter.map(&mut show)).collect()
    })
}

/// Applies what counts to an empty index.
struct Replay {
    index: Index,
    granted: Granted,
    judge: Judge,
    effects: Effects,
}

impl Replay {
    fn new(proven: u64) -> Self {
        Self {
            index: Index::recovering(),
            granted: Granted::default(),
            judge: Judge::new(proven),
            effects: Effects::default(),
        }
    }

    fn chapter(&mut self, chapter: &Chapter) -> Ending {
        let Chapter { segment, after, known_by, ref frames, ref bytes, ref gaps } = *chapter;
        self.judge.begin(segment, after);
        for gap in gaps {
            let what = format!("the disk does not give bytes {} to {}", gap.start, gap.end);
            self.judge.damage.push(Damage { segment, offset: gap.start, what });
        }
        let reading = if gaps.is_empty() { Reading::Whole } else { Reading::WithGaps };
        let mut last = after;
        let (mut ops, mut counts) = (Vec::new(), Vec::new());
        for frames in frames.chunks(TOGETHER) {
            ops.clear();
            counts.clear();
            counts.extend(frames.iter().map(|frame| borrow_ops(frame.ops(bytes), &mut ops)));
            self.index.warm_up(&ops);
            let mut rest = &ops[..];
            for (frame, count) in frames.iter().zip(&counts) {
                // What cannot be read is missing, as if it had not been found.
                let Some(count) = *count else { continue };
                let (ops, behind) = rest.split_at(count);
                rest = behind;
                if self.judge.examine(frame) == Counts::No {
                    return Ending { last, known_by, reading };
                }
                last = frame.header.sequence;
                self.frame(segment, frame, ops);
            }
        }
        Ending { last, known_by, reading }
    }

    fn frame(&mut self, segment: u32, frame: &Found, ops: &[Op<&str>]) {
        let len = u32::try_from(frame.header.front_len()).unwrap_or(u32::MAX);
        let place = Place { segment, offset: frame.offset, len };
        let size = u32::try_from(frame.header.frame_len()).unwrap_or(u32::MAX);
        for op in ops {
            self.index.apply(op, place, size, &mut self.effects);
            self.granted.apply(op, segment);
            if let (Op::Publish(publish), Contents::Damaged) = (op, frame.contents) {
                for work in &publish.works {
                    self.index.set_aside(WorkId { message: publish.message, index: work.index });
                }
            }
        }
        self.effects.ended.clear();
    }
}

/// Removes the body files that no message has, and sets aside the messages whose files are missing.
fn set_missing_bodies_aside(
    index: &mut Index,
    bodies: &BodyFolder,
    damage: &mut Vec<Damage>,
) -> Result<(), QueueError> {
    let in_files = index.in_files().filter_map(|(message, body)| match body {
        BodyRef::File { salt, .. } => Some((message, BodyFolder::file_name(message, salt))),
        BodyRef::Empty | BodyRef::Inline { .. } => None,
    });
    let in_files: Vec<(MessageId, String)> = in_files.collect();
    let mut names: HashSet<String> = bodies.names()?.into_iter().collect();
    for (message, name) in in_files {
        if names.remove(&name) {
            continue;
        }
        damage.push(Damage {
            segment: 0,
            offset: 0,
            what: format!("the body file of message {message} is missing"),
        });
        for work in index.works_of(message) {
            index.set_aside(work);
        }
    }
    if damage.is_empty() {
        for name in names.iter().filter(|name| BodyFolder::is_body(name)) {
            bodies.remove(name);
        }
    } else if !names.is_empty() {
        // They may belong to what cannot be read, and somebody may still mend that.
        tracing::warn!(
            files = names.len(),
            "body files that no message has are kept, because the spool is damaged"
        );
    }
    Ok(())
}

/// Reads a frame's front again, to find an operation's words and body.
pub(super) fn reread<T>(
    segment: &Segment,
    place: Place,
    pick: impl Fn(&Op) -> Option<T>,
) -> Result<(T, Bytes, u64), QueueError> {
    let damaged = || QueueError::Damaged(format!("segment {} at byte {}", place.segment, place.offset));
    let front = segment.read_front(place.offset, place.len)?;
    let (_, parts) = decode_front(segment.nonce, &front).ok_or_else(damaged)?;
    let picked = parts.into_iter().find_map(|(op, words, body)| Some((pick(&op)?, words, body)));
    let (picked, words, body) = picked.ok_or_else(damaged)?;
    Ok((picked, words, u64::from(place.offset) + body as u64))
}

/// A fresh nonce.
pub(super) fn fresh_nonce() -> Result<Nonce, QueueError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| QueueError::Refused(format!("no randomness: {error}")))?;
    Ok(Nonce(u64::from_le_bytes(bytes)))
}
