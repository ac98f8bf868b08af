//! Rates and connections of a destination are kept, and shared out fairly.

use std::{net::Ipv4Addr, time::Duration};

use testkit::{Moment, Move, Peer, Session, Taken, wait};

use super::{SHORT, send, setup};

const ONE_A_SECOND: &str = r#"
[[delivery.destination]]
domain = "slow.example"
messages-per-minute = 60
"#;

/// The time between the first and the last of these.
fn took(taken: &[Taken]) -> Duration {
    let first = taken.iter().map(|taken| taken.read).min().expect("there is one");
    taken.iter().map(|taken| taken.read).max().expect("there is one").duration_since(first)
}

#[test]
fn a_rate_is_kept_and_another_destination_does_not_wait_for_it() {
    let peer = Peer::willing();
    let node = setup(&peer, ONE_A_SECOND).start();
    send(&node, (0..4).map(|n| format!("u{n}@slow.example")).chain(["v@quick.example".to_owned()]));
    let all = peer.wait_for(5);
    assert_ne!(all[4].recipients, ["v@quick.example"], "it did not wait for all others");
    let slow: Vec<Taken> = all.into_iter().filter(|taken| taken.recipients != ["v@quick.example"]).collect();
    // One at once, and three more at one a second.
    assert!(took(&slow) >= Duration::from_millis(2900), "{:?}", took(&slow));
}

#[test]
fn another_sender_s_message_takes_the_next_slot() {
    let peer = Peer::willing();
    let node = setup(&peer, ONE_A_SECOND).start();
    send(&node, (0..100).map(|n| format!("bulk{n}@slow.example")));
    // Another address of this machine is another account.
    let mut session = Session::open_from(Ipv4Addr::new(127, 0, 0, 2), node.smtp());
    session.envelope("b@example.org", &["one@slow.example"]);
    assert_eq!(session.data(SHORT).code, 250);
    let before = peer.count();
    let at = wait::until("the other sender's message", || {
        peer.taken().iter().position(|taken| taken.recipients == ["one@slow.example"])
    });
    // One may have been on its way.
    assert!(at <= before + 1, "{at} went before it, {before} when it was accepted");
}

#[test]
fn a_connection_carries_no_more_messages_than_it_may() {
    let peer = Peer::willing();
    let table = r#"
        [[delivery.destination]]
        domain = "*.example"
        messages-per-connection = 3
        connections = 1
    "#;
    let node = setup(&peer, table).start();
    send(&node, (0..9).map(|n| format!("u{n}@slow.example")));
    let _ = peer.wait_for(9);
    assert!(peer.connections() >= 3, "{} connections", peer.connections());
}

#[test]
fn no_more_connections_are_open_at_once_than_may_be() {
    let peer = Peer::start(|moment| {
        if let Moment::Dot(_) = moment {
            wait::pass(Duration::from_millis(50));
        }
        Move::Go
    });
    let table = r#"
        [[delivery.destination]]
        domain = "slow.example"
        connections = 2
    "#;
    let node = setup(&peer, table).start();
    send(&node, (0..60).map(|n| format!("u{n}@slow.example")));
    let _ = peer.wait_for(60);
    assert_eq!(peer.connections(), 2);
}

#[test]
fn a_connection_that_is_kept_no_more_was_none_for_the_next_minute() {
    let peer = Peer::willing();
    let table = r#"
        [[delivery.destination]]
        domain = "slow.example"
        connects-per-minute = 1
    "#;
    let node = setup(&peer, table).start();
    for number in 0..2 {
        send(&node, [format!("u{number}@slow.example")]);
        let _ = peer.wait_for(number + 1);
    }
    // It is kept for five seconds.
    wait::pass(Duration::from_millis(6500));
    send(&node, ["late@slow.example".to_owned()]);
    wait::pass(Duration::from_secs(2));
    assert_eq!((peer.connections(), peer.count()), (1, 2));
}

#[test]
fn a_connection_that_has_carried_all_it_may_has_ended_when_the_next_begins() {
    let peer = Peer::willing();
    let table = r#"
        [[delivery.destination]]
        domain = "*.example"
        messages-per-connection = 3
        connections = 2
    "#;
    let node = setup(&peer, table).start();
    send(&node, (0..60).map(|n| format!("u{n}@slow.example")));
    let _ = peer.wait_for(60);
    assert_eq!(peer.most_connections(), 2);
}

#[test]
fn what_cannot_be_is_refused_with_the_line() {
    let peer = Peer::willing();
    for (table, said) in [
        ("[[delivery.destination]]\nconnections = 2\n", "a destination needs a name"),
        ("[[delivery.destination]]\ndomain = \"a.example\"\nmessages-per-minut = 5\n", "did you mean"),
        ("[[delivery.destination]]\ndomain = \"a.example\"\nconnections = 0\n", "from 1 to 500"),
        ("[[delivery.destination]]\ndomain = \"a.example\"\nmx = \"b.example\"\n", "not by both"),
    ] {
        let ran = setup(&peer, table).fail();
        assert!(ran.stderr.contains(said), "{table}: {}", ran.stderr);
    }
}
