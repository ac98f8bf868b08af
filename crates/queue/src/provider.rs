//! The seam: what a provider of the queue must do, and the wrapper that everyone uses.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use base::{MessageId, Timestamp, WorkId};

use crate::{
    Arrival, BodySource, BodyWriter, Boot, Cancelled, Change, Claim, Concluded, Conclusion, Cursor, End,
    Epoch, Feed, Holder, Kind, Lease, LeaseOver, Leased, MAX_HEADER, MAX_NAME, MAX_NEEDS, MAX_RECIPIENTS,
    MAX_WORKS, NewWork, Point, Publication, Published, QueueError, Recipients, Resumed, Room, Seen, Ticket,
    Under, Words, WorkInfo,
    index::PAGE,
    spool::{Damage, Snapshot},
};

/// A future of a provider.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A work that somebody holds: under which lease, and all that an attempt needs.
pub type Given = (Epoch, WorkInfo, Words, BodySource);

/// What a provider of the queue does; the contract stands in the crate's documentation. Callers use [`Queue`].
pub trait Provider: fmt::Debug + Send + Sync + 'static {
    /// See [`Queue::publish`]; limits have been checked.
    fn publish(&self, batch: Vec<Publication>) -> Pending<'static, Result<Vec<Published>, QueueError>>;

    /// See [`Queue::together`]. Calls it once.
    fn together(&self, publish: &mut dyn FnMut()) {
        publish();
    }

    /// See [`Queue::knows`].
    fn knows(&self, message: MessageId) -> bool;
    /// See [`Queue::body`].
    fn body(&self, message: MessageId, expect: usize) -> BodyWriter;
    /// See [`Queue::arrived`].
    fn arrived(&self, kind: Kind) -> Pending<'_, ()>;
    /// See [`Queue::take_arrivals`].
    fn take_arrivals(&self, kind: Kind, max: usize, into: &mut Vec<Arrival>);
    /// Which of these arrivals are still the latest of works that may go.
    fn are_current(&self, tickets: &[Ticket]) -> Vec<bool>;
    /// See [`Queue::look`].
    fn look(&self, tickets: &[Ticket], see: &mut dyn FnMut(&Seen<'_>));
    /// See [`Queue::lease`]; a work that cannot be leased is left out, one that is damaged is set aside.
    fn lease(&self, holder: Holder, tickets: Vec<Ticket>) -> Pending<'_, Vec<Given>>;
    /// See [`Queue::resume`].
    fn resume(&self, boot: Boot, works: Vec<Under>, kept: &[Under]) -> Pending<'_, Vec<(Point, Given)>>;
    /// See [`Queue::take_back`].
    fn take_back(&self, boot: Boot, until: Timestamp);
    /// See [`Queue::boots`].
    fn boots(&self) -> Vec<(Boot, usize)>;
    /// See [`Lease::commit`].
    fn commit(&self, work: WorkId, epoch: Epoch) -> Pending<'_, Result<Recipients, LeaseOver>>;
    /// See [`Lease::conclude`]; limits have been checked.
    fn conclude(&self, work: WorkId, epoch: Epoch, conclusion: Conclusion) -> Result<Concluded, QueueError>;
    /// A lease was dropped.
    fn give_back(&self, work: WorkId, epoch: Epoch);
    /// A committing lease was dropped.
    fn unknown(&self, work: WorkId, epoch: Epoch);
    /// See [`Queue::settled`].
    fn settled(&self) -> Pending<'_, Result<(), QueueError>>;
    /// See [`Queue::settles`].
    fn settles(&self) -> Pending<'_, Result<(), QueueError>>;
    /// See [`Queue::walk`].
    fn walk(&self, kind: Kind, from: Cursor, max: usize, see: &mut dyn FnMut(&Seen<'_>)) -> Option<Cursor>;
    /// See [`Queue::works_of`].
    fn works_of(&self, message: MessageId) -> Vec<WorkId>;
    /// See [`Queue::info`].
    fn info(&self, work: WorkId) -> Option<WorkInfo>;
    /// See [`Queue::words`].
    fn words(&self, work: WorkId) -> Pending<'_, Result<Option<Words>, QueueError>>;
    /// See [`Queue::change`].
    fn change(&self, works: Vec<WorkId>, change: Change) -> Pending<'_, Result<usize, QueueError>>;
    /// See [`Queue::cancel`].
    fn cancel(
        &self,
        works: Vec<WorkId>,
        why: Cancelled,
        at: Timestamp,
    ) -> Pending<'_, Result<usize, QueueError>>;
    /// See [`Queue::stats`].
    fn stats(&self) -> Stats;
    /// See [`Queue::room`].
    fn room(&self) -> Room;
    /// See [`Queue::may_begin`].
    fn may_begin(&self) -> bool;
    /// See [`Queue::damage`].
    fn damage(&self) -> Vec<Damage>;
    /// See [`Queue::snapshot`].
    fn snapshot(&self) -> Result<Snapshot, QueueError>;
    /// See [`Queue::feed`].
    fn feed(&self, after: crate::Position) -> Result<Feed, QueueError>;
    /// See [`Queue::health`].
    fn health(&self) -> Result<(), QueueError>;
    /// See [`Queue::close`].
    fn close(&self) -> Pending<'_, Result<(), QueueError>>;
}

/// How the queue stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Works that have not ended.
    pub works: usize,
    /// Recipients that have not ended.
    pub recipients: usize,
    /// Works that somebody holds.
    pub leased: usize,
    /// Segments in use.
    pub segments: usize,
    /// Segments ready to be used again.
    pub free_segments: usize,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes of messages in segments that have not ended.
    pub live_bytes: u64,
    /// Frames that the reader of the feed has not stored for good yet.
    pub untold: u64,
    /// Tales that wait in memory for their reader.
    pub waiting_tales: usize,
    /// What happened and was given up, because the reader of the feed did not take it for too long; since the start.
    pub lost: u64,
    /// What was found damaged at the start and since.
    pub damaged: usize,
    /// How much room the disk has.
    pub room: Room,
    /// Bytes that may still be written to it.
    pub disk_free: u64,
}

/// The work queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue(Arc<dyn Provider>);

impl Queue {
    /// A queue of this provider.
    #[must_use]
    pub fn new(provider: Arc<dyn Provider>) -> Self {
        Self(provider)
    }

    /// Publishes a batch: all or nothing, durable when this returns.
    ///
    /// # Errors
    /// If a limit is broken, the disk is full or has failed, or the queue is closed; then nothing was published.
    pub fn publish(
        &self,
        batch: Vec<Publication>,
    ) -> impl Future<Output = Result<Vec<Published>, QueueError>> + Send + use<> {
        let checked = batch.iter().try_for_each(check_publication);
        let pending = checked.map(|()| self.0.publish(batch));
        async move { pending?.await }
    }

    /// Begins several publications that came together, each a batch of its own: what comes of them within a few milliseconds shares a write
    /// and a sync.
    pub fn together<T>(&self, publish: impl FnOnce() -> T) -> T {
        let (mut publish, mut begun) = (Some(publish), None);
        self.0.together(&mut || begun = publish.take().map(|publish| publish()));
        begun.expect("a provider calls it")
    }

    /// Whether a message that may be published again is stored, or is remembered: its body need not be taken in again.
    #[must_use]
    pub fn knows(&self, message: MessageId) -> bool {
        self.0.knows(message)
    }

    /// Takes a body in as a stream; `expect` is about how many bytes will come.
    #[must_use]
    pub fn body(&self, message: MessageId, expect: usize) -> BodyWriter {
        self.0.body(message, expect)
    }

    /// Returns when something of this kind may have come to wait. One dispatcher per kind listens.
    pub async fn arrived(&self, kind: Kind) {
        self.0.arrived(kind).await;
    }

    /// Adds the next works that have come to wait to `into`, at most `max`.
    pub fn take_arrivals(&self, kind: Kind, max: usize, into: &mut Vec<Arrival>) {
        self.0.take_arrivals(kind, max, into);
    }

    /// Whether an arrival is still the latest of its work, and the work may go unless somebody holds it.
    #[must_use]
    pub fn is_current(&self, ticket: Ticket) -> bool {
        self.0.are_current(&[ticket]) == [true]
    }

    /// Keeps those whose arrivals are still current, as [`Queue::is_current`] says.
    pub fn retain_current<T>(&self, items: &mut Vec<T>, ticket: impl Fn(&T) -> Ticket) {
        let mut current = Vec::with_capacity(items.len());
        for some in items.chunks(PAGE as usize) {
            let tickets: Vec<Ticket> = some.iter().map(&ticket).collect();
            current.extend(self.0.are_current(&tickets));
        }
        let mut current = current.into_iter();
        items.retain(|_| current.next() == Some(true));
    }

    /// Shows the works of these arrivals, but for those whose arrivals are not current any more, as [`Queue::is_current`] says.
    ///
    /// `see` runs while the index is locked: it must be quick, and must not ask the queue.
    pub fn look(&self, tickets: &[Ticket], see: &mut dyn FnMut(&Seen<'_>)) {
        for some in tickets.chunks(PAGE as usize) {
            self.0.look(some, see);
        }
    }

    /// Leases works to a holder, each named by its arrival. Left out are those that have ended, are held by
    /// somebody, or have arrived anew.
    pub async fn lease(&self, holder: Holder, tickets: Vec<Ticket>) -> Vec<Leased> {
        let given = self.0.lease(holder, tickets).await;
        let leased = given.into_iter().map(|(epoch, info, words, body)| Leased {
            lease: Lease::new(self.0.clone(), info.work, epoch),
            info,
            words,
            body,
        });
        leased.collect()
    }

    /// A node has come back, and says which works it still has: those that it held when the queue was opened are its
    /// own again, and so is what it had committed when it was lost, if nobody has had that since. What else it held at the opening
    /// waits again, and what it committed of that waits as [`Reason::PossiblyDone`].
    ///
    /// Works that were leased to it since the opening are left as they are: whoever leased them has their leases. Of a work that
    /// is not its own any more it may say that it delivered. What is `kept` it has as well, and that stays as it is: it could not
    /// be read before, and is not to be read now.
    pub async fn resume(&self, boot: Boot, works: Vec<Under>, kept: &[Under]) -> Vec<Resumed> {
        let resumed = self.0.resume(boot, works, kept).await;
        let resumed = resumed.into_iter().map(|(point, (epoch, info, words, body))| Resumed {
            claim: Claim::new(self.0.clone(), info.work, epoch, point),
            info,
            words,
            body,
        });
        resumed.collect()
    }

    /// Takes back all that a node holds: it waits again at once, but what was committed waits until then.
    pub fn take_back(&self, boot: Boot, until: Timestamp) {
        self.0.take_back(boot, until);
    }

    /// The nodes that hold something, and how much.
    #[must_use]
    pub fn boots(&self) -> Vec<(Boot, usize)> {
        self.0.boots()
    }

    /// Returns once all that was concluded before is synced.
    ///
    /// # Errors
    /// If the disk has failed.
    pub async fn settled(&self) -> Result<(), QueueError> {
        self.0.settled().await
    }

    /// As [`settled`](Self::settled), but nothing is hurried by it: what was concluded is synced in its own time.
    ///
    /// # Errors
    /// If the disk has failed.
    pub async fn settles(&self) -> Result<(), QueueError> {
        self.0.settles().await
    }

    /// Shows works of a kind, in no order, and returns where to go on until there are no more.
    ///
    /// It looks at the next `max` places, at most 4,096, and not all of them need hold a work. A work that waits all the
    /// time until the walk has ended is seen once; one that comes meanwhile, perhaps. `see` runs while the index is locked:
    /// it must be quick, and must not ask the queue.
    #[must_use]
    pub fn walk(
        &self,
        kind: Kind,
        from: Cursor,
        max: usize,
        see: &mut dyn FnMut(&Seen<'_>),
    ) -> Option<Cursor> {
        self.0.walk(kind, from, max, see)
    }

    /// The works of a message that have not ended.
    #[must_use]
    pub fn works_of(&self, message: MessageId) -> Vec<WorkId> {
        self.0.works_of(message)
    }

    /// What is known of a work, unless it has ended.
    #[must_use]
    pub fn info(&self, work: WorkId) -> Option<WorkInfo> {
        self.0.info(work)
    }

    /// What its trade said of a work, unless it has ended.
    ///
    /// # Errors
    /// If the disk fails or what it holds is damaged.
    pub async fn words(&self, work: WorkId) -> Result<Option<Words>, QueueError> {
        self.0.words(work).await
    }

    /// Holds, releases, reschedules or prioritises works that nobody holds a lease of; returns how many were changed,
    /// synced. Many works are changed page by page: then some may be changed before others fail.
    ///
    /// # Errors
    /// If the disk is full or has failed, or the queue is closed.
    pub async fn change(&self, works: Vec<WorkId>, change: Change) -> Result<usize, QueueError> {
        self.0.change(works, change).await
    }

    /// Cancels works by an operator's word, also such as are being attempted, but none past the point of no return;
    /// returns how many were cancelled, synced.
    ///
    /// # Errors
    /// If the disk is full or has failed, or the queue is closed.
    pub async fn cancel(&self, works: Vec<WorkId>, at: Timestamp) -> Result<usize, QueueError> {
        self.0.cancel(works, Cancelled::ByHand, at).await
    }

    /// Cancels works likewise, because their sender was told that they are not taken.
    ///
    /// # Errors
    /// If the disk is full or has failed, or the queue is closed.
    pub async fn withdraw(&self, works: Vec<WorkId>, at: Timestamp) -> Result<usize, QueueError> {
        self.0.cancel(works, Cancelled::Withdrawn, at).await
    }

    /// How the queue stands.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// How much room the disk has; without any, nothing new is taken ([`QueueError::NoSpace`]).
    #[must_use]
    pub fn room(&self) -> Room {
        self.0.room()
    }

    /// Whether attempts should be begun: not while more has ended than a full disk has room to record. Whoever begins one all the
    /// same is given the work, and its outcome waits in memory with the others.
    #[must_use]
    pub fn may_begin(&self) -> bool {
        self.0.may_begin()
    }

    /// What was found damaged at the start and since.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        self.0.damage()
    }

    /// What a backup copies, while the queue runs. Its methods wait for the disk.
    ///
    /// # Errors
    /// If this queue has no files, or has failed.
    pub fn snapshot(&self) -> Result<Snapshot, QueueError> {
        self.0.snapshot()
    }

    /// Everything that happened after a position; one reader at a time.
    ///
    /// # Errors
    /// If the position is of another spool.
    pub fn feed(&self, after: crate::Position) -> Result<Feed, QueueError> {
        self.0.feed(after)
    }

    /// Whether the queue takes works.
    ///
    /// # Errors
    /// Why not: it is closed, or it has failed and the node cannot go on with it.
    pub fn health(&self) -> Result<(), QueueError> {
        self.0.health()
    }

    /// Writes and syncs what waits, and takes nothing more.
    ///
    /// # Errors
    /// If the disk has failed.
    pub async fn close(&self) -> Result<(), QueueError> {
        self.0.close().await
    }
}

fn check_publication(publication: &Publication) -> Result<(), QueueError> {
    let too_large = |what: String| Err(QueueError::TooLarge(what));
    if publication.works.is_empty() || publication.works.len() > MAX_WORKS {
        return too_large(format!("a message has 1 to {MAX_WORKS} works, not {}", publication.works.len()));
    }
    if publication.header.len() > MAX_HEADER {
        return too_large(format!(
            "a header has at most {MAX_HEADER} bytes, not {}",
            publication.header.len()
        ));
    }
    publication.works.iter().try_for_each(check_work)
}

fn check_work(work: &NewWork) -> Result<(), QueueError> {
    if work.recipients == 0 || work.recipients > MAX_RECIPIENTS {
        return Err(QueueError::TooLarge(format!(
            "a work has 1 to {MAX_RECIPIENTS} recipients, not {}",
            work.recipients
        )));
    }
    if work.needs.len() > MAX_NEEDS {
        return Err(QueueError::TooLarge(format!(
            "a work has at most {MAX_NEEDS} needs, not {}",
            work.needs.len()
        )));
    }
    let names = [&work.lane, &work.account].into_iter().chain(&work.needs);
    if let Some(name) = names.into_iter().find(|name| name.len() > MAX_NAME) {
        return Err(QueueError::TooLarge(format!(
            "a lane, an account and a need have at most {MAX_NAME} bytes each, not {}",
            name.len()
        )));
    }
    if work.detail.len() > MAX_HEADER {
        return Err(QueueError::TooLarge(format!(
            "a detail has at most {MAX_HEADER} bytes, not {}",
            work.detail.len()
        )));
    }
    Ok(())
}

pub(crate) fn check_conclusion(conclusion: &Conclusion) -> Result<(), QueueError> {
    if conclusion.state.len() > MAX_HEADER || conclusion.record.len() > MAX_HEADER {
        return Err(QueueError::TooLarge(format!("a state or record has at most {MAX_HEADER} bytes")));
    }
    if conclusion.ends.iter().any(|(end, _)| matches!(end, End::Cancelled | End::Already)) {
        return Err(QueueError::Refused(
            "that a recipient was cancelled or had ended already is not a conclusion".into(),
        ));
    }
    conclusion.follow_ups.iter().try_for_each(check_publication)
}
