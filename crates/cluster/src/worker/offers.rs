//! Messages that were taken in here and are to be published at the manager: each waits for its answer, also while the manager is away.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use base::MessageId;
use bytes::Bytes;
use prost::Message as _;
use queue::{Body, BodyWriter, Pending, Publication, Publish, Published, QueueError};
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use crate::wire::{self, INLINE, answer::Verdict};

/// What waits for its answer.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    waiting: HashMap<MessageId, Waiting>,
    /// Whose senders were told that they are not taken, though the manager may have them; the oldest first. Kept until it answers.
    withdrawn: VecDeque<MessageId>,
    way: Way,
}

/// So many withdrawn offers are remembered; what is older may be delivered.
const MOST_WITHDRAWN: usize = 10_000;

/// The way to the manager.
#[derive(Debug, Default)]
enum Way {
    /// There is a link.
    Open(mpsc::UnboundedSender<Bring>),
    /// There is none now.
    #[default]
    Broken,
    /// The manager will not have this node, and nobody waits for it.
    Shut,
}

#[derive(Debug)]
struct Waiting {
    offered: Offered,
    since: Instant,
    answer: oneshot::Sender<Result<Published, QueueError>>,
}

/// One thing that is brought to the manager.
#[derive(Clone, Debug)]
pub(crate) enum Bring {
    Offer(Offered),
    /// An earlier offer is one no more.
    Withdraw(MessageId),
}

/// An offer with its body, if that goes apart.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) offer: wire::Offer,
    /// How long that is on the link.
    pub(crate) len: usize,
    pub(crate) large: Option<Bytes>,
}

impl Offers {
    /// There is a link: what is withdrawn is said first, and what waits is offered again.
    pub(crate) fn linked(&mut self, link: mpsc::UnboundedSender<Bring>) {
        for message in &self.withdrawn {
            let _ = link.send(Bring::Withdraw(*message));
        }
        for waiting in self.waiting.values() {
            let _ = link.send(Bring::Offer(waiting.offered.clone()));
        }
        self.way = Way::Open(link);
    }

    /// The link is gone.
    pub(crate) fn unlinked(&mut self) {
        self.way = Way::Broken;
    }

    /// The manager will not have this node: who waits is told so, and until there is a link again nobody waits.
    pub(crate) fn refused(&mut self) {
        self.way = Way::Shut;
        for (message, waiting) in std::mem::take(&mut self.waiting) {
            let _ = waiting.answer.send(Err(QueueError::Away));
            self.withdraw(message);
        }
    }

    /// Nobody waits for the answer to an offer any more. If there is none yet, the sender is told that the message is not taken.
    pub(crate) fn give_up(&mut self, message: MessageId) {
        if self.waiting.remove(&message).is_some() {
            self.withdraw(message);
        }
    }

    pub(super) fn withdraw(&mut self, message: MessageId) {
        if self.withdrawn.len() == MOST_WITHDRAWN {
            self.withdrawn.pop_front();
        }
        self.withdrawn.push_back(message);
        if let Way::Open(link) = &self.way {
            let _ = link.send(Bring::Withdraw(message));
        }
    }

    /// Offers a message; the answer comes once the manager has given it.
    pub(crate) fn offer(
        &mut self,
        message: MessageId,
        offered: Offered,
    ) -> oneshot::Receiver<Result<Published, QueueError>> {
        let (answer, answered) = oneshot::channel();
        match &self.way {
            Way::Open(link) => {
                let _ = link.send(Bring::Offer(offered.clone()));
            }
            Way::Broken => {}
            Way::Shut => {
                let _ = answer.send(Err(QueueError::Away));
                return answered;
            }
        }
        self.waiting.insert(message, Waiting { offered, since: Instant::now(), answer });
        answered
    }

