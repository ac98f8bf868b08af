//! Messages that were taken in here and are to be published at the manager: each waits for its answer, also while the manager is away.
//!
//! A message is kept by whoever waits for its answer, and by nobody else but for what is just being said: what goes to the link are ids.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use base::{MessageId, Timestamp};
use bytes::Bytes;
use prost::Message as _;
use queue::{Body, BodyWriter, Pending, Publication, Publish, Published, QueueError};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Shared, line::Line};
use crate::wire::{self, AT_ONCE_BYTES, INLINE, answer::Verdict};

/// What waits for its answer.
#[derive(Debug)]
pub(crate) struct Offers {
    /// The longest that it may.
    hold: Duration,
    waiting: HashMap<MessageId, Waiting>,
    /// Those of them that go with their bodies, and those whose bodies go apart.
    small: Line,
    large: Line,
    /// Whose senders were told that they are not taken, though the manager may have them. Kept until it answers.
    withdrawn: Line,
    /// When an offer was last answered.
    answered: Option<Instant>,
    way: Way,
}

/// So many withdrawn offers are remembered; what is older may be delivered.
const MOST_WITHDRAWN: usize = 10_000;

/// The way to the manager.
#[derive(Debug, Default)]
enum Way {
    /// There is a link; it is told when there is something to say again.
    Open(Arc<Notify>),
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
    known: Known,
    /// Whoever brings it, if its body goes apart; it stops when nobody waits any more, and with its link.
    bringing: Option<AbortOnDropHandle<()>>,
    answer: oneshot::Sender<Result<Published, QueueError>>,
}

/// Whether the manager may have heard of an offer, over this link or an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Perhaps,
    No,
}

/// One thing that is brought to the manager.
#[derive(Clone, Debug)]
pub(crate) enum Bring {
    /// An offer, and how long it is on the link.
    Offer(wire::Offer, usize),
    /// A message whose body goes apart.
    Large(MessageId),
    /// An earlier offer is one no more.
    Withdraw(MessageId),
}

/// An offer with its body, if that goes apart.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) offer: wire::Offer,
    /// How long that is on the link, but for until when its sender waits.
    pub(crate) len: usize,
    pub(crate) large: Option<Bytes>,
}

impl Waiting {
    /// As it is offered at this moment, which is `clock` by the manager's time as it is known now: since it was taken in the manager may
    /// have begun anew with another.
    fn offer(&mut self, hold: Duration, (now, clock): (Instant, Timestamp)) -> wire::Offer {
        self.known = Known::Perhaps;
        let left = hold.saturating_sub(now.saturating_duration_since(self.since));
        wire::Offer { until_micros: (clock + left).micros(), ..self.offered.offer.clone() }
    }
}

impl Offers {
    pub(crate) fn new(hold: Duration) -> Self {
        Self {
            hold,
            waiting: HashMap::new(),
            small: Line::default(),
            large: Line::default(),
            withdrawn: Line::default(),
            answered: None,
            way: Way::default(),
        }
    }

    /// There is a link: what is withdrawn is said again, and what waits is offered again. What returns tells when there is something to
    /// [`say`](Self::say).
    pub(crate) fn linked(&mut self) -> Arc<Notify> {
        self.unlinked();
        [&mut self.withdrawn, &mut self.small, &mut self.large].into_iter().for_each(Line::begin_anew);
        let link = Arc::new(Notify::new());
        if !self.all_is_said() {
            link.notify_one();
        }
        self.way = Way::Open(link.clone());
        link
    }

    /// The link is gone.
    pub(crate) fn unlinked(&mut self) {
        self.way = Way::Broken;
        for message in self.large.iter() {
            if let Some(waiting) = self.waiting.get_mut(&message) {
                waiting.bringing = None;
            }
        }
    }

    /// The manager will not have this node: who waits is told so, and until there is a link again nobody waits.
    pub(crate) fn refused(&mut self) {
        self.way = Way::Shut;
        (self.small, self.large) = Default::default();
        for (message, waiting) in std::mem::take(&mut self.waiting) {
            let _ = waiting.answer.send(Err(QueueError::Away));
            if waiting.known == Known::Perhaps {
                self.withdraw(message);
            }
        }
    }

    /// Nobody waits for the answer to an offer any more. If there is none yet, the sender is told that the message is not taken.
    pub(crate) fn give_up(&mut self, message: MessageId) {
        if let Some(Waiting { known: Known::Perhaps, .. }) = self.take_out(message) {
            self.withdraw(message);
        }
    }

