//! What the manager decides alone holds over all nodes: connections, rates, pauses, turns, and what a message waits for.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use testkit::{Cluster, Gate, Moment, Move, Node, Peer, Session, Taken, node::word, text, until, wait};

/// A manager that only decides, with so many workers and this in its file.
fn deciding(workers: usize, file: &str, peer: &Peer) -> Cluster {
    let file = format!("cluster.attempts = 'workers'\n{file}");
    Cluster::with(env!("CARGO_BIN_EXE_posthouse"), workers, &file, |setup| setup.to(peer))
}

/// Sends a message to each recipient.
fn send(session: &mut Session, recipients: impl IntoIterator<Item = String>) {
    for recipient in recipients {
        session.envelope("a@example.org", &[&recipient]);
        assert_eq!(session.data(&text::message("to all", 1000)).code, 250);
    }
}

/// Sends a message to each recipient, by both workers in turn.
fn send_by_both(cluster: &Cluster, recipients: impl Iterator<Item = String>) {
    let mut sessions: Vec<Session> =
        cluster.workers.iter().map(|worker| Session::open(worker.smtp())).collect();
    for (number, recipient) in recipients.enumerate() {
        send(&mut sessions[number % 2], [recipient]);
    }
}

/// The EHLO names of the nodes that brought these.
fn hellos(taken: &[Taken]) -> BTreeSet<&str> {
    taken.iter().map(|taken| taken.hello.as_str()).collect()
}

const BOTH: [&str; 2] = ["mx2.example.org", "mx3.example.org"];

/// What a message waits for.
fn why(node: &Node, id: &str) -> serde_json::Value {
    node.json(&["mail", "why", id])[0].clone()
}

/// Hands a message to the manager's own command, and returns its number.
fn submit(node: &Node, recipient: &str) -> String {
    let words =
        ["mail", "send", "--from", "a@example.org", "--to", recipient, "--subject", "x", "--body", "x"];
    node.json(&words)["id"].as_str().expect("it has an id").to_owned()
}

/// After so long a node has ended a connection that nobody used, and its manager goes by that.
const KEPT: Duration = Duration::from_millis(6500);

/// A next hop that takes its time for each text, and how many it was at at once, at most.
fn counting() -> (Peer, Arc<AtomicUsize>) {
    let (now, most) = (AtomicUsize::new(0), Arc::<AtomicUsize>::default());
    let seen = most.clone();
    let peer = Peer::start(move |moment| {
        match moment {
            Moment::Mail(_) => {
                seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            }
            Moment::Dot(_) => {
                wait::pass(Duration::from_millis(30));
                now.fetch_sub(1, Ordering::SeqCst);
            }
            _ => {}
        }
        Move::Go
    });
    (peer, most)
}

#[test]
fn a_next_hop_is_delivered_to_over_no_more_connections_than_it_may_have_by_all_nodes_together() {
    let (peer, most) = counting();
    let cluster = deciding(2, "delivery.connections = 3", &peer);
    send_by_both(&cluster, (0..120).map(|n| format!("u{n}@example.com")));
    let taken = peer.wait_for(120);
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert_eq!(hellos(&taken), BTreeSet::from(BOTH));
    assert_eq!(peer.most_connections(), 3, "those that nodes keep count too");
}

/// Sends messages by three nodes in turn, each when the one before it has come.
fn send_one_by_one(cluster: &Cluster, peer: &Peer, count: usize) -> Vec<Taken> {
    let mut sessions: Vec<Session> =
        cluster.workers.iter().map(|worker| Session::open(worker.smtp())).collect();
    for number in 0..count {
        let by = number % sessions.len();
        send(&mut sessions[by], [format!("u{number}@example.com")]);
        let _ = peer.wait_for(number + 1);
    }
    peer.taken()
}

#[test]
fn a_next_hop_that_may_have_one_connection_never_has_a_second_whichever_node_is_next_in_turn() {
    let peer = Peer::willing();
    let cluster = deciding(
        3,
        "delivery.connections = 1
cluster.placement = 'round-robin'",
        &peer,
    );
    let taken = send_one_by_one(&cluster, &peer, 12);
    assert_eq!((peer.connections(), hellos(&taken).len()), (1, 1), "who keeps it has it all");
    // The node that keeps it takes nothing more: the next connection waits until this one has ended.
    let keeper = format!("mx{}", &taken[0].hello[2..3]);
    let _ = cluster.manager.command(&["nodes", "cordon", &keeper]).done();
    let id = submit(&cluster.manager, "last@example.com");
    let waits = until("a connection", || {
        let why = why(&cluster.manager, &id);
        (why["reason"] == "connections").then_some(why)
    });
    assert!(word(&waits, "text").starts_with("1 of the 1 connections"), "{waits}");
    assert_ne!(peer.wait_for(13)[12].hello, taken[0].hello);
    assert_eq!((peer.connections(), peer.most_connections()), (2, 1));
}

#[test]
fn connections_are_opened_no_more_often_than_may_be_by_all_nodes_together() {
    let peer = Peer::willing();
    let rate = "cluster.placement = 'round-robin'
\
        [[delivery.destination]]\ndomain = '*'\nconnects-per-minute = 1";
    let cluster = deciding(3, rate, &peer);
    let taken = send_one_by_one(&cluster, &peer, 12);
    assert_eq!((peer.connections(), hellos(&taken).len()), (1, 1));
    wait::pass(KEPT);
    let id = submit(&cluster.manager, "last@example.com");
    let waits = until("a throttle", || {
        let why = why(&cluster.manager, &id);
        (why["reason"] == "throttled").then_some(why)
    });
    assert_eq!(waits["throttle"], "connects-per-minute", "{waits}");
    assert_eq!((peer.connections(), peer.count()), (1, 12));
}

