//! Nodes that die, stand still or are cut off under load.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use serde_json::Value;
use testkit::{
    Cluster, Gate, Moment, Move, Peer, Program, Session,
    load::{Load, moody_peer},
    node::{number, word},
    pulse::Pulse,
    story::{Loss, Story, What},
    text, until,
};

use crate::{cluster, held::Held};

#[test]
fn what_a_killed_worker_had_goes_elsewhere_and_nothing_is_lost() {
    let held = Held::of("mx2");
    let peer = held.peer();
    let mut cluster = cluster(2, &peer);
    let pulse = Pulse::start(cluster.manager.setup().folder());
    let load = Load::start(1, cluster.workers[0].smtp());
    until("some load", || (peer.count() >= 60).then_some(()));
    let mut losses = Vec::new();
    let at = cluster.workers[1].kill();
    until("more load", || (peer.count() >= 120).then_some(()));
    losses.push(Loss { what: What::Killed("mx3"), at, over: Instant::now() });
    held.hold_one();
    let at = cluster.workers[0].kill();
    held.let_go();
    // Nobody takes mail in any more but the manager.
    load.turn_to(cluster.manager.smtp());
    until("and more", || (peer.count() >= 180).then_some(()));
    losses.push(Loss { what: What::Killed("mx2"), at, over: Instant::now() });
    cluster.workers[1].restart();
    testkit::cluster::linked(&cluster.workers[1]);
    load.turn_to(cluster.workers[1].smtp());
    until("and more", || (peer.count() >= 240).then_some(()));
    let (answered, beats) = (load.stop(), pulse.stop());
    let log = cluster.manager.quiet();
    let nodes: BTreeSet<&str> = log.iter().map(|record| word(record, "node")).collect();
    assert!(nodes.is_superset(&BTreeSet::from(["mx1", "mx2", "mx3"])), "{nodes:?}");
    let had = |name: &str| {
        let gone = format!("\"node\":\"{name}\"");
        let line = cluster
            .manager
            .lines()
            .into_iter()
            .find(|line| line.contains("a node is gone") && line.contains(&gone));
        number(&serde_json::from_str(&line.expect("it was said")).expect("each line is an object"), "held")
    };
    assert!(had("mx2") > 0, "it had at least what was held back");
    let story = Story { losses, beats, answered, log, taken: peer.taken(), faults: peer.faults() };
    story.judge();
    eprintln!("{story}");
}

#[test]
fn what_workers_have_survives_the_death_of_their_manager() {
    let peer = moody_peer();
    let mut cluster = cluster(2, &peer);
    let pulse = Pulse::start(cluster.manager.setup().folder());
    let load = Load::start(2, cluster.workers[0].smtp());
    let mut losses = Vec::new();
    for round in 1..=3 {
        until("some load", || (peer.count() >= round * 60).then_some(()));
        let at = cluster.manager.kill();
        cluster.manager.restart();
        losses.push(Loss { what: What::KeeperKilled, at, over: Instant::now() });
    }
    until("more load", || (peer.count() >= 240).then_some(()));
    let (answered, beats) = (load.stop(), pulse.stop());
    let log = cluster.manager.quiet();
    let story = Story { losses, beats, answered, log, taken: peer.taken(), faults: peer.faults() };
    story.judge();
    eprintln!("{story}");
}

/// A next hop that says nothing to the end of the first text until a gate is opened.
fn slow(gate: &Gate) -> Peer {
    let (gate, first) = (gate.clone(), AtomicBool::new(true));
    Peer::start(move |moment| {
        if matches!(moment, Moment::Dot(_)) && first.swap(false, Ordering::SeqCst) {
            gate.pass();
        }
        Move::Go
    })
}

#[test]
fn a_work_that_is_being_attempted_says_by_whom_and_how_long_that_has_been_silent() {
    let gate = Gate::default();
    let peer = slow(&gate);
    let mut cluster = cluster(1, &peer);
    let mut session = Session::open(cluster.workers[0].smtp());
    session.envelope("a@example.org", &["slow@example.com"]);
    assert_eq!(session.data(&text::message("slow", 1000)).code, 250);
    gate.reached(1);
    let works = cluster.manager.json(&["mail", "queue", "--all"]);
    let id = word(&works["works"][0], "id").to_owned();
    let why = |cluster: &Cluster| cluster.manager.json(&["mail", "why", &id])[0].clone();
    let now = why(&cluster);
    assert_eq!((word(&now, "text"), word(&now, "node")), ("it is being attempted now by mx2", "mx2"));
    cluster.workers[0].kill();
    let silent = until("a silent node", || Some(why(&cluster)).filter(|why| why["silent_seconds"].is_u64()));
    let said = word(&silent, "text");
    assert!(said.starts_with("it is being attempted now by mx2, silent for "), "{silent}");
    let then =
        " s; unless that is heard it is taken back, or waits as possibly-done if it has passed its final dot";
    assert!(said.ends_with(then), "{silent}");
    assert!(silent["until"].is_string(), "{silent}");
    gate.open();
}

