//! A worker over real sockets: what it does when its manager, its certificate or its link is not as it should be.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use queue::{QueueError, files::SimulatedDisk};
use store::settings::NodeState;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::{
    home::{DAY, Home, Keeps, LONGEST, StandsStill, linked, publication, queue_on, until},
    membership::{Liveness, Timing},
    wire::BodyWanted,
};

/// Short, where it is waited for.
const SOON: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_node_has_so_many_streams_of_a_kind_and_one_more_is_refused_with_the_reason() {
    let home = Home::new(Timing::default()).await;
    let worker = home.worker("mx2");
    home.run(&worker, &home.shutdown).await;
    let beats = async || {
        // However many connections it makes.
        let mut client = streams::client(worker.0.dial().await.expect("it is let in"));
        let (beats, to_send) = mpsc::channel::<wire::Beat>(1);
        let answers = client.heartbeat(worker.0.request(ReceiverStream::new(to_send))).await;
        answers.map(|answers| (client, beats, answers))
    };
    // The link has one.
    let mut open = vec![beats().await, beats().await, beats().await];
    assert!(open.iter().all(Result::is_ok), "{open:?}");
    let refused = beats().await.expect_err("there are four");
    let said = (refused.code(), refused.message());
    assert_eq!(said, (tonic::Code::ResourceExhausted, "this node has 4 streams of this kind"));
    open.pop();
    let another = async {
        while beats().await.is_err() {
            tokio::time::sleep(SOON / 20).await;
        }
    };
    tokio::time::timeout(20 * SOON, another).await.expect("one has gone");
}

#[tokio::test]
async fn a_link_beats_on_a_connection_of_its_own_and_brings_what_is_large_on_another() {
    let home = Home::new(Timing::default()).await;
    let worker = home.worker("mx2");
    home.run(&worker, &home.shutdown).await;
    let key = worker.0.identity.public_key();
    let connections = || home.manager.connections(&key);
    until("the link has come up", || connections() == 2).await;
    worker.publisher().publish(vec![message(1, wire::INLINE as u64, &home)]).await.expect("it is taken");
    assert_eq!(connections(), 2, "it went along");
    worker.publisher().publish(vec![message(2, LONGEST.0, &home)]).await.expect("it is taken");
    assert_eq!(connections(), 3);
}

