//! A manager over real sockets: what it bears of nodes, and what it says to them.

use std::sync::atomic::{AtomicUsize, Ordering};

use base::Timestamp;
use bytes::Bytes;
use queue::{
    Concluded, Conclusion, Kind, Rest,
    files::{Call, SimulatedDisk},
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Status, metadata::MetadataValue};

use super::{
    bounds::UNSYNCED, control::Welcomed, incarnations::OLDER, listen::Caller, serve::Service,
    waiting::IN_HAND, *,
};
use crate::{
    home::{Home, Keeps, LONGEST, StandsStill, publication, queue_on, until},
    wire::{
        Answer, CHUNK, Done, Hello, MOST_SAID, OLDEST_PROTOCOL, Offer, PROTOCOL, Piece, answer::Verdict,
        link_client::LinkClient, link_server::LinkServer,
    },
};

mod bring;
mod hellos;

/// Long, where it must not matter.
const PATIENCE: Duration = Duration::from_secs(20);
/// Short, where it is waited for.
const SOON: Duration = Duration::from_millis(50);

fn member() -> Arc<Member> {
    let (node, key) = (NodeIndex(1), PublicKey::from_bytes([0; 32]));
    Member::new(
        node,
        key,
        Boot(1),
        "mx2",
        member::Facts::default(),
        Load::new(node, 0, 0),
        Default::default(),
    )
}

/// A message that is said to have so long a body comes in these pieces.
async fn brought(
    home: &Home,
    size: u64,
    pieces: impl Stream<Item = Result<Piece, Status>> + Unpin,
    patience: Duration,
) -> Answer {
    let first = Piece { offer: Some(offer(home, 7)), bytes: Bytes::new(), size };
    home.manager.0.take_large(&member(), first, pieces, patience).await.expect("it runs")
}

/// A message with one recipient, without its body.
fn offer(home: &Home, number: u8) -> Offer {
    let publication = publication(number, home.clock.clock().now(), queue::Body::Empty);
    Offer::of(&publication, &Bytes::new(), 0)
}

#[tokio::test]
async fn an_offer_for_whose_answer_nobody_waits_any_more_is_refused() {
    let home = Home::new(Timing::default()).await;
    let now = home.clock.clock().now();
    let until = |number, until: Timestamp| Offer { until_micros: until.micros(), ..offer(&home, number) };
    let offers = vec![until(1, now + SOON), until(2, now), until(3, now - SOON), offer(&home, 4)];
    let mut answers = home.manager.0.take_in(&member(), offers).await;
    answers.sort_by(|one, other| one.message.cmp(&other.message));
    let verdicts: Vec<Verdict> = answers.iter().map(Answer::verdict).collect();
    assert_eq!(verdicts, [Verdict::Stored, Verdict::Stored, Verdict::NotNow, Verdict::Stored]);
    assert_eq!(answers[2].text, "its sender waits for the answer no more");
    let late = Some(Offer { until_micros: (now - SOON).micros(), ..offer(&home, 5) });
    let first = Piece { offer: late, bytes: Bytes::new(), size: 100 };
    let pieces = tokio_stream::iter([piece(100)]);
    let answer = home.manager.0.take_large(&member(), first, pieces, PATIENCE).await.expect("it runs");
    assert_eq!(answer.verdict(), Verdict::NotNow);
    assert_eq!(home.manager.0.queue.stats().works, 3);
}

#[tokio::test]
async fn what_is_withdrawn_goes_out_no_more_and_is_not_taken_afterwards() {
    let home = Home::new(Timing::default()).await;
    let shared = &home.manager.0;
    let works = || shared.queue.stats().works;
    let taken = shared.take_in(&member(), vec![offer(&home, 1), offer(&home, 2)]).await;
    assert_eq!((taken.len(), works()), (2, 2));
    let messages: Vec<Bytes> = [1, 3].map(|number| offer(&home, number).message).into();
    shared.note_withdrawn(&messages);
    let answers = shared.withdraw(messages.clone()).await;
    assert!(answers.iter().all(|answer| answer.verdict() == Verdict::Withdrawn));
    assert!(answers.iter().map(|answer| &answer.message).eq(&messages));
    assert_eq!(works(), 1);
    let late = shared.take_in(&member(), vec![offer(&home, 3)]).await;
    assert_eq!((late[0].verdict(), works()), (Verdict::NotNow, 1));
    // It is withdrawn while it is on its way to the disk.
    let published = shared.queue.publish(vec![offer(&home, 3).publication().expect("it is one")]).await;
    assert!(published.is_ok() && works() == 2);
    shared.cancel_if_withdrawn(&messages[1]).await;
    shared.cancel_if_withdrawn(&offer(&home, 2).message).await;
    assert_eq!(works(), 1);
}