#[test]
fn what_a_worker_has_under_way_counts_at_its_next_hop_when_the_manager_is_back() {
    let gate = Gate::default();
    let waits = gate.clone();
    let peer = Peer::start(move |moment| {
        if matches!(moment, Moment::Dot(_)) {
            waits.pass();
        }
        Move::Go
    });
    let mut cluster = deciding(1, "delivery.connections = 1", &peer);
    let mut session = Session::open(cluster.workers[0].smtp());
    send(&mut session, ["first@example.com".to_owned()]);
    gate.reached(1);
    // What was given to whom is written in its own time, at the latest with the next message that is acknowledged.
    send(&mut session, ["second@example.com".to_owned()]);
    cluster.restart_manager();
    until("the work that the node has", || (cluster.node("mx2")["works"] == 1).then_some(()));
    let works = cluster.manager.json(&["mail", "queue", "--all"])["works"].clone();
    let works = works.as_array().expect("it is a list").iter();
    let reasons = works.map(|work| why(&cluster.manager, word(work, "id"))["reason"].clone());
    assert_eq!(reasons.collect::<Vec<_>>(), ["attempted", "connections"]);
    gate.open();
    assert_eq!(peer.wait_for(2)[1].recipients, ["second@example.com"]);
    let _ = cluster.manager.quiet();
    until("room at the node", || (cluster.node("mx2")["works"] == 0).then_some(()));
}

#[test]
fn a_rate_is_kept_by_all_nodes_together() {
    let peer = Peer::willing();
    let rate = "[[delivery.destination]]\ndomain = 'slow.example'\nmessages-per-minute = 120";
    let cluster = deciding(2, rate, &peer);
    send_by_both(&cluster, (0..10).map(|n| format!("u{n}@slow.example")));
    let id = submit(&cluster.manager, "last@slow.example");
    let waits = until("a throttle", || {
        let why = why(&cluster.manager, &id);
        (why["reason"] == "throttled").then_some(why)
    });
    assert_eq!(waits["throttle"], "messages-per-minute", "{waits}");
    let taken = peer.wait_for(11);
    assert_eq!(hellos(&taken), BTreeSet::from(BOTH));
    let read: BTreeSet<Instant> = taken.iter().map(|taken| taken.read).collect();
    let took = *read.last().expect("there is one") - *read.first().expect("there is one");
    // Two at once, and nine more at two a second.
    assert!(took >= Duration::from_millis(4400), "{took:?}");
}

#[test]
fn no_node_delivers_what_is_paused_and_all_do_when_it_goes_on() {
    let peer = Peer::willing();
    let cluster = deciding(2, "", &peer);
    let _ = cluster.manager.command(&["mail", "pause", "--domain", "held.example", "--why", "a test"]).done();
    let to = |domain: &'static str| (0..10).map(move |n| format!("u{n}@{domain}"));
    send_by_both(&cluster, to("held.example"));
    send_by_both(&cluster, to("free.example"));
    let taken = peer.wait_for(10);
    assert!(taken.iter().all(|taken| taken.recipients[0].ends_with("@free.example")), "{taken:?}");
    let waits = until("all others to be concluded", || {
        let works = cluster.manager.json(&["mail", "queue", "--all"])["works"].clone();
        works.as_array().filter(|works| works.len() == 10).cloned()
    });
    let waits = why(&cluster.manager, word(&waits[0], "id"));
    assert_eq!(waits["reason"], "paused", "{waits}");
    let _ = cluster.manager.command(&["mail", "resume", "--all"]).done();
    let taken = peer.wait_for(20);
    assert_eq!(hellos(&taken[10..]), BTreeSet::from(BOTH));
}

#[test]
fn a_sender_at_one_node_has_his_turn_though_another_has_sent_much_at_the_other() {
    let gate = Gate::default();
    let waits = gate.clone();
    let peer = Peer::start(move |moment| {
        if matches!(moment, Moment::Connected) {
            waits.pass();
        }
        Move::Go
    });
    // One connection, and a few messages each time.
    let rule = "[[delivery.destination]]\ndomain = '*'\nconnections = 1\nmessages-per-connection = 5";
    let cluster = deciding(2, rule, &peer);
    let mut bulk = Session::open(cluster.workers[0].smtp());
    send(&mut bulk, (0..100).map(|n| format!("bulk{n}@example.com")));
    let mut other = cluster.stranger(2).open(cluster.workers[1].smtp());
    send(&mut other, ["one@example.com".to_owned()]);
    gate.open();
    let taken = peer.wait_for(101);
    let at = taken.iter().position(|taken| taken.recipients == ["one@example.com"]);
    // One burst was on its way when it came.
    assert!(at.is_some_and(|at| at <= 10), "{at:?}");
}

#[test]
fn what_nobody_can_deliver_waits_for_a_node_and_says_so() {
    let peer = Peer::willing();
    let mut cluster = deciding(0, "", &peer);
    let id = submit(&cluster.manager, "b@example.com");
    let waits = why(&cluster.manager, &id);
    assert_eq!(waits["reason"], "no-node", "{waits}");
    assert!(word(&waits, "text").contains("posthouse nodes list"), "{waits}");
    cluster.add();
    assert_eq!(peer.wait_for(1)[0].hello, "mx2.example.org");
    assert_eq!(cluster.manager.quiet().len(), 2);
}
