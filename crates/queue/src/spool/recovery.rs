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
    scan::{Contents, Damage, Found, footer, frames, judge},
    segment::{DATA_START, FoundHeader, Sealed, Segment, SegmentHeader, SegmentState, TRAILER, Trailer},
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
pub(super) fn recover(disk: &Disk, dir: &Path, bodies: &BodyFolder) -> Result<Recovered, QueueError> {
    let mut survey = survey(disk, dir)?;
    survey.used.sort_by_key(|(header, ..)| header.number);
    let mut all = Vec::new();
    let mut segments = Vec::new();
    let starts: Vec<(u32, u64)> =
        survey.used.iter().map(|(header, ..)| (header.number, header.after)).collect();
    for (header, file, name) in survey.used {
        // What is believed from here on must not vanish with the page cache.
        file.sync()?;
        let limit =
            starts.iter().filter(|(number, _)| *number > header.number).map(|(_, after)| *after).min();
        let limit = limit.unwrap_or(u64::MAX);
        let found = read_segment(&header, &file)?;
        all.extend(found.into_iter().filter(|frame| frame.header.sequence <= limit));
        segments.push((header, file, name));
    }
    let (frames, damage) = judge(all, &starts);
    let last = frames.last().map(|frame| frame.header.sequence);
    let last = last.into_iter().chain(starts.iter().map(|(_, after)| *after).min()).max().unwrap_or(0);
    survey.damage.extend(damage);
    let segments = segments.into_iter().map(|(header, file, name)| {
        let own = frames.iter().rev().find(|frame| frame.segment == header.number);
        let last = own.map_or(header.after, |frame| frame.header.sequence);
        Arc::new(Segment {
            number: header.number,
            nonce: header.nonce,
            after: header.after,
            file,
            name,
            sealed: Mutex::new(Some(Sealed { last })),
            pin: Arc::new(()),
        })
    });
    let segments: Vec<Arc<Segment>> = segments.collect();
    let mut index = Index::default();
    replay(frames, &mut index);
    set_missing_bodies_aside(&mut index, bodies, &mut survey.damage)?;
    for Damage { segment, offset, what } in &survey.damage {
        tracing::error!(segment, offset, "spool damaged: {what}");
    }
    Ok(Recovered {
        spool: survey.spool.unwrap_or_else(|| fastrand::u128(..)),
        index,
        segments,
        free: survey.free,
        last,
        last_number: survey.last_number,
        damage: survey.damage,
    })
}

#[derive(Default)]
struct Survey {
    spool: Option<u128>,
    used: Vec<(SegmentHeader, File, String)>,
    free: Vec<FreeSegment>,
    last_number: u32,
    damage: Vec<Damage>,
}

fn survey(disk: &Disk, dir: &Path) -> Result<Survey, QueueError> {
    let mut survey = Survey::default();
    for name in disk.list(dir)? {
        let path: PathBuf = dir.join(&name);
        if !name.ends_with(".segment") {
            return Err(foreign(&path, "it is not a file of the spool"));
        }
        let file = disk.open(&path)?;
        let mut start = vec![0; DATA_START];
        let read = file.read_at(&mut start, 0)?;
        match SegmentHeader::decode(&start[..read]) {
            FoundHeader::Blank => survey.free.push(FreeSegment { file, name }),
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
                    SegmentState::Used => survey.used.push((header, file, name)),
                    SegmentState::Free => survey.free.push(FreeSegment { file, name }),
                }
            }
        }
    }
    Ok(survey)
}

fn foreign(path: &Path, why: &str) -> QueueError {
    QueueError::Refused(format!(
        "{} is not part of this spool: {why}; move it away or choose another data directory",
        path.display()
    ))
}

fn read_segment(header: &SegmentHeader, file: &File) -> Result<Vec<Found>, QueueError> {
    let size = file.size()?;
    if let Some(trailer_at) = size.checked_sub(TRAILER as u64) {
        let trailer = file.read_exact_at(TRAILER, trailer_at)?;
        if let Some(trailer) = Trailer::decode(header.nonce, &trailer)
            && let Ok(len) = usize::try_from(trailer.footer_len)
            && trailer.footer_at.checked_add(trailer.footer_len).is_some_and(|end| end <= trailer_at)
            && let Some(found) =
                footer(header.number, header.nonce, trailer, &file.read_exact_at(len, trailer.footer_at)?)
        {
            return Ok(found);
        }
    }
    let len =
        usize::try_from(size).map_err(|_| QueueError::Damaged("a segment is longer than memory".into()))?;
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(frames(header.number, header.nonce, &Bytes::from(bytes)))
}

fn replay(frames: Vec<Found>, index: &mut Index) {
    let mut effects = Effects::default();
    for Found { segment, offset, header, ops, contents } in frames {
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
    let in_files: Vec<(MessageId, Vec<u16>)> = index
        .message_ids()
        .filter_map(|id| {
            let message = index.message(id)?;
            matches!(message.body, BodyRef::File { .. }).then(|| (id, message.work_numbers()))
        })
        .collect();
    let mut names: HashSet<String> = bodies.names()?.into_iter().collect();
    for (message, works) in in_files {
        if names.remove(&BodyFolder::file_name(message)) {
            continue;
        }
        damage.push(Damage {
            segment: 0,
            offset: 0,
            what: format!("the body file of message {message} is missing"),
        });
        for index_of in works {
            index.set_aside(WorkId { message, index: index_of });
        }
    }
    for name in names {
        bodies.remove(&name);
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
