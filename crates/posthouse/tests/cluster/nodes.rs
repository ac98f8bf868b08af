//! Who is let in, and under which name.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

use testkit::{Cluster, Gate, Moment, Move, Node, Peer, Session, cluster::key, text, until};

use crate::{cluster, copy_of};

#[test]
fn a_removed_node_is_cut_off_at_once_and_let_in_again_when_it_is_added() {
    let peer = Peer::willing();
    let cluster = cluster(1, &peer);
    let _ = cluster.manager.command(&["nodes", "remove", "mx2"]).done();
    cluster.workers[0].said("the manager has removed this node");
    let shown = own(&cluster.workers[0]);
    assert_eq!(shown["state"], "removed");
    assert!(shown["why"].as_str().is_some_and(|why| why.contains("has removed this node")), "{shown}");
    until("no link", || (cluster.workers[0].json(&["status"])["worker"]["away"].is_string()).then_some(()));
    cluster.introduce(&cluster.workers[0], "mx2");
    until("a link", || (cluster.workers[0].json(&["status"])["worker"]["away"].is_null()).then_some(()));
}

/// How a worker shows itself in the list of the cluster.
fn own(worker: &Node) -> serde_json::Value {
    worker.json(&["list-cluster"])[1].clone()
}

#[test]
fn connections_of_a_removed_node_are_ended_though_it_does_not_hang_up() {
    let peer = Peer::willing();
    let cluster = cluster(1, &peer);
    assert_ne!(connections(&cluster), 0);
    cluster.workers[0].freeze();
    let _ = cluster.manager.command(&["nodes", "remove", "mx2"]).done();
    until("an end of its connections", || (connections(&cluster) == 0).then_some(()));
    cluster.workers[0].thaw();
    cluster.workers[0].said("the manager has removed this node");
}

/// How many connections are established at the manager's port, seen from there.
fn connections(cluster: &Cluster) -> usize {
    const ESTABLISHED: &str = "01";
    let port = format!(":{:04X}", cluster.link().port());
    let table = fs::read_to_string(format!("/proc/{}/net/tcp", cluster.manager.id())).expect("it runs");
    let ours = table.lines().filter(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _, state) = (fields.next(), fields.next(), fields.next());
        local.is_some_and(|local| local.ends_with(&port)) && state == Some(ESTABLISHED)
    });
    ours.count()
}