    pub(super) fn withdraw(&mut self, message: MessageId) {
        self.rouse();
        self.withdrawn.push(message);
        self.withdrawn.keep(MOST_WITHDRAWN);
    }

    /// Offers a message; the answer comes once the manager has given it.
    pub(crate) fn offer(
        &mut self,
        message: MessageId,
        offered: Offered,
        since: Instant,
    ) -> oneshot::Receiver<Result<Published, QueueError>> {
        let (answer, answered) = oneshot::channel();
        if matches!(self.way, Way::Shut) {
            let _ = answer.send(Err(QueueError::Away));
            return answered;
        }
        self.rouse();
        let line = if offered.large.is_some() { &mut self.large } else { &mut self.small };
        line.push(message);
        let waiting = Waiting { offered, since, known: Known::No, bringing: None, answer };
        self.waiting.insert(message, waiting);
        answered
    }

    /// Puts what is to be said next over the link into `some`, which is empty: up to `most` things, and no more than go together. What is
    /// withdrawn goes first: nothing of it is offered any more. Whoever says it is told again if there is more.
    pub(crate) fn say(&mut self, some: &mut Vec<Bring>, most: usize, now: (Instant, Timestamp)) {
        let mut bytes = 0;
        while some.len() < most && bytes < AT_ONCE_BYTES {
            let bring = if let Some(message) = self.withdrawn.say() {
                Bring::Withdraw(message)
            } else if let Some(message) = self.small.say() {
                let Some(waiting) = self.waiting.get_mut(&message) else { continue };
                bytes += waiting.offered.len;
                Bring::Offer(waiting.offer(self.hold, now), waiting.offered.len)
            } else if let Some(message) = self.large.say() {
                Bring::Large(message)
            } else {
                return;
            };
            some.push(bring);
        }
        if let (Way::Open(link), false) = (&self.way, self.all_is_said()) {
            link.notify_one();
        }
    }

    /// A message whose body goes apart is being brought.
    pub(crate) fn is_brought(&mut self, message: MessageId, by: JoinHandle<()>) {
        let by = AbortOnDropHandle::new(by);
        if let Some(waiting) = self.waiting.get_mut(&message) {
            waiting.bringing = Some(by);
        }
    }

    /// A message whose body goes apart as it is offered now, and its body; nothing if nobody waits for its answer.
    pub(crate) fn large(
        &mut self,
        message: MessageId,
        now: (Instant, Timestamp),
    ) -> Option<(wire::Offer, Bytes)> {
        let waiting = self.waiting.get_mut(&message)?;
        let body = waiting.offered.large.clone()?;
        Some((waiting.offer(self.hold, now), body))
    }

    /// The manager has answered.
    pub(crate) fn answered(&mut self, answer: &wire::Answer, now: Instant) {
        let Ok(message) = wire::message(&answer.message) else { return };
        if answer.verdict() == Verdict::Withdrawn {
            return self.withdrawn.remove(message);
        }
        self.answered = Some(now);
        let Some(waiting) = self.take_out(message) else { return };
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

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Of how many that wait the manager may have heard.
    #[cfg(test)]
    pub(crate) fn known(&self) -> usize {
        self.waiting.values().filter(|waiting| waiting.known == Known::Perhaps).count()
    }

    /// For how long the manager has not answered an offer that waits. A large body may be under way for long: while others are answered,
    /// it does not count.
    pub(crate) fn unanswered(&self, now: Instant) -> Duration {
        let wait = |line: &Line| {
            let waiting = line.oldest().and_then(|oldest| self.waiting.get(&oldest));
            waiting.map_or(Duration::ZERO, |waiting| now.saturating_duration_since(waiting.since))
        };
        let answered = self.answered.map_or(Duration::MAX, |at| now.saturating_duration_since(at));
        wait(&self.small).max(wait(&self.large).min(answered))
    }

    fn all_is_said(&self) -> bool {
        [&self.withdrawn, &self.small, &self.large].into_iter().all(Line::all_is_said)
    }

    /// Tells the link that there will be something to say, unless it knows.
    fn rouse(&self) {
        if let (Way::Open(link), true) = (&self.way, self.all_is_said()) {
            link.notify_one();
        }
    }

    fn take_out(&mut self, message: MessageId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&message)?;
        let line = if waiting.offered.large.is_some() { &mut self.large } else { &mut self.small };
        line.remove(message);
        Some(waiting)
    }
}

