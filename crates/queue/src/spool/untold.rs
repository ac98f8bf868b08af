//! What the message log does not take is told forward: copied on, so that a log that is stuck or full does not pin the disk.
//!
//! A segment that is free but for its tales is kept for the log, up to a bound on all such segments. Beyond it the tales of
//! the oldest are copied into the newest, where they are told again; what the log has already it passes over. Half of the
//! bound may be carried so: as carried tales are copied again with their segments, no more than as much again as the mail
//! itself is ever written. Beyond that the tales of the oldest segment are given up, counted and said.

use std::sync::{Arc, atomic::Ordering};

use super::{
    Shared,
    archive::Walk,
    by_hand::Synced,
    room::Room,
    segment::{Sealed, Segment, Tales},
};
use crate::{
    QueueError,
    feed::Told,
    op::{Op, Untold},
    transaction::Transaction,
};

/// How the message log keeps up, as far as it was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Telling {
    /// Its segments are kept for it.
    #[default]
    Calm,
    /// Tales are carried forward.
    Carrying,
    /// Tales are given up.
    Losing,
}

/// At least so many segments are kept for the log, however large they are.
const FEWEST_KEPT: u64 = 2;
/// So many bytes are told forward at once, unless segments are small.
const AT_ONCE: u64 = 1 << 20;

/// Tells the oldest segment's tales forward, if too many are kept for the log. Says whether one has become free by that.
pub(super) fn tell_forward(
    shared: &Shared,
    segments: &[Arc<Segment>],
    telling: &mut Telling,
) -> Result<Freed, QueueError> {
    let confirmed = shared.confirmed.load(Ordering::SeqCst);
    let kept: Vec<(&Arc<Segment>, Sealed)> = segments
        .iter()
        .filter_map(|segment| Some((segment, (*segment.sealed.lock())?)))
        .filter(|(segment, sealed)| {
            sealed.last > confirmed
                && sealed.tales == Tales::Here
                && shared.ledger.with_index(|index| !index.segments.is_movable(segment.number))
        })
        .collect();
    let bound = Bound::of(shared, segments, confirmed);
    if kept.len() as u64 <= bound.segments(shared.watch.room()) {
        if kept.is_empty() {
            telling.becomes(Telling::Calm, shared);
        }
        return Ok(Freed::None);
    }
    let is_next = |segment: &Segment, sealed: &Sealed| {
        sealed.last <= shared.synced.load(Ordering::SeqCst)
            && shared.ledger.with_index(|index| index.segments.is_free(segment.number))
    };
    let Some((segment, sealed)) = kept.into_iter().find(|(segment, sealed)| is_next(segment, sealed)) else {
        return Ok(Freed::None);
    };
    let taken = weigh(shared, segment, confirmed)?;
    let before = shared.ledger.with_index(|index| index.segments.carried(segment.number));
    if bound.carried - before + taken.bytes <= bound.carriable() {
        telling.becomes((*telling).max_with(Telling::Carrying), shared);
        copy(shared, segment, confirmed)?;
    } else {
        telling.becomes(Telling::Losing, shared);
        shared.lost.fetch_add(taken.tales, Ordering::SeqCst);
    }
    *segment.sealed.lock() = Some(Sealed { tales: Tales::Forward, ..sealed });
    Ok(Freed::One)
}

/// Whether a segment has become free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freed {
    None,
    One,
}

impl Telling {
    fn max_with(self, other: Self) -> Self {
        if self == Self::Losing { self } else { other }
    }

    /// Says a change, once.
    fn becomes(&mut self, now: Self, shared: &Shared) {
        let before = std::mem::replace(self, now);
        match now {
            _ if now == before => {}
            Self::Calm => tracing::info!(
                lost = shared.lost.load(Ordering::SeqCst),
                "the message log takes records again; lost: what was given up since the start"
            ),
            Self::Carrying => tracing::warn!(
                "the message log does not keep up; what it has not taken is carried forward, so that segments become free"
            ),
            Self::Losing => tracing::error!(
                "the message log has not kept up for too long: its oldest records are given up; mail is not touched"
            ),
        }
    }
}

