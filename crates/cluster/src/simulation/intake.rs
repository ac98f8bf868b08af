//! Messages that workers bring: how the manager takes them in, answers once they are synced, and cancels what is withdrawn.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use base::MessageId;
use bytes::Bytes;
use queue::{Body, Publication, Published, QueueError, Repeat};

use super::{
    Rules,
    network::{Packet, Way},
    store::Note,
    truth,
    world::World,
};
use crate::{
    manager::withdrawn::Deadline,
    wire::{self, Answer, Offer, Offers, answer::Verdict},
};

/// What came at once over a link, on its way to the disk.
pub(super) struct Batch {
    link: u64,
    answers: Vec<Answer>,
    publishing: Vec<(MessageId, Pending<Vec<Published>>)>,
    withdrawn: Vec<MessageId>,
    /// What was offered too late, and is withdrawn by that.
    late: Vec<MessageId>,
    /// What must be withdrawn by it, by the number.
    withdrawn_by_then: Vec<usize>,
    cancelling: Vec<(MessageId, Pending<usize>)>,
    waits: Waits,
}

/// For what a batch waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// Until what was on its way to the disk as it came is there.
    Stored,
    /// Until what is cancelled then is.
    Cancelled,
}

impl Batch {
    fn new(link: u64) -> Self {
        Self {
            link,
            answers: Vec::new(),
            publishing: Vec::new(),
            withdrawn: Vec::new(),
            late: Vec::new(),
            withdrawn_by_then: Vec::new(),
            cancelling: Vec::new(),
            waits: Waits::Stored,
        }
    }

    /// What has nothing more go out of it.
    fn to_cancel(&self) -> Vec<MessageId> {
        self.withdrawn.iter().chain(&self.late).copied().collect()
    }
}

type Pending<T> = Pin<Box<dyn Future<Output = Result<T, QueueError>>>>;

/// The id of a message, as it is on a link.
pub(super) fn id(message: &[u8]) -> MessageId {
    wire::message(message).expect("it is one")
}

