//! What goes to a node over its link: as much at once as there is, and no more once the link has ended.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::OwnedSemaphorePermit, time::Sleep};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::member::{Give, Member};
use crate::{
    pace::Pace,
    wire::{self, Given},
};

/// What waits for a node to take it: the next messages to it, as they grow.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// With the room that their bodies take until they are on their way.
    grants: VecDeque<(wire::Grant, Vec<OwnedSemaphorePermit>)>,
    /// What is not a grant.
    rest: Given,
    /// How much was taken so far.
    taken: u64,
    /// Told when there is something that a node waits for.
    waker: Option<Waker>,
}

/// Whether something waits to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    Nothing,
    /// Nobody is held up by it.
    AtLeisure,
    /// A node is to go on with it.
    Urgently,
}

impl Outbox {
    pub(super) fn put(&mut self, give: Give) {
        let before = self.waits();
        match give {
            Give::Grant { grant, _room } => self.grants.push_back((grant, _room)),
            Give::Permit(permit) => self.rest.permits.push(permit),
            Give::Heard(item) => self.rest.heard.push(item),
            Give::Over(item) => self.rest.over.push(item),
        }
        if self.waits() != before
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// How much waits.
    pub(super) fn len(&self) -> usize {
        let Given { grants: _, permits, heard, over } = &self.rest;
        self.grants.len() + permits.len() + heard.len() + over.len()
    }

    /// How much was taken, if something waits.
    pub(super) fn taken_of_waiting(&self) -> Option<u64> {
        (self.len() > 0).then_some(self.taken)
    }

    fn waits(&self) -> Waits {
        let Given { grants: _, permits, heard, over } = &self.rest;
        if !self.grants.is_empty() || !permits.is_empty() || !over.is_empty() || heard.len() >= AT_ONCE {
            Waits::Urgently
        } else if heard.is_empty() {
            Waits::Nothing
        } else {
            Waits::AtLeisure
        }
    }

    /// Whether something waits; whoever asks is told when that has changed, if they might wait for it.
    pub(super) fn look(&mut self, context: &Context<'_>) -> Waits {
        let waits = self.waits();
        self.waker = (waits != Waits::Urgently).then(|| context.waker().clone());
        waits
    }

    /// The next message. What is said of works comes after all that was granted before.
    pub(super) fn take(&mut self) -> Given {
        let mut given = Given { permits: some_of(&mut self.rest.permits), ..Given::default() };
        let mut bytes = 0;
        while bytes <= GIVEN_BYTES
            && given.grants.len() < AT_ONCE
            && let Some((grant, _room)) = self.grants.pop_front()
        {
            let bodies = grant.works.iter().filter_map(|work| work.body.as_ref());
            bytes += grant.burst.len() + bodies.map(Bytes::len).sum::<usize>();
            given.grants.push(grant);
        }
        if self.grants.is_empty() {
            given.heard = some_of(&mut self.rest.heard);
            given.over = some_of(&mut self.rest.over);
        }
        self.taken += (given.grants.len() + given.permits.len() + given.heard.len() + given.over.len()) as u64;
        given
    }
}

/// The first of some things, not too many.
fn some_of<T>(all: &mut Vec<T>) -> Vec<T> {
    if all.len() <= AT_ONCE { std::mem::take(all) } else { all.drain(..AT_ONCE).collect() }
}

/// What is given to a node, as much at once as there is.
pub(super) struct ToGive {
    member: Arc<Member>,
    link: u64,
    pace: Pace,
    /// While all that waits may wait.
    leisure: Option<Pin<Box<Sleep>>>,
}

impl ToGive {
    pub(super) fn new(member: Arc<Member>, link: u64) -> Self {
        Self { member, link, pace: Pace::default(), leisure: None }
    }
}

impl Stream for ToGive {
    type Item = Result<Given, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { member, link, pace, leisure } = self.get_mut();
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

/// How much is given in one go, in things of a kind and in bytes.
const AT_ONCE: usize = 1000;
const GIVEN_BYTES: usize = 1 << 20;
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
    use crate::{identity::PublicKey, load::Load, manager::member::Facts, placement::NodeIndex};

    /// How often somebody was told to look.
    #[derive(Default)]
    struct Told(AtomicUsize);

    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn item(item: u32) -> wire::Item {
        wire::Item { errand: 7, item }
    }

