use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::{
    home::{Home, until},
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
    let beats = worker.0.beats.load(std::sync::atomic::Ordering::Relaxed);
    until("it beats on", || worker.0.beats.load(std::sync::atomic::Ordering::Relaxed) > beats + 1).await;
    assert!(matches!(liveness(), Some(Liveness::Suspect { .. })));
    drop(go_on);
    until("it is back", || liveness() == Some(Liveness::Alive)).await;
}