/// Publishes at the manager.
#[derive(Clone, Debug)]
pub(crate) struct AtManager(pub(crate) Arc<Shared>);

impl Publish for AtManager {
    fn publish(&self, batch: Vec<Publication>) -> Pending<'static, Result<Vec<Published>, QueueError>> {
        let shared = self.0.clone();
        let hold = shared.options.hold;
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
            let offer = wire::Offer::of(&publication, &body, INLINE);
            let len = offer.encoded_len();
            if len > wire::MAX_OFFER {
                let why = QueueError::TooLarge("a message has too many or too long recipients".into());
                return Box::pin(std::future::ready(Err(why)));
            }
            let large = (body.len() > INLINE).then(|| body.clone());
            let message = publication.message;
            shared.cache.lock().keep(message, body);
            let offered = Offered { offer, len, large };
            let answered = shared.offers.lock().offer(message, offered, Instant::now());
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

    const HOLD: Duration = Duration::from_secs(60);

    fn id(n: u8) -> MessageId {
        MessageId::from_bytes([n; 16])
    }

    fn offered(message: MessageId) -> Offered {
        let offer = wire::Offer { message: wire::message_bytes(message), ..wire::Offer::default() };
        Offered { offer, len: 1, large: None }
    }

    fn answer(message: MessageId, verdict: Verdict) -> wire::Answer {
        let message = wire::message_bytes(message);
        wire::Answer { message, verdict: verdict.into(), text: String::new() }
    }

    /// What is said now: until when the sender of each waits, and of what is withdrawn nothing.
    fn said(offers: &mut Offers, now: (Instant, Timestamp)) -> Vec<(MessageId, Option<i64>)> {
        let mut some = Vec::new();
        offers.say(&mut some, 64, now);
        some.into_iter()
            .map(|bring| match bring {
                Bring::Offer(offer, _) => {
                    (wire::message(&offer.message).expect("an id"), Some(offer.until_micros))
                }
                Bring::Large(message) => (message, Some(0)),
                Bring::Withdraw(message) => (message, None),
            })
            .collect()
    }

    #[test]
    fn who_waits_for_a_manager_that_will_not_have_this_node_is_told_at_once() {
        let mut offers = Offers::new(HOLD);
        let now = (Instant::now(), Timestamp::default());
        let offer = |offers: &mut Offers, n| offers.offer(id(n), offered(id(n)), now.0);
        let is_away = |answer| matches!(answer, Ok(Err(QueueError::Away)));
        offers.linked();
        let mut heard = offer(&mut offers, 1);
        assert_eq!(said(&mut offers, now).len(), 1);
        let mut unheard = offer(&mut offers, 2);
        offers.refused();
        assert!(is_away(heard.try_recv()) && is_away(unheard.try_recv()));
        assert!(is_away(offer(&mut offers, 3).try_recv()));
        assert_eq!(offers.len(), 0);
        offers.linked();
        assert_eq!(said(&mut offers, now), [(id(1), None)], "the manager may have the first one");
        let mut after = offer(&mut offers, 4);
        assert!(after.try_recv().is_err());
        assert_eq!(said(&mut offers, now).len(), 1);
    }

    #[test]
    fn what_got_no_answer_in_time_is_withdrawn_until_the_manager_has_heard() {
        let [first, second] = [1, 2].map(id);
        let now = (Instant::now(), Timestamp::default());
        let until = Some(i64::try_from(HOLD.as_micros()).expect("it is not long"));
        let mut offers = Offers::new(HOLD);
        offers.linked();
        let _answer = offers.offer(first, offered(first), now.0);
        assert_eq!(said(&mut offers, now), [(first, until)]);
        offers.give_up(first);
        // Whoever waited is gone, and gives up what he has given up.
        offers.give_up(first);
        assert_eq!(said(&mut offers, now), [(first, None)]);
        offers.unlinked();
        let mut waits = offers.offer(second, offered(second), now.0);
        offers.linked();
        assert_eq!(said(&mut offers, now), [(first, None), (second, until)]);
        // That it is stored after all does not matter any more.
        offers.answered(&answer(first, Verdict::Stored), now.0);
        assert!(offers.withdrawn.iter().eq([first]));
        offers.answered(&answer(first, Verdict::Withdrawn), now.0);
        offers.answered(&answer(second, Verdict::Stored), now.0);
        offers.give_up(second);
        assert!(offers.withdrawn.oldest().is_none());
        assert!(matches!(waits.try_recv(), Ok(Ok(Published::Stored))));
    }