#[tokio::test]
async fn more_things_than_any_node_says_at_once_are_refused_with_the_reason() {
    let home = Home::new(Timing::default()).await;
    let worker = home.worker("mx2");
    home.run(&worker, &home.shutdown).await;
    let mut client = streams::client(worker.0.dial().await.expect("it is let in"));
    let mut says = async |count, helo: &str| {
        let refusal = wire::Refusal { helo: helo.into(), ..wire::Refusal::default() };
        let refusals = wire::Refusals { refusals: vec![refusal; count] };
        client.records(worker.0.request(tokio_stream::once(refusals))).await.map(drop)
    };
    says(10_000, "").await.expect("so many are taken");
    for (count, helo, why) in [(10_001, "", "10001 things"), (2100, &*"x".repeat(1000), "too large")] {
        let refused = says(count, helo).await.expect_err("it is too much");
        assert_eq!(refused.code(), tonic::Code::OutOfRange);
        assert!(refused.message().contains(why), "{refused}");
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_for_the_manager_is_refused_and_the_link_goes_on() {
    let home = Home::new(Timing::default()).await;
    let worker = home.worker("mx2");
    home.run(&worker, &home.shutdown).await;
    let (publisher, before) = (worker.publisher(), worker.links());
    let publish = async |number: u8, len: u64| publisher.publish(vec![message(number, len, &home)]).await;
    for number in 1..=20 {
        let error = publish(number, 8 * LONGEST.0).await.expect_err("it is too large");
        assert!(matches!(error, QueueError::TooLarge(_)), "{error}");
    }
    publish(21, LONGEST.0).await.expect("it is as long as any may be");
    assert_eq!((worker.links(), worker.waiting()), (before, 0));
}

#[tokio::test]
async fn a_node_that_is_removed_waits_for_no_answer_until_it_is_added_again() {
    let home = Home::new(Timing::default()).await;
    let worker = home.worker("mx2");
    home.run(&worker, &home.shutdown).await;
    let publisher = worker.publisher();
    publisher.publish(vec![message(1, 100, &home)]).await.expect("it is taken");
    assert!(publisher.takes().is_ok());
    assert!(home.manager.set_state("mx2", NodeState::Removed, "").expect("it can be noted"));
    until("it knows", || matches!(worker.state().link, Link::Refused { .. })).await;
    let why = worker.out_of_reach().expect("it is refused").to_string();
    assert!(why.ends_with("the manager has removed this node"), "{why}");
    assert!(matches!(publisher.takes(), Err(QueueError::Away)));
    let published = publisher.publish(vec![message(2, 100, &home)]);
    let answer = tokio::time::timeout(SOON, published).await.expect("at once");
    assert!(matches!(answer, Err(QueueError::Away)), "{answer:?}");
    home.manager.add_key("mx2", &worker.0.identity.public_key()).expect("it was removed");
    linked(&worker).await;
    assert!(publisher.takes().is_ok());
    publisher.publish(vec![message(3, 100, &home)]).await.expect("it is taken");
}

#[tokio::test]
async fn what_got_no_answer_in_time_is_cancelled_once_the_manager_is_back() {
    let queue = queue::Queue::new(Arc::new(queue::Memory::new(Clock::system(), Duration::ZERO)));
    let home = Home::with(Timing::default(), queue.clone(), Arc::new(Keeps::default())).await;
    let worker = home.worker("mx2");
    let off = home.shutdown.child();
    home.run(&worker, &off).await;
    let publisher = worker.publisher();
    for number in 1..=3 {
        publisher.publish(vec![message(number, 100, &home)]).await.expect("it is taken");
    }
    let withdraw = |number| worker.0.offers.lock().withdraw(base::MessageId::from_bytes([number; 16]));
    withdraw(1);
    until("it is cancelled", || queue.stats().works == 2).await;
    off.stop();
    until("there is no link", || !home.manager.nodes()[0].linked).await;
    withdraw(2);
    assert_eq!(queue.stats().works, 2);
    home.run(&worker, &home.shutdown).await;
    until("it is cancelled", || queue.stats().works == 1).await;
}

#[tokio::test]
async fn a_node_that_has_too_many_connections_loses_its_oldest() {
    let home = Home::new(Timing::default()).await;
    let worker = home.worker("mx2");
    let mut clients = Vec::new();
    for _ in 0..9 {
        clients.push(streams::client(worker.0.dial().await.expect("it is let in")));
    }
    let mut answers = Vec::new();
    for client in &mut clients {
        answers.push(client.body(BodyWanted::default()).await.expect_err("there was no hello").code());
    }
    assert_ne!(answers[0], tonic::Code::FailedPrecondition, "its connection is over");
    assert!(answers[1..].iter().all(|code| *code == tonic::Code::FailedPrecondition), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_whose_work_stands_still_beats_and_is_suspect_nevertheless() {
    let timing = Timing {
        heartbeat: Duration::from_millis(100),
        suspect: Duration::from_millis(500),
        gone: Duration::from_secs(60),
        lease: Duration::from_secs(50),
        steady: Duration::from_millis(200),
        ..Timing::default()
    };
    let home = Home::new(timing).await;
    let worker = home.worker("mx2");
    home.run(&worker, &home.shutdown).await;
    let liveness = || home.manager.nodes()[0].liveness;
    assert_eq!(liveness(), Some(Liveness::Alive));
    let (shared, (go_on, still)) = (worker.0.clone(), std::sync::mpsc::channel::<()>());
    std::thread::spawn(move || {
        let _desk = shared.desk.lock();
        let _ = still.recv();
    });
    until("it is suspect", || matches!(liveness(), Some(Liveness::Suspect { .. }))).await;
    let beats = worker.0.beats.load(Ordering::Relaxed);
    until("it beats on", || worker.0.beats.load(Ordering::Relaxed) > beats + 1).await;
    assert!(matches!(liveness(), Some(Liveness::Suspect { .. })));
    drop(go_on);
    until("it is back", || liveness() == Some(Liveness::Alive)).await;
}

/// A message with a body that is so long.
fn message(number: u8, len: u64, home: &Home) -> queue::Publication {
    let body = vec![7; usize::try_from(len).expect("it is not long")];
    publication(number, home.clock.clock().now(), queue::Body::Memory(body.into()))
}

/// Beats come soon, and bring the manager's time.
fn quick() -> Timing {
    Timing { heartbeat: Duration::from_millis(100), ..Timing::default() }
}

/// When a worker's certificate ends.
fn ends(worker: &Worker) -> base::Timestamp {
    worker.0.certificate.lock().as_ref().expect("it has one").certificate.not_after
}

#[tokio::test]
async fn a_certificate_near_its_end_is_renewed_while_the_link_goes_on() {
    let home = Home::new(quick()).await;
    let worker = home.worker("mx2");
    home.run(&worker, &home.shutdown).await;
    let (first, link) = (ends(&worker), worker.links());
    home.clock.advance(3 * DAY);
    until("it knows the time", || worker.clock().now() + 4 * DAY >= first).await;
    assert_eq!(ends(&worker), first, "half of its life is not over");
    home.clock.advance(3 * DAY);
    until("a new certificate", || ends(&worker) > first + 5 * DAY).await;
    // The first one is over.
    home.clock.advance(2 * DAY);
    let second = ends(&worker);
    worker.0.dial().await.expect("it is let in");
    assert_eq!((ends(&worker), worker.links()), (second, link));
}

#[tokio::test]
async fn a_node_that_was_off_for_longer_than_its_certificate_is_taken_back() {
    let home = Home::new(quick()).await;
    let worker = home.worker("mx2");
    let off = home.shutdown.child();
    home.run(&worker, &off).await;
    let first = ends(&worker);
    off.stop();
    let is_linked = || home.manager.nodes()[0].linked;
    until("it is off", || !is_linked()).await;
    home.clock.advance(7 * DAY + DAY / 24);
    home.run(&worker, &home.shutdown).await;
    until("it is back", is_linked).await;
    assert!(ends(&worker) > first + 7 * DAY);
}

#[tokio::test]
async fn the_manager_renews_its_own_certificate() {
    let home = Home::new(quick()).await;
    let worker = home.worker("mx2");
    let shows = async || {
        let stream = TcpStream::connect(home.address).await.expect("it listens");
        let stream = worker.0.tls.connect(stream, crate::tls::Credential::SelfSigned, 20 * SOON).await;
        let stream = stream.expect("it is let in");
        stream.get_ref().1.peer_certificates().expect("it has shown one")[0].clone()
    };
    let first = shows().await;
    assert_eq!(shows().await, first);
    home.clock.advance(6 * DAY);
    let renewed = async {
        while shows().await == first {
            tokio::time::sleep(SOON / 10).await;
        }
    };
    tokio::time::timeout(20 * SOON, renewed).await.expect("it is renewed");
}

/// Why a worker is away, as soon as it is.
async fn away(worker: &Worker) -> Arc<str> {
    let mut changes = worker.changes();
    let is_away = changes.wait_for(|state| matches!(&state.link, Link::Away { why, .. } if !why.is_empty()));
    let state = tokio::time::timeout(20 * SOON, is_away).await.expect("it is away").expect("it is there");
    let Link::Away { why, .. } = &state.link else { panic!("it is away") };
    why.clone()
}

#[tokio::test]
async fn a_node_says_in_plain_words_that_it_was_cut_off() {
    let home = Home::new(Timing::default()).await;
    let worker = home.worker("mx2");
    home.run(&worker, &home.shutdown).await;
    home.manager.set_state("mx2", NodeState::Removed, "").expect("it is there");
    let why = away(&worker).await;
    // It depends on what comes first: the end of its streams, or that of a connection.
    let says = |words: &str| why.starts_with(&format!("the link broke: the manager{words}"));
    assert!(says(", or the network, has ended it") || says(" closed the connection"), "{why}");
}

#[tokio::test]
async fn a_node_that_is_not_known_says_how_to_let_it_in() {
    let home = Home::new(Timing::default()).await;
    let (worker, key) = home.stranger("mx2");
    let dialled = worker.0.dial().await.map(drop);
    let why = dialled.expect_err("it is not registered").to_string();
    let command = format!("`posthouse nodes add-key '{key}' --name NAME` lets it in");
    assert!(why.contains(&command), "{why}");
}

/// Messages that are published there, from this number on, and their bodies.
fn published(
    publisher: &Publisher,
    numbers: std::ops::Range<u8>,
    len: usize,
) -> (Vec<impl Future<Output = Result<Vec<queue::Published>, QueueError>> + use<>>, Vec<Bytes>) {
    let body = |number| Bytes::from(vec![number; len]);
    let publish = |number| {
        let body: Bytes = body(number);
        let message = publication(number, base::Timestamp::default(), queue::Body::Memory(body.clone()));
        (publisher.publish(vec![message]), body)
    };
    numbers.map(publish).unzip()
}

/// How many of these are kept by anybody else.
fn kept(bodies: &[Bytes]) -> usize {
    bodies.iter().filter(|body| !body.is_unique()).count()
}

/// Everybody has a turn, and some more.
async fn turns() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_given_up_takes_no_memory_though_the_manager_takes_nothing() {
    let home = Home::new(Timing::default()).await;
    let worker = home.worker_with("mx2", |options| options.cache_bytes = 0);
    let to_offer = worker.0.offers.lock().linked();
    let large = Arc::new(bodies::Bodies::new(worker.0.clone()));
    let (offers, mut untaken) = mpsc::channel(1);
    tokio::spawn(async move { streams::offer_all(&to_offer, &offers, &large).await });
    // One piece waits to be taken, and one behind it.
    let most = 2 * wire::AT_ONCE_BYTES.div_ceil(60_000);
    for on_the_way in [most, 0, 0] {
        let (waiting, bodies) = published(&worker.publisher(), 0..200, 60_000);
        until("so much is said", || worker.0.offers.lock().known() == on_the_way).await;
        assert_eq!((kept(&bodies), worker.waiting()), (200, 200));
        drop(waiting);
        assert_eq!((kept(&bodies), worker.waiting()), (on_the_way, 0));
    }
    untaken.recv().await.expect("it was said");
}

#[tokio::test]
async fn a_large_message_is_brought_once_at_a_time_whatever_becomes_of_its_link_and_until_it_is_given_up() {
    let home = Home::new(Timing::default()).await;
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = silent.local_addr().expect("it has one").to_string();
    let worker = home.worker_with("mx2", |options| (options.manager, options.cache_bytes) = (address, 0));
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    turns().await;
    let before = tasks();
    let (waiting, bodies) = published(&worker.publisher(), 0..20, wire::INLINE + 1);
    for _ in 0..3 {
        let to_offer = worker.0.offers.lock().linked();
        let large = Arc::new(bodies::Bodies::new(worker.0.clone()));
        let link = async move {
            let (offers, _untaken) = mpsc::channel(1);
            streams::offer_all(&to_offer, &offers, &large).await;
        };
        let link = tokio::spawn(link);
        until("all are being brought", || tasks() >= before + 21).await;
        turns().await;
        assert_eq!(tasks(), before + 21, "one for each message, and the link");
        link.abort();
        worker.0.offers.lock().unlinked();
        turns().await;
        assert_eq!((tasks(), worker.waiting()), (before, 20));
    }
    worker.0.offers.lock().linked();
    drop(waiting);
    turns().await;
    assert_eq!((tasks(), kept(&bodies)), (before, 0));
}

#[tokio::test]
async fn senders_are_turned_away_while_the_managers_disk_stands_still_and_let_in_when_it_goes_on() {
    let disk = SimulatedDisk::default();
    let queue = queue_on(&disk);
    let home = Home::with(quick(), queue.clone(), Arc::new(Keeps::default())).await;
    let hold = 2 * SOON;
    let worker = home.worker_with("mx2", |options| (options.hold, options.cache_bytes) = (hold, 0));
    home.run(&worker, &home.shutdown).await;
    let (publisher, links) = (worker.publisher(), worker.links());
    let let_in = || publisher.takes().is_ok();
    publisher.publish(vec![message(1, 100, &home)]).await.expect("it is taken");
    let still = StandsStill::from_now_on(&disk);
    let (small, mut bodies) = published(&publisher, 2..12, 1000);
    let (large, more) = published(&publisher, 12..32, 100_000);
    bodies.extend(more);
    let answers: Vec<_> = small.into_iter().chain(large).map(tokio::spawn).collect();
    assert!(let_in(), "replies can still be held");
    until("no more is let in", || !let_in()).await;
    assert!(matches!(worker.out_of_reach(), Some(OutOfReach::Unanswered { .. })));
    assert_eq!(worker.waiting(), answers.len(), "nobody has been told to come again yet");
    for answer in answers {
        let answer = answer.await.expect("it ends");
        assert!(matches!(answer, Err(QueueError::Away)), "{answer:?}");
    }
    until("nothing of it is kept", || kept(&bodies) == 0).await;
    // The link is as it was, and the next ones are let in to see whether they are answered.
    assert_eq!((let_in(), worker.links()), (true, links));
    drop(still);
    publisher.publish(vec![message(32, 100, &home)]).await.expect("it is taken");
    until("all is withdrawn", || queue.stats().works == 2).await;
}

#[tokio::test]
async fn what_waits_is_taken_by_a_manager_that_comes_back_with_another_time() {
    let home = Home::new(Timing::default()).await;
    let worker = home.worker("mx2");
    let off = home.shutdown.child();
    home.run(&worker, &off).await;
    off.stop();
    until("there is no link", || !home.manager.nodes()[0].linked).await;
    let lens = [100, LONGEST.0];
    let waiting = [0, 1].map(|number: u8| {
        worker.publisher().publish(vec![message(number, lens[usize::from(number)], &home)])
    });
    home.clock.advance(DAY / 24);
    home.run(&worker, &home.shutdown).await;
    for published in waiting {
        published.await.expect("it is taken");
    }
}

/// A way to a manager, and the connections that come while it is blocked.
async fn way(to: SocketAddr) -> (String, Arc<AtomicBool>, mpsc::UnboundedReceiver<TcpStream>) {
    let way = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = way.local_addr().expect("it has one").to_string();
    let is_blocked = Arc::new(AtomicBool::new(false));
    let (stuck, all) = mpsc::unbounded_channel();
    let blocked = is_blocked.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = way.accept().await {
            if blocked.load(Ordering::SeqCst) {
                let _ = stuck.send(near);
                continue;
            }
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    (address, is_blocked, all)
}

#[tokio::test]
async fn what_is_wanted_of_a_node_is_heard_while_its_certificate_is_being_renewed() {
    let home = Home::new(quick()).await;
    let (address, is_blocked, mut stuck) = way(home.address).await;
    let worker = home.worker_with("mx2", |options| options.manager = address);
    home.run(&worker, &home.shutdown).await;
    is_blocked.store(true, Ordering::SeqCst);
    worker.0.certificate.lock().as_mut().expect("it has one").renew = base::Timestamp::default();
    let renewal = tokio::time::timeout(20 * SOON, stuck.recv()).await.expect("it is time").expect("it comes");
    assert!(home.manager.set_state("mx2", NodeState::Cordoned, "").expect("it can be noted"));
    until("it has heard", || worker.state().wanted == wanted::State::Cordoned).await;
    // It still waits for its certificate.
    let mut said = [0; 4096];
    let more = loop {
        match renewal.try_read(&mut said) {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error.kind()),
        }
    };
    assert_eq!(more, Err(std::io::ErrorKind::WouldBlock));
}
