//! Mail that comes in by any node and goes out by any.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::{Cluster, Node, Peer, Session, node::word, text, until};

use crate::{cluster, copy_of};

/// For how long a worker holds a reply that is not told otherwise.
const HOLD: Duration = Duration::from_secs(60);

/// Sends a text to one recipient; what the answer to its end is.
fn send(session: &mut Session, to: &str, text: &[u8]) -> u16 {
    session.envelope("a@example.org", &[to]);
    session.data(text).code
}

#[test]
fn mail_comes_in_and_goes_out_by_any_node_and_the_log_says_by_which() {
    let peer = Peer::willing();
    let cluster = cluster(2, &peer);
    let doors = [&cluster.manager, &cluster.workers[0], &cluster.workers[1]];
    let mut sessions = doors.map(|node| Session::open(node.smtp()));
    for round in 0..10 {
        for (door, session) in sessions.iter_mut().enumerate() {
            let name = format!("{door}-{round}");
            assert_eq!(send(session, &format!("{name}@example.com"), &text::message(&name, 3000)), 250);
        }
    }
    let taken = peer.wait_for(30);
    for one in &taken {
        let name = text::field(&one.text, "Subject").expect("all have one");
        assert!(text::below_trace(&one.text) == text::message(name, 3000), "{name} is another text");
    }
    let log = cluster.manager.quiet();
    let by = |what: &str, door: &str| -> BTreeSet<String> {
        log.iter()
            .filter(|record| record["what"] == what && word(record, "recipient").starts_with(door))
            .map(|record| word(record, "node").to_owned())
            .collect()
    };
    for (door, name) in [("0-", "mx1"), ("1-", "mx2"), ("2-", "mx3")] {
        assert_eq!(by("accepted", door), BTreeSet::from([name.to_owned()]));
    }
    // The node that has a message in memory delivers it, unless it is the manager's, which goes in turn.
    assert_eq!(by("delivered", "1-"), BTreeSet::from(["mx2".to_owned()]));
    assert_eq!(by("delivered", "2-"), BTreeSet::from(["mx3".to_owned()]));
    assert!(by("delivered", "0-").len() > 1, "{:?}", by("delivered", "0-"));
    // The manager counts what becomes of mail at all nodes, each worker what it did itself.
    let counted =
        |node: &Node| ["accepted", "delivered", "deferred"].map(|key| node.json(&["status"])[key].clone());
    assert_eq!(counted(&cluster.manager), [30, 30, 0]);
    let metrics = cluster.manager.get("/metrics");
    assert!(metrics.contains("\nposthouse_messages_accepted_total 30\n"), "{metrics}");
    // Bodies go only to those who did not take them in.
    let is_sent = |record: &&Value| word(record, "recipient").starts_with("0-") && record["node"] != "mx1";
    let sent = log.iter().filter(|record| record["what"] == "delivered").filter(is_sent).count();
    assert!(metrics.contains(&format!("\nposthouse_cluster_bodies_total {sent}\n")), "{sent}: {metrics}");
    for (worker, name) in cluster.workers.iter().zip(["mx2", "mx3"]) {
        let by_it = log.iter().filter(|record| record["what"] == "delivered" && record["node"] == name);
        let by_it = by_it.count();
        assert_eq!(counted(worker), [10, by_it, 0], "{name}");
        let shown = cluster.node(name);
        assert_eq!((&shown["brought"], &shown["granted"]), (&10.into(), &by_it.into()), "{name}");
        for (what, count) in [("brought", 10), ("granted", by_it)] {
            let line = format!("\nposthouse_node_{what}_total{{node=\"{name}\"}} {count}\n");
            assert!(metrics.contains(&line), "{line} {metrics}");
        }
    }
}

