//! What goes to a node over its link: as much at once as there is, and no more once the link has ended.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Sleep;
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::Status;

use super::member::{Give, Member};
use crate::{
    pace::Pace,
    wire::{AT_ONCE_BYTES, Given},
};

/// What waits for a node to take it, in the order in which it was given.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Give>,
    waits: Waits,
    /// How much was taken so far.
    taken: u64,
    /// Told of the first thing, and of the first that a node waits for.
    waker: Option<Waker>,
}

/// Whether something waits to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waits {
    #[default]
    Nothing,
    /// Nobody is held up by it.
    AtLeisure,
    /// The node is to go on with it, or it is enough for a message.
    Urgently,
}

impl Outbox {
    pub(super) fn put(&mut self, give: Give) {
        let waits = match give {
            Give::Heard(_) if self.waiting.len() < AT_ONCE => Waits::AtLeisure,
            Give::Heard(_) | Give::Grant(_) | Give::Permit(_) | Give::Over(_) => Waits::Urgently,
        };
        self.waiting.push_back(give);
        if waits > self.waits {
            self.waits = waits;
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// How much waits.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How much was taken, if something waits.
    pub(super) fn taken_of_waiting(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.taken)
    }

    /// Whether something waits; whoever asks is told when more does, if they might wait for it.
    pub(super) fn look(&mut self, context: &Context<'_>) -> Waits {
        self.waker = (self.waits != Waits::Urgently).then(|| context.waker().clone());
        self.waits
    }

    /// The next message: no more than fits into one, and the rest waits for the next.
    pub(super) fn take(&mut self) -> Given {
        let (mut given, mut things, mut bytes) = (Given::default(), 0, 0);
        while things < AT_ONCE
            && bytes <= AT_ONCE_BYTES
            && let Some(give) = self.waiting.pop_front()
        {
            self.taken += 1;
            things += 1;
            match give {
                Give::Grant(granted) => {
                    let grant = granted.grant;
                    let bodies = grant.works.iter().filter_map(|work| work.body.as_ref());
                    bytes += grant.burst.len() + bodies.map(Bytes::len).sum::<usize>();
                    things += grant.works.len();
                    given.grants.push(grant);
                }
                Give::Permit(permit) => given.permits.push(permit),
                Give::Heard(item) => given.heard.push(item),
                Give::Over(item) => given.over.push(item),
            }
        }
        self.waits = if self.waiting.is_empty() { Waits::Nothing } else { Waits::Urgently };
        given
    }
}

/// What is given to a node, as much at once as there is.
pub(super) struct ToGive {
    member: Arc<Member>,
    link: u64,
    pace: Pace,
    /// While all that waits may wait.
    leisure: Option<Pin<Box<Sleep>>>,
    /// A link does not go on without it.
    _end: DropGuard,
}

impl ToGive {
    pub(super) fn new(member: Arc<Member>, link: u64, end: &CancellationToken) -> Self {
        let (pace, leisure) = (Pace::default(), None);
        Self { member, link, pace, leisure, _end: end.clone().drop_guard() }
    }
}

impl Stream for ToGive {
    type Item = Result<Given, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { member, link, pace, leisure, .. } = self.get_mut();
        match member.look(*link, context) {
            Waits::Nothing => return Poll::Pending,
            Waits::AtLeisure => {
                let leisure = leisure.get_or_insert_with(|| Box::pin(tokio::time::sleep(LEISURE)));
                ready!(leisure.as_mut().poll(context));
            }
            Waits::Urgently => {}
        }
        ready!(pace.poll(context));
        *leisure = None;
        Poll::Ready(Some(Ok(member.take_given(*link))))
    }
}

/// How much is given in one go: things, and works of those that are granted.
const AT_ONCE: usize = 1000;
/// How long acknowledgements wait for something to go with: nobody is held up by them.
const LEISURE: Duration = Duration::from_millis(20);

/// A stream that ends with its link.
pub(super) fn until<S: Stream>(stream: S, end: CancellationToken) -> impl Stream<Item = S::Item> {
    Until { stream: Box::pin(stream), end: Box::pin(end.cancelled_owned()) }
}

struct Until<S> {
    stream: Pin<Box<S>>,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S: Stream> Stream for Until<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        self.stream.as_mut().poll_next(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, task::Wake};

    use tokio::sync::{Semaphore, mpsc};
    use tokio_stream::StreamExt as _;

    use super::*;
    use crate::{
        identity::PublicKey,
        load::Load,
        manager::member::{Facts, Granted},
        placement::NodeIndex,
        wire,
    };

    /// How long something may take that takes no time.
    const PATIENCE: Duration = Duration::from_secs(25);

    /// How often somebody was told to look.
    #[derive(Default)]
    struct Calls(AtomicUsize);

