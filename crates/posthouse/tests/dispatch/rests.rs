//! A next hop that answers nobody is left alone for a while, and what waits for it goes when it is back.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use testkit::{Moment, Move, Peer, Session, wait};

use super::{SHORT, send, setup, words};

/// A peer that closes each connection before its greeting, until it is told to answer.
fn away_at_first() -> (Peer, Arc<AtomicBool>) {
    let is_back = Arc::new(AtomicBool::new(false));
    let back = is_back.clone();
    let peer = Peer::start(move |moment| match moment {
        Moment::Connected if !back.load(Ordering::SeqCst) => Move::Break,
        _ => Move::Go,
    });
    (peer, is_back)
}

#[test]
fn what_waits_for_a_host_that_is_away_is_not_attempted_one_by_one_and_goes_when_it_is_back() {
    let (peer, is_back) = away_at_first();
    let node = setup(&peer, "[delivery]\nconnections = 2\nretry = [\"2s\"]\n").start();
    send(&node, (0..200).map(|n| format!("u{n}@example.net")));
    wait::until("the first attempts", || {
        node.log().iter().any(|record| record["what"] == "deferred").then_some(())
    });
    let tried = peer.connections();
    assert!(tried <= 10, "{tried} connections for 200 messages");
    is_back.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let _ = peer.wait_for(200);
    assert!(began.elapsed() < Duration::from_secs(20));
    let log = node.quiet();
    let deferred = log.iter().filter(|record| record["what"] == "deferred").count();
    assert!(deferred <= 100, "{deferred} attempts were deferred");
    assert_eq!(log.iter().filter(|record| record["what"] == "delivered").count(), 200);
}

#[test]
fn what_grows_too_old_while_its_host_rests_expires_though_nobody_tries_it() {
    // Nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Peer::willing();
    let address = free.local_addr().unwrap();
    drop(free);
    let table = format!(
        "[delivery]\nretry = [\"1h\"]\nexpire = \"3s\"\nconnections = 1\n[[delivery.route]]\ndomain = \"*\"\nnext-hop = \"{address}\"\n"
    );
    let node = setup(&peer, &table).start();
    send(&node, (0..50).map(|n| format!("u{n}@example.net")));
    for n in [0, 49] {
        let records = wait::until("its end", || {
            let records: Vec<_> = node
                .log()
                .into_iter()
                .filter(|record| record["recipient"] == format!("u{n}@example.net"))
                .collect();
            records.iter().any(|record| record["what"] == "expired").then_some(records)
        });
        let expected = if n == 0 { 3 } else { 2 };
        assert_eq!(records.len(), expected, "{:?}", words(&records));
    }
}

#[test]
fn the_sender_of_what_waits_for_long_is_told_once() {
    let (peer, _back) = away_at_first();
    let reports = Peer::willing();
    let table = format!(
        "[delivery]\nretry = [\"1s\"]\ndelay-warning = \"2s\"\n[[delivery.route]]\ndomain = \"example.com\"\nnext-hop = \"{}\"\n",
        reports.address()
    );
    let node = setup(&peer, &table).start();
    send(&node, ["u@example.net".to_owned()]);
    let report = reports.wait_for(1).remove(0);
    let text = String::from_utf8(report.text).unwrap();
    assert!(text.contains("\r\nSubject: Delayed mail: still being tried\r\n"), "{text}");
    assert!(text.contains("\r\nAction: delayed\r\n") && text.contains("\r\nWill-Retry-Until: "), "{text}");
    assert_eq!((report.sender.as_str(), report.recipients), ("", vec!["a@example.com".to_owned()]));
    // Two attempts later there is no other.
    let tried =
        |node: &testkit::Node| node.log().iter().filter(|record| record["what"] == "deferred").count();
    let before = tried(&node);
    wait::until("more attempts", || (tried(&node) >= before + 2).then_some(()));
    assert_eq!(reports.count(), 1);
}

#[test]
fn a_scheduled_message_is_late_only_long_after_its_time() {
    let peer = Peer::start(|moment| match moment {
        Moment::Recipient(_) => Move::Say("450 4.2.0 later".into()),
        _ => Move::Go,
    });
    let reports = Peer::willing();
    let table = format!(
        "[delivery]\nretry = [\"1s\"]\ndelay-warning = \"2s\"\n[[delivery.route]]\ndomain = \"example.com\"\nnext-hop = \"{}\"\n",
        reports.address()
    );
    let node = setup(&peer, &table).start();
    let mut session = Session::open(node.smtp());
    session.say("EHLO client.example.com");
    let began = Instant::now();
    assert_eq!(session.say("MAIL FROM:<a@example.com> HOLDFOR=3").code, 250);
    assert_eq!(session.say("RCPT TO:<u@example.net>").code, 250);
    assert_eq!(session.data(SHORT).code, 250);
    let report = reports.wait_for(1).remove(0);
    assert!(String::from_utf8_lossy(&report.text).contains("\r\nAction: delayed\r\n"));
    assert!(report.read.duration_since(began) >= Duration::from_millis(4900), "three seconds and two");
}