fn poll<T>(pending: &mut Pending<T>) -> Poll<Result<T, QueueError>> {
    pending.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn answer(message: MessageId, verdict: Verdict) -> Answer {
    Answer { message: wire::message_bytes(message), verdict: verdict.into(), text: String::new() }
}

impl World {
    /// A worker offers messages, and withdraws some.
    pub(super) async fn hears_offers(&mut self, link: u64, offers: Offers) {
        let Some(linking) = self.reign().links.get(&link) else { return };
        if linking.end.is_cancelled() {
            return;
        }
        let Offers { offers, withdrawn } = offers;
        let mut batch = Batch::new(link);
        batch.withdrawn_by_then = self.truth.comes_first(link);
        batch.withdrawn = withdrawn.iter().map(|message| id(message)).collect();
        self.withdrawn_are_noted(&batch.withdrawn);
        for offer in offers {
            self.takes_in(&mut batch, &offer).await;
        }
        self.withdrawn_are_noted(&batch.late);
        for message in batch.to_cancel() {
            self.cancels(&mut batch, message).await;
        }
        if batch.publishing.is_empty() && batch.to_cancel().is_empty() {
            self.answers(batch);
        } else {
            self.set_sync();
            self.reign().batches.push(batch);
        }
    }

    fn withdrawn_are_noted(&mut self, messages: &[MessageId]) {
        if self.rules != Rules::WithdrawalNotNoted {
            messages.iter().for_each(|message| self.reign().withdrawn.note(*message));
        }
    }

    /// Publishes what is offered, if somebody waits for the answer.
    async fn takes_in(&mut self, batch: &mut Batch, offer: &Offer) {
        let (message, wall) = (id(&offer.message), self.wall());
        let number = truth::message_number(message);
        let takes_late = self.rules == Rules::LateOfferTaken;
        let withdrawn = &self.reign().withdrawn;
        let is_late = if takes_late {
            withdrawn.has(&offer.message)
        } else {
            withdrawn.is_late(&offer.message, Deadline::of(offer), wall)
        };
        self.note("offered", &[number as u64, batch.link, is_late.into()]);
        if is_late {
            self.truth.counts.offered_late += 1;
            return batch.late.push(message);
        }
        self.truth.read(number, self.now);
        let publication = offer.clone().publication().expect("it is one");
        let repeat = if self.rules == Rules::RepeatForgotten { Repeat::Never } else { publication.repeat };
        let body = Body::Memory(Bytes::from_static(b"text"));
        let publication = Publication { body, repeat, ..publication };
        let is_coming = self.is_coming(message);
        let mut publishing: Pending<Vec<Published>> = Box::pin(self.reign().queue.publish(vec![publication]));
        match poll(&mut publishing) {
            // What is there already is known at once.
            Poll::Ready(known) if !is_coming => {
                self.truth.stored(number, known.expect("it is known")[0]);
                return batch.answers.push(answer(message, Verdict::Stored));
            }
            Poll::Ready(known) => publishing = Box::pin(std::future::ready(known)),
            Poll::Pending => {}
        }
        batch.publishing.push((message, publishing));
        if !is_coming {
            self.put(&[Note::Publish(message)]).await;
        }
        if self.rules == Rules::AnsweredBeforeSync {
            let answers = vec![answer(message, Verdict::Stored)];
            self.send(batch.link, Way::AnswersDown, Packet::Answers(answers));
        }
    }

    /// Something of a message that is withdrawn waits again: nothing more of it goes out, once that is on the disk.
    pub(super) fn left_of(&mut self, message: MessageId) {
        if self.reign().withdrawn.has_message(message) {
            let batch = Batch { late: vec![message], ..Batch::new(NO_LINK) };
            self.set_sync();
            self.reign().batches.push(batch);
        }
    }

    /// Works of a message that is withdrawn are cancelled instead of given.
    pub(super) async fn cancels_leased(&mut self, message: MessageId) {
        let mut batch = Batch::new(NO_LINK);
        self.cancels(&mut batch, message).await;
        self.reign().batches.push(batch);
    }

    async fn cancels(&mut self, batch: &mut Batch, message: MessageId) {
        let number = truth::message_number(message);
        let queue = self.reign().queue.clone();
        let works = if self.is_coming(message) || self.is_going(message) {
            Vec::new()
        } else {
            queue.works_of(message)
        };
        let Some(work) = works.first().copied() else { return };
        let (asked, at) = (queue.clone(), self.wall());
        let mut cancelling: Pending<usize> = Box::pin(async move { asked.cancel(works, at).await });
        assert!(poll(&mut cancelling).is_pending(), "nothing is synced yet");
        // What it has begun goes on in a task that comes before this one.
        tokio::spawn(async {}).await.expect("it does nothing");
        let lease = queue.info(work).and_then(|info| info.lease);
        if lease.is_some_and(|epoch| !self.truth.knows(epoch)) {
            self.note("cancelled", &[number as u64]);
            self.truth.cancelled(number);
            batch.cancelling.push((message, cancelling));
            self.put(&[Note::Cancel(message)]).await;
        } else {
            self.note("spared", &[number as u64]);
            self.truth.spared(number);
        }
    }

    /// Whether a message is on its way to the disk, and so not in the queue yet. While a crash is near the queue has it already.
    pub(super) fn is_coming(&self, message: MessageId) -> bool {
        let batches = self.manager.reign.iter().flat_map(|reign| &reign.batches);
        batches.flat_map(|batch| &batch.publishing).any(|(publishing, _)| *publishing == message)
    }

    /// Whether it is on its way to the disk that a message is cancelled, which nobody waits for who withdraws it once more.
    fn is_going(&self, message: MessageId) -> bool {
        let batches = self.manager.reign.iter().flat_map(|reign| &reign.batches);
        batches.flat_map(|batch| &batch.cancelling).any(|(cancelling, _)| *cancelling == message)
    }

    /// All is done that a batch wants done, and synced.
    fn answers(&mut self, mut batch: Batch) {
        for message in std::mem::take(&mut batch.withdrawn) {
            let number = truth::message_number(message);
            self.note("withdrawn", &[number as u64]);
            self.truth.counts.withdrawn += 1;
            self.truth.came(number);
            batch.answers.push(answer(message, Verdict::Withdrawn));
        }
        for message in std::mem::take(&mut batch.late) {
            batch.answers.push(answer(message, Verdict::NotNow));
        }
        for number in std::mem::take(&mut batch.withdrawn_by_then) {
            self.truth.came(number);
        }
        if !batch.answers.is_empty() {
            self.send(batch.link, Way::AnswersDown, Packet::Answers(batch.answers));
        }
    }

    /// All is synced that was on its way to the disk.
    pub(super) async fn batches_are_synced(&mut self) {
        for mut batch in std::mem::take(&mut self.reign().batches) {
            for (_, cancelling) in std::mem::take(&mut batch.cancelling) {
                cancelling.await.expect("it is cancelled");
            }
            if std::mem::replace(&mut batch.waits, Waits::Cancelled) == Waits::Cancelled {
                self.answers(batch);
                continue;
            }
            let mut to_cancel = batch.to_cancel();
            for (message, publishing) in std::mem::take(&mut batch.publishing) {
                let published = publishing.await.expect("it is published");
                self.note("stored", &[truth::message_number(message) as u64]);
                self.truth.stored(truth::message_number(message), published[0]);
                batch.answers.push(answer(message, Verdict::Stored));
                if self.reign().withdrawn.has_message(message) {
                    to_cancel.push(message);
                }
            }
            // One may have been on its way there, or what became of an attempt at it.
            for message in to_cancel {
                self.cancels(&mut batch, message).await;
            }
            if batch.cancelling.is_empty() && batch.to_cancel().is_empty() {
                self.answers(batch);
            } else {
                // It may be somebody else's cancellation that is on its way to the disk now.
                self.set_sync();
                self.reign().batches.push(batch);
            }
        }
    }
}

/// No node waits for the answer.
const NO_LINK: u64 = 0;
