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
    Cancelled, End, Epoch, Kind, MAX_RECIPIENTS, QueueError, Recipients,
    op::{After, Conclude, Op, Origin, Untold, UntoldWork},
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
        /// If there was a late word: the recipients for whom this one counts. Of the others the record says nothing that holds.
        only: Option<Recipients>,
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
        /// Why.
        why: Cancelled,
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
            let Conclude { work, epoch, at, after, ref ends, .. } = *conclude;
            let whom = |which: fn(End) -> bool| {
                let some = ends.iter().filter(|(end, _)| which(*end)).map(|(_, some)| *some);
                some.fold(Recipients::NONE, Recipients::with)
            };
            let already = whom(|end| end == End::Already);
            let only = match after {
                After::Unchanged => Some(whom(|end| end != End::Already)),
                _ if already.is_empty() => None,
                _ => Some(Recipients::first(MAX_RECIPIENTS).without(already)),
            };
            into.push(Tale { sequence, told: Told::Concluded { work, epoch, at, only, record } });
        }
        Op::Cancel(cancel) | Op::Withdraw(cancel) => {
            let why = match op {
                Op::Withdraw(_) => Cancelled::Withdrawn,
                _ => Cancelled::ByHand,
            };
            into.extend(cancel.works.iter().map(|(work, remaining)| Tale {
                sequence,
                told: Told::Cancelled { work: *work, at: cancel.at, remaining: *remaining, why },
            }));
        }
        Op::Untold(untold) => {
            let mut head = head.clone();
            let told = untold.iter().map(|one| told_late(one, &mut head));
            into.extend(told.map(|told| Tale { sequence, told }));
        }
        _ => {}
    }
}

/// What was copied forward because nobody had taken it yet; takes its words off the front of `head`.
fn told_late(untold: &Untold, head: &mut Bytes) -> Told {
    let mut take = |len: u32| head.split_to(len as usize);
    match untold {
        Untold::Published { message, kind, at, header_len, works } => Told::Published {
            message: *message,
            kind: *kind,
            at: *at,
            header: take(*header_len),
            works: works.iter().map(|work| (work.index, work.recipients, take(work.detail_len))).collect(),
        },
        Untold::Concluded { work, epoch, at, record_len } => {
            Told::Concluded { work: *work, epoch: *epoch, at: *at, only: None, record: take(*record_len) }
        }
        Untold::Late { work, epoch, at, only, record_len } => Told::Concluded {
            work: *work,
            epoch: *epoch,
            at: *at,
            only: Some(*only),
            record: take(*record_len),
        },
        Untold::Cancelled { work, at, remaining } => {
            Told::Cancelled { work: *work, at: *at, remaining: *remaining, why: Cancelled::ByHand }
        }
        Untold::Withdrawn { work, at, remaining } => {
            Told::Cancelled { work: *work, at: *at, remaining: *remaining, why: Cancelled::Withdrawn }
        }
    }
}

impl Told {
    /// What is written to tell it later, with its words added to `head`.
    pub(crate) fn untold(&self, head: &mut Vec<u8>) -> Untold {
        let mut put = |words: &Bytes| {
            head.extend_from_slice(words);
            u32::try_from(words.len()).expect("it was checked against MAX_HEADER")
        };
        match self {
            Self::Published { message, kind, at, header, works } => Untold::Published {
                message: *message,
                kind: *kind,
                at: *at,
                header_len: put(header),
                works: works
                    .iter()
                    .map(|(index, recipients, detail)| UntoldWork {
                        index: *index,
                        recipients: *recipients,
                        detail_len: put(detail),
                    })
                    .collect(),
            },
            Self::Concluded { work, epoch, at, only: None, record } => {
                Untold::Concluded { work: *work, epoch: *epoch, at: *at, record_len: put(record) }
            }
            Self::Concluded { work, epoch, at, only: Some(only), record } => {
                Untold::Late { work: *work, epoch: *epoch, at: *at, only: *only, record_len: put(record) }
            }
            Self::Cancelled { work, at, remaining, why } => {
                let (work, at, remaining) = (*work, *at, *remaining);
                match why {
                    Cancelled::ByHand => Untold::Cancelled { work, at, remaining },
                    Cancelled::Withdrawn => Untold::Withdrawn { work, at, remaining },
                }
            }
        }
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
        loop {
            let (tales, at) = match self.recent.take(self.at, enough, max, patience) {
                Taken::Tales(tales, at) => (tales, at),
                Taken::Archived { until } => {
                    let (tales, at) = self.archive.read(self.at, until, max)?;
                    if tales.is_empty() {
                        // What was told there is carried forward, or there was nothing: it goes on behind it.
                        self.at = at;
                        continue;
                    }
                    (tales, at)
                }
            };
            self.at = at;
            return Ok((tales, Position { spool: self.spool, sequence: at }));
        }
    }