    /// The manager has answered.
    pub(crate) fn answered(&mut self, answer: &wire::Answer) {
        let Ok(message) = wire::message(&answer.message) else { return };
        if answer.verdict() == Verdict::Withdrawn {
            // They are answered in their order.
            if let Some(at) = self.withdrawn.iter().position(|withdrawn| *withdrawn == message) {
                self.withdrawn.remove(at);
            }
            return;
        }
        let Some(waiting) = self.waiting.remove(&message) else { return };
        let said = match answer.verdict() {
            Verdict::Stored => Ok(Published::Stored),
            Verdict::NoSpace => Err(QueueError::NoSpace),
            Verdict::TooLarge => Err(QueueError::TooLarge(answer.text.clone())),
            Verdict::NotNow | Verdict::Withdrawn | Verdict::Unspecified => {
                Err(QueueError::Refused(answer.text.clone()))
            }
        };
        // Its client may have gone.
        let _ = waiting.answer.send(said);
    }

    /// Whether somebody waits for the answer to an offer.
    pub(crate) fn awaits(&self, message: &[u8]) -> bool {
        wire::message(message).is_ok_and(|message| self.waiting.contains_key(&message))
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How long the one has waited that has waited longest.
    pub(crate) fn longest_wait(&self) -> Duration {
        let first = self.waiting.values().map(|waiting| waiting.since).min();
        first.map_or(Duration::ZERO, |first| first.elapsed())
    }
}

/// Publishes at the manager.
#[derive(Clone, Debug)]
pub(crate) struct AtManager(pub(crate) Arc<Shared>);

impl Publish for AtManager {
    fn publish(&self, batch: Vec<Publication>) -> Pending<'static, Result<Vec<Published>, QueueError>> {
        let shared = self.0.clone();
        let hold = shared.options.hold;
        let until = shared.clock.now() + hold;
        let mut waiting = Vec::with_capacity(batch.len());
        for publication in batch {
            let body = match &publication.body {
                Body::Empty => Bytes::new(),
                Body::Memory(bytes) => bytes.clone(),
                Body::File(_) => {
                    let why = QueueError::Refused("a worker keeps no files".into());
                    return Box::pin(std::future::ready(Err(why)));
                }
            };
            let mut offer = wire::Offer::of(&publication, &body, INLINE);
            offer.until_micros = until.micros();
            let len = offer.encoded_len();
            if len > wire::MAX_OFFER {
                let why = QueueError::TooLarge("a message has too many or too long recipients".into());
                return Box::pin(std::future::ready(Err(why)));
            }
            let large = (body.len() > INLINE).then(|| body.clone());
            let message = publication.message;
            shared.cache.lock().keep(message, body);
            let answered = shared.offers.lock().offer(message, Offered { offer, len, large });
            waiting.push(Wait { shared: shared.clone(), message, answered });
        }
        Box::pin(async move {
            let mut published = Vec::with_capacity(waiting.len());
            for wait in waiting {
                published.push(wait.end(hold).await?);
            }
            Ok(published)
        })
    }

    fn body(&self, message: MessageId, expect: usize) -> BodyWriter {
        BodyWriter::in_memory(message, expect)
    }

    fn takes(&self) -> Result<(), QueueError> {
        if self.0.out_of_reach().is_some() {
            return Err(QueueError::Away);
        }
        if self.0.state.borrow().full { Err(QueueError::NoSpace) } else { Ok(()) }
    }
}

/// One that waits; given up when dropped.
struct Wait {
    shared: Arc<Shared>,
    message: MessageId,
    answered: oneshot::Receiver<Result<Published, QueueError>>,
}