/// How much is kept for the log, and may be.
#[derive(Clone, Copy, Debug)]
struct Bound {
    segment: u64,
    kept: u64,
    carried: u64,
}

impl Bound {
    fn of(shared: &Shared, segments: &[Arc<Segment>], confirmed: u64) -> Self {
        let waits =
            |segment: &&Arc<Segment>| segment.sealed.lock().is_none_or(|sealed| sealed.last > confirmed);
        let waiting: Vec<u32> = segments.iter().filter(waits).map(|segment| segment.number).collect();
        let carried = shared
            .ledger
            .with_index(|index| waiting.iter().map(|number| index.segments.carried(*number)).sum());
        let segment = shared.options.segment_size as u64;
        Self { segment, kept: shared.options.kept_for_log.max(FEWEST_KEPT * segment), carried }
    }

    /// How many bytes may be carried.
    fn carriable(self) -> u64 {
        self.kept / 2
    }

    /// How many segments may be kept; on a full disk no more than what is carried needs.
    fn segments(self, room: Room) -> u64 {
        match room {
            Room::Full => (2 * self.carried).div_ceil(self.segment),
            Room::Enough | Room::Low => self.kept / self.segment,
        }
    }
}

/// What a segment tells that is not confirmed.
#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    tales: u64,
    bytes: u64,
}

fn weigh(shared: &Shared, segment: &Segment, confirmed: u64) -> Result<Weight, QueueError> {
    let mut weight = Weight::default();
    each_tale(shared, segment, confirmed, |told| {
        weight.tales += 1;
        weight.bytes += told.untold(&mut Vec::new()).size();
        Ok(())
    })?;
    Ok(weight)
}

fn each_tale(
    shared: &Shared,
    segment: &Segment,
    confirmed: u64,
    mut run: impl FnMut(Told) -> Result<(), QueueError>,
) -> Result<(), QueueError> {
    let last = segment.sealed.lock().map_or(u64::MAX, |sealed| sealed.last);
    let mut walk = Walk::through(shared, segment, last)?;
    let mut tales = Vec::new();
    while let Some(frame) = walk.next_after(confirmed)? {
        walk.tell(&frame, &mut tales);
        tales.drain(..).try_for_each(|tale| run(tale.told))?;
    }
    Ok(())
}

/// Copies what a segment tells into the newest one, and returns when that is synced.
fn copy(shared: &Shared, segment: &Segment, confirmed: u64) -> Result<(), QueueError> {
    let mut carrier = Carrier { shared, untold: Vec::new(), head: Vec::new(), bytes: 0, waiting: Vec::new() };
    each_tale(shared, segment, confirmed, |told| carrier.load(&told))?;
    carrier.send()?;
    carrier
        .waiting
        .into_iter()
        .try_for_each(|synced| synced.blocking_recv().unwrap_or(Err(QueueError::Closed)))
}

/// Tales on their way.
struct Carrier<'s> {
    shared: &'s Shared,
    untold: Vec<Untold>,
    head: Vec<u8>,
    /// What they take in a segment.
    bytes: u64,
    waiting: Vec<Synced>,
}

impl Carrier<'_> {
    fn load(&mut self, told: &Told) -> Result<(), QueueError> {
        let start = self.head.len();
        let untold = told.untold(&mut self.head);
        let size = untold.size();
        if self.bytes + size > AT_ONCE.min(self.shared.options.segment_size as u64 / 8) {
            let words = self.head.split_off(start);
            self.send()?;
            self.head = words;
        }
        self.untold.push(untold);
        self.bytes += size;
        Ok(())
    }

    fn send(&mut self) -> Result<(), QueueError> {
        if self.untold.is_empty() {
            return Ok(());
        }
        let transaction = Transaction {
            ops: vec![Op::Untold(std::mem::take(&mut self.untold))],
            head: std::mem::take(&mut self.head),
            ..Transaction::default()
        };
        self.bytes = 0;
        self.waiting.push(self.shared.write(transaction)?);
        Ok(())
    }
}
