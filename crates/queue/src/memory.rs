//! The queue in memory: for tests, and for nothing that anybody was promised.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base::{Clock, MessageId, Timestamp, WorkId};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    Arrival, BodySource, BodyWriter, Boot, Cancelled, Change, Concluded, Conclusion, Cursor, Epoch, Feed,
    Given, Holder, Kind, LeaseOver, Point, Provider, Publication, Published, QueueError, Recipients, Repeat,
    Room, Seen, Stats, Ticket, Under, Words, WorkInfo,
    feed::{Archive, RecentTales, Tale, tell},
    index::{Index, Place},
    ledger::{Applied, Content, Ledger},
    op::Op,
    provider::{Pending, check_conclusion},
    recent::RecentContent,
    spool::{Damage, Snapshot},
    transaction::Transaction,
};

/// A queue that forgets everything when it is dropped.
#[derive(Debug)]
pub struct Memory {
    ledger: Ledger,
    clock: Clock,
    after_loss: Duration,
    write: Mutex<u64>,
    tales: Arc<RecentTales>,
    closed: AtomicBool,
}

/// No more than this is kept in memory.
const MEMORY_BYTES: usize = 1 << 30;

impl Memory {
    /// An empty queue.
    #[must_use]
    pub fn new(clock: Clock, after_loss: Duration) -> Self {
        Self {
            ledger: Ledger::new(Index::default(), fastrand::u64(..), MEMORY_BYTES),
            clock,
            after_loss,
            write: Mutex::new(0),
            tales: Arc::new(RecentTales::starting_after(0)),
            closed: AtomicBool::new(false),
        }
    }

    fn write(&self, transaction: Transaction) -> Result<(), QueueError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(QueueError::Closed);
        }
        let mut sequence = self.write.lock();
        *sequence += 1;
        let head = Bytes::from(transaction.head);
        let mut tales = Vec::new();
        let mut at = 0;
        let applied: Vec<_> = transaction
            .ops
            .into_iter()
            .map(|op| {
                let len = usize::try_from(op.words_len()).expect("it is in memory");
                let words = head.slice(at..at + len);
                at += len;
                tell(*sequence, &op, &words, &mut tales);
                let size = u32::try_from(op.words_len() + op.body_len()).unwrap_or(u32::MAX);
                Applied { op, place: Place::default(), size, head: words }
            })
            .collect();
        self.ledger.apply(applied);
        self.tales.add(tales, *sequence);
        Ok(())
    }

    fn publish_now(&self, batch: Vec<Publication>) -> Result<Vec<Published>, QueueError> {
        let mut transaction = Transaction::default();
        let mut answers = Vec::with_capacity(batch.len());
        for publication in batch {
            if publication.repeat == Repeat::Possible
                && self.ledger.with_index(|index| index.knows(publication.message))
            {
                answers.push(Published::AlreadyHave);
                continue;
            }
            let content = transaction.publish(&publication);
            self.ledger.keep(publication.message, content);
            answers.push(Published::Stored);
        }
        self.write(transaction)?;
        Ok(answers)
    }
}

/// The words and the body of contents in memory.
pub(crate) fn recent(content: &RecentContent, work: WorkId) -> Option<(Words, BodySource)> {
    let words: Option<Words> = content.words.lock().of(work.index);
    Some((words?, content.body.clone()))
}

