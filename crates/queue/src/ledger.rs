//! Who holds what: the index with leases, arrivals and recent contents, as every provider that keeps its own index
//! needs them. It decides; its provider writes.

mod late;
mod nodes;

use std::{collections::HashMap, hash::BuildHasherDefault, sync::Arc};

use base::{MessageId, Timestamp, WorkId};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::nodes::Lost;
use crate::{
    Arrival, Concluded, Conclusion, End, Epoch, Holder, Kind, LeaseOver, Reason, Recipients, Rest, Status,
    WorkInfo,
    index::{Effects, Index, More, Place},
    intern::IdHasher,
    op::{After, Cancel, Conclude, Op, Standing, State},
    recent::{Recent, RecentContent},
    work::{Change, Cursor, Seen, Ticket},
};

#[derive(Debug)]
pub(crate) struct Ledger {
    state: Mutex<Inner>,
    arrived: [Notify; 2],
    incarnation: u64,
}

#[derive(Debug)]
struct Inner {
    index: Index,
    leases: HashMap<WorkId, Holding, BuildHasherDefault<IdHasher>>,
    counter: u64,
    recent: Recent,
    /// What lost nodes may have done.
    lost: HashMap<WorkId, Lost, BuildHasherDefault<IdHasher>>,
}

#[derive(Clone, Copy, Debug)]
struct Holding {
    holder: Holder,
    epoch: Epoch,
    stage: Stage,
    /// What late words have ended that are not synced yet, so that nobody is sent the same twice.
    done: Recipients,
    life: Life,
    /// Why the work waited before, as far as is known.
    before: Reason,
    /// Whether there is also the value that it had before its node was lost, and has it again.
    former: Life,
}

/// Whether a lease has its value in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Living,
    /// It was found when the queue was opened, and its holder has not come back.
    Restored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Held,
    Committed,
    /// Its conclusion is on its way to the disk.
    Concluding {
        /// Where it stood before, if that cannot be written.
        before: Hold,
        /// Whom it ends, so that a late word does not end them as well.
        ends: Recipients,
    },
}

/// Who has a work while its conclusion is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Held,
    Committed,
    /// Nobody: the queue keeps it back until what is said of it has taken effect.
    Kept,
    /// Nobody: the queue keeps it back until all late words have taken effect.
    Late,
}

impl Stage {
    fn is_concluding(self) -> bool {
        matches!(self, Self::Concluding { .. })
    }
}

impl Holding {
    fn new(holder: Holder, epoch: Epoch, stage: Stage) -> Self {
        let before = Reason::PossiblyDone;
        let (life, former) = (Life::Living, Life::Restored);
        Self { holder, epoch, stage, done: Recipients::NONE, life, before, former }
    }

    /// The queue itself keeps a work back, while it is said that these end.
    fn kept(epoch: Epoch, ends: Recipients) -> Self {
        let stage = Stage::Concluding { before: Hold::Kept, ends };
        Self::new(Holder::Here, epoch, stage)
    }

    /// Whom what is on its way to the disk ends.
    fn ending(&self) -> Recipients {
        match self.stage {
            Stage::Concluding { ends, .. } => self.done.with(ends),
            Stage::Held | Stage::Committed => self.done,
        }
    }
}

/// What the holder of a fresh lease gets.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) info: WorkInfo,
    pub(crate) epoch: Epoch,
    pub(crate) content: Content,
}

/// Where a work's words and body are.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Recent(Arc<RecentContent>),
    Stored { message: Place, state: Option<Place> },
}

impl Content {
    /// Where it is on the disk, if it is only there.
    pub(crate) fn place(&self) -> Option<(Place, Option<Place>)> {
        match self {
            Self::Recent(_) => None,
            Self::Stored { message, state } => Some((*message, *state)),
        }
    }
}

impl Ledger {
    /// A ledger over an index; `recent_bytes` bounds the contents kept in memory.
    pub(crate) fn new(index: Index, incarnation: u64, recent_bytes: usize) -> Self {
        let recent = Recent::new(recent_bytes);
        let (leases, lost) = (HashMap::default(), HashMap::default());
        let inner = Inner { index, leases, counter: 0, recent, lost };
        let ledger = Self { state: Mutex::new(inner), arrived: [Notify::new(), Notify::new()], incarnation };
        // What was recovered waits already.
        ledger.wake();
        ledger
    }

