//! What a backup of a running spool copies: files that together are a spool as it stood at one moment.
//!
//! As long as a [`Snapshot`] lives, none of its segments is used again and no body file is removed, so what was named stays.
//! Segments that take no more are whole; the one that is being written is copied up to the last frame that was synced when
//! the copy came to it, and not a byte further: what lies behind may be half a write, and later frames would prove it lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, atomic::Ordering},
};

use super::{
    Shared,
    frame::{HEADER, Header},
    segment::{DATA_START, Pin, Segment},
};
use crate::{QueueError, files::File};

/// A spool while it is being copied.
#[derive(Debug)]
pub struct Snapshot {
    shared: Arc<Shared>,
    pins: BTreeMap<u32, Pin>,
    given: BTreeSet<u32>,
    bodies: BTreeMap<String, u64>,
    _bodies: Pin,
}

/// A file to be copied, from its start.
#[derive(Debug)]
pub struct Piece {
    /// Its path in the spool's folder, such as `segments/00000001.segment`.
    pub name: String,
    /// How many of its bytes are to be copied.
    pub len: u64,
    /// How long the file is: the rest is zeros.
    pub file_len: u64,
    file: File,
}

impl Piece {
    /// Reads at `offset` until the buffer is full or what is to be copied ends; returns how much was read.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        self.file.read_at(&mut buffer[..len], offset)
    }
}

impl Snapshot {
    pub(super) fn of(shared: Arc<Shared>) -> Self {
        let mut snapshot = Self {
            pins: BTreeMap::new(),
            given: BTreeSet::new(),
            bodies: BTreeMap::new(),
            _bodies: shared.collector.kept_bodies(),
            shared,
        };
        snapshot.pin();
        snapshot
    }

    /// About how many bytes all files have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let segments = self.shared.segments.lock().len() as u64 * self.shared.options.segment_size as u64;
        let names = self.shared.bodies.names().unwrap_or_default();
        let sizes = names.iter().filter_map(|name| self.shared.bodies.open_body(name).ok()?.size().ok());
        segments + sizes.sum::<u64>()
    }

    /// Files that are whole and were not given before. More may come while these are copied.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn whole(&mut self) -> Result<Vec<Piece>, QueueError> {
        let mut pieces = self.new_bodies()?;
        for segment in self.pin() {
            if segment.sealed.lock().is_some() && self.given.insert(segment.number) {
                pieces.push(piece(&segment, segment.file.size()?)?);
            }
        }
        Ok(pieces)
    }

    /// The rest: with it the copy has everything up to the sequence that is returned.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn rest(&mut self) -> Result<(Vec<Piece>, u64), QueueError> {
        // First the moment, then what there was at it.
        let synced = self.shared.synced.load(Ordering::SeqCst);
        let mut pieces = Vec::new();
        for segment in self.pin() {
            if segment.after >= synced && synced > 0 || self.given.contains(&segment.number) {
                continue;
            }
            let is_sealed = segment.sealed.lock().is_some();
            let end = if is_sealed { segment.file.size()? } else { end_of(&segment, synced)? };
            self.given.insert(segment.number);
            pieces.push(piece(&segment, end)?);
        }
        pieces.extend(self.new_bodies()?);
        Ok((pieces, synced))
    }

    /// Keeps all segments that there are from being used again; in their order.
    fn pin(&mut self) -> Vec<Arc<Segment>> {
        let segments = self.shared.segments.lock();
        for segment in segments.values() {
            self.pins.entry(segment.number).or_insert_with(|| segment.pin.clone());
        }
        segments.values().cloned().collect()
    }

    /// Body files that were not given, or not with this length. A file that grows belongs to no message yet.
    fn new_bodies(&mut self) -> Result<Vec<Piece>, QueueError> {
        let mut pieces = Vec::new();
        for name in self.shared.bodies.names()? {
            // One that its session has given up meanwhile was never published.
            let Ok(file) = self.shared.bodies.open_body(&name) else { continue };
            let len = file.size()?;
            if self.bodies.insert(name.clone(), len) != Some(len) {
                pieces.push(Piece { name: format!("bodies/{name}"), len, file_len: len, file });
            }
        }
        Ok(pieces)
    }
}

fn piece(segment: &Segment, len: u64) -> Result<Piece, QueueError> {
    let name = format!("segments/{}", segment.name);
    Ok(Piece { name, len, file_len: segment.file.size()?, file: segment.file.clone() })
}

/// Where the frames of a segment end up to a sequence: each says where the next one is.
fn end_of(segment: &Segment, until: u64) -> Result<u64, QueueError> {
    let mut at = DATA_START as u64;
    loop {
        let mut start = [0; HEADER];
        if segment.file.read_at(&mut start, at)? < HEADER {
            return Ok(at);
        }
        let Some(ops_len) = Header::ops_len_of(segment.nonce, &start) else { return Ok(at) };
        let front = segment.file.read_exact_at(HEADER + ops_len, at)?;
        match Header::decode(segment.nonce, &front) {
            Some((header, _)) if header.sequence <= until => at += header.frame_len() as u64,
            _ => return Ok(at),
        }
    }
}
