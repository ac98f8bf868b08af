//! Opening a spool: every segment is read, what counts is applied, and what is damaged is reported.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use base::{MessageId, WorkId};
use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    frame::{Nonce, decode_front},
    scan::{Chapter, Contents, Damage, Found, footer, frames, judge},
    segment::{
        DATA_START, FoundHeader, LOOKED_AT, OPEN_END, Pin, Sealed, Segment, SegmentHeader, SegmentState,
        TRAILER, Trailer,
    },
    slot_of,
};
use crate::{
    QueueError,
    body::BodyFolder,
    files::{Disk, File},
    index::{Effects, Index, Place},
    op::{BodyRef, Op},
};

/// What was recovered.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) spool: u128,
    pub(super) index: Index,
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) free: Vec<FreeSegment>,
    /// The last sequence that counts.
    pub(super) last: u64,
    /// The highest number of any segment, used or free.
    pub(super) last_number: u32,
    pub(super) damage: Vec<Damage>,
}

/// A file that can become a segment.
#[derive(Debug)]
pub(super) struct FreeSegment {
    pub(super) file: File,
    pub(super) name: String,
}

/// What a segment's file is called.
pub(super) fn segment_name(slot: u32) -> String {
    format!("{slot:08}.segment")
}

/// Reads all there is.
pub(super) fn recover(
    disk: &Disk,
    dir: &Path,
    bodies: &BodyFolder,
    segment_size: usize,
) -> Result<Recovered, QueueError> {
    let survey = survey(disk, dir, segment_size as u64)?;
    let Survey { spool, used, free, last_number, last_free, mut damage } = survey;
    let spool = spool.unwrap_or_else(|| fastrand::u128(..));
    let Read { sources, mut chapters, proven } = read(used, last_free)?;
    let (last, found) = judge(&mut chapters, proven);
    damage.extend(found);
    let mut segments = Vec::with_capacity(sources.len());
    for (source, chapter) in sources.into_iter().zip(&chapters) {
        segments.push(source.into_segment(spool, chapter.last())?);
    }
    let mut index = Index::recovering();
    replay(chapters, &mut index);
    index.recovered();
    set_missing_bodies_aside(&mut index, bodies, &mut damage)?;
    for Damage { segment, offset, what } in &damage {
        tracing::error!(segment, offset, "spool damaged: {what}");
    }
    if !damage.is_empty() {
        tracing::error!(
            places = damage.len(),
            "all other mail goes on; what can be told of the damaged is held with the reason \"damaged\" (`posthouse mail \
             queue --all`); keep a copy of the spool before you remove anything, and look at the disk"
        );
    }
    Ok(Recovered { spool, index, segments, free, last: last.max(last_free), last_number, damage })
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

/// How a segment's frames became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownBy {
    /// Its footer, which lists them all.
    Footer,
    /// Reading it: what was cut off must not count later either.
    Scan,
}

struct Read {
    sources: Vec<Source>,
    chapters: Vec<Chapter>,
    /// Everything up to this sequence was synced.
    proven: u64,
}

/// Reads segments from the newest to the oldest: the newer ones prove how much of the older was synced, and begin where
/// the older ended.
fn read(mut used: Vec<(SegmentHeader, File, String)>, last_free: u64) -> Result<Read, QueueError> {
    used.sort_by_key(|(header, ..)| std::cmp::Reverse(header.number));
    let mut read = Read { sources: Vec::new(), chapters: Vec::new(), proven: last_free };
    let mut limit = OPEN_END;
    for (header, file, name) in used {
        limit = limit.min(header.until);
        let (known_by, mut frames) = read_segment(&header, &file, read.proven)?;
        frames.retain(|frame| frame.header.sequence <= limit);
        read.proven = frames.iter().map(|frame| frame.header.synced).fold(read.proven, u64::max);
        write_again(&file, frames.iter().filter(|frame| frame.header.sequence > read.proven))?;
        read.chapters.push(Chapter { segment: header.number, after: header.after, frames });
        read.sources.push(Source { header, file, name, limit, known_by });
        limit = limit.min(header.after);
    }
    read.sources.reverse();
    read.chapters.reverse();
    Ok(read)
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
    Ok(file.sync()?)
}

impl Source {
    /// The segment as it is from now on, with `last` as the last sequence that counts in it.
    fn into_segment(self, spool: u128, last: u64) -> Result<Arc<Segment>, QueueError> {
        let Self { header, file, name, limit, known_by } = self;
        let last = last.min(limit);
        if known_by == KnownBy::Scan && header.until != last {
            file.write_at(&SegmentHeader { spool, until: last, ..header }.encode(), 0)?;
            file.sync()?;
        }
        Ok(Arc::new(Segment {
            number: header.number,
            nonce: header.nonce,
            after: header.after,
            file,
            name,
            sealed: Mutex::new(Some(Sealed { last })),
            pin: Pin::default(),
        }))
    }
}