    /// Says that everything up to `position` is stored so that it survives a loss of power.
    pub fn confirm(&self, position: Position) {
        self.archive.confirmed(position.sequence);
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
    /// Bytes of their words.
    bytes: usize,
    /// Every frame after this one that was told is in `tales`.
    complete_after: u64,
    /// The last frame that was told.
    last: u64,
    closed: bool,
    waited_for: usize,
}

/// Most tales that wait in memory.
const MAX_RECENT: usize = 50_000;
/// Most bytes of words that wait in memory.
const MAX_RECENT_BYTES: usize = 32 << 20;

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
        let bytes: usize = tales.iter().map(|tale| tale.told.size()).sum();
        let too_many = state.tales.len() + tales.len() > MAX_RECENT || state.bytes + bytes > MAX_RECENT_BYTES;
        if too_many {
            state.tales.clear();
            state.tales.shrink_to(1024);
            state.bytes = 0;
            state.complete_after = last;
        } else {
            state.bytes += bytes;
            state.tales.extend(tales);
        }
        state.last = state.last.max(last);
        if state.waited_for > 0 && (too_many || state.tales.len() >= state.waited_for) {
            self.changed.notify_one();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().tales.len()
    }

    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    fn take(&self, after: u64, enough: usize, max: usize, patience: Duration) -> Taken {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        let mut timed_out = false;
        loop {
            if after < state.complete_after {
                return Taken::Archived { until: state.complete_after };
            }
            state.skip_to(after);
            if state.tales.len() >= enough || state.closed || timed_out {
                return state.take(after, max);
            }
            state.waited_for = enough;
            timed_out = self.changed.wait_until(&mut state, until).timed_out();
            state.waited_for = 0;
        }
    }
}

impl RecentState {
    /// Drops what a reader has told already who begins anew.
    fn skip_to(&mut self, after: u64) {
        while self.tales.front().is_some_and(|tale| tale.sequence <= after) {
            self.pop();
        }
    }

    fn pop(&mut self) -> Option<Tale> {
        let tale = self.tales.pop_front()?;
        self.bytes -= tale.told.size();
        Some(tale)
    }

    /// The first tales, about `max` of them; those of one frame stay together.
    fn take(&mut self, after: u64, max: usize) -> Taken {
        let mut taken: Vec<Tale> = Vec::with_capacity(self.tales.len().min(max));
        while let Some(next) = self.tales.front()
            && (taken.len() < max || taken.last().is_some_and(|last| last.sequence == next.sequence))
        {
            taken.extend(self.pop());
        }
        let at = match taken.last() {
            Some(last) if !self.tales.is_empty() => last.sequence,
            _ => self.last.max(after),
        };
        self.complete_after = at;
        Taken::Tales(taken, at)
    }
}