    fn permit(number: u32) -> Give {
        Give::Permit(wire::Permit { item: Some(item(number)), remaining: None })
    }

    fn grant(errand: u64, body: usize) -> Give {
        let work = wire::GrantedWork { body: Some(vec![0; body].into()), ..wire::GrantedWork::default() };
        let grant = wire::Grant { errand, works: vec![work], ..wire::Grant::default() };
        Give::Grant { grant, _room: Vec::new() }
    }

    #[test]
    fn whoever_takes_it_is_told_once_of_the_first_and_once_of_what_is_urgent() {
        let (mut outbox, told) = (Outbox::default(), Arc::new(Told::default()));
        let waker = Waker::from(told.clone());
        let context = Context::from_waker(&waker);
        let count = || told.0.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!(outbox.look(&context), Waits::Nothing);
        (0..3).for_each(|number| outbox.put(Give::Heard(item(number))));
        assert_eq!((count(), outbox.look(&context)), (1, Waits::AtLeisure));
        outbox.put(Give::Heard(item(3)));
        assert_eq!(count(), 1);
        (0..3).for_each(|number| outbox.put(permit(number)));
        assert_eq!((count(), outbox.look(&context)), (2, Waits::Urgently));
        outbox.put(grant(8, 1));
        assert_eq!((count(), outbox.len(), outbox.taken_of_waiting()), (2, 8, Some(0)), "it takes all anyway");
        let given = outbox.take();
        assert_eq!((given.grants.len(), given.permits.len(), given.heard.len()), (1, 3, 4));
        assert_eq!((outbox.look(&context), outbox.len(), outbox.taken), (Waits::Nothing, 0, 8));
        (0..AT_ONCE).for_each(|_| outbox.put(Give::Heard(item(0))));
        assert_eq!((count(), outbox.look(&context)), (3, Waits::Urgently), "it is a whole message");
    }

    #[test]
    fn a_message_has_so_many_bytes_and_what_is_over_comes_after_what_was_granted() {
        let (mut outbox, room) = (Outbox::default(), Arc::new(Semaphore::new(3)));
        for errand in 1..=3 {
            let Give::Grant { grant, .. } = grant(errand, GIVEN_BYTES - 1) else { unreachable!() };
            let _room = vec![room.clone().try_acquire_owned().expect("there is room")];
            outbox.put(Give::Grant { grant, _room });
        }
        outbox.put(Give::Over(item(0)));
        (0..=AT_ONCE).for_each(|_| outbox.put(permit(0)));
        let of = |given: &Given| (given.grants.len(), given.permits.len(), given.over.len());
        assert_eq!(of(&outbox.take()), (2, AT_ONCE, 0));
        assert_eq!((room.available_permits(), outbox.len()), (2, 3), "their bodies are on their way");
        assert_eq!(of(&outbox.take()), (1, 1, 1));
        assert_eq!((outbox.len(), outbox.take()), (0, Given::default()));
    }

    #[tokio::test]
    async fn acknowledgements_go_with_the_next_thing_or_after_a_moment() {
        let (node, key) = (NodeIndex(1), PublicKey::from_bytes([0; 32]));
        let (load, boot) = (Load::new(node, 0, 0), queue::Boot(1));
        let member = Member::new(node, key, boot, "mx2", Facts::default(), load, Default::default());
        member.link(mpsc::channel(1).0, &[]);
        let (link, _end) = member.open_stream().expect("there is a link");
        let mut given = ToGive::new(member.clone(), link);
        let begun = tokio::time::Instant::now();
        member.give(Give::Heard(item(0)));
        let first = given.next().await.expect("it has not ended").expect("it is a message");
        assert_eq!((first.heard.len(), first.permits.len()), (1, 0));
        assert!(begun.elapsed() >= LEISURE);
        tokio::time::sleep(LEISURE / 4).await;
        member.give(Give::Heard(item(1)));
        member.give(permit(2));
        let mut context = Context::from_waker(Waker::noop());
        let mut given = Pin::new(&mut given);
        assert!(given.as_mut().poll_next(&mut context).is_pending(), "others have their turn");
        let Poll::Ready(Some(Ok(second))) = given.poll_next(&mut context) else { panic!("it waits") };
        assert_eq!((second.heard.len(), second.permits.len()), (1, 1));
    }
}