#[derive(Default)]
struct Survey {
    spool: Option<u128>,
    used: Vec<(SegmentHeader, File, String)>,
    free: Vec<FreeSegment>,
    /// The highest number of any segment.
    last_number: u32,
    /// The last sequence that was in a segment which is free now.
    last_free: u64,
    damage: Vec<Damage>,
}

/// Looks at every file in the folder.
fn survey(disk: &Disk, dir: &Path, segment_size: u64) -> Result<Survey, QueueError> {
    let mut survey = Survey::default();
    for name in disk.list(dir)? {
        let path: PathBuf = dir.join(&name);
        if slot_of(&name).is_none() {
            return Err(foreign(&path, "it is not a file of the spool"));
        }
        let file = disk.open(&path)?;
        let mut start = vec![0; LOOKED_AT];
        let read = file.read_at(&mut start, 0)?;
        match SegmentHeader::decode(&start[..read]) {
            FoundHeader::Blank => disk.remove(&path)?,
            FoundHeader::Foreign(why) => return Err(foreign(&path, &why)),
            FoundHeader::Damaged => survey.damage.push(Damage {
                segment: 0,
                offset: 0,
                what: format!("both headers of {} are unreadable; the file is left as it is", path.display()),
            }),
            FoundHeader::Ours(header) => {
                if *survey.spool.get_or_insert(header.spool) != header.spool {
                    return Err(foreign(&path, "it belongs to another spool"));
                }
                survey.last_number = survey.last_number.max(header.number);
                match header.state {
                    SegmentState::Used if survey.used.iter().any(|(u, ..)| u.number == header.number) => {
                        return Err(foreign(&path, "it is a copy of another file there"));
                    }
                    SegmentState::Used => survey.used.push((header, file, name)),
                    SegmentState::Free => {
                        survey.last_free = survey.last_free.max(header.until);
                        survey.add_free(disk, &path, FreeSegment { file, name }, segment_size)?;
                    }
                }
            }
        }
    }
    Ok(survey)
}

impl Survey {
    /// Keeps a file to be used again; one of another length was not finished, or was made under other settings.
    fn add_free(&mut self, disk: &Disk, path: &Path, free: FreeSegment, size: u64) -> Result<(), QueueError> {
        if free.file.size()? == size {
            self.free.push(free);
        } else {
            disk.remove(path)?;
        }
        Ok(())
    }
}

fn foreign(path: &Path, why: &str) -> QueueError {
    QueueError::Refused(format!(
        "{} is not part of this spool: {why}; move it away or choose another data directory",
        path.display()
    ))
}

/// The frames of a segment: from its footer if all that the footer lists is known to have been synced.
fn read_segment(
    header: &SegmentHeader,
    file: &File,
    proven: u64,
) -> Result<(KnownBy, Vec<Found>), QueueError> {
    let size = file.size()?;
    if let Some(trailer_at) = size.checked_sub(TRAILER as u64) {
        let trailer = file.read_exact_at(TRAILER, trailer_at)?;
        if let Some(trailer) = Trailer::decode(header.nonce, &trailer)
            && trailer.last <= proven
            && let Ok(len) = usize::try_from(trailer.footer_len)
            && trailer.footer_at.checked_add(trailer.footer_len).is_some_and(|end| end <= trailer_at)
            && let Some(found) =
                footer(header.number, header.nonce, trailer, &file.read_exact_at(len, trailer.footer_at)?)
        {
            return Ok((KnownBy::Footer, found));
        }
    }
    let len =
        usize::try_from(size).map_err(|_| QueueError::Damaged("a segment is longer than memory".into()))?;
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok((KnownBy::Scan, frames(header.number, header.nonce, &Bytes::from(bytes), DATA_START)))
}

fn replay(chapters: Vec<Chapter>, index: &mut Index) {
    let mut effects = Effects::default();
    for Found { segment, offset, header, ops, contents } in chapters.into_iter().flat_map(|c| c.frames) {
        let place = Place { segment, offset, len: u32::try_from(header.front_len()).unwrap_or(u32::MAX) };
        let size = u32::try_from(header.frame_len()).unwrap_or(u32::MAX);
        for op in &ops {
            index.apply(op, place, size, &mut effects);
            if let (Op::Publish(publish), Contents::Damaged) = (op, contents) {
                for work in &publish.works {
                    index.set_aside(WorkId { message: publish.message, index: work.index });
                }
            }
        }
        effects.ended.clear();
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