#[tokio::test]
async fn nothing_is_answered_before_it_is_synced() {
    let disk = SimulatedDisk::default();
    let home = Home::with(Timing::default(), queue_on(&disk), Arc::new(Keeps::default())).await;
    let still = StandsStill::from_now_on(&disk);
    let before = disk.calls(Call::Write);
    let (offers, shared) = (vec![offer(&home, 1)], home.manager.0.clone());
    let answers = tokio::spawn(async move { shared.take_in(&member(), offers).await });
    while disk.calls(Call::Write) == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // All is done that can be.
    tokio::time::sleep(SOON).await;
    assert!(!answers.is_finished(), "a loss of power would take it");
    drop(still);
    assert_eq!(answers.await.expect("it runs")[0].verdict(), Verdict::Stored);
}

#[tokio::test]
async fn what_was_taken_in_and_comes_again_too_late_is_refused_and_goes_out_no_more() {
    let home = Home::new(Timing::default()).await;
    let shared = &home.manager.0;
    let taken = shared.take_in(&member(), vec![offer(&home, 1)]).await;
    assert_eq!((taken[0].verdict(), shared.queue.stats().works), (Verdict::Stored, 1));
    let past = home.clock.clock().now() - SOON;
    let late = Offer { until_micros: past.micros(), ..offer(&home, 1) };
    let again = shared.take_in(&member(), vec![late]).await;
    assert_eq!((again[0].verdict(), shared.queue.stats().works), (Verdict::NotNow, 0));
}

#[tokio::test]
async fn what_is_withdrawn_while_an_attempt_at_it_is_being_written_down_is_cancelled_then() {
    let disk = SimulatedDisk::default();
    let home = Home::with(Timing::default(), queue_on(&disk), Arc::new(Keeps::default())).await;
    let shared = &home.manager.0;
    shared.take_in(&member(), vec![offer(&home, 1)]).await;
    let mut arrivals = Vec::new();
    shared.queue.take_arrivals(Kind::Mail, 1, &mut arrivals);
    let leased = shared.queue.lease(Holder::Here, vec![arrivals[0].ticket]).await.remove(0);
    let still = StandsStill::from_now_on(&disk);
    let concluded = leased.lease.conclude(deferred(&home));
    assert_eq!(concluded.expect("it is heard"), Concluded::Applied);
    let messages = vec![offer(&home, 1).message];
    shared.note_withdrawn(&messages);
    let withdrawing = shared.withdraw(messages);
    tokio::pin!(withdrawing);
    let early = tokio::time::timeout(SOON, &mut withdrawing).await;
    assert!(early.is_err(), "it is not on the disk: {early:?}");
    drop(still);
    assert_eq!((withdrawing.await.len(), shared.queue.stats().works), (1, 0));
}

/// A next hop wants it later.
fn deferred(home: &Home) -> Conclusion {
    Conclusion {
        at: home.clock.clock().now(),
        ends: Vec::new(),
        rest: Rest::Retry { not_before: Timestamp::default(), reason: queue::Reason::Deferred },
        state: Bytes::new(),
        record: Bytes::new(),
        follow_ups: Vec::new(),
    }
}

