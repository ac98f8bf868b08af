//! Other nodes that hold works, are lost and come back.

use std::time::Duration;

use base::{Clock, Timestamp};

use super::{ME, OTHER, arrival, conclusion, done, lease, message, no_arrival, work};
use crate::{Boot, Change, Concluded, End, Holder, Kind, Leased, Publication, Queue, Reason, Recipients};

async fn leased_elsewhere(queue: &Queue) -> Leased {
    let arrival = arrival(queue).await;
    lease(queue, Holder::Node(OTHER), &arrival).await.expect("nobody holds it")
}

/// A test of [`Queue::take_back`] and of epochs.
pub async fn what_is_taken_back_goes_to_others_and_a_late_word_overwrites_nothing(queue: Queue) {
    let publication = Publication { works: vec![work("example.com", 2)], ..message("") };
    queue.publish(vec![publication]).await.expect("it is published");
    let late = leased_elsewhere(&queue).await;
    assert_eq!(queue.boots(), [(OTHER, 1)]);
    queue.take_back(Boot(3), Timestamp::default());
    no_arrival(&queue);
    queue.take_back(OTHER, Timestamp::default());
    assert_eq!(queue.boots(), []);
    let again = arrival(&queue).await;
    assert_eq!(again.reason, Reason::HolderGone);
    let mine = lease(&queue, ME, &again).await.expect("it was taken back");
    // The late holder has delivered to the first recipient and says that the second failed.
    let word = conclusion(vec![(End::Done, Recipients::only(0)), (End::Failed, Recipients::only(1))]);
    assert_eq!(late.lease.conclude(word).expect("it is heard"), Concluded::Late);
    queue.settled().await.expect("the disk works");
    let (committing, remaining) = mine.lease.commit().await.expect("the new lease runs");
    assert_eq!(remaining, Recipients::only(1), "the running attempt learns what is done");
    committing.conclude(done()).expect("it is concluded");
    queue.settled().await.expect("the disk works");
    assert_eq!(queue.stats().recipients, 0);
    let counts = counts(queue, 2).await;
    let (first, second) = (Recipients::only(0), Recipients::only(1));
    assert_eq!(counts[0].among(Recipients::first(2)), first);
    assert_eq!(counts[1].among(Recipients::first(2)), second, "what is recorded of it is not the late word");
}

/// For whom each of the first `number` conclusions counts.
async fn counts(queue: Queue, number: usize) -> Vec<Recipients> {
    let read = tokio::task::spawn_blocking(move || {
        let mut feed = queue.feed(crate::Position::default()).expect("a new reader");
        let mut counts = Vec::new();
        while counts.len() < number {
            let (tales, _) = feed.next(1, 100, Duration::from_secs(10)).expect("it can be read");
            assert!(!tales.is_empty(), "only {counts:?} came");
            counts.extend(tales.into_iter().filter_map(|tale| match tale.told {
                crate::Told::Concluded { only, .. } => Some(only.unwrap_or(Recipients::first(128))),
                _ => None,
            }));
        }
        counts
    });
    read.await.expect("no panic")
}

/// A test of [`Queue::take_back`]: whoever speaks second, each recipient has one end.
pub async fn a_late_word_and_the_running_attempt_never_end_the_same_recipient_both(queue: Queue) {
    let (first, second) = (Recipients::only(0), Recipients::only(1));
    let publication = Publication { works: vec![work("example.com", 3)], ..message("") };
    queue.publish(vec![publication]).await.expect("it is published");
    let late = leased_elsewhere(&queue).await;
    queue.take_back(OTHER, Timestamp::default());
    let later = leased_elsewhere(&queue).await;
    queue.take_back(OTHER, Timestamp::default());
    let mine = lease(&queue, ME, &arrival(&queue).await).await.expect("it was taken back");
    let (committing, remaining) = mine.lease.commit().await.expect("the new lease runs");
    assert_eq!(remaining, Recipients::first(3));
    // One late word comes while the attempt is past its commit, the other perhaps before the attempt's end is stored.
    let word = conclusion(vec![(End::Done, first)]);
    assert_eq!(late.lease.conclude(word).expect("it is heard"), Concluded::Late);
    let word = conclusion(vec![(End::Done, first.with(second))]);
    assert_eq!(committing.conclude(word).expect("it is heard"), Concluded::Applied);
    let word = conclusion(vec![(End::Done, first.with(second))]);
    assert_eq!(later.lease.conclude(word).expect("it is heard"), Concluded::Ignored);
    queue.settled().await.expect("the disk works");
    assert_eq!(queue.stats().recipients, 1);
    let last = lease(&queue, ME, &arrival(&queue).await).await.expect("it waits");
    assert_eq!(last.info.remaining, Recipients::only(2));
    last.lease.conclude(done()).expect("it is concluded");
    queue.settled().await.expect("the disk works");
    let all = Recipients::first(3);
    let counts: Vec<Recipients> =
        counts(queue, 3).await.into_iter().map(|counts| counts.among(all)).collect();
    assert_eq!(counts, [first, all.without(first), Recipients::only(2)]);
}