    #[test]
    fn what_is_given_up_before_it_was_said_is_never_said() {
        let mut offers = Offers::new(HOLD);
        let now = (Instant::now(), Timestamp::default());
        offers.linked();
        let _answers = [1, 2].map(|n| offers.offer(id(n), offered(id(n)), now.0));
        offers.give_up(id(1));
        assert!(said(&mut offers, now).into_iter().map(|(message, _)| message).eq([id(2)]));
        assert_eq!(said(&mut offers, now), []);
    }

    #[tokio::test]
    async fn the_link_is_told_as_long_as_there_is_something_to_say() {
        let mut offers = Offers::new(HOLD);
        let now = (Instant::now(), Timestamp::default());
        let mut answers = vec![offers.offer(id(0), offered(id(0)), now.0)];
        let link = offers.linked();
        let is_told = async || tokio::time::timeout(Duration::ZERO, link.notified()).await.is_ok();
        assert!(is_told().await, "what waits is offered again");
        answers.extend((1..=7).map(|n| offers.offer(id(n), offered(id(n)), now.0)));
        let mut some = Vec::new();
        for left in [4, 0] {
            offers.say(&mut some, 4, now);
            assert_eq!((some.drain(..).count(), is_told().await), (4, left > 0));
        }
        offers.give_up(id(3));
        assert!(is_told().await, "it is withdrawn");
        offers.say(&mut some, 4, now);
        // What is long goes in pieces.
        let long = Offered { len: AT_ONCE_BYTES, ..offered(id(8)) };
        answers.extend([8, 9].map(|n| offers.offer(id(n), long.clone(), now.0)));
        for left in [1, 0] {
            some.clear();
            assert!(is_told().await);
            offers.say(&mut some, 4, now);
            assert_eq!((some.len(), offers.all_is_said()), (1, left == 0));
        }
    }

    #[test]
    fn an_offer_says_by_the_clock_that_the_manager_has_now_until_when_its_sender_waits() {
        let mut offers = Offers::new(HOLD);
        let start = Instant::now();
        let [mut clock, waited] = [Timestamp::from_millis(1_795_000_000_000); 2];
        let large = Offered { large: Some(Bytes::from_static(b"body")), ..offered(id(2)) };
        let _answers = [offers.offer(id(1), offered(id(1)), start), offers.offer(id(2), large, start)];
        // The manager restarts, and its clock is put right by an hour.
        clock = clock + Duration::from_hours(1);
        let now = (start + Duration::from_secs(20), clock);
        let until = (waited + Duration::from_hours(1) + Duration::from_secs(40)).micros();
        offers.linked();
        assert_eq!(said(&mut offers, now)[0], (id(1), Some(until)));
        let (large, _) = offers.large(id(2), now).expect("it waits");
        assert_eq!(large.until_micros, until);
        let late = (start + 2 * HOLD, clock);
        assert_eq!(offers.large(id(2), late).expect("it waits").0.until_micros, clock.micros());
    }

    #[test]
    fn the_oldest_offer_says_for_how_long_the_manager_has_not_answered() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut offers = Offers::new(HOLD);
        let unanswered = |offers: &Offers, seconds| offers.unanswered(at(seconds)).as_secs();
        assert_eq!(unanswered(&offers, 10), 0, "nobody waits");
        let large = Offered { large: Some(Bytes::from_static(b"body")), ..offered(id(1)) };
        let _large = offers.offer(id(1), large, at(0));
        let _small = [2, 3].map(|n| offers.offer(id(n), offered(id(n)), at(n.into())));
        assert_eq!(unanswered(&offers, 50), 50);
        offers.answered(&answer(id(2), Verdict::Stored), at(50));
        assert_eq!(unanswered(&offers, 51), 48, "another waits");
        offers.give_up(id(3));
        assert_eq!(unanswered(&offers, 51), 1, "a large body may take long while others are answered");
        offers.give_up(id(1));
        assert_eq!(unanswered(&offers, 99), 0);
    }

    #[test]
    fn the_latest_bodies_are_kept() {
        let mut cache = Cache::new(100);
        for n in 1..=4 {
            cache.keep(id(n), Bytes::from(vec![n; 40]));
        }
        cache.keep(id(5), Bytes::from(vec![5; 101]));
        assert_eq!([1, 2, 3, 4, 5].map(|n| cache.find(id(n)).is_some()), [false, false, true, true, false]);
    }
}