impl Told {
    /// The bytes of its words.
    fn size(&self) -> usize {
        match self {
            Self::Published { header, works, .. } => {
                header.len() + works.iter().map(|(.., detail)| detail.len()).sum::<usize>()
            }
            Self::Concluded { record, .. } => record.len(),
            Self::Cancelled { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cancelled(sequence: u64) -> Tale {
        let work = WorkId { message: MessageId::generate(Timestamp::from_millis(1)), index: 0 };
        Tale {
            sequence,
            told: Told::Cancelled {
                work,
                at: Timestamp::from_millis(1),
                remaining: Recipients::first(1),
                why: Cancelled::ByHand,
            },
        }
    }

    fn take(recent: &RecentTales, after: u64, enough: usize, max: usize) -> Taken {
        recent.take(after, enough, max, Duration::ZERO)
    }

    #[test]
    fn tales_of_one_frame_stay_together() {
        let recent = RecentTales::starting_after(0);
        recent.add(vec![cancelled(1), cancelled(1), cancelled(1), cancelled(2)], 3);
        assert!(matches!(take(&recent, 0, 1, 2), Taken::Tales(tales, 1) if tales.len() == 3));
        assert!(matches!(take(&recent, 1, 1, 2), Taken::Tales(tales, 3) if tales.len() == 1));
    }

    #[test]
    fn what_does_not_fit_into_memory_is_read_from_the_archive() {
        let recent = RecentTales::starting_after(0);
        recent.add(vec![cancelled(1)], 1);
        recent.add((0..=MAX_RECENT).map(|_| cancelled(2)).collect(), 2);
        assert!(matches!(take(&recent, 0, usize::MAX, 10), Taken::Archived { until: 2 }));
        recent.add(vec![cancelled(3)], 3);
        assert!(matches!(take(&recent, 2, 1, 10), Taken::Tales(tales, 3) if tales.len() == 1));
    }

    #[test]
    fn a_reader_that_waits_for_more_is_told_of_an_overrun() {
        let recent = Arc::new(RecentTales::starting_after(0));
        let reader = std::thread::spawn({
            let recent = recent.clone();
            move || recent.take(0, 1000, 1000, Duration::from_secs(60))
        });
        recent.add((0..=MAX_RECENT).map(|_| cancelled(1)).collect(), 1);
        assert!(matches!(reader.join().expect("no panic"), Taken::Archived { until: 1 }));
    }

    #[test]
    fn a_reader_that_begins_anew_is_told_what_was_not_confirmed() {
        let recent = RecentTales::starting_after(0);
        recent.add(vec![cancelled(1), cancelled(2)], 2);
        assert!(matches!(take(&recent, 0, 1, 10), Taken::Tales(_, 2)));
        assert!(matches!(take(&recent, 1, 1, 10), Taken::Archived { until: 2 }));
        recent.add(vec![cancelled(3), cancelled(4)], 4);
        assert!(matches!(take(&recent, 3, 1, 10), Taken::Tales(tales, 4) if tales.len() == 1));
    }

    #[test]
    fn what_was_copied_forward_is_told_like_what_is_new() {
        let message = MessageId::generate(Timestamp::from_millis(1));
        let (work, at) = (WorkId { message, index: 0 }, Timestamp::from_millis(2));
        let op = Op::Untold(vec![
            Untold::Published {
                message,
                kind: Kind::Mail,
                at,
                header_len: 2,
                works: vec![UntoldWork { index: 0, recipients: 1, detail_len: 3 }],
            },
            Untold::Concluded { work, epoch: Epoch::default(), at, record_len: 4 },
            Untold::Withdrawn { work, at, remaining: Recipients::first(1) },
            Untold::Late { work, epoch: Epoch::default(), at, only: Recipients::first(1), record_len: 2 },
        ]);
        assert_eq!(op.words_len(), 11);
        let mut tales = Vec::new();
        tell(7, &op, &Bytes::from_static(b"hhdddrrrrll"), &mut tales);
        let mut head = Vec::new();
        let again: Vec<Untold> = tales.iter().map(|tale| tale.told.untold(&mut head)).collect();
        assert_eq!((Op::Untold(again), &head[..]), (op, &b"hhdddrrrrll"[..]));
        let [published, concluded, cancelled, late] = &tales[..] else { panic!("{tales:?}") };
        assert!(matches!(&published.told, Told::Published { header, works, .. }
            if header == "hh" && works[..] == [(0, 1, Bytes::from_static(b"ddd"))]));
        assert!(matches!(&concluded.told, Told::Concluded { record, .. } if record == "rrrr"));
        let Told::Cancelled { remaining, why, .. } = &cancelled.told else { panic!("{cancelled:?}") };
        assert_eq!((remaining.count(), *why), (1, Cancelled::Withdrawn));
        assert!(matches!(&late.told, Told::Concluded { only: Some(only), record, .. }
            if only.count() == 1 && record == "ll"));
    }
}
