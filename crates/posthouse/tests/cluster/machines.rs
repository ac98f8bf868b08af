//! Machines in trouble: the manager's disk is full, a worker's clock is wrong.

use std::time::Duration;

use base::{Clock, Timestamp};
use testkit::{
    Cluster, Node, Session,
    cluster::linked,
    load::{Load, moody_peer},
    node::word,
    pulse::Pulse,
    small_disk::SmallDisk,
    story::Story,
    text, until,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_posthouse");

/// What a node answers to MAIL now.
fn to_mail(node: &Node) -> String {
    Session::open(node.smtp()).say("MAIL FROM:<a@example.org>").to_string()
}

#[test]
fn while_the_managers_disk_is_full_workers_refuse_at_mail_and_nothing_is_lost() {
    let Some(disk) = SmallDisk::of(192) else { return };
    let peer = moody_peer();
    let file = "spool.min-free = '32MiB'\nspool.warn-free = '48MiB'";
    let cluster =
        Cluster::with(PROGRAM, 1, file, |setup| disk.under(setup).to(&peer).flag("--retry", "100ms,300ms"));
    let (manager, worker) = (&cluster.manager, &cluster.workers[0]);
    let pulse = Pulse::start(manager.setup().folder());
    let load = Load::start(51, worker.smtp());
    until("some load", || (peer.count() >= 60).then_some(()));
    disk.fill(manager);
    manager.said("the disk is full");
    until("a no to MAIL", || {
        (to_mail(worker) == "452 4.3.1 no space left for mail; try again later").then_some(())
    });
    assert!(worker.get("/readyz").contains("the manager's disk is full"));
    until("what is queued goes out", || {
        (manager.json(&["status"])["queued"] == 0 && worker.json(&["status"])["worker"]["works"] == 0)
            .then_some(())
    });
    let (before, answered) = (peer.count(), load.answered().len());
    disk.empty(manager);
    until("a yes to MAIL", || to_mail(worker).starts_with("250").then_some(()));
    until("mail flows", || (peer.count() >= before + 60 && load.answered().len() > answered).then_some(()));
    let (answered, beats) = (load.stop(), pulse.stop());
    let log = manager.quiet();
    let (taken, faults) = (peer.taken(), peer.faults());
    let story = Story { losses: Vec::new(), beats, answered, log, taken, faults };
    story.judge();
    eprintln!("{story}");
}

/// A worker whose clock is off says so, and by how much.
fn off(worker: &Node) -> i64 {
    let line: serde_json::Value =
        serde_json::from_str(&worker.said("this machine's clock is off")).expect("each line is an object");
    line["seconds"].as_i64().expect("it is a number")
}

#[test]
fn mail_goes_at_once_through_workers_whose_clocks_are_a_day_off_and_the_log_has_the_managers_time() {
    const DAY: i64 = 24 * 60 * 60;
    let peer = moody_peer();
    let start = Clock::system().now();
    let mut cluster = Cluster::with(PROGRAM, 0, "cluster.attempts = 'workers'", |setup| {
        setup.to(&peer).flag("--retry", "100ms,300ms")
    });
    for (number, (name, by)) in [("mx2", "+1d"), ("mx3", "-1d")].into_iter().enumerate() {
        // Its own name is another.
        let worker = cluster.worker("somewhere").clock_off(by).start();
        let door = worker.smtp();
        assert!(Session::greeted(door).is_err(), "who does not know what time it is lets nobody in");
        assert!(worker.get("/readyz").contains("its manager has not let it in since its start"));
        let sender = std::thread::spawn(move || {
            let mut session = until("an open door", || Session::greeted(door).ok());
            for round in 0..5 {
                let to = |mood: &str| format!("{mood}.{number}-{round}@example.com");
                session.envelope("a@example.org", &[&to("yes"), &to("later")]);
                assert_eq!(session.data(&text::message("on time", 2000)).code, 250);
            }
        });
        cluster.introduce(&worker, name);
        sender.join().expect("all is answered as it should be");
        linked(&worker);
        assert!((off(&worker).abs() - DAY).abs() < 60, "{by}: {} s", off(&worker));
        cluster.workers.push(worker);
    }
    let log = cluster.manager.quiet();
    let end = Clock::system().now();
    for record in &log {
        let time: Timestamp = word(record, "time").parse().expect("it is a time");
        assert!((start..end).contains(&time), "{record}");
        assert!(["accepted", "deferred", "delivered"].contains(&word(record, "what")), "{record}");
        assert!(["mx2", "mx3"].contains(&word(record, "node")), "{record}");
        let delay = Duration::from_secs_f64(record["delay_seconds"].as_f64().unwrap_or(0.0));
        assert!(delay < end.since(start), "{record}");
    }
    for node in ["mx2", "mx3"] {
        let ends = log.iter().filter(|record| record["what"] == "delivered" && record["node"] == node);
        assert_eq!(ends.count(), 10, "each delivers what it took in: {log:?}");
    }
    // Of the trace field the day is enough.
    let days = [start, end].map(|time| time.to_string()[8..10].trim_start_matches('0').to_owned());
    for taken in peer.taken() {
        let below = text::below_trace(&taken.text).len();
        let trace = String::from_utf8_lossy(&taken.text[..taken.text.len() - below]).into_owned();
        let (_, date) = trace.rsplit_once(';').expect("a date ends it");
        let mut words = date.split_whitespace().map(|word| word.trim_start_matches('0'));
        assert!(words.any(|word| days.iter().any(|day| day == word)), "{trace}");
    }
}
