//! A worker over real sockets: what it does when its manager, its certificate or its link is not as it should be.

use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::{
    home::{DAY, Home, until},
    membership::{Liveness, Timing},
    wire::BodyWanted,
};

/// Short, where it is waited for.
const SOON: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_connection_has_so_many_streams_and_the_next_one_waits() {
    let home = Home::new(Timing::default()).await;
    let worker = home.worker("mx2");
    home.run(&worker, &home.shutdown).await;
    let mut client = streams::client(worker.0.dial().await.expect("it is let in"));
    let mut open = Vec::new();
    let mut next = loop {
        let (beats, to_send) = mpsc::channel::<wire::Beat>(1);
        let (mut client, request) = (client.clone(), worker.0.request(ReceiverStream::new(to_send)));
        let mut asked = Box::pin(async move { client.heartbeat(request).await });
        match tokio::time::timeout(SOON, &mut asked).await {
            Ok(answers) => open.push((beats, answers.expect("it is linked"))),
            Err(_) => break asked,
        }
    };
    assert_eq!(open.len(), 64);
    open.pop();
    next.as_mut().await.expect("another has gone");
    // It is not the connection that is slow.
    drop(open);
    client.body(BodyWanted::default()).await.expect_err("of what?");
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
    let (first, link) = (ends(&worker), worker.0.links.load(Ordering::Relaxed));
    home.clock.advance(3 * DAY);
    until("it knows the time", || worker.clock().now() + 4 * DAY >= first).await;
    assert_eq!(ends(&worker), first, "half of its life is not over");
    home.clock.advance(3 * DAY);
    until("a new certificate", || ends(&worker) > first + 5 * DAY).await;
    // The first one is over.
    home.clock.advance(2 * DAY);
    let second = ends(&worker);
    worker.0.dial().await.expect("it is let in");
    assert_eq!((ends(&worker), worker.0.links.load(Ordering::Relaxed)), (second, link));
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
        let stream = tokio::net::TcpStream::connect(home.address).await.expect("it listens");
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
