//! Nodes that are there and hear nothing of each other: their link is cut and mended, while their clients and next hops reach them all the
//! time; mostly under load.

use std::time::{Duration, Instant};

use testkit::{
    Cluster, Node, Peer, Session, Taken,
    load::{Load, moody_peer},
    network::{Cut, Host},
    node::word,
    peer::Verdict,
    pulse::Pulse,
    story::{Loss, Story, What},
    text, until,
};

use crate::held::{Held, is_from};

/// A worker's lease, as the manager of a story gives it.
const LEASE: Duration = Duration::from_secs(3);
/// From when a worker has sent the end of a text until the next hop has read it.
const UNDER_WAY: Duration = Duration::from_millis(300);
/// Long enough for the late word of a worker that comes back: what it may have delivered waits so long.
const AFTER_LOSS: &str = "cluster.after-loss = '15s'";
/// The node that is cut off.
const NODE: &str = "mx2";

/// A manager and workers that deliver to the next hop of the story.
fn cluster(workers: usize, file: &str, peer: &Peer) -> Cluster {
    let program = env!("CARGO_BIN_EXE_posthouse");
    Cluster::with(program, workers, file, |setup| setup.to(peer).flag("--retry", "100ms,300ms"))
}

/// Where a node is whose connections are to suffer; nowhere, with a line that says so, where all are on loopback.
fn host(node: &Node) -> Option<&Host> {
    let host = node.setup().host();
    if host.is_none() {
        eprintln!("skipped: nodes on loopback cannot be cut off");
    }
    host
}

/// What a story of a cut was.
struct Past {
    cut: Instant,
    healed: Instant,
    /// Of the text that was held back all the time.
    held: Vec<String>,
    story: Story,
}

/// A node is cut off under load for longer than `gone`, and then it is not.
fn past(cut: Cut, seed: u64) -> Option<Past> {
    let held = Held::of(NODE);
    let peer = held.peer();
    let cluster = cluster(2, AFTER_LOSS, &peer);
    let worker = &cluster.workers[0];
    let host = host(worker)?;
    let pulse = Pulse::start(cluster.manager.setup().folder());
    let loads = [(2 * seed, worker), (2 * seed + 1, &cluster.workers[1])];
    let loads = loads.map(|(seed, node)| Load::start(seed, node.smtp()));
    until("some load", || (peer.count() >= 60).then_some(()));
    held.hold_one();
    let at = Instant::now();
    host.cut(cut);
    cluster.shows(NODE, "gone");
    let waits = cluster.manager.json(&["mail", "queue", "--all"]).to_string();
    assert!(waits.contains("possibly-done"), "{waits}");
    until("it knows", || worker.json(&["status"])["worker"]["away"].is_string().then_some(()));
    until("its clients wait", || (worker.json(&["status"])["worker"]["waiting"] != 0).then_some(()));
    let before = peer.count();
    until("others go on", || (peer.count() >= before + 60).then_some(()));
    held.let_go();
    let healed = Instant::now();
    host.heal();
    cluster.shows(NODE, "alive");
    let back = Instant::now();
    until("works of the node that is back", || {
        peer.taken().iter().any(|taken| is_from(taken, NODE) && taken.read > back).then_some(())
    });
    let answered = loads.into_iter().flat_map(Load::stop).collect();
    let beats = pulse.stop();
    let log = cluster.manager.quiet();
    let over = at + LEASE + UNDER_WAY + beats.stall(at, healed);
    let losses = vec![Loss { what: What::Silent(NODE), at, over }];
    let story = Story { losses, beats, answered, log, taken: peer.taken(), faults: peer.faults() };
    eprintln!("{cut:?}: {story}");
    let held = held.recipients();
    Some(Past { cut: at, healed, held, story })
}

impl Past {
    /// Nothing was lost, and nothing came twice but what was on its way when the node was cut off.
    fn judge(&self) {
        self.story.judge();
        self.the_node_sends_nothing_without_its_lease();
        self.its_late_word_counts();
    }

    fn the_node_sends_nothing_without_its_lease(&self) {
        let end = self.story.losses[0].over;
        let late = self.story.taken.iter().filter(|taken| is_from(taken, NODE));
        let late = late.filter(|taken| (end..self.healed).contains(&taken.read));
        let late: Vec<_> = late.map(|taken| (taken.read - self.cut, &taken.recipients)).collect();
        assert!(late.is_empty(), "sent this long after the cut: {late:?}");
    }

