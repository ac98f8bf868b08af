//! What lies in the spool's folder: segments in use, such as are free, and what does not belong there.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    scan::Damage,
    segment::{FoundHeader, LOOKED_AT, SegmentHeader, SegmentState},
    slot_of,
    window::{Gaps, read_around},
};
use crate::{
    QueueError,
    files::{Disk, File},
};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) spool: Option<u128>,
    pub(super) used: Vec<(SegmentHeader, File, String)>,
    pub(super) free: Vec<FreeSegment>,
    /// The highest number of any segment.
    pub(super) last_number: u32,
    /// The last sequence that was in a segment which is free now.
    pub(super) last_free: u64,
    pub(super) damage: Vec<Damage>,
}

/// Looks at every file in the folder.
pub(super) fn survey(disk: &Disk, dir: &Path, segment_size: u64) -> Result<Survey, QueueError> {
    let mut survey = Survey::default();
    for name in disk.list(dir)? {
        let path: PathBuf = dir.join(&name);
        if slot_of(&name).is_none() {
            return Err(foreign(&path, "it is not a file of the spool"));
        }
        let file = disk.open(&path)?;
        let mut gaps = Gaps::new();
        let start = read_around(&file, 0, LOOKED_AT, &mut gaps);
        match SegmentHeader::decode(&start) {
            // What it is may be known another time, and then it must not be a stranger here.
            found if !gaps.is_empty() && !matches!(found, FoundHeader::Ours(_)) => {
                return Err(QueueError::from(io::Error::other(format!(
                    "it does not give the header of {}; try again, or copy the spool to another disk with a tool that reads around bad \
                     places",
                    path.display()
                ))));
            }
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
