//! The spool as a provider of the queue.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use base::{MessageId, Timestamp, WorkId};
use tokio::sync::oneshot;

use super::{
    Damage, Room, Shared, Snapshot, Spool,
    by_hand::{Synced, answer, to_the_end},
    inbox::Haste,
    load::{Loaded, load_given, load_resumed},
    promise::{Promise, Waiter},
};
use crate::{
    Arrival, BodyWriter, Boot, Cancelled, Change, Concluded, Conclusion, Cursor, Epoch, Feed, Holder, Kind,
    LeaseOver, Point, Position, Provider, Publication, Published, QueueError, Recipients, Repeat, Seen,
    Stats, Ticket, Under, Words, WorkInfo,
    feed::Archive,
    ledger::{Content, Given},
    op::Op,
    provider::{Pending, check_conclusion},
    transaction::Transaction,
};

impl Spool {
    /// Adds publications to a transaction and keeps their contents for the first attempt; if the transaction cannot
    /// be put into the inbox, nothing of it stays.
    fn put_with(
        &self,
        mut transaction: Transaction,
        publications: &[&Publication],
        haste: Haste,
        waiter: Option<Waiter>,
    ) -> Result<(), QueueError> {
        for publication in publications {
            let content = transaction.publish(publication);
            self.shared.ledger.keep(publication.message, content);
        }
        self.shared.put(transaction, haste, waiter).inspect_err(|error| {
            for publication in publications {
                self.shared.ledger.forget(publication.message);
                let mut joined = Promise::default();
                joined.add_waiters(self.shared.inbox.lock().published(publication.message));
                joined.refuse(error);
            }
        })
    }

    /// Whether this publication is to be written; if somebody else publishes it already, his answer is ours.
    fn is_new(&self, publication: &Publication, joined: &mut Vec<Synced>) -> bool {
        if publication.repeat == Repeat::Never {
            return true;
        }
        let (waiter, synced) = oneshot::channel();
        let mut inbox = self.shared.inbox.lock();
        if self.shared.ledger.with_index(|index| index.knows(publication.message)) {
            return false;
        }
        let new = inbox.join_publishing(publication.message, waiter).is_some();
        if !new {
            joined.push(synced);
        }
        new
    }

    /// Whether this publication is stored already, or is about to be.
    fn is_repeat(&self, publication: &Publication) -> bool {
        let Publication { message, repeat, .. } = publication;
        let inbox = self.shared.inbox.lock();
        *repeat != Repeat::Never
            && (inbox.is_publishing(*message) || self.shared.ledger.with_index(|index| index.knows(*message)))
    }

    /// Whether a follow-up is to be published: if so, repeats of it wait for that.
    fn is_unknown(&self, follow_up: &Publication) -> bool {
        if follow_up.repeat == Repeat::Never {
            return true;
        }
        let mut inbox = self.shared.inbox.lock();
        let known = self.shared.ledger.with_index(|index| index.knows(follow_up.message));
        if !known {
            inbox.publishes(follow_up.message);
        }
        !known
    }

    /// Notes that a node was given works; if that cannot be, it is given none.
    fn noted(&self, boot: Boot, given: Vec<Given>) -> Vec<Given> {
        let grant = |given: &Given| Op::Grant { work: given.info.work, boot, epoch: given.epoch };
        let notes = Transaction { ops: given.iter().map(grant).collect(), ..Transaction::default() };
        if given.is_empty() || self.shared.put(notes, Haste::Unawaited, None).is_ok() {
            return given;
        }
        for Given { info, epoch, .. } in given {
            self.shared.ledger.give_back(info.work, epoch);
        }
        Vec::new()
    }

    /// Reads what was leased, from memory or from the disk.
    fn load(
        &self,
        given: Vec<Given>,
        load_one: fn(&Arc<Shared>, Given) -> Option<Loaded>,
    ) -> impl Future<Output = Vec<Loaded>> + Send + use<> {
        let in_memory = given.iter().all(|given| matches!(given.content, Content::Recent(_)));
        let shared = self.shared.clone();
        let load = move || -> Vec<Loaded> {
            given.into_iter().filter_map(|given| load_one(&shared, given)).collect()
        };
        async move {
            // If the runtime stops, so do all leases.
            if in_memory { load() } else { tokio::task::spawn_blocking(load).await.unwrap_or_default() }
        }
    }
}