/// A test of [`Queue::take_back`]: nobody else is given the work before the late word is stored.
pub async fn a_late_word_is_not_forgotten_when_the_running_attempt_gives_back(queue: Queue) {
    let publication = Publication { works: vec![work("example.com", 2)], ..message("") };
    queue.publish(vec![publication]).await.expect("it is published");
    let late = leased_elsewhere(&queue).await;
    queue.take_back(OTHER, Timestamp::default());
    let mine = lease(&queue, ME, &arrival(&queue).await).await.expect("it was taken back");
    let word = || conclusion(vec![(End::Done, Recipients::only(0))]);
    assert_eq!(late.lease.conclude(word()).expect("it is heard"), Concluded::Late);
    drop(mine);
    let mut arrivals = Vec::new();
    loop {
        queue.take_arrivals(Kind::Mail, 100, &mut arrivals);
        let Some(arrival) = arrivals.pop() else {
            tokio::task::yield_now().await;
            continue;
        };
        let Some(leased) = lease(&queue, ME, &arrival).await else { continue };
        assert_eq!(leased.info.remaining, Recipients::only(1));
        leased.lease.conclude(done()).expect("it is concluded");
        break;
    }
    queue.settled().await.expect("the disk works");
    assert_eq!(queue.stats().recipients, 0);
}

/// A test of [`Queue::cancel`]: whom a late word has ended is not cancelled as well.
pub async fn a_cancel_leaves_out_whom_a_late_word_has_ended(queue: Queue) {
    let publication = Publication { works: vec![work("example.com", 2)], ..message("") };
    queue.publish(vec![publication]).await.expect("it is published");
    let late = leased_elsewhere(&queue).await;
    queue.take_back(OTHER, Timestamp::default());
    let mine = lease(&queue, ME, &arrival(&queue).await).await.expect("it was taken back");
    let word = conclusion(vec![(End::Done, Recipients::only(0))]);
    assert_eq!(late.lease.conclude(word).expect("it is heard"), Concluded::Late);
    let at = Clock::system().now();
    assert_eq!(queue.cancel(vec![mine.info.work], at).await.expect("it is cancelled"), 1);
    assert!(mine.lease.commit().await.is_err());
    queue.settled().await.expect("the disk works");
    assert_eq!(queue.stats().recipients, 0);
    let cancelled = tokio::task::spawn_blocking(move || {
        let mut feed = queue.feed(crate::Position::default()).expect("a new reader");
        loop {
            let (tales, _) = feed.next(1, 100, Duration::from_secs(10)).expect("it can be read");
            assert!(!tales.is_empty(), "nothing was cancelled");
            let cancelled = tales.into_iter().find_map(|tale| match tale.told {
                crate::Told::Cancelled { remaining, .. } => Some(remaining),
                _ => None,
            });
            if let Some(cancelled) = cancelled {
                return cancelled;
            }
        }
    });
    assert_eq!(cancelled.await.expect("no panic"), Recipients::only(1));
}

/// A test of [`Queue::take_back`].
pub async fn what_a_lost_node_has_committed_waits_until_its_time(queue: Queue) {
    queue.publish(vec![message("example.com")]).await.expect("it is published");
    let leased = leased_elsewhere(&queue).await;
    let committed = leased.lease.commit().await;
    assert!(committed.is_ok());
    no_arrival(&queue);
    let until = Clock::system().now() + Duration::from_secs(900);
    queue.take_back(OTHER, until);
    let again = arrival(&queue).await;
    assert_eq!(again.reason, Reason::PossiblyDone, "it was past the point of no return");
    assert_eq!(again.not_before, until);
    let leased = lease(&queue, Holder::Node(OTHER), &again).await.expect("nobody holds it");
    queue.take_back(OTHER, until);
    let again = arrival(&queue).await;
    assert_eq!(again.reason, Reason::PossiblyDone, "whoever had it since did nothing");
    drop(leased);
    // Without an end of its own the wait ends when the work is too old, or by hand.
    let lost = queue.info(again.work).expect("it waits");
    assert_eq!(lost.lost_by, Some(OTHER));
    let leased = lease(&queue, Holder::Node(OTHER), &again).await.expect("nobody holds it");
    let committed = leased.lease.commit().await;
    assert!(committed.is_ok());
    queue.take_back(OTHER, Timestamp::from_micros(i64::MAX));
    assert_eq!(arrival(&queue).await.not_before, lost.expires);
    let now = Clock::system().now();
    assert_eq!(queue.change(vec![lost.work], Change::Reschedule(now)).await.expect("it is written"), 1);
    let again = arrival(&queue).await;
    assert_eq!((again.not_before, again.reason), (now, Reason::PossiblyDone), "it may have been done still");
    lease(&queue, ME, &again)
        .await
        .expect("nobody holds it")
        .lease
        .conclude(done())
        .expect("it is concluded");
    queue.settled().await.expect("the disk works");
    assert_eq!(queue.stats().works, 0);
}

/// A test of [`Queue::resume`].
pub async fn a_node_that_comes_back_leaves_alone_what_has_its_lease(queue: Queue) {
    queue.publish(vec![message("example.com")]).await.expect("it is published");
    let leased = leased_elsewhere(&queue).await;
    let (work, epoch) = (leased.info.work, leased.lease.epoch());
    assert!(queue.resume(OTHER, vec![(work, epoch)], &[]).await.is_empty());
    assert!(queue.resume(OTHER, Vec::new(), &[]).await.is_empty());
    no_arrival(&queue);
    leased.lease.conclude(done()).expect("it is concluded");
    queue.settled().await.expect("the disk works");
    assert_eq!(queue.stats().works, 0);
}