#[test]
fn a_worker_that_dies_while_it_is_drained_is_lost_and_what_it_may_have_delivered_is_named() {
    let gate = Gate::default();
    let peer = slow(&gate);
    let mut cluster = cluster(1, &peer);
    let mut session = Session::open(cluster.workers[0].smtp());
    session.envelope("a@example.org", &["slow@example.com"]);
    assert_eq!(session.data(&text::message("slow", 1000)).code, 250);
    gate.reached(1);
    let drain = |cluster: &Cluster| cluster.manager.command(&["nodes", "drain", "mx2", "--no-wait"]);
    let said = drain(&cluster).done();
    assert!(said.starts_with("mx2 is draining: 1 work left. "), "{said}");
    let mut waits = Command::new(env!("CARGO_BIN_EXE_posthouse"));
    waits.args(["nodes", "drain", "mx2", "--data-dir"]).arg(cluster.manager.setup().data_dir());
    let waits = Program::at_terminal(&waits);
    let _ = waits.said("mx2 is draining. Ctrl-C ends the wait");
    cluster.workers[0].kill();
    let waited = waits.ended();
    assert_eq!(waited.code, Some(1), "{waited:?}");
    for part in ["; it has been silent for ", "error: mx2 is lost and not drained: "] {
        assert!(waited.stdout.contains(part), "{part}: {waited:?}");
    }
    cluster.shows("mx2", "gone");
    let lost = drain(&cluster);
    assert_eq!((lost.code, lost.stdout.as_str()), (Some(1), ""), "{lost:?}");
    assert!(lost.stderr.starts_with("error: mx2 is lost and not drained: "), "{lost:?}");
    assert!(
        lost.stderr.contains("; 1 work may have been delivered by it\nhint: `posthouse mail queue"),
        "{lost:?}"
    );
    let programs = cluster.manager.command(&["nodes", "drain", "mx2", "--json"]);
    assert_eq!((programs.code, &programs.stderr), (Some(1), &lost.stderr), "{programs:?}");
    let answer: Value = serde_json::from_str(&programs.stdout).expect("it is JSON");
    assert_eq!((word(&answer, "outcome"), number(&answer, "possibly_done")), ("lost", 1), "{answer}");
    let shown = cluster.manager.command(&["mail", "queue", "--reason", "possibly-done"]).done();
    assert!(shown.contains("mx2 was lost with it, and may have delivered it"), "{shown}");
    let shown = cluster.manager.command(&["mail", "queue"]).done();
    assert!(shown.contains("1 work may have been delivered (possibly-done)"), "{shown}");
    gate.open();
}

#[test]
fn a_worker_that_is_drained_and_powered_off_stays_drained() {
    let peer = Peer::start(|_| Move::Go);
    let mut cluster = cluster(1, &peer);
    let drained = "mx2 is drained: it has nothing left, and ";
    let said = cluster.manager.command(&["nodes", "drain", "mx2"]).done();
    assert_eq!(said, format!("{drained}can be stopped.\n"));
    cluster.workers[0].kill();
    cluster.shows("mx2", "gone");
    let said = cluster.manager.command(&["nodes", "drain", "mx2"]).done();
    assert!(said.starts_with(&format!("{drained}is gone: silent for ")), "{said}");
    let answer = cluster.manager.json(&["nodes", "drain", "mx2"]);
    assert_eq!((word(&answer, "outcome"), number(&answer, "possibly_done")), ("drained", 0), "{answer}");
}

#[test]
fn a_worker_that_stands_still_over_the_final_dot_is_waited_for_and_its_late_word_counts() {
    let gate = Gate::default();
    let peer = slow(&gate);
    let cluster = cluster(1, &peer);
    let mut session = Session::open(cluster.workers[0].smtp());
    session.envelope("a@example.org", &["slow@example.com"]);
    assert_eq!(session.data(&text::message("slow", 1000)).code, 250);
    gate.reached(1);
    cluster.workers[0].freeze();
    cluster.shows("mx2", "gone");
    let waits = cluster.manager.json(&["mail", "queue", "--all"]);
    assert!(waits.to_string().contains("possibly-done"), "{waits}");
    gate.open();
    cluster.workers[0].thaw();
    // It was delivered once, and then it comes to light; or its time was over, and it came twice and says so.
    let log = cluster.manager.quiet();
    let delivered: Vec<_> = log.iter().filter(|record| record["what"] == "delivered").collect();
    assert_eq!(delivered.len(), 1, "{log:?}");
    let came = peer.taken().len();
    assert!(came == 1 || delivered[0]["possible_duplicate"] == true, "{came} times: {log:?}");
    cluster.shows("mx2", "alive");
}