    /// Runs something on the index.
    pub(crate) fn with_index<T>(&self, run: impl FnOnce(&mut Index) -> T) -> T {
        run(&mut self.state.lock().index)
    }

    /// Applies synced operations, and wakes the dispatchers if something has come to wait.
    pub(crate) fn apply(&self, ops: impl IntoIterator<Item = Applied>) -> Effects {
        let mut effects = Effects::default();
        let mut inner = self.state.lock();
        for applied in ops {
            inner.index.apply(&applied.op, applied.place, applied.size, &mut effects);
            inner.applied(&applied, &mut effects);
        }
        for (message, _) in &effects.ended {
            inner.recent.remove(*message);
        }
        drop(inner);
        self.wake_for(&effects);
        effects
    }

    fn wake_for(&self, effects: &Effects) {
        if effects.arrived {
            self.wake();
        }
    }

    fn wake(&self) {
        for arrived in &self.arrived {
            arrived.notify_one();
        }
    }

    /// Returns when something of this kind may have come to wait.
    pub(crate) async fn arrived(&self, kind: Kind) {
        self.arrived[kind as usize].notified().await;
    }

    pub(crate) fn take_arrivals(&self, kind: Kind, max: usize, into: &mut Vec<Arrival>) {
        let enough = into.len().saturating_add(max);
        while self.state.lock().index.take_arrivals(kind, enough, into) == More::Perhaps
            && into.len() < enough
        {}
    }

    /// Which of these arrivals are still the latest of works that may go.
    pub(crate) fn are_current(&self, tickets: &[Ticket]) -> Vec<bool> {
        let inner = self.state.lock();
        tickets.iter().map(|ticket| inner.index.is_current(*ticket)).collect()
    }

