//! What an operator has to say when nodes are lost: that they are, and that mail which they may have delivered is to be tried again.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use testkit::{Cluster, Gate, Moment, Move, Peer, Session, node::word, text, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_posthouse");

#[test]
fn what_a_lost_node_may_have_delivered_waits_for_a_retry_by_hand_if_that_is_wanted() {
    let gate = Gate::default();
    let peer = Peer::gated(&gate);
    let mut cluster = Cluster::with(PROGRAM, 1, "cluster.after-loss = 'wait'", |setup| setup.to(&peer));
    let mut session = Session::open(cluster.workers[0].smtp());
    session.envelope("a@example.org", &["b@example.com"]);
    assert_eq!(session.data(&text::message("once or twice", 1000)).code, 250);
    gate.reached(1);
    cluster.workers[0].kill();
    let manager = &cluster.manager;
    let lost = until("what may have been delivered", || {
        let works = manager.json(&["mail", "queue", "--all"])["works"].clone();
        (works[0]["reason"] == "possibly-done").then(|| works[0].clone())
    });
    let id = word(&lost, "id");
    let why = manager.json(&["mail", "why", id])[0].clone();
    assert_eq!((&why["reason"], &why["node"]), (&"possibly-done".into(), &"mx2".into()), "{why}");
    assert!(word(&why, "text").contains("delivered by mx2") && why["until"].is_null(), "{why}");
    gate.open();
    // The name is in the registry too, and what was said of the node in the spool.
    cluster.restart_manager();
    let manager = &cluster.manager;
    let why = manager.json(&["mail", "why", id])[0].clone();
    assert_eq!((&why["reason"], &why["node"]), (&"possibly-done".into(), &"mx2".into()), "{why}");
    let _ = manager.command(&["mail", "retry", "--id", id, "--yes"]).done();
    let log = manager.quiet();
    let delivered = log.iter().find(|record| record["what"] == "delivered").expect("it is");
    assert_eq!((word(delivered, "node"), &delivered["possible_duplicate"]), ("mx1", &true.into()), "{log:?}");
    assert_eq!(peer.count(), 2);
}

#[test]
fn a_node_that_comes_back_ends_the_wait_for_its_word_also_when_it_has_not_delivered() {
    let gate = Gate::default();
    let (behind, first) = (gate.clone(), AtomicBool::new(true));
    let peer = Peer::start(move |moment| match moment {
        Moment::Dot(_) if first.swap(false, Ordering::Relaxed) => {
            behind.pass();
            Move::Say("451 4.3.0 not now".into())
        }
        _ => Move::Go,
    });
    let setup = "cluster.after-loss = 'wait'";
    let cluster = Cluster::with(PROGRAM, 1, setup, |setup| setup.to(&peer).flag("--retry", "100ms,300ms"));
    let (manager, worker) = (&cluster.manager, &cluster.workers[0]);
    let mut session = Session::open(worker.smtp());
    session.envelope("a@example.org", &["b@example.com"]);
    assert_eq!(session.data(&text::message("in its own time", 1000)).code, 250);
    gate.reached(1);
    worker.freeze();
    until("what may have been delivered", || {
        let works = manager.json(&["mail", "queue", "--all"])["works"].clone();
        (works[0]["reason"] == "possibly-done").then_some(())
    });
    gate.open();
    worker.thaw();
    let log = manager.records_of("b@example.com", 3);
    let (deferred, delivered) = (&log[1], &log[2]);
    assert_eq!((word(deferred, "what"), word(deferred, "node")), ("deferred", "mx2"), "{log:?}");
    assert_eq!(word(delivered, "what"), "delivered", "{log:?}");
    // It is known that it was not delivered before.
    for record in [deferred, delivered] {
        assert!(record["possible_duplicate"].is_null() || record["possible_duplicate"] == false, "{log:?}");
    }
    assert_eq!(peer.count(), 2, "the first was refused");
}