#[test]
fn a_second_node_with_a_name_that_is_taken_is_refused_with_the_reason() {
    let peer = Peer::willing();
    let cluster = cluster(1, &peer);
    let second = cluster.worker("mx2").start();
    let refused = cluster.manager.command(&["nodes", "add-key", &key(&second), "--name", "mx2"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("taken"), "{}", refused.stderr);
    // Registered otherwise, it still calls itself so.
    cluster.introduce(&second, "mx9");
    second.said("the name mx2 is taken by another node");
    let why = cluster.manager.said_in("a node is refused", "why");
    assert!(why.starts_with("the name mx2 is taken by another node"), "{why}");
}

#[test]
fn a_manager_with_another_pin_is_not_trusted() {
    let peer = Peer::willing();
    let cluster = cluster(0, &peer);
    let pin = format!("sha256:{}", "0".repeat(64));
    let worker = cluster.trusting(&pin, "mx2").start();
    let line = worker.said("no link to the manager");
    assert!(line.contains("; if `posthouse identity show --pin` on the manager prints that, "), "{line}");
    let error = cluster.manager.said_in("not let in at the link's port", "error");
    assert!(error.starts_with("a node there expects another pin than this manager's"), "{error}");
}

#[test]
fn a_manager_that_is_killed_is_said_to_have_closed_the_connection() {
    let peer = Peer::willing();
    let mut cluster = cluster(1, &peer);
    cluster.manager.kill();
    let line = cluster.workers[0].said("no link to the manager: the link broke");
    // What it had not read yet when it died makes it a reset.
    let plain = ["the manager closed the connection; it is tried again", "reset"];
    assert!(plain.iter().any(|plain| line.contains(plain)) && !line.contains("docs.rs"), "{line}");
}

#[test]
fn a_copy_of_a_node_is_found_out_and_both_are_kept_out_until_an_operator_says_so() {
    let peer = Peer::willing();
    let cluster = cluster(1, &peer);
    let original = &cluster.workers[0];
    let copy = copy_of(&cluster, original, "mx2");
    cluster.manager.said("quarantined");
    cluster.shows("mx2", "quarantined");
    until("both know", || {
        [original, &copy].iter().all(|node| own(node)["state"] == "quarantined").then_some(())
    });
    drop(copy);
    for verb in ["cordon", "drain"] {
        let refused = cluster.manager.command(&["nodes", verb, "mx2"]).stderr;
        assert!(refused.contains("it can only be resumed or removed"), "{refused}");
    }
    cluster.shows("mx2", "quarantined");
    let _ = cluster.manager.command(&["nodes", "resume", "mx2"]).done();
    until("a link", || (original.json(&["status"])["worker"]["away"].is_null()).then_some(()));
}

#[test]
fn a_drained_node_finishes_what_it_has_and_gets_nothing_more() {
    let (gate, first) = (Gate::default(), AtomicBool::new(true));
    let behind = gate.clone();
    let peer = Peer::start(move |moment| {
        if matches!(moment, Moment::Dot(_)) && first.swap(false, Ordering::Relaxed) {
            behind.pass();
        }
        Move::Go
    });
    let cluster = cluster(2, &peer);
    let mut session = Session::open(cluster.workers[0].smtp());
    session.envelope("a@example.org", &["b@example.com"]);
    assert_eq!(session.data(&text::message("what it has", 1000)).code, 250);
    gate.reached(1);
    let _ = cluster.manager.command(&["nodes", "drain", "mx2", "--no-wait"]).done();
    until("not ready", || cluster.workers[0].get("/readyz").contains("503").then_some(()));
    for number in 0..10 {
        session.envelope("a@example.org", &["b@example.com"]);
        assert_eq!(session.data(&text::message(&format!("{number}"), 1000)).code, 250);
    }
    let _ = peer.wait_for(10);
    gate.open();
    let log = cluster.manager.quiet();
    let by_it = log.iter().filter(|record| record["what"] == "delivered" && record["node"] == "mx2").count();
    assert_eq!(by_it, 1, "others deliver what it takes in since");
    let _ = cluster.manager.command(&["nodes", "resume", "mx2"]).done();
    until("ready", || cluster.workers[0].get("/readyz").contains("200 OK").then_some(()));
}

#[test]
fn a_worker_that_stops_says_goodbye_and_leaves_nothing_behind() {
    let peer = Peer::willing();
    let mut cluster = cluster(1, &peer);
    let mut session = Session::open(cluster.workers[0].smtp());
    for _ in 0..5 {
        session.envelope("a@example.org", &["b@example.com"]);
        assert_eq!(session.data(&text::message("x", 1000)).code, 250);
    }
    cluster.workers[0].stop();
    cluster.manager.said("a node has stopped");
    assert_eq!(cluster.manager.quiet().iter().filter(|record| record["what"] == "delivered").count(), 5);
    let files: Vec<String> = fs::read_dir(cluster.workers[0].setup().data_dir())
        .expect("it is there")
        .map(|file| file.expect("it can be read").file_name().to_string_lossy().into_owned())
        .collect();
    let identity = ["node-id", "node.key", "posthouse.lock"];
    assert!(files.iter().all(|file| identity.contains(&file.as_str())), "{files:?}");
}

#[test]
fn a_node_that_is_back_before_it_was_missed_is_no_alarm() {
    let peer = Peer::willing();
    let mut cluster = cluster(1, &peer);
    cluster.workers[0].kill();
    cluster.workers[0].restart();
    let over = cluster.manager.said("a former process of a node is over");
    let over: serde_json::Value = serde_json::from_str(&over).expect("each line is an object");
    assert_eq!((&over["level"], &over["node"], &over["held"]), (&"INFO".into(), &"mx2".into(), &0.into()));
    cluster.shows("mx2", "active");
}

#[test]
fn a_directory_with_mail_of_its_own_makes_no_worker() {
    let peer = Peer::willing();
    let cluster = cluster(0, &peer);
    let setup = cluster.worker("mx2");
    fs::create_dir_all(setup.data_dir().join("spool")).expect("the folder is ours");
    fs::write(setup.data_dir().join("node-id"), format!("{}\n", "0".repeat(32))).expect("it is ours");
    let ran = setup.fail();
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("a queue of its own"), "{}", ran.stderr);
}