#[test]
fn a_text_of_any_length_comes_through_whichever_way_it_goes() {
    let peer = Peer::willing();
    let file = "cluster.placement = 'round-robin'\ncluster.attempts = 'workers'";
    let cluster = Cluster::with(env!("CARGO_BIN_EXE_posthouse"), 2, file, |setup| setup.to(&peer));
    // Empty, in one piece, in pieces over a connection of their own, and with a file at the manager.
    for (number, size) in [0, 60_000, 70_000, 300_000, 1_500_000, 5_000_000].into_iter().enumerate() {
        for (door, node) in [&cluster.manager, &cluster.workers[0]].into_iter().enumerate() {
            let name = format!("size-{number}-{door}");
            let text = text::message(&name, size);
            let mut session = Session::open(node.smtp());
            assert_eq!(send(&mut session, &format!("{name}@example.com"), &text), 250, "{name}");
        }
    }
    for one in peer.wait_for(12) {
        let name = text::field(&one.text, "Subject").expect("all have one");
        let size = [0, 60_000, 70_000, 300_000, 1_500_000, 5_000_000][name.as_bytes()[5] as usize - 48];
        assert!(text::below_trace(&one.text) == text::message(name, size), "{name} is another text");
    }
    let log = cluster.manager.quiet();
    let nodes: BTreeSet<&str> = log
        .iter()
        .filter(|record| record["what"] == "delivered")
        .map(|record| word(record, "node"))
        .collect();
    assert_eq!(nodes, BTreeSet::from(["mx2", "mx3"]), "only workers attempt");
}

#[test]
fn at_random_mail_goes_by_any_node_and_not_in_turn_wherever_it_came_in() {
    let peer = Peer::willing();
    let file = "cluster.placement = 'random'";
    let cluster = Cluster::with(env!("CARGO_BIN_EXE_posthouse"), 2, file, |setup| setup.to(&peer));
    let mut session = Session::open(cluster.workers[0].smtp());
    for number in 0..60 {
        assert_eq!(send(&mut session, &format!("b{number}@example.com"), &text::message("any", 1000)), 250);
    }
    let log = cluster.manager.quiet();
    let by: Vec<&str> = (0..60)
        .map(|number| {
            let to = format!("b{number}@example.com");
            let end = log.iter().find(|record| record["what"] == "delivered" && record["recipient"] == *to);
            word(end.expect("each has an end"), "node")
        })
        .collect();
    // Neither fails by chance but once in ten billion times.
    assert_eq!(BTreeSet::from_iter(by.iter().copied()), BTreeSet::from(["mx1", "mx2", "mx3"]));
    assert!(by.windows(2).any(|pair| pair[0] == pair[1]), "each in its turn: {by:?}");
}

#[test]
fn clients_of_a_worker_wait_while_the_manager_restarts_and_get_their_250() {
    let peer = Peer::willing();
    let mut cluster = cluster(1, &peer);
    let smtp = cluster.workers[0].smtp();
    let mut session = Session::open(smtp);
    session.envelope("a@example.org", &["waits@example.com"]);
    assert_eq!(session.say("DATA").code, 354);
    cluster.manager.kill();
    assert!(cluster.workers[0].get("/readyz").contains("200 OK"), "replies can still be held");
    let waiting = std::thread::spawn(move || session.send(b"Subject: waits\r\n\r\nfor the manager\r\n.\r\n"));
    until("the message waits", || {
        (cluster.workers[0].json(&["status"])["worker"]["waiting"] == 1).then_some(())
    });
    assert!(!waiting.is_finished());
    cluster.manager.restart();
    let reply = waiting.join().expect("the client does not panic");
    assert_eq!(reply.code, 250, "{reply:?}");
    let _ = peer.wait_for(1);
}

#[test]
fn a_client_is_told_to_come_again_when_the_manager_stays_away_and_the_worker_was_not_ready_before() {
    // Replies are held for less than it takes to see that a manager that stands still is away.
    comes_again("2s", &[Away::StandsStill, Away::Killed]);
}

#[test]
fn what_a_manager_reads_only_after_its_client_was_told_to_come_again_is_not_delivered_as_well() {
    // The link ends first, and the message waits at the manager with it.
    comes_again("5s", &[Away::StandsStill]);
}