    /// Shows the works of those arrivals that are still current.
    pub(crate) fn look(&self, tickets: &[Ticket], see: &mut dyn FnMut(&Seen<'_>)) {
        let inner = self.state.lock();
        for ticket in tickets {
            if let Some(seen) = inner.index.look(*ticket) {
                let lease = inner.leases.get(&seen.work).map(|holding| holding.epoch);
                see(&Seen { lease, ..seen });
            }
        }
    }

    /// Shows the works at the next places; what `see` does must be quick, and nothing to the queue.
    pub(crate) fn walk(
        &self,
        kind: Kind,
        from: Cursor,
        max: usize,
        see: &mut dyn FnMut(&Seen<'_>),
    ) -> Option<Cursor> {
        let inner = self.state.lock();
        inner.index.walk(kind, from, max, &mut |seen| {
            let lease = inner.leases.get(&seen.work).map(|holding| holding.epoch);
            see(&Seen { lease, ..seen });
        })
    }

    pub(crate) fn works_of(&self, message: MessageId) -> Vec<WorkId> {
        self.state.lock().index.works_of(message)
    }

    /// Leases those works that may go and that nobody holds.
    pub(crate) fn lease(&self, holder: Holder, wanted: &[Ticket]) -> Vec<Option<Given>> {
        let mut inner = self.state.lock();
        wanted.iter().map(|ticket| inner.lease(self.incarnation, holder, *ticket)).collect()
    }

    pub(crate) fn commit(&self, work: WorkId, epoch: Epoch) -> Result<Recipients, LeaseOver> {
        let mut inner = self.state.lock();
        let remaining = inner.index.standing(work).ok_or(LeaseOver)?.remaining;
        match inner.leases.get_mut(&work) {
            Some(holding) if holding.epoch == epoch && holding.stage == Stage::Held => {
                let left = remaining.without(holding.done);
                // With nothing left to do, the late word on its way ends the work and the lease.
                if left.is_empty() {
                    return Err(LeaseOver);
                }
                holding.stage = Stage::Committed;
                Ok(left)
            }
            _ => Err(LeaseOver),
        }
    }

    /// What must be written for a conclusion, with its words' lengths filled in; nothing if it changes nothing.
    pub(crate) fn conclude(
        &self,
        work: WorkId,
        epoch: Epoch,
        conclusion: &Conclusion,
    ) -> (Concluded, Option<Conclude>) {
        let mut inner = self.state.lock();
        let Some(standing) = inner.index.standing(work) else {
            return (Concluded::Ignored, None);
        };
        let ended = conclusion.ended();
        let current = match inner.leases.get_mut(&work) {
            Some(holding) if holding.epoch == epoch && !holding.stage.is_concluding() => {
                let before = if holding.stage == Stage::Held { Hold::Held } else { Hold::Committed };
                holding.stage = Stage::Concluding { before, ends: ended };
                Some(holding.done)
            }
            _ => None,
        };
        let op = |ends, after, state_len: usize, record_len: usize| Conclude {
            work,
            epoch,
            at: conclusion.at,
            ends,
            after,
            state_len: u32::try_from(state_len).expect("it was checked against MAX_HEADER"),
            record_len: u32::try_from(record_len).expect("it was checked against MAX_HEADER"),
        };
        if let Some(done) = current {
            let remaining = standing.remaining.without(ended).without(done);
            let after = match conclusion.rest {
                _ if remaining.is_empty() => After::Ended,
                rest => After::Stands(standing.after(rest, remaining)),
            };
            let state_len = if after == After::Ended { 0 } else { conclusion.state.len() };
            let mut ends = conclusion.ends.clone();
            // Late words have ended these meanwhile, and their records tell of them.
            let already = done.with(ended.without(standing.remaining));
            if !already.is_empty() {
                ends.push((End::Already, already));
            }
            let op = op(ends, after, state_len, conclusion.record.len());
            return (Concluded::Applied, Some(op));
        }
        let told = inner.leases.get(&work).map_or(Recipients::NONE, Holding::ending);
        let done = conclusion.done().among(standing.remaining).without(told);
        if done.is_empty() {
            return (Concluded::Ignored, None);
        }
        // Until it is synced nobody else may have or copy the work.
        let nobody = Holding::kept(epoch, Recipients::NONE).late();
        let holding = inner.leases.entry(work).or_insert(nobody);
        holding.done = holding.done.with(done);
        let op = op(vec![(End::Done, done)], After::Unchanged, 0, conclusion.record.len());
        (Concluded::Late, Some(op))
    }

    /// What was said of the work could not be written: it is as it was before.
    pub(crate) fn unconcluded(&self, work: WorkId, epoch: Epoch) {
        let mut effects = Effects::default();
        let mut inner = self.state.lock();
        if let Some(holding) = inner.leases.get_mut(&work)
            && let Stage::Concluding { before, .. } = holding.stage
            && holding.epoch == epoch
        {
            match before {
                Hold::Held => holding.stage = Stage::Held,
                Hold::Committed => holding.stage = Stage::Committed,
                Hold::Kept | Hold::Late => inner.release(work, &mut effects),
            }
        }
        drop(inner);
        self.wake_for(&effects);
    }

    pub(crate) fn give_back(&self, work: WorkId, epoch: Epoch) {
        let mut effects = Effects::default();
        let mut inner = self.state.lock();
        if inner
            .leases
            .get(&work)
            .is_some_and(|holding| holding.epoch == epoch && holding.stage == Stage::Held)
        {
            inner.back(work, Reason::GivenBack, &mut effects);
        }
        drop(inner);
        self.wake_for(&effects);
    }

    pub(crate) fn unknown(&self, work: WorkId, epoch: Epoch, until: Timestamp) {
        let mut effects = Effects::default();
        self.state.lock().dropped(work, epoch, until, &mut effects);
        self.wake_for(&effects);
    }

    /// What must be written to cancel these works, all but those past the point of no return; their leases are over.
    pub(crate) fn cancel(&self, works: &[WorkId], at: Timestamp) -> Option<Cancel> {
        let mut inner = self.state.lock();
        let mut cancelled = Vec::with_capacity(works.len());
        for work in works {
            let Some(Standing { remaining, .. }) = inner.index.standing(*work) else { continue };
            let done = match inner.leases.get(work) {
                Some(holding) if holding.stage != Stage::Held => continue,
                holding => holding.map_or(Recipients::NONE, |holding| holding.done),
            };
            // A late word on its way tells of these.
            let left = remaining.without(done);
            if left.is_empty() {
                continue;
            }
            let epoch = inner.next_epoch(self.incarnation);
            inner.leases.insert(*work, Holding { done, ..Holding::kept(epoch, left) });
            cancelled.push((*work, left));
        }
        (!cancelled.is_empty()).then_some(Cancel { at, works: cancelled })
    }

    /// Takes waiting works out of the dispatcher's hands, so that their state can be changed; those that somebody holds are left.
    pub(crate) fn take_for_change(&self, works: &[WorkId], change: Change) -> Vec<(State, Content)> {
        let mut inner = self.state.lock();
        let mut taken = Vec::new();
        for work in works {
            if inner.leases.contains_key(work) {
                continue;
            }
            let Some(standing) = inner.index.standing(*work) else { continue };
            let epoch = inner.next_epoch(self.incarnation);
            let Some(content) = inner.content(*work) else { continue };
            inner.leases.insert(*work, Holding::kept(epoch, Recipients::NONE));
            taken.push((State { work: *work, standing: standing.changed(change), state_len: 0 }, content));
        }
        taken
    }

    /// Gives up a change or a cancellation that could not be written: nobody holds these works.
    pub(crate) fn unchanged(&self, works: &[WorkId]) {
        let mut effects = Effects::default();
        let mut inner = self.state.lock();
        for work in works {
            let is_kept =
                |holding: &Holding| matches!(holding.stage, Stage::Concluding { before: Hold::Kept, .. });
            if inner.leases.get(work).is_some_and(is_kept) {
                inner.release(*work, &mut effects);
            }
        }
        drop(inner);
        self.wake_for(&effects);
    }

    /// The work cannot be given now: it waits until then.
    pub(crate) fn put_off(&self, work: WorkId, epoch: Epoch, until: Timestamp, reason: Reason) {
        let mut effects = Effects::default();
        let mut inner = self.state.lock();
        if inner.leases.get(&work).is_some_and(|holding| holding.epoch == epoch) {
            inner.leave(work);
            inner.index.wait_again(work, Some(until), reason, &mut effects);
        }
        drop(inner);
        self.wake_for(&effects);
    }

    /// Whether nobody holds any work of this message, so that it may be copied forward.
    pub(crate) fn is_at_rest(&self, message: MessageId, works: &[u16]) -> bool {
        let inner = self.state.lock();
        works.iter().all(|index| !inner.leases.contains_key(&WorkId { message, index: *index }))
    }

    pub(crate) fn content(&self, work: WorkId) -> Option<Content> {
        self.state.lock().content(work)
    }

    pub(crate) fn info(&self, work: WorkId) -> Option<WorkInfo> {
        let inner = self.state.lock();
        let holding = inner.leases.get(&work);
        let (lease, held_by) = (holding.map(|of| of.epoch), holding.and_then(|of| of.holder.boot()));
        let lost_by = inner.lost.get(&work).map(|lost| lost.boot);
        inner.index.info(work).map(|info| WorkInfo { lease, held_by, lost_by, ..info })
    }

    pub(crate) fn keep(&self, message: MessageId, content: RecentContent) {
        self.state.lock().recent.insert(message, content);
    }

    /// Drops what was kept of a message that was not published after all.
    pub(crate) fn forget(&self, message: MessageId) {
        self.state.lock().recent.remove(message);
    }

    /// A work's stored form is damaged: it waits, visibly, for somebody to look at it.
    pub(crate) fn set_aside(&self, work: WorkId) {
        let mut inner = self.state.lock();
        inner.leases.remove(&work);
        inner.index.set_aside(work);
    }

    /// Works, recipients, leases.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let inner = self.state.lock();
        let (works, recipients) = inner.index.counts();
        (works, recipients, inner.leases.len())
    }
}

/// An operation that was synced, where it stands, and what its message takes.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) op: Op,
    pub(crate) place: Place,
    pub(crate) size: u32,
    pub(crate) head: Bytes,
}

