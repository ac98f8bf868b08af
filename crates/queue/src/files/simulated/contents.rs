//! The bytes of a file, of which some are synced.

use std::{
    io,
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use parking_lot::Mutex;

use super::{Call, Condition, Fault, FileProvider};

pub(super) struct Contents {
    pub(super) bytes: Mutex<Bytes>,
    pub(super) condition: Arc<Condition>,
}

#[derive(Default, Clone)]
pub(super) struct Bytes {
    pub(super) now: Vec<u8>,
    pub(super) synced: Vec<u8>,
    /// Writes since the last sync: where and how long.
    unsynced: Vec<(usize, usize)>,
    /// Writes that a failed sync should have synced: no later sync will.
    given_up: Vec<(usize, usize)>,
    /// A sync of it failed while this disk was used.
    failed: bool,
    /// Places that it does not give.
    pub(super) spoiled: Vec<Range<u64>>,
}

impl Bytes {
    /// What is left after the power failed: of what was not synced, some sectors.
    pub(super) fn after_power_loss(&self, random: &mut fastrand::Rng) -> Self {
        let mut synced = self.synced.clone();
        for (start, len) in self.given_up.iter().chain(&self.unsynced) {
            keep_some_sectors(&mut synced, &self.now, *start, *len, random);
        }
        Self { now: synced.clone(), synced, ..Self::default() }
    }

    /// What is there after the process was killed: all, as another process finds it.
    pub(super) fn after_kill(&self) -> Self {
        Self { failed: false, ..self.clone() }
    }

    fn put(&mut self, slices: &[io::IoSlice<'_>], start: usize, len: usize) {
        let end = start + len;
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        let mut at = start;
        for slice in slices {
            let some = slice.len().min(end - at);
            self.now[at..at + some].copy_from_slice(&slice[..some]);
            at += some;
        }
        self.unsynced.push((start, len));
    }
}

fn keep_some_sectors(synced: &mut Vec<u8>, now: &[u8], start: usize, len: usize, random: &mut fastrand::Rng) {
    let end = (start + len).min(now.len());
    let mut at = start;
    while at < end {
        let until = (at / 512 * 512 + 512).min(end);
        if random.bool() {
            if synced.len() < until {
                synced.resize(until, 0);
            }
            synced[at..until].copy_from_slice(&now[at..until]);
        }
        at = until;
    }
}

impl FileProvider for Contents {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let fault = self.condition.plan.ask(Call::Read)?;
        let bytes = self.bytes.lock();
        let wanted = offset..offset.saturating_add(buffer.len() as u64);
        if bytes.spoiled.iter().any(|place| place.start < wanted.end && wanted.start < place.end) {
            return Err(Fault::Broken.error());
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.now.len());
        let len = buffer.len().min(bytes.now.len() - start);
        buffer[..len].copy_from_slice(&bytes.now[start..start + len]);
        if fault == Some(Fault::Flip) && len > 0 {
            buffer[self.condition.plan.pick(len)] ^= 1;
        }
        Ok(len)
    }

    fn write_at(&self, slices: &[io::IoSlice<'_>], offset: u64) -> io::Result<()> {
        let fault = self.condition.plan.ask(Call::Write)?;
        let _moment = self.condition.moment.read();
        let mut bytes = self.bytes.lock();
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let whole = slices.iter().map(|slice| slice.len()).sum::<usize>();
        let len = if fault == Some(Fault::Short) { self.condition.plan.pick(whole.max(1)) } else { whole };
        self.condition.grow((start + len).saturating_sub(bytes.now.len()))?;
        bytes.put(slices, start, len);
        if fault == Some(Fault::Short) { Err(Fault::Broken.error()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.condition.wait_while_held();
        let _moment = self.condition.moment.read();
        let mut bytes = self.bytes.lock();
        if bytes.failed {
            self.condition.retried_syncs.fetch_add(1, Ordering::SeqCst);
        }
        let fault = self.condition.plan.ask(Call::Sync).inspect_err(|_| {
            // What the system could not write it counts as written.
            let Bytes { unsynced, given_up, failed, .. } = &mut *bytes;
            given_up.append(unsynced);
            *failed = true;
        })?;
        if fault == Some(Fault::Lie) {
            return Ok(());
        }
        let Bytes { now, synced, unsynced, .. } = &mut *bytes;
        synced.resize(now.len(), 0);
        for (start, len) in unsynced.drain(..) {
            synced[start..start + len].copy_from_slice(&now[start..start + len]);
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().now.len() as u64)
    }
}
