//! What every provider of the queue must do, as tests. A provider is stamped with them by
//! [`conformance!`](crate::conformance!).

mod nodes;

use std::{sync::Arc, time::Duration};

use base::{Clock, MessageId, Timestamp, WorkId};
use bytes::Bytes;

use crate::{
    Arrival, Body, Boot, Change, Concluded, Conclusion, Cursor, End, Holder, Kind, Leased, NewWork,
    Publication, Published, Queue, QueueError, Reason, Recipients, Repeat, Rest, Status, Ticket,
};

pub use nodes::*;

/// Stamps a provider with the suite: `conformance!(name, || async { queue })`.
#[macro_export]
macro_rules! conformance {
    ($provider:ident, $make:expr) => {
        mod $provider {
            $crate::conformance!(@tests $make;
                what_is_published_arrives_and_can_be_attempted,
                a_repeat_is_known_before_and_after_the_end,
                repeats_at_the_same_time_are_stored_once,
                a_dropped_lease_gives_the_work_back,
                a_dropped_committing_lease_makes_the_outcome_unknown,
                a_conclusion_with_a_rest_comes_back_with_its_words,
                the_age_of_what_was_scheduled_counts_from_its_time,
                a_follow_up_arrives_with_the_conclusion,
                a_lease_is_given_once_and_for_the_latest_arrival_only,
                what_is_taken_back_goes_to_others_and_a_late_word_overwrites_nothing,
                a_late_word_and_the_running_attempt_never_end_the_same_recipient_both,
                a_cancel_leaves_out_whom_a_late_word_has_ended,
                what_a_lost_node_has_committed_waits_until_its_time,
                a_late_word_is_not_forgotten_when_the_running_attempt_gives_back,
                a_node_that_comes_back_leaves_alone_what_has_its_lease,
                held_works_wait_until_they_are_released,
                a_cancelled_work_cannot_be_committed,
                a_cancel_spares_what_is_past_the_point_of_no_return,
                limits_are_kept,
                a_walk_shows_each_work_once_with_all_there_is_to_know,
                a_ticket_is_current_until_its_work_arrives_anew,
                a_priority_is_changed_and_nothing_else,
                many_works_are_changed_at_once,
                works_are_found_by_their_message,
                a_body_comes_back_as_it_was_written,
                the_feed_tells_everything_once_and_in_order,
                a_closed_queue_takes_nothing,
            );
        }
    };
    (@tests $make:expr; $($name:ident,)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let (queue, _keep) = ($make)();
            $crate::conformance::$name(queue).await;
        })*
    };
}

const ME: Holder = Holder::Here;
const OTHER: Boot = Boot(2);

/// A message with one work of one recipient.
#[must_use]
pub fn message(lane: &str) -> Publication {
    let now = Clock::system().now();
    Publication {
        message: MessageId::generate(now),
        kind: Kind::Mail,
        at: now,
        header: Bytes::from_static(b"header"),
        body: Body::Memory(Bytes::from_static(b"body")),
        works: vec![work(lane, 1)],
        repeat: Repeat::Never,
    }
}

/// A work for so many recipients.
#[must_use]
pub fn work(lane: &str, recipients: u8) -> NewWork {
    NewWork {
        lane: lane.into(),
        account: "someone".into(),
        priority: 5,
        not_before: Timestamp::default(),
        expires: Clock::system().now() + Duration::from_secs(3600),
        recipients,
        needs: Vec::new(),
        detail: Bytes::from_static(b"detail"),
    }
}

/// A conclusion that ends `ends` so and retries the rest at once.
#[must_use]
pub fn conclusion(ends: Vec<(End, Recipients)>) -> Conclusion {
    Conclusion {
        at: Clock::system().now(),
        ends,
        rest: Rest::Retry { not_before: Timestamp::default(), reason: Reason::Deferred },
        state: Bytes::from_static(b"state"),
        record: Bytes::from_static(b"record"),
        follow_ups: Vec::new(),
    }
}

/// Everything done.
#[must_use]
pub fn done() -> Conclusion {
    conclusion(vec![(End::Done, Recipients::first(128))])
}

