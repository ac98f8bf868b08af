//! Messages for whose answer nobody waits any more: their senders were told that they are not taken, and will send them again.
//!
//! An offer says until when its sender waits, and is refused afterwards, however long it was under way. Of one that came in time and
//! was not answered in time the worker says so later; then nothing more of it goes out. What went out before cannot be undone.

use std::collections::{HashSet, VecDeque};

use base::{MessageId, Timestamp};
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

impl Withdrawn {
    /// Whether nobody waits for the answer to an offer any more.
    pub(crate) fn is_late(&self, offer: &Offer, now: Timestamp) -> bool {
        let until = Timestamp::from_micros(offer.until_micros);
        offer.until_micros != 0 && now > until || self.has(&offer.message)
    }

    pub(crate) fn has(&self, message: &[u8]) -> bool {
        wire::message(message).is_ok_and(|message| self.messages.contains(&message))
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
    pub(super) fn is_late(&self, offer: &Offer) -> bool {
        self.withdrawn.lock().is_late(offer, self.clock.now())
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
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            match self.cancel(&message).await {
                Ok(()) => {
                    let verdict = Verdict::Withdrawn.into();
                    answers.push(Answer { message, verdict, text: String::new() });
                }
                // Without an answer it is withdrawn again over the next link.
                Err(error) => tracing::warn!(%error, "a message that is withdrawn cannot be cancelled"),
            }
        }
        answers
    }

    /// Cancels what has been published meanwhile of a message that is withdrawn.
    pub(super) async fn cancel_if_withdrawn(&self, message: &[u8]) {
        let is_withdrawn = self.withdrawn.lock().has(message);
        if is_withdrawn && let Err(error) = self.cancel(message).await {
            tracing::warn!(%error, "a message that is withdrawn cannot be cancelled");
        }
    }

    async fn cancel(&self, message: &[u8]) -> Result<(), QueueError> {
        let Ok(message) = wire::message(message) else { return Ok(()) };
        let works = self.queue.works_of(message);
        if works.is_empty() {
            return Ok(());
        }
        let cancelled = self.queue.cancel(works, self.clock.now()).await?;
        tracing::info!(
            %message,
            works = cancelled,
            "a message is withdrawn: its sender was told that it is not taken, and will send it again"
        );
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