/// Why the manager does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    StandsStill,
    Killed,
}

/// A client whose reply is held for so long is told to come again each time that the manager is away, does so, and its message arrives
/// once.
fn comes_again(hold: &str, ways: &[Away]) {
    let peer = Peer::willing();
    let mut cluster = cluster(0, &peer);
    let worker = cluster.worker("mx2").file(&format!("cluster.hold = '{hold}'")).start();
    cluster.introduce(&worker, "mx2");
    testkit::cluster::linked(&worker);
    let mut session = Session::open(worker.smtp());
    let text = b"Subject: x\r\n\r\nx\r\n";
    for away in ways {
        match away {
            Away::StandsStill => cluster.manager.freeze(),
            Away::Killed => drop(cluster.manager.kill()),
        }
        assert!(worker.get("/readyz").contains("200 OK"), "replies can still be held");
        let waiting = std::thread::spawn(move || {
            let code = send(&mut session, "b@example.com", text);
            (session, code, Instant::now())
        });
        let not_ready = until("not ready", || {
            worker.get("/readyz").contains("503 Service Unavailable").then(Instant::now)
        });
        let (held, code, answered) = waiting.join().expect("the client does not panic");
        session = held;
        assert_eq!(code, 451);
        assert!(not_ready < answered, "it was to say so before");
        assert!(worker.get("/readyz").contains("its manager has been silent for "));
        match away {
            Away::StandsStill => cluster.manager.thaw(),
            Away::Killed => cluster.manager.restart(),
        }
        // The session goes on, and so does the next message once the manager is back.
        until("ready again", || worker.get("/readyz").contains("200 OK").then_some(()));
        assert_eq!(send(&mut session, "b@example.com", text), 250);
    }
    // What was answered with a no is not delivered as well.
    let _ = peer.wait_for(ways.len());
    let accepted = cluster.manager.quiet().iter().filter(|record| record["what"] == "accepted").count();
    assert_eq!((peer.count(), accepted), (ways.len(), ways.len()));
}

/// What a worker says that can bring nothing to its manager.
const OUT_OF_REACH: &str =
    "421 4.3.2 this node can bring nothing to its manager now; try another, or try again later";

/// What a node answers to MAIL in a new session.
fn to_mail(node: &Node) -> String {
    Session::open(node.smtp()).say("MAIL FROM:<a@example.org>").to_string()
}

#[test]
fn a_removed_worker_says_so_at_once_and_takes_mail_again_when_it_is_added() {
    let peer = Peer::willing();
    let cluster = cluster(1, &peer);
    let worker = &cluster.workers[0];
    let mut session = Session::open(worker.smtp());
    session.envelope("a@example.org", &["waits@example.com"]);
    assert_eq!(session.say("DATA").code, 354);
    let mut between = Session::open(worker.smtp());
    // Its text comes while nobody knows yet that it is removed.
    worker.freeze();
    session.write(b"Subject: waits\r\n\r\nfor nobody\r\n.\r\n").expect("it is read later");
    let _ = cluster.manager.command(&["nodes", "remove", "mx2"]).done();
    let removed = Instant::now();
    worker.thaw();
    assert_eq!(session.reply().expect("an answer").code, 451);
    until("not ready", || worker.get("/readyz").contains("the manager has removed this node").then_some(()));
    assert_eq!(between.say("MAIL FROM:<a@example.org>").to_string(), OUT_OF_REACH);
    assert!(between.reply().is_err(), "the session is over");
    assert_eq!(to_mail(worker), OUT_OF_REACH);
    assert!(removed.elapsed() < HOLD / 2, "nobody waits for a manager that wants nothing of this node");
    cluster.introduce(worker, "mx2");
    until("ready again", || worker.get("/readyz").contains("200 OK").then_some(()));
    assert_eq!(send(&mut Session::open(worker.smtp()), "b@example.com", b"Subject: x\r\n\r\nx\r\n"), 250);
    let _ = peer.wait_for(1);
}