/// The next arrival; fails after a while.
pub async fn arrival(queue: &Queue) -> Arrival {
    let mut arrivals = Vec::new();
    let wait = async {
        while arrivals.is_empty() {
            queue.take_arrivals(Kind::Mail, 1, &mut arrivals);
            if arrivals.is_empty() {
                queue.arrived(Kind::Mail).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("something arrives");
    arrivals.remove(0)
}

/// Leases an arrival.
pub async fn lease(queue: &Queue, holder: Holder, arrival: &Arrival) -> Option<Leased> {
    queue.lease(holder, vec![arrival.ticket]).await.pop()
}

/// All works of mail that wait, as a walk in small steps finds them.
#[must_use]
pub fn all(queue: &Queue) -> Vec<WorkId> {
    let mut works = Vec::new();
    let mut from = Some(Cursor::default());
    while let Some(cursor) = from {
        from = queue.walk(Kind::Mail, cursor, 7, &mut |seen| works.push(seen.work));
    }
    works
}

async fn published(queue: &Queue, lane: &str) -> (WorkId, Leased) {
    let publication = message(lane);
    let work = WorkId { message: publication.message, index: 0 };
    assert_eq!(queue.publish(vec![publication]).await.expect("it is published"), [Published::Stored]);
    let arrival = arrival(queue).await;
    assert_eq!(arrival.work, work);
    (work, lease(queue, ME, &arrival).await.expect("nobody holds it"))
}

fn no_arrival(queue: &Queue) {
    let mut arrivals = Vec::new();
    queue.take_arrivals(Kind::Mail, 10, &mut arrivals);
    assert!(arrivals.is_empty(), "{arrivals:?}");
}

/// Tests of [`Queue::publish`] and [`Queue::lease`].
pub async fn what_is_published_arrives_and_can_be_attempted(queue: Queue) {
    let mut publication = message("example.com");
    publication.works = vec![work("example.com", 3), work("example.net", 1)];
    queue.publish(vec![publication.clone()]).await.expect("it is published");
    assert_eq!((queue.stats().works, queue.stats().recipients), (2, 4));
    let first = arrival(&queue).await;
    assert_eq!((first.work.index, &*first.lane, first.reason), (0, "example.com", Reason::New));
    let leased = lease(&queue, ME, &first).await.expect("nobody holds it");
    assert_eq!(leased.words.header, "header");
    assert_eq!(leased.words.detail, "detail");
    assert_eq!(leased.words.state, "");
    assert_eq!(leased.info.remaining, Recipients::first(3));
    let (committing, remaining) = leased.lease.commit().await.expect("the lease runs");
    assert_eq!(remaining, Recipients::first(3));
    assert_eq!(committing.conclude(done()).expect("it is concluded"), Concluded::Applied);
    queue.settled().await.expect("the disk works");
    assert_eq!((queue.stats().works, queue.stats().recipients, queue.stats().leased), (1, 1, 0));
    assert!(queue.info(first.work).is_none());
    let second = arrival(&queue).await;
    assert_eq!((second.work.index, &*second.lane), (1, "example.net"));
}

/// A test of [`Repeat::Possible`].
pub async fn a_repeat_is_known_before_and_after_the_end(queue: Queue) {
    let publication = Publication { repeat: Repeat::Possible, ..message("example.com") };
    assert_eq!(queue.publish(vec![publication.clone()]).await.expect("stored"), [Published::Stored]);
    assert_eq!(queue.publish(vec![publication.clone()]).await.expect("known"), [Published::AlreadyHave]);
    let arrival = arrival(&queue).await;
    lease(&queue, ME, &arrival)
        .await
        .expect("nobody holds it")
        .lease
        .conclude(done())
        .expect("it is concluded");
    queue.settled().await.expect("the disk works");
    assert_eq!(queue.publish(vec![publication]).await.expect("known"), [Published::AlreadyHave]);
    assert_eq!(queue.stats().works, 0);
}

/// A test of [`Repeat::Possible`].
pub async fn repeats_at_the_same_time_are_stored_once(queue: Queue) {
    let publication = Publication { repeat: Repeat::Possible, ..message("example.com") };
    let both = (0..16).map(|_| tokio::spawn(queue.publish(vec![publication.clone()]))).collect::<Vec<_>>();
    let mut stored = 0;
    for one in both {
        let answer = one.await.expect("no panic").expect("it is published or known");
        stored += usize::from(answer == [Published::Stored]);
    }
    assert_eq!(stored, 1);
    assert_eq!(queue.stats().works, 1);
}

/// A test of [`crate::Lease`].
pub async fn a_dropped_lease_gives_the_work_back(queue: Queue) {
    let (work, leased) = published(&queue, "example.com").await;
    no_arrival(&queue);
    drop(leased);
    let again = arrival(&queue).await;
    assert_eq!((again.work, again.reason, again.attempts), (work, Reason::GivenBack, 0));
    assert!(lease(&queue, Holder::Node(OTHER), &again).await.is_some());
}

/// A test of [`crate::Committing`].
pub async fn a_dropped_committing_lease_makes_the_outcome_unknown(queue: Queue) {
    let (work, leased) = published(&queue, "example.com").await;
    let (committing, _) = leased.lease.commit().await.expect("the lease runs");
    drop(committing);
    let again = arrival(&queue).await;
    assert_eq!((again.work, again.reason), (work, Reason::PossiblyDone));
    assert!(again.not_before > Clock::system().now(), "it waits for a word of its holder first");
}

/// A test of [`Conclusion`].
pub async fn a_conclusion_with_a_rest_comes_back_with_its_words(queue: Queue) {
    let publication = Publication { works: vec![work("example.com", 3)], ..message("") };
    queue.publish(vec![publication]).await.expect("it is published");
    let first = arrival(&queue).await;
    let leased = lease(&queue, ME, &first).await.expect("nobody holds it");
    let ended = Recipients::only(1);
    leased.lease.conclude(conclusion(vec![(End::Failed, ended)])).expect("it is concluded");
    let again = arrival(&queue).await;
    assert_eq!((again.work, again.reason, again.attempts), (first.work, Reason::Deferred, 1));
    let leased = lease(&queue, ME, &again).await.expect("nobody holds it");
    assert_eq!(leased.words.state, "state");
    assert_eq!(leased.words.detail, "detail");
    assert_eq!(leased.info.remaining, Recipients::first(3).without(ended));
    leased.lease.conclude(done()).expect("it is concluded");
    queue.settled().await.expect("the disk works");
    assert_eq!(queue.stats().recipients, 0);
}

/// A test of [`Arrival::first_due`].
pub async fn the_age_of_what_was_scheduled_counts_from_its_time(queue: Queue) {
    let taken_in = Clock::system().now();
    let later = taken_in + Duration::from_secs(3600);
    let scheduled = NewWork { not_before: later, ..work("example.com", 1) };
    let publication = Publication { at: taken_in, works: vec![scheduled], ..message("") };
    queue.publish(vec![publication]).await.expect("it is published");
    let first = arrival(&queue).await;
    assert_eq!((first.first_due, first.reason), (later, Reason::Scheduled));
    let leased = lease(&queue, ME, &first).await.expect("nobody holds it");
    leased.lease.conclude(conclusion(Vec::new())).expect("it is concluded");
    assert_eq!(arrival(&queue).await.first_due, later, "whatever comes after");
    let at_once = Publication { at: taken_in, ..message("example.com") };
    queue.publish(vec![at_once]).await.expect("it is published");
    assert_eq!(arrival(&queue).await.first_due, taken_in);
}

/// A test of [`Conclusion::follow_ups`].
pub async fn a_follow_up_arrives_with_the_conclusion(queue: Queue) {
    let (work, leased) = published(&queue, "example.com").await;
    let report = message("sender.example");
    let id = report.message;
    let failed = conclusion(vec![(End::Failed, Recipients::first(1))]);
    leased.lease.conclude(Conclusion { follow_ups: vec![report], ..failed }).expect("it is concluded");
    let next = arrival(&queue).await;
    assert_eq!((next.work.message, &*next.lane), (id, "sender.example"));
    assert!(queue.info(work).is_none(), "the report came before the end that caused it");
}

/// A test of [`Queue::lease`].
pub async fn a_lease_is_given_once_and_for_the_latest_arrival_only(queue: Queue) {
    queue.publish(vec![message("example.com")]).await.expect("it is published");
    let first = arrival(&queue).await;
    let leased = lease(&queue, ME, &first).await.expect("nobody holds it");
    assert!(lease(&queue, Holder::Node(OTHER), &first).await.is_none(), "somebody holds it");
    drop(leased);
    assert!(lease(&queue, Holder::Node(OTHER), &first).await.is_none(), "it has arrived anew");
    let again = arrival(&queue).await;
    assert!(lease(&queue, Holder::Node(OTHER), &again).await.is_some());
}

/// A test of [`Queue::change`].
pub async fn held_works_wait_until_they_are_released(queue: Queue) {
    queue.publish(vec![message("example.com")]).await.expect("it is published");
    let first = arrival(&queue).await;
    assert_eq!(queue.change(vec![first.work], Change::Hold).await.expect("it is held"), 1);
    assert_eq!(queue.info(first.work).expect("it waits").status, Status::Held);
    assert!(lease(&queue, ME, &first).await.is_none());
    no_arrival(&queue);
    let at = Clock::system().now() + Duration::from_secs(5);
    assert_eq!(queue.change(vec![first.work], Change::Reschedule(at)).await.expect("it waits"), 1);
    let again = arrival(&queue).await;
    assert_eq!((again.not_before, again.reason), (at, Reason::ByHand));
    let held = lease(&queue, ME, &again).await;
    assert!(held.is_some());
    assert_eq!(queue.change(vec![first.work], Change::Hold).await.expect("it is attempted"), 0);
}

/// A test of [`Queue::cancel`].
pub async fn a_cancelled_work_cannot_be_committed(queue: Queue) {
    let (work, leased) = published(&queue, "example.com").await;
    assert_eq!(queue.cancel(vec![work], Clock::system().now()).await.expect("it is cancelled"), 1);
    assert!(leased.lease.commit().await.is_err());
    assert_eq!(queue.stats().works, 0);
    assert_eq!(queue.cancel(vec![work], Clock::system().now()).await.expect("nothing is left"), 0);
}

/// A test of [`Queue::cancel`].
pub async fn a_cancel_spares_what_is_past_the_point_of_no_return(queue: Queue) {
    let (work, leased) = published(&queue, "example.com").await;
    let (committing, _) = leased.lease.commit().await.expect("the lease runs");
    assert_eq!(queue.cancel(vec![work], Clock::system().now()).await.expect("it is heard"), 0);
    assert_eq!(committing.conclude(done()).expect("it is concluded"), Concluded::Applied);
}

/// A test of the limits.
pub async fn limits_are_kept(queue: Queue) {
    let refused = |publication| {
        let publishing = queue.publish(vec![publication]);
        async { assert!(matches!(publishing.await, Err(QueueError::TooLarge(_)))) }
    };
    refused(Publication { works: Vec::new(), ..message("") }).await;
    refused(Publication { works: vec![work("", 0)], ..message("") }).await;
    refused(Publication { works: vec![work("", 129)], ..message("") }).await;
    refused(Publication { header: vec![0; crate::MAX_HEADER + 1].into(), ..message("") }).await;
    let long: Arc<str> = "n".repeat(crate::MAX_NAME + 1).into();
    let needs = |needs| NewWork { needs, ..work("a", 1) };
    refused(Publication { works: vec![work(&long, 1)], ..message("") }).await;
    refused(Publication { works: vec![NewWork { account: long.clone(), ..work("a", 1) }], ..message("") })
        .await;
    refused(Publication { works: vec![needs(vec![long])], ..message("") }).await;
    refused(Publication { works: vec![needs(vec!["n".into(); crate::MAX_NEEDS + 1])], ..message("") }).await;
    assert_eq!(queue.stats().works, 0);
}

/// A test of [`Queue::walk`].
pub async fn a_walk_shows_each_work_once_with_all_there_is_to_know(queue: Queue) {
    let mut expected = Vec::new();
    for n in 0..20 {
        let mut two = message("");
        two.works = vec![work("example.com", 1), work("example.net", 100)];
        expected.extend((0..2).map(|index| WorkId { message: two.message, index }));
        if n % 5 == 4 {
            let gone = expected.remove(expected.len() - 7);
            assert_eq!(queue.cancel(vec![gone], two.at).await.expect("it is cancelled"), 1);
        }
        queue.publish(vec![two]).await.expect("it is published");
    }
    let mut found = all(&queue);
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let first = arrival(&queue).await;
    let leased = lease(&queue, ME, &first).await.expect("nobody holds it");
    let mut seen = None;
    assert_eq!(queue.walk(Kind::Run, Cursor::default(), 4096, &mut |_| panic!("there is none")), None);
    let end = queue.walk(Kind::Mail, Cursor::default(), 4096, &mut |work| {
        if work.work == first.work {
            let lease = work.lease;
            seen =
                Some((work.ticket, work.lane.clone(), work.account.clone(), work.remaining.count(), lease));
            assert_eq!((work.size, work.priority), (first.size, first.priority));
            assert_eq!(work.first_due, first.first_due);
            assert_eq!((work.not_before, work.expires), (first.not_before, first.expires));
            assert_eq!((work.status, work.reason, work.attempts), (Status::Waiting, Reason::New, 0));
        }
    });
    assert_eq!(end, None);
    let (ticket, lane, account, left, epoch) = seen.expect("it waits");
    assert_eq!((ticket, &*lane, &*account), (first.ticket, &*first.lane, "someone"));
    assert_eq!((left, epoch), (leased.info.remaining.count(), Some(leased.lease.epoch())));
    assert!(first.size >= 4 + 6, "the body and the header count");
}

/// A test of [`Queue::is_current`] and [`Queue::retain_current`].
pub async fn a_ticket_is_current_until_its_work_arrives_anew(queue: Queue) {
    queue.publish(vec![message("example.com"), message("example.net")]).await.expect("they are published");
    let (first, second) = (arrival(&queue).await, arrival(&queue).await);
    let leased = lease(&queue, ME, &first).await.expect("nobody holds it");
    assert!(queue.is_current(first.ticket), "who holds it may give it back");
    drop(leased);
    let again = arrival(&queue).await;
    assert_eq!(again.work, first.work);
    let mut tickets = vec![(1, first.ticket), (2, second.ticket), (3, again.ticket), (4, Ticket(u64::MAX))];
    queue.retain_current(&mut tickets, |(_, ticket)| *ticket);
    assert_eq!(tickets, [(2, second.ticket), (3, again.ticket)]);
    queue.change(vec![second.work], Change::Hold).await.expect("it is held");
    queue.cancel(vec![first.work], Clock::system().now()).await.expect("it is cancelled");
    assert!(!queue.is_current(second.ticket) && !queue.is_current(again.ticket));
    // Whatever takes the place of what ended has tickets of its own.
    queue.publish(vec![message("example.com")]).await.expect("it is published");
    let third = arrival(&queue).await;
    assert!(queue.is_current(third.ticket) && !queue.is_current(again.ticket));
    assert!(queue.lease(ME, vec![again.ticket, second.ticket]).await.is_empty());
}

/// A test of [`Change::Prioritise`].
pub async fn a_priority_is_changed_and_nothing_else(queue: Queue) {
    let (work, leased) = published(&queue, "example.com").await;
    leased.lease.conclude(conclusion(Vec::new())).expect("it is concluded");
    let before = arrival(&queue).await;
    assert_eq!(queue.change(vec![work], Change::Prioritise(9)).await.expect("it is changed"), 1);
    let after = arrival(&queue).await;
    assert_eq!((after.work, after.priority, after.reason), (work, 9, Reason::Deferred));
    assert_eq!((after.not_before, after.attempts), (before.not_before, 1));
    let leased = lease(&queue, ME, &after).await.expect("nobody holds it");
    assert_eq!(leased.words.state, "state");
    drop(leased);
    queue.change(vec![work], Change::Hold).await.expect("it is held");
    queue.change(vec![work], Change::Prioritise(1)).await.expect("it is changed");
    let info = queue.info(work).expect("it waits");
    assert_eq!((info.priority, info.status), (1, Status::Held));
}

/// A test of [`Queue::change`]: what does not fit into one record is split.
pub async fn many_works_are_changed_at_once(queue: Queue) {
    let mut works = Vec::new();
    for _ in 0..24 {
        let (work, leased) = published(&queue, "example.com").await;
        let word = Conclusion { state: vec![7; crate::MAX_HEADER].into(), ..conclusion(Vec::new()) };
        leased.lease.conclude(word).expect("it is concluded");
        let deferred = arrival(&queue).await;
        assert_eq!(deferred.reason, Reason::Deferred);
        works.push(work);
    }
    assert_eq!(queue.change(works.clone(), Change::Hold).await.expect("they are held"), works.len());
    for work in works {
        assert_eq!(queue.info(work).expect("it waits").status, Status::Held);
        let words = queue.words(work).await.expect("it can be read").expect("it waits");
        assert_eq!(words.state.len(), crate::MAX_HEADER);
    }
}

/// A test of [`Queue::works_of`].
pub async fn works_are_found_by_their_message(queue: Queue) {
    let mut two = message("");
    two.works = vec![work("example.com", 1), work("example.net", 1)];
    let id = two.message;
    queue.publish(vec![two, message("example.com")]).await.expect("they are published");
    let [first, second] = [0, 1].map(|index| WorkId { message: id, index });
    assert_eq!(queue.works_of(id), [first, second]);
    let words = queue.words(second).await.expect("it can be read").expect("it waits");
    assert_eq!(words.detail, "detail");
    queue.cancel(vec![first], Clock::system().now()).await.expect("it is cancelled");
    assert_eq!(queue.works_of(id), [second]);
    assert!(queue.works_of(MessageId::generate(Timestamp::default())).is_empty());
}

/// A test of [`Queue::body`].
pub async fn a_body_comes_back_as_it_was_written(queue: Queue) {
    for size in [0, 1, 70_000, 3_000_000] {
        let bytes: Vec<u8> = (0..size).map(|n: u32| n.to_le_bytes()[1]).collect();
        let mut publication = message("example.com");
        let mut body = queue.body(publication.message, 0);
        for chunk in bytes.chunks(40_000) {
            body.write(chunk).await.expect("there is room");
        }
        publication.body = body.finish().await.expect("there is room");
        assert_eq!(publication.body.size(), bytes.len() as u64);
        queue.publish(vec![publication]).await.expect("it is published");
        let arrival = arrival(&queue).await;
        let leased = lease(&queue, ME, &arrival).await.expect("nobody holds it");
        assert_eq!(read(&leased.body).await.expect("it is whole"), bytes);
        leased.lease.conclude(done()).expect("it is concluded");
    }
}

/// Reads a whole body.
///
/// # Errors
/// If it is damaged.
pub async fn read(body: &crate::BodySource) -> Result<Vec<u8>, QueueError> {
    let mut reader = body.read();
    let mut all = Vec::new();
    loop {
        match reader.next().await? {
            crate::Chunk::More(bytes) => all.extend_from_slice(&bytes),
            crate::Chunk::Last(bytes) => {
                all.extend_from_slice(&bytes);
                return Ok(all);
            }
        }
    }
}

/// A test of [`Queue::feed`].
pub async fn the_feed_tells_everything_once_and_in_order(queue: Queue) {
    let (first, leased) = published(&queue, "example.com").await;
    leased.lease.conclude(done()).expect("it is concluded");
    let (second, leased) = published(&queue, "example.com").await;
    drop(leased);
    queue.cancel(vec![second], Clock::system().now()).await.expect("it is cancelled");
    let (third, leased) = published(&queue, "example.com").await;
    drop(leased);
    queue.withdraw(vec![third], Clock::system().now()).await.expect("it is cancelled");
    let told = tokio::task::spawn_blocking(move || {
        let mut feed = queue.feed(crate::Position::default()).expect("a new reader");
        let mut told = Vec::new();
        let mut sequence = 0;
        while told.len() < 6 {
            let (tales, position) = feed.next(1, 100, Duration::from_secs(10)).expect("it can be read");
            assert!(!tales.is_empty(), "only {told:?} came");
            assert!(position.sequence >= tales.last().expect("one").sequence);
            for tale in tales {
                assert!(tale.sequence >= sequence);
                sequence = tale.sequence;
                told.push(match tale.told {
                    crate::Told::Published { message, works, .. } => {
                        assert_eq!(works.len(), 1);
                        ("published", message)
                    }
                    crate::Told::Concluded { work, record, .. } => {
                        assert_eq!(record, "record");
                        ("concluded", work.message)
                    }
                    crate::Told::Cancelled { work, remaining, why, .. } => {
                        assert_eq!(remaining, Recipients::first(1));
                        (why.name(), work.message)
                    }
                });
            }
            feed.confirm(position);
        }
        told
    });
    let told = told.await.expect("no panic");
    let expected = [
        ("published", first.message),
        ("concluded", first.message),
        ("published", second.message),
        ("by-hand", second.message),
        ("published", third.message),
        ("withdrawn", third.message),
    ];
    assert_eq!(told, expected);
}

/// A test of [`Queue::close`].
pub async fn a_closed_queue_takes_nothing(queue: Queue) {
    let (_, leased) = published(&queue, "example.com").await;
    queue.close().await.expect("the disk works");
    assert!(matches!(queue.publish(vec![message("")]).await, Err(QueueError::Closed)));
    assert!(matches!(leased.lease.conclude(done()), Err(QueueError::Closed)));
}

/// The queue of a provider, with what must live as long.
#[must_use]
pub fn queue_of<P: crate::Provider>(provider: Arc<P>) -> Queue {
    Queue::new(provider)
}