impl Provider for Spool {
    fn publish(&self, batch: Vec<Publication>) -> Pending<'static, Result<Vec<Published>, QueueError>> {
        // What is stored already needs no room; a batch in which anything is new does, all of it or nothing.
        if self.shared.watch.room() == Room::Full
            && !batch.iter().all(|publication| self.is_repeat(publication))
        {
            return Box::pin(std::future::ready(Err(QueueError::NoSpace)));
        }
        let mut joined = Vec::new();
        let mut new = Vec::with_capacity(batch.len());
        let answers = batch.iter().map(|publication| {
            if self.is_new(publication, &mut joined) {
                new.push(publication);
                Published::Stored
            } else {
                Published::AlreadyHave
            }
        });
        let answers: Vec<Published> = answers.collect();
        let mut written = Ok(());
        if !new.is_empty() {
            let (waiter, synced) = oneshot::channel();
            written = self.put_with(Transaction::default(), &new, Haste::Awaited, Some(waiter));
            joined.push(synced);
        }
        Box::pin(async move {
            written?;
            for synced in joined {
                answer(synced).await?;
            }
            Ok(answers)
        })
    }

    fn together(&self, publish: &mut dyn FnMut()) {
        let _gathering = self.shared.inbox.gather();
        publish();
    }

    fn knows(&self, message: MessageId) -> bool {
        self.shared.ledger.with_index(|index| index.knows(message))
    }

    fn body(&self, message: MessageId, expect: usize) -> BodyWriter {
        BodyWriter::spilling(message, expect, self.shared.bodies.clone(), self.shared.options.inline_body)
    }

    fn arrived(&self, kind: Kind) -> Pending<'_, ()> {
        Box::pin(self.shared.ledger.arrived(kind))
    }

    fn take_arrivals(&self, kind: Kind, max: usize, into: &mut Vec<Arrival>) {
        self.shared.ledger.take_arrivals(kind, max, into);
    }

    fn are_current(&self, tickets: &[Ticket]) -> Vec<bool> {
        self.shared.ledger.are_current(tickets)
    }

    fn look(&self, tickets: &[Ticket], see: &mut dyn FnMut(&Seen<'_>)) {
        self.shared.ledger.look(tickets, see);
    }

    fn lease(&self, holder: Holder, tickets: Vec<Ticket>) -> Pending<'_, Vec<crate::Given>> {
        let given: Vec<Given> = self.shared.ledger.lease(holder, &tickets).into_iter().flatten().collect();
        let given = match holder {
            Holder::Here => given,
            Holder::Node(boot) => self.noted(boot, given),
        };
        let loading = self.load(given, load_given);
        Box::pin(async move { loading.await.into_iter().filter_map(Loaded::take).collect() })
    }

    fn resume(
        &self,
        boot: Boot,
        works: Vec<Under>,
        kept: &[Under],
    ) -> Pending<'_, Vec<(Point, crate::Given)>> {
        let mut points = HashMap::new();
        let resumed = self.shared.ledger.resume(boot, works, kept, self.shared.after_loss()).into_iter();
        let given = resumed.map(|(given, point)| {
            // It may have one work under two leases.
            points.insert((given.info.work, given.epoch), point);
            given
        });
        let loading = self.load(given.collect(), load_resumed);
        Box::pin(async move {
            let loaded = loading.await.into_iter().filter_map(Loaded::take);
            loaded.filter_map(|given| Some((*points.get(&(given.1.work, given.0))?, given))).collect()
        })
    }

    fn take_back(&self, boot: Boot, until: Timestamp) {
        let gone = Transaction { ops: vec![Op::Gone { boot }], ..Transaction::default() };
        // A queue that takes nothing more gives nobody anything either.
        let _ = self.shared.put(gone, Haste::Unawaited, None);
        self.shared.ledger.take_back(boot, until);
    }

    fn boots(&self) -> Vec<(Boot, usize)> {
        self.shared.ledger.boots()
    }

    fn commit(&self, work: WorkId, epoch: Epoch) -> Pending<'_, Result<Recipients, LeaseOver>> {
        let result = self.shared.ledger.commit(work, epoch).and_then(|remaining| {
            let mark = Transaction { ops: vec![Op::Commit { work, epoch }], ..Transaction::default() };
            self.shared.put(mark, Haste::Unawaited, None).map_err(|_| LeaseOver)?;
            Ok(remaining)
        });
        Box::pin(std::future::ready(result))
    }

    fn conclude(&self, work: WorkId, epoch: Epoch, conclusion: Conclusion) -> Result<Concluded, QueueError> {
        check_conclusion(&conclusion)?;
        let (concluded, op) = self.shared.ledger.conclude(work, epoch, &conclusion);
        let Some(op) = op else { return Ok(concluded) };
        let mut transaction = Transaction::default();
        transaction.conclude(op, &conclusion);
        let follow_ups: Vec<&Publication> = match concluded {
            Concluded::Applied => conclusion.follow_ups.iter().filter(|p| self.is_unknown(p)).collect(),
            Concluded::Late | Concluded::Ignored => Vec::new(),
        };
        self.put_with(transaction, &follow_ups, Haste::Unawaited, None)
            .inspect_err(|_| self.shared.ledger.unconcluded(work, epoch))?;
        Ok(concluded)
    }

    fn give_back(&self, work: WorkId, epoch: Epoch) {
        self.shared.ledger.give_back(work, epoch);
    }

    fn unknown(&self, work: WorkId, epoch: Epoch) {
        self.shared.ledger.unknown(work, epoch, self.shared.after_loss());
    }

    fn settled(&self) -> Pending<'_, Result<(), QueueError>> {
        let synced = self.shared.write(Transaction::default());
        Box::pin(async move { answer(synced?).await })
    }

    fn settles(&self) -> Pending<'_, Result<(), QueueError>> {
        let (waiter, synced) = oneshot::channel();
        let put = self.shared.put(Transaction::default(), Haste::Unawaited, Some(waiter));
        Box::pin(async move {
            put?;
            answer(synced).await
        })
    }

    fn walk(&self, kind: Kind, from: Cursor, max: usize, see: &mut dyn FnMut(&Seen<'_>)) -> Option<Cursor> {
        self.shared.ledger.walk(kind, from, max, see)
    }

    fn works_of(&self, message: MessageId) -> Vec<WorkId> {
        self.shared.ledger.works_of(message)
    }

    fn info(&self, work: WorkId) -> Option<WorkInfo> {
        self.shared.ledger.info(work)
    }

    fn words(&self, work: WorkId) -> Pending<'_, Result<Option<Words>, QueueError>> {
        let Some(content) = self.shared.ledger.content(work) else {
            return Box::pin(std::future::ready(Ok(None)));
        };
        let shared = self.shared.clone();
        let load = tokio::task::spawn_blocking(move || shared.words(work, &content));
        Box::pin(async move {
            match load.await.map_err(|_| QueueError::Closed)? {
                Ok(words) => Ok(Some(words)),
                // It may have ended and its segment been used again while it was read.
                Err(_) if self.shared.ledger.info(work).is_none() => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn change(&self, works: Vec<WorkId>, change: Change) -> Pending<'_, Result<usize, QueueError>> {
        Box::pin(to_the_end(self.shared.clone().change(works, change)))
    }

    fn cancel(
        &self,
        works: Vec<WorkId>,
        why: Cancelled,
        at: Timestamp,
    ) -> Pending<'_, Result<usize, QueueError>> {
        Box::pin(to_the_end(self.shared.clone().cancel(works, why, at)))
    }

    fn stats(&self) -> Stats {
        let (works, recipients, leased) = self.shared.ledger.counts();
        let segments = self.shared.segments.lock().len();
        let free_segments = self.shared.collector.free_count();
        Stats {
            works,
            recipients,
            leased,
            segments,
            free_segments,
            disk_bytes: (segments + free_segments) as u64 * self.shared.options.segment_size as u64,
            live_bytes: self.shared.ledger.with_index(|index| index.segments.total_bytes()),
            untold: self.shared.untold(),
            waiting_tales: self.shared.tales.len(),
            lost: self.shared.lost.load(Ordering::SeqCst),
            damaged: self.shared.damage.lock().len(),
            room: self.shared.watch.room(),
            disk_free: self.shared.watch.free(),
        }
    }

    fn room(&self) -> Room {
        self.shared.watch.room()
    }

    fn may_begin(&self) -> bool {
        !self.shared.inbox.is_behind()
    }

    fn damage(&self) -> Vec<Damage> {
        self.shared.damage.lock().clone()
    }

    fn snapshot(&self) -> Result<Snapshot, QueueError> {
        self.health()?;
        Ok(Snapshot::of(self.shared.clone()))
    }

    fn feed(&self, after: Position) -> Result<Feed, QueueError> {
        let fresh = after == Position::default();
        if after.spool != self.shared.spool && !fresh {
            return Err(QueueError::Refused(
                "the message log belongs to another spool; move it away, and a new one is made".into(),
            ));
        }
        // What is not synced was told to nobody: a log that says otherwise was kept while the spool lost something.
        let synced = self.shared.synced.load(Ordering::SeqCst);
        if after.sequence > synced {
            let what = format!(
                "the message log knows records up to {}, and the spool ends at {synced}",
                after.sequence
            );
            tracing::error!("spool damaged: {what}");
            self.shared.damage.lock().push(Damage { segment: 0, offset: 0, what });
        }
        // It is not confirmed by that: what the log shows after a crash of the process it may still lose with the power.
        let after = after.sequence.min(synced);
        let archive: Arc<dyn Archive> = self.shared.clone();
        Ok(Feed::new(self.shared.tales.clone(), archive, self.shared.spool, after))
    }

    fn health(&self) -> Result<(), QueueError> {
        self.shared.inbox.health()
    }

    fn close(&self) -> Pending<'_, Result<(), QueueError>> {
        Box::pin(async move {
            let settled = self.settled().await;
            self.shared.inbox.close();
            let threads = std::mem::take(&mut *self.threads.lock());
            let joined = tokio::task::spawn_blocking(move || {
                for thread in threads {
                    if thread.join().is_err() {
                        tracing::error!("a thread of the spool panicked");
                    }
                }
            });
            joined.await.map_err(|_| QueueError::Closed)?;
            settled
        })
    }
}
