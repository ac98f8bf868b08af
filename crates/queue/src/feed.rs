//! The feed of what happened: everything synced, in order, for whoever projects it into a log.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use base::{MessageId, Timestamp, WorkId};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::{
    Epoch, Kind, QueueError, Recipients,
    op::{Op, Origin},
};

/// How far a reader has come: all frames up to and including this one are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Position {
    /// Which spool it is a position in.
    pub spool: u128,
    /// The last frame.
    pub sequence: u64,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Tale {
    /// The frame that says so. Several tales of one frame belong together.
    pub sequence: u64,
    /// What.
    pub told: Told,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Told {
    /// A message was taken in.
    Published {
        /// Which.
        message: MessageId,
        /// Which trade's.
        kind: Kind,
        /// When.
        at: Timestamp,
        /// The trade's words about it.
        header: Bytes,
        /// Its works: number, how many recipients, the trade's words.
        works: Vec<(u16, u8, Bytes)>,
    },
    /// A conclusion took effect.
    Concluded {
        /// Of which work.
        work: WorkId,
        /// Under which lease.
        epoch: Epoch,
        /// When.
        at: Timestamp,
        /// The trade's record of it.
        record: Bytes,
    },
    /// A work was cancelled.
    Cancelled {
        /// Which.
        work: WorkId,
        /// When.
        at: Timestamp,
        /// The recipients that had not ended.
        remaining: Recipients,
    },
}

/// Adds what an operation tells to `into`; `head` holds its words.
pub(crate) fn tell(sequence: u64, op: &Op, head: &Bytes, into: &mut Vec<Tale>) {
    match op {
        Op::Publish(publish) if publish.origin == Origin::New => {
            let words = publish.words(head);
            let works = publish.works.iter().zip(words.works);
            into.push(Tale {
                sequence,
                told: Told::Published {
                    message: publish.message,
                    kind: publish.kind,
                    at: publish.at,
                    header: words.header,
                    works: works
                        .map(|(work, (_, detail, _))| (work.index, work.recipients, detail))
                        .collect(),
                },
            });
        }
        Op::Conclude(conclude) if conclude.record_len > 0 => {
            let start = conclude.state_len as usize;
            let record = head.slice(start..start + conclude.record_len as usize);
            let told =
                Told::Concluded { work: conclude.work, epoch: conclude.epoch, at: conclude.at, record };
            into.push(Tale { sequence, told });
        }
        Op::Cancel(cancel) => {
            into.extend(cancel.works.iter().map(|(work, remaining)| Tale {
                sequence,
                told: Told::Cancelled { work: *work, at: cancel.at, remaining: *remaining },
            }));
        }
        _ => {}
    }
}

/// Where tales are read from that are no longer in memory.
pub(crate) trait Archive: Send + Sync {
    /// The tales of frames after `after` and up to `until`, about `max` of them, and the last frame read.
    fn read(&self, after: u64, until: u64, max: usize) -> Result<(Vec<Tale>, u64), QueueError>;
    /// Everything up to this frame is told for good.
    fn confirmed(&self, sequence: u64);
}

/// Reads what happened. There is one reader; it runs on a thread of its own.
pub struct Feed {
    recent: Arc<RecentTales>,
    archive: Arc<dyn Archive>,
    spool: u128,
    at: u64,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Feed at {}", self.at)
    }
}

impl Feed {
    pub(crate) fn new(recent: Arc<RecentTales>, archive: Arc<dyn Archive>, spool: u128, at: u64) -> Self {
        Self { recent, archive, spool, at }
    }

    /// The next tales: waits until there are `enough`, or some and `patience` is over; none only when `patience` is
    /// over or the queue was closed. Returns at most about `max`, and the position behind them.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn next(
        &mut self,
        enough: usize,
        max: usize,
        patience: Duration,
    ) -> Result<(Vec<Tale>, Position), QueueError> {
        let (tales, at) = match self.recent.take(self.at, enough, max, patience) {
            Taken::Tales(tales, at) => (tales, at),
            Taken::Archived { until } => self.archive.read(self.at, until, max)?,
        };
        self.at = at;
        Ok((tales, Position { spool: self.spool, sequence: at }))
    }

    /// Says that everything up to `position` is stored so that it survives a loss of power.
    pub fn confirm(&self, position: Position) {
        self.archive.confirmed(position.sequence);
    }

    /// How many tales wait in memory.
    #[must_use]
    pub fn behind(&self) -> usize {
        self.recent.state.lock().tales.len()
    }

    /// Whether the queue was closed, so that nothing new will come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.recent.state.lock().closed
    }
}

/// The tales that wait in memory; beyond a bound they are dropped, to be read from the archive.
#[derive(Debug, Default)]
pub(crate) struct RecentTales {
    state: Mutex<RecentState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct RecentState {
    tales: VecDeque<Tale>,
    /// Every frame after this one that was told is in `tales`.
    complete_after: u64,
    /// The last frame that was told.
    last: u64,
    closed: bool,
    waited_for: usize,
}

/// Most tales that wait in memory.
const MAX_RECENT: usize = 50_000;

enum Taken {
    Tales(Vec<Tale>, u64),
    Archived { until: u64 },
}

impl RecentTales {
    pub(crate) fn starting_after(sequence: u64) -> Self {
        let state = RecentState { complete_after: sequence, last: sequence, ..RecentState::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds what frames up to `last` tell.
    pub(crate) fn add(&self, tales: Vec<Tale>, last: u64) {
        let mut state = self.state.lock();
        if state.tales.len() + tales.len() > MAX_RECENT {
            state.tales.clear();
            state.tales.shrink_to(1024);
            state.complete_after = last;
        } else {
            state.tales.extend(tales);
        }
        state.last = last;
        if state.waited_for > 0 && state.tales.len() >= state.waited_for {
            self.changed.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    fn take(&self, after: u64, enough: usize, max: usize, patience: Duration) -> Taken {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        loop {
            if after < state.complete_after {
                return Taken::Archived { until: state.complete_after };
            }
            if state.tales.len() >= enough || state.closed {
                break;
            }
            state.waited_for = enough;
            let timed_out = self.changed.wait_until(&mut state, until).timed_out();
            state.waited_for = 0;
            if timed_out {
                break;
            }
        }
        let mut count = state.tales.len().min(max);
        while count > 0
            && state.tales.get(count).is_some_and(|next| next.sequence == state.tales[count - 1].sequence)
        {
            count += 1;
        }
        let at = if count == state.tales.len() { state.last } else { state.tales[count - 1].sequence };
        Taken::Tales(state.tales.drain(..count).collect(), at.max(after))
    }
}