    impl Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    impl Calls {
        fn count(&self) -> usize {
            self.0.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    fn item(item: u32) -> wire::Item {
        wire::Item { errand: 7, item }
    }

    fn permit(number: u32) -> Give {
        Give::Permit(wire::Permit { item: Some(item(number)), remaining: None })
    }

    fn grant(body: usize, room: &Arc<Semaphore>) -> Give {
        let work = wire::GrantedWork { body: Some(vec![0; body].into()), ..wire::GrantedWork::default() };
        let grant = wire::Grant { works: vec![work], ..wire::Grant::default() };
        let room = vec![room.clone().try_acquire_owned().expect("there is room")];
        Give::Grant(Box::new(Granted { grant, _room: room }))
    }

    #[test]
    fn whoever_takes_it_is_told_once_of_the_first_and_once_of_what_is_urgent() {
        let (mut outbox, calls) = (Outbox::default(), Arc::new(Calls::default()));
        let waker = Waker::from(calls.clone());
        let context = Context::from_waker(&waker);
        assert_eq!(outbox.look(&context), Waits::Nothing);
        (0..3).for_each(|number| outbox.put(Give::Heard(item(number))));
        assert_eq!((calls.count(), outbox.look(&context)), (1, Waits::AtLeisure));
        outbox.put(Give::Heard(item(3)));
        assert_eq!(calls.count(), 1);
        (0..3).for_each(|number| outbox.put(permit(number)));
        assert_eq!((calls.count(), outbox.look(&context)), (2, Waits::Urgently));
        outbox.put(Give::Over(item(4)));
        assert_eq!((calls.count(), outbox.len(), outbox.taken_of_waiting()), (2, 8, Some(0)), "all is taken");
        let given = outbox.take();
        assert_eq!((given.permits.len(), given.heard.len(), given.over.len()), (3, 4, 1));
        assert_eq!((outbox.look(&context), outbox.len(), outbox.taken), (Waits::Nothing, 0, 8));
        (0..=AT_ONCE).for_each(|_| outbox.put(Give::Heard(item(0))));
        assert_eq!((calls.count(), outbox.look(&context)), (3, Waits::Urgently), "it is a whole message");
        assert_eq!((outbox.take().heard.len(), outbox.look(&context)), (AT_ONCE, Waits::Urgently));
        assert_eq!((outbox.take().heard.len(), outbox.take()), (1, Given::default()));
    }

    #[test]
    fn however_much_is_granted_what_was_said_before_goes_before() {
        let (mut outbox, room) = (Outbox::default(), Arc::new(Semaphore::new(5)));
        let of = |given: &Given| (given.grants.len(), given.heard.len(), given.over.len());
        for _ in 0..3 {
            outbox.put(grant(AT_ONCE_BYTES - 1, &room));
        }
        outbox.put(Give::Heard(item(0)));
        outbox.put(Give::Over(item(1)));
        assert_eq!(of(&outbox.take()), (2, 0, 0));
        assert_eq!((room.available_permits(), outbox.len()), (4, 3), "their bodies are on their way");
        for _ in 0..2 {
            outbox.put(grant(AT_ONCE_BYTES - 1, &room));
        }
        assert_eq!(of(&outbox.take()), (2, 1, 1));
        assert_eq!(of(&outbox.take()), (1, 0, 0));
    }

    #[tokio::test]
    async fn acknowledgements_go_with_the_next_thing_or_after_a_moment() {
        let (node, key) = (NodeIndex(1), PublicKey::from_bytes([0; 32]));
        let (load, boot) = (Load::new(node, 0, 0), queue::Boot(1));
        let member = Member::new(node, key, boot, "mx2", Facts::default(), load, Default::default());
        member.link(mpsc::channel(1).0, &[]);
        let (link, end) = member.open_stream().expect("there is a link");
        let mut given = Box::pin(ToGive::new(member.clone(), link, &end));
        for _ in 0..2 {
            let begun = tokio::time::Instant::now();
            member.give(Give::Heard(item(0)));
            let alone = tokio::time::timeout(PATIENCE, given.next()).await.expect("it comes");
            let alone = alone.expect("it has not ended").expect("it is a message");
            assert_eq!((alone.heard.len(), alone.permits.len()), (1, 0));
            assert!(begun.elapsed() >= LEISURE);
        }
        tokio::time::sleep(LEISURE / 4).await;
        let calls = Arc::new(Calls::default());
        let waker = Waker::from(calls.clone());
        let mut context = Context::from_waker(&waker);
        member.give(Give::Heard(item(1)));
        assert!(given.as_mut().poll_next(&mut context).is_pending(), "it may wait");
        member.give(permit(2));
        assert_eq!(calls.count(), 1);
        assert!(given.as_mut().poll_next(&mut context).is_pending(), "others have their turn");
        let Poll::Ready(Some(Ok(together))) = given.as_mut().poll_next(&mut context) else {
            panic!("it waits")
        };
        assert_eq!((together.heard.len(), together.permits.len()), (1, 1));
        drop(given);
        assert!(end.is_cancelled(), "nobody brings it anything");
    }
}
