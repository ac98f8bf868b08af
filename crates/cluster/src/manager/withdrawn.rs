//! Messages for whose answer nobody waits any more: their senders were told that they are not taken, and will send them again.
//!
//! An offer says until when its sender waits, and is refused afterwards, however long it was under way. Of one that came in time and
//! was not answered in time the worker says so later; then nothing more of it goes out. What went out before cannot be undone.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use base::{MessageId, Timestamp, WorkId};
use bytes::Bytes;
use queue::QueueError;

use super::Shared;
use crate::wire::{self, Answer, Offer, answer::Verdict};

/// The latest of those that were withdrawn: they may be on their way to the disk.
#[derive(Debug, Default)]
pub(crate) struct Withdrawn {
    messages: HashSet<MessageId>,
    order: VecDeque<MessageId>,
}

/// So many are remembered.
const REMEMBERED: usize = 10_000;

/// Until when the sender of an offer waits for its answer, if that is said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Timestamp>);

impl Deadline {
    pub(crate) fn of(offer: &Offer) -> Self {
        Self((offer.until_micros != 0).then(|| Timestamp::from_micros(offer.until_micros)))
    }

    fn is_over(self, now: Timestamp) -> bool {
        self.0.is_some_and(|until| now > until)
    }
}

impl Withdrawn {
    /// Whether nobody waits for the answer to an offer any more.
    pub(crate) fn is_late(&self, message: &[u8], until: Deadline, now: Timestamp) -> bool {
        until.is_over(now) || self.has(message)
    }

    pub(crate) fn has(&self, message: &[u8]) -> bool {
        wire::message(message).is_ok_and(|message| self.messages.contains(&message))
    }

    pub(crate) fn has_message(&self, message: MessageId) -> bool {
        self.messages.contains(&message)
    }

    pub(crate) fn note(&mut self, message: MessageId) {
        if !self.messages.insert(message) {
            return;
        }
        self.order.push_back(message);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.messages.remove(&oldest);
        }
    }
}

impl Shared {
    /// Whether nobody waits for the answer to an offer any more.
    pub(super) fn is_late(&self, message: &[u8], until: Deadline) -> bool {
        self.withdrawn.lock().is_late(message, until, self.clock.now())
    }

    /// Hears what a node withdraws, before anything that it offers afterwards.
    pub(super) fn note_withdrawn(&self, messages: &[Bytes]) {
        let mut withdrawn = self.withdrawn.lock();
        messages
            .iter()
            .flat_map(|message| wire::message(message))
            .for_each(|message| withdrawn.note(message));
    }

    /// Has nothing more of these go out, and answers each.
    pub(super) async fn withdraw(&self, messages: Vec<Bytes>) -> Vec<Answer> {
        let cancelled = self.cancel_all(&messages).await;
        let answer = |message| Answer { message, verdict: Verdict::Withdrawn.into(), text: String::new() };
        match cancelled {
            Ok(()) => messages.into_iter().map(answer).collect(),
            // Without an answer they are withdrawn again over the next link.
            Err(error) => {
                tracing::warn!(%error, "messages that are withdrawn cannot be cancelled");
                Vec::new()
            }
        }
    }

    /// Cancels these, but for what is behind its final dot, on the disk.
    async fn cancel_all(&self, messages: &[Bytes]) -> Result<(), QueueError> {
        if messages.is_empty() {
            return Ok(());
        }
        // The first time one may be on its way to the disk, or what became of an attempt at it. Each time it may be somebody else's
        // cancellation that is.
        for _ in 0..2 {
            for message in messages {
                self.cancel(message).await?;
            }
            self.queue.settled().await?;
        }
        Ok(())
    }

    /// Cancels what has been published meanwhile of a message that is withdrawn.
    pub(super) async fn cancel_if_withdrawn(&self, message: &[u8]) {
        let is_withdrawn = self.withdrawn.lock().has(message);
        if is_withdrawn && let Err(error) = self.cancel(message).await {
            tracing::warn!(%error, "a message that is withdrawn cannot be cancelled");
        }
    }

    /// An attempt has left something of a message. If it is withdrawn meanwhile, which leaves alone what is behind its final dot, nothing
    /// more of it goes out, once that is on the disk.
    pub(super) fn left_of(self: &Arc<Self>, message: MessageId) {
        if !self.withdrawn.lock().has_message(message) {
            return;
        }
        let shared = self.clone();
        tokio::spawn(async move {
            let cancelled = match shared.queue.settled().await {
                Ok(()) => shared.cancel_message(message).await,
                Err(error) => Err(error),
            };
            if let Err(error) = cancelled {
                tracing::warn!(%error, "a message that is withdrawn cannot be cancelled");
            }
        });
    }

    async fn cancel(&self, message: &[u8]) -> Result<(), QueueError> {
        let Ok(message) = wire::message(message) else { return Ok(()) };
        self.cancel_message(message).await
    }

    /// Cancels works that are withdrawn.
    pub(super) async fn cancel_works(&self, works: Vec<WorkId>) {
        if let Err(error) = self.queue.withdraw(works, self.clock.now()).await {
            tracing::warn!(%error, "works that are withdrawn cannot be cancelled");
        }
    }

    async fn cancel_message(&self, message: MessageId) -> Result<(), QueueError> {
        let works = self.queue.works_of(message);
        if works.is_empty() {
            return Ok(());
        }
        let cancelled = self.queue.withdraw(works, self.clock.now()).await?;
        if cancelled > 0 {
            tracing::info!(
                %message,
                works = cancelled,
                "a message is withdrawn: its sender was told that it is not taken, and will send it again"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered() {
        let mut withdrawn = Withdrawn::default();
        let message = |n: usize| MessageId::from_bytes((n as u128).to_be_bytes());
        for n in 0..=REMEMBERED {
            withdrawn.note(message(n));
            withdrawn.note(message(n));
        }
        let has = |n| withdrawn.messages.contains(&message(n));
        assert_eq!([0, 1, REMEMBERED].map(has), [false, true, true]);
        assert_eq!((withdrawn.messages.len(), withdrawn.order.len()), (REMEMBERED, REMEMBERED));
    }
}