    fn its_late_word_counts(&self) {
        for recipient in &self.held {
            let is_end = |record: &&serde_json::Value| {
                record["recipient"] == **recipient && record["what"] == "delivered"
            };
            let ends: Vec<_> = self.story.log.iter().filter(is_end).collect();
            assert_eq!(ends.len(), 1, "{ends:?}");
            assert_eq!(word(ends[0], "node"), NODE);
            // It may have been put off before.
            let is_yes = |taken: &&Taken| taken.answer.is_none_or(|answer| answer.verdict == Verdict::Yes);
            let came = self.story.taken.iter().filter(is_yes);
            let came = came.filter(|taken| taken.recipients.contains(recipient));
            assert_eq!(came.count(), 1, "{recipient} got it twice");
        }
    }
}

#[test]
fn what_a_node_had_that_is_cut_off_goes_elsewhere_and_it_works_again_when_it_is_back() {
    if let Some(past) = past(Cut::Both, 31) {
        past.judge();
    }
}

#[test]
fn a_node_that_nobody_hears_stops_by_itself_and_its_late_word_counts() {
    if let Some(past) = past(Cut::Mute, 32) {
        past.judge();
    }
}

#[test]
fn a_node_that_hears_nobody_stops_by_itself_and_its_late_word_counts() {
    if let Some(past) = past(Cut::Deaf, 33) {
        past.judge();
    }
}

#[test]
fn a_large_message_comes_through_though_the_connection_for_large_ones_has_broken() {
    let peer = moody_peer();
    let cluster = cluster(1, "", &peer);
    let Some(host) = host(&cluster.workers[0]) else { return };
    let port = cluster.link().port();
    let mut session = Session::open(cluster.workers[0].smtp());
    let mut send = |name: &str| {
        session.envelope("a@example.org", &["yes@example.com"]);
        assert_eq!(session.data(&text::message(name, 300_000)).code, 250, "{name}");
    };
    let link = host.connections(port);
    send("first");
    let for_large: Vec<u16> = host.connections(port).difference(&link).copied().collect();
    assert_eq!(for_large.len(), 1, "{link:?}, {for_large:?}");
    host.reset(for_large[0]);
    send("second");
    let _ = peer.wait_for(2);
    assert!(host.connections(port).is_superset(&link), "the link went on");
    assert_eq!(cluster.manager.quiet().len(), 4);
}

#[test]
fn what_was_stored_though_its_client_was_told_to_come_again_ends_withdrawn_and_what_comes_again_goes_once() {
    let peer = Peer::willing();
    let cluster = cluster(0, "", &peer);
    let worker = cluster.worker(NODE).file("cluster.hold = '2s'").start();
    let Some(host) = host(&worker) else { return };
    cluster.introduce(&worker, NODE);
    testkit::cluster::linked(&worker);
    let pause = ["mail", "pause", "--domain", "example.com", "--why", "a test"];
    let _ = cluster.manager.command(&pause).done();
    let mut session = Session::open(worker.smtp());
    session.envelope("a@example.org", &["b@example.com"]);
    assert_eq!(session.say("DATA").code, 354);
    // The message reaches the manager, and its answer nobody.
    host.cut(Cut::Deaf);
    let text = b"Subject: x\r\n\r\nx\r\n";
    session.write(&[text, &b".\r\n"[..]].concat()).expect("it is read");
    cluster.manager.counts("queued", 1);
    assert_eq!(session.reply().expect("an answer").code, 451);
    host.heal();
    let log = cluster.manager.quiet();
    let ends = log.iter().map(|record| (word(record, "what"), record["reason"].as_str().unwrap_or_default()));
    let ends: Vec<_> = ends.collect();
    assert_eq!(ends, [("accepted", ""), ("cancelled", "withdrawn")]);
    // Its client comes again.
    let _ = cluster.manager.command(&["mail", "resume", "1"]).done();
    until("ready again", || worker.get("/readyz").contains("200 OK").then_some(()));
    session.envelope("a@example.org", &["b@example.com"]);
    assert_eq!(session.data(text).code, 250);
    let _ = cluster.manager.quiet();
    assert_eq!(peer.count(), 1);
}