#[test]
fn a_late_word_that_comes_while_the_second_attempt_is_on_its_way_says_that_it_may_have_come_twice() {
    let (first, second) = (Gate::default(), Gate::default());
    let gates = (first.clone(), second.clone());
    let peer = Peer::start(move |moment| {
        match moment {
            Moment::Dot(taken) if taken.hello == "mx2.example.org" => gates.0.pass(),
            Moment::Dot(_) => gates.1.pass(),
            _ => {}
        }
        Move::Go
    });
    let cluster = cluster(1, &peer);
    let mut session = Session::open(cluster.workers[0].smtp());
    session.envelope("a@example.org", &["b@example.com"]);
    assert_eq!(session.data(&text::message("twice", 1000)).code, 250);
    first.reached(1);
    cluster.workers[0].freeze();
    second.reached(1);
    first.open();
    cluster.workers[0].thaw();
    // The manager has the late word before the second attempt ends.
    let log = cluster.manager.records_of("b@example.com", 2);
    assert_eq!((word(&log[1], "what"), word(&log[1], "node")), ("delivered", "mx2"));
    assert_eq!(log[1]["possible_duplicate"], true, "{log:?}");
    second.open();
    assert_eq!(cluster.manager.quiet().len(), 2, "one end");
    assert_eq!(peer.wait_for(2).len(), 2);
}

#[test]
fn a_worker_that_stands_still_before_the_final_dot_commits_nothing_afterwards() {
    let gate = Gate::default();
    let waits = gate.clone();
    let first = AtomicBool::new(true);
    // The next hop lets its first client wait for its leave to send the text.
    let peer = Peer::start(move |moment| {
        if matches!(moment, Moment::Data) && first.swap(false, Ordering::SeqCst) {
            waits.pass();
        }
        Move::Go
    });
    let cluster = cluster(1, &peer);
    let mut session = Session::open(cluster.workers[0].smtp());
    session.envelope("a@example.org", &["b@example.com"]);
    assert_eq!(session.data(&text::message("once", 1000)).code, 250);
    gate.reached(1);
    cluster.workers[0].freeze();
    cluster.shows("mx2", "gone");
    gate.open();
    // Another has it now, or has had it.
    let log = cluster.manager.quiet();
    let by: Vec<&str> = log
        .iter()
        .filter(|record| record["what"] == "delivered")
        .map(|record| word(record, "node"))
        .collect();
    assert_eq!(by, ["mx1"]);
    cluster.workers[0].thaw();
    cluster.shows("mx2", "alive");
    assert_eq!(peer.taken().len(), 1, "the late worker sent no text");
}

#[test]
fn a_manager_that_stands_alone_again_delivers_what_its_workers_had() {
    let gate = Gate::default();
    let waits = gate.clone();
    // One message stands before its point of no return, the other behind it.
    let peer = Peer::start(move |moment| {
        let stands = match moment {
            Moment::Recipient(to) => to.starts_with("held"),
            Moment::Dot(_) => true,
            _ => false,
        };
        if stands {
            waits.pass();
        }
        Move::Go
    });
    let file = "cluster.attempts = 'workers'";
    let mut cluster = Cluster::with(env!("CARGO_BIN_EXE_posthouse"), 1, file, |setup| setup.to(&peer));
    let mut session = Session::open(cluster.manager.smtp());
    for name in ["committed", "held"] {
        session.envelope("a@example.org", &[&format!("{name}@example.com")]);
        assert_eq!(session.data(&text::message(name, 1000)).code, 250);
    }
    gate.reached(2);
    // Marks are written in their own time, at the latest with the next message that is acknowledged.
    session.envelope("a@example.org", &["held-too@example.com"]);
    assert_eq!(session.data(&text::message("held-too", 1000)).code, 250);
    cluster.workers[0].kill();
    cluster.manager.kill();
    gate.open();
    cluster.manager.restart_alone();
    let log = cluster.manager.quiet();
    let delivered = log.iter().filter(|record| record["what"] == "delivered");
    let by: Vec<(&str, bool)> =
        delivered.map(|record| (word(record, "node"), record["possible_duplicate"] == true)).collect();
    assert_eq!(by.len(), 3, "{log:?}");
    assert!(by.iter().all(|(node, _)| *node == "mx1"), "{by:?}");
    assert_eq!(by.iter().filter(|(_, twice)| *twice).count(), 1, "{by:?}");
}