impl Provider for Memory {
    fn publish(&self, batch: Vec<Publication>) -> Pending<'static, Result<Vec<Published>, QueueError>> {
        let result = self.publish_now(batch);
        Box::pin(async move { result })
    }

    fn knows(&self, message: MessageId) -> bool {
        self.ledger.with_index(|index| index.knows(message))
    }

    fn body(&self, message: MessageId, expect: usize) -> BodyWriter {
        BodyWriter::in_memory(message, expect)
    }

    fn arrived(&self, kind: Kind) -> Pending<'_, ()> {
        Box::pin(self.ledger.arrived(kind))
    }

    fn take_arrivals(&self, kind: Kind, max: usize, into: &mut Vec<Arrival>) {
        self.ledger.take_arrivals(kind, max, into);
    }

    fn are_current(&self, tickets: &[Ticket]) -> Vec<bool> {
        self.ledger.are_current(tickets)
    }

    fn look(&self, tickets: &[Ticket], see: &mut dyn FnMut(&Seen<'_>)) {
        self.ledger.look(tickets, see);
    }

    fn lease(&self, holder: Holder, tickets: Vec<Ticket>) -> Pending<'_, Vec<Given>> {
        let given = self.ledger.lease(holder, &tickets);
        let contents = given.into_iter().flatten().filter_map(|given| {
            let Content::Recent(content) = given.content else { return None };
            let (words, body) = recent(&content, given.info.work)?;
            Some((given.epoch, given.info, words, body))
        });
        let contents = contents.collect();
        Box::pin(async move { contents })
    }

    /// Nothing of this queue outlives its process.
    fn resume(&self, _boot: Boot, _works: Vec<Under>, _kept: &[Under]) -> Pending<'_, Vec<(Point, Given)>> {
        Box::pin(async { Vec::new() })
    }

    fn take_back(&self, boot: Boot, until: Timestamp) {
        self.ledger.take_back(boot, until);
    }

    fn boots(&self) -> Vec<(Boot, usize)> {
        self.ledger.boots()
    }

    fn commit(&self, work: WorkId, epoch: Epoch) -> Pending<'_, Result<Recipients, LeaseOver>> {
        let result = self.ledger.commit(work, epoch);
        Box::pin(async move { result })
    }

    fn conclude(&self, work: WorkId, epoch: Epoch, conclusion: Conclusion) -> Result<Concluded, QueueError> {
        check_conclusion(&conclusion)?;
        let (concluded, op) = self.ledger.conclude(work, epoch, &conclusion);
        let Some(op) = op else { return Ok(concluded) };
        let mut transaction = Transaction::default();
        transaction.conclude(op, &conclusion);
        let caused = if concluded == Concluded::Applied { &conclusion.follow_ups[..] } else { &[] };
        for publication in caused {
            let content = transaction.publish(publication);
            self.ledger.keep(publication.message, content);
        }
        self.write(transaction)?;
        Ok(concluded)
    }

    fn give_back(&self, work: WorkId, epoch: Epoch) {
        self.ledger.give_back(work, epoch);
    }

    fn unknown(&self, work: WorkId, epoch: Epoch) {
        self.ledger.unknown(work, epoch, self.clock.now() + self.after_loss);
    }

    fn settled(&self) -> Pending<'_, Result<(), QueueError>> {
        Box::pin(async { Ok(()) })
    }

    fn settles(&self) -> Pending<'_, Result<(), QueueError>> {
        Box::pin(async { Ok(()) })
    }

    fn walk(&self, kind: Kind, from: Cursor, max: usize, see: &mut dyn FnMut(&Seen<'_>)) -> Option<Cursor> {
        self.ledger.walk(kind, from, max, see)
    }

    fn works_of(&self, message: MessageId) -> Vec<WorkId> {
        self.ledger.works_of(message)
    }

    fn info(&self, work: WorkId) -> Option<WorkInfo> {
        self.ledger.info(work)
    }

    fn words(&self, work: WorkId) -> Pending<'_, Result<Option<Words>, QueueError>> {
        let words = match self.ledger.content(work) {
            Some(Content::Recent(content)) => recent(&content, work).map(|(words, _)| words),
            _ => None,
        };
        Box::pin(async move { Ok(words) })
    }

    fn change(&self, works: Vec<WorkId>, change: Change) -> Pending<'_, Result<usize, QueueError>> {
        let mut transaction = Transaction::default();
        for (mut state, content) in self.ledger.take_for_change(&works, change) {
            if let Content::Recent(content) = content
                && let Some((words, _)) = recent(&content, state.work)
            {
                state.state_len =
                    u32::try_from(words.state.len()).expect("it was checked against MAX_HEADER");
                transaction.head.extend_from_slice(&words.state);
            }
            transaction.ops.push(Op::State(state));
        }
        let count = transaction.ops.len();
        let result = self.write(transaction).map(|()| count);
        Box::pin(async move { result })
    }

    fn cancel(
        &self,
        works: Vec<WorkId>,
        why: Cancelled,
        at: Timestamp,
    ) -> Pending<'_, Result<usize, QueueError>> {
        let mut count = 0;
        let mut result = Ok(());
        if let Some(cancel) = self.ledger.cancel(&works, at) {
            count = cancel.works.len();
            result = self.write(Transaction { ops: vec![Op::cancel(cancel, why)], ..Transaction::default() });
        }
        Box::pin(async move { result.map(|()| count) })
    }

    fn snapshot(&self) -> Result<Snapshot, QueueError> {
        Err(QueueError::Refused("a queue in memory has no files".into()))
    }

    fn stats(&self) -> Stats {
        let (works, recipients, leased) = self.ledger.counts();
        Stats { works, recipients, leased, ..Stats::default() }
    }

    fn room(&self) -> Room {
        Room::Enough
    }

    fn may_begin(&self) -> bool {
        true
    }

    fn damage(&self) -> Vec<Damage> {
        Vec::new()
    }

    fn feed(&self, after: crate::Position) -> Result<Feed, QueueError> {
        Ok(Feed::new(self.tales.clone(), Arc::new(Forgotten), after.spool, after.sequence))
    }

    fn health(&self) -> Result<(), QueueError> {
        if self.closed.load(Ordering::SeqCst) { Err(QueueError::Closed) } else { Ok(()) }
    }

    fn close(&self) -> Pending<'_, Result<(), QueueError>> {
        self.closed.store(true, Ordering::SeqCst);
        self.tales.close();
        Box::pin(async { Ok(()) })
    }
}

/// What memory has dropped is gone.
struct Forgotten;

impl Archive for Forgotten {
    fn read(&self, _after: u64, until: u64, _max: usize) -> Result<(Vec<Tale>, u64), QueueError> {
        Ok((Vec::new(), until))
    }

    fn confirmed(&self, _sequence: u64) {}
}