#[test]
fn a_worker_shows_what_it_knows_of_the_cluster_and_says_where_there_is_more() {
    let peer = Peer::willing();
    let cluster = cluster(1, &peer);
    let worker = &cluster.workers[0];
    let known = worker.json(&["list-cluster"]);
    let manager = serde_json::json!({ "name": "mx1", "role": "manager", "state": "active" });
    let own = serde_json::json!({
        "name": "mx2", "role": "worker", "state": "active", "address": worker.smtp().to_string()
    });
    assert_eq!(known, serde_json::json!([manager, own]));
    for command in [&["list"][..], &["show", "mx2"], &["drain", "mx2"]] {
        let ran = worker.command(&[&["nodes"], command].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains("hint: give the command on the manager; `posthouse status` names it"));
    }
    assert_eq!(worker.json(&["status"])["worker"]["manager"], "mx1");
    let (page, of_manager) = (worker.get("/"), cluster.manager.get("/"));
    assert!(
        page.contains("It is a worker of mx1, and is linked to it. Its manager has the queue."),
        "{page}"
    );
    assert!(of_manager.contains("It is a manager, and keeps the queue for its workers."), "{of_manager}");
}

#[test]
fn the_metrics_of_a_manager_tell_of_each_node_that_is_linked() {
    let gate = Gate::new();
    let waits = gate.clone();
    let peer = Peer::start(move |moment| {
        if matches!(moment, Moment::Dot(_)) {
            waits.pass();
        }
        Move::Go
    });
    let cluster = cluster(2, &peer);
    let value = |name: &str, node: &str| -> f64 {
        let metrics = cluster.manager.get("/metrics");
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{node=\"{node}\"}} ")));
        let value = line.and_then(|line| line.split(' ').next_back()?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} of {node} in {metrics}"))
    };
    let mut session = Session::open(cluster.workers[0].smtp());
    session.envelope("a@example.org", &["b@example.com"]);
    assert_eq!(session.data(b"Subject: x\r\n\r\nx\r\n").code, 250);
    gate.reached(1);
    let of = |node| {
        ["posthouse_node_up", "posthouse_node_works", "posthouse_node_held_works"]
            .map(|name| value(name, node))
    };
    assert_eq!((of("mx2"), of("mx3")), ([1.0, 1.0, 1.0], [1.0, 0.0, 0.0]));
    assert!(["mx2", "mx3"].iter().all(|node| value("posthouse_node_heard_seconds", node) < 2.0));
    let _ = cluster.manager.command(&["nodes", "cordon", "mx3"]).done();
    let metrics = cluster.manager.get("/metrics");
    for (node, state, is) in
        [("mx2", "active", 1), ("mx2", "cordoned", 0), ("mx3", "cordoned", 1), ("mx3", "active", 0)]
    {
        let line = format!("posthouse_node_state{{node=\"{node}\",state=\"{state}\"}} {is}\n");
        assert!(metrics.contains(&line), "{line} {metrics}");
    }
    let _ = cluster.manager.command(&["nodes", "resume", "mx3"]).done();
    gate.open();
    let _ = peer.wait_for(1);
    until("nothing left", || (of("mx2") == [1.0, 0.0, 0.0]).then_some(()));
    cluster.workers[1].freeze();
    until("a silent node", || (value("posthouse_node_up", "mx3") == 0.0).then_some(()));
    assert!(value("posthouse_node_heard_seconds", "mx3") > 1.0);
    cluster.workers[1].thaw();
}
