//! A node without descriptors: it turns clients away with a word, and blames no host for it.

use std::{collections::BTreeSet, fs};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use testkit::{
    Node, Peer, Session,
    node::{number, word},
    until,
};

use super::setup;

/// The descriptors that the node has.
fn used(node: &Node) -> BTreeSet<u64> {
    let names = fs::read_dir(format!("/proc/{}/fd", node.id())).expect("the node runs");
    let number = |name: std::ffi::OsString| name.to_string_lossy().parse().expect("it is a number");
    names.map(|entry| number(entry.expect("it runs").file_name())).collect()
}

/// The lowest descriptor that the node does not use, once it has opened and closed what it does for a while.
fn lowest_free(node: &Node) -> u64 {
    let mut before = used(node);
    let mut quiet = 0;
    until("the node to leave its descriptors alone", || {
        let now = used(node);
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
        (quiet == 10).then_some(())
    });
    (0..).find(|number| !before.contains(number)).expect("there are many numbers")
}

/// From now on the node opens no descriptor from this number on; returns what was the first before.
fn allow(node: &Node, most: Option<u64>) -> Option<u64> {
    let process = Pid::from_raw(node.id().cast_signed());
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let limit = Rlimit { current: most, maximum: limit.maximum };
    prlimit(process, Resource::Nofile, limit).expect("it is our process").current
}

#[test]
fn without_descriptors_clients_are_turned_away_with_a_word_and_no_attempt_is_counted() {
    let peer = Peer::willing();
    let node = setup().to(&peer).start();
    let mut session = Session::open(node.smtp());
    let before = allow(&node, Some(lowest_free(&node)));
    session.envelope("a@example.com", &["b@example.net"]);
    let taken = session.data(b"Subject: Hi\r\n\r\nhello\r\n").to_string();
    let (_, id) = taken.split_once("queued as ").expect("it was taken");
    node.said("no connection can be opened");
    let refused = Session::greeted(node.smtp()).expect_err("there is no descriptor for it");
    assert!(refused.to_string().contains("421"), "{refused}");
    allow(&node, before);
    // It waits for some seconds, between one attempt and the next.
    let why = || node.json(&["mail", "why", id])[0]["reason"].clone();
    until("the reason that it waits", || (why() == "exhausted").then_some(()));
    assert_eq!(peer.wait_for(1).len(), 1);
    let records = node.records_of("b@example.net", 2);
    let of = |what: &str| records.iter().find(|record| word(record, "what") == what);
    assert_eq!(number(of("delivered").expect("it was delivered"), "attempt"), 1);
    assert!(of("deferred").is_none(), "{records:?}");
    drop(Session::open(node.smtp()));
}
