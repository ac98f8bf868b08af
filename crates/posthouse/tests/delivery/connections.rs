//! Where to, over which connections, in which order of commands.

use testkit::{Gate, Moment, Move, Peer};

use super::{SHORT, send, setup};

#[test]
fn the_most_specific_route_counts_and_the_smarthost_gets_the_rest() {
    let [exact, below, rest] = [(); 3].map(|()| Peer::willing());
    let node = setup(&rest)
        .flag("--route", format!("*.example.com={}", below.address()))
        .flag("--route", format!("example.com={}", exact.address()))
        .start();
    send(&node, &["x@example.com", "y@a.b.example.com", "z@example.net", "w@notexample.com"], SHORT);
    assert_eq!(exact.wait_for(1)[0].recipients, ["x@example.com"]);
    assert_eq!(below.wait_for(1)[0].recipients, ["y@a.b.example.com"]);
    let mut others: Vec<String> = rest.wait_for(2).into_iter().flat_map(|taken| taken.recipients).collect();
    others.sort();
    assert_eq!(others, ["w@notexample.com", "z@example.net"]);
    assert_eq!(node.quiet().len(), 8);
}

#[test]
fn messages_that_wait_go_over_one_connection_with_commands_behind_each_text() {
    let gate = Gate::new();
    let dot = gate.clone();
    let peer = Peer::start(move |moment| {
        if matches!(moment, Moment::Dot(_)) {
            dot.pass();
        }
        Move::Go
    });
    let node = setup(&peer).file("delivery.connections = 1").start();
    for number in 0..10 {
        send(&node, &[&format!("u{number}@example.net")], SHORT);
    }
    // The first ones are out, and the others gather behind them.
    gate.reached(1);
    node.counts("accepted", 10);
    gate.open();
    let taken = peer.wait_for(10);
    assert_eq!((peer.connections(), peer.faults()), (1, Vec::new()));
    let pipelined =
        taken.iter().filter(|taken| taken.behind.starts_with(b"MAIL FROM:<a@example.com>")).count();
    assert!(pipelined >= 5, "{pipelined} of 10 had the next message right behind");
}

#[test]
fn a_connection_is_kept_for_the_next_message() {
    let peer = Peer::willing();
    let node = setup(&peer).start();
    for number in 0..3_usize {
        send(&node, &[&format!("u{number}@example.net")], SHORT);
        node.counts("delivered", 1 + number as u64);
    }
    assert_eq!((peer.count(), peer.connections()), (3, 1));
}

#[test]
fn a_kept_connection_that_the_host_has_closed_is_no_attempt() {
    let peer = Peer::willing();
    let node = setup(&peer).start();
    send(&node, &["u1@example.net"], SHORT);
    node.counts("delivered", 1);
    peer.hang_up();
    send(&node, &["u2@example.net"], SHORT);
    node.counts("delivered", 2);
    assert_eq!((node.json(&["status"])["deferred"].as_u64(), peer.connections()), (Some(0), 2));
}

#[test]
fn a_host_without_pipelining_gets_one_command_at_a_time() {
    let peer = Peer::offering(&["8BITMIME"], |moment| match moment {
        Moment::Recipient(to) if to.starts_with("no") => Move::Say("550 no such user".into()),
        _ => Move::Go,
    });
    let node = setup(&peer).start();
    for _ in 0..3 {
        send(&node, &["u1@example.net", "no2@example.net", "u3@example.net"], SHORT);
        send(&node, &["no@example.net"], SHORT);
    }
    let log = node.quiet();
    let to_users = peer.taken().iter().filter(|taken| taken.recipients.len() == 2).count();
    assert_eq!((to_users, peer.faults()), (3, Vec::new()));
    assert_eq!(log.iter().filter(|record| record["what"] == "failed").count(), 6);
    assert!(peer.taken().iter().all(|taken| taken.behind.is_empty() && !taken.mail.contains("SIZE")));
}

#[test]
fn a_host_that_knows_only_helo_gets_plain_smtp() {
    let peer = Peer::start(|moment| match moment {
        Moment::Hello(line) if line.starts_with("EHLO") => Move::Say("500 what?".into()),
        _ => Move::Go,
    });
    let node = setup(&peer).start();
    send(&node, &["u@example.net"], SHORT);
    let taken = peer.wait_for(1).remove(0);
    assert_eq!(taken.mail, "MAIL FROM:<a@example.com>");
    node.counts("delivered", 1);
}