#[test]
fn what_a_worker_had_not_sent_to_its_end_goes_elsewhere_though_what_may_be_delivered_waits() {
    let gate = Gate::default();
    let waits = gate.clone();
    let first = AtomicBool::new(true);
    // The next hop reads no more than the beginning of its first text.
    let peer = Peer::start(move |moment| {
        if matches!(moment, Moment::Text) && first.swap(false, Ordering::SeqCst) {
            waits.pass();
        }
        Move::Go
    });
    let setup = "cluster.after-loss = 'wait'\ncluster.attempts = 'workers'";
    let mut cluster = Cluster::with(PROGRAM, 2, setup, |setup| setup.to(&peer));
    let mut session = Session::open(cluster.workers[0].smtp());
    session.envelope("a@example.org", &["b@example.com"]);
    assert_eq!(session.data(&text::message("more than fits into sockets", 16 << 20)).code, 250);
    gate.reached(1);
    let works = cluster.manager.json(&["mail", "queue", "--all"]);
    let why = cluster.manager.json(&["mail", "why", word(&works["works"][0], "id")])[0].clone();
    let (dies, other) = if word(&why, "node") == "mx2" { (0, "mx3") } else { (1, "mx2") };
    cluster.workers[dies].kill();
    let log = cluster.manager.quiet();
    gate.open();
    let delivered: Vec<&Value> = log.iter().filter(|record| record["what"] == "delivered").collect();
    let [delivered] = delivered[..] else { panic!("{log:?}") };
    assert_eq!(word(delivered, "node"), other);
    assert_ne!(delivered["possible_duplicate"], true, "nobody can have had it: {delivered}");
}

/// Long enough for the late word of a worker that comes back, and two that fall silent together are many.
const FREEZES: &str = "cluster.after-loss = '20s'\ncluster.freeze-lost = 2\ncluster.freeze-members = 2";

#[test]
fn many_that_fall_silent_together_keep_what_they_have_until_an_operator_says_that_they_are_lost() {
    let (before, behind) = (Gate::default(), Gate::default());
    let gates = (before.clone(), behind.clone());
    // One message stands before its point of no return, the other behind it.
    let peer = Peer::start(move |moment| {
        match moment {
            Moment::Recipient(to) if to.starts_with("before") => gates.0.pass(),
            Moment::Dot(taken) if taken.recipients[0].starts_with("behind") => gates.1.pass(),
            _ => {}
        }
        Move::Go
    });
    let cluster = Cluster::with(PROGRAM, 2, FREEZES, |setup| setup.to(&peer).flag("--retry", "100ms,300ms"));
    let (manager, workers) = (&cluster.manager, &cluster.workers);
    for (worker, gate, name) in [(&workers[0], &before, "before"), (&workers[1], &behind, "behind")] {
        let mut session = Session::open(worker.smtp());
        session.envelope("a@example.org", &[&format!("{name}@example.com")]);
        assert_eq!(session.data(&text::message(name, 1000)).code, 250);
        gate.reached(1);
    }
    workers.iter().for_each(testkit::Node::freeze);
    manager.said("many nodes fell silent together");
    // Longer than any other node is waited for.
    until("a silence beyond `gone`", || {
        let silent = |name: &str| cluster.node(name)["heard_seconds"].as_u64() > Some(4);
        (silent("mx2") && silent("mx3")).then_some(())
    });
    let works = manager.json(&["mail", "queue", "--all"])["works"].clone();
    let works = works.as_array().expect("it is a list");
    assert_eq!(works.len(), 2, "{works:?}");
    for work in works {
        let why = manager.json(&["mail", "why", word(work, "id")])[0].clone();
        assert_eq!(why["reason"], "attempted", "{why}");
    }
    before.open();
    assert_eq!(manager.json(&["nodes", "takeover"])["was_frozen"], true);
    // What had no leave for its final dot is elsewhere at once; the other waits for the late word, and that counts.
    let log = manager.records_of("before@example.com", 2);
    assert_eq!((word(&log[1], "what"), word(&log[1], "node")), ("delivered", "mx1"));
    let waits = manager.json(&["mail", "queue", "--all"])["works"][0].clone();
    assert_eq!(waits["reason"], "possibly-done", "{waits}");
    behind.open();
    workers.iter().for_each(testkit::Node::thaw);
    let log = manager.records_of("behind@example.com", 2);
    assert_eq!((word(&log[1], "what"), word(&log[1], "node")), ("delivered", "mx3"));
    let _ = manager.quiet();
    assert_eq!(peer.count(), 2, "each came once");
}