#[test]
fn both_processes_of_a_quarantined_node_turn_senders_away_at_once() {
    let peer = Peer::willing();
    let cluster = cluster(1, &peer);
    let original = &cluster.workers[0];
    let copy = copy_of(&cluster, original, "mx2");
    cluster.shows("mx2", "quarantined");
    for node in [original, &copy] {
        until("not ready", || node.get("/readyz").contains("503 Service Unavailable").then_some(()));
    }
    let why = "two processes seem to run with";
    until("the reason", || original.get("/readyz").contains(why).then_some(()));
    assert_eq!(to_mail(original), OUT_OF_REACH);
    // The copy was let in for a moment, or never.
    assert!(Session::greeted(copy.smtp()).is_err() || to_mail(&copy) == OUT_OF_REACH);
}

#[test]
fn a_worker_whose_manager_has_been_away_for_long_turns_new_mail_away_at_once() {
    let peer = Peer::willing();
    let mut cluster = cluster(0, &peer);
    let worker = cluster.worker("mx2").file("cluster.hold = '4s'").start();
    cluster.introduce(&worker, "mx2");
    testkit::cluster::linked(&worker);
    cluster.manager.kill();
    assert!(to_mail(&worker).starts_with("250 "), "replies can still be held");
    until("a no to MAIL", || (to_mail(&worker) == OUT_OF_REACH).then_some(()));
    assert!(worker.get("/readyz").contains("its manager has been silent for "));
    cluster.manager.restart();
    until("a yes to MAIL", || to_mail(&worker).starts_with("250 ").then_some(()));
    assert!(worker.get("/readyz").contains("200 OK"));
}

#[test]
fn a_worker_that_has_no_memory_left_for_replies_to_hold_is_not_ready() {
    let peer = Peer::willing();
    let cluster = cluster(0, &peer);
    let worker = cluster.worker("mx2").file("limits.receive-memory = '2200KiB'").start();
    cluster.introduce(&worker, "mx2");
    testkit::cluster::linked(&worker);
    // Two texts that have not ended yet: each takes a mebibyte.
    let mut sessions = [0, 1].map(|_| Session::open(worker.smtp()));
    for session in &mut sessions {
        session.envelope("a@example.org", &["b@example.com"]);
        assert_eq!(session.say("DATA").code, 354);
        session.write(&text::message("large", 600_000)).expect("it is read");
    }
    until("no memory", || worker.get("/readyz").contains("limits.receive-memory").then_some(()));
    for session in &mut sessions {
        assert_eq!(session.say("\r\n.").code, 250);
    }
    until("ready again", || worker.get("/readyz").contains("200 OK").then_some(()));
}

#[test]
fn what_is_refused_at_any_door_stands_in_the_message_log_with_the_node() {
    let peer = Peer::willing();
    let file = "relay.from = []\nrelay.to = ['example.com']";
    let cluster = Cluster::with(env!("CARGO_BIN_EXE_posthouse"), 0, file, |setup| setup.to(&peer));
    let worker = cluster.worker("mx2").file(file).start();
    cluster.introduce(&worker, "mx2");
    testkit::cluster::linked(&worker);
    for (node, name) in [(&cluster.manager, "mx1"), (&worker, "mx2")] {
        let mut session = Session::open(node.smtp());
        session.envelope("a@example.org", &["taken@example.com"]);
        assert_eq!(session.say("RSET").code, 250);
        assert_eq!(session.say("MAIL FROM:<a@example.org>").code, 250);
        assert_eq!(session.say(&format!("RCPT TO:<{name}@elsewhere.example>")).code, 550);
        let records = cluster.manager.records_of(&format!("{name}@elsewhere.example"), 1);
        let expected = [("what", "refused"), ("node", name), ("sender", "a@example.org")];
        for (field, value) in expected {
            assert_eq!(records[0][field], value, "{}", records[0]);
        }
        assert!(word(&records[0]["refusal"], "reply").starts_with("550 5.7.1"), "{}", records[0]);
    }
    assert_eq!(cluster.manager.json(&["status"])["queued"], 0);
}
