//! The manager's queue, and what a crash leaves of it.
//!
//! The spool's own threads run in real time. So that a run depends on its seed alone, the disk syncs only when the run says
//! so; and before a crash there is a picture of the disk after each thing that was written, of which the crash keeps one.

use std::{collections::BTreeMap, path::Path, time::Duration};

use base::{ManualClock, MessageId, Timestamp, WorkId};
use queue::{Boot, Epoch, Position, Publication, Queue, Spool, Told, files::SimulatedDisk, spool::Options};

use super::{Rules, errand};

/// Something that was put into the spool, and that a crash may eat until it is synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Note {
    Grant(Epoch),
    Commit(Epoch),
    Conclude(Epoch),
    Gone(Boot),
    Publish(MessageId),
    Cancel(MessageId),
}

pub(super) struct Store {
    disk: SimulatedDisk,
    pub(super) clock: ManualClock,
    queue: Option<Queue>,
    /// What was put since the last sync, in order.
    notes: Vec<Note>,
    /// How the disk was, while a crash is near.
    pictures: Option<Vec<Picture>>,
    after_loss: Duration,
}

/// The disk at a moment, with so many of the notes.
struct Picture {
    at: u64,
    notes: usize,
    disk: SimulatedDisk,
}

/// How the manager ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// Its process is killed: what was not written is lost.
    Kill,
    /// The power fails: what was not synced is lost, or a part of it.
    Power,
}

/// What is put is written after this time at the latest, in microseconds.
pub(super) const WRITTEN_WITHIN: u64 = 5000;
/// So many segments a spool makes ready before it needs them.
const KEPT_READY: usize = 3;
const DIR: &str = "/spool";

impl Store {
    pub(super) fn new(after_loss: Duration) -> Self {
        let clock = ManualClock::at(Timestamp::from_millis(1_800_000_000_000));
        let disk = SimulatedDisk::default();
        Self { disk, clock, queue: None, notes: Vec::new(), pictures: None, after_loss }
    }

    pub(super) async fn open(&mut self) {
        let options = Options {
            // One segment per start is enough, and nothing is copied forward: that would depend on real time.
            segment_size: 256 << 10,
            recent_bytes: 16 << 10,
            after_loss: self.after_loss,
            kept_for_log: u64::MAX,
            ..Options::default()
        };
        let spool = Spool::open(self.disk.disk(), Path::new(DIR), self.clock.clock(), options);
        let queue = Queue::new(spool.expect("the spool opens"));
        // The disk is at rest once the segments are made that are kept ready.
        while queue.stats().free_segments < KEPT_READY {
            tokio::task::yield_now().await;
        }
        self.queue = Some(queue);
        self.disk.hold_syncs();
    }

    pub(super) fn queue(&self) -> Queue {
        self.queue.clone().expect("the manager runs")
    }

    /// Something was put, as one.
    pub(super) async fn put(&mut self, notes: &[Note], now: u64) {
        self.notes.extend_from_slice(notes);
        if self.pictures.is_some() {
            self.settle().await;
            self.take_picture(now);
        }
    }

    /// All that was put is synced and has taken effect.
    pub(super) async fn sync(&mut self, now: u64) {
        self.settle().await;
        self.is_synced(now);
    }

    /// Publishes a message, which syncs all that was put before.
    pub(super) async fn publish(&mut self, publication: Publication, now: u64) {
        self.disk.release_syncs();
        self.queue().publish(vec![publication]).await.expect("it is published");
        self.settle().await;
        self.is_synced(now);
    }

    async fn settle(&self) {
        self.disk.release_syncs();
        self.queue().settled().await.expect("the disk works");
        self.disk.hold_syncs();
    }

    fn is_synced(&mut self, now: u64) {
        self.notes.clear();
        if let Some(pictures) = &mut self.pictures {
            pictures.clear();
            self.take_picture(now);
        }
    }

    fn take_picture(&mut self, now: u64) {
        let picture = Picture { at: now, notes: self.notes.len(), disk: self.disk.after_kill() };
        self.pictures.get_or_insert_default().push(picture);
    }

    pub(super) fn is_unsynced(&self) -> bool {
        !self.notes.is_empty()
    }

    /// Whether something that was concluded is not synced.
    pub(super) fn is_concluding(&self) -> bool {
        self.notes.iter().any(|note| matches!(note, Note::Conclude(_)))
    }

    pub(super) fn expects_crash(&self) -> bool {
        self.pictures.is_some()
    }

    /// How often a delivery of each work is told of.
    pub(super) fn ends(&self, rules: Rules) -> BTreeMap<WorkId, usize> {
        let mut feed = self.queue().feed(Position::default()).expect("a new reader");
        let mut ends: BTreeMap<WorkId, usize> = BTreeMap::new();
        loop {
            let (tales, _) = feed.next(1, 100, Duration::ZERO).expect("it can be read");
            if tales.is_empty() {
                return ends;
            }
            for tale in tales {
                let Told::Concluded { work, only, record, .. } = tale.told else { continue };
                let is_its = rules == Rules::EveryWordCounts || only.is_none_or(|only| only.contains(0));
                if is_its && errand::read(&record).1 {
                    *ends.entry(work).or_default() += 1;
                }
            }
        }
    }

    /// A crash is near.
    pub(super) async fn expect_crash(&mut self, now: u64) {
        self.pictures = Some(Vec::new());
        self.sync(now).await;
    }

    /// The manager has ended. Returns what was put and is lost, the latest first.
    pub(super) fn crash(&mut self, crash: Crash, now: u64, random: &mut fastrand::Rng) -> Vec<Note> {
        let mut pictures = self.pictures.take().expect("the crash was expected");
        let first = match crash {
            Crash::Kill => {
                let written = now - random.u64(..WRITTEN_WITHIN);
                pictures.iter().rposition(|picture| picture.at <= written).unwrap_or(0)
            }
            Crash::Power => 0,
        };
        let Picture { notes, disk, .. } = pictures.swap_remove(random.usize(first..pictures.len()));
        self.disk.release_syncs();
        self.queue = None;
        self.disk = match crash {
            Crash::Kill => disk,
            Crash::Power => disk.after_power_loss(&mut fastrand::Rng::with_seed(now)),
        };
        self.notes.drain(..).skip(notes).rev().collect()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.disk.release_syncs();
    }
}