#[tokio::test]
async fn what_is_withdrawn_behind_its_final_dot_is_not_sent_again() {
    let home = Home::new(Timing::default()).await;
    let shared = &home.manager.0;
    shared.take_in(&member(), vec![offer(&home, 1), offer(&home, 2)]).await;
    let mut arrivals = Vec::new();
    shared.queue.take_arrivals(Kind::Mail, 2, &mut arrivals);
    let tickets = arrivals.iter().map(|arrival| arrival.ticket).collect();
    let mut behind = Vec::new();
    for leased in shared.queue.lease(Holder::Here, tickets).await {
        behind.push(leased.lease.commit().await.expect("its lease runs").0);
    }
    let message = offer(&home, 1).message;
    shared.note_withdrawn(std::slice::from_ref(&message));
    shared.withdraw(vec![message]).await;
    assert_eq!(shared.queue.stats().works, 2, "they may be delivered");
    for committing in behind {
        let message = committing.work().message;
        let concluded = committing.conclude(deferred(&home));
        assert_eq!(concluded.expect("it is heard"), Concluded::Applied);
        home.manager.left_of(message);
    }
    let gone = async {
        while shared.queue.stats().works > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it is cancelled");
    shared.queue.settled().await.expect("the disk works");
    let left = wire::message(&offer(&home, 2).message).expect("it is one");
    assert_eq!(shared.queue.works_of(left).len(), 1);
}

fn piece(len: u64) -> Result<Piece, Status> {
    let len = usize::try_from(len).expect("it is short");
    Ok(Piece { bytes: vec![7; len].into(), ..Piece::default() })
}

#[tokio::test]
async fn a_large_message_that_stands_still_is_given_up_and_one_that_is_too_large_not_begun() {
    let home = Home::new(Timing::default()).await;
    let still = tokio_stream::iter([piece(100)]).chain(tokio_stream::pending());
    let answer = brought(&home, 200, still, SOON).await;
    assert_eq!((answer.verdict(), &*answer.text), (Verdict::NotNow, "nothing more came of it"));
    let answer = brought(&home, 2 * LONGEST.0, tokio_stream::pending(), PATIENCE).await;
    assert_eq!(answer.verdict(), Verdict::TooLarge, "{}", answer.text);
    // The trace of the door does not count.
    let longest = LONGEST.0 + 1000;
    let answer = brought(&home, longest, tokio_stream::iter([piece(longest)]), PATIENCE).await;
    assert_eq!(
        (answer.verdict(), &*answer.text),
        (Verdict::NotNow, "a piece of it has more than 262144 bytes")
    );
    let answer = brought(&home, longest, tokio_stream::iter(pieces(longest)), PATIENCE).await;
    assert_eq!(answer.verdict(), Verdict::Stored, "{}", answer.text);
}

/// A body that is so long, in pieces.
fn pieces(size: u64) -> Vec<Result<Piece, Status>> {
    let whole = CHUNK as u64;
    (0..size.div_ceil(whole)).map(|before| piece(whole.min(size - before * whole))).collect()
}

#[tokio::test]
async fn however_many_large_messages_are_begun_and_given_up_so_much_waits_for_the_disk() {
    // The one stays in memory, the other goes to a file, which is synced before it is published.
    for size in [LONGEST.0, LONGEST.0 + 1000] {
        let disk = SimulatedDisk::default();
        let home = Home::with(Timing::default(), queue_on(&disk), Arc::new(Keeps::default())).await;
        let (shared, member) = (&home.manager.0, member());
        let still = StandsStill::from_now_on(&disk);
        let whole = Arc::new(AtomicUsize::new(0));
        let bring = |number| {
            let first = Piece { offer: Some(offer(&home, number)), bytes: Bytes::new(), size };
            let (shared, member, whole) = (shared.clone(), member.clone(), whole.clone());
            let mut left = size;
            let rest = tokio_stream::iter(pieces(size)).map(move |piece| {
                left -= piece.as_ref().map_or(0, |piece| piece.bytes.len() as u64);
                whole.fetch_add(usize::from(left == 0), Ordering::SeqCst);
                piece
            });
            async move { shared.take_large(&member, first, rest, PATIENCE).await.expect("it runs").verdict() }
        };
        let read = || whole.load(Ordering::SeqCst);
        for round in 0..5 {
            let mut streams = tokio::task::JoinSet::new();
            (0..16).for_each(|number| drop(streams.spawn(bring(16 * round + number))));
            until("the first have come whole", || read() >= 16).await;
            let answered = tokio::time::timeout(SOON, streams.join_next()).await;
            assert!(answered.is_err(), "nothing can be synced");
            // What is left of them is reset.
        }
        let most = IN_HAND as u64 / LONGEST.0;
        assert!(read() as u64 <= most, "{} messages of {size} bytes wait", read());
        drop(still);
        assert_eq!(bring(100).await, Verdict::Stored, "there is room again");
        let all = tokio::time::timeout(PATIENCE, member.waiting.room(usize::MAX)).await;
        assert!(all.is_ok(), "all of it");
    }
}

#[tokio::test]
async fn a_large_message_that_is_given_up_on_its_way_to_the_disk_is_withdrawn_all_the_same() {
    let disk = SimulatedDisk::default();
    let home = Home::with(Timing::default(), queue_on(&disk), Arc::new(Keeps::default())).await;
    let shared = &home.manager.0;
    let still = StandsStill::from_now_on(&disk);
    let taken = brought(&home, 1000, tokio_stream::iter([piece(1000)]), PATIENCE);
    // The node has gone before it is answered.
    let taken = tokio::time::timeout(SOON, taken).await;
    assert!(taken.is_err(), "it cannot be synced: {taken:?}");
    let messages = vec![offer(&home, 7).message];
    shared.note_withdrawn(&messages);
    let withdrawing = shared.withdraw(messages);
    tokio::pin!(withdrawing);
    let early = tokio::time::timeout(SOON, &mut withdrawing).await;
    assert!(early.is_err(), "it is not cancelled before it is stored: {early:?}");
    drop(still);
    assert_eq!(withdrawing.await.len(), 1);
    let taken = shared.take_in(&member(), vec![offer(&home, 8)]).await;
    assert_eq!(taken[0].verdict(), Verdict::Stored);
    until("only the other is left", || shared.queue.stats().works == 1).await;
}

/// A node's key, registered, and a hello of its.
pub(super) fn registered(home: &Home) -> (PublicKey, Hello) {
    let key = PublicKey::from_bytes([9; 32]);
    home.manager.add_key("mx2", &key).expect("it is new");
    let hello = Hello {
        oldest: OLDEST_PROTOCOL,
        newest: PROTOCOL,
        boot: wire::boot_bytes(Boot(1)),
        node: vec![7; 16].into(),
        ..Hello::default()
    };
    (key, hello)
}

#[tokio::test]
async fn what_waits_of_a_node_is_bounded_over_all_its_boots() {
    let home = Home::new(Timing::default()).await;
    let (key, hello) = registered(&home);
    let comes = |boot| {
        let hello = Hello { boot: wire::boot_bytes(Boot(boot)), ..hello.clone() };
        home.manager
            .0
            .hello(Caller::of(key), &hello, mpsc::channel(1).0)
            .expect("it is let in")
            .member
            .waiting
            .clone()
    };
    let before = comes(1);
    let room = before.room(usize::MAX).await;
    (0..UNSYNCED).for_each(|_| before.said());
    let now = comes(2);
    assert!(tokio::time::timeout(SOON, now.room(1)).await.is_err(), "all the room is taken");
    assert!(tokio::time::timeout(SOON, now.may_be_heard()).await.is_err(), "so much waits");
    before.acknowledged();
    drop(room);
    drop(now.room(1).await);
    now.may_be_heard().await;
}

#[tokio::test]
async fn a_node_that_stops_and_starts_in_order_leaves_nothing_behind() {
    let home = Home::new(Timing::default()).await;
    let (key, hello) = registered(&home);
    for boot in 1..=2 * OLDER {
        let hello = Hello { boot: wire::boot_bytes(Boot(boot as u128)), ..hello.clone() };
        let Welcomed { member, begun, .. } = home
            .manager
            .0
            .hello(Caller::of(key), &hello, mpsc::channel(1).0)
            .expect("however often it comes");
        member.unlink(begun.number);
        home.manager.0.leave(&member);
    }
    assert_eq!(home.manager.0.members.lock().by_boot.len(), 1, "the last that was here");
}

#[test]
fn what_is_short_on_the_link_weighs_what_it_takes_in_memory() {
    let work = wire::NewWork { needs: vec![String::new(); 10], ..wire::NewWork::default() };
    let offer = Offer { works: vec![work; 100], body: vec![7; 1000].into(), ..Offer::default() };
    let takes = 100 * (size_of::<wire::NewWork>() + 10 * size_of::<String>()) + 1000;
    assert!((takes..2 * takes).contains(&intake::weight(&[offer], &[])));
}

#[tokio::test]
async fn an_errand_that_was_cleared_away_does_nothing_to_its_successor() {
    let home = Home::new(Timing::default()).await;
    let member = member();
    let open = || {
        let body = queue::BodySource::Memory(Bytes::new());
        let item = errands::Item { body, stage: errands::Stage::Given };
        let words = member.errands(|errands| errands.open(7, vec![item]));
        Errand { number: 7, member: member.clone(), shared: home.manager.0.clone(), words, _share: None }
    };
    let at = wire::Item { errand: 7, item: 0 };
    let asks = || member.errands(|errands| errands.asks(&at));
    let old = open();
    member.gone();
    let mut new = open();
    member.link(mpsc::channel(1).0, &[wire::Held { errand: 7, ..wire::Held::default() }]);
    let (link, _end) = member.open_stream().expect("there is a link");
    assert_eq!(asks(), errands::Say::Nothing);
    assert_eq!(new.next().await, Some(Word::Commit(0)));
    old.permit(0, Ok(queue::Recipients::first(1)));
    assert_eq!(asks(), errands::Say::Nothing, "it is the other that was asked");
    old.heard(0);
    drop(old);
    assert_eq!(asks(), errands::Say::Nothing, "it is there still");
    assert_eq!(member.take_given(link), wire::Given::default(), "the node hears nothing of that");
    new.permit(0, Ok(queue::Recipients::first(1)));
    assert_eq!(asks(), errands::Say::Permit(Some(queue::Recipients::first(1))));
    drop(new);
    let wire::Given { grants, permits, heard, over } = member.take_given(link);
    let whole = wire::Item { errand: 7, item: wire::WHOLE };
    assert_eq!((grants.len(), permits.len(), over, heard), (0, 1, vec![at], vec![whole]));
}

#[tokio::test]
async fn what_a_node_says_is_heard_later_while_too_much_of_it_is_not_synced() {
    let disk = SimulatedDisk::default();
    let queue = queue_on(&disk);
    let home = Home::with(Timing::default(), queue.clone(), Arc::new(Keeps::default())).await;
    let (key, hello) = registered(&home);
    home.manager.0.hello(Caller::of(key), &hello, mpsc::channel(1).0).map(drop).expect("it is let in");
    disk.hold_syncs();
    let _published = queue.publish(vec![publication(1, Timestamp::from_millis(1), queue::Body::Empty)]);
    let told = wire::Told { item: Some(wire::Item { errand: 7, item: 0 }), ..wire::Told::default() };
    let done = Done { told: vec![told; MOST_SAID], ..Done::default() };
    let (enough, taken) = (UNSYNCED / MOST_SAID, Arc::new(AtomicUsize::new(0)));
    let counts = taken.clone();
    let says = tokio_stream::iter(vec![done; 2 * enough]).chain(tokio_stream::pending());
    let mut says = Request::new(says.map(move |done| {
        counts.fetch_add(1, Ordering::SeqCst);
        done
    }));
    says.extensions_mut().insert(Caller::of(key));
    says.metadata_mut().insert_bin(BOOT, MetadataValue::from_bytes(&hello.boot));
    let mut client = LinkClient::new(LinkServer::new(Service(home.manager.0.clone())));
    let _given = client.work(says).await.expect("there is a link");
    let taken = || taken.load(Ordering::SeqCst);
    until("it is heard", || taken() >= enough).await;
    tokio::time::sleep(SOON).await;
    let before = taken();
    disk.release_syncs();
    assert!(before <= enough + 1, "{before} messages");
    until("all of it is heard", || taken() == 2 * enough).await;
}