impl Inner {
    fn next_epoch(&mut self, incarnation: u64) -> Epoch {
        self.counter += 1;
        Epoch { incarnation, counter: self.counter }
    }

    fn lease(&mut self, incarnation: u64, holder: Holder, ticket: Ticket) -> Option<Given> {
        let work = self.index.current(ticket)?;
        if self.leases.contains_key(&work) {
            return None;
        }
        let epoch = self.next_epoch(incarnation);
        let info = WorkInfo { lease: Some(epoch), ..self.index.info(work)? };
        let content = self.content(work)?;
        let holding = Holding::new(holder, epoch, Stage::Held);
        self.leases.insert(work, Holding { before: info.reason, ..holding });
        Some(Given { info, epoch, content })
    }

    fn content(&self, work: WorkId) -> Option<Content> {
        if let Some(recent) = self.recent.find(work.message) {
            return Some(Content::Recent(recent));
        }
        let (message, state) = self.index.places(work)?;
        Some(Content::Stored { message, state })
    }

    /// Nobody holds the work any more, and it is as it was before.
    fn release(&mut self, work: WorkId, effects: &mut Effects) {
        self.leases.remove(&work);
        self.index.arrive(work, effects);
    }

    /// What may have been done once may have been so still, whoever had it since and did nothing.
    fn back(&mut self, work: WorkId, reason: Reason, effects: &mut Effects) {
        self.leave(work);
        let before = self.index.standing(work).map(|standing| standing.reason);
        let reason = before.filter(|before| *before == Reason::PossiblyDone).unwrap_or(reason);
        self.index.wait_again(work, None, reason, effects);
    }