impl Wait {
    async fn end(mut self, hold: Duration) -> Result<Published, QueueError> {
        match tokio::time::timeout(hold, &mut self.answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => {
                self.shared.offers.lock().give_up(self.message);
                // It may have come at the last moment; from now on none is taken.
                self.answered.try_recv().unwrap_or(Err(QueueError::Away))
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.shared.offers.lock().give_up(self.message);
    }
}

/// Bodies of messages that were taken in here, so that they need not come back. The manager reckons with the same rule.
#[derive(Debug)]
pub(crate) struct Cache {
    bodies: HashMap<MessageId, Bytes>,
    order: VecDeque<MessageId>,
    bytes: u64,
    capacity: u64,
}

impl Cache {
    pub(crate) fn new(capacity: u64) -> Self {
        Self { bodies: HashMap::new(), order: VecDeque::new(), bytes: 0, capacity }
    }

    fn keep(&mut self, message: MessageId, body: Bytes) {
        let len = body.len() as u64;
        if len > self.capacity || self.bodies.contains_key(&message) {
            return;
        }
        self.bodies.insert(message, body);
        self.order.push_back(message);
        self.bytes += len;
        while self.bytes > self.capacity {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.bodies.remove(&oldest).map_or(0, |body| body.len() as u64);
        }
    }

    pub(crate) fn find(&self, message: MessageId) -> Option<Bytes> {
        self.bodies.get(&message).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(message: MessageId) -> Offered {
        let offer = wire::Offer { message: wire::message_bytes(message), ..wire::Offer::default() };
        Offered { offer, len: 0, large: None }
    }

    #[test]
    fn who_waits_for_a_manager_that_will_not_have_this_node_is_told_at_once() {
        let mut offers = Offers::default();
        let offer = |offers: &mut Offers, n| {
            let message = MessageId::from_bytes([n; 16]);
            offers.offer(message, offered(message))
        };
        let is_away = |answer| matches!(answer, Ok(Err(QueueError::Away)));
        let mut before = offer(&mut offers, 1);
        offers.refused();
        assert!(is_away(before.try_recv()));
        assert!(is_away(offer(&mut offers, 2).try_recv()));
        assert_eq!(offers.len(), 0);
        let (link, mut said) = mpsc::unbounded_channel();
        offers.linked(link);
        assert!(matches!(said.try_recv(), Ok(Bring::Withdraw(_))), "the manager may have the first one");
        let mut after = offer(&mut offers, 3);
        assert!(after.try_recv().is_err() && matches!(said.try_recv(), Ok(Bring::Offer(_))));
        assert!(said.try_recv().is_err());
    }

    #[test]
    fn what_got_no_answer_in_time_is_withdrawn_until_the_manager_has_heard() {
        let [first, second] = [1, 2].map(|n| MessageId::from_bytes([n; 16]));
        let said = |link: &mut mpsc::UnboundedReceiver<Bring>| -> Vec<(bool, MessageId)> {
            std::iter::from_fn(|| link.try_recv().ok())
                .map(|bring| match bring {
                    Bring::Offer(offered) => (true, wire::message(&offered.offer.message).expect("an id")),
                    Bring::Withdraw(message) => (false, message),
                })
                .collect()
        };
        let mut offers = Offers::default();
        let (link, mut words) = mpsc::unbounded_channel();
        offers.linked(link);
        let _answer = offers.offer(first, offered(first));
        offers.give_up(first);
        // Whoever waited is gone, and gives up what he has given up.
        offers.give_up(first);
        assert_eq!(said(&mut words), [(true, first), (false, first)]);
        offers.unlinked();
        let mut waits = offers.offer(second, offered(second));
        let (link, mut words) = mpsc::unbounded_channel();
        offers.linked(link);
        assert_eq!(said(&mut words), [(false, first), (true, second)]);
        let answer = |message, verdict: Verdict| {
            let message = wire::message_bytes(message);
            wire::Answer { message, verdict: verdict.into(), text: String::new() }
        };
        // That it is stored after all does not matter any more.
        offers.answered(&answer(first, Verdict::Stored));
        assert_eq!(offers.withdrawn, [first]);
        offers.answered(&answer(first, Verdict::Withdrawn));
        offers.answered(&answer(second, Verdict::Stored));
        offers.give_up(second);
        assert!(offers.withdrawn.is_empty() && matches!(waits.try_recv(), Ok(Ok(Published::Stored))));
    }

    #[test]
    fn the_latest_bodies_are_kept() {
        let mut cache = Cache::new(100);
        let id = |n| MessageId::from_bytes([n; 16]);
        for n in 1..=4 {
            cache.keep(id(n), Bytes::from(vec![n; 40]));
        }
        cache.keep(id(5), Bytes::from(vec![5; 101]));
        assert_eq!([1, 2, 3, 4, 5].map(|n| cache.find(id(n)).is_some()), [false, false, true, true, false]);
    }
}