    /// Whoever had the work may have done it; it waits until then, or until it is too old.
    fn unknown(&mut self, work: WorkId, until: Timestamp, effects: &mut Effects) {
        match self.leases.get(&work).copied() {
            Some(Holding { holder: Holder::Node(boot), epoch, before, life, .. }) => {
                self.lost.insert(work, Lost { boot, epoch, before, life });
            }
            _ => drop(self.lost.remove(&work)),
        }
        self.leave(work);
        let until = self.index.info(work).map_or(until, |info| until.min(info.expires));
        self.index.wait_again(work, Some(until), Reason::PossiblyDone, effects);
    }

    /// Ends the leases that an operation has made an end of, and keeps recent contents true.
    fn applied(&mut self, applied: &Applied, effects: &mut Effects) {
        match &applied.op {
            Op::Conclude(conclude) => {
                let work = conclude.work;
                if conclude.after == After::Unchanged {
                    self.late_word_is_synced(conclude, effects);
                } else if self.leases.get(&work).is_some_and(|holding| holding.epoch == conclude.epoch) {
                    self.leave(work);
                }
                if conclude.after != After::Unchanged || !self.index.contains(work) {
                    self.lost.remove(&work);
                }
                if matches!(conclude.after, After::Stands(_)) {
                    self.recent.set_state(work, &applied.head[..conclude.state_len as usize]);
                }
            }
            Op::State(state) => {
                self.leave(state.work);
            }
            Op::Cancel(cancel) | Op::Withdraw(cancel) => {
                for (work, _) in &cancel.works {
                    self.leases.remove(work);
                    self.lost.remove(work);
                }
            }
            // What another node holds is withheld after a restart because these records say so.
            Op::Grant { work, epoch, .. } | Op::Commit { work, epoch } => {
                let is_current =
                    |holding: &&Holding| holding.epoch == *epoch && matches!(holding.holder, Holder::Node(_));
                if self.leases.get(work).filter(is_current).is_some() {
                    self.index.need(*work, applied.place.segment);
                }
            }
            _ => {}
        }
    }
}

impl Standing {
    /// Where the rest stands after a conclusion.
    fn after(self, rest: Rest, remaining: Recipients) -> Self {
        let attempts = self.attempts + u32::from(!matches!(rest, Rest::Wait { .. }));
        match rest {
            Rest::Retry { not_before, reason } | Rest::Wait { not_before, reason } => {
                Self { remaining, attempts, not_before, status: Status::Waiting, reason, ..self }
            }
            Rest::Hold { reason } => Self { remaining, attempts, status: Status::Held, reason, ..self },
        }
    }

    fn changed(self, change: Change) -> Self {
        // What may have been done stays marked so.
        let reason = if self.reason == Reason::PossiblyDone { self.reason } else { Reason::ByHand };
        let by_hand = Self { reason, ..self };
        match change {
            Change::Hold => Self { status: Status::Held, ..by_hand },
            Change::Release => Self { status: Status::Waiting, ..by_hand },
            Change::Reschedule(not_before) => Self { not_before, status: Status::Waiting, ..by_hand },
            Change::Prioritise(priority) => Self { priority, ..self },
        }
    }
}
